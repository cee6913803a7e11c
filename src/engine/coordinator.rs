//! The coordinator: one thread that turns what is waiting into epochs.
//!
//! It takes requests of sessions and batches of sources in order of arrival, resolves writes, feeds the workers in steps,
//! and closes the epoch when the committer is free and nothing more is waiting, or when the epoch has reached its bounds.
//! The commit of epoch *n* runs while epoch *n + 1* computes; at most one is in flight.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use crossbeam_channel::Receiver;
use crossbeam_channel::Sender;
use crossbeam_channel::select;
use datafusion::execution::SessionState;
use datafusion::physical_expr::PhysicalExpr;
use tokio::sync::oneshot;

use crate::catalog::Catalog;
use crate::catalog::Object;
use crate::catalog::ObjectKind;
use crate::catalog::system;
use crate::catalog::system::SystemContext;
use crate::connectors::EndQuestion;
use crate::connectors::Positions;
use crate::connectors::SourceBatch;
use crate::connectors::SourceEvent;
use crate::dataflow::operator::RowError;
use crate::dataflow::runtime::Runtime;
use crate::dataflow::runtime::STEP_ROWS;
use crate::delta::Delta;
use crate::engine::DdlOutcome;
use crate::engine::Written;
use crate::engine::commit::Commit;
use crate::engine::commit::Waiter;
use crate::engine::ddl::Prepared;
use crate::engine::errors;
use crate::engine::ingest;
use crate::engine::ingest::Inputs;
use crate::engine::records;
use crate::engine::records::Counters;
use crate::engine::table::Changes;
use crate::engine::table::TableShape;
use crate::engine::write::Conflict;
use crate::engine::write::Resolved;
use crate::engine::write::Resolver;
use crate::engine::write::TableWrite;
use crate::error::Error;
use crate::error::Result;
use crate::ids::Epoch;
use crate::ids::ObjectId;
use crate::state::Sealed;
use crate::state::StateReader;
use crate::state::Store;
use crate::state::Writes;
use crate::time::Clock;

/// An epoch under load is closed at this age.
const EPOCH_AGE_MAX: Duration = Duration::from_millis(200);
/// An epoch that somebody waits for is closed at this age.
const WAITED_AGE_MAX: Duration = Duration::from_millis(5);
/// An epoch is closed at this many rows, even if it must wait for the commit before.
const EPOCH_ROWS_MAX: usize = 1 << 20;
/// How long the coordinator sleeps when nothing but news can wake it.
const WAIT_MAX: Duration = Duration::from_secs(3600);
/// So many epoch numbers are reserved at once.
const EPOCHS_RESERVED: u64 = 1 << 20;

/// What sessions ask for.
pub enum Request {
    /// A write to tables; the flag in the answer says that it must be tried again from its scan.
    Write { write: TableWrite, reply: oneshot::Sender<Result<(Written, bool)>> },
    /// All writes of a transaction.
    Commit { changes: Changes, reply: oneshot::Sender<Result<()>> },
    /// A change to the catalog.
    Ddl { ddl: Box<Prepared>, reply: oneshot::Sender<Result<DdlOutcome>> },
    /// Wait until all input before these ends is visible.
    Flush { ends: BTreeMap<ObjectId, Positions>, reply: oneshot::Sender<Result<()>> },
    /// Ask where the sources that are read end.
    Ends { reply: oneshot::Sender<Result<Vec<(ObjectId, EndQuestion)>>> },
    /// Commit what is open and end.
    Shutdown { reply: oneshot::Sender<Result<()>> },
}

/// The running epoch.
struct Open {
    epoch: Epoch,
    /// What the epoch sees below its own changes.
    base: StateReader,
    begun: Instant,
    /// Rows fed so far.
    rows: usize,
    /// Who waits for its commit.
    waiters: Vec<Waiter>,
    /// Whether it must be synced: it holds more than what sources can bring again.
    sync: bool,
}

