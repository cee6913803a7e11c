//! The watermark of one input: per partition the highest value seen, the least over the active partitions, never back.

use std::collections::BTreeMap;
use std::time::Duration;
use std::time::Instant;

use crate::engine::history::Moment;
use crate::engine::records::PartitionProgress;
use crate::engine::records::Progress;
use crate::ids::Epoch;
use crate::time::Micros;

/// What changed for an input at an epoch's end.
#[derive(Clone, Debug)]
pub struct Moved {
    /// Its record.
    pub progress: Progress,
    /// Where its watermark moved, with the epoch that it is kept under.
    pub moment: Option<(Epoch, Moment)>,
}

/// The partition that rows written by sessions belong to.
pub const SESSIONS: &str = "";

/// How far one input has come, in offsets and in event time.
#[derive(Clone, Debug)]
pub struct InputClock {
    partitions: BTreeMap<String, Partition>,
    /// The watermark at the end of the last epoch; what rows of this epoch carry.
    watermark: Option<Micros>,
    /// A partition silent for so long no longer holds the watermark back.
    idle_timeout: Duration,
    /// Whether the record in the store is behind.
    changed: bool,
    /// The last moment recorded, as of which epoch.
    moment: Option<(Epoch, Moment)>,
}

#[derive(Clone, Debug)]
struct Partition {
    offset: i64,
    highest: Option<Micros>,
    /// When its reader came to stand at its end without news; `None` while it does not.
    silent_since: Option<Instant>,
}

impl InputClock {
    /// The clock of an input that has come so far.
    pub fn new(progress: &Progress, idle_timeout: Duration) -> InputClock {
        let partition =
            |p: &PartitionProgress| Partition { offset: p.offset, highest: p.watermark, silent_since: None };
        InputClock {
            partitions: progress.partitions.iter().map(|(name, p)| (name.clone(), partition(p))).collect(),
            watermark: progress.watermark,
            idle_timeout,
            changed: false,
            moment: None,
        }
    }

    /// Partitions that are there hold the watermark back before they have spoken.
    pub fn expect(&mut self, positions: &BTreeMap<String, i64>) {
        for (partition, &offset) in positions {
            let silent = Partition { offset, highest: None, silent_since: None };
            self.partitions.entry(partition.clone()).or_insert(silent);
        }
    }

    /// Rows of a partition came: its next offset, the highest watermark expression among them, and whether the reader
    /// stands at its end now.
    pub fn advance(
        &mut self,
        partition: &str,
        offset: i64,
        highest: Option<Micros>,
        at_end: bool,
        spoke: bool,
        now: Instant,
    ) {
        let entry = self.partitions.entry(partition.to_string()).or_insert_with(|| {
            self.changed = true;
            Partition { offset, highest: None, silent_since: None }
        });
        self.changed |= entry.offset != offset || highest > entry.highest;
        entry.offset = offset;
        entry.highest = entry.highest.max(highest);
        entry.silent_since = match (at_end, spoke) {
            (false, _) => None,
            (true, true) => Some(now),
            (true, false) => entry.silent_since.or(Some(now)),
        };
    }

    /// The watermark that rows of this epoch carry.
    pub fn watermark(&self) -> Option<Micros> {
        self.watermark
    }

    /// Ends an epoch: the watermark moves to the least over the active partitions. What the store is to be told, if anything.
    pub fn end_epoch(&mut self, epoch: Epoch, now: Instant) -> Option<Moved> {
        let least = self.least(now);
        let mut moment = None;
        if least > self.watermark {
            self.watermark = least;
            self.changed = true;
            moment = Some(self.record_moment(epoch));
        }
        std::mem::take(&mut self.changed).then(|| Moved { progress: self.progress(), moment })
    }

    /// The moment at which the watermark came to where it is. It takes the place of the one before where no row was read
    /// between the two.
    fn record_moment(&mut self, epoch: Epoch) -> (Epoch, Moment) {
        let moment = Moment { offsets: self.positions(), watermark: self.watermark };
        let epoch = match &self.moment {
            Some((before, last)) if last.offsets == moment.offsets => *before,
            Some(_) | None => epoch,
        };
        self.moment = Some((epoch, moment.clone()));
        (epoch, moment)
    }

