//! The part of one state table that is in memory: keys as slots, and what is known about each. What a slot holds lies in
//! vectors of the owner, indexed by slot.
//!
//! ```text
//! intern ──► slots of keys; new ones are marked as such
//! load   ──► one sorted read for all new ones, none while the table is resident
//! warm   ──► after a restart, shard by shard, until it is resident
//! touch  ──► the slot is dirty until seal
//! seal   ──► dirty slots are written, or deleted
//! evict  ──► clean slots go that were not used lately, so many at once as must
//! ```

use crate::dataflow::operator::Context;
use crate::dataflow::operators::calendar::Calendar;
use crate::dataflow::operators::clock::Clock;
use crate::error::Result;
use crate::ids::Shard;
use crate::ids::TableId;
use crate::state::KeySlots;
use crate::state::Moves;
use crate::state::Residency;
use crate::state::Space;
use crate::state::StateReader;
use crate::state::Writes;
use crate::state::codec::ByteRows;

/// What is known about a slot, as bits.
type Flags = u8;

/// Its value differs from what is stored.
const DIRTY: Flags = 1;
/// The store has an entry for it.
const STORED: Flags = 2;
/// It was used since evictions came by last.
const USED: Flags = 4;
/// The owner's own mark, for the time between [`SlotTable::mark`] and [`SlotTable::unmark`].
const MARKED: Flags = 8;

/// Fewer empty slots than this stay.
const EMPTY_SLOTS_MIN: usize = 1024;

/// The keys of a state table that are in memory.
pub(in crate::dataflow::operators) struct SlotTable {
    /// The table.
    id: TableId,
    /// Keys and their slots, 0, 1, ... without gaps.
    keys: KeySlots,
    /// The shard of each slot.
    shards: Vec<Shard>,
    /// What is known about each slot.
    flags: Vec<Flags>,
    /// Slots that are [`DIRTY`], each once, in the order in which they became so.
    dirty: Vec<u32>,
    /// Slots from this one on are new: their values have not been looked for.
    loaded: usize,
    /// Whether all entries of the table are in memory, so that a new key has no value.
    residency: Residency,
    /// Whether stored slots were let go of, which are not brought back by [`warm`](SlotTable::warm).
    evicted: bool,
    /// About how many slots are empty: [`seal`](SlotTable::seal) found them so.
    empty: usize,
    /// Chooses slots to let go of.
    clock: Clock,
    /// When keys are closed, of a table of which they are.
    calendar: Option<Calendar>,
    /// Closed keys that are only in the store.
    gone: Vec<(Shard, Box<[u8]>)>,
}

impl SlotTable {
    /// Nothing in memory; `fresh` when there is nothing in the store either.
    pub fn new(id: TableId, fresh: bool) -> SlotTable {
        SlotTable {
            id,
            keys: KeySlots::default(),
            shards: Vec::new(),
            flags: Vec::new(),
            dirty: Vec::new(),
            loaded: 0,
            residency: if fresh { Residency::Complete } else { Residency::Partial },
            evicted: false,
            empty: 0,
            clock: Clock::default(),
            calendar: None,
            gone: Vec::new(),
        }
    }

    /// The same for keys that are closed by the watermark so long after the timestamp that they begin with.
    pub fn closing(id: TableId, fresh: bool, after_us: Option<i64>) -> SlotTable {
        let calendar = after_us.map(|after_us| Calendar::new(id, after_us, fresh));
        SlotTable { calendar, ..SlotTable::new(id, fresh) }
    }

    /// The table.
    pub fn id(&self) -> TableId {
        self.id
    }

    /// How many slots there are.
    pub fn len(&self) -> usize {
        self.flags.len()
    }

    /// The key of a slot.
    pub fn key(&self, slot: u32) -> &[u8] {
        self.keys.key(slot)
    }

    /// The shard of a slot.
    pub fn shard(&self, slot: u32) -> Shard {
        self.shards[slot as usize]
    }

