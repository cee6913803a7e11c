//! The messages of one partition to rows: the payload through the decoder, the other parts as they are asked for.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::array::BinaryBuilder;
use arrow::array::Int32Array;
use arrow::array::Int64Array;
use arrow::array::RecordBatch;
use arrow::array::RecordBatchOptions;
use arrow::array::StringBuilder;
use arrow::array::TimestampMicrosecondBuilder;
use arrow::datatypes::SchemaRef;
use rdkafka::message::BorrowedMessage;
use rdkafka::message::Message;

use super::headers;
use crate::connectors::MessageError;
use crate::connectors::Part;
use crate::connectors::SourceSpec;
use crate::error::Result;
use crate::formats::Decoder;
use crate::formats::Encode;
use crate::types::SqlType;
use crate::types::schema_of;

/// Rows of one partition, growing.
pub(super) struct RowsBuilder {
    schema: SchemaRef,
    decoder: Decoder,
    /// The names of the decoder's columns.
    payload_columns: Vec<String>,
    /// Where each column of the source comes from.
    columns: Vec<Origin>,
    /// The offset of each row.
    offsets: Vec<i64>,
    /// How many bytes of payload they came from.
    bytes: usize,
    errors: Vec<MessageError>,
}

/// Why a message makes no row, and which column is to blame.
struct Fault {
    reason: String,
    column: Option<String>,
}

/// Where a column's values come from.
enum Origin {
    /// The next column of the decoder.
    Payload,
    Key(BinaryBuilder),
    TextKey {
        name: String,
        keys: StringBuilder,
    },
    Partition,
    Offset,
    Timestamp(TimestampMicrosecondBuilder),
    Headers(StringBuilder),
}

impl RowsBuilder {
    /// For the columns of this source; 0A000 when one is of a type that the format does not read.
    pub(super) fn new(spec: &SourceSpec) -> Result<RowsBuilder> {
        let mut fields = Vec::new();
        let mut payload_columns = Vec::new();
        for (column, part) in &spec.columns {
            if let Part::Field(field) = part {
                fields.push((field.clone(), column.ty.clone()));
                payload_columns.push(column.name.clone());
            }
        }
        let decoder = Decoder::new(spec.encode.as_ref().unwrap_or(&Encode::Json), &fields, &spec.fields)?;
        let columns = spec.columns.iter().map(|(column, part)| match part {
            Part::Field(_) => Origin::Payload,
            Part::Key if column.ty == SqlType::Text => {
                Origin::TextKey { name: column.name.clone(), keys: StringBuilder::new() }
            }
            Part::Key => Origin::Key(BinaryBuilder::new()),
            Part::Partition => Origin::Partition,
            Part::Offset => Origin::Offset,
            Part::Timestamp => {
                Origin::Timestamp(TimestampMicrosecondBuilder::new().with_data_type(SqlType::Timestamptz.arrow()))
            }
            Part::Headers | Part::File => Origin::Headers(StringBuilder::new()),
        });
        let columns = columns.collect();
        let schema = schema_of(&spec.columns.iter().map(|(column, _)| column.clone()).collect::<Vec<_>>());
        Ok(RowsBuilder { schema, decoder, payload_columns, columns, offsets: Vec::new(), bytes: 0, errors: Vec::new() })
    }

    /// How many messages are in it, good and bad.
    pub(super) fn messages(&self) -> usize {
        self.offsets.len() + self.errors.len()
    }

    /// How many bytes of payload are in it.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a message in: one row, or one error.
    pub(super) fn push(&mut self, message: &BorrowedMessage<'_>) {
        self.bytes += message.payload_len();
        if let Err(error) = self.decode(message) {
            self.errors.push(MessageError {
                offset: message.offset(),
                payload: message.payload().map(<[u8]>::to_vec),
                reason: error.reason,
                column: error.column,
            });
            return;
        }
        self.offsets.push(message.offset());
        for column in &mut self.columns {
            match column {
                Origin::Payload | Origin::Partition | Origin::Offset => {}
                Origin::Key(keys) => keys.append_option(message.key()),
                Origin::TextKey { keys, .. } => keys.append_option(
                    message.key().map(|key| std::str::from_utf8(key).expect("decode looked at the key")),
                ),
                Origin::Timestamp(times) => times.append_option(message.timestamp().to_millis().map(|ms| ms * 1000)),
                Origin::Headers(texts) => texts.append_option(headers::text(message)),
            }
        }
    }

    /// All rows, with their offsets, and errors since the last call.
    pub(super) fn finish(&mut self, partition: i32) -> (RecordBatch, Vec<i64>, Vec<MessageError>) {
        let offsets = std::mem::take(&mut self.offsets);
        let rows = offsets.len();
        self.bytes = 0;
        let mut payload = self.decoder.finish().into_iter();
        let columns = self.columns.iter_mut().map(|column| -> ArrayRef {
            match column {
                Origin::Payload => payload.next().expect("the decoder has a column for each field"),
                Origin::Key(keys) => Arc::new(keys.finish()),
                Origin::TextKey { keys, .. } => Arc::new(keys.finish()),
                Origin::Partition => Arc::new(Int32Array::from_value(partition, rows)),
                Origin::Offset => Arc::new(Int64Array::from(offsets.clone())),
                Origin::Timestamp(times) => Arc::new(times.finish()),
                Origin::Headers(texts) => Arc::new(texts.finish()),
            }
        });
        let columns = columns.collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)
            .expect("every row has a value for each column");
        (batch, offsets, std::mem::take(&mut self.errors))
    }

    fn decode(&mut self, message: &BorrowedMessage<'_>) -> Result<(), Fault> {
        for column in &self.columns {
            if let Origin::TextKey { name, .. } = column
                && message.key().is_some_and(|key| std::str::from_utf8(key).is_err() || key.contains(&0))
            {
                return Err(Fault { reason: "the key is no text".into(), column: Some(name.clone()) });
            }
        }
        let Some(payload) = message.payload() else {
            let reason = "the message has no payload, which means nothing under FORMAT PLAIN".into();
            return Err(Fault { reason, column: None });
        };
        self.decoder.decode(payload).map_err(|error| Fault {
            reason: error.reason,
            column: error.column.map(|index| self.payload_columns[index].clone()),
        })
    }
}
