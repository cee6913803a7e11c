//! Scans: entries in key order or against it, those that are sealed or spilled merged over the committed ones.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use rocksdb::DBRawIteratorWithThreadMode;

use crate::error::Result;
use crate::state::codec::prefix_end;
use crate::state::reader::Over;
use crate::state::snapshot::Snapshot;
use crate::state::space::Family;
use crate::state::space::Space;
use crate::state::spilled;
use crate::state::store::Rocks;
use crate::state::store::store_error;
use crate::state::writes::Sealed;

/// How much is read ahead of the scan of a whole space. For others RocksDB begins with less.
const READAHEAD_BYTES: usize = 256 * 1024;

/// An iterator over entries that owns what it reads from.
pub struct Scan {
    /// Points into the snapshot's store, and is therefore declared, and dropped, before it.
    committed: DBRawIteratorWithThreadMode<'static, Rocks>,
    /// What lies over it, and is still to come; for the same reason before the snapshot.
    over: Entries,
    /// Keeps the database open, and the rows as they are.
    _snapshot: Snapshot,
    /// Which side gave the last entry and has to move on.
    last: Option<Side>,
    /// What is scanned.
    space: Space,
    /// How long the prefix of the space is, which the caller does not see.
    prefix_len: usize,
    /// Which end comes first.
    direction: Direction,
}

/// Which way a scan goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Forward,
    Backward,
}

/// Entries over the committed ones.
enum Entries {
    Nothing,
    /// Those of the sealed epoch that are still to come.
    Sealed(Arc<Sealed>, Range<usize>),
    /// What the running epoch has spilled. Points into the snapshot's store.
    Spilled(DBRawIteratorWithThreadMode<'static, Rocks>),
}

/// Where an entry comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Committed,
    Over,
    /// From what lies over it, in the place of a committed one.
    Both,
}

impl Scan {
    /// Entries with `from <= key < to` of a space.
    pub(super) fn new(
        snapshot: Snapshot,
        over: &Over,
        space: Space,
        (from, to): (Option<&[u8]>, Option<&[u8]>),
        direction: Direction,
    ) -> Scan {
        let prefix = space.prefix();
        let start = prefix.key(from.unwrap_or_default());
        let end = match to {
            Some(to) => Some(prefix.key(to)),
            None => prefix_end(prefix.as_ref()),
        };
        let whole = from.is_none() && to.is_none();
        let family = space.family();
        let over = match over {
            Over::Nothing => Entries::Nothing,
            Over::Sealed(sealed) => Entries::Sealed(sealed.clone(), sealed.range(family, &start, end.as_deref())),
            Over::Spilled => {
                let end = end.as_deref().map_or_else(|| spilled::end(family), |end| spilled::key(family, end));
                let bounds = (spilled::key(family, &start), Some(end));
                Entries::Spilled(entries(&snapshot, Family::Pending, bounds, whole, direction))
            }
        };
        let committed = entries(&snapshot, family, (start, end), whole, direction);
        Scan { committed, over, _snapshot: snapshot, last: None, space, prefix_len: prefix.len(), direction }
    }

    /// The next entry; the slices live until the next call.
    pub fn next_entry(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        let side = loop {
            self.advance();
            let Some(side) = self.next_side()? else {
                return Ok(None);
            };
            self.last = Some(side);
            if side == Side::Committed || self.over.value(self.direction).is_some() {
                break side;
            }
        };
        let entry = match side {
            Side::Committed => self.committed.item(),
            Side::Over | Side::Both => self.over.key(self.direction).zip(self.over.value(self.direction)),
        };
        Ok(entry.map(|(key, value)| (&key[self.prefix_len..], value)))
    }

    /// Leaps: the next entry is the first at or after this key, inside the bounds of the scan. Of a scan in key order only.
    pub fn seek(&mut self, key: &[u8]) {
        debug_assert!(self.direction == Direction::Forward);
        let key = self.space.prefix().key(key);
        self.committed.seek(&key);
        match &mut self.over {
            Entries::Nothing => {}
            Entries::Sealed(sealed, range) => {
                range.start = sealed.range(self.space.family(), &key, None).start.min(range.end);
            }
            Entries::Spilled(entries) => entries.seek(spilled::key(self.space.family(), &key)),
        }
        self.last = None;
    }