    /// Appends the slot of each key, a new one where it has none yet; `shard(row)` is the shard of a new key.
    pub fn intern(&mut self, keys: &ByteRows, slots: &mut Vec<u32>, shard: impl Fn(usize) -> Shard) {
        let mut new = Vec::new();
        self.keys.lookup_or_insert(keys, slots, &mut new);
        for row in new {
            let shard = shard(row as usize);
            self.shards.push(shard);
            if let Some(calendar) = &mut self.calendar {
                calendar.note(keys.get(row as usize), shard);
            }
        }
        self.flags.resize(self.shards.len(), USED);
    }

    /// Looks for the values of new slots: calls `found(slot, record)` for those that have one.
    pub fn load(&mut self, state: &StateReader, mut found: impl FnMut(u32, &mut &[u8]) -> Result<()>) -> Result<()> {
        let new = self.loaded as u32..self.len() as u32;
        self.loaded = self.len();
        if self.residency.is_complete() || new.is_empty() {
            return Ok(());
        }
        let keys = new.clone().map(|slot| (self.space(slot), self.key(slot))).collect::<Vec<_>>();
        let mut stored = Vec::new();
        state.get_many(&keys, &mut |index, record| {
            let Some(mut record) = record else { return Ok(()) };
            let slot = new.start + index as u32;
            stored.push(slot);
            found(slot, &mut record)
        })?;
        stored.iter().for_each(|slot| self.flags[*slot as usize] |= STORED);
        Ok(())
    }

    /// Reads all entries of a shard that are not in memory: calls `found(slot, record)` for each. With the last shard the
    /// table is resident.
    pub fn warm(
        &mut self,
        shard: Shard,
        last: bool,
        state: &StateReader,
        mut found: impl FnMut(u32, &mut &[u8]) -> Result<()>,
    ) -> Result<()> {
        if self.residency.is_complete() {
            return Ok(());
        }
        let (mut keys, mut records) = (ByteRows::default(), ByteRows::default());
        let mut scan = state.scan(Space::State(self.id, shard), None, None);
        while let Some((key, record)) = scan.next_entry()? {
            keys.push(key);
            records.push(record);
        }
        let mut slots = Vec::with_capacity(keys.len());
        self.intern(&keys, &mut slots, |_| shard);
        for (slot, mut record) in slots.into_iter().zip(records.iter()) {
            if slot as usize >= self.loaded {
                self.flags[slot as usize] = STORED;
                found(slot, &mut record)?;
            }
        }
        self.loaded = self.len();
        if last && !self.evicted {
            self.residency = Residency::Complete;
        }
        Ok(())
    }

    fn space(&self, slot: u32) -> Space {
        Space::State(self.id, self.shard(slot))
    }

    /// Sets the owner's mark; whether it was not set before. A marked slot is dirty.
    #[inline]
    pub fn mark(&mut self, slot: u32) -> bool {
        let flags = &mut self.flags[slot as usize];
        if *flags & MARKED != 0 {
            return false;
        }
        if *flags & DIRTY == 0 {
            self.dirty.push(slot);
        }
        *flags |= DIRTY | MARKED | USED;
        true
    }

    /// Takes the owner's mark away.
    #[inline]
    pub fn unmark(&mut self, slot: u32) {
        self.flags[slot as usize] &= !MARKED;
    }

    /// Closes what the watermark closes. Returns the slots concerned, which are dirty now and must hold nothing when they are
    /// sealed; `stored(key, record)` is called for those keys that are only in the store, and go.
    pub fn close(&mut self, cx: &Context<'_>, mut stored: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<Vec<u32>> {
        let Some(calendar) = &mut self.calendar else { return Ok(Vec::new()) };
        let Some(closed) = calendar.take(cx.watermark, cx.state, cx.shards.clone())? else { return Ok(Vec::new()) };
        let holds = |slot: &u32| self.flags[*slot as usize] & (STORED | DIRTY) != 0 && closed.has(self.keys.key(*slot));
        let slots = (0..self.len() as u32).filter(holds).collect::<Vec<_>>();
        if !self.residency.is_complete() {
            closed.stored(cx.state, |shard, key, record| {
                if self.keys.get(key).is_some() {
                    return Ok(());
                }
                self.gone.push((shard, key.into()));
                stored(key, record)
            })?;
        }
        for &slot in &slots {
            let flags = &mut self.flags[slot as usize];
            if *flags & DIRTY == 0 {
                self.dirty.push(slot);
            }
            *flags |= DIRTY;
        }
        Ok(slots)
    }

