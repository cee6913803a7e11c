//! The store: one RocksDB, one atomic write an epoch.

use std::path::Path;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::ids::{Epoch, ObjectId, Shard, TableId};

/// A keyspace: which column family, and under which prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// Catalog records by object id, and the counters of the database.
    Catalog,
    /// Offsets, watermarks and what else moves with each epoch.
    Progress,
    /// Operator state of one table, split by shard.
    State(TableId, Shard),
    /// Rows of a table or view, in key order.
    Relation(ObjectId),
    /// Deltas of an object by epoch.
    Changelog(ObjectId),
}

/// How to open a store.
#[derive(Clone, Debug, Default)]
pub struct StoreOptions {
    /// Bytes for the block cache.
    pub cache_bytes: usize,
    /// Bytes for memtables.
    pub write_buffer_bytes: usize,
}

/// The store. One process at a time.
pub struct Store;

/// What one worker (or the engine) writes in an epoch. Later entries for a key replace earlier ones.
#[derive(Default)]
pub struct Writes;

/// All writes of one epoch: immutable, sorted, readable while its commit runs.
pub struct Sealed;

/// The committed rows of one epoch. Cheap to share; holds back compaction while it lives.
#[derive(Clone)]
pub struct Snapshot;

/// A worker's (or the engine's) way to state as the epoch before left it: sealed or committed.
#[derive(Clone)]
pub struct StateReader;

impl Store {
    /// Opens or creates the store in this directory. Refused with a clear error when the directory is in use, cannot be
    /// written, or was written by a newer version.
    pub fn open(_path: &Path, _options: StoreOptions) -> Result<Arc<Store>> {
        Err(Error::internal(""))
    }

    /// Writes a sealed epoch, atomically; with `sync` it is on disk when this returns.
    pub fn commit(&self, _sealed: &Sealed, _sync: bool) -> Result<()> {
        Err(Error::internal(""))
    }

    /// The epoch of the last commit; `None` in a new store.
    pub fn committed_epoch(&self) -> Result<Option<Epoch>> {
        Err(Error::internal(""))
    }

    /// The rows as of the last commit.
    pub fn snapshot(self: &Arc<Self>) -> Snapshot {
        Snapshot
    }

    /// A reader over the last commit and, before it, the sealed epoch whose commit may still be running.
    pub fn reader(self: &Arc<Self>, _sealed: Option<Arc<Sealed>>) -> StateReader {
        StateReader
    }

    /// Drops everything under these prefixes (of a dropped object), in the background.
    pub fn drop_spaces(&self, _tables: &[TableId], _objects: &[ObjectId]) -> Result<()> {
        Err(Error::internal(""))
    }
}

impl Writes {
    /// Sets a key.
    pub fn put(&mut self, _space: Space, _key: &[u8], _value: &[u8]) {}

    /// Takes a key out.
    pub fn delete(&mut self, _space: Space, _key: &[u8]) {}

    /// How many bytes are held.
    pub fn bytes(&self) -> usize {
        0
    }
}

impl Sealed {
    /// Seals the writes of all workers as one epoch.
    pub fn new(_epoch: Epoch, _parts: Vec<Writes>) -> Sealed {
        Sealed
    }
}

impl Snapshot {
    /// The value of a key.
    pub fn get(&self, _space: Space, _key: &[u8]) -> Result<Option<Vec<u8>>> {
        Err(Error::internal(""))
    }

    /// The values of many keys, in their order.
    pub fn get_many(&self, _space: Space, _keys: &[&[u8]]) -> Result<Vec<Option<Vec<u8>>>> {
        Err(Error::internal(""))
    }

    /// Entries with `from <= key < to` (`None`: no bound) in key order; the key comes without the space's prefix.
    pub fn scan(&self, _space: Space, _from: Option<&[u8]>, _to: Option<&[u8]>) -> Scan {
        Scan
    }
}

/// An iterator over entries that owns what it reads from.
pub struct Scan;

impl Scan {
    /// The next entry; the slices live until the next call.
    pub fn next_entry(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        Err(Error::internal(""))
    }
}

impl StateReader {
    /// Calls `found(index, value)` for each key, in any order; spaces differ by key only in their shard.
    pub fn get_many(
        &self,
        _keys: &[(Space, &[u8])],
        _found: &mut dyn FnMut(usize, Option<&[u8]>) -> Result<()>,
    ) -> Result<()> {
        Err(Error::internal(""))
    }

    /// Entries with `from <= key < to` in key order, sealed over committed.
    pub fn scan(&self, _space: Space, _from: Option<&[u8]>, _to: Option<&[u8]>) -> Scan {
        Scan
    }
}
