//! Newtypes for everything that is counted or named by number, so that no two are ever mixed up.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// An object of the catalog; also its Postgres OID. User objects start at [`ObjectId::FIRST`].
    ObjectId(u32)
}
id! {
    /// One step of the whole database. Never used twice.
    Epoch(u64)
}
id! {
    /// A node of one view's incremental plan.
    NodeId(u32)
}
id! {
    /// A state table of an operator; unique in the database, allotted when the plan is made, never used again.
    TableId(u32)
}
id! {
    /// One of the [`Shard::COUNT`] fixed parts that operator state is split into.
    Shard(u16)
}
id! {
    /// A worker thread, counted from 0.
    WorkerId(u16)
}

impl ObjectId {
    /// The first OID that Postgres gives to a user's object.
    pub const FIRST: ObjectId = ObjectId(16384);
}

impl Epoch {
    /// The epoch after this one.
    pub fn next(self) -> Epoch {
        Epoch(self.0 + 1)
    }
}

/// One of the portions in which an epoch is written: the first is the only one, unless the epoch outgrows memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Portion {
    /// The epoch.
    pub epoch: Epoch,
    /// Counted from 0.
    pub number: u32,
}

impl Portion {
    /// So many portions an epoch may have.
    pub const COUNT: u32 = 1 << 12;

    /// The first portion of an epoch.
    pub fn first(epoch: Epoch) -> Portion {
        Portion { epoch, number: 0 }
    }

    /// The portion after this one.
    pub fn next(self) -> Portion {
        Portion { number: self.number + 1, ..self }
    }

    /// The number, among all of the epoch, of a page of this portion.
    pub fn page(self, page: usize) -> u32 {
        let pages = u32::MAX / Portion::COUNT + 1;
        debug_assert!(self.number < Portion::COUNT && page < pages as usize);
        self.number * pages + page as u32
    }
}

impl Shard {
    /// How many shards there are, for ever: it is part of the disk format.
    pub const COUNT: u16 = 1024;

    /// The shard of a key by its hash (the low bits, as stored on disk).
    pub fn of(hash: u64) -> Shard {
        Shard((hash % Shard::COUNT as u64) as u16)
    }

    /// The worker that owns this shard when there are `workers` of them: each owns one range.
    pub fn owner(self, workers: usize) -> WorkerId {
        WorkerId((self.0 as usize * workers / Shard::COUNT as usize) as u16)
    }
}
