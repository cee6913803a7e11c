//! Sealing an arrangement: what the epoch changed becomes one more chunk of each key, and long chains are folded.

use std::mem;

use hashbrown::HashMap;

use crate::dataflow::operators::arrange::arrangement::Arrangement;
use crate::dataflow::operators::arrange::cache::Entry;
use crate::dataflow::operators::arrange::cache::Known;
use crate::dataflow::operators::arrange::cache::Slot;
use crate::dataflow::operators::arrange::chunks::Chain;
use crate::dataflow::operators::arrange::chunks::ChunkWriter;
use crate::dataflow::operators::arrange::chunks::HEAD;
use crate::dataflow::operators::arrange::chunks::decode_chunk;
use crate::dataflow::operators::arrange::chunks::disk_key;
use crate::dataflow::operators::arrange::chunks::encode_head;
use crate::dataflow::operators::arrange::lookup::ROWS_FOLDED_WHOLE;
use crate::error::{Error, Result};
use crate::ids::TableId;
use crate::state::{Space, Writes};

/// What every seal needs anew.
#[derive(Default)]
pub(super) struct Buffers {
    key: Vec<u8>,
    head: Vec<u8>,
    chunk: ChunkWriter,
}

/// So many rows at most stand in the head of a key.
const ROWS_IN_HEAD: u32 = 8;

/// So many bytes at most do.
const BYTES_IN_HEAD: usize = 512;

/// Fewer keys without rows than this stay.
const VACANT_MIN: usize = 4096;

impl Arrangement {
    /// Writes what this epoch changed; everything in memory is clean afterwards.
    pub fn seal(&mut self, writes: &mut Writes) -> Result<()> {
        self.let_go(writes);
        let mut buffers = mem::take(&mut self.buffers);
        for slot in mem::take(&mut self.dirty) {
            self.seal_key(slot, &mut buffers, writes)?;
        }
        self.buffers = buffers;
        self.folds.clear();
        self.tidy();
        Ok(())
    }

    fn seal_key(&mut self, slot: Slot, buffers: &mut Buffers, writes: &mut Writes) -> Result<()> {
        self.cache.entry(slot).listed = false;
        self.check(slot)?;
        let Entry { net, chain: old, stored, shard, .. } = self.cache.entries[slot as usize];
        if self.cache.changes_of(slot).next().is_none() {
            self.settle(slot, old, stored);
            return Ok(());
        }
        let chain = match net {
            0 => Chain::default(),
            _ => self.next_chunk(slot, &mut buffers.chunk)?,
        };
        let Buffers { key, head, chunk } = buffers;
        let space = Space::State(self.table, shard);
        for number in chain.len() + 1..=old.len() {
            set_key(key, self.cache.key(slot), number as u32);
            writes.delete(space, key);
        }
        if chain.len() > 0 && chunk.rows() > 0 {
            set_key(key, self.cache.key(slot), chain.len() as u32);
            writes.put(space, key, chunk.bytes());
        }
        set_key(key, self.cache.key(slot), HEAD);
        if net != 0 {
            encode_head(net, &chain, chunk, head);
            writes.put(space, key, head);
        } else if stored {
            writes.delete(space, key);
        }
        self.settle(slot, chain, net != 0);
        Ok(())
    }

    /// More rows taken out than there were: a defect of whoever sent them, and no answer would be right from here on.
    fn check(&mut self, slot: Slot) -> Result<()> {
        let entry = self.cache.entry(slot);
        let small = u64::from(entry.rows) <= ROWS_FOLDED_WHOLE;
        let mut negative = entry.net < 0;
        if entry.loose > 0 && entry.known == Known::All && small {
            self.cache.consolidate(slot);
            negative |= self.cache.entry(slot).loose > 0;
        }
        match negative {
            false => Ok(()),
            true => Err(wrong(self.table)),
        }
    }

    /// Puts together what is to be written of a key that has rows, and tells the chunks there are then: the last of them
    /// is written, or, where there are none, the head has it all.
    fn next_chunk(&mut self, slot: Slot, chunk: &mut ChunkWriter) -> Result<Chain> {
        chunk.clear();
        let entry = &self.cache.entries[slot as usize];
        let mut chain = entry.chain;
        let fold = self.folds.remove(&slot);
        let whole = chain.len() == 0 || entry.rows <= ROWS_IN_HEAD || (chain.is_full() && fold.is_none());
        if entry.known == Known::All && whole {
            self.cache.rows_of(slot).for_each(|(weight, row)| chunk.push(weight, row));
            chain.truncate(0);
            if chunk.rows() as u32 > ROWS_IN_HEAD || chunk.bytes().len() > BYTES_IN_HEAD {
                chain.push(chunk.rows());
            }
            return Ok(chain);
        }
        if let Some(fold) = fold {
            let mut sums = HashMap::<&[u8], i64>::new();
            for old in &fold.chunks {
                decode_chunk(old, |weight, row| *sums.entry(row).or_default() += weight)?;
            }
            for (weight, row) in self.cache.changes_of(slot) {
                *sums.entry(row).or_default() += weight;
            }
            let mut rows = sums.into_iter().filter(|(_, weight)| *weight != 0).collect::<Vec<_>>();
            rows.sort_unstable();
            rows.into_iter().for_each(|(row, weight)| chunk.push(weight, row));
            chain.truncate(fold.from);
        } else {
            debug_assert!(!chain.is_full(), "a fold was prepared");
            self.cache.changes_of(slot).for_each(|(weight, row)| chunk.push(weight, row));
        }
        if chunk.rows() > 0 {
            chain.push(chunk.rows());
        }
        match chain.len() {
            0 => Err(wrong(self.table)),
            _ => Ok(chain),
        }
    }

    /// Marks a key as it lies on disk now.
    fn settle(&mut self, slot: Slot, chain: Chain, stored: bool) {
        let entry = self.cache.entry(slot);
        (entry.chain, entry.stored) = (chain, stored);
        if !stored {
            self.vacant += 1;
            entry.known = Known::All;
        }
        match stored && entry.known == Known::All {
            true => self.cache.clean(slot),
            false => self.cache.clear(slot),
        }
    }

    /// Lets go of keys without rows, as far as they are more than half of all, and of what is left of rows that are gone.
    fn tidy(&mut self) {
        let spare = self.vacant.saturating_sub(self.cache.entries.len() / 2);
        if spare > VACANT_MIN {
            let mut way = self.clock.way(self.cache.entries.len(), 1);
            while way.taken() < spare
                && let Some(slot) = way.next()
            {
                if !self.cache.entry(slot).stored {
                    way.take(slot);
                }
            }
            let gone = self.clock.end(way);
            self.vacant = if gone.len() < spare { 0 } else { self.vacant - spare };
            self.cache.remove(gone);
        }
        if self.cache.rows.is_mostly_released() {
            self.cache.rewrite();
        }
    }
}

fn set_key(to: &mut Vec<u8>, key: &[u8], number: u32) {
    to.clear();
    disk_key(key, number, to);
}

fn wrong(table: TableId) -> Error {
    Error::internal("a join was told to take out a row that it does not have")
        .detail(format!("It keeps its rows in state table {table}."))
}
