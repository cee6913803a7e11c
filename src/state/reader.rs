//! Reads of state as the epoch before left it.

use std::sync::Arc;

use crate::error::Result;
use crate::state::codec::ByteRows;
use crate::state::scan::Direction;
use crate::state::scan::Scan;
use crate::state::snapshot::Snapshot;
use crate::state::space::Family;
use crate::state::space::Space;
use crate::state::store::store_error;
use crate::state::writes::Sealed;

/// A worker's (or the engine's) way to state as the epoch before left it: sealed or committed.
///
/// What is committed is seen through a snapshot, so the answers stay the same for as long as the reader lives. Whether the
/// snapshot was taken before or after the commit of the sealed epoch makes no difference: whatever that commit changes is
/// answered from the sealed batch.
#[derive(Clone)]
pub struct StateReader {
    /// The epoch before, while its commit may still be running.
    sealed: Option<Arc<Sealed>>,
    /// What is committed.
    snapshot: Snapshot,
}

/// Takes the answer for the key of this index; `None`: there is no such key.
pub type Found<'a> = dyn FnMut(usize, Option<&[u8]>) -> Result<()> + 'a;

impl StateReader {
    /// A reader of the sealed epoch, if any, over the snapshot.
    pub(super) fn new(sealed: Option<Arc<Sealed>>, snapshot: Snapshot) -> StateReader {
        StateReader { sealed, snapshot }
    }

    /// The value of a key.
    pub fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>> {
        if let Some(sealed) = &self.sealed
            && let Ok(index) = sealed.find(space.family(), &space.prefix().key(key), 0..sealed.len())
        {
            return Ok(sealed.value(index).map(<[u8]>::to_vec));
        }
        self.snapshot.get(space, key)
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
        self.take_sealed(family, &full_keys, &mut order, found)?;
        let store = self.snapshot.store();
        let sorted = order.iter().map(|&index| full_keys.get(index));
        let options = self.snapshot.read_options();
        let values = store.db().batched_multi_get_cf_opt(store.family(family), sorted, true, &options);
        for (index, value) in order.into_iter().zip(values) {
            found(index, value.map_err(store_error)?.as_deref())?;
        }
        Ok(())
    }

    /// Entries with `from <= key < to` in key order, sealed over committed.
    pub fn scan(&self, space: Space, from: Option<&[u8]>, to: Option<&[u8]>) -> Scan {
        Scan::new(self.snapshot.clone(), self.sealed.clone(), space, (from, to), Direction::Forward)
    }

    /// The same entries as [`StateReader::scan`], the last first.
    pub fn scan_reverse(&self, space: Space, from: Option<&[u8]>, to: Option<&[u8]>) -> Scan {
        Scan::new(self.snapshot.clone(), self.sealed.clone(), space, (from, to), Direction::Backward)
    }

    /// Answers those keys that the sealed epoch wrote, and leaves in `order`, which is sorted by key, the others.
    fn take_sealed(
        &self,
        family: Family,
        full_keys: &ByteRows,
        order: &mut Vec<usize>,
        found: &mut Found<'_>,
    ) -> Result<()> {
        let Some(sealed) = &self.sealed else {
            return Ok(());
        };
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
}
