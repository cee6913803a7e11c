//! When the keys of a state table are closed, so that what lies under them goes from memory and disk.
//!
//! The keys begin with a timestamp: the end or the start of a window. In the store they lie by shard, and in a shard by time. A
//! calendar knows at which times there are keys and in which shards; so closing costs a scan for each shard that has something
//! to close, and nothing is read while nothing is due. Deleting is an ordinary write of the epoch: exact, whatever happens.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::error::Result;
use crate::ids::Shard;
use crate::ids::TableId;
use crate::state::Space;
use crate::state::StateReader;
use crate::state::codec;
use crate::time::Micros;

/// The times of a table's keys, on one worker.
pub(super) struct Calendar {
    table: TableId,
    /// A key is closed when the watermark has reached its time plus so much.
    after_us: i64,
    /// For each time the shards that may have keys of it.
    due: BTreeMap<Micros, Shards>,
    /// Whether the keys in the store have been gone through.
    complete: bool,
}

/// A set of shards.
#[derive(Clone)]
struct Shards([u64; Shard::COUNT as usize / 64]);

impl Shards {
    fn insert(&mut self, shard: Shard) {
        self.0[shard.0 as usize / 64] |= 1 << (shard.0 % 64);
    }

    fn iter(&self) -> impl Iterator<Item = Shard> {
        (0..Shard::COUNT).filter(|shard| self.0[*shard as usize / 64] >> (shard % 64) & 1 == 1).map(Shard)
    }
}

impl Calendar {
    /// The calendar of a table; `fresh` when there is nothing in the store.
    pub fn new(table: TableId, after_us: i64, fresh: bool) -> Calendar {
        Calendar { table, after_us, due: BTreeMap::new(), complete: fresh }
    }

    /// Notes a key.
    pub fn note(&mut self, key: &[u8], shard: Shard) {
        if let Some(time) = codec::leading_micros(key) {
            self.insert(time, shard);
        }
    }

    fn insert(&mut self, time: Micros, shard: Shard) {
        let none = || Shards([0; Shard::COUNT as usize / 64]);
        self.due.entry(time).or_insert_with(none).insert(shard);
    }

    /// What this watermark closes: takes it out of the calendar. `None` while nothing is due.
    pub fn take(
        &mut self,
        watermark: Option<Micros>,
        state: &StateReader,
        shards: Range<u16>,
    ) -> Result<Option<Closed>> {
        let Some(watermark) = watermark else { return Ok(None) };
        self.complete(state, shards)?;
        let until = watermark.saturating_sub(self.after_us);
        if self.due.first_key_value().is_none_or(|(time, _)| *time > until) {
            return Ok(None);
        }
        let left = match until.checked_add(1) {
            Some(next) => self.due.split_off(&next),
            None => BTreeMap::new(),
        };
        let due = std::mem::replace(&mut self.due, left);
        Ok(Some(Closed { table: self.table, until, due }))
    }

    /// After a restart, leaps through the keys in the store from time to time.
    fn complete(&mut self, state: &StateReader, shards: Range<u16>) -> Result<()> {
        if self.complete {
            return Ok(());
        }
        let (from, to) = (shards.start.to_be_bytes(), shards.end.to_be_bytes());
        let mut scan = state.scan(Space::Table(self.table), Some(&from), Some(&to));
        while let Some((key, _)) = scan.next_entry()? {
            let Some((shard, key)) = key.split_first_chunk::<2>() else { continue };
            let shard = Shard(u16::from_be_bytes(*shard));
            let time = codec::leading_micros(key);
            time.into_iter().for_each(|time| self.insert(time, shard));
            // NULL comes after all times.
            match time.and_then(|time| time.checked_add(1)) {
                Some(next) => scan.seek(&key_at(shard, next)),
                None => scan.seek(&(shard.0 + 1).to_be_bytes()),
            }
        }
        self.complete = true;
        Ok(())
    }
}

/// Keys that a watermark has closed.
pub(super) struct Closed {
    table: TableId,
    /// All whose time is not after this.
    until: Micros,
    /// The shards that may have them, by time.
    due: BTreeMap<Micros, Shards>,
}

impl Closed {
    /// Whether a key is among them.
    pub fn has(&self, key: &[u8]) -> bool {
        codec::leading_micros(key).is_some_and(|time| time <= self.until)
    }

    /// Calls `each` for their entries in the store, as the epoch before left them. A scan of each shard ends where they end: behind
    /// lies, shard after shard, what was closed before, which the store steps over entry by entry.
    pub fn stored(&self, state: &StateReader, mut each: impl FnMut(Shard, &[u8], &[u8]) -> Result<()>) -> Result<()> {
        let mut first = BTreeMap::new();
        for (time, shards) in &self.due {
            for shard in shards.iter() {
                first.entry(shard).or_insert(*time);
            }
        }
        let end = self.until.checked_add(1).map(codec::micros_prefix);
        for (shard, time) in first {
            let space = Space::State(self.table, shard);
            let mut scan = state.scan(space, Some(&codec::micros_prefix(time)), end.as_ref().map(|end| &end[..]));
            while let Some((key, value)) = scan.next_entry()?.filter(|(key, _)| self.has(key)) {
                each(shard, key, value)?;
            }
        }
        Ok(())
    }
}

/// What keys of this time begin with in a table, shard first.
fn key_at(shard: Shard, time: Micros) -> Vec<u8> {
    [&shard.0.to_be_bytes()[..], &codec::micros_prefix(time)].concat()
}
