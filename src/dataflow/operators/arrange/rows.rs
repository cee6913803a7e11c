//! Rows of an arrangement in memory: encoded bytes in an arena, chained by key.
//!
//! Each row has two weights: what it weighs now and what it weighs on disk. Where they differ the row is *dirty*, and the
//! difference is what the epoch's chunk has to say. A chain keeps its dirty rows in front, so that sealing walks over what
//! changed and not over what is there.
//!
//! ```text
//!  entry.first ──► row (+1, 0) ──► row (0, +1) ──► row (+1, +1) ──► row (+1, +1) ──► none
//!                  came now        went now        ──── on disk as they are ────
//!                  ◄──────── entry.dirty = 2 ────►
//! ```

use crate::state::arena::Arena;
use crate::state::arena::rounded;

/// Where a row lies in the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowRef(u64);

/// A row as it lies in the arena.
pub(super) struct Row<'a> {
    /// The next of its chain.
    pub next: RowRef,
    /// How often it is there now. 0: it is gone, but not yet from disk. Negative: its insertion was not met yet.
    pub weight: i64,
    /// How often it is there on disk.
    pub stored: i64,
    /// Its bytes, by the row codec.
    pub bytes: &'a [u8],
}

/// The arena.
#[derive(Default)]
pub(super) struct Rows(Arena);

/// Next (8), weight (8), stored (8), length of the bytes (4), all little-endian.
const HEADER: usize = 28;

impl RowRef {
    /// The end of every chain.
    pub const NONE: RowRef = RowRef(u64::MAX);
}

impl Rows {
    /// Adds a row in front of `next`.
    pub fn add(&mut self, next: RowRef, weight: i64, stored: i64, bytes: &[u8]) -> RowRef {
        let mut header = [0; HEADER];
        for (field, value) in header.chunks_exact_mut(8).zip([next.0, weight as u64, stored as u64]) {
            field.copy_from_slice(&value.to_le_bytes());
        }
        header[24..].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
        RowRef(self.0.put(&[&header, bytes]) as u64)
    }

    /// The row there.
    #[inline]
    pub fn get(&self, row: RowRef) -> Row<'_> {
        let (header, rest) = self.0.from(row.0 as usize).split_at(HEADER);
        let word = |at: usize| header[at..at + 8].try_into().expect("eight bytes");
        let length = u32::from_le_bytes(header[24..].try_into().expect("four bytes")) as usize;
        Row {
            next: RowRef(u64::from_le_bytes(word(0))),
            weight: i64::from_le_bytes(word(8)),
            stored: i64::from_le_bytes(word(16)),
            bytes: &rest[..length],
        }
    }

    /// Links a row to another next one.
    pub fn set_next(&mut self, row: RowRef, next: RowRef) {
        self.set(row, 0, next.0.to_le_bytes());
    }

    /// Sets both weights.
    pub fn set_weights(&mut self, row: RowRef, weight: i64, stored: i64) {
        self.set(row, 8, weight.to_le_bytes());
        self.set(row, 16, stored.to_le_bytes());
    }

    /// Says that a row is in no chain any more. It can be read until another is added.
    pub fn release(&mut self, row: RowRef) {
        let length = HEADER + self.get(row).bytes.len();
        self.0.release(row.0 as usize, length);
    }

    /// The memory that rows take. What is free for others to come does not count.
    pub fn memory_bytes(&self) -> usize {
        self.0.used_bytes()
    }

    /// Whether more than half of the arena is for rows that are gone.
    pub fn is_mostly_released(&self) -> bool {
        self.0.is_mostly_free()
    }

    fn set(&mut self, row: RowRef, field: usize, bytes: [u8; 8]) {
        self.0.get_mut(row.0 as usize + field, 8).copy_from_slice(&bytes);
    }
}

/// What a row of so many bytes takes in the arena.
pub(super) fn size_of_row(bytes: &[u8]) -> usize {
    rounded(HEADER + bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_where_they_were_put() {
        let mut rows = Rows::default();
        let mut last = RowRef::NONE;
        let bytes = |i: usize| vec![i as u8; i * 37 % 9000];
        for i in 0..2000 {
            last = rows.add(last, i as i64, -(i as i64), &bytes(i));
        }
        let huge = rows.add(last, 1, 1, &vec![7; 3 << 20]);
        assert_eq!(rows.get(huge).bytes.len(), 3 << 20);
        for i in (0..2000).rev() {
            let row = rows.get(last);
            assert_eq!((row.weight, row.stored, row.bytes), (i as i64, -(i as i64), bytes(i).as_slice()));
            last = row.next;
        }
        assert_eq!(last, RowRef::NONE);
    }
}
