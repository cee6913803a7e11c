//! Reads of state as the epoch before left it, or as the running one has spilled it.

use std::sync::Arc;

use crate::error::Result;
use crate::state::codec::ByteRows;
use crate::state::scan::Direction;
use crate::state::scan::Scan;
use crate::state::snapshot::KEYS_AT_ONCE;
use crate::state::snapshot::Snapshot;
use crate::state::space::Family;
use crate::state::space::Space;
use crate::state::spilled;
use crate::state::store::store_error;
use crate::state::writes::Sealed;

/// A worker's (or the engine's) way to state as the epoch before left it: sealed or committed. In an epoch that outgrew
/// memory, what it has spilled so far lies over that.
///
/// What is committed is seen through a snapshot, so the answers stay the same for as long as the reader lives. Whether the
/// snapshot was taken before or after the commit of the sealed epoch makes no difference: whatever that commit changes is
/// answered from the sealed batch.
#[derive(Clone)]
pub struct StateReader {
    /// What lies over it.
    over: Over,
    /// What is committed.
    snapshot: Snapshot,
}

/// What lies over the committed state.
#[derive(Clone)]
pub(super) enum Over {
    Nothing,
    /// The epoch before, while its commit may still be running.
    Sealed(Arc<Sealed>),
    /// What the running epoch has spilled, as of the snapshot.
    Spilled,
}

/// Takes the answer for the key of this index; `None`: there is no such key.
pub type Found<'a> = dyn FnMut(usize, Option<&[u8]>) -> Result<()> + 'a;

impl StateReader {
    /// A reader of what lies over the snapshot.
    pub(super) fn new(over: Over, snapshot: Snapshot) -> StateReader {
        StateReader { over, snapshot }
    }

    /// The value of a key.
    pub fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut value = None;
        self.get_many(&[(space, key)], &mut |_, found| {
            value = found.map(<[u8]>::to_vec);
            Ok(())
        })?;
        Ok(value)
    }

    /// Calls `found(index, value)` for each key, in any order; spaces differ by key only in their shard.
    pub fn get_many(&self, keys: &[(Space, &[u8])], found: &mut Found<'_>) -> Result<()> {
        let Some((space, _)) = keys.first() else {
            return Ok(());
        };
        let family = space.family();
        debug_assert!(keys.iter().all(|(space, _)| space.family() == family));
        let mut full_keys = ByteRows::default();
        for (space, key) in keys {
            full_keys.bytes.extend_from_slice(space.prefix().as_ref());
            full_keys.push(key);
        }
        let mut order = (0..keys.len()).collect::<Vec<_>>();
        if !full_keys.iter().is_sorted() {
            order.sort_unstable_by_key(|&index| full_keys.get(index));
        }
        match &self.over {
            Over::Nothing => {}
            Over::Sealed(sealed) => take_sealed(sealed, family, &full_keys, &mut order, found)?,
            Over::Spilled => self.take_spilled(family, &full_keys, &mut order, found)?,
        }
        let store = self.snapshot.store();
        let options = self.snapshot.read_options();
        for some in order.chunks(KEYS_AT_ONCE) {
            let sorted = some.iter().map(|&index| full_keys.get(index));
            let values = store.db().batched_multi_get_cf_opt(store.family(family), sorted, true, &options);
            for (&index, value) in some.iter().zip(values) {
                found(index, value.map_err(store_error)?.as_deref())?;
            }
        }
        Ok(())
    }

    /// Entries with `from <= key < to` in key order, what is sealed or spilled over what is committed.
    pub fn scan(&self, space: Space, from: Option<&[u8]>, to: Option<&[u8]>) -> Scan {
        Scan::new(self.snapshot.clone(), &self.over, space, (from, to), Direction::Forward)
    }

    /// The same entries as [`StateReader::scan`], the last first.
    pub fn scan_reverse(&self, space: Space, from: Option<&[u8]>, to: Option<&[u8]>) -> Scan {
        Scan::new(self.snapshot.clone(), &self.over, space, (from, to), Direction::Backward)
    }

    /// Answers those keys that the running epoch has spilled, and leaves the others in `order`, which is sorted by key.
    fn take_spilled(
        &self,
        family: Family,
        full_keys: &ByteRows,
        order: &mut Vec<usize>,
        found: &mut Found<'_>,
    ) -> Result<()> {
        let store = self.snapshot.store();
        let (pending, options) = (store.family(Family::Pending), self.snapshot.read_options());
        let mut left = Vec::with_capacity(order.len());
        for some in order.chunks(KEYS_AT_ONCE) {
            let keys = some.iter().map(|&index| spilled::key(family, full_keys.get(index))).collect::<Vec<_>>();
            let values = store.db().batched_multi_get_cf_opt(pending, &keys, true, &options);
            for (&index, value) in some.iter().zip(values) {
                match value.map_err(store_error)? {
                    Some(value) => found(index, spilled::value(&value))?,
                    None => left.push(index),
                }
            }
        }
        *order = left;
        Ok(())
    }
}

/// Answers those keys that the sealed epoch wrote, and leaves the others in `order`, which is sorted by key.
fn take_sealed(
    sealed: &Sealed,
    family: Family,
    full_keys: &ByteRows,
    order: &mut Vec<usize>,
    found: &mut Found<'_>,
) -> Result<()> {
    let Some(&first) = order.first() else {
        return Ok(());
    };
    let mut range = sealed.range(family, full_keys.get(first), None);
    let mut left = Vec::with_capacity(order.len());
    for &index in order.iter() {
        match sealed.find(family, full_keys.get(index), range.clone()) {
            Ok(at) => {
                range.start = at;
                found(index, sealed.value(at))?;
            }
            Err(at) => {
                range.start = at;
                left.push(index);
            }
        }
    }
    *order = left;
    Ok(())
}
