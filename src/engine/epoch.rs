//! The running epoch: opened by the first news, fed in steps, closed when it is time, settled when it is on disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use crate::catalog::system;
use crate::catalog::system::EpochFacts;
use crate::catalog::system::Holder;
use crate::catalog::system::SystemContext;
use crate::catalog::system::WatermarkFacts;
use crate::connectors::Positions;
use crate::dataflow::changelog::Recording;
use crate::dataflow::runtime::SealedShares;
use crate::delta::Delta;
use crate::engine::commit::Commit;
use crate::engine::commit::Waiter;
use crate::engine::coordinator::Coordinator;
use crate::engine::coordinator::Work;
use crate::engine::filling::Filling;
use crate::engine::ingest::Moved;
use crate::engine::records;
use crate::error::Error;
use crate::error::Result;
use crate::ids::Epoch;
use crate::ids::ObjectId;
use crate::ids::Portion;
use crate::state::Sealed;
use crate::state::StateReader;
use crate::time::Micros;

/// An epoch under load, or in which views are filled, is closed at this age. While the commit before it is not through, sources wait
/// from then on: what they bring would not be seen earlier, and the longer an epoch, the longer its commit and the next epoch.
pub(super) const EPOCH_AGE_MAX: Duration = Duration::from_millis(200);
/// An epoch that somebody waits for is closed at this age.
const WAITED_AGE_MAX: Duration = Duration::from_millis(5);
/// An epoch is closed at this many rows, even if it must wait for the commit before.
pub(super) const EPOCH_ROWS_MAX: usize = 1 << 20;
/// So many epoch numbers are reserved at once.
const EPOCHS_RESERVED: u64 = 1 << 20;

/// The running epoch.
pub(super) struct Open {
    pub(super) epoch: Epoch,
    /// The portion of it that runs: the first, unless it has outgrown memory.
    pub(super) portion: Portion,
    /// Bytes of the portions before.
    pub(super) spilled_bytes: u64,
    /// What the epoch sees below its own changes.
    pub(super) base: StateReader,
    pub(super) begun: Instant,
    /// Its time, never before that of an epoch before.
    pub(super) time: Micros,
    /// Rows fed so far.
    pub(super) rows: usize,
    /// Those among them that views which stand behind have taken in, besides changes.
    pub(super) filled: usize,
    /// Whether views that stand behind took part in it.
    pub(super) fills: bool,
    /// Rows that came into each table and source.
    pub(super) taken: BTreeMap<ObjectId, u64>,
    /// The writes it took in.
    pub(super) work: Vec<Work>,
    /// Views that have joined the others with it.
    pub(super) joined: Vec<(ObjectId, Filling)>,
    /// Whether it must be synced: it holds more than what sources can bring again.
    pub(super) sync: bool,
}

/// A sealed epoch on its way to disk.
pub(super) struct InFlight {
    /// What the next epoch reads until it is there.
    pub(super) sealed: Arc<Sealed>,
    /// What its sources may be told then.
    pub(super) positions: Vec<(ObjectId, Positions)>,
    /// When it was begun.
    pub(super) begun: Instant,
    /// Rows in it that views which stand behind have taken in, besides changes.
    pub(super) filled: usize,
    /// Views that have joined with it and whose creation is waited for: they stand behind again if it cannot be committed.
    pub(super) joined: Vec<(ObjectId, Filling)>,
}

