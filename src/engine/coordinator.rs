//! The coordinator: one thread that turns what is waiting into epochs.
//!
//! It takes requests of sessions and batches of sources in order of arrival, resolves writes, feeds the workers in steps,
//! and closes the epoch when the committer is free and nothing more is waiting, or when the epoch has reached its bounds.
//! The commit of epoch *n* runs while epoch *n + 1* computes; at most one is in flight.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::Receiver;
use crossbeam_channel::Sender;
use crossbeam_channel::select;
use datafusion::execution::SessionState;
use datafusion::physical_expr::PhysicalExpr;
use tokio::sync::oneshot;

use crate::catalog::Catalog;
use crate::catalog::ObjectKind;
use crate::connectors::EndQuestion;
use crate::connectors::Positions;
use crate::connectors::SourceBatch;
use crate::connectors::SourceEvent;
use crate::dataflow::runtime::Aside;
use crate::dataflow::runtime::Runtime;
use crate::dataflow::runtime::STEP_ROWS;
use crate::delta::Delta;
use crate::engine::DdlOutcome;
use crate::engine::Written;
use crate::engine::changes::Changelogs;
use crate::engine::changes::Followed;
use crate::engine::changes::Target;
use crate::engine::commit::Commit;
use crate::engine::ddl::Executed;
use crate::engine::ddl::Prepared;
use crate::engine::epoch::InFlight;
use crate::engine::epoch::Open;
use crate::engine::errors;
use crate::engine::filling::Behind;
use crate::engine::filling::Waiting;
use crate::engine::ingest::Inputs;
use crate::engine::metrics::Metrics;
use crate::engine::records;
use crate::engine::records::Counters;
use crate::engine::rows;
use crate::engine::spill;
use crate::engine::spill::Pieces;
use crate::engine::standstill::Standstill;
use crate::engine::table::Changes;
use crate::engine::table::TableShape;
use crate::engine::transient::Transient;
use crate::engine::write::Conflict;
use crate::engine::write::TableWrite;
use crate::error::Error;
use crate::error::Result;
use crate::ids::Epoch;
use crate::ids::ObjectId;
use crate::sql::bound::Advance;
use crate::state::Store;
use crate::state::Writes;
use crate::time::Clock;

/// How long the coordinator sleeps when nothing but news can wake it.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// What sessions ask for.
pub enum Request {
    /// A write to tables; the flag in the answer says that it must be tried again from its scan.
    Write { write: TableWrite, reply: oneshot::Sender<Result<(Written, bool)>> },
    /// A statement whose rows do not fit into memory at once.
    Pieces { pieces: Pieces, reply: oneshot::Sender<Result<Written>> },
    /// All writes of a transaction.
    Commit { changes: Changes, reply: oneshot::Sender<Result<()>> },
    /// A change to the catalog; the flag says that it is not wanted any more.
    Ddl { ddl: Box<Prepared>, unwanted: Arc<AtomicBool>, reply: oneshot::Sender<Result<DdlOutcome>> },
    /// Wait until all input before these ends is visible.
    Flush { ends: BTreeMap<ObjectId, Positions>, reply: oneshot::Sender<Result<()>> },
    /// Ask where the sources that are read end.
    Ends { reply: oneshot::Sender<Result<Vec<(ObjectId, EndQuestion)>>> },
    /// Follow changes, from now on or after an epoch.
    Subscribe { target: Target, as_of: Option<Epoch>, reply: oneshot::Sender<Result<Followed>> },
    /// Move a named subscription on.
    Advance { advance: Advance, reply: oneshot::Sender<Result<()>> },
    /// A client has left that subscribed to a query, or does not want any more the view that it waits for.
    Left,
    /// Commit what is open and end.
    Shutdown { reply: oneshot::Sender<Result<()>> },
}

/// A write that a session waits for. The running epoch keeps it, to take it in once more should the epoch be lost.
pub(super) enum Work {
    /// A statement's.
    Write(TableWrite, Question<(Written, bool)>),
    /// A statement's that came in pieces, which are gone: it cannot be taken in once more.
    Pieces(Question<Written>),
    /// A transaction's.
    Commit(Changes, Question<()>),
    /// An acknowledgement of changes.
    Advance(Advance, Question<()>),
}

/// What a session asked, with the answer it gets when the epoch is committed.
pub(super) struct Question<T> {
    pub(super) reply: oneshot::Sender<Result<T>>,
    pub(super) answer: Result<T>,
}

