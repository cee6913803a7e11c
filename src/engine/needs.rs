//! Who needs which object's changelog, and from where. What somebody needs is recorded; what nobody needs goes.
//!
//! A reader holds a [`Cursor`]; when it is dropped, the need is gone. Besides, an object can say for how long its changelog
//! is kept whoever reads it, and a named subscription needs it until it is acknowledged: these needs are *lasting*, they outlive
//! the process.

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
    /// How long it needs them.
    term: Term,
}

/// How long a reader needs what it has not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Term {
    /// As long as the process lives.
    Passing,
    /// Longer; but no longer than so many milliseconds, if that is said.
    Lasting { retention_ms: Option<u64> },
}

/// Up to which epoch the changelog of an object is older than so many milliseconds.
pub type Expired = BTreeMap<(ObjectId, u64), Epoch>;

/// What may be dropped of a changelog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trim {
    /// Whose.
    pub object: ObjectId,
    /// Every epoch up to this one.
    pub up_to: Epoch,
    /// Nothing is kept any more, the record of where it begins neither.
    pub whole: bool,
    /// Where it begins now is to be found again by the next process.
    pub lasting: bool,
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
    fn at(epoch: Epoch, term: Term) -> Arc<Cursor> {
        Arc::new(Cursor { read: AtomicU64::new(epoch.0), lost: AtomicBool::new(false), term })
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

    /// The last that was read.
    pub fn epoch(&self) -> Epoch {
        Epoch(self.read.load(Ordering::Acquire))
    }

    /// Up to which epoch it needs nothing of an object's changes.
    fn needs_after(&self, object: ObjectId, expired: &Expired) -> Epoch {
        let old = match self.term {
            Term::Lasting { retention_ms: Some(retention_ms) } => expired.get(&(object, retention_ms)).copied(),
            Term::Lasting { retention_ms: None } | Term::Passing => None,
        };
        self.epoch().max(old.unwrap_or(Epoch(0)))
    }
}

impl Needs {
    /// A reader of what comes after `now`, the last epoch that was sealed.
    pub fn follow(&mut self, object: ObjectId, now: Epoch) -> Arc<Cursor> {
        self.kept(object, now).add(now, Term::Passing)
    }

    /// A reader of what came after `from`; `None` if that is no longer kept.
    pub fn resume(&mut self, object: ObjectId, from: Epoch, now: Epoch) -> Option<Arc<Cursor>> {
        let since = self.since(object).unwrap_or(now);
        (since <= from).then(|| self.kept(object, since).add(from, Term::Passing))
    }

    /// A reader of what came after `from`, which is known to be kept: it was needed until now.
    pub fn restore(&mut self, object: ObjectId, from: Epoch) -> Arc<Cursor> {
        let kept = self.kept(object, from);
        kept.since = kept.since.min(from);
        kept.add(from, Term::Passing)
    }

    /// A reader that outlives the process, and needs what came after `from`. The changelog is there after `since`.
    pub fn name(&mut self, object: ObjectId, (from, since): (Epoch, Epoch), retention_ms: Option<u64>) -> Arc<Cursor> {
        self.kept(object, since).add(from, Term::Lasting { retention_ms })
    }

    /// Sets for how long an object's changelog is kept, `since` being where it begins if it is not kept yet.
    pub fn retain(&mut self, object: ObjectId, retention_ms: Option<u64>, since: Epoch) {
        if retention_ms.is_some() || self.kept.contains_key(&object) {
            self.kept(object, since).retention_ms = retention_ms;
        }
    }

    /// After which epoch an object's changelog is there, if it is kept at all.
    pub fn since(&self, object: ObjectId) -> Option<Epoch> {
        self.kept.get(&object).map(|kept| kept.since)
    }

    /// Nothing was dropped of an object's changelog after `since`, as it may have been said.
    pub fn return_to(&mut self, object: ObjectId, since: Epoch) {
        if let Some(kept) = self.kept.get_mut(&object) {
            kept.since = since;
        }
    }

