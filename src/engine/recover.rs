//! What is stored becomes a running engine: when a database is opened, and when an epoch was lost. Plans are loaded, never
//! made again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use crossbeam_channel::bounded;
use crossbeam_channel::unbounded;
use datafusion::execution::SessionState;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use tokio::sync::watch;

use crate::catalog::ObjectKind;
use crate::dataflow::changelog;
use crate::dataflow::runtime::Runtime;
use crate::dataflow::runtime::Start;
use crate::engine::Engine;
use crate::engine::EngineOptions;
use crate::engine::Published;
use crate::engine::Shared;
use crate::engine::changes;
use crate::engine::commit;
use crate::engine::coordinator::Channels;
use crate::engine::coordinator::Coordinator;
use crate::engine::coordinator::Limits;
use crate::engine::coordinator::Work;
use crate::engine::ddl::all_progress;
use crate::engine::ddl::inputs_of;
use crate::engine::ingest::Inputs;
use crate::engine::metrics::Metrics;
use crate::engine::records;
use crate::engine::records::Counters;
use crate::engine::spill;
use crate::engine::table::Changes;
use crate::engine::windowed::Planner;
use crate::error::Error;
use crate::error::Result;
use crate::functions::from_datafusion;
use crate::ids::Epoch;
use crate::plan;
use crate::sql::semantics;
use crate::state::Snapshot;
use crate::state::Store;
use crate::state::StoreOptions;
use crate::state::Writes;

/// Batches of sources that may wait for the coordinator.
const EVENTS_MAX: usize = 16;

/// An epoch may take at least so much memory.
const EPOCH_BYTES_MIN: usize = 16 << 20;

/// Epochs lost one after the other, with nothing committed between them, after which the engine stops.
const LOST_MAX: u32 = 3;

/// So many runs before are remembered; a subscriber cannot go on from an epoch of an earlier one.
const RUNS_MAX: usize = 1000;

/// About what the server takes of the memory limit before it shares out any: code, threads, tables of the catalog.
const SERVER_BYTES: usize = 192 << 20;

/// One part in so many of the rest is not shared out: what the allocator keeps, and what is not counted.
const UNCOUNTED: usize = 4;

/// Reads get at least so much memory.
const READ_BYTES_MIN: usize = 16 << 20;

/// Opens the database in its directory and starts its threads.
pub fn open(options: EngineOptions) -> Result<Engine> {
    let shared = options.memory_limit_bytes - SERVER_BYTES.min(options.memory_limit_bytes / 8 * 3);
    let memory = shared - shared / UNCOUNTED;
    let store_options = StoreOptions { cache_bytes: memory / 4, write_buffer_bytes: memory / 8 };
    let store = Store::open(&options.data_dir, store_options)?;
    crate::fault::point("recovery.after_open");
    let snapshot = store.snapshot();
    let row_ids = Arc::new(AtomicI64::new(records::row_id(&snapshot)?));
    let state = Arc::new(session_state(memory / 4)?);
    let (request, requests) = unbounded();
    let (event, events) = bounded(EVENTS_MAX);
    let (commit, commits) = bounded(1);
    let (told, done) = bounded(1);
    let limits = Limits {
        workers: options.workers,
        state_bytes: memory / 4,
        epoch_bytes: (memory / 4).max(EPOCH_BYTES_MIN),
        fill_rows: options.fill_rows.max(1),
    };
    let epoch = store.committed_epoch()?.unwrap_or(Epoch(0));
    let environment = Arc::new(options.environment);
    let metrics = Arc::new(Metrics::new(store.clone(), options.clock.clone()));
    let inputs = Inputs::new(event.clone(), options.clock.clone(), environment.clone());
    let channels = Channels { requests, events, commits: commit, done };
    let mut coordinator =
        Coordinator::new(limits, store.clone(), state.clone(), inputs, metrics.clone(), row_ids.clone(), channels)?;
    coordinator.changelogs.sealed = epoch;
    coordinator.load()?;
    coordinator.epoch = Epoch(coordinator.counters.epochs_reserved);
    begin_run(&mut coordinator.counters, epoch, coordinator.epoch.next());
    take_out_the_dead(&mut coordinator, &snapshot)?;
    let system = coordinator.system_context(epoch);
    let recovered = Published::new(epoch, coordinator.catalog.clone(), snapshot, system);
    let published = Arc::new(watch::Sender::new(Arc::new(recovered)));
    crate::fault::point("recovery.after_load");
    let (committer, counted) = (published.clone(), metrics.clone());
    let committing = spawn("committer", move || commit::run(store, committer, commits, told, &counted))?;
    let thread = spawn("coordinator", move || coordinator.run())?;
    let shared = Shared {
        requests: request,
        events: event,
        metrics,
        published,
        state,
        epoch_bytes: limits.epoch_bytes,
        row_ids,
        clock: options.clock,
        environment,
        ending: Arc::default(),
        threads: parking_lot::Mutex::new(vec![thread, committing]),
    };
    Ok(Engine { shared: Arc::new(shared) })
}