/// What the engine may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Worker threads.
    pub workers: usize,
    /// Memory for operator state between epochs, in bytes.
    pub state_bytes: usize,
    /// Memory for what one epoch changes, in bytes.
    pub epoch_bytes: usize,
    /// Rows that a view which is being filled takes in at once.
    pub fill_rows: usize,
}

/// Somebody who waits for sources to come so far.
pub(super) struct Flush {
    pub(super) targets: BTreeMap<ObjectId, Positions>,
    pub(super) reply: oneshot::Sender<Result<()>>,
}

/// The coordinator's state.
pub struct Coordinator {
    pub(super) limits: Limits,
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
    /// What is counted.
    pub(super) metrics: Arc<Metrics>,
    pub(super) counters: Counters,
    pub(super) row_ids: Arc<AtomicI64>,
    /// Writes of the engine itself in the running epoch: catalog, progress.
    pub(super) writes: Writes,
    pub(super) changes: Changes,
    pub(super) epoch: Epoch,
    pub(super) requests: Receiver<Request>,
    pub(super) events: Receiver<SourceEvent>,
    pub(super) commits: Sender<Commit>,
    pub(super) done: Receiver<Result<Duration>>,
    pub(super) open: Option<Open>,
    /// The epoch whose commit is in flight.
    pub(super) in_flight: Option<InFlight>,
    /// Who waits for sources to come so far.
    pub(super) flushes: Vec<Flush>,
    /// Who needs which changes.
    pub(super) changelogs: Changelogs,
    /// Views that are being filled.
    pub(super) behind: Behind,
    /// The views of subscriptions to queries.
    pub(super) transients: BTreeMap<ObjectId, Transient>,
    /// Source rows not yet fed, by source.
    pub(super) pending: Vec<(ObjectId, Delta)>,
    pub(super) pending_rows: usize,
    /// Epochs lost since the last that was committed.
    pub(super) lost: u32,
    /// Why nothing can be committed.
    pub(super) failed: Option<Standstill>,
}

/// The channels that join the coordinator to sessions, readers and the committer.
pub struct Channels {
    pub requests: Receiver<Request>,
    pub events: Receiver<SourceEvent>,
    pub commits: Sender<Commit>,
    pub done: Receiver<Result<Duration>>,
}

impl Coordinator {
    /// A coordinator of an opened database; `recover` brings in what is there.
    pub fn new(
        limits: Limits,
        store: Arc<Store>,
        state: Arc<SessionState>,
        inputs: Inputs,
        metrics: Arc<Metrics>,
        row_ids: Arc<AtomicI64>,
        channels: Channels,
    ) -> Result<Coordinator> {
        let runtime = Runtime::start(limits.workers, spill::memory(&limits), metrics.meters.clone())?;
        Ok(Coordinator {
            limits,
            store,
            runtime,
            catalog: Arc::new(Catalog::new()),
            state,
            inputs,
            shapes: HashMap::new(),
            watermarks: HashMap::new(),
            clock: metrics.clock.clone(),
            metrics,
            counters: Counters::default(),
            row_ids,
            writes: Writes::default(),
            changes: Changes::default(),
            epoch: Epoch(0),
            lost: 0,
            requests: channels.requests,
            events: channels.events,
            commits: channels.commits,
            done: channels.done,
            open: None,
            in_flight: None,
            flushes: Vec::new(),
            changelogs: Changelogs::new(Epoch(0)),
            behind: Behind::new(limits.fill_rows),
            transients: BTreeMap::new(),
            pending: Vec::new(),
            pending_rows: 0,
            failed: None,
        })
    }

    /// Works until it is told to end.
    pub fn run(mut self) {
        while let Some(turn) = self.next() {
            self.end_standstill();
            let outcome = match turn {
                Turn::Request(Request::Shutdown { reply }) => {
                    let closed = self.close().and_then(|()| self.settle());
                    // Nothing is lost without it.
                    if let Err(error) = closed.clone().and_then(|()| self.store.flush()) {
                        tracing::warn!(%error, "the next start will take longer");
                    }
                    let _ = reply.send(closed);
                    return;
                }
                Turn::Request(request) => self.request(request),
                Turn::Event(event) => self.event(event),
                Turn::Replayed(event) => self.replay_event(event),
                Turn::Aside(aside) => {
                    self.aside_done(aside);
                    Ok(())
                }
                Turn::Committed(outcome) => self.committed(outcome),
                Turn::Idle => self.idle(),
            };
            if let Err(error) = outcome.and_then(|()| self.close_if_due()) {
                self.lose_epoch(error);
            }
        }
    }

