//! Scans: entries in key order or against it, those of the sealed epoch merged over the committed ones.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use rocksdb::DBRawIteratorWithThreadMode;

use crate::error::Result;
use crate::state::codec::prefix_end;
use crate::state::snapshot::Snapshot;
use crate::state::space::Space;
use crate::state::store::Rocks;
use crate::state::store::store_error;
use crate::state::writes::Sealed;

/// How much is read ahead of the scan of a whole space. For others RocksDB begins with less.
const READAHEAD_BYTES: usize = 256 * 1024;

/// An iterator over entries that owns what it reads from.
pub struct Scan {
    /// Points into the snapshot's store, and is therefore declared, and dropped, before it.
    committed: DBRawIteratorWithThreadMode<'static, Rocks>,
    /// Keeps the database open, and the rows as they are.
    _snapshot: Snapshot,
    /// The sealed epoch over it, and which of its entries are still to come.
    sealed: Option<(Arc<Sealed>, Range<usize>)>,
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

/// Where an entry comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Committed,
    Sealed,
    /// From the sealed epoch, in the place of a committed one.
    Both,
}

impl Scan {
    /// Entries with `from <= key < to` of a space.
    pub(super) fn new(
        snapshot: Snapshot,
        sealed: Option<Arc<Sealed>>,
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
        let mut options = snapshot.read_options();
        options.set_total_order_seek(true);
        if from.is_none() && to.is_none() {
            options.set_readahead_size(READAHEAD_BYTES);
        }
        options.set_iterate_lower_bound(start.clone());
        if let Some(end) = &end {
            options.set_iterate_upper_bound(end.clone());
        }
        // SAFETY: the database lives as long as the snapshot, whose field is dropped after the iterator's.
        let db: &'static Rocks = unsafe { &*std::ptr::from_ref(snapshot.store().db()) };
        let mut committed = db.raw_iterator_cf_opt(snapshot.store().family(space.family()), options);
        match direction {
            Direction::Forward => committed.seek_to_first(),
            Direction::Backward => committed.seek_to_last(),
        }
        let sealed = sealed.map(|sealed| {
            let range = sealed.range(space.family(), &start, end.as_deref());
            (sealed, range)
        });
        Scan { committed, _snapshot: snapshot, sealed, last: None, space, prefix_len: prefix.len(), direction }
    }

    /// The next entry; the slices live until the next call.
    pub fn next_entry(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        let side = loop {
            self.advance();
            let Some(side) = self.next_side()? else {
                return Ok(None);
            };
            self.last = Some(side);
            if side == Side::Committed || self.sealed_value().is_some() {
                break side;
            }
        };
        let entry = match side {
            Side::Committed => self.committed.item(),
            Side::Sealed | Side::Both => self.sealed_key().zip(self.sealed_value()),
        };
        Ok(entry.map(|(key, value)| (&key[self.prefix_len..], value)))
    }

    /// Leaps: the next entry is the first at or after this key, inside the bounds of the scan. Of a scan in key order only.
    pub fn seek(&mut self, key: &[u8]) {
        debug_assert!(self.direction == Direction::Forward);
        let key = self.space.prefix().key(key);
        self.committed.seek(&key);
        if let Some((sealed, range)) = &mut self.sealed {
            range.start = sealed.range(self.space.family(), &key, None).start.min(range.end);
        }
        self.last = None;
    }

    /// Leaves the last entry behind.
    fn advance(&mut self) {
        let Some(last) = self.last.take() else {
            return;
        };
        if last != Side::Sealed {
            match self.direction {
                Direction::Forward => self.committed.next(),
                Direction::Backward => self.committed.prev(),
            }
        }
        if last != Side::Committed
            && let Some((_, range)) = &mut self.sealed
        {
            match self.direction {
                Direction::Forward => range.next(),
                Direction::Backward => range.next_back(),
            };
        }
    }

    /// Which side has the next key; `None` at the end.
    fn next_side(&self) -> Result<Option<Side>> {
        let committed = self.committed.key();
        if committed.is_none() {
            self.committed.status().map_err(store_error)?;
        }
        Ok(match (committed, self.sealed_key()) {
            (None, None) => None,
            (Some(_), None) => Some(Side::Committed),
            (None, Some(_)) => Some(Side::Sealed),
            (Some(committed), Some(sealed)) => Some(match (committed.cmp(sealed), self.direction) {
                (Ordering::Less, Direction::Forward) | (Ordering::Greater, Direction::Backward) => Side::Committed,
                (Ordering::Less, Direction::Backward) | (Ordering::Greater, Direction::Forward) => Side::Sealed,
                (Ordering::Equal, _) => Side::Both,
            }),
        })
    }

    /// The full key of the sealed epoch's next entry.
    fn sealed_key(&self) -> Option<&[u8]> {
        let (sealed, index) = self.sealed_next()?;
        Some(sealed.key(index))
    }

    /// The value of the sealed epoch's next entry; `None` if it deletes.
    fn sealed_value(&self) -> Option<&[u8]> {
        let (sealed, index) = self.sealed_next()?;
        sealed.value(index)
    }

    fn sealed_next(&self) -> Option<(&Sealed, usize)> {
        let (sealed, range) = self.sealed.as_ref()?;
        let next = match self.direction {
            Direction::Forward => range.start,
            Direction::Backward => range.end.wrapping_sub(1),
        };
        (!range.is_empty()).then_some((sealed, next))
    }
}
