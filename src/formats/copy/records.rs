//! Bytes to records: lines, where an escaped line end, or one between quotes of CSV, ends none.

use std::ops::Range;

use crate::error::Error;
use crate::error::Result;
use crate::formats::copy::Format;
use crate::formats::copy::Options;

/// Bytes that one record may take.
const RECORD_BYTES_MAX: usize = 256 << 20;

/// How lines end; the first one says it for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Eol {
    Lf,
    CrLf,
    Cr,
}

/// Bytes that came, cut into records.
pub(super) struct Records {
    format: Format,
    quote: u8,
    /// The escape character where it is not the quote itself.
    escape: Option<u8>,
    buffer: Vec<u8>,
    /// Where the record in the works begins.
    begin: usize,
    /// How far it was looked at.
    at: usize,
    eol: Option<Eol>,
    in_quotes: bool,
    after_escape: bool,
    /// The line of the record that was given last, or of the one in the works: the last line it reaches, from 1.
    pub(super) line: u64,
    /// Lines that ended inside the record in the works.
    inner: u64,
}

impl Records {
    /// Nothing has come yet.
    pub(super) fn new(options: &Options) -> Records {
        Records {
            format: options.format,
            quote: options.quote,
            escape: (options.escape != options.quote).then_some(options.escape),
            buffer: Vec::new(),
            begin: 0,
            at: 0,
            eol: None,
            in_quotes: false,
            after_escape: false,
            line: 0,
            inner: 0,
        }
    }

    /// Takes bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.buffer.drain(..self.begin);
        self.at -= self.begin;
        self.begin = 0;
        if self.buffer.len() > RECORD_BYTES_MAX {
            return Err(Error::limit_exceeded(format!("a row of the data takes more than {RECORD_BYTES_MAX} bytes")));
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// The next whole record; with `last` also what no line end follows. `None`: more must come, or all is read.
    pub(super) fn next(&mut self, last: bool) -> Result<Option<Range<usize>>> {
        while let Some(&byte) = self.buffer.get(self.at) {
            let following = self.buffer.get(self.at + 1).copied();
            if matches!(byte, b'\\' | b'\r') && following.is_none() && !last {
                return Ok(None);
            }
            match self.format {
                Format::Csv => self.toggle(byte),
                Format::Text | Format::Binary if byte == b'\\' => {
                    self.at = (self.at + 2).min(self.buffer.len());
                    continue;
                }
                Format::Text | Format::Binary => {}
            }
            if matches!(byte, b'\n' | b'\r') {
                if self.in_quotes {
                    self.inner += u64::from(byte == b'\n');
                } else if let Some(width) = self.line_end(byte, following)? {
                    return Ok(Some(self.take(width)));
                }
            }
            self.at += 1;
        }
        if !last || self.begin == self.buffer.len() {
            return Ok(None);
        }
        Ok(Some(self.take(0)))
    }

    /// The bytes of a record.
    pub(super) fn bytes(&self, record: Range<usize>) -> &[u8] {
        &self.buffer[record]
    }

    /// Keeps track of whether the place is between quotes.
    fn toggle(&mut self, byte: u8) {
        if self.in_quotes && Some(byte) == self.escape {
            self.after_escape = !self.after_escape;
        }
        if byte == self.quote && !self.after_escape {
            self.in_quotes = !self.in_quotes;
        }
        if Some(byte) != self.escape {
            self.after_escape = false;
        }
    }

    fn take(&mut self, width: usize) -> Range<usize> {
        let record = self.begin..self.at;
        self.at += width;
        self.begin = self.at;
        self.line += 1 + self.inner;
        self.inner = 0;
        self.in_quotes = false;
        record
    }

    /// How many bytes the line end here takes, if it is one.
    fn line_end(&mut self, byte: u8, following: Option<u8>) -> Result<Option<usize>> {
        let found = match (byte, following) {
            (b'\n', _) => Eol::Lf,
            (_, Some(b'\n')) => Eol::CrLf,
            _ => Eol::Cr,
        };
        let eol = *self.eol.get_or_insert(found);
        if eol == found || (eol == Eol::Cr && found == Eol::CrLf) {
            return Ok(Some(if eol == Eol::CrLf { 2 } else { 1 }));
        }
        self.line += 1;
        let (what, name, escape) = match found {
            Eol::Lf => ("newline", "newline", "\\n"),
            Eol::CrLf | Eol::Cr => ("carriage return", "carriage return", "\\r"),
        };
        Err(match self.format {
            Format::Csv => Error::bad_copy_format(format!("unquoted {what} found in data"))
                .hint(format!("Use quoted CSV field to represent {name}.")),
            Format::Text | Format::Binary => Error::bad_copy_format(format!("literal {what} found in data"))
                .hint(format!("Use \"{escape}\" to represent {name}.")),
        })
    }
}
