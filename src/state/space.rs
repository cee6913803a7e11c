//! Where things lie: column families, and the prefixes of keys inside them.

use crate::ids::ObjectId;
use crate::ids::Shard;
use crate::ids::TableId;

/// A keyspace: which column family, and under which prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Space {
    /// Catalog records by object id, and the counters of the database.
    Catalog,
    /// Offsets, watermarks and what else moves with each epoch.
    Progress,
    /// Operator state of one table, split by shard.
    State(TableId, Shard),
    /// All shards of one table's operator state; keys begin with the number of the shard, 2 bytes big-endian.
    Table(TableId),
    /// Rows of a table or view, in key order.
    Relation(ObjectId),
    /// Deltas of an object by epoch.
    Changelog(ObjectId),
}

impl Space {
    /// The column family it lies in.
    pub(super) fn family(self) -> Family {
        match self {
            Space::Catalog => Family::Catalog,
            Space::Progress => Family::Progress,
            Space::State(_, _) | Space::Table(_) => Family::State,
            Space::Relation(_) => Family::Relations,
            Space::Changelog(_) => Family::Changelog,
        }
    }

    /// What all its keys begin with: state by table (4 bytes) and shard (2), relations and changelogs by object (4), all
    /// big-endian.
    pub(super) fn prefix(self) -> Prefix {
        let mut prefix = Prefix { bytes: [0; 6], len: 0 };
        match self {
            Space::Catalog | Space::Progress => {}
            Space::State(table, shard) => {
                prefix.append(table.0.to_be_bytes());
                prefix.append(shard.0.to_be_bytes());
            }
            Space::Table(table) => prefix.append(table.0.to_be_bytes()),
            Space::Relation(object) | Space::Changelog(object) => prefix.append(object.0.to_be_bytes()),
        }
        prefix
    }
}

/// The first bytes of every key of a space.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prefix {
    bytes: [u8; 6],
    len: u8,
}

impl Prefix {
    fn append<const N: usize>(&mut self, bytes: [u8; N]) {
        self.bytes[self.len as usize..][..N].copy_from_slice(&bytes);
        self.len += N as u8;
    }

    /// How long it is.
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    /// A full key of the space.
    pub(super) fn key(&self, key: &[u8]) -> Vec<u8> {
        [self.as_ref(), key].concat()
    }
}

impl AsRef<[u8]> for Prefix {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len as usize]
    }
}

/// The column families. `Pending` holds what epochs larger than memory write ahead: see [`super::spilled`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(super) enum Family {
    /// RocksDB's default one: records about the store itself.
    Meta,
    Catalog,
    Progress,
    State,
    Relations,
    Changelog,
    Pending,
}

impl Family {
    /// All of them.
    pub(super) const ALL: [Family; 7] = [
        Family::Meta,
        Family::Catalog,
        Family::Progress,
        Family::State,
        Family::Relations,
        Family::Changelog,
        Family::Pending,
    ];

    /// Its name in RocksDB.
    pub(super) fn name(self) -> &'static str {
        match self {
            Family::Meta => "default",
            Family::Catalog => "catalog",
            Family::Progress => "progress",
            Family::State => "state",
            Family::Relations => "relations",
            Family::Changelog => "changelog",
            Family::Pending => "pending",
        }
    }
}
