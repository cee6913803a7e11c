//! State: epoch-committed tables over RocksDB.
//!
//! Everything lives in few column families by access pattern. An epoch's writes are collected in [`Writes`] (one for each
//! worker and one for the engine), sealed into a [`Sealed`] batch, and committed in one atomic RocksDB write while the next
//! epoch computes; until that commit is done, a [`StateReader`] finds them in the sealed batch. Readers of committed rows
//! hold a [`Snapshot`]. An epoch that outgrows memory [spills](Store::spill) parts of it, which only its own readers see, and
//! counts, whole, when it is [committed](Store::commit_spilled).
//!
//! ```text
//!  epoch n+1 computes:   caches ──miss──► StateReader ──► Sealed(n) ──miss──► RocksDB, as n or n−1 left it
//!                          │                                 │
//!                       Writes ──epoch's end──► Sealed(n+1)  └──► Store::commit, on its own thread
//! ```

pub mod codec;
pub mod space;
pub mod writes;
pub mod store;
pub mod snapshot;
pub mod reader;
pub mod scan;
pub mod slots;
pub mod arena;
mod blocks;
mod damage;
mod logs;
mod spilled;
mod tuning;
#[cfg(test)]
mod tests;

pub use blocks::BlockCounts;
pub use blocks::ThreadBlocks;
pub use reader::StateReader;
pub use scan::Scan;
pub use slots::KeySlots;
pub use slots::Moves;
pub use slots::Residency;
pub use snapshot::Snapshot;
pub use space::Space;
pub use store::Store;
pub use store::StoreOptions;
pub use store::Vitals;
pub use writes::Sealed;
pub use writes::Writes;
