//! The bytes of COPY FROM to rows.

use arrow::array::Array;
use arrow::array::ArrayRef;
use arrow::array::RecordBatch;
use arrow::array::RecordBatchOptions;

use crate::error::Error;
use crate::error::Result;
use crate::formats::copy::END;
use crate::formats::copy::Format;
use crate::formats::copy::Header;
use crate::formats::copy::Options;
use crate::formats::copy::binary::Tuple;
use crate::formats::copy::binary::Tuples;
use crate::formats::copy::csv;
use crate::formats::copy::records::Records;
use crate::formats::copy::text;
use crate::types::Column;
use crate::types::binary;
use crate::types::parse;
use crate::types::parse::TextBuilder;
use crate::types::schema_of;
use crate::types::text::not_utf8;
use crate::types::zone::Zone;

/// Rows of a batch.
const BATCH_ROWS: usize = 4096;
/// How much of a broken line an error shows, in bytes.
const SHOWN_BYTES: usize = 100;

/// Rows as they were read.
pub struct Batch {
    pub rows: RecordBatch,
    /// The line of each row.
    pub lines: Vec<u64>,
}

/// Reads rows in one of the formats.
pub struct Reader {
    /// The table, for messages.
    table: String,
    columns: Vec<Column>,
    options: Options,
    input: Input,
    /// The lines of the rows read and not given yet.
    lines: Vec<u64>,
    /// Whether the line with the names is still to come.
    header: bool,
    /// Whether the end was said: what comes after is ignored.
    ended: bool,
}

enum Input {
    Text { records: Records, fields: Fields, builders: Vec<TextBuilder> },
    Binary { tuples: Tuples, values: Vec<Vec<ArrayRef>>, row: u64 },
}

/// The values of one record.
#[derive(Default)]
pub(super) struct Fields {
    /// Their bytes, one after the other.
    pub(super) data: Vec<u8>,
    /// Where each begins and ends, and whether it is NULL.
    places: Vec<(usize, usize, bool)>,
}

impl Fields {
    /// A value begins here.
    pub(super) fn begin(&self) -> usize {
        self.data.len()
    }

    /// The value that began at `begin` is complete.
    pub(super) fn end(&mut self, begin: usize, null: bool) {
        self.places.push((begin, self.data.len(), null));
    }

    /// How many values there are.
    pub(super) fn count(&self) -> usize {
        self.places.len()
    }

    fn clear(&mut self) {
        self.data.clear();
        self.places.clear();
    }

    /// A value as text; `None` is NULL.
    fn text(&self, index: usize) -> Result<Option<&str>> {
        let (begin, end, null) = self.places[index];
        let bytes = &self.data[begin..end];
        match std::str::from_utf8(bytes) {
            _ if null => Ok(None),
            Ok(text) if text.contains('\0') => Err(not_utf8(&[0])),
            Ok(text) => Ok(Some(text)),
            Err(error) => Err(not_utf8(&bytes[error.valid_up_to()..])),
        }
    }
}

impl Reader {
    /// A reader of rows of these columns; `table` is for messages.
    pub fn new(table: String, columns: Vec<Column>, options: Options, zone: Zone) -> Reader {
        let input = match options.format {
            Format::Binary => {
                let values = columns.iter().map(|_| Vec::new()).collect();
                Input::Binary { tuples: Tuples::default(), values, row: 0 }
            }
            Format::Text | Format::Csv => Input::Text {
                records: Records::new(&options),
                fields: Fields::default(),
                builders: columns.iter().map(|column| TextBuilder::new(&column.ty, zone)).collect(),
            },
        };
        let header = options.header != Header::No;
        Reader { table, columns, options, input, lines: Vec::new(), header, ended: false }
    }

    /// Whether it reads no text.
    pub fn is_binary(&self) -> bool {
        self.options.format == Format::Binary
    }

    /// How many columns it reads.
    pub fn width(&self) -> usize {
        self.columns.len()
    }