impl Coordinator {
    /// Feeds the gathered source rows as one step.
    pub(super) fn feed_pending(&mut self) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        self.pending_rows = 0;
        pending.iter().for_each(|(source, delta)| self.changelogs.note(*source, delta));
        self.feed(pending)
    }

    /// One step with these changes.
    pub(super) fn feed(&mut self, deltas: Vec<(ObjectId, Delta)>) -> Result<()> {
        let rows = deltas.iter().map(|(_, delta)| delta.len()).sum::<usize>();
        if rows == 0 {
            return Ok(());
        }
        self.behind.others_work(self.clock.instant());
        let open = self.open()?;
        open.rows += rows;
        for (object, delta) in &deltas {
            *open.taken.entry(*object).or_default() += delta.len() as u64;
        }
        self.runtime.step(deltas);
        Ok(())
    }

    /// Begins an epoch unless one is running.
    pub(super) fn open_epoch(&mut self) -> Result<Epoch> {
        self.open().map(|open| open.epoch)
    }

    pub(super) fn open(&mut self) -> Result<&mut Open> {
        if self.open.is_none() {
            self.epoch = self.epoch.next();
            let base = self.store.reader(self.in_flight.as_ref().map(|commit| commit.sealed.clone()));
            let portion = Portion::first(self.epoch);
            self.runtime.begin(portion, &base);
            self.counters.time = self.counters.time.max(self.clock.now());
            self.open = Some(Open {
                epoch: self.epoch,
                portion,
                spilled_bytes: 0,
                base,
                begun: self.clock.instant(),
                time: self.counters.time,
                rows: 0,
                taken: BTreeMap::new(),
                filled: 0,
                fills: false,
                work: Vec::new(),
                joined: Vec::new(),
                sync: false,
            });
            self.join_complete()?;
        }
        Ok(self.open.as_mut().expect("just opened"))
    }

    /// The running epoch is to be on disk before anybody is told.
    pub(super) fn must_sync(&mut self) {
        if let Some(open) = &mut self.open {
            open.sync = true;
        }
    }

    /// The committed state below the running epoch.
    pub(super) fn base(&mut self) -> Result<StateReader> {
        Ok(self.open()?.base.clone())
    }

    /// Closes the epoch when it is time.
    pub(super) fn close_if_due(&mut self) -> Result<()> {
        let Some(open) = &self.open else { return Ok(()) };
        let age = self.clock.instant() - open.begun;
        let waiting = !self.requests.is_empty() || !self.events.is_empty() || !self.behind.replays.events.is_empty();
        let due = match self.in_flight {
            Some(_) => open.rows >= EPOCH_ROWS_MAX || self.is_full(),
            None if self.is_full() => true,
            None if !waiting => !self.keeps_filling(),
            None => age >= if open.work.is_empty() { EPOCH_AGE_MAX } else { WAITED_AGE_MAX },
        };
        if due { self.close() } else { Ok(()) }
    }

    /// Whether the running epoch takes nothing more in from sources.
    pub(super) fn sources_wait(&self) -> bool {
        let is_old = |open: &Open| self.clock.instant() - open.begun >= EPOCH_AGE_MAX;
        let has_enough = |open: &Open| open.rows >= EPOCH_ROWS_MAX || self.in_flight.is_some() && is_old(open);
        self.open.as_ref().is_some_and(has_enough)
    }

    /// Whether the running epoch has used half of the memory that one may take: sources end it then. Only writes of
    /// sessions, which go into one epoch whole, use more.
    pub(super) fn is_full(&self) -> bool {
        // What the last epoch took is known until the next begins.
        self.open.is_some() && self.epoch_bytes() + self.runtime.fill_growth_bytes() > self.limits.epoch_bytes / 2
    }

    /// What the running epoch has taken of memory so far, without what fills views.
    pub(super) fn epoch_bytes(&self) -> usize {
        self.runtime.growth_bytes() + self.changes.memory_bytes()
    }

    /// Ends the running epoch: the last pass, everything sealed, handed to the committer.
    pub(super) fn close(&mut self) -> Result<()> {
        self.feed_pending()?;
        self.fill_share()?;
        let Some((portion, time)) = self.open.as_ref().map(|open| (open.portion, open.time)) else { return Ok(()) };
        crate::fault::point("epoch.before_seal");
        let recording = self.recording(time);
        self.record_tables(portion, &recording)?;
        self.record_sources(portion, &recording)?;
        let moved = self.inputs.end_epoch(self.epoch);
        let shares = self.end_dataflow(&recording)?;
        let base = self.base()?;
        let sharing = self.record_joined()?;
        let trims = self.trim_changelogs(self.epoch, &base, time)?;
        let mut positions = Vec::new();
        for (id, Moved { progress, moment }) in moved {
            records::put_progress(&mut self.writes, id, &progress)?;
            if let Some((epoch, moment)) = moment {
                records::put_moment(&mut self.writes, id, epoch, &moment)?;
            }
            positions.push((id, self.inputs.positions(id)));
        }
        self.changes.write(&mut self.writes);
        records::put_row_id(&mut self.writes, self.row_ids.load(Ordering::SeqCst));
        if self.epoch.0 >= self.counters.epochs_reserved {
            self.counters.epochs_reserved = self.epoch.0 + EPOCHS_RESERVED;
            self.must_sync();
        }
        records::put_counters(&mut self.writes, &self.counters)?;
        let parts = shares.writes.into_iter().chain([std::mem::take(&mut self.writes)]).collect();
        let sealed = Arc::new(Sealed::new(self.epoch, parts));
        self.settle()?;
        let spilled = self.has_spilled();
        if spilled {
            self.store.spill(&sealed)?;
        }
        let Some(open) = self.open.take() else { return Ok(()) };
        if open.fills {
            self.not_lost();
        }
        let changes = open.taken.values().sum();
        self.metrics.took_in(open.taken, &self.catalog);
        let facts = EpochFacts {
            epoch: open.epoch.0,
            time: open.time,
            changes,
            bytes: open.spilled_bytes + sealed.bytes() as u64,
            work: self.clock.instant() - open.begun,
            commit: Duration::ZERO,
        };
        let waiter = |work: Work| -> Waiter { Box::new(move |outcome| work.tell(outcome)) };
        let mut waiters = open.work.into_iter().map(waiter).collect();
        let joined = self.answers(open.joined, open.epoch, &mut waiters);
        self.flushes_reached(&mut waiters);
        let commit = Commit {
            epoch: open.epoch,
            sealed: sealed.clone(),
            spilled,
            sync: open.sync,
            catalog: self.catalog.clone(),
            system: self.system_context(open.epoch),
            trims,
            facts,
            waiters,
        };
        self.in_flight = Some(InFlight { sealed, positions, begun: open.begun, filled: open.filled, joined });
        self.commits.send(commit).map_err(|_| Error::internal("the committer has died"))?;
        if spilled {
            // What follows reads what is in its place.
            self.settle()?;
        }
        self.share_joined(sharing)
    }

    /// Ends the epoch in the dataflow. What is owed and does not fit into memory is spilled before.
    fn end_dataflow(&mut self, recording: &Recording) -> Result<SealedShares> {
        loop {
            let shares = self.runtime.finish(&self.inputs.own_watermarks(), recording.clone())?;
            self.asides_done();
            if !shares.more {
                return Ok(shares);
            }
            self.settle()?;
            self.spill_portion(shares)?;
        }
    }

    /// Moves those whose flush the closing epoch fulfils to its waiters.
    pub(super) fn flushes_reached(&mut self, waiters: &mut Vec<Waiter>) {
        for flush in std::mem::take(&mut self.flushes) {
            let reached = flush.targets.iter().all(|(id, ends)| {
                let there = self.inputs.positions(*id);
                !self.inputs.is_running(*id)
                    || ends.iter().all(|(partition, end)| there.get(partition).copied().unwrap_or(0) >= *end)
            });
            if reached {
                waiters.push(Box::new(move |outcome| {
                    let _ = flush.reply.send(outcome);
                }));
            } else {
                self.flushes.push(flush);
            }
        }
    }

    /// What system relations will show of this epoch.
    pub(super) fn system_context(&self, epoch: Epoch) -> SystemContext {
        SystemContext {
            database: system::DATABASE.to_string(),
            epoch: epoch.0,
            epoch_time: Some(self.counters.time),
            watermarks: self.watermarks(),
            offsets: self.inputs.offsets(),
            ends: self.inputs.ends_seen(),
            jobs: self.jobs(),
            subscriptions: self.named_facts(),
            troubles: self.inputs.troubles().map(|(id, error)| (id, error.to_string())).collect(),
            live: Some(self.metrics.clone()),
            ..SystemContext::default()
        }
    }

    /// All watermarks: of inputs, of their partitions, of views.
    fn watermarks(&self) -> Vec<WatermarkFacts> {
        let watermarks = self.runtime.watermarks();
        let views = watermarks.views().map(|(object, watermark)| WatermarkFacts {
            object,
            partition: None,
            watermark,
            held_by: watermarks.holder(object).map(Holder::Object),
        });
        self.inputs.watermarks().into_iter().chain(views).collect()
    }

    /// Waits until no commit is in flight.
    pub(super) fn settle(&mut self) -> Result<()> {
        while self.in_flight.is_some() {
            let outcome = self.done.recv().map_err(|_| Error::internal("the committer has died"))?;
            self.committed(outcome)?;
        }
        Ok(())
    }

    /// A commit is through; it took so long.
    pub(super) fn committed(&mut self, outcome: Result<Duration>) -> Result<()> {
        if let Some(commit) = self.in_flight.take() {
            let took = match outcome {
                Ok(took) => took,
                Err(error) => {
                    self.behind.views.extend(commit.joined);
                    self.stop(error.clone());
                    return Err(error);
                }
            };
            commit.joined.into_iter().for_each(|(_, filling)| filling.waiting.tell_created());
            self.lost = 0;
            self.behind.committed(commit.filled, took, commit.begun, self.clock.instant());
            self.inputs.committed(&commit.positions);
        }
        Ok(())
    }

    /// Nothing was waiting: views are filled, an idle partition may let a watermark move, and state that was stored comes into
    /// memory.
    pub(super) fn idle(&mut self) -> Result<()> {
        self.feed_pending()?;
        self.fill_idle()?;
        if self.open.is_none() && self.failed.is_none() {
            // The watermark moves at the end of an epoch, which closes what it reaches.
            let due = self.inputs.next_idle() == Some(Duration::ZERO);
            if !due && self.in_flight.is_none() && self.runtime.can_warm() {
                self.runtime.warm(&self.store.reader(None));
            } else if due {
                self.open()?;
            }
        }
        Ok(())
    }
}
