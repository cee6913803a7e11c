//! The watermark of one input: per partition the highest value seen, the least over the active partitions, never back.

use std::collections::BTreeMap;
use std::time::Duration;
use std::time::Instant;

use crate::engine::records::PartitionProgress;
use crate::engine::records::Progress;
use crate::time::Micros;

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
        let fresh = || Partition { offset, highest: None, silent_since: None };
        let entry = self.partitions.entry(partition.to_string()).or_insert_with(fresh);
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

    /// Ends an epoch: the watermark moves to the least over the active partitions. Whether the input's record changed.
    pub fn end_epoch(&mut self, now: Instant) -> bool {
        let least = self.least(now);
        if least > self.watermark {
            self.watermark = least;
            self.changed = true;
        }
        std::mem::take(&mut self.changed)
    }

    /// The least over the active partitions; when all are idle, the greatest of them, since nothing holds it back.
    fn least(&self, now: Instant) -> Option<Micros> {
        let idle = |p: &Partition| p.silent_since.is_some_and(|since| now - since >= self.idle_timeout);
        let active = self.partitions.values().filter(|p| !idle(p)).map(|p| p.highest).min();
        active.unwrap_or_else(|| self.partitions.values().filter_map(|p| p.highest).max())
    }

    /// When the next partition will fall idle and thereby move the watermark.
    pub fn next_idle(&self, now: Instant) -> Option<Instant> {
        let due = |p: &Partition| p.silent_since.map(|since| since + self.idle_timeout);
        self.partitions.values().filter_map(due).filter(|due| *due > now).min()
    }

    /// Where each partition is to be read on.
    pub fn positions(&self) -> BTreeMap<String, i64> {
        self.partitions.iter().map(|(name, p)| (name.clone(), p.offset)).collect()
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
