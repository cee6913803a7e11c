//! Who needs which object's changelog, and from where. What somebody needs is recorded; what nobody needs goes.
//!
//! A reader holds a [`Cursor`]; when it is dropped, the need is gone. Besides, an object can say for how long its changelog
//! is kept whoever reads it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use crate::ids::Epoch;
use crate::ids::ObjectId;

/// So many epochs are dropped at once, since each time costs a range tombstone.
const TRIM_EPOCHS: u64 = 256;

/// How far a reader has come.
#[derive(Debug)]
pub struct Cursor {
    /// It needs the epochs after this one.
    read: AtomicU64,
    /// Whether what it reads is gone.
    lost: AtomicBool,
}

/// What may be dropped of a changelog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trim {
    /// Whose.
    pub object: ObjectId,
    /// Every epoch up to this one.
    pub up_to: Epoch,
    /// Nothing is kept any more, the record of where it begins neither.
    pub whole: bool,
}

/// All needs.
#[derive(Debug, Default)]
pub struct Needs {
    kept: BTreeMap<ObjectId, Kept>,
}

/// One object's changelog.
#[derive(Debug)]
struct Kept {
    /// Every later epoch is there.
    since: Epoch,
    /// Who reads it.
    cursors: Vec<Weak<Cursor>>,
    /// How long it is kept, in milliseconds, whoever reads it.
    retention_ms: Option<u64>,
}

impl Cursor {
    fn at(epoch: Epoch) -> Arc<Cursor> {
        Arc::new(Cursor { read: AtomicU64::new(epoch.0), lost: AtomicBool::new(false) })
    }

    /// What it reads is gone.
    pub fn lose(&self) {
        self.lost.store(true, Ordering::Release);
    }

    /// Whether what it reads is gone.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Everything up to this epoch was read.
    pub fn advance(&self, epoch: Epoch) {
        self.read.store(epoch.0, Ordering::Release);
    }

    fn epoch(&self) -> Epoch {
        Epoch(self.read.load(Ordering::Acquire))
    }
}

impl Needs {
    /// A reader of what comes after `now`, the last epoch that was sealed.
    pub fn follow(&mut self, object: ObjectId, now: Epoch) -> Arc<Cursor> {
        self.kept(object, now).add(now)
    }

    /// A reader of what came after `from`; `None` if that is no longer kept.
    pub fn resume(&mut self, object: ObjectId, from: Epoch, now: Epoch) -> Option<Arc<Cursor>> {
        let since = self.kept.get(&object).map_or(now, |kept| kept.since);
        (since <= from).then(|| self.kept(object, since).add(from))
    }

    /// A reader of what came after `from`, which is known to be kept: it was needed until now.
    pub fn restore(&mut self, object: ObjectId, from: Epoch) -> Arc<Cursor> {
        let kept = self.kept(object, from);
        kept.since = kept.since.min(from);
        kept.add(from)
    }

    /// Sets for how long an object's changelog is kept, `since` being where it begins if it is not kept yet.
    pub fn retain(&mut self, object: ObjectId, retention_ms: Option<u64>, since: Epoch) {
        if retention_ms.is_some() || self.kept.contains_key(&object) {
            self.kept(object, since).retention_ms = retention_ms;
        }
    }

    /// Forgets an object that was dropped.
    pub fn forget(&mut self, object: ObjectId) {
        self.kept.remove(&object);
    }

    /// Whether somebody may need an object's changes.
    pub fn is_needed(&self, object: ObjectId) -> bool {
        self.kept.contains_key(&object)
    }

    /// The objects whose changes are to be recorded.
    pub fn objects(&mut self) -> BTreeSet<ObjectId> {
        for kept in self.kept.values_mut() {
            kept.cursors.retain(|cursor| cursor.strong_count() > 0);
        }
        let needed = self.kept.iter().filter(|(_, kept)| kept.is_needed());
        needed.map(|(object, _)| *object).collect()
    }

    /// Those whose changelog is kept for a time: since when it is there, and for how long it is kept.
    pub fn retained(&self) -> impl Iterator<Item = (ObjectId, Epoch, u64)> {
        self.kept.iter().filter_map(|(object, kept)| Some((*object, kept.since, kept.retention_ms?)))
    }

