//! The keys of an arrangement that are in memory, and what is known of each.

use std::mem;

use hashbrown::HashTable;

use crate::dataflow::operators::arrange::chunks::Chain;
use crate::dataflow::operators::arrange::rows::RowRef;
use crate::dataflow::operators::arrange::rows::Rows;
use crate::dataflow::operators::arrange::rows::size_of_row;
use crate::error::{Error, Result};
use crate::ids::Shard;
use crate::state::codec;
use crate::state::codec::ByteRows;
use crate::state::slots::KeySlots;

/// The number of a key in memory.
pub(in crate::dataflow::operators) type Slot = u32;

/// How much of a key's content on disk is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing yet.
    Nothing,
    /// Its head: total weight and chunks. Its rows in memory are those of this epoch alone.
    Head,
    /// Everything: its rows in memory are all there are.
    All,
}

/// A key in memory.
pub(super) struct Entry {
    /// Its first row.
    pub first: RowRef,
    /// The sum of all weights, those on disk and those of this epoch.
    pub net: i64,
    /// Whether it has a head on disk.
    pub stored: bool,
    /// Its chunks on disk. Where it has a head but no chunks, its rows stand in the head, and are known with it.
    pub chain: Chain,
    /// So many rows in front may differ from disk.
    pub dirty: u32,
    /// So many rows are in the chain.
    pub rows: u32,
    /// So many of these have a negative weight.
    pub loose: u32,
    /// So many of those were left when they were consolidated last: their insertions lie on disk.
    pub settled: u32,
    /// Where it lies on disk.
    pub shard: Shard,
    /// How much of its content on disk is known.
    pub known: Known,
    /// Whether it is in the list of what this epoch changed.
    pub listed: bool,
    /// Whether it was asked for since evictions came by last.
    pub used: bool,
}

impl Entry {
    fn new(shard: Shard, known: Known) -> Entry {
        Entry {
            first: RowRef::NONE,
            net: 0,
            stored: false,
            chain: Chain::default(),
            dirty: 0,
            rows: 0,
            loose: 0,
            settled: 0,
            shard,
            known,
            listed: false,
            used: true,
        }
    }
}

/// Keys by slot. Slots stay what they are until keys are let go of.
#[derive(Default)]
pub(super) struct Cache {
    /// The keys.
    pub keys: KeySlots,
    /// What is known of each key.
    pub entries: Vec<Entry>,
    /// The rows of all keys.
    pub rows: Rows,
}

/// So far a retraction looks for its insertion at once; beyond, it waits until the chain is consolidated.
const NEAR: usize = 16;

impl Cache {
    /// The slots of keys, in their order. Those that were not there are new and empty; `known` tells, for a shard, what is
    /// known of them.
    pub fn find_or_insert(&mut self, keys: &ByteRows, known: impl Fn(Shard) -> Known) -> Vec<Slot> {
        let (mut slots, mut new) = (Vec::new(), Vec::new());
        self.keys.lookup_or_insert(keys, &mut slots, &mut new);
        self.entries.reserve(new.len());
        for slot in self.entries.len()..self.keys.len() {
            let shard = Shard::of(self.keys.hash(slot as Slot));
            self.entries.push(Entry::new(shard, known(shard)));
        }
        slots
    }

    /// A key's bytes.
    pub fn key(&self, slot: Slot) -> &[u8] {
        self.keys.key(slot)
    }

    /// A key's entry.
    pub fn entry(&mut self, slot: Slot) -> &mut Entry {
        &mut self.entries[slot as usize]
    }

    /// The rows of a key as they are now, with their weights.
    pub fn rows_of(&self, slot: Slot) -> impl Iterator<Item = (i64, &[u8])> {
        self.refs_of(slot)
            .map(|row| self.rows.get(row))
            .filter(|row| row.weight != 0)
            .map(|row| (row.weight, row.bytes))
    }

    /// How many rows a key has, about, if at least its head is known.
    pub fn rows_at(&self, slot: Slot) -> usize {
        let entry = &self.entries[slot as usize];
        match entry.known {
            Known::All => entry.rows as usize,
            Known::Nothing | Known::Head => usize::try_from(entry.net).unwrap_or(0).max(entry.rows as usize),
        }
    }

