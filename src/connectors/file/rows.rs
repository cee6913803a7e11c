//! The records of one file to rows.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::array::Int64Array;
use arrow::array::RecordBatch;
use arrow::array::RecordBatchOptions;
use arrow::array::StringArray;
use arrow::datatypes::SchemaRef;

use crate::connectors::MessageError;
use crate::connectors::Part;
use crate::connectors::SourceSpec;
use crate::error::Error;
use crate::error::Result;
use crate::formats::Decoder;
use crate::formats::Fault;
use crate::types::schema_of;

/// So much of a record that is an error is kept with it.
const PAYLOAD_MAX: usize = 64 << 10;

/// Rows of one file, growing.
pub(super) struct RowsBuilder {
    schema: SchemaRef,
    decoder: Decoder,
    /// The names of the decoder's columns.
    payload_columns: Vec<String>,
    /// Where each column of the source comes from.
    columns: Vec<Origin>,
    /// The file's name.
    name: String,
    /// The offset of each row.
    offsets: Vec<i64>,
    /// How many bytes of payload they came from.
    bytes: usize,
    errors: Vec<MessageError>,
    /// Those of the record at hand.
    faults: Vec<Fault>,
}

/// Where a column's values come from.
#[derive(Clone, Copy)]
enum Origin {
    /// The next column of the decoder.
    Payload,
    Offset,
    File,
}

impl RowsBuilder {
    /// For the columns of this source; 0A000 when one is of a type that the format does not read.
    pub(super) fn new(spec: &SourceSpec, name: &str) -> Result<RowsBuilder> {
        let mut fields = Vec::new();
        let mut payload_columns = Vec::new();
        let mut columns = Vec::new();
        for (column, part) in &spec.columns {
            columns.push(match part {
                Part::Field(field) => {
                    fields.push((field.clone(), column.ty.clone()));
                    payload_columns.push(column.name.clone());
                    Origin::Payload
                }
                Part::File => Origin::File,
                Part::Offset | Part::Key | Part::Partition | Part::Timestamp | Part::Headers => Origin::Offset,
            });
        }
        let format = spec.format.as_ref().ok_or_else(|| Error::internal("a source of files has no format"))?;
        let decoder = Decoder::new(&format.encode, &fields, &spec.fields)?;
        let schema = schema_of(&spec.columns.iter().map(|(column, _)| column.clone()).collect::<Vec<_>>());
        Ok(RowsBuilder {
            schema,
            decoder,
            payload_columns,
            columns,
            name: name.to_string(),
            offsets: Vec::new(),
            bytes: 0,
            errors: Vec::new(),
            faults: Vec::new(),
        })
    }

    /// How many records are in it, good and bad.
    pub(super) fn records(&self) -> usize {
        self.offsets.len() + self.errors.len()
    }

    /// How many bytes they have.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes the record of names that the file begins with.
    pub(super) fn header(&mut self, record: &[u8]) -> Result<()> {
        self.decoder.header(record).map_err(|error| {
            Error::invalid_parameter(format!("the first line of \"{}\" is no header: {error}", self.name))
        })
    }

    /// Takes a record in: one row, or one error. An empty line is nothing.
    pub(super) fn push(&mut self, record: &[u8], offset: i64) {
        if record.is_empty() || record == b"\r" {
            return;
        }
        self.bytes += record.len();
        let payload = || Some(record[..record.len().min(PAYLOAD_MAX)].to_vec());
        match self.decoder.decode(record, &mut self.faults) {
            Ok(()) => self.offsets.push(offset),
            Err(reason) => self.errors.push(MessageError { offset, payload: payload(), reason, column: None }),
        }
        for Fault { column, reason } in self.faults.drain(..) {
            let column = Some(self.payload_columns[column].clone());
            self.errors.push(MessageError { offset, payload: payload(), reason, column });
        }
    }

    /// A record that cannot even be taken in.
    pub(super) fn push_error(&mut self, offset: i64, reason: String) {
        self.errors.push(MessageError { offset, payload: None, reason, column: None });
    }

    /// All rows, with their offsets, and errors since the last call.
    pub(super) fn finish(&mut self) -> (RecordBatch, Vec<i64>, Vec<MessageError>) {
        let offsets = std::mem::take(&mut self.offsets);
        let rows = offsets.len();
        self.bytes = 0;
        let mut payload = self.decoder.finish().into_iter();
        let columns = self.columns.iter().map(|column| -> ArrayRef {
            match column {
                Origin::Payload => payload.next().expect("the decoder has a column for each field"),
                Origin::Offset => Arc::new(Int64Array::from(offsets.clone())),
                Origin::File => Arc::new(StringArray::from_iter_values(std::iter::repeat_n(&self.name, rows))),
            }
        });
        let columns = columns.collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .expect("every row has a value for each column");
        (batch, offsets, std::mem::take(&mut self.errors))
    }
}