/// A sealed epoch on its way to disk.
struct InFlight {
    /// What the next epoch reads until it is there.
    sealed: Arc<Sealed>,
    /// What its sources may be told then.
    positions: Vec<(ObjectId, Positions)>,
}

/// Somebody who waits for sources to come so far.
struct Flush {
    targets: BTreeMap<ObjectId, Positions>,
    reply: oneshot::Sender<Result<()>>,
}

/// The coordinator's state.
pub struct Coordinator {
    pub(super) store: Arc<Store>,
    pub(super) runtime: Runtime,
    /// What exists, with the changes of the running epoch.
    pub(super) catalog: Arc<Catalog>,
    pub(super) state: Arc<SessionState>,
    pub(super) inputs: Inputs,
    pub(super) shapes: HashMap<ObjectId, Arc<TableShape>>,
    /// The watermark expressions of tables.
    pub(super) watermarks: HashMap<ObjectId, Arc<dyn PhysicalExpr>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) counters: Counters,
    pub(super) row_ids: Arc<AtomicI64>,
    /// Writes of the engine itself in the running epoch: catalog, progress.
    pub(super) writes: Writes,
    pub(super) changes: Changes,
    pub(super) epoch: Epoch,
    requests: Receiver<Request>,
    events: Receiver<SourceEvent>,
    commits: Sender<Commit>,
    done: Receiver<Result<()>>,
    open: Option<Open>,
    /// The epoch whose commit is in flight.
    in_flight: Option<InFlight>,
    /// Who waits for sources to come so far.
    flushes: Vec<Flush>,
    /// Source rows not yet fed, by source.
    pending: Vec<(ObjectId, Delta)>,
    pending_rows: usize,
    /// Why nothing can be committed any more.
    failed: Option<Error>,
}

/// The channels that join the coordinator to sessions, readers and the committer.
pub struct Channels {
    pub requests: Receiver<Request>,
    pub events: Receiver<SourceEvent>,
    pub commits: Sender<Commit>,
    pub done: Receiver<Result<()>>,
}

impl Coordinator {
    /// A coordinator of an opened database; `recover` has filled in what was there.
    #[allow(clippy::too_many_arguments)] // the one place where all parts meet
    pub fn new(
        store: Arc<Store>,
        runtime: Runtime,
        catalog: Catalog,
        state: Arc<SessionState>,
        inputs: Inputs,
        clock: Arc<dyn Clock>,
        counters: Counters,
        row_ids: Arc<AtomicI64>,
        channels: Channels,
    ) -> Coordinator {
        let epoch = Epoch(counters.epochs_reserved);
        Coordinator {
            store,
            runtime,
            catalog: Arc::new(catalog),
            state,
            inputs,
            shapes: HashMap::new(),
            watermarks: HashMap::new(),
            clock,
            counters,
            row_ids,
            writes: Writes::default(),
            changes: Changes::default(),
            epoch,
            requests: channels.requests,
            events: channels.events,
            commits: channels.commits,
            done: channels.done,
            open: None,
            in_flight: None,
            flushes: Vec::new(),
            pending: Vec::new(),
            pending_rows: 0,
            failed: None,
        }
    }

    /// Works until it is told to end.
    pub fn run(mut self) {
        while let Some(turn) = self.next() {
            let outcome = match turn {
                Turn::Request(Request::Shutdown { reply }) => {
                    let closed = self.close().and_then(|()| self.settle());
                    let _ = reply.send(closed);
                    return;
                }
                Turn::Request(request) => self.request(request),
                Turn::Event(event) => self.event(event),
                Turn::Committed(outcome) => self.committed(outcome),
                Turn::Idle => self.idle(),
            };
            if let Err(error) = outcome.and_then(|()| self.close_if_due()) {
                self.fail(error);
            }
        }
    }

