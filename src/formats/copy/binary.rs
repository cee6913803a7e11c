//! The binary format: a signature, for each row a count and values behind their lengths, and a count of −1.

use crate::error::Error;
use crate::error::Result;

/// What binary data begin with; flags and the length of an extension follow, both 0 here.
pub(super) const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// What binary data end with: the count of no row.
pub(super) const TRAILER: [u8; 2] = (-1i16).to_be_bytes();
/// Bytes that one row may take.
const ROW_BYTES_MAX: usize = 256 << 20;
/// The flags that a reader must know; none is.
const CRITICAL: u32 = 0xffff_0000;

/// Bytes that came, cut into rows.
#[derive(Default)]
pub(super) struct Tuples {
    buffer: Vec<u8>,
    /// How much of it was given.
    at: usize,
    /// Whether the signature was read.
    begun: bool,
}

/// What comes next.
pub(super) enum Tuple {
    /// More bytes are wanted.
    Wanting,
    /// The end was said.
    End,
    /// The values of a row.
    Values(Vec<Option<Vec<u8>>>),
}

impl Tuples {
    /// Takes bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.buffer.drain(..self.at);
        self.at = 0;
        if self.buffer.len() > ROW_BYTES_MAX {
            return Err(Error::limit_exceeded(format!("a row of the data takes more than {ROW_BYTES_MAX} bytes")));
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// Whether nothing is left over.
    pub(super) fn is_empty(&self) -> bool {
        self.at == self.buffer.len()
    }

    /// The next row of so many columns, once it is there in full.
    pub(super) fn next(&mut self, columns: usize) -> Result<Tuple> {
        if !self.begun && !self.begin()? {
            return Ok(Tuple::Wanting);
        }
        let mut rest = &self.buffer[self.at..];
        let Some(count) = take(&mut rest, 2) else { return Ok(Tuple::Wanting) };
        let count = i16::from_be_bytes([count[0], count[1]]);
        if count == -1 {
            self.at = self.buffer.len();
            return Ok(Tuple::End);
        }
        if usize::try_from(count) != Ok(columns) {
            return Err(Error::bad_copy_format(format!("row field count is {count}, expected {columns}")));
        }
        let mut values = Vec::with_capacity(columns);
        for _ in 0..columns {
            let Some(length) = take(&mut rest, 4) else { return Ok(Tuple::Wanting) };
            let length = i32::from_be_bytes([length[0], length[1], length[2], length[3]]);
            values.push(match usize::try_from(length) {
                Ok(length) => match take(&mut rest, length) {
                    Some(value) => Some(value.to_vec()),
                    None => return Ok(Tuple::Wanting),
                },
                Err(_) if length == -1 => None,
                Err(_) => return Err(Error::bad_copy_format("invalid field size")),
            });
        }
        self.at = self.buffer.len() - rest.len();
        Ok(Tuple::Values(values))
    }

    /// Reads the signature; false: it is not there in full.
    fn begin(&mut self) -> Result<bool> {
        let known = SIGNATURE.len().min(self.buffer.len());
        if self.buffer[..known] != SIGNATURE[..known] {
            return Err(Error::bad_copy_format("COPY file signature not recognized"));
        }
        let mut rest = &self.buffer[known..];
        let (Some(flags), Some(length)) = (take(&mut rest, 4), take(&mut rest, 4)) else { return Ok(false) };
        let flags = u32::from_be_bytes([flags[0], flags[1], flags[2], flags[3]]);
        if flags & CRITICAL != 0 {
            return Err(Error::bad_copy_format("unrecognized critical flags in COPY file header"));
        }
        let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
        if take(&mut rest, length).is_none() {
            return Ok(false);
        }
        self.at = self.buffer.len() - rest.len();
        self.begun = true;
        Ok(true)
    }
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}