    /// The least over the active partitions; when all are idle, the greatest of them, since nothing holds it back.
    fn least(&self, now: Instant) -> Option<Micros> {
        let active = self.partitions.values().filter(|p| !self.is_idle(p, now)).map(|p| p.highest).min();
        active.unwrap_or_else(|| self.partitions.values().filter_map(|p| p.highest).max())
    }

    /// The active partition that is the furthest behind, of several; what sessions write is none.
    pub fn holder(&self, now: Instant) -> Option<&str> {
        let active = self.partitions.iter().filter(|(name, p)| *name != SESSIONS && !self.is_idle(p, now));
        let (name, _) = active.min_by_key(|(_, p)| p.highest)?;
        (self.partitions.len() > 1).then_some(name)
    }

    fn is_idle(&self, partition: &Partition, now: Instant) -> bool {
        partition.silent_since.is_some_and(|since| now - since >= self.idle_timeout)
    }

    /// When a partition will have fallen idle and may thereby move the watermark: now, if one has and does.
    pub fn next_idle(&self, now: Instant) -> Option<Instant> {
        if self.least(now) > self.watermark {
            return Some(now);
        }
        let due = |p: &Partition| p.silent_since.map(|since| since + self.idle_timeout);
        self.partitions.values().filter_map(due).filter(|due| *due > now).min()
    }

    /// Where each partition is to be read on. What sessions write is none that a connector reads.
    pub fn positions(&self) -> BTreeMap<String, i64> {
        let read = self.partitions.iter().filter(|(name, _)| *name != SESSIONS);
        read.map(|(name, p)| (name.clone(), p.offset)).collect()
    }

    /// The record for the store.
    pub fn progress(&self) -> Progress {
        let partition = |p: &Partition| PartitionProgress { offset: p.offset, watermark: p.highest };
        Progress {
            partitions: self.partitions.iter().map(|(name, p)| (name.clone(), partition(p))).collect(),
            watermark: self.watermark,
        }
    }

    /// The highest value of each partition, for `ms_catalog.watermarks`.
    pub fn partitions(&self) -> impl Iterator<Item = (&str, Option<Micros>)> {
        self.partitions.iter().map(|(name, p)| (name.as_str(), p.highest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Clock;
    use crate::time::SystemClock;

    const TIMEOUT: Duration = Duration::from_secs(10);

    /// A clock of two partitions that are there, and a moment to count from.
    fn two() -> (InputClock, Instant) {
        let mut clock = InputClock::new(&Progress::default(), TIMEOUT);
        clock.expect(&BTreeMap::from([("0".to_string(), 0), ("1".to_string(), 0)]));
        (clock, SystemClock.instant())
    }

    #[test]
    fn the_first_batch_of_a_partition_is_progress() {
        let (mut clock, now) = two();
        assert!(clock.end_epoch(Epoch(1), now).is_none());
        clock.advance("0", 5, None, false, true, now);
        assert!(clock.end_epoch(Epoch(1), now).is_some());
        clock.advance("2", 5, None, false, true, now);
        assert!(clock.end_epoch(Epoch(1), now).is_some(), "of one that nobody expected too");
        clock.advance("2", 5, None, true, false, now);
        assert!(clock.end_epoch(Epoch(1), now).is_none());
    }

    #[test]
    fn a_partition_that_never_spoke_holds_back_until_it_is_idle() {
        let (mut clock, now) = two();
        clock.advance("0", 1, Some(100), true, true, now);
        clock.end_epoch(Epoch(1), now);
        assert_eq!((clock.watermark(), clock.next_idle(now)), (None, Some(now + TIMEOUT)));
        assert_eq!(clock.holder(now), Some("1"));
        clock.advance("1", 0, None, true, false, now + TIMEOUT / 2);
        clock.advance("0", 2, Some(200), true, true, now + TIMEOUT);
        // A moment that has passed is not forgotten.
        let late = now + TIMEOUT * 3 / 2 + Duration::from_millis(1);
        assert_eq!(clock.next_idle(late), Some(late));
        assert!(clock.end_epoch(Epoch(1), late).is_some());
        assert_eq!((clock.watermark(), clock.holder(late)), (Some(200), Some("0")));
        clock.advance("1", 1, Some(50), true, true, late);
        clock.end_epoch(Epoch(1), late);
        assert_eq!(clock.watermark(), Some(200));
    }
}
