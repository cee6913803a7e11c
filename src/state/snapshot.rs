//! A snapshot: the committed rows of one epoch.

use std::sync::Arc;

use rocksdb::ReadOptions;
use rocksdb::SnapshotWithThreadMode;

use crate::error::Result;
use crate::ids::ObjectId;
use crate::state::reader::Over;
use crate::state::scan::Direction;
use crate::state::scan::Scan;
use crate::state::space::Space;
use crate::state::store::Rocks;
use crate::state::store::Store;
use crate::state::store::store_error;

/// So many keys are looked up at once. The blocks in which their values lie stay in memory meanwhile, whatever the cache may hold.
pub(super) const KEYS_AT_ONCE: usize = 1024;

/// The committed rows of one epoch. Cheap to share; holds back compaction while it lives.
#[derive(Clone)]
pub struct Snapshot(Arc<Pinned>);

/// A RocksDB snapshot and the store that it borrows from.
struct Pinned {
    /// Points into `store`, and is therefore declared, and dropped, before it.
    snapshot: SnapshotWithThreadMode<'static, Rocks>,
    /// Keeps the database open.
    store: Arc<Store>,
}

impl Snapshot {
    /// The rows as of the last commit.
    pub(super) fn new(store: &Arc<Store>) -> Snapshot {
        // SAFETY: the database lies inside the Arc, which does not move it and lives, as the field `store` that is dropped
        // after the field `snapshot`, as long as the reference is used; `Pinned` never gives it away.
        let db: &'static Rocks = unsafe { &*std::ptr::from_ref(store.db()) };
        Snapshot(Arc::new(Pinned { snapshot: db.snapshot(), store: store.clone() }))
    }

    /// The value of a key.
    pub fn get(&self, space: Space, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let family = self.store().family(space.family());
        let value = self.store().db().get_cf_opt(family, space.prefix().key(key), &self.read_options());
        value.map_err(store_error)
    }

    /// The values of many keys, in their order.
    pub fn get_many(&self, space: Space, keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
        if let [key] = keys {
            return Ok(vec![self.get(space, key)?]);
        }
        let family = self.store().family(space.family());
        let (sorted, options) = (keys.is_sorted(), self.read_options());
        let mut found = Vec::with_capacity(keys.len());
        for some in keys.chunks(KEYS_AT_ONCE) {
            let full_keys = some.iter().map(|key| space.prefix().key(key)).collect::<Vec<_>>();
            for value in self.store().db().batched_multi_get_cf_opt(family, &full_keys, sorted, &options) {
                found.push(value.map_err(store_error)?.map(|value| value.to_vec()));
            }
        }
        Ok(found)
    }

    /// Entries with `from <= key < to` (`None`: no bound) in key order; the key comes without the space's prefix.
    pub fn scan(&self, space: Space, from: Option<&[u8]>, to: Option<&[u8]>) -> Scan {
        Scan::new(self.clone(), &Over::Nothing, space, (from, to), Direction::Forward)
    }

    /// The same entries as [`Snapshot::scan`], the last first.
    pub fn scan_reverse(&self, space: Space, from: Option<&[u8]>, to: Option<&[u8]>) -> Scan {
        Scan::new(self.clone(), &Over::Nothing, space, (from, to), Direction::Backward)
    }

    /// About how many bytes of disk the rows of a table or view take. What is only in memtables does not count.
    pub fn relation_bytes(&self, object: ObjectId) -> u64 {
        self.store().relation_bytes(object)
    }

    /// The store.
    pub(super) fn store(&self) -> &Arc<Store> {
        &self.0.store
    }

    /// Options for a read at this snapshot. The read must be over before the snapshot is dropped.
    pub(super) fn read_options(&self) -> ReadOptions {
        let mut options = ReadOptions::default();
        options.set_snapshot(&self.0.snapshot);
        options
    }
}
