//! How an arrangement lies on disk.
//!
//! Under [`Space::State`](crate::state::Space::State) a key of the arrangement has one entry that heads it and up to
//! [`Chain::MAX`] chunks, each with what one epoch (or, once folded, several) brought for that key:
//!
//! ```text
//! key ++ 00000000  ──►  head:   version, total weight, number of chunks, size class of each
//! key ++ 00000001  ──►  chunk:  version, then rows: weight, length, bytes
//! key ++ 00000002  ──►  chunk
//! ```
//!
//! A key with little in it has no chunks: its rows stand in the head, so that it takes one write and one read.
//!
//! The number behind the key always takes four bytes, so that no two keys can get into each other's way even where one is
//! a prefix of the other; and it is big-endian, so that the head comes first.

use crate::error::{Error, Result};

/// The version of both formats.
const VERSION: u8 = 1;

/// The number that stands for the head.
pub(super) const HEAD: u32 = 0;

/// The chunks of a key: for each its size class, the bit length of its number of rows. Chunk `i` has the number `i + 1`.
///
/// When there are [`Chain::MAX`], a tail of them is folded into one together with what the epoch brings: from the first chunk
/// on that is less than eight times as large as all after it. So sizes stay geometric, and an append costs, over
/// time, a logarithmic number of rewrites however large the key is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Chain {
    /// 0 where there is no chunk; those come last.
    classes: [u8; Chain::MAX],
}

impl Chain {
    /// The most chunks that a key has.
    pub const MAX: usize = 8;

    /// How many chunks there are.
    pub fn len(&self) -> usize {
        self.classes.iter().take_while(|class| **class != 0).count()
    }

    /// Whether the next chunk needs a fold.
    pub fn is_full(&self) -> bool {
        self.classes[Chain::MAX - 1] != 0
    }

    /// An upper bound of the number of rows in all chunks.
    pub fn rows_max(&self) -> u64 {
        self.classes.iter().map(|class| (1 << *class) - 1).sum()
    }

    /// Adds a chunk of so many rows and tells its number.
    pub fn push(&mut self, rows: usize) -> u32 {
        let len = self.len();
        self.classes[len] = (usize::BITS - rows.max(1).leading_zeros()) as u8;
        len as u32 + 1
    }

    /// Leaves only the first `len` chunks.
    pub fn truncate(&mut self, len: usize) {
        self.classes[len..].fill(0);
    }

    /// The first chunk of the tail to be folded. At least two are.
    pub fn fold_from(&self) -> usize {
        let len = self.len();
        let mut tail = 0;
        let mut from = len;
        for at in (0..len).rev() {
            let rows = 1u64 << self.classes[at];
            if rows < 8 * tail || at + 2 >= len {
                from = at;
            }
            tail += rows;
        }
        from
    }
}

/// Adds the key on disk of a head or chunk.
pub(super) fn disk_key(key: &[u8], number: u32, to: &mut Vec<u8>) {
    to.extend_from_slice(key);
    to.extend_from_slice(&number.to_be_bytes());
}

/// The bytes of a head. Without chunks, the `rows` stand in it.
pub(super) fn encode_head(net: i64, chain: &Chain, rows: &ChunkWriter, to: &mut Vec<u8>) {
    to.clear();
    to.push(VERSION);
    put_signed(net, to);
    to.push(chain.len() as u8);
    match chain.len() {
        0 => to.extend_from_slice(&rows.bytes[1..]),
        len => to.extend_from_slice(&chain.classes[..len]),
    }
}

/// What a head tells.
pub(super) struct Head<'a> {
    /// The sum of all weights.
    pub net: i64,
    /// The chunks.
    pub chain: Chain,
    /// Where there are no chunks, the rows, to be [decoded](decode_rows).
    pub rows: &'a [u8],
}

/// Reads a head.
pub(super) fn decode_head(mut bytes: &[u8]) -> Result<Head<'_>> {
    take_version(&mut bytes)?;
    let net = take_signed(&mut bytes)?;
    let (&len, rest) = bytes.split_first().ok_or_else(|| damaged("a head that ends early"))?;
    let mut chain = Chain::default();
    if len == 0 {
        return Ok(Head { net, chain, rows: rest });
    }
    if rest.len() != len as usize || rest.len() > Chain::MAX || rest.iter().any(|c| !(1..=62).contains(c)) {
        return Err(damaged("a head with impossible chunks"));
    }
    chain.classes[..rest.len()].copy_from_slice(rest);
    Ok(Head { net, chain, rows: &[] })
}

/// Puts a chunk together.
#[derive(Default)]
pub(super) struct ChunkWriter {
    bytes: Vec<u8>,
    rows: usize,
}