    /// Waits for the next thing to do; `None` when everybody has gone.
    fn next(&self) -> Option<Turn> {
        let standstill = self.failed.as_ref().map(Standstill::wait);
        let wait = match (&self.open, &self.in_flight) {
            _ if let Some(wait) = standstill => wait,
            _ if self.can_fill() => Duration::ZERO,
            // A step of a view that is being filled is still worked.
            (Some(_), None) if self.keeps_filling() => WAIT_MAX,
            (Some(_), None) => Duration::ZERO,
            (Some(_), Some(_)) => WAIT_MAX,
            (None, None) if self.runtime.can_warm() => Duration::ZERO,
            (None, _) => self.inputs.next_idle().unwrap_or(WAIT_MAX),
        };
        let wait = self.rest_of_filling().map_or(wait, |rest| rest.min(wait));
        // Where sources wait, that is the backpressure.
        let never = crossbeam_channel::never();
        let events = if self.sources_wait() || self.failed.is_some() { &never } else { &self.events };
        // What is read once more comes after all else; an epoch under load has a share of it.
        let idle = self.requests.is_empty() && self.events.is_empty();
        let replays = if idle && self.has_room_to_fill() { &self.behind.replays.events } else { &never };
        select! {
            recv(self.requests) -> request => request.ok().map(Turn::Request),
            recv(events) -> event => Some(event.map_or(Turn::Idle, Turn::Event)),
            recv(replays) -> event => Some(event.map_or(Turn::Idle, Turn::Replayed)),
            recv(self.runtime.asides()) -> aside => Some(aside.map_or(Turn::Idle, Turn::Aside)),
            recv(self.done) -> outcome => Some(Turn::Committed(outcome.unwrap_or(Ok(Duration::ZERO)))),
            default(wait) => Some(Turn::Idle),
        }
    }