    /// The slots whose values differ from what is stored.
    pub fn dirty(&self) -> &[u32] {
        &self.dirty
    }

    /// Writes every dirty slot: `record(slot, out)` appends its record and says whether there is anything to keep.
    pub fn seal(&mut self, writes: &mut Writes, mut record: impl FnMut(u32, &mut Vec<u8>) -> bool) {
        let mut value = Vec::new();
        for (shard, key) in self.gone.drain(..) {
            writes.delete(Space::State(self.id, shard), &key);
        }
        for slot in std::mem::take(&mut self.dirty) {
            value.clear();
            if record(slot, &mut value) {
                writes.put(self.space(slot), self.keys.key(slot), &value);
                self.flags[slot as usize] |= STORED;
            } else {
                if self.flags[slot as usize] & STORED != 0 {
                    writes.delete(self.space(slot), self.keys.key(slot));
                }
                self.flags[slot as usize] &= !STORED;
                self.empty += 1;
            }
            self.flags[slot as usize] &= !DIRTY;
        }
    }

    /// Lets go of slots that hold nothing any more, as far as they are more than half of all. Says who gets their places: the owner's
    /// vectors follow. To be called after a seal.
    pub fn without_empty(&mut self) -> Option<Moves> {
        let spare = self.empty.saturating_sub(self.len() / 2);
        if spare < EMPTY_SLOTS_MIN {
            return None;
        }
        let mut way = self.clock.way(self.len(), 1);
        while way.taken() < spare
            && let Some(slot) = way.next()
        {
            if self.flags[slot as usize] & (STORED | DIRTY) == 0 {
                way.take(slot);
            }
        }
        let gone = self.clock.end(way);
        self.empty = if gone.len() < spare { 0 } else { self.empty - spare };
        Some(self.remove(gone))
    }

    /// Lets go of enough clean slots that of `bytes` used only `target` are left, of those not used lately if there are enough. Says
    /// who gets their places: the owner's vectors follow.
    pub fn evict(&mut self, bytes: usize, target: usize) -> Option<Moves> {
        if bytes <= target || self.len() == 0 || !self.dirty.is_empty() {
            return None;
        }
        let spare = (bytes - target) as f64 / bytes as f64;
        let victims = (self.len() as f64 * spare).ceil() as usize;
        let mut way = self.clock.way(self.len(), 2);
        while way.taken() < victims
            && let Some(slot) = way.next()
        {
            let flags = &mut self.flags[slot as usize];
            let used = *flags & USED != 0;
            *flags &= !USED;
            if !way.spares(used) {
                way.take(slot);
            }
        }
        let gone = self.clock.end(way);
        let stored = |slot: &u32| self.flags[*slot as usize] & STORED != 0;
        if gone.iter().any(stored) {
            self.residency = Residency::Partial;
            self.evicted = true;
        }
        Some(self.remove(gone))
    }

    fn remove(&mut self, gone: Vec<u32>) -> Moves {
        let moves = self.keys.remove(gone);
        moves.apply(&mut self.shards);
        moves.apply(&mut self.flags);
        self.loaded = self.len();
        moves
    }

    /// How much memory this takes, in bytes. What is free for slots to come does not count.
    pub fn memory_bytes(&self) -> usize {
        let slots = self.len() * (size_of::<Shard>() + size_of::<Flags>());
        self.keys.memory_bytes() + slots + self.dirty.len() * size_of::<u32>()
    }
}