    /// What this epoch changed in the rows of a key: each with the difference of its weights.
    pub fn changes_of(&self, slot: Slot) -> impl Iterator<Item = (i64, &[u8])> {
        let dirty = self.entries[slot as usize].dirty as usize;
        let rows = self.refs_of(slot).take(dirty).map(|row| self.rows.get(row));
        rows.filter(|row| row.weight != row.stored).map(|row| (row.weight - row.stored, row.bytes))
    }

    /// Adds a change: to the row it is about if that is near the front, else as a row of its own.
    pub fn change(&mut self, slot: Slot, weight: i64, bytes: &[u8]) {
        let entry = &mut self.entries[slot as usize];
        entry.net += weight;
        if (weight < 0 || entry.loose > 0) && self.change_near(slot, weight, bytes) {
            return;
        }
        let entry = &mut self.entries[slot as usize];
        entry.first = self.rows.add(entry.first, weight, 0, bytes);
        entry.rows += 1;
        entry.dirty += 1;
        if weight < 0 {
            entry.loose += 1;
            let new = entry.loose.saturating_sub(entry.settled);
            if new as usize > NEAR && new > entry.rows / 4 {
                self.consolidate(slot);
            }
        }
    }

    fn change_near(&mut self, slot: Slot, weight: i64, bytes: &[u8]) -> bool {
        let entry = &mut self.entries[slot as usize];
        let (mut previous, mut at) = (RowRef::NONE, entry.first);
        for position in 0..NEAR {
            if at == RowRef::NONE {
                return false;
            }
            let row = self.rows.get(at);
            if row.bytes != bytes {
                (previous, at) = (at, row.next);
                continue;
            }
            let (next, new, stored) = (row.next, row.weight + weight, row.stored);
            entry.loose = entry.loose - u32::from(row.weight < 0) + u32::from(new < 0);
            let (gone, was_dirty) = (new == 0 && stored == 0, position < entry.dirty as usize);
            if gone || !was_dirty {
                match previous {
                    RowRef::NONE => entry.first = next,
                    _ => self.rows.set_next(previous, next),
                }
            }
            if gone {
                entry.dirty -= u32::from(was_dirty);
                entry.rows -= 1;
                self.rows.release(at);
                return true;
            }
            self.rows.set_weights(at, new, stored);
            if !was_dirty {
                self.rows.set_next(at, entry.first);
                entry.first = at;
                entry.dirty += 1;
            }
            return true;
        }
        false
    }

    /// Sums the weights of equal rows of a key; those that come to nothing, in memory and on disk, go.
    pub fn consolidate(&mut self, slot: Slot) {
        let refs = self.refs_of(slot).collect::<Vec<_>>();
        let mut distinct = HashTable::<RowRef>::with_capacity(refs.len());
        for &at in &refs {
            let rows = &self.rows;
            let row = rows.get(at);
            let hash = |r: &RowRef| codec::hash(rows.get(*r).bytes);
            match distinct.find(hash(&at), |r| rows.get(*r).bytes == row.bytes) {
                None => {
                    distinct.insert_unique(hash(&at), at, hash);
                }
                Some(&same) => {
                    let other = rows.get(same);
                    let (weight, stored) = (row.weight + other.weight, row.stored + other.stored);
                    self.rows.set_weights(same, weight, stored);
                    self.rows.set_weights(at, 0, 0);
                }
            }
        }
        self.link(slot, refs);
    }

    /// Says that what this epoch changed in a key is on its way to disk.
    pub fn clean(&mut self, slot: Slot) {
        let dirty = mem::take(&mut self.entry(slot).dirty) as usize;
        let refs = self.refs_of(slot).take(dirty).collect::<Vec<_>>();
        let Some(&last) = refs.last() else { return };
        let mut next = self.rows.get(last).next;
        for &at in refs.iter().rev() {
            let weight = self.rows.get(at).weight;
            if weight == 0 {
                self.rows.release(at);
                self.entry(slot).rows -= 1;
                continue;
            }
            self.rows.set_weights(at, weight, weight);
            self.rows.set_next(at, next);
            next = at;
        }
        self.entry(slot).first = next;
    }

