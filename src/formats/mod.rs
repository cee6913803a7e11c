//! Bytes to rows and back. A format never knows where the bytes come from.

use std::fmt;

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

/// `FORMAT ... ENCODE ...`. Stored in the catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Format {
    /// What a message does to the rows.
    pub envelope: Envelope,
    /// How fields lie in its payload.
    pub encode: Encode,
}

/// `FORMAT ...`: what a message does to the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Envelope {
    /// It is a row.
    Plain,
    /// It is the row of its key; one without a payload takes that row away.
    Upsert,
}

/// `ENCODE ...`: how the fields lie in a payload.
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

/// Why a message became no row: it is broken as a whole.
pub type Broken = String;

/// A value that does not fit its column. Its row has NULL there; who does not read the column does not care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The column, counted from 0.
    pub column: usize,
    /// What is wrong.
    pub reason: String,
}

/// Decodes payloads into the columns that are wanted of them.
pub enum Decoder {
    Json(Box<JsonDecoder>),
    Csv(CsvDecoder),
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.envelope {
            Envelope::Plain => "PLAIN",
            Envelope::Upsert => "UPSERT",
        })?;
        f.write_str(match self.encode {
            Encode::Json => " JSON",
            Encode::Csv { .. } => " CSV",
        })
    }
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
    pub fn header(&mut self, record: &[u8]) -> Result<(), Broken> {
        match self {
            Decoder::Json(_) => Ok(()),
            Decoder::Csv(csv) => csv.header(record),
        }
    }

    /// Decodes one payload; its row is among those of the next [`finish`](Self::finish), unless it is broken. Values that do
    /// not fit are added to `faults`.
    pub fn decode(&mut self, payload: &[u8], faults: &mut Vec<Fault>) -> Result<(), Broken> {
        match self {
            Decoder::Json(json) => json.decode(payload, faults),
            Decoder::Csv(csv) => csv.decode(payload, faults),
        }
    }

    /// A row of NULLs.
    pub fn append_nulls(&mut self) {
        match self {
            Decoder::Json(json) => json.append_nulls(),
            Decoder::Csv(csv) => csv.append_nulls(),
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