    fn request(&mut self, request: Request) -> Result<()> {
        if let Some(Standstill { error, .. }) = &self.failed {
            request.refuse(error.clone());
            return Ok(());
        }
        match request {
            Request::Write { write, reply } => self.admit(Work::Write(write, Question::new(reply)))?,
            Request::Pieces { pieces, reply } => self.take_pieces(pieces, reply)?,
            Request::Commit { changes, reply } => self.admit(Work::Commit(changes, Question::new(reply)))?,
            Request::Ddl { unwanted, reply, .. } if unwanted.load(Ordering::Relaxed) => {
                drop(reply.send(Err(Error::cancelled("canceling statement before it began"))));
            }
            Request::Ddl { ddl, unwanted, reply } => {
                if let Err(error) = self.end_epochs() {
                    self.lose_epoch(error);
                }
                if let Some(Standstill { error, .. }) = &self.failed {
                    drop(reply.send(Err(error.clone())));
                    return Ok(());
                }
                match self.execute_ddl(*ddl) {
                    Ok(Executed::Done(outcome)) => {
                        tracing::info!(epoch = self.epoch.0, tag = outcome.tag, "the catalog has changed");
                        drop(reply.send(Ok(outcome)));
                    }
                    Ok(Executed::Filling(view, outcome)) => {
                        tracing::info!(epoch = self.epoch.0, view = view.0, "a view is being filled");
                        self.wait_for_view(view, Waiting::Create { reply, outcome, unwanted });
                    }
                    Err(error) => drop(reply.send(Err(error))),
                }
            }
            Request::Flush { ends, reply } => match self.inputs.failure(ends.keys().copied()) {
                Some(error) => drop(reply.send(Err(error))),
                None => {
                    self.flushes.push(Flush { targets: ends, reply });
                    self.open()?;
                }
            },
            Request::Ends { reply } => drop(reply.send(Ok(self.inputs.ends()))),
            Request::Subscribe { target, as_of, reply } => match target {
                Target::Object(id) => drop(reply.send(self.follow(id, as_of))),
                Target::Named(id, snapshot) => drop(reply.send(self.follow_named(id, as_of, snapshot))),
                Target::Query(query) => self.follow_query(*query, reply)?,
            },
            Request::Advance { advance, reply } => self.admit(Work::Advance(advance, Question::new(reply)))?,
            Request::Left => self.drop_abandoned()?,
            Request::Shutdown { reply } => {
                let _ = reply.send(Ok(()));
            }
        }
        Ok(())
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

    /// Forgets what readers had brought that were stopped.
    pub(super) fn drop_waiting_events(&mut self) {
        while self.events.try_recv().is_ok() {}
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
        let Some((object, made)) = self.inputs.take(&mut batch)? else { return Ok(()) };
        self.keep_batch_errors(&batch)?;
        if made.rows.num_rows() == 0 {
            return Ok(());
        }
        if let ObjectKind::Table(_) = object.kind {
            // They can be read again, so the epoch need not be synced for them.
            let write = TableWrite::Upsert { table: object.id, rows: made.rows, deleted: made.deleted };
            for (table, delta) in self.resolve(&write, None)?.deltas {
                let delta = self.stamped(table, delta)?;
                self.feed(vec![(table, delta)])?;
            }
            return Ok(());
        }
        let watermarks = vec![self.inputs.watermark(object.id); made.rows.num_rows()];
        let rows = made.stored(&object, watermarks)?;
        self.pending_rows += rows.num_rows();
        self.pending.push((object.id, Delta::inserts(rows)));
        if self.pending_rows >= STEP_ROWS * 2 || self.events.is_empty() {
            self.feed_pending()?;
        }
        Ok(())
    }

    /// Puts messages that could not be decoded into the source's relation of errors. They can be read again, so the epoch
    /// need not be synced for them.
    pub(super) fn keep_batch_errors(&mut self, batch: &SourceBatch) -> Result<()> {
        let source = self.catalog.get(batch.source).filter(|_| !batch.errors.is_empty());
        let Some(errors) = source.and_then(|source| errors::find(&self.catalog, source)).cloned() else {
            return Ok(());
        };
        let rows = errors::source_rows(&self.catalog, &errors, batch)?;
        let conflict = Conflict::Nothing;
        let write = TableWrite::Insert { table: errors.id, rows, conflict, returning: None };
        let resolved = self.resolve(&write, None)?;
        resolved.deltas.into_iter().try_for_each(|(table, delta)| self.feed(vec![(table, delta)]))
    }

    /// A new object that takes writes or is read as an input.
    pub(super) fn adopt(&mut self, id: ObjectId, progress: Option<records::Progress>) -> Result<()> {
        let object = self.catalog.get(id).expect("only what exists is adopted").clone();
        if let ObjectKind::Table(_) = &object.kind {
            self.shapes.insert(id, Arc::new(TableShape::of(&object)?));
            if let Some(expression) = rows::watermark_expression(&object, &self.state)? {
                self.watermarks.insert(id, expression);
            }
            if object.watermark().is_some() || object.feed().is_some() {
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
    Replayed(SourceEvent),
    Aside(Aside),
    Committed(Result<Duration>),
    Idle,
}

impl<T> Question<T> {
    pub(super) fn new(reply: oneshot::Sender<Result<T>>) -> Question<T> {
        Question { reply, answer: Err(Error::internal("a write was not answered")) }
    }
}

impl Work {
    /// Tells whoever waits: what came of the commit, then the answer.
    pub(super) fn tell(self, outcome: Result<()>) {
        match self {
            Work::Write(_, Question { reply, answer }) => drop(reply.send(outcome.and(answer))),
            Work::Pieces(Question { reply, answer }) => drop(reply.send(outcome.and(answer))),
            Work::Commit(_, Question { reply, answer }) => drop(reply.send(outcome.and(answer))),
            Work::Advance(_, Question { reply, answer }) => drop(reply.send(outcome.and(answer))),
        }
    }
}

impl Request {
    fn refuse(self, error: Error) {
        match self {
            Request::Write { reply, .. } => drop(reply.send(Err(error))),
            Request::Pieces { reply, .. } => drop(reply.send(Err(error))),
            Request::Commit { reply, .. } => drop(reply.send(Err(error))),
            Request::Ddl { reply, .. } => drop(reply.send(Err(error))),
            Request::Flush { reply, .. } => drop(reply.send(Err(error))),
            Request::Ends { reply } => drop(reply.send(Err(error))),
            Request::Subscribe { reply, .. } => drop(reply.send(Err(error))),
            Request::Advance { reply, .. } => drop(reply.send(Err(error))),
            Request::Left => {}
            Request::Shutdown { reply } => drop(reply.send(Ok(()))),
        }
    }
}