    /// Lets go of all rows of a key.
    pub fn clear(&mut self, slot: Slot) {
        for at in self.refs_of(slot).collect::<Vec<_>>() {
            self.rows.release(at);
        }
        let entry = self.entry(slot);
        (entry.first, entry.rows, entry.dirty) = (RowRef::NONE, 0, 0);
        (entry.loose, entry.settled) = (0, 0);
    }

    /// Adds rows as they lie on disk to a key of which nothing but this epoch's changes was in memory.
    pub fn complete<'a>(&mut self, slot: Slot, stored: impl Iterator<Item = (i64, &'a [u8])>) -> Result<()> {
        let changed = self.refs_of(slot).collect::<Vec<_>>();
        let mut net = changed.iter().map(|at| self.rows.get(*at).weight).sum::<i64>();
        let (mut first, mut rows, mut loose) = (RowRef::NONE, 0, 0);
        for (weight, bytes) in stored {
            first = self.rows.add(first, weight, weight, bytes);
            rows += 1;
            loose += u32::from(weight < 0);
            net += weight;
        }
        let entry = self.entry(slot);
        if net != entry.net {
            return Err(Error::corrupted(
                "the state of a join is damaged: the rows of a key are not those its head tells",
            ));
        }
        (entry.rows, entry.loose, entry.known) = (entry.rows + rows, entry.loose + loose, Known::All);
        match changed.last() {
            Some(last) => self.rows.set_next(*last, first),
            None => entry.first = first,
        }
        if self.entry(slot).loose > 0 {
            self.consolidate(slot);
        }
        Ok(())
    }

    /// Memory taken. What is free for keys and rows to come does not count.
    pub fn memory_bytes(&self) -> usize {
        self.keys.memory_bytes() + self.entries.len() * size_of::<Entry>() + self.rows.memory_bytes()
    }

    /// What a key takes of that, about.
    pub fn size_of(&self, slot: Slot) -> usize {
        let rows = self.refs_of(slot).map(|row| size_of_row(self.rows.get(row).bytes)).sum::<usize>();
        self.key(slot).len() + size_of::<Entry>() + rows
    }

    /// Lets go of these keys, which are clean, given in the order of their slots. Others get their slots.
    pub fn remove(&mut self, gone: Vec<Slot>) {
        gone.iter().for_each(|slot| self.clear(*slot));
        let moves = self.keys.remove(gone);
        moves.apply(&mut self.entries);
    }

    /// Writes the rows anew, those of each key side by side.
    pub fn rewrite(&mut self) {
        let mut rows = Rows::default();
        for slot in 0..self.entries.len() as Slot {
            let mut first = RowRef::NONE;
            for at in self.refs_of(slot) {
                let row = self.rows.get(at);
                first = rows.add(first, row.weight, row.stored, row.bytes);
            }
            self.entry(slot).first = first;
        }
        self.rows = rows;
    }

    fn refs_of(&self, slot: Slot) -> impl Iterator<Item = RowRef> {
        let first = Some(self.entries[slot as usize].first).filter(|row| *row != RowRef::NONE);
        std::iter::successors(first, |row| Some(self.rows.get(*row).next).filter(|next| *next != RowRef::NONE))
    }

    /// Makes these rows, without those of no weight, the chain of a key.
    fn link(&mut self, slot: Slot, refs: Vec<RowRef>) {
        let (mut first, mut rows, mut dirty, mut loose) = (RowRef::NONE, 0, 0, 0);
        for dirty_ones in [false, true] {
            for &at in &refs {
                let row = self.rows.get(at);
                if (row.weight != row.stored) != dirty_ones {
                    continue;
                }
                if (row.weight, row.stored) == (0, 0) {
                    self.rows.release(at);
                    continue;
                }
                (rows, dirty, loose) = (rows + 1, dirty + u32::from(dirty_ones), loose + u32::from(row.weight < 0));
                self.rows.set_next(at, first);
                first = at;
            }
        }
        let entry = self.entry(slot);
        (entry.first, entry.rows, entry.dirty) = (first, rows, dirty);
        (entry.loose, entry.settled) = (loose, loose);
    }
}