    /// Whether the next process will need an object's changes.
    pub fn is_lasting(&self, object: ObjectId) -> bool {
        self.kept.get(&object).is_some_and(Kept::is_lasting)
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

    /// What is kept for a time: whose, since when it is there, and for how long somebody needs it.
    pub fn retained(&self) -> Vec<(ObjectId, Epoch, u64)> {
        let all = self.kept.iter().flat_map(|(object, kept)| {
            kept.retentions().into_iter().map(|retention_ms| (*object, kept.since, retention_ms))
        });
        all.collect()
    }

    /// What nobody needs now that `now` is sealed. `expired` says up to where what is kept for a time has grown too old, once
    /// in a while: what lasts is dropped then.
    pub fn trim(&mut self, now: Epoch, expired: Option<&Expired>) -> Vec<Trim> {
        let mut trims = Vec::new();
        self.kept.retain(|&object, kept| {
            if !kept.is_needed() {
                trims.push(Trim { object, up_to: now, whole: true, lasting: false });
                return false;
            }
            let lasting = kept.is_lasting();
            let up_to = match (lasting, expired) {
                (true, None) => None,
                (true, Some(expired)) => kept.needed_after(object, expired),
                (false, _) => {
                    kept.needed_after(object, &Expired::new()).filter(|read| read.0 >= kept.since.0 + TRIM_EPOCHS)
                }
            };
            if let Some(up_to) = up_to.filter(|up_to| *up_to > kept.since) {
                kept.since = up_to;
                trims.push(Trim { object, up_to, whole: false, lasting });
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
    fn add(&mut self, epoch: Epoch, term: Term) -> Arc<Cursor> {
        let cursor = Cursor::at(epoch, term);
        self.cursors.push(Arc::downgrade(&cursor));
        cursor
    }

    fn readers(&self) -> impl Iterator<Item = Arc<Cursor>> {
        self.cursors.iter().filter_map(Weak::upgrade)
    }

    fn is_needed(&self) -> bool {
        self.retention_ms.is_some() || self.readers().next().is_some()
    }

    fn is_lasting(&self) -> bool {
        self.retention_ms.is_some() || self.readers().any(|cursor| cursor.term != Term::Passing)
    }

    /// For how long somebody needs it, whoever says so.
    fn retentions(&self) -> BTreeSet<u64> {
        let named = self.readers().filter_map(|cursor| match cursor.term {
            Term::Lasting { retention_ms } => retention_ms,
            Term::Passing => None,
        });
        self.retention_ms.into_iter().chain(named).collect()
    }

    /// Up to which epoch nobody needs it.
    fn needed_after(&self, object: ObjectId, expired: &Expired) -> Option<Epoch> {
        let retained =
            self.retention_ms.map(|retention_ms| expired.get(&(object, retention_ms)).copied().unwrap_or(self.since));
        self.readers().map(|cursor| cursor.needs_after(object, expired)).chain(retained).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECT: ObjectId = ObjectId(1);

    fn trim(up_to: u64, whole: bool) -> Vec<Trim> {
        vec![Trim { object: OBJECT, up_to: Epoch(up_to), whole, lasting: false }]
    }

    #[test]
    fn a_need_goes_with_its_reader() {
        let mut needs = Needs::default();
        assert!(needs.objects().is_empty());
        let cursor = needs.follow(OBJECT, Epoch(5));
        assert_eq!(needs.objects(), BTreeSet::from([OBJECT]));
        assert_eq!(needs.trim(Epoch(6), None), []);
        drop(cursor);
        assert!(needs.objects().is_empty());
        assert_eq!(needs.trim(Epoch(7), None), trim(7, true));
        assert_eq!(needs.trim(Epoch(8), None), []);
    }

    #[test]
    fn what_the_slowest_has_read_goes() {
        let mut needs = Needs::default();
        let (slow, fast) = (needs.follow(OBJECT, Epoch(0)), needs.follow(OBJECT, Epoch(0)));
        fast.advance(Epoch(1000));
        assert_eq!(needs.trim(Epoch(1000), None), []);
        slow.advance(Epoch(600));
        assert_eq!(needs.trim(Epoch(1000), None), trim(600, false));
        assert!(needs.resume(OBJECT, Epoch(599), Epoch(1000)).is_none());
        assert!(needs.resume(OBJECT, Epoch(600), Epoch(1000)).is_some());
    }

    fn lasting(up_to: u64) -> Vec<Trim> {
        vec![Trim { object: OBJECT, up_to: Epoch(up_to), whole: false, lasting: true }]
    }

    fn old(retention_ms: u64, epoch: u64) -> Expired {
        BTreeMap::from([((OBJECT, retention_ms), Epoch(epoch))])
    }

    #[test]
    fn what_is_kept_for_a_time_waits_for_it_and_for_readers() {
        let mut needs = Needs::default();
        needs.retain(OBJECT, Some(1000), Epoch(3));
        assert_eq!(needs.trim(Epoch(20), None), []);
        assert_eq!(needs.trim(Epoch(20), Some(&old(1000, 10))), lasting(10));
        let cursor = needs.resume(OBJECT, Epoch(12), Epoch(20)).unwrap();
        assert_eq!(needs.trim(Epoch(20), Some(&old(1000, 15))), lasting(12));
        drop(cursor);
        assert_eq!(needs.trim(Epoch(20), Some(&old(1000, 15))), lasting(15));
        needs.retain(OBJECT, None, Epoch(0));
        assert_eq!(needs.trim(Epoch(21), None), trim(21, true));
    }

    #[test]
    fn what_a_named_reader_has_not_acknowledged_waits_for_it() {
        let mut needs = Needs::default();
        let named = needs.name(OBJECT, (Epoch(5), Epoch(3)), None);
        assert_eq!(needs.since(OBJECT), Some(Epoch(3)));
        assert_eq!(needs.trim(Epoch(900), None), []);
        assert_eq!(needs.trim(Epoch(900), Some(&Expired::new())), lasting(5));
        named.advance(Epoch(6));
        assert_eq!(needs.trim(Epoch(900), None), []);
        assert_eq!(needs.trim(Epoch(900), Some(&Expired::new())), lasting(6));
        needs.retain(OBJECT, Some(1000), Epoch(6));
        assert_eq!(needs.trim(Epoch(900), Some(&old(1000, 800))), []);
        drop(named);
        assert_eq!(needs.trim(Epoch(900), Some(&old(1000, 800))), lasting(800));
    }

    #[test]
    fn a_named_reader_with_a_term_is_overtaken_by_time() {
        let mut needs = Needs::default();
        let (short, long) =
            (needs.name(OBJECT, (Epoch(5), Epoch(5)), Some(10)), needs.name(OBJECT, (Epoch(5), Epoch(5)), Some(20)));
        let ages = old(10, 50).into_iter().chain(old(20, 30)).collect();
        assert_eq!(needs.retained(), [(OBJECT, Epoch(5), 10), (OBJECT, Epoch(5), 20)]);
        assert_eq!(needs.trim(Epoch(90), Some(&ages)), lasting(30));
        assert!(needs.resume(OBJECT, short.epoch(), Epoch(90)).is_none());
        long.advance(Epoch(80));
        assert_eq!(needs.trim(Epoch(90), Some(&ages)), lasting(50));
    }

    #[test]
    fn what_nobody_keeps_can_be_resumed_from_now_only() {
        let mut needs = Needs::default();
        assert!(needs.resume(OBJECT, Epoch(4), Epoch(5)).is_none());
        assert!(needs.resume(OBJECT, Epoch(5), Epoch(5)).is_some());
    }
}
