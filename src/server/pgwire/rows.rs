//! Rows on their way to a client: encoded column by column, sent as they come, held back by a client that is slow.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arrow::array::ArrayRef;
use arrow::array::RecordBatch;
use arrow::array::RecordBatchOptions;
use bytes::BufMut;
use bytes::BytesMut;
use futures::StreamExt;

use crate::error::Error;
use crate::error::Result;
use crate::formats::copy::Writer;
use crate::server::pgwire::copy::put_data;
use crate::server::pgwire::reply::Format;
use crate::server::pgwire::wire::Wire;
use crate::session::Cause;
use crate::session::Interrupt;
use crate::session::RowStream;
use crate::types::Column;
use crate::types::SqlType;
use crate::types::binary::BinaryColumn;
use crate::types::schema_of;
use crate::types::text::TextColumn;
use crate::types::zone::Zone;

/// Rows that were encoded wait this long for more before they are sent: a change that is subscribed to shall be there at once.
const IDLE_FLUSH: Duration = Duration::from_millis(1);
/// How often a waiting statement asks whether its client is still there.
pub(super) const PROBE: Duration = Duration::from_secs(1);
/// Rows encoded between two looks at the interrupt and the other tasks.
const ROWS_AT_ONCE: usize = 256;

/// The rows of one statement, sent in one go or, through a portal, in several.
pub(super) struct Sender {
    columns: Arc<[Column]>,
    encoding: Encoding,
    rows: RowStream,
    /// A batch that was sent in part, and the row to go on with.
    rest: Option<(RecordBatch, usize)>,
    /// One value, while it is encoded.
    text: String,
    /// The same in binary.
    bytes: Vec<u8>,
}

/// What a row becomes.
enum Encoding {
    /// A DataRow, with a format for each column.
    Row { formats: Vec<Format>, zone: Zone },
    /// A CopyData.
    Copy(Box<Writer>),
}

/// How sending ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// All rows are out; so many now.
    All(u64),
    /// The limit was reached.
    Limit,
}

impl Sender {
    /// A sender of these rows; `formats` has one for each column.
    pub(super) fn new(columns: Arc<[Column]>, formats: Vec<Format>, zone: Zone, rows: RowStream) -> Sender {
        Sender::encoded(columns, Encoding::Row { formats, zone }, rows)
    }

    /// A sender of these rows as the data of a COPY.
    pub(super) fn for_copy(writer: Writer, rows: RowStream) -> Sender {
        Sender::encoded(writer.columns().clone(), Encoding::Copy(Box::new(writer)), rows)
    }

    fn encoded(columns: Arc<[Column]>, encoding: Encoding, rows: RowStream) -> Sender {
        Sender { columns, encoding, rows, rest: None, text: String::new(), bytes: Vec::new() }
    }

    /// What comes after the rows of a COPY.
    pub(super) fn end(&mut self, wire: &mut Wire) {
        if let Encoding::Copy(writer) = &mut self.encoding {
            writer.end(|bytes| put_data(&mut wire.output, bytes));
        }
    }

    /// Sends rows until they end, or as many as `limit` says (0: all). Ends early by the interrupt.
    pub(super) async fn send(&mut self, wire: &mut Wire, interrupt: &Interrupt, limit: u64) -> Result<Sent> {
        let mut sent = 0;
        loop {
            while let Some((batch, from)) = self.rest.take() {
                let left = if limit == 0 { u64::MAX } else { limit - sent };
                let count = (batch.num_rows() - from).min(ROWS_AT_ONCE).min(left.try_into().unwrap_or(usize::MAX));
                self.encode(&batch.slice(from, count), &mut wire.output)?;
                sent += count as u64;
                if from + count < batch.num_rows() {
                    self.rest = Some((batch, from + count));
                }
                if wire.is_full() {
                    interrupt.guard(wire.flush()).await?;
                }
                if sent == limit && limit != 0 {
                    return Ok(Sent::Limit);
                }
            }
            match self.next_batch(wire, interrupt).await? {
                Some(batch) => self.rest = Some((batch, 0)),
                None => return Ok(Sent::All(sent)),
            }
        }
    }

