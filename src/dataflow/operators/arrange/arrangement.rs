//! The arrangement: key → rows with weights, in memory as far as they fit, on disk in chunks.

use std::mem;

use arrow::array::{ArrayRef, Int64Array};
use hashbrown::HashMap;

use crate::dataflow::operators::arrange::cache::Cache;
use crate::dataflow::operators::arrange::cache::Known;
use crate::dataflow::operators::arrange::cache::Slot;
use crate::dataflow::operators::arrange::chunks::HEAD;
use crate::dataflow::operators::arrange::close::Closing;
use crate::dataflow::operators::arrange::lookup::Fold;
use crate::dataflow::operators::arrange::seal::Buffers;
use crate::dataflow::operators::calendar::Calendar;
use crate::dataflow::operators::clock::Clock;
use crate::delta::Delta;
use crate::error::Result;
use crate::ids::{Shard, TableId};
use crate::state::Space;
use crate::state::StateReader;
use crate::state::codec;
use crate::state::codec::ByteRows;
use crate::state::codec::KeyCodec;
use crate::state::codec::RowCodec;
use crate::types::Column;

/// A collection indexed by a key: one worker's shards of it.
///
/// What a step brings is [received](Arrangement::receive) while readers still see what was before, and
/// [applied](Arrangement::apply) when the step is through. An append reads no more than the head of its key; a reader
/// finds all keys it wants at once, so that what is not in memory comes in with two sorted multi-gets.
pub struct Arrangement {
    /// The columns of its rows.
    columns: Vec<Column>,
    /// The key's columns.
    pub(super) key: Vec<usize>,
    /// The form of keys.
    pub(super) key_codec: KeyCodec,
    /// The form of rows.
    pub(super) row_codec: RowCodec,
    /// Where it lies on disk.
    pub(super) table: TableId,
    /// What is in memory.
    pub(super) cache: Cache,
    /// For each shard whether every key of it is in memory, so that one that is not does not exist.
    pub(super) resident: Vec<bool>,
    /// What this step brought.
    pub(super) pending: Vec<Pending>,
    /// The keys that this epoch changed.
    pub(super) dirty: Vec<Slot>,
    /// Tails of chunks that are to be folded when the epoch is sealed.
    pub(super) folds: HashMap<Slot, Fold>,
    /// About how many keys in memory have no rows.
    pub(super) vacant: usize,
    /// Chooses keys to let go of.
    pub(super) clock: Clock,
    /// Used again and again by seals.
    pub(super) buffers: Buffers,
    /// When keys are closed, if they are.
    pub(super) calendar: Option<Calendar>,
    /// What this epoch closes.
    pub(super) closing: Option<Closing>,
}

/// Rows received and not yet applied.
pub(super) struct Pending {
    pub(super) slots: Vec<Slot>,
    rows: ByteRows,
    weights: Int64Array,
}

impl Arrangement {
    /// An arrangement of rows of these columns by these of them, closed as its node says. With `fresh` there is nothing on disk yet.
    pub fn new(
        columns: &[Column],
        key: &[usize],
        table: TableId,
        closes_after_us: Option<i64>,
        fresh: bool,
    ) -> Arrangement {
        Arrangement {
            columns: columns.to_vec(),
            key: key.to_vec(),
            key_codec: KeyCodec::new(key.iter().map(|&k| columns[k].ty.arrow()).collect()),
            row_codec: RowCodec::new(columns.iter().map(|c| c.ty.arrow()).collect()),
            table,
            cache: Cache::default(),
            resident: vec![fresh; Shard::COUNT as usize],
            pending: Vec::new(),
            dirty: Vec::new(),
            folds: HashMap::new(),
            vacant: 0,
            clock: Clock::default(),
            buffers: Buffers::default(),
            calendar: closes_after_us.map(|after_us| Calendar::new(table, after_us, fresh)),
            closing: None,
        }
    }

    /// The columns of its rows.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The keys of a delta of its rows.
    pub fn keys_of(&self, delta: &Delta) -> Result<ByteRows> {
        let columns = self.key.iter().map(|&k| delta.batch().column(k).clone()).collect::<Vec<_>>();
        self.key_codec.encode(&columns, delta.len())
    }

