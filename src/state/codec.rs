//! Rows and keys as bytes: two formats of ours, versioned, for disk and for hashing. Keys order as SQL orders.
//!
//! Both codecs work a column at a time: first the length of every row is added up, then one buffer of the right size is
//! filled. The formats are told in [`key`] and [`row`]; what they share with Arrow's side is in `columns`.

use std::ops::Range;

use crate::error::Error;

mod columns;
pub mod key;
pub mod row;
#[cfg(test)]
mod tests;

pub use key::KeyCodec;
pub use key::leading_micros;
pub use key::micros_prefix;
pub use row::RowCodec;

/// Many byte strings one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ByteRows {
    /// All bytes.
    pub bytes: Vec<u8>,
    /// Where each ends in `bytes`.
    pub ends: Vec<u32>,
}

impl ByteRows {
    /// The `index`th.
    pub fn get(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] as usize };
        &self.bytes[start..self.ends[index] as usize]
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|i| self.get(i))
    }

    /// Whether each is greater than the one before, so that none is there twice.
    pub fn is_ascending(&self) -> bool {
        self.iter().is_sorted_by(|a, b| a < b)
    }

    /// Adds some of others at the end.
    pub fn extend(&mut self, others: &ByteRows, range: Range<usize>) {
        let start = if range.start == 0 { 0 } else { others.ends[range.start - 1] };
        let end = range.end.checked_sub(1).map_or(0, |last| others.ends[last]);
        let base = u32::try_from(self.bytes.len()).expect("one set of rows stays under 4 GiB");
        self.bytes.extend_from_slice(&others.bytes[start as usize..end as usize]);
        self.ends.extend(others.ends[range].iter().map(|row_end| base + row_end - start));
    }

    /// Takes all out; the memory stays for the next.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Adds one at the end. All of them together may take 4 GiB.
    pub fn push(&mut self, row: &[u8]) {
        self.bytes.extend_from_slice(row);
        self.ends.push(u32::try_from(self.bytes.len()).expect("one set of rows stays under 4 GiB"));
    }
}

/// The hash of a key's bytes: chooses shard and worker, so it never changes.
pub fn hash(key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key)
}

/// The least byte string greater than all that begin with `prefix`: the end of a prefix scan. `None`: there is none.
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&b| b != 0xFF)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

/// Stored bytes that no encoder of ours writes.
fn corrupted(what: &str) -> Error {
    Error::corrupted("stored data is damaged").detail(format!("While decoding: {what}."))
}