    /// Leaves the last entry behind.
    fn advance(&mut self) {
        let Some(last) = self.last.take() else {
            return;
        };
        if last != Side::Over {
            step(&mut self.committed, self.direction);
        }
        if last != Side::Committed {
            match (&mut self.over, self.direction) {
                (Entries::Nothing, _) => {}
                (Entries::Sealed(_, range), Direction::Forward) => drop(range.next()),
                (Entries::Sealed(_, range), Direction::Backward) => drop(range.next_back()),
                (Entries::Spilled(entries), direction) => step(entries, direction),
            }
        }
    }

    /// Which side has the next key; `None` at the end.
    fn next_side(&self) -> Result<Option<Side>> {
        let committed = self.committed.key();
        if committed.is_none() {
            self.committed.status().map_err(store_error)?;
        }
        let over = self.over.key(self.direction);
        if let (None, Entries::Spilled(entries)) = (over, &self.over) {
            entries.status().map_err(store_error)?;
        }
        Ok(match (committed, over) {
            (None, None) => None,
            (Some(_), None) => Some(Side::Committed),
            (None, Some(_)) => Some(Side::Over),
            (Some(committed), Some(over)) => Some(match (committed.cmp(over), self.direction) {
                (Ordering::Less, Direction::Forward) | (Ordering::Greater, Direction::Backward) => Side::Committed,
                (Ordering::Less, Direction::Backward) | (Ordering::Greater, Direction::Forward) => Side::Over,
                (Ordering::Equal, _) => Side::Both,
            }),
        })
    }
}

impl Entries {
    /// The full key of the next one.
    fn key(&self, direction: Direction) -> Option<&[u8]> {
        match self {
            Entries::Nothing => None,
            Entries::Sealed(sealed, range) => Some(sealed.key(next_of(range, direction)?)),
            Entries::Spilled(entries) => entries.key().map(spilled::full_key),
        }
    }

    /// The value of the next one; `None` if it deletes.
    fn value(&self, direction: Direction) -> Option<&[u8]> {
        match self {
            Entries::Nothing => None,
            Entries::Sealed(sealed, range) => sealed.value(next_of(range, direction)?),
            Entries::Spilled(entries) => spilled::value(entries.value()?),
        }
    }
}

/// Which index of a range comes next.
fn next_of(range: &Range<usize>, direction: Direction) -> Option<usize> {
    match direction {
        _ if range.is_empty() => None,
        Direction::Forward => Some(range.start),
        Direction::Backward => Some(range.end - 1),
    }
}

fn step(entries: &mut DBRawIteratorWithThreadMode<'static, Rocks>, direction: Direction) {
    match direction {
        Direction::Forward => entries.next(),
        Direction::Backward => entries.prev(),
    }
}

/// The entries of a family as of a snapshot between two full keys, at the first of them. The snapshot must outlive it.
fn entries(
    snapshot: &Snapshot,
    family: Family,
    (start, end): (Vec<u8>, Option<Vec<u8>>),
    whole: bool,
    direction: Direction,
) -> DBRawIteratorWithThreadMode<'static, Rocks> {
    let mut options = snapshot.read_options();
    options.set_total_order_seek(true);
    if whole {
        options.set_readahead_size(READAHEAD_BYTES);
    }
    options.set_iterate_lower_bound(start);
    if let Some(end) = end {
        options.set_iterate_upper_bound(end);
    }
    // SAFETY: the database lives as long as the snapshot, whose field is dropped after the iterators'.
    let db: &'static Rocks = unsafe { &*std::ptr::from_ref(snapshot.store().db()) };
    let mut entries = db.raw_iterator_cf_opt(snapshot.store().family(family), options);
    match direction {
        Direction::Forward => entries.seek_to_first(),
        Direction::Backward => entries.seek_to_last(),
    }
    entries
}