    /// Waits for rows; meanwhile sends what was encoded, and asks whether anybody still waits for it.
    async fn next_batch(&mut self, wire: &mut Wire, interrupt: &Interrupt) -> Result<Option<RecordBatch>> {
        if let Some(error) = interrupt.error() {
            return Err(error);
        }
        if let Poll::Ready(batch) = futures::poll!(self.rows.next()) {
            return batch.transpose();
        }
        loop {
            let pause = if wire.output.is_empty() { PROBE } else { IDLE_FLUSH };
            tokio::select! {
                biased;
                error = interrupt.raised() => return Err(error),
                batch = self.rows.next() => return batch.transpose(),
                () = tokio::time::sleep(pause) => {}
            }
            interrupt.guard(wire.flush()).await?;
            if wire.is_gone() {
                interrupt.raise(Cause::ClientGone);
            }
        }
    }

    /// Appends one message for each row of the batch.
    fn encode(&mut self, batch: &RecordBatch, output: &mut BytesMut) -> Result<()> {
        let arrays = self.arrays(batch)?;
        let (formats, zone) = match &mut self.encoding {
            Encoding::Row { formats, zone } => (formats, *zone),
            Encoding::Copy(writer) => {
                let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
                let batch = RecordBatch::try_new_with_options(schema_of(&self.columns), arrays, &options)
                    .map_err(|error| Error::internal(error.to_string()))?;
                return writer.write(&batch, |bytes| put_data(output, bytes));
            }
        };
        let columns = arrays
            .iter()
            .zip(self.columns.iter().zip(formats.iter()))
            .map(|(array, (column, format))| Encoder::new(array, &column.ty, *format, zone))
            .collect::<Result<Vec<_>>>()?;
        let before = output.len();
        for row in 0..batch.num_rows() {
            let start = output.len();
            output.put_u8(b'D');
            output.put_u32(0);
            output.put_u16(columns.len() as u16);
            for column in &columns {
                let value = match column {
                    Encoder::Text(column) if !column.is_null(row) => {
                        self.text.clear();
                        column.write(row, &mut self.text);
                        self.text.as_bytes()
                    }
                    Encoder::Binary(column) if !column.is_null(row) => {
                        self.bytes.clear();
                        column.write(row, &mut self.bytes);
                        self.bytes.as_slice()
                    }
                    Encoder::Text(_) | Encoder::Binary(_) => {
                        output.put_i32(-1);
                        continue;
                    }
                };
                output.put_u32(value.len() as u32);
                output.put_slice(value);
            }
            let Ok(length) = i32::try_from(output.len() - start - 1) else {
                output.truncate(before);
                return Err(Error::new(crate::error::Kind::TooComplex, "a row is too large to be sent"));
            };
            output[start + 1..start + 5].copy_from_slice(&length.to_be_bytes());
        }
        Ok(())
    }

    /// The columns of a batch, each of the one Arrow type of its SQL type.
    fn arrays(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        if batch.num_columns() != self.columns.len() {
            let message = format!("{} columns were described, {} came", self.columns.len(), batch.num_columns());
            return Err(Error::internal(message));
        }
        let columns = batch.columns().iter().zip(self.columns.iter());
        columns
            .map(|(array, column)| {
                let wanted = column.ty.arrow();
                if *array.data_type() == wanted {
                    return Ok(array.clone());
                }
                arrow::compute::cast(array, &wanted).map_err(|e| Error::internal(format!("{}: {e}", column.name)))
            })
            .collect()
    }
}

/// The writer of one column in the format that the client wants.
enum Encoder<'a> {
    Text(TextColumn<'a>),
    Binary(BinaryColumn<'a>),
}

impl<'a> Encoder<'a> {
    fn new(array: &'a ArrayRef, ty: &'a SqlType, format: Format, zone: Zone) -> Result<Encoder<'a>> {
        Ok(match format {
            Format::Text => Encoder::Text(TextColumn::new(array.as_ref(), ty, zone)?),
            Format::Binary => Encoder::Binary(BinaryColumn::new(array.as_ref(), ty)?),
        })
    }
}