    /// Waits for the next thing to do; `None` when everybody has gone.
    fn next(&self) -> Option<Turn> {
        let wait = match (&self.open, &self.in_flight) {
            _ if self.failed.is_some() => WAIT_MAX,
            (Some(_), None) => Duration::ZERO,
            (Some(_), Some(_)) => WAIT_MAX,
            (None, _) => self.inputs.next_idle().unwrap_or(WAIT_MAX),
        };
        // While the epoch is full, sources wait: that is the backpressure.
        let never = crossbeam_channel::never();
        let full = self.open.as_ref().is_some_and(|open| open.rows >= EPOCH_ROWS_MAX);
        let events = if full || self.failed.is_some() { &never } else { &self.events };
        select! {
            recv(self.requests) -> request => request.ok().map(Turn::Request),
            recv(events) -> event => Some(event.map_or(Turn::Idle, Turn::Event)),
            recv(self.done) -> outcome => Some(Turn::Committed(outcome.unwrap_or(Ok(())))),
            default(wait) => Some(Turn::Idle),
        }
    }

    fn request(&mut self, request: Request) -> Result<()> {
        if let Some(error) = self.failed.clone() {
            request.refuse(error);
            return Ok(());
        }
        match request {
            Request::Write { write, reply } => {
                self.feed_pending()?;
                match self.resolve(&write) {
                    Ok(resolved) => {
                        let (written, stale) = (resolved.written.clone(), resolved.stale);
                        self.apply(resolved)?;
                        self.wait_for_epoch(reply, Ok((written, stale)));
                    }
                    Err(error) => self.wait_for_epoch(reply, Err(error)),
                }
            }
            Request::Commit { changes, reply } => {
                self.feed_pending()?;
                let outcome = match self.validate(&changes) {
                    Ok(()) => self.apply_transaction(changes).map(Ok)?,
                    Err(error) => Err(error),
                };
                self.wait_for_epoch(reply, outcome);
            }
            Request::Ddl { ddl, reply } => {
                self.close()?;
                self.settle()?;
                let outcome = self.execute_ddl(*ddl);
                let _ = reply.send(outcome);
            }
            Request::Flush { ends, reply } => match self.inputs.failure(ends.keys().copied()) {
                Some(error) => drop(reply.send(Err(error))),
                None => {
                    self.flushes.push(Flush { targets: ends, reply });
                    self.open()?;
                }
            },
            Request::Ends { reply } => drop(reply.send(Ok(self.inputs.ends()))),
            Request::Shutdown { reply } => {
                let _ = reply.send(Ok(()));
            }
        }
        Ok(())
    }

