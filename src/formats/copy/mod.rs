//! The formats of COPY: text, CSV and binary, both ways, with Postgres' options and its errors.
//!
//! [`Writer`] makes the bytes of rows, one piece for each row, which is what drivers expect of a CopyData message.
//! [`Reader`] takes bytes in pieces of any size and gives batches of rows as they fill; an error says its line, as
//! Postgres does (`COPY t, line 3, column id: "x"`).

mod binary;
mod csv;
mod read;
mod records;
mod text;
mod write;
#[cfg(test)]
mod tests;

pub use read::Batch;
pub use read::Reader;
pub use write::Writer;

/// The three formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    Csv,
    Binary,
}

/// Whether the first line names the columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    No,
    Yes,
    /// Read, it must name them in their order.
    Match,
}

/// How rows are written or read. The flags of `force_...` are one for each column; none is for all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub format: Format,
    /// Between two values.
    pub delimiter: u8,
    /// What stands for NULL.
    pub null: String,
    pub header: Header,
    /// Around a value of CSV.
    pub quote: u8,
    /// Before a quote inside a value of CSV.
    pub escape: u8,
    /// Quotes whatever the value is.
    pub force_quote: Vec<bool>,
    /// What stands for NULL is read as text.
    pub force_not_null: Vec<bool>,
    /// What stands for NULL is NULL also between quotes.
    pub force_null: Vec<bool>,
}

impl Options {
    /// The defaults of a format.
    pub fn new(format: Format) -> Options {
        let (delimiter, null) = match format {
            Format::Text | Format::Binary => (b'\t', "\\N"),
            Format::Csv => (b',', ""),
        };
        Options {
            format,
            delimiter,
            null: null.to_string(),
            header: Header::No,
            quote: b'"',
            escape: b'"',
            force_quote: Vec::new(),
            force_not_null: Vec::new(),
            force_null: Vec::new(),
        }
    }
}

/// Whether a flag is set for this column.
fn is_set(flags: &[bool], column: usize) -> bool {
    flags.get(column).copied().unwrap_or(false)
}

/// What ends the rows in the old protocol, a line of its own; still obeyed.
const END: &[u8] = b"\\.";