    /// Takes bytes; gives the rows when there are enough for a batch.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Option<Batch>> {
        if self.ended {
            return Ok(None);
        }
        match &mut self.input {
            Input::Text { records, .. } => records.push(bytes)?,
            Input::Binary { tuples, .. } => tuples.push(bytes)?,
        }
        self.read(false)?;
        if self.lines.len() >= BATCH_ROWS { self.take().map(Some) } else { Ok(None) }
    }

    /// Nothing will come any more; gives the rows that are left.
    pub fn finish(&mut self) -> Result<Batch> {
        if !self.ended {
            self.read(true)?;
        }
        if let Input::Binary { tuples, row, .. } = &self.input
            && (!tuples.is_empty() || (!self.ended && *row == 0))
        {
            return Err(Error::bad_copy_format("unexpected EOF in COPY data"));
        }
        self.take()
    }

    /// Where the reading stands, for errors of the one who sends: `COPY t, line 3`.
    pub fn place(&self) -> String {
        let line = match &self.input {
            Input::Text { records, .. } => records.line + 1,
            Input::Binary { row, .. } => row + 1,
        };
        self.at(line)
    }

    /// `COPY t, line 3`.
    pub fn at(&self, line: u64) -> String {
        format!("COPY {}, line {line}", self.table)
    }

    fn read(&mut self, last: bool) -> Result<()> {
        match &self.input {
            Input::Text { .. } => self.read_text(last),
            Input::Binary { .. } => self.read_binary(),
        }
    }

    fn read_text(&mut self, last: bool) -> Result<()> {
        let Input::Text { records, fields, builders } = &mut self.input else { return Ok(()) };
        let table = &self.table;
        loop {
            let record = match records.next(last) {
                Ok(Some(record)) => record,
                Ok(None) => return Ok(()),
                Err(error) => return Err(error.context(format!("COPY {table}, line {}", records.line))),
            };
            let line = records.line;
            let record = records.bytes(record);
            if record == END {
                self.ended = true;
                return Ok(());
            }
            let here = || format!("COPY {table}, line {line}: \"{}\"", shown(record));
            fields.clear();
            match self.options.format {
                Format::Csv => csv::split(record, &self.options, fields).map_err(|error| error.context(here()))?,
                Format::Text | Format::Binary => text::split(record, &self.options, fields),
            }
            if std::mem::take(&mut self.header) {
                if self.options.header == Header::Match {
                    check_header(fields, &self.columns).map_err(|error| error.context(here()))?;
                }
                continue;
            }
            if let Some(column) = self.columns.get(fields.count()) {
                let message = format!("missing data for column \"{}\"", column.name);
                return Err(Error::bad_copy_format(message).context(here()));
            }
            if fields.count() > self.columns.len() {
                return Err(Error::bad_copy_format("extra data after last expected column").context(here()));
            }
            for (index, (builder, column)) in builders.iter_mut().zip(&self.columns).enumerate() {
                let place = |value: &str| {
                    let value = shown(value.as_bytes());
                    format!("COPY {table}, line {line}, column {}: \"{value}\"", column.name)
                };
                match fields.text(index).map_err(|error| error.context(here()))? {
                    Some(text) => builder.append(text).map_err(|error| error.context(place(text)))?,
                    None => builder.append_null(),
                }
            }
            self.lines.push(line);
        }
    }

    fn read_binary(&mut self) -> Result<()> {
        let Input::Binary { tuples, values, row } = &mut self.input else { return Ok(()) };
        loop {
            let line = *row + 1;
            let place = || format!("COPY {}, line {line}", self.table);
            match tuples.next(self.columns.len()).map_err(|error| error.context(place()))? {
                Tuple::Wanting => return Ok(()),
                Tuple::End => {
                    self.ended = true;
                    return Ok(());
                }
                Tuple::Values(tuple) => {
                    for ((value, column), into) in tuple.iter().zip(&self.columns).zip(values.iter_mut()) {
                        let at = |error: Error| error.context(format!("{}, column {}", place(), column.name));
                        into.push(match value {
                            Some(bytes) => binary::parse(bytes, &column.ty).map_err(at)?,
                            None => parse::null(&column.ty),
                        });
                    }
                }
            }
            *row = line;
            self.lines.push(line);
        }
    }

    /// The rows read so far.
    fn take(&mut self) -> Result<Batch> {
        let lines = std::mem::take(&mut self.lines);
        let arrays = match &mut self.input {
            Input::Text { builders, .. } => builders.iter_mut().map(TextBuilder::finish).collect(),
            Input::Binary { values, .. } => {
                let columns = values.iter_mut().zip(&self.columns);
                columns.map(|(values, column)| joined(&std::mem::take(values), column)).collect::<Result<Vec<_>>>()?
            }
        };
        let options = RecordBatchOptions::new().with_row_count(Some(lines.len()));
        let rows = RecordBatch::try_new_with_options(schema_of(&self.columns), arrays, &options)
            .map_err(|error| Error::internal(error.to_string()))?;
        Ok(Batch { rows, lines })
    }
}

fn joined(values: &[ArrayRef], column: &Column) -> Result<ArrayRef> {
    if values.is_empty() {
        return Ok(arrow::array::new_empty_array(&column.ty.arrow()));
    }
    let values: Vec<&dyn Array> = values.iter().map(AsRef::as_ref).collect();
    arrow::compute::concat(&values).map_err(|error| Error::internal(error.to_string()))
}

/// As much of a value or line as an error shows.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    match text.char_indices().find(|(at, c)| at + c.len_utf8() > SHOWN_BYTES) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.into_owned(),
    }
}

fn check_header(fields: &Fields, columns: &[Column]) -> Result<()> {
    if fields.count() != columns.len() {
        return Err(Error::bad_copy_format(format!(
            "wrong number of fields in header line: got {}, expected {}",
            fields.count(),
            columns.len()
        )));
    }
    for (index, column) in columns.iter().enumerate() {
        let got = fields.text(index)?;
        if got != Some(column.name.as_str()) {
            return Err(Error::bad_copy_format(format!(
                "column name mismatch in header line field {}: got \"{}\", expected \"{}\"",
                index + 1,
                got.unwrap_or("\\N"),
                column.name
            )));
        }
    }
    Ok(())
}
