//! The records of a file, block by block.

use std::fs::File;
use std::io::Read;
use std::ops::Range;

use memchr::memchr;

use crate::error::Result;
use crate::formats::Encode;

/// How much is read at a time.
const BLOCK: usize = 1 << 20;

/// A record longer than this is an error, and passed over.
pub(super) const RECORD_MAX: usize = 16 << 20;

/// A file from some byte to some other, cut into records.
pub(super) struct Records<'a> {
    encode: &'a Encode,
    file: File,
    /// Holds what was read and not yet taken; lent, so that one serves all files.
    buffer: &'a mut Vec<u8>,
    /// The part of the buffer that is filled and not taken.
    filled: Range<usize>,
    /// The number of the byte that this part begins with.
    offset: u64,
    /// How many bytes of the file are still to be read.
    left: u64,
    /// Whether what lies at the end without a newline is a record.
    last_counts: bool,
    /// Where a record begins that is too long, while its rest is being passed over.
    skipping: Option<u64>,
}

/// A step through a file.
pub(super) enum Next {
    /// A record, as a range of the buffer, and the number of its first byte.
    Record(Range<usize>, u64),
    /// A record that is too long begins at this byte.
    TooLong(u64),
    /// There is no further whole record.
    End,
}

impl<'a> Records<'a> {
    /// The records of `file`, which stands at byte `offset`, before byte `end`.
    pub(super) fn new(
        encode: &'a Encode,
        file: File,
        buffer: &'a mut Vec<u8>,
        offset: u64,
        end: u64,
        last_counts: bool,
    ) -> Records<'a> {
        let left = end.saturating_sub(offset);
        Records { encode, file, buffer, filled: 0..0, offset, left, last_counts, skipping: None }
    }

    /// The next record.
    pub(super) fn next(&mut self) -> Result<Next> {
        loop {
            let bytes = &self.buffer[self.filled.clone()];
            if self.skipping.is_some() {
                let newline = memchr(b'\n', bytes);
                self.take(newline.map_or(bytes.len(), |at| at + 1));
                if newline.is_some() {
                    self.skipping = None;
                    continue;
                }
            } else if let Some(end) = self.encode.record_end(bytes) {
                return Ok(self.record(end, end + 1));
            } else if bytes.len() >= RECORD_MAX {
                self.skipping = Some(self.offset);
                return Ok(Next::TooLong(self.offset));
            }
            if !self.fill()? {
                let rest = self.filled.len();
                self.skipping = self.skipping.filter(|_| !self.last_counts);
                return Ok(if self.last_counts && rest > 0 { self.record(rest, rest) } else { Next::End });
            }
        }
    }

    /// The bytes of a record.
    pub(super) fn bytes(&self, record: Range<usize>) -> &[u8] {
        &self.buffer[record]
    }

    /// The number of the byte at which to go on another time.
    pub(super) fn offset(&self) -> u64 {
        self.skipping.unwrap_or(self.offset)
    }

    fn record(&mut self, length: usize, with_newline: usize) -> Next {
        let (start, offset) = (self.filled.start, self.offset);
        self.take(with_newline);
        Next::Record(start..start + length, offset)
    }

    fn take(&mut self, bytes: usize) {
        self.filled.start += bytes;
        self.offset += bytes as u64;
    }

    /// Reads a further block behind what is there; `false` when there is none.
    fn fill(&mut self) -> Result<bool> {
        if self.left == 0 {
            return Ok(false);
        }
        self.buffer.copy_within(self.filled.clone(), 0);
        self.filled = 0..self.filled.len();
        let wanted = (self.left as usize).min(BLOCK);
        if self.buffer.len() < self.filled.end + wanted {
            self.buffer.resize(self.filled.end + wanted, 0);
        }
        let read = self.file.read(&mut self.buffer[self.filled.end..self.filled.end + wanted])?;
        self.filled.end += read;
        // A file that became shorter meanwhile ends here; the next look at it tells.
        self.left = if read == 0 { 0 } else { self.left - read as u64 };
        Ok(read > 0)
    }
}