    /// Takes rows in, to be applied after the step. Reads the heads of keys that are not in memory.
    pub fn receive(&mut self, delta: &Delta, state: &StateReader) -> Result<()> {
        let keys = self.keys_of(delta)?;
        let rows = self.encode(delta)?;
        let resident = &self.resident;
        let known = |shard: Shard| if resident[shard.0 as usize] { Known::All } else { Known::Nothing };
        let slots = self.cache.find_or_insert(&keys, known);
        let mut fresh = Vec::new();
        for &slot in &slots {
            let entry = self.cache.entry(slot);
            entry.used = true;
            if entry.known == Known::Nothing || (entry.chain.is_full() && !entry.listed) {
                fresh.push(slot);
            }
        }
        if !fresh.is_empty() {
            fresh.sort_unstable();
            fresh.dedup();
            self.read_heads(&fresh, state)?;
            self.prepare_folds(&fresh, state)?;
        }
        self.pending.push(Pending { slots, rows, weights: delta.weights_array().clone() });
        Ok(())
    }

    /// Applies what was received: readers see it from now on.
    pub fn apply(&mut self) {
        let known = self.dirty.len();
        for Pending { slots, rows, weights } in mem::take(&mut self.pending) {
            for ((&slot, row), weight) in slots.iter().zip(rows.iter()).zip(weights.values()) {
                self.cache.change(slot, *weight, row);
                let entry = self.cache.entry(slot);
                if !entry.listed {
                    entry.listed = true;
                    self.dirty.push(slot);
                }
            }
        }
        self.note_keys(known);
    }

    /// The keys' places in memory, with all their rows; `None` for those that have none. Good until the step ends.
    pub(in crate::dataflow::operators) fn find(
        &mut self,
        keys: &ByteRows,
        state: &StateReader,
    ) -> Result<Vec<Option<Slot>>> {
        let slots = self.places(keys, state)?;
        self.read_found(&slots, state)?;
        Ok(slots)
    }

    /// As [`find`](Arrangement::find), if these keys have together no more than `rows` rows, which are taken off it; else `None`, and
    /// none of them is read.
    pub(in crate::dataflow::operators) fn find_within(
        &mut self,
        keys: &ByteRows,
        rows: &mut usize,
        state: &StateReader,
    ) -> Result<Option<Vec<Option<Slot>>>> {
        let slots = self.places(keys, state)?;
        let found = slots.iter().flatten().map(|slot| self.cache.rows_at(*slot)).sum::<usize>();
        let Some(left) = rows.checked_sub(found) else { return Ok(None) };
        *rows = left;
        self.read_found(&slots, state)?;
        Ok(Some(slots))
    }

    /// How many rows each key has, about; none of them is read.
    pub(in crate::dataflow::operators) fn counts(
        &mut self,
        keys: &ByteRows,
        state: &StateReader,
    ) -> Result<Vec<usize>> {
        let slots = self.places(keys, state)?;
        Ok(slots.into_iter().map(|slot| slot.map_or(0, |slot| self.cache.rows_at(slot))).collect())
    }

    /// The sum of the weights of each key's rows; none of them is read.
    pub(in crate::dataflow::operators) fn weights(&mut self, keys: &ByteRows, state: &StateReader) -> Result<Vec<i64>> {
        let slots = self.places(keys, state)?;
        Ok(slots.into_iter().map(|slot| slot.map_or(0, |slot| self.cache.entries[slot as usize].net)).collect())
    }

    /// The keys' places in memory, of which at least the heads are known.
    fn places(&mut self, keys: &ByteRows, state: &StateReader) -> Result<Vec<Option<Slot>>> {
        let mut slots = keys.iter().map(|key| self.cache.keys.get(key)).collect::<Vec<_>>();
        self.insert_absent(keys, &mut slots);
        let mut unknown = Vec::new();
        for &slot in slots.iter().flatten() {
            let entry = self.cache.entry(slot);
            entry.used = true;
            if entry.known == Known::Nothing {
                unknown.push(slot);
            }
        }
        if !unknown.is_empty() {
            unknown.sort_unstable();
            unknown.dedup();
            self.read_heads(&unknown, state)?;
        }
        Ok(slots)
    }