/// How reads are run: one after the other inside a query, since many queries run beside each other and the workers need the
/// cores too; together they may take so many bytes, and spill what goes beyond.
fn session_state(memory_bytes: usize) -> Result<SessionState> {
    let runtime = RuntimeEnvBuilder::new().with_memory_limit(memory_bytes.max(READ_BYTES_MIN), 1.0).build_arc();
    let state = semantics::session_state("UTC").with_runtime_env(runtime.map_err(from_datafusion)?);
    let state = state.with_query_planner(Arc::new(Planner));
    let mut state = state.build();
    state.config_mut().options_mut().execution.target_partitions = 1;
    Ok(state)
}

impl Coordinator {
    /// Brings everything that is stored to life, oldest first.
    fn load(&mut self) -> Result<()> {
        let snapshot = self.store.snapshot();
        let (catalog, counters) = records::load(&snapshot)?;
        let mut progress = all_progress(&catalog, &snapshot)?;
        self.catalog = Arc::new(catalog);
        let before = std::mem::replace(&mut self.counters, counters);
        self.counters.time = self.counters.time.max(before.time);
        if before.first_epoch > self.counters.first_epoch {
            (self.counters.first_epoch, self.counters.runs) = (before.first_epoch, before.runs);
        }
        self.load_named(&snapshot)?;
        let (mut read, mut behind) = (BTreeSet::new(), BTreeSet::new());
        for object in self.catalog.clone().objects() {
            self.adopt(object.id, progress.remove(&object.id))?;
            if let ObjectKind::Table(_) = &object.kind {
                read.insert(object.id);
            }
            if let Some(plan) = object.plan() {
                let plan = Arc::new(plan::stored::read(plan)?);
                read.extend(inputs_of(&plan));
                if let Some(filled) = records::filled(&snapshot, object.id)? {
                    behind.extend(&filled.views);
                    self.stand_behind(object.id, filled, plan.clone());
                }
                let start = if behind.contains(&object.id) { Start::Behind } else { Start::Joined };
                self.runtime.install(object.id, plan, object.storage(), start);
            }
        }
        self.runtime.recover(&self.inputs.own_watermarks());
        for id in read {
            if let Err(error) = self.start_if_source(id) {
                self.inputs.trouble(id, error, false);
            }
        }
        for view in behind {
            if let Err(error) = self.start_replays(view)
                && let Some(filling) = self.behind.get_mut(view)
            {
                filling.trouble = Some(error);
            }
        }
        Ok(())
    }

    /// The running epoch cannot be committed: everything returns to the last one that was, and the writes that were in it
    /// are taken in once more, each in an epoch of its own, so that the one that is the cause fails alone.
    pub(super) fn lose_epoch(&mut self, error: Error) {
        if self.failed.is_some() {
            return;
        }
        tracing::warn!(%error, epoch = self.epoch.0, "an epoch is lost, and what it took in is taken in again");
        self.lost += 1;
        self.metrics.lost();
        if self.lost > LOST_MAX {
            return self.stop(error);
        }
        let suspects = self.suspects();
        let work = self.return_to_commit();
        self.behind.paused = true;
        for work in work {
            if let Work::Pieces(_) = work {
                work.tell(Err(error.clone()));
                continue;
            }
            if let Err(error) = self.admit(work).and_then(|()| self.close()) {
                self.return_to_commit().into_iter().for_each(|work| work.tell(Err(error.clone())));
            }
        }
        // A request to drop what is not wanted any more may have been lost too.
        let halted = self.halt(suspects, &error).and_then(|()| self.drop_abandoned());
        self.behind.paused = false;
        if let Err(error) = halted {
            self.stop(error);
        }
    }

