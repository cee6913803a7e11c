//! Rows to the bytes of COPY TO.

use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::error::Result;
use crate::formats::copy::Format;
use crate::formats::copy::Header;
use crate::formats::copy::Options;
use crate::formats::copy::binary;
use crate::formats::copy::csv;
use crate::formats::copy::is_set;
use crate::formats::copy::text;
use crate::types::Column;
use crate::types::binary::BinaryColumn;
use crate::types::text::TextColumn;
use crate::types::zone::Zone;

/// Writes rows in one of the formats, each as one piece.
pub struct Writer {
    columns: Arc<[Column]>,
    options: Options,
    zone: Zone,
    /// The piece in the works; at first the beginning of binary data, which goes with the first row.
    piece: Vec<u8>,
    /// One value, while it is written.
    value: String,
}

impl Writer {
    /// A writer of rows of these columns.
    pub fn new(columns: Arc<[Column]>, options: Options, zone: Zone) -> Writer {
        let mut piece = Vec::new();
        if options.format == Format::Binary {
            piece.extend_from_slice(binary::SIGNATURE);
            piece.extend([0; 8]);
        }
        Writer { columns, options, zone, piece, value: String::new() }
    }

    /// Whether its bytes are no text.
    pub fn is_binary(&self) -> bool {
        self.options.format == Format::Binary
    }

    /// Its columns.
    pub fn columns(&self) -> &Arc<[Column]> {
        &self.columns
    }

    /// What comes before the rows: the names of the columns.
    pub fn begin(&mut self, mut emit: impl FnMut(&[u8])) {
        if self.options.header == Header::No {
            return;
        }
        let columns = self.columns.clone();
        for (index, column) in columns.iter().enumerate() {
            self.separate(index);
            self.value.clone_from(&column.name);
            self.put(false);
        }
        self.finish(&mut emit);
    }

    /// Writes the rows of a batch, whose columns are of the Arrow types of their SQL types.
    pub fn write(&mut self, batch: &RecordBatch, mut emit: impl FnMut(&[u8])) -> Result<()> {
        let columns = self.columns.clone();
        let arrays = batch.columns().iter().zip(columns.iter());
        if self.is_binary() {
            let writers = arrays.map(|(array, column)| BinaryColumn::new(array.as_ref(), &column.ty));
            let writers = writers.collect::<Result<Vec<_>>>()?;
            (0..batch.num_rows()).for_each(|row| self.binary_row(&writers, row, &mut emit));
            return Ok(());
        }
        let writers = arrays.map(|(array, column)| TextColumn::new(array.as_ref(), &column.ty, self.zone));
        let writers = writers.collect::<Result<Vec<_>>>()?;
        for row in 0..batch.num_rows() {
            for (index, writer) in writers.iter().enumerate() {
                self.separate(index);
                if writer.is_null(row) {
                    self.piece.extend_from_slice(self.options.null.as_bytes());
                    continue;
                }
                self.value.clear();
                writer.write(row, &mut self.value);
                self.put(is_set(&self.options.force_quote, index));
            }
            self.finish(&mut emit);
        }
        Ok(())
    }

    /// What comes after the rows.
    pub fn end(&mut self, mut emit: impl FnMut(&[u8])) {
        if self.is_binary() {
            self.piece.extend(binary::TRAILER);
            emit(&self.piece);
            self.piece.clear();
        }
    }

    fn binary_row(&mut self, writers: &[BinaryColumn], row: usize, emit: &mut impl FnMut(&[u8])) {
        self.piece.extend((writers.len() as i16).to_be_bytes());
        for writer in writers {
            if writer.is_null(row) {
                self.piece.extend((-1i32).to_be_bytes());
                continue;
            }
            let at = self.piece.len();
            self.piece.extend([0; 4]);
            writer.write(row, &mut self.piece);
            let length = (self.piece.len() - at - 4) as i32;
            self.piece[at..at + 4].copy_from_slice(&length.to_be_bytes());
        }
        emit(&self.piece);
        self.piece.clear();
    }

    fn separate(&mut self, index: usize) {
        if index > 0 {
            self.piece.push(self.options.delimiter);
        }
    }

    /// Appends the value.
    fn put(&mut self, forced: bool) {
        match self.options.format {
            Format::Csv => csv::write(&self.value, forced, self.columns.len() == 1, &self.options, &mut self.piece),
            Format::Text | Format::Binary => text::write(&self.value, &self.options, &mut self.piece),
        }
    }

    fn finish(&mut self, emit: &mut impl FnMut(&[u8])) {
        self.piece.push(b'\n');
        emit(&self.piece);
        self.piece.clear();
    }
}
