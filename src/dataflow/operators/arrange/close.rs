//! Closing keys of an arrangement: what the watermark has passed in all inputs of the joins that read it.

use crate::dataflow::operator::Context;
use crate::dataflow::operators::arrange::arrangement::Arrangement;
use crate::dataflow::operators::arrange::cache::Known;
use crate::dataflow::operators::arrange::cache::Slot;
use crate::dataflow::operators::arrange::chunks::Chain;
use crate::dataflow::operators::calendar::Closed;
use crate::error::Result;
use crate::ids::Shard;
use crate::state::{Space, Writes};

/// What an epoch closes.
pub(super) struct Closing {
    keys: Closed,
    /// Their heads and chunks in the store.
    stored: Vec<(Shard, Box<[u8]>)>,
}

impl Arrangement {
    /// Looks for what the watermark closes. It stays readable until the epoch is sealed.
    pub fn close(&mut self, cx: &Context<'_>) -> Result<()> {
        let Some(calendar) = &mut self.calendar else { return Ok(()) };
        // What came in the last pass is not applied yet; it may be closed already.
        for &slot in self.pending.iter().flat_map(|pending| &pending.slots) {
            calendar.note(self.cache.key(slot), self.cache.entries[slot as usize].shard);
        }
        let Some(keys) = calendar.take(cx.watermark, cx.state, cx.shards.clone())? else { return Ok(()) };
        let mut stored = Vec::new();
        keys.stored(cx.state, |shard, key, _| {
            stored.push((shard, key.into()));
            Ok(())
        })?;
        self.closing = Some(Closing { keys, stored });
        Ok(())
    }

    /// Puts the changed keys from this one on into the calendar.
    pub(super) fn note_keys(&mut self, from: usize) {
        let Some(calendar) = &mut self.calendar else { return };
        for &slot in &self.dirty[from..] {
            calendar.note(self.cache.key(slot), self.cache.entries[slot as usize].shard);
        }
    }

    /// Lets go of what was closed, in memory and on disk.
    pub(super) fn let_go(&mut self, writes: &mut Writes) {
        let Some(Closing { keys, stored }) = self.closing.take() else { return };
        for (shard, key) in stored {
            writes.delete(Space::State(self.table, shard), &key);
        }
        for slot in 0..self.cache.entries.len() as Slot {
            let entry = &self.cache.entries[slot as usize];
            let vacant = entry.net == 0 && !entry.stored && entry.rows == 0;
            if vacant || !keys.has(self.cache.key(slot)) {
                continue;
            }
            self.cache.clear(slot);
            let entry = self.cache.entry(slot);
            (entry.net, entry.stored, entry.listed, entry.known) = (0, false, false, Known::All);
            entry.chain = Chain::default();
            self.vacant += 1;
        }
        self.dirty.retain(|slot| self.cache.entries[*slot as usize].listed);
        self.folds.retain(|slot, _| self.cache.entries[*slot as usize].listed);
    }
}