impl ChunkWriter {
    /// Begins another chunk.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.push(VERSION);
        self.rows = 0;
    }

    /// Adds a row.
    pub fn push(&mut self, weight: i64, row: &[u8]) {
        put_signed(weight, &mut self.bytes);
        put(row.len() as u64, &mut self.bytes);
        self.bytes.extend_from_slice(row);
        self.rows += 1;
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The chunk.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Calls `each` with weight and bytes of each row of a chunk.
pub(super) fn decode_chunk<'a>(mut bytes: &'a [u8], each: impl FnMut(i64, &'a [u8])) -> Result<()> {
    take_version(&mut bytes)?;
    decode_rows(bytes, each)
}

/// The same for the rows of a head.
pub(super) fn decode_rows<'a>(mut bytes: &'a [u8], mut each: impl FnMut(i64, &'a [u8])) -> Result<()> {
    while !bytes.is_empty() {
        let weight = take_signed(&mut bytes)?;
        let length = take(&mut bytes)? as usize;
        let (row, rest) = bytes.split_at_checked(length).ok_or_else(|| damaged("a chunk that ends in a row"))?;
        each(weight, row);
        bytes = rest;
    }
    Ok(())
}

/// An error for what cannot have been written by us.
pub(super) fn damaged(what: &str) -> Error {
    Error::corrupted(format!("the state of a join is damaged: {what}"))
}

fn take_version(bytes: &mut &[u8]) -> Result<()> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => {
            *bytes = rest;
            Ok(())
        }
        Some((version, _)) => Err(damaged(&format!("format version {version} is not known"))),
        None => Err(damaged("an empty value")),
    }
}

/// Seven bits a byte, the lowest first; the high bit says that more come.
fn put(mut value: u64, to: &mut Vec<u8>) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

fn take(bytes: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or_else(|| damaged("a number that ends early"))?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(damaged("a number that does not end"))
}

fn put_signed(value: i64, to: &mut Vec<u8>) {
    put(((value << 1) ^ (value >> 63)) as u64, to);
}

fn take_signed(bytes: &mut &[u8]) -> Result<i64> {
    let value = take(bytes)?;
    Ok((value >> 1) as i64 ^ -((value & 1) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What version 1 looks like on disk. These bytes may never change.
    #[test]
    fn version_1_is_read_and_written() {
        let mut chunk = ChunkWriter::default();
        chunk.clear();
        chunk.push(1, b"ab");
        chunk.push(-1, b"");
        assert_eq!(chunk.bytes(), [1, 2, 2, b'a', b'b', 1, 0]);

        let (mut chain, mut head) = (Chain::default(), Vec::new());
        encode_head(0, &chain, &chunk, &mut head);
        assert_eq!(head, [1, 0, 0, 2, 2, b'a', b'b', 1, 0]);
        assert_eq!(decode_head(&head).unwrap().rows, [2, 2, b'a', b'b', 1, 0]);
        assert_eq!((chain.push(300), chain.push(1)), (1, 2));
        encode_head(301, &chain, &chunk, &mut head);
        assert_eq!(head, [1, 0xda, 4, 2, 9, 1]);
        let read = decode_head(&head).unwrap();
        assert_eq!((read.net, read.chain), (301, chain));

        let mut rows = Vec::new();
        decode_chunk(chunk.bytes(), |weight, row| rows.push((weight, row.to_vec()))).unwrap();
        assert_eq!(rows, [(1, b"ab".to_vec()), (-1, Vec::new())]);

        let mut key = Vec::new();
        disk_key(b"k", 258, &mut key);
        assert_eq!(key, [b'k', 0, 0, 1, 2]);
    }

    #[test]
    fn damage_is_an_error() {
        for head in [&[][..], &[9], &[1], &[1, 0x80], &[1, 2], &[1, 2, 1], &[1, 2, 1, 0], &[1, 2, 2, 1], &[1, 2, 9]] {
            assert!(decode_head(head).is_err(), "{head:?}");
        }
        for chunk in [&[][..], &[2], &[1, 2], &[1, 2, 5, b'a']] {
            assert!(decode_chunk(chunk, |_, _| ()).is_err(), "{chunk:?}");
        }
    }

    #[test]
    fn numbers_of_every_length() {
        for value in [0, 1, -1, 63, -64, 64, i64::MAX, i64::MIN] {
            let mut bytes = Vec::new();
            put_signed(value, &mut bytes);
            assert_eq!(take_signed(&mut bytes.as_slice()).unwrap(), value);
        }
    }

    /// A million appends of one row: every fold keeps the chain short, and all folds together rewrite little.
    #[test]
    fn appending_to_a_large_key_stays_cheap() {
        let mut chain = Chain::default();
        let mut sizes = Vec::<usize>::new();
        let mut written = 0;
        for _ in 0..1_000_000 {
            let mut rows = 1;
            if chain.is_full() {
                let from = chain.fold_from();
                rows += sizes.drain(from..).sum::<usize>();
                chain.truncate(from);
            }
            sizes.push(rows);
            chain.push(rows);
            written += rows;
        }
        assert_eq!(sizes.iter().sum::<usize>(), 1_000_000);
        assert!(written < 40_000_000, "{written}");
    }
}
