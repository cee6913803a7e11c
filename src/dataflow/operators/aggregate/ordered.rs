//! `min` and `max` over input that retracts: the extreme value, and how to know the next one when it goes.
//!
//! The values themselves lie in a multiset of the node, keyed so that the store can search it in order. Here is kept, for
//! each group, how many distinct values there are and the extreme one. When the extreme is retracted the group is *open*:
//! at the epoch's end the operator searches the multiset and answers with the best values there are now. Of these the first
//! is the new extreme; the others are its *runners-up*, so that the next retractions need no search. A group that begins while
//! there is room for its runners-up has them from the start.
//!
//! Input are not rows but transitions of the multiset: weight +1 for a value that appears in the group, −1 for one that goes.

use arrow::array::Array;
use arrow::array::ArrayRef;
use hashbrown::HashMap;

use crate::error::Error;
use crate::error::Result;
use crate::state::Moves;
use crate::types::SqlType;

use super::accumulators::Accumulators;
use super::accumulators::Rows;
use super::accumulators::argument;
use super::byte_column::ByteColumn;
use super::extremes::End;
use super::extremes::ValueCodec;
use super::record::put_bytes;
use super::record::put_integer;
use super::record::take_bytes;
use super::record::take_long;

/// How many values one search brings: the extreme and its runners-up.
pub(super) const SEARCH_VALUES: usize = 32;

/// How many groups may have runners-up in memory.
const RUNNING_GROUPS_MAX: usize = 16_384;

/// About what a value on the heap takes.
const VALUE_BYTES: usize = 32;

/// A column for `min` or `max` over a multiset.
pub(super) struct Ordered {
    /// Which end of the order.
    pub end: End,
    codec: ValueCodec,
    /// How many distinct values there are, by slot.
    present: Vec<i64>,
    /// The extreme, by slot; none also where the group is open.
    best: ByteColumn,
    /// For some groups the values that follow the extreme without a gap, the best first.
    runners: HashMap<u32, Vec<Box<[u8]>>>,
    /// How many these are in all groups: to count them takes long.
    running: usize,
    /// Groups that have values, of which the extreme is not known, each once.
    open: Vec<u32>,
}

impl Ordered {
    pub fn new(end: End, ty: &SqlType) -> Ordered {
        Ordered {
            end,
            codec: ValueCodec::new(ty.arrow()),
            present: Vec::new(),
            best: ByteColumn::default(),
            runners: HashMap::new(),
            running: 0,
            open: Vec::new(),
        }
    }

    /// The groups whose extreme has to be searched for, and no longer their list: each must be answered by
    /// [`found`](Ordered::found).
    pub fn take_open(&mut self) -> Vec<u32> {
        let mut open = std::mem::take(&mut self.open);
        open.retain(|slot| self.is_open(*slot));
        open.sort_unstable();
        open.dedup();
        open
    }

    /// The best values of a group in order: all of them, or at least one.
    pub fn found(&mut self, slot: u32, mut values: Vec<Box<[u8]>>) {
        if values.is_empty() {
            return;
        }
        let runners = values.split_off(1);
        self.best.set(slot as usize, Some(&values[0]));
        if self.runners.len() >= RUNNING_GROUPS_MAX {
            self.runners.clear();
            self.running = 0;
        }
        self.running += runners.len();
        self.running -= self.runners.insert(slot, runners).map_or(0, |before| before.len());
    }

    fn is_open(&self, slot: u32) -> bool {
        self.present[slot as usize] > 0 && self.best.get(slot as usize).is_none()
    }

    fn appear(&mut self, slot: u32, value: &[u8]) {
        let at = slot as usize;
        self.present[at] += 1;
        let Some(best) = self.best.get(at) else {
            if self.present[at] == 1 {
                self.best.set(at, Some(value));
                if self.runners.len() < RUNNING_GROUPS_MAX {
                    self.runners.insert(slot, Vec::new());
                }
            }
            return;
        };
        let better = self.end.prefers(value, best);
        if let Some(runners) = self.runners.get_mut(&slot) {
            let complete = runners.len() as i64 + 2 == self.present[at];
            let place = match better {
                true => 0,
                false => runners.partition_point(|runner| self.end.prefers(runner.as_ref(), value)),
            };
            if place < runners.len() || better || complete {
                let before = runners.len();
                runners.insert(place, Box::from(if better { best } else { value }));
                runners.truncate(SEARCH_VALUES);
                self.running += runners.len() - before;
            }
        }
        if better {
            self.best.set(at, Some(value));
        }
    }

    fn vanish(&mut self, slot: u32, value: &[u8]) {
        let at = slot as usize;
        self.present[at] -= 1;
        let Some(best) = self.best.get(at) else { return };
        let runners = self.runners.get_mut(&slot);
        if best != value {
            if let Some(runners) = runners
                && let Some(place) = runners.iter().position(|runner| runner.as_ref() == value)
            {
                runners.remove(place);
                self.running -= 1;
            }
            return;
        }
        let next = runners.filter(|runners| !runners.is_empty()).map(|runners| runners.remove(0));
        self.best.set(at, next.as_deref());
        match next {
            Some(_) => self.running -= 1,
            None => {
                self.runners.remove(&slot);
                self.open.push(slot);
            }
        }
    }
}

impl Accumulators for Ordered {
    fn grow(&mut self, slots: usize) {
        self.present.resize(slots, 0);
        self.best.grow(slots);
    }

    fn compact(&mut self, moves: &Moves) {
        debug_assert!(self.open.is_empty(), "searches are answered within the epoch");
        moves.apply(&mut self.present);
        self.best.compact(moves);
        for slot in moves.gone() {
            self.running -= self.runners.remove(slot).map_or(0, |gone| gone.len());
        }
        for (from, to) in moves.pairs() {
            if let Some(runners) = self.runners.remove(from) {
                self.runners.insert(*to, runners);
            }
        }
    }

    fn update(&mut self, rows: &Rows<'_>, values: Option<&ArrayRef>) -> Result<()> {
        let values = argument(values)?;
        let keys = self.codec.0.encode(std::slice::from_ref(values), values.len())?;
        rows.each(|row, slot, weight| match weight > 0 {
            true => self.appear(slot as u32, keys.get(row)),
            false => self.vanish(slot as u32, keys.get(row)),
        });
        Ok(())
    }

    fn finish(&self, slots: &[u32], _errors: &mut Vec<(usize, Error)>) -> Result<ArrayRef> {
        debug_assert!(slots.iter().all(|slot| !self.is_open(*slot)), "searches come before results");
        self.codec.decode(&self.best, slots)
    }

    fn write(&self, slot: u32, out: &mut Vec<u8>) {
        put_integer(out, self.present[slot as usize] as i128);
        put_bytes(out, self.best.get(slot as usize));
    }

    fn read(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<()> {
        self.present[slot as usize] = take_long(bytes)?;
        self.best.set(slot as usize, take_bytes(bytes)?);
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        debug_assert_eq!(self.running, self.runners.values().map(Vec::len).sum::<usize>());
        let entry = size_of::<(u32, Vec<Box<[u8]>>)>();
        let runners = self.runners.len() * entry + self.running * (size_of::<Box<[u8]>>() + VALUE_BYTES);
        self.present.len() * size_of::<i64>() + self.best.memory_bytes() + runners
    }
}