    /// Reads the rows of those of these keys that are not in memory with all of them.
    fn read_found(&mut self, slots: &[Option<Slot>], state: &StateReader) -> Result<()> {
        let entries = &self.cache.entries;
        let missing = slots.iter().flatten().copied().filter(|slot| entries[*slot as usize].known != Known::All);
        let mut missing = missing.collect::<Vec<_>>();
        if missing.is_empty() {
            return Ok(());
        }
        missing.sort_unstable();
        missing.dedup();
        self.read_rows(&missing, state)
    }

    /// Brings all keys of a shard into memory with their rows: it is resident then.
    pub fn warm(&mut self, shard: Shard, state: &StateReader) -> Result<()> {
        if self.resident[shard.0 as usize] {
            return Ok(());
        }
        let mut keys = ByteRows::default();
        let mut scan = state.scan(Space::State(self.table, shard), None, None);
        while let Some((key, _)) = scan.next_entry()? {
            if let Some(key) = key.strip_suffix(&HEAD.to_be_bytes()) {
                keys.push(key);
            }
        }
        let mut slots = self.cache.find_or_insert(&keys, |_| Known::Nothing);
        slots.retain(|slot| self.cache.entry(*slot).known != Known::All);
        self.read_heads(&slots, state)?;
        self.read_rows(&slots, state)?;
        self.resident[shard.0 as usize] = true;
        Ok(())
    }

    /// The rows of a key that was [found](Arrangement::find), with their weights.
    pub(in crate::dataflow::operators) fn rows_of(&self, slot: Slot) -> impl Iterator<Item = (i64, &[u8])> {
        self.cache.rows_of(slot)
    }

    /// The rows of a delta in the form in which they are kept.
    pub(in crate::dataflow::operators) fn encode(&self, delta: &Delta) -> Result<ByteRows> {
        self.row_codec.encode(delta.batch().columns(), delta.len())
    }

    /// The columns of rows in that form.
    pub(in crate::dataflow::operators) fn decode<'a>(
        &self,
        rows: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Vec<ArrayRef>> {
        self.row_codec.decode(rows)
    }

    /// How much memory it takes, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.cache.memory_bytes()
    }

    /// Lets go of keys until it takes at most `bytes`, of those that nobody asked for lately if there are enough. To be called after a
    /// seal, when all are clean.
    pub fn shrink(&mut self, bytes: usize) {
        let mut spare = self.memory_bytes().saturating_sub(bytes);
        if spare == 0 || !self.dirty.is_empty() || !self.pending.is_empty() {
            return;
        }
        let mut way = self.clock.way(self.cache.entries.len(), 2);
        while spare > 0
            && let Some(slot) = way.next()
        {
            let entry = self.cache.entry(slot);
            if way.spares(mem::take(&mut entry.used)) {
                continue;
            }
            match entry.net == 0 && entry.known == Known::All {
                true => self.vacant = self.vacant.saturating_sub(1),
                false => self.resident[entry.shard.0 as usize] = false,
            }
            spare = spare.saturating_sub(self.cache.size_of(slot));
            way.take(slot);
        }
        let gone = self.clock.end(way);
        self.cache.remove(gone);
    }

    /// Gives a slot to those keys that have none, unless it is known that they have no rows.
    fn insert_absent(&mut self, keys: &ByteRows, slots: &mut [Option<Slot>]) {
        if keys.is_empty() || self.resident.iter().all(|resident| *resident) {
            return;
        }
        let (mut absent, mut at) = (ByteRows::default(), Vec::new());
        for row in (0..slots.len()).filter(|row| slots[*row].is_none()) {
            if !self.resident[Shard::of(codec::hash(keys.get(row))).0 as usize] {
                absent.push(keys.get(row));
                at.push(row);
            }
        }
        let inserted = self.cache.find_or_insert(&absent, |_| Known::Nothing);
        at.into_iter().zip(inserted).for_each(|(row, slot)| slots[row] = Some(slot));
    }
}
