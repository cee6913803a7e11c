//! Reading an arrangement's keys from disk: heads, rows, and the tails that are to be folded.

use std::mem;

use crate::dataflow::operators::arrange::arrangement::Arrangement;
use crate::dataflow::operators::arrange::cache::Known;
use crate::dataflow::operators::arrange::cache::Slot;
use crate::dataflow::operators::arrange::chunks::HEAD;
use crate::dataflow::operators::arrange::chunks::damaged;
use crate::dataflow::operators::arrange::chunks::decode_chunk;
use crate::dataflow::operators::arrange::chunks::decode_head;
use crate::dataflow::operators::arrange::chunks::decode_rows;
use crate::dataflow::operators::arrange::chunks::disk_key;
use crate::error::Result;
use crate::ids::{Shard, TableId};
use crate::state::{Space, StateReader};

/// A tail of a key's chunks, read, to be written as one.
pub(super) struct Fold {
    /// The chunks before it, which stay.
    pub from: usize,
    /// Its chunks.
    pub chunks: Vec<Vec<u8>>,
}

/// A key of at most so many rows is read and rewritten whole when it has too many chunks.
pub(super) const ROWS_FOLDED_WHOLE: u64 = 4096;

/// Entries to be read together.
#[derive(Default)]
struct Lookup {
    bytes: Vec<u8>,
    /// Shard, end in `bytes`, and the slot, for each.
    wanted: Vec<(Shard, usize, Slot)>,
}

impl Lookup {
    fn push(&mut self, slot: Slot, shard: Shard, key: &[u8], number: u32) {
        disk_key(key, number, &mut self.bytes);
        self.wanted.push((shard, self.bytes.len(), slot));
    }

    /// Calls `found` for each entry, in any order.
    fn run(
        &self,
        table: TableId,
        state: &StateReader,
        mut found: impl FnMut(Slot, Option<&[u8]>) -> Result<()>,
    ) -> Result<()> {
        let mut start = 0;
        let mut wanted = Vec::with_capacity(self.wanted.len());
        for &(shard, end, slot) in &self.wanted {
            wanted.push((Space::State(table, shard), &self.bytes[mem::replace(&mut start, end)..end], slot));
        }
        wanted.sort_unstable();
        let keys = wanted.iter().map(|&(space, key, _)| (space, key)).collect::<Vec<_>>();
        state.get_many(&keys, &mut |index, value| found(wanted[index].2, value))
    }
}

impl Arrangement {
    /// Reads the heads of those of these keys of which nothing is known.
    pub(super) fn read_heads(&mut self, slots: &[Slot], state: &StateReader) -> Result<()> {
        let mut lookup = Lookup::default();
        for &slot in slots {
            let entry = self.cache.entry(slot);
            if entry.known == Known::Nothing {
                let shard = entry.shard;
                lookup.push(slot, shard, self.cache.key(slot), HEAD);
            }
        }
        lookup.run(self.table, state, |slot, head| {
            let entry = self.cache.entry(slot);
            let Some(head) = head else {
                entry.known = Known::All;
                self.vacant += 1;
                return Ok(());
            };
            let head = decode_head(head)?;
            (entry.net, entry.chain, entry.stored, entry.known) = (head.net, head.chain, true, Known::Head);
            if head.chain.len() > 0 {
                return Ok(());
            }
            let mut rows = Vec::new();
            decode_rows(head.rows, |weight, row| rows.push((weight, row)))?;
            self.cache.complete(slot, rows.into_iter())
        })
    }

    /// Reads the rows of those of these keys of which only the head is known.
    pub(super) fn read_rows(&mut self, slots: &[Slot], state: &StateReader) -> Result<()> {
        let mut lookup = Lookup::default();
        for &slot in slots {
            let entry = &self.cache.entries[slot as usize];
            if entry.known != Known::Head {
                continue;
            }
            for number in 1..=entry.chain.len() as u32 {
                lookup.push(slot, entry.shard, self.cache.key(slot), number);
            }
        }
        let mut chunks = Vec::with_capacity(lookup.wanted.len());
        lookup.run(self.table, state, |slot, chunk| {
            chunks.push((slot, chunk.ok_or_else(|| damaged("a chunk is missing"))?.to_vec()));
            Ok(())
        })?;
        chunks.sort_by_key(|(slot, _)| *slot);
        for of_one in chunks.chunk_by(|a, b| a.0 == b.0) {
            let mut rows = Vec::new();
            for (_, chunk) in of_one {
                decode_chunk(chunk, |weight, row| rows.push((weight, row)))?;
            }
            self.cache.complete(of_one[0].0, rows.into_iter())?;
        }
        Ok(())
    }

    /// Reads what a fold needs of those of these keys whose chain of chunks is full: all rows of a small key, the tail of
    /// a large one.
    pub(super) fn prepare_folds(&mut self, slots: &[Slot], state: &StateReader) -> Result<()> {
        let (mut whole, mut tails) = (Vec::new(), Lookup::default());
        for &slot in slots {
            let entry = &self.cache.entries[slot as usize];
            let small = match entry.known {
                Known::All => u64::from(entry.rows) <= ROWS_FOLDED_WHOLE,
                Known::Head | Known::Nothing => entry.chain.rows_max() <= ROWS_FOLDED_WHOLE,
            };
            if !entry.chain.is_full() || self.folds.contains_key(&slot) {
                continue;
            }
            if small {
                whole.push(slot);
                continue;
            }
            let from = entry.chain.fold_from();
            for number in from + 1..=entry.chain.len() {
                tails.push(slot, entry.shard, self.cache.key(slot), number as u32);
            }
            self.folds.insert(slot, Fold { from, chunks: Vec::new() });
        }
        self.read_rows(&whole, state)?;
        tails.run(self.table, state, |slot, chunk| {
            let chunk = chunk.ok_or_else(|| damaged("a chunk is missing"))?.to_vec();
            self.folds.get_mut(&slot).expect("put in above").chunks.push(chunk);
            Ok(())
        })
    }
}
