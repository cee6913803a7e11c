//! The stored changelog: an object's consolidated delta of each epoch, in chunks, kept while somebody needs it.
//!
//! | key | value |
//! |---|---|
//! | epoch (8 bytes), part (2), portion and chunk (4), big-endian | version, time of the epoch (8), rows as a page of a log, one weight (8) a row |
//!
//! A part is what one worker brought, or the coordinator for a table. Within a part, retractions come before inserts, so
//! that whoever applies a key's changes one by one never holds two rows for it.

use std::collections::BTreeSet;

use arrow::array::UInt32Array;

use crate::catalog::Storage;
use crate::dataflow::relation::PAGE_ROWS;
use crate::dataflow::relation::RelationCodec;
use crate::delta::Delta;
use crate::error::Error;
use crate::error::Result;
use crate::ids::Epoch;
use crate::ids::ObjectId;
use crate::ids::Portion;
use crate::time::Micros;
use crate::types::Column;

/// The version of a chunk.
const VERSION: u8 = 1;

/// Bytes before a chunk's page.
const HEAD: usize = 9;

/// Bytes of a chunk's key.
const KEY: usize = 14;

/// What of an epoch is recorded.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    /// The epoch's time.
    pub time: Micros,
    /// The objects whose deltas somebody needs.
    pub objects: BTreeSet<ObjectId>,
}

/// Encodes and decodes the changelog of one object.
#[derive(Clone, Debug)]
pub struct ChangelogCodec {
    rows: RelationCodec,
}

/// A stored chunk.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// The epoch that it belongs to.
    pub epoch: Epoch,
    /// When that was.
    pub time: Micros,
    /// The rows.
    pub delta: Delta,
}

impl ChangelogCodec {
    /// The codec of changes of these stored columns.
    pub fn new(columns: &[Column]) -> ChangelogCodec {
        ChangelogCodec { rows: RelationCodec::new(columns, Storage::Log) }
    }

    /// The entries of an epoch's consolidated delta; `part` says who brought it.
    pub fn encode(&self, delta: &Delta, portion: Portion, part: u16, time: Micros) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let ordered = retractions_first(delta)?;
        let rows = self.rows.values(ordered.batch())?;
        let mut entries = Vec::with_capacity(ordered.len().div_ceil(PAGE_ROWS));
        for (chunk, from) in (0..rows.len()).step_by(PAGE_ROWS).enumerate() {
            let to = rows.len().min(from + PAGE_ROWS);
            let page = self.rows.encode_page(&rows, from, to);
            let value = chunk_of(&page, &ordered.weights()[from..to], time);
            entries.push((RelationCodec::page_key(portion, part, chunk).to_vec(), value));
        }
        Ok(entries)
    }

    /// A stored chunk.
    pub fn decode(&self, key: &[u8], value: &[u8]) -> Result<Chunk> {
        let (epoch, time) = head(key, value)?;
        let page = &value[HEAD..];
        let count = page.first_chunk::<4>().map(|count| u32::from_le_bytes(*count) as usize).ok_or_else(damaged)?;
        let split = page.len().checked_sub(8 * count).ok_or_else(damaged)?;
        let (page, weights) = page.split_at(split);
        let weights = weights.as_chunks::<8>().0.iter().map(|weight| i64::from_le_bytes(*weight)).collect::<Vec<_>>();
        let batch = self.rows.decode_page(page)?;
        Ok(Chunk { epoch, time, delta: Delta::new(batch, weights.into()) })
    }
}

/// A chunk: a page of rows and their weights.
pub fn chunk_of(page: &[u8], weights: &[i64], time: Micros) -> Vec<u8> {
    let mut chunk = Vec::with_capacity(HEAD + page.len() + 8 * weights.len());
    chunk.push(VERSION);
    chunk.extend(time.to_le_bytes());
    chunk.extend(page);
    weights.iter().for_each(|weight| chunk.extend(weight.to_le_bytes()));
    chunk
}

/// Epoch and time of a stored chunk.
pub fn head(key: &[u8], value: &[u8]) -> Result<(Epoch, Micros)> {
    let epoch = key.first_chunk::<8>().filter(|_| key.len() == KEY).ok_or_else(damaged)?;
    let time = match value.split_first() {
        Some((&VERSION, rest)) => *rest.first_chunk::<8>().ok_or_else(damaged)?,
        Some(_) | None => return Err(damaged()),
    };
    Ok((Epoch(u64::from_be_bytes(*epoch)), i64::from_le_bytes(time)))
}

/// The key before all chunks of an epoch.
pub fn key_of(epoch: Epoch) -> [u8; 8] {
    epoch.0.to_be_bytes()
}

fn damaged() -> Error {
    Error::corrupted("a changelog is damaged")
}

/// The same rows, what goes before what comes.
fn retractions_first(delta: &Delta) -> Result<Delta> {
    let weights = delta.weights();
    if weights.is_sorted_by_key(|&weight| weight > 0) {
        return Ok(delta.clone());
    }
    let mut order = (0..weights.len() as u32).collect::<Vec<_>>();
    order.sort_by_key(|&row| weights[row as usize] > 0);
    delta.take(&UInt32Array::from(order))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::pretty;
    use crate::types::SqlType;

    #[test]
    fn a_delta_comes_back_with_its_epoch_and_time() {
        let columns = [Column::new("a", SqlType::BigInt), Column::new("b", SqlType::Text)];
        let codec = ChangelogCodec::new(&columns);
        let delta = pretty::parse(&columns, "+ 1 a\n- 1 b\n+3 null null\n-2 5 x").unwrap();
        let entries = codec.encode(&delta, Portion::first(Epoch(7)), 2, 1234).unwrap();
        assert_eq!(entries.len(), 1);
        let chunk = codec.decode(&entries[0].0, &entries[0].1).unwrap();
        assert_eq!((chunk.epoch, chunk.time), (Epoch(7), 1234));
        assert_eq!(pretty::print(&chunk.delta).unwrap(), "- 1 b\n-2 5 x\n+ 1 a\n+3 null null\n");
    }

    #[test]
    fn rows_without_columns_have_weights() {
        let codec = ChangelogCodec::new(&[]);
        let delta = pretty::parse(&[], "+3").unwrap();
        let entries = codec.encode(&delta, Portion::first(Epoch(1)), 0, 0).unwrap();
        assert_eq!(pretty::print(&codec.decode(&entries[0].0, &entries[0].1).unwrap().delta).unwrap(), "+3\n");
    }

    #[test]
    fn damage_is_found() {
        let columns = [Column::new("a", SqlType::BigInt)];
        let codec = ChangelogCodec::new(&columns);
        let delta = pretty::parse(&columns, "+ 1\n+ 2").unwrap();
        let (key, value) = codec.encode(&delta, Portion::first(Epoch(1)), 0, 0).unwrap().pop().unwrap();
        for length in 0..value.len() {
            let error = codec.decode(&key, &value[..length]).unwrap_err();
            assert_eq!(error.kind, crate::error::Kind::Corrupted, "{length} bytes");
        }
    }
}
