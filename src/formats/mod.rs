//! Bytes to rows and back. A format never knows where the bytes come from.

use arrow::array::ArrayRef;
use memchr::memchr;
use serde::Deserialize;
use serde::Serialize;

use self::csv::CsvDecoder;
use self::json::JsonDecoder;
use crate::error::Result;
use crate::types::SqlType;

pub mod copy;
pub mod csv;
pub mod json;

/// `ENCODE ...`: how the fields lie in a payload. Stored in the catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Encode {
    /// One JSON object.
    Json,
    /// One record of RFC 4180.
    Csv {
        /// Whether a file begins with a record of names; else fields go by their place.
        header: bool,
        /// What stands between fields.
        delimiter: u8,
    },
}

/// Why a message became no row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// What is wrong.
    pub reason: String,
    /// The column, counted from 0, that its value does not fit; `None`: the whole message is broken.
    pub column: Option<usize>,
}

/// Decodes payloads into the columns that are wanted of them.
pub enum Decoder {
    Json(Box<JsonDecoder>),
    Csv(CsvDecoder),
}

impl Encode {
    /// Where the record that `bytes` begin with ends: at its newline. `None`: it does not end in them.
    pub fn record_end(&self, bytes: &[u8]) -> Option<usize> {
        match self {
            // No JSON text holds a newline inside of a string.
            Encode::Json => memchr(b'\n', bytes),
            Encode::Csv { .. } => csv::record_end(bytes),
        }
    }

    /// Whether a file begins with a record of names.
    pub fn has_header(&self) -> bool {
        match self {
            Encode::Json => false,
            Encode::Csv { header, .. } => *header,
        }
    }
}

impl Decoder {
    /// A decoder for columns of these types, each filled by the field of this name. `declared` are the names of all fields
    /// in their order, for payloads that do not name them.
    pub fn new(encode: &Encode, columns: &[(String, SqlType)], declared: &[String]) -> Result<Decoder> {
        Ok(match encode {
            Encode::Json => Decoder::Json(Box::new(JsonDecoder::new(columns.iter().cloned())?)),
            Encode::Csv { delimiter, .. } => Decoder::Csv(CsvDecoder::new(*delimiter, columns, declared)),
        })
    }

    /// Takes the record of names that a file begins with; fields go by it from here on.
    pub fn header(&mut self, record: &[u8]) -> Result<(), DecodeError> {
        match self {
            Decoder::Json(_) => Ok(()),
            Decoder::Csv(csv) => csv.header(record),
        }
    }

    /// Decodes one payload; its row is among those of the next [`finish`](Self::finish), unless there is an error.
    pub fn decode(&mut self, payload: &[u8]) -> Result<(), DecodeError> {
        match self {
            Decoder::Json(json) => json.decode(payload),
            Decoder::Csv(csv) => csv.decode(payload),
        }
    }

    /// The columns of all rows since the last call.
    pub fn finish(&mut self) -> Vec<ArrayRef> {
        match self {
            Decoder::Json(json) => json.finish(),
            Decoder::Csv(csv) => csv.finish(),
        }
    }
}