    /// Forgets the running epoch, and everything in memory with it. Returns the writes that were in it.
    pub(super) fn return_to_commit(&mut self) -> Vec<Work> {
        // A commit that fails stops the engine, and answers whoever waits.
        if self.failed.is_some() || self.settle().is_err() {
            return Vec::new();
        }
        if let Err(error) = self.store.settle_spilled() {
            self.stop(error);
            return Vec::new();
        }
        let (work, joined) = self.open.take().map(|open| (open.work, open.joined)).unwrap_or_default();
        let behind = self.behind.take().into_iter().chain(joined).collect::<Vec<_>>();
        self.pending.clear();
        self.pending_rows = 0;
        self.writes = Writes::default();
        self.changes = Changes::default();
        self.shapes.clear();
        self.watermarks.clear();
        self.inputs.clear();
        self.drop_waiting_events();
        if let Ok(Some(committed)) = self.store.committed_epoch() {
            self.changelogs.return_to(committed);
        }
        // The lost epoch's number was never committed.
        begin_run(&mut self.counters, self.changelogs.sealed, self.epoch.next());
        let memory = spill::memory(&self.limits);
        let started = Runtime::start(self.limits.workers, memory, self.metrics.meters.clone());
        let loaded = started.and_then(|runtime| {
            self.runtime = runtime;
            self.load()
        });
        self.lose_transients();
        match loaded {
            Ok(()) => {
                self.wait_again(behind);
                work
            }
            Err(error) => {
                work.into_iter().for_each(|work| work.tell(Err(error.clone())));
                self.behind.views.extend(behind);
                self.stop(error);
                Vec::new()
            }
        }
    }
}

/// The epochs of the run before are now known, up to the last that survived; the next begins with this one.
fn begin_run(counters: &mut Counters, committed: Epoch, first: Epoch) {
    if committed >= counters.first_epoch {
        counters.runs.push((counters.first_epoch, committed));
        let forgotten = counters.runs.len().saturating_sub(RUNS_MAX);
        counters.runs.drain(..forgotten);
    }
    counters.first_epoch = first;
}

/// Takes up the changelogs that are kept, and drops what belongs to nothing: state and rows of what was dropped or never
/// finished, changes that only those needed who are gone with the process.
fn take_out_the_dead(coordinator: &mut Coordinator, snapshot: &Snapshot) -> Result<()> {
    let (catalog, store) = (coordinator.catalog.clone(), coordinator.store.clone());
    let mut used = BTreeSet::new();
    for object in catalog.objects() {
        if let Some(plan) = object.plan() {
            used.extend(plan::stored::read(plan)?.tables());
        }
        if !coordinator.behind.has(object.id)
            && let Some((retention_ms, since)) = changes::kept_since(snapshot, object)?
        {
            coordinator.changelogs.needs.retain(object.id, Some(retention_ms), since);
        }
    }
    for object in catalog.objects() {
        match coordinator.changelogs.needs.since(object.id) {
            Some(since) => store.drop_changes(object.id, &changelog::key_of(Epoch(0)), since)?,
            None => store.drop_changes(object.id, records::KEPT, coordinator.changelogs.sealed)?,
        }
    }
    let tables = store.tables_besides(&used)?.into_iter().collect::<Vec<_>>();
    let dead = store.objects_besides(&catalog.objects().map(|object| object.id).collect())?;
    store.drop_spaces(&tables, &dead.into_iter().collect::<Vec<_>>())
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<std::thread::JoinHandle<()>> {
    Ok(std::thread::Builder::new().name(name.to_string()).stack_size(16 << 20).spawn(work)?)
}
