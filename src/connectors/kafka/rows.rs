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
use crate::formats::Broken;
use crate::formats::Decoder;
use crate::formats::Encode;
use crate::formats::Envelope;
use crate::formats::Fault;
use crate::types::SqlType;
use crate::types::parse::TextBuilder;
use crate::types::schema_of;
use crate::types::zone::Zone;

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
    /// Whether a message without a payload takes a row away.
    upsert: bool,
    /// Which rows are taken away, under FORMAT UPSERT.
    deleted: Vec<bool>,
    /// The values of the message at hand that do not fit.
    faults: Vec<Fault>,
}

/// Where a column's values come from.
enum Origin {
    /// The next column of the decoder.
    Payload,
    Key(BinaryBuilder),
    /// A key that is not bytea.
    TypedKey {
        name: String,
        keys: TextBuilder,
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
        let decoder = Decoder::new(spec.format.as_ref().map_or(&Encode::Json, |f| &f.encode), &fields, &spec.fields)?;
        let upsert = spec.format.as_ref().is_some_and(|format| format.envelope == Envelope::Upsert);
        let columns = spec.columns.iter().map(|(column, part)| match part {
            Part::Field(_) => Origin::Payload,
            Part::Key if column.ty == SqlType::Bytea => Origin::Key(BinaryBuilder::new()),
            Part::Key => Origin::TypedKey { name: column.name.clone(), keys: TextBuilder::new(&column.ty, Zone::UTC) },
            Part::Partition => Origin::Partition,
            Part::Offset => Origin::Offset,
            Part::Timestamp => {
                Origin::Timestamp(TimestampMicrosecondBuilder::new().with_data_type(SqlType::Timestamptz.arrow()))
            }
            Part::Headers | Part::File => Origin::Headers(StringBuilder::new()),
        });
        let columns = columns.collect();
        let schema = schema_of(&spec.columns.iter().map(|(column, _)| column.clone()).collect::<Vec<_>>());
        Ok(RowsBuilder {
            schema,
            decoder,
            payload_columns,
            columns,
            offsets: Vec::new(),
            bytes: 0,
            errors: Vec::new(),
            upsert,
            deleted: Vec::new(),
            faults: Vec::new(),
        })
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
        let error = |reason, column| MessageError {
            offset: message.offset(),
            payload: message.payload().map(<[u8]>::to_vec),
            reason,
            column,
        };
        if let Err(reason) = self.decode(message) {
            self.errors.push(error(reason, None));
            return;
        }
        for Fault { column, reason } in self.faults.drain(..) {
            self.errors.push(error(reason, Some(self.payload_columns[column].clone())));
        }
        self.offsets.push(message.offset());
        for column in &mut self.columns {
            match column {
                Origin::Payload | Origin::Partition | Origin::Offset => {}
                Origin::Key(keys) => keys.append_option(message.key()),
                Origin::TypedKey { name, keys } => {
                    if let Err(reason) = append_key(keys, message.key()) {
                        keys.append_null();
                        self.errors.push(error(reason, Some(name.clone())));
                    }
                }
                Origin::Timestamp(times) => times.append_option(message.timestamp().to_millis().map(|ms| ms * 1000)),
                Origin::Headers(texts) => texts.append_option(headers::text(message)),
            }
        }
    }

    /// All rows, which of them are deleted, their offsets, and errors since the last call.
    pub(super) fn finish(&mut self, partition: i32) -> (RecordBatch, Vec<bool>, Vec<i64>, Vec<MessageError>) {
        let offsets = std::mem::take(&mut self.offsets);
        let rows = offsets.len();
        self.bytes = 0;
        let mut payload = self.decoder.finish().into_iter();
        let columns = self.columns.iter_mut().map(|column| -> ArrayRef {
            match column {
                Origin::Payload => payload.next().expect("the decoder has a column for each field"),
                Origin::Key(keys) => Arc::new(keys.finish()),
                Origin::TypedKey { keys, .. } => keys.finish(),
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
        (batch, std::mem::take(&mut self.deleted), offsets, std::mem::take(&mut self.errors))
    }

    fn decode(&mut self, message: &BorrowedMessage<'_>) -> Result<(), Broken> {
        match message.payload() {
            None | Some([]) if self.upsert => self.decoder.append_nulls(),
            None => return Err("the message has no payload, which means nothing under FORMAT PLAIN".into()),
            Some(payload) => self.decoder.decode(payload, &mut self.faults)?,
        }
        if self.upsert {
            self.deleted.push(message.payload().is_none_or(<[u8]>::is_empty));
        }
        Ok(())
    }
}

/// Appends a key that is the text of a value; on an error nothing was appended.
fn append_key(keys: &mut TextBuilder, key: Option<&[u8]>) -> Result<(), Broken> {
    let Some(key) = key else {
        keys.append_null();
        return Ok(());
    };
    let text = std::str::from_utf8(key).ok().filter(|text| !text.contains('\0'));
    keys.append(text.ok_or("the key is no text")?).map_err(|error| error.message)
}