    /// What nobody needs now that `now` is sealed. `expired` says up to where what is kept for a time has grown too old.
    pub fn trim(&mut self, now: Epoch, expired: &BTreeMap<ObjectId, Epoch>) -> Vec<Trim> {
        let mut trims = Vec::new();
        self.kept.retain(|&object, kept| {
            if !kept.is_needed() {
                trims.push(Trim { object, up_to: now, whole: true });
                return false;
            }
            let read = kept.cursors.iter().filter_map(Weak::upgrade).map(|cursor| cursor.epoch()).min();
            let up_to = match (kept.retention_ms, read) {
                (Some(_), read) => expired.get(&object).copied().map(|expired| expired.min(read.unwrap_or(expired))),
                (None, read) => read.filter(|read| read.0 >= kept.since.0 + TRIM_EPOCHS),
            };
            if let Some(up_to) = up_to.filter(|up_to| *up_to > kept.since) {
                kept.since = up_to;
                trims.push(Trim { object, up_to, whole: false });
            }
            true
        });
        trims
    }

    fn kept(&mut self, object: ObjectId, since: Epoch) -> &mut Kept {
        self.kept.entry(object).or_insert(Kept { since, cursors: Vec::new(), retention_ms: None })
    }
}

impl Kept {
    fn add(&mut self, epoch: Epoch) -> Arc<Cursor> {
        let cursor = Cursor::at(epoch);
        self.cursors.push(Arc::downgrade(&cursor));
        cursor
    }

    fn is_needed(&self) -> bool {
        self.retention_ms.is_some() || self.cursors.iter().any(|cursor| cursor.strong_count() > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECT: ObjectId = ObjectId(1);

    fn trim(up_to: u64, whole: bool) -> Vec<Trim> {
        vec![Trim { object: OBJECT, up_to: Epoch(up_to), whole }]
    }

    #[test]
    fn a_need_goes_with_its_reader() {
        let mut needs = Needs::default();
        assert!(needs.objects().is_empty());
        let cursor = needs.follow(OBJECT, Epoch(5));
        assert_eq!(needs.objects(), BTreeSet::from([OBJECT]));
        assert_eq!(needs.trim(Epoch(6), &BTreeMap::new()), []);
        drop(cursor);
        assert!(needs.objects().is_empty());
        assert_eq!(needs.trim(Epoch(7), &BTreeMap::new()), trim(7, true));
        assert_eq!(needs.trim(Epoch(8), &BTreeMap::new()), []);
    }

    #[test]
    fn what_the_slowest_has_read_goes() {
        let mut needs = Needs::default();
        let (slow, fast) = (needs.follow(OBJECT, Epoch(0)), needs.follow(OBJECT, Epoch(0)));
        fast.advance(Epoch(1000));
        assert_eq!(needs.trim(Epoch(1000), &BTreeMap::new()), []);
        slow.advance(Epoch(600));
        assert_eq!(needs.trim(Epoch(1000), &BTreeMap::new()), trim(600, false));
        assert!(needs.resume(OBJECT, Epoch(599), Epoch(1000)).is_none());
        assert!(needs.resume(OBJECT, Epoch(600), Epoch(1000)).is_some());
    }

    #[test]
    fn what_is_kept_for_a_time_waits_for_it_and_for_readers() {
        let mut needs = Needs::default();
        needs.retain(OBJECT, Some(1000), Epoch(3));
        let old = |epoch| BTreeMap::from([(OBJECT, Epoch(epoch))]);
        assert_eq!(needs.trim(Epoch(20), &BTreeMap::new()), []);
        assert_eq!(needs.trim(Epoch(20), &old(10)), trim(10, false));
        let cursor = needs.resume(OBJECT, Epoch(12), Epoch(20)).unwrap();
        assert_eq!(needs.trim(Epoch(20), &old(15)), trim(12, false));
        drop(cursor);
        assert_eq!(needs.trim(Epoch(20), &old(15)), trim(15, false));
        needs.retain(OBJECT, None, Epoch(0));
        assert_eq!(needs.trim(Epoch(21), &BTreeMap::new()), trim(21, true));
    }

    #[test]
    fn what_nobody_keeps_can_be_resumed_from_now_only() {
        let mut needs = Needs::default();
        assert!(needs.resume(OBJECT, Epoch(4), Epoch(5)).is_none());
        assert!(needs.resume(OBJECT, Epoch(5), Epoch(5)).is_some());
    }
}
