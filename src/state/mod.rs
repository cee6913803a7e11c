//! State: epoch-committed tables over RocksDB.
//!
//! Everything lives in few column families by access pattern. An epoch's writes are collected in [`Writes`] (one for each
//! worker and one for the engine), sealed into a [`Sealed`] batch, and committed in one atomic RocksDB write while the next
//! epoch computes; until that commit is done, a [`StateReader`] finds them in the sealed batch. Readers of committed rows
//! hold a [`Snapshot`].

pub mod codec;
pub mod store;

pub use store::{Sealed, Snapshot, Space, StateReader, Store, StoreOptions, Writes};