    /// Answers when the running epoch is committed; an error of the commit goes before the answer.
    fn wait_for_epoch<T: Send + 'static>(&mut self, reply: oneshot::Sender<Result<T>>, answer: Result<T>) {
        let waiter: Waiter = Box::new(move |outcome| {
            let _ = reply.send(outcome.and(answer));
        });
        match &mut self.open {
            Some(open) => open.waiters.push(waiter),
            None => waiter(Ok(())),
        }
    }

    fn event(&mut self, event: SourceEvent) -> Result<()> {
        match event {
            SourceEvent::Batch(batch) => self.batch(batch),
            // An epoch of its own shows it.
            SourceEvent::Trouble { source, error } => {
                self.inputs.trouble(source, error, false);
                self.open().map(drop)
            }
            SourceEvent::Failed { source, error } => {
                self.inputs.trouble(source, error.clone(), true);
                for flush in self.flushes.extract_if(.., |flush| flush.targets.contains_key(&source)) {
                    let _ = flush.reply.send(Err(error.clone()));
                }
                self.open().map(drop)
            }
        }
    }

    /// Takes in what readers had brought so far. After this nothing is left of a reader that was stopped before, which a new
    /// reader of the same source could be mistaken for.
    pub(super) fn take_waiting_events(&mut self) -> Result<()> {
        for _ in 0..self.events.len() {
            if let Ok(event) = self.events.try_recv() {
                self.event(event)?;
            }
        }
        Ok(())
    }

    /// Rows of a source: gathered until there are enough for a step.
    fn batch(&mut self, mut batch: SourceBatch) -> Result<()> {
        if !self.inputs.is_running(batch.source) {
            return Ok(());
        }
        self.open()?;
        crate::fault::point("source.after_read");
        let Some((object, rows)) = self.inputs.take(&mut batch)? else { return Ok(()) };
        if !batch.errors.is_empty() {
            self.keep_errors(&object, &batch)?;
        }
        if rows.num_rows() > 0 {
            self.pending_rows += rows.num_rows();
            self.pending.push((object.id, Delta::inserts(rows)));
        }
        if self.pending_rows >= STEP_ROWS * 2 || self.events.is_empty() {
            self.feed_pending()?;
        }
        Ok(())
    }

    /// Puts messages that could not be decoded into the source's relation of errors. They can be read again, so the epoch
    /// need not be synced for them.
    fn keep_errors(&mut self, source: &Object, batch: &SourceBatch) -> Result<()> {
        let Some(errors) = errors::find(&self.catalog, source).cloned() else { return Ok(()) };
        let rows = errors::source_rows(&self.catalog, &errors, batch)?;
        let conflict = Conflict::Nothing;
        let resolved = self.resolve(&TableWrite::Insert { table: errors.id, rows, conflict, returning: None })?;
        resolved.deltas.into_iter().try_for_each(|(table, delta)| self.feed(vec![(table, delta)]))
    }

    /// Puts rows that could not be computed into their views' relations of errors.
    fn count_errors(&mut self, base: &StateReader, failed: &[(ObjectId, RowError)]) -> Result<()> {
        for view in failed.iter().map(|(view, _)| *view).collect::<BTreeSet<_>>() {
            let errors = self.catalog.get(view).and_then(|view| errors::find(&self.catalog, view));
            let Some(shape) = errors.and_then(|errors| self.shapes.get(&errors.id)) else { continue };
            let rows = failed.iter().filter(|(of, _)| *of == view).map(|(_, row)| row).collect::<Vec<_>>();
            errors::count(shape, &mut self.changes, base, &rows)?;
        }
        Ok(())
    }

    /// Feeds the gathered source rows as one step.
    fn feed_pending(&mut self) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        self.pending_rows = 0;
        self.feed(pending)
    }

    /// One step with these changes.
    fn feed(&mut self, deltas: Vec<(ObjectId, Delta)>) -> Result<()> {
        let rows = deltas.iter().map(|(_, delta)| delta.len()).sum::<usize>();
        if rows == 0 {
            return Ok(());
        }
        self.open()?.rows += rows;
        self.runtime.step(deltas);
        Ok(())
    }

    fn resolve(&mut self, write: &TableWrite) -> Result<Resolved> {
        self.open()?;
        let base = &self.open.as_ref().expect("just opened").base;
        let inputs = &self.inputs;
        let watermarks = |id: ObjectId| inputs.watermark(id);
        let mut resolver = Resolver {
            shapes: &self.shapes,
            changes: &mut self.changes,
            base,
            row_ids: &self.row_ids,
            watermarks: &watermarks,
        };
        resolver.resolve(write)
    }

    /// Feeds what a write came to, in steps.
    fn apply(&mut self, resolved: Resolved) -> Result<()> {
        self.open()?.sync = true;
        for (table, delta) in resolved.deltas {
            self.observe(table, &delta)?;
            for from in (0..delta.len()).step_by(STEP_ROWS) {
                let length = STEP_ROWS.min(delta.len() - from);
                self.feed(vec![(table, delta.slice(from, length))])?;
            }
        }
        Ok(())
    }

    /// Moves the watermark of a table by the rows written to it.
    fn observe(&mut self, table: ObjectId, delta: &Delta) -> Result<()> {
        let (Some(expression), Some(shape)) = (self.watermarks.get(&table), self.shapes.get(&table)) else {
            return Ok(());
        };
        let highest = ingest::highest(expression, &shape.declared_of(delta.batch())?)?;
        self.inputs.wrote(table, highest);
        Ok(())
    }

    /// 40001 unless every row that a transaction wrote is still as the transaction saw it.
    fn validate(&mut self, changes: &Changes) -> Result<()> {
        self.open()?;
        let base = &self.open.as_ref().expect("just opened").base;
        for table in changes.tables() {
            if !self.shapes.contains_key(&table) {
                return Err(Error::serialization("a table of the transaction was dropped"));
            }
            let keys = changes.of(table).map(|(key, _)| &key[..]).collect::<Vec<_>>();
            let now = self.changes.get_many(base, table, &keys)?;
            if changes.of(table).zip(now).any(|((_, change), now)| change.before != now) {
                return Err(Error::serialization("could not serialize access due to concurrent update")
                    .hint("The transaction might succeed if retried."));
            }
        }
        Ok(())
    }

    fn apply_transaction(&mut self, changes: Changes) -> Result<()> {
        let mut resolved = Resolved::default();
        for table in changes.tables() {
            let codec = &self.shapes[&table].codec;
            let entries = |pick: fn(&crate::engine::table::Change) -> Option<&Vec<u8>>| {
                let chosen = changes.of(table).filter_map(|(key, c)| pick(c).map(|value| (&key[..], &value[..])));
                codec.decode(&chosen.collect::<Vec<_>>())
            };
            let old = Delta::inserts(entries(|c| c.before.as_ref())?).negate();
            let new = Delta::inserts(entries(|c| c.after.as_ref())?);
            resolved.deltas.push((table, Delta::concat(&codec.schema, &[old, new])?));
        }
        for table in changes.tables().collect::<Vec<_>>() {
            for (key, change) in changes.of(table) {
                self.changes.set(table, key, change.before.clone(), change.after.clone());
            }
        }
        self.apply(resolved)
    }

    /// Begins an epoch unless one is running.
    pub(super) fn open_epoch(&mut self) -> Result<Epoch> {
        self.open().map(|open| open.epoch)
    }

    fn open(&mut self) -> Result<&mut Open> {
        if self.open.is_none() {
            self.epoch = self.epoch.next();
            let base = self.store.reader(self.in_flight.as_ref().map(|commit| commit.sealed.clone()));
            self.runtime.begin(self.epoch, &base);
            self.open = Some(Open {
                epoch: self.epoch,
                base,
                begun: self.clock.instant(),
                rows: 0,
                waiters: Vec::new(),
                sync: false,
            });
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
    fn close_if_due(&mut self) -> Result<()> {
        let Some(open) = &self.open else { return Ok(()) };
        let age = self.clock.instant() - open.begun;
        let waiting = !self.requests.is_empty() || !self.events.is_empty();
        let due = match self.in_flight {
            Some(_) => open.rows >= EPOCH_ROWS_MAX,
            None if !waiting => true,
            None => age >= if open.waiters.is_empty() { EPOCH_AGE_MAX } else { WAITED_AGE_MAX },
        };
        if due { self.close() } else { Ok(()) }
    }

    /// Ends the running epoch: the last pass, everything sealed, handed to the committer.
    pub(super) fn close(&mut self) -> Result<()> {
        self.feed_pending()?;
        let Some(mut open) = self.open.take() else { return Ok(()) };
        crate::fault::point("epoch.before_seal");
        let shares = match self.runtime.finish() {
            Ok(shares) => shares,
            Err(error) => {
                open.waiters.drain(..).for_each(|waiter| waiter(Err(error.clone())));
                return Err(error);
            }
        };
        self.count_errors(&open.base, &shares.errors)?;
        let mut positions = Vec::new();
        for (id, progress) in self.inputs.end_epoch() {
            records::put_progress(&mut self.writes, id, &progress)?;
            positions.push((id, self.inputs.positions(id)));
        }
        self.changes.write(&mut self.writes);
        records::put_row_id(&mut self.writes, self.row_ids.load(Ordering::SeqCst));
        if open.epoch.0 >= self.counters.epochs_reserved {
            self.counters.epochs_reserved = open.epoch.0 + EPOCHS_RESERVED;
            open.sync = true;
        }
        records::put_counters(&mut self.writes, &self.counters)?;
        let parts = shares.writes.into_iter().chain([std::mem::take(&mut self.writes)]).collect();
        let sealed = Arc::new(Sealed::new(open.epoch, parts));
        self.settle()?;
        self.flushes_reached(&mut open.waiters);
        let commit = Commit {
            epoch: open.epoch,
            sealed: sealed.clone(),
            sync: open.sync,
            catalog: self.catalog.clone(),
            system: self.system_context(open.epoch),
            waiters: open.waiters,
        };
        self.in_flight = Some(InFlight { sealed, positions });
        self.commits.send(commit).map_err(|_| Error::internal("the committer has died"))
    }

    /// Moves those whose flush the closing epoch fulfils to its waiters.
    fn flushes_reached(&mut self, waiters: &mut Vec<Waiter>) {
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
            user: system::DATABASE.to_string(),
            epoch: epoch.0,
            epoch_time: Some(self.clock.now()),
            watermarks: self.inputs.watermarks(),
            offsets: self.inputs.offsets(),
            troubles: self.inputs.troubles().map(|(id, error)| (id, error.to_string())).collect(),
            ..SystemContext::default()
        }
    }

    /// Waits until no commit is in flight.
    pub(super) fn settle(&mut self) -> Result<()> {
        while self.in_flight.is_some() {
            let outcome = self.done.recv().map_err(|_| Error::internal("the committer has died"))?;
            self.committed(outcome)?;
        }
        Ok(())
    }

    fn committed(&mut self, outcome: Result<()>) -> Result<()> {
        if let Some(commit) = self.in_flight.take() {
            outcome?;
            self.inputs.committed(&commit.positions);
        }
        Ok(())
    }

    /// Nothing was waiting: an idle partition may let a watermark move.
    fn idle(&mut self) -> Result<()> {
        self.feed_pending()?;
        if self.open.is_none() && self.failed.is_none() {
            let moved = self.inputs.end_epoch();
            if !moved.is_empty() {
                self.open()?;
                for (id, progress) in moved {
                    records::put_progress(&mut self.writes, id, &progress)?;
                }
            }
        }
        Ok(())
    }

    /// Stops epochs, not reads: whoever waits, and whoever writes from now on, is told why.
    fn fail(&mut self, error: Error) {
        tracing::error!(%error, "the engine has stopped: reads go on, writes are refused until a restart");
        if let Some(open) = self.open.take() {
            open.waiters.into_iter().for_each(|waiter| waiter(Err(error.clone())));
        }
        for flush in self.flushes.drain(..) {
            let _ = flush.reply.send(Err(error.clone()));
        }
        self.failed = Some(error.hint("Restart the server; it goes on from the last committed epoch."));
    }

    /// A new object that takes writes or is read as an input.
    pub(super) fn adopt(&mut self, id: ObjectId, progress: Option<records::Progress>) -> Result<()> {
        let object = self.catalog.get(id).expect("only what exists is adopted").clone();
        if let ObjectKind::Table(_) = &object.kind {
            self.shapes.insert(id, Arc::new(TableShape::of(&object)?));
            if let Some(expression) = ingest::watermark_expression(&object, &self.state)? {
                self.watermarks.insert(id, expression);
                self.inputs.track(&object, progress);
            }
        } else if progress.is_some() {
            self.inputs.track(&object, progress);
        }
        Ok(())
    }
}

enum Turn {
    Request(Request),
    Event(SourceEvent),
    Committed(Result<()>),
    Idle,
}

impl Request {
    fn refuse(self, error: Error) {
        match self {
            Request::Write { reply, .. } => drop(reply.send(Err(error))),
            Request::Commit { reply, .. } => drop(reply.send(Err(error))),
            Request::Ddl { reply, .. } => drop(reply.send(Err(error))),
            Request::Flush { reply, .. } => drop(reply.send(Err(error))),
            Request::Ends { reply } => drop(reply.send(Err(error))),
            Request::Shutdown { reply } => drop(reply.send(Ok(()))),
        }
    }
}
