//! What the engine counts, and what it tells of it to whoever watches from outside. The coordinator and the committer count
//! once an epoch; whoever asks adds up, and waits for neither.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::fmt;
use std::fmt::Display;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::catalog::Catalog;
use crate::catalog::Object;
use crate::catalog::ObjectKind;
use crate::catalog::system::EpochFacts;
use crate::catalog::system::KeptFacts;
use crate::catalog::system::Live;
use crate::catalog::system::OperatorFacts;
use crate::dataflow::changelog;
use crate::dataflow::meters::Meters;
use crate::dataflow::meters::Reading;
use crate::engine::Engine;
use crate::engine::Published;
use crate::engine::errors;
use crate::error::Error;
use crate::error::Result;
use crate::ids::Epoch;
use crate::ids::ObjectId;
use crate::plan;
use crate::plan::ir::Node;
use crate::plan::ir::Plan;
use crate::sql::stack;
use crate::state::Space;
use crate::state::Store;
use crate::telemetry::Counter;
use crate::telemetry::Family;
use crate::telemetry::Histogram;
use crate::telemetry::Page;
use crate::time::Clock;
use crate::time::Micros;
use crate::types::datetime::write_timestamptz;
use crate::types::zone::Zone;

/// So many chunks of a changelog are counted one by one.
const KEPT_CHUNKS: usize = 4096;

/// What the engine counts, from its start.
pub struct Metrics {
    /// Where the time comes from.
    pub(super) clock: Arc<dyn Clock>,
    /// What operators have done.
    pub(super) meters: Arc<Meters>,
    store: Arc<Store>,
    /// Epochs committed.
    epochs: Counter,
    /// Epochs that could not be committed.
    lost: Counter,
    /// From an epoch's begin until it is sealed.
    epoch_time: Histogram,
    /// From there until it is on disk.
    commit_time: Histogram,
    /// What commits wrote.
    commit_bytes: Counter,
    /// The last epochs, newest first.
    last_epochs: Mutex<VecDeque<EpochFacts>>,
    /// Rows that came into each table and source.
    inputs: Mutex<BTreeMap<ObjectId, u64>>,
    /// Why nothing can be committed any more.
    stopped: Mutex<Option<Error>>,
}

/// So many of the last epochs are remembered.
const EPOCHS_MAX: usize = 1000;

impl Metrics {
    /// Nothing was counted yet.
    pub fn new(store: Arc<Store>, clock: Arc<dyn Clock>) -> Metrics {
        Metrics {
            meters: Arc::new(Meters::new(clock.clone())),
            clock,
            store,
            epochs: Counter::default(),
            lost: Counter::default(),
            epoch_time: Histogram::default(),
            commit_time: Histogram::default(),
            commit_bytes: Counter::default(),
            last_epochs: Mutex::default(),
            inputs: Mutex::default(),
            stopped: Mutex::default(),
        }
    }

    /// These rows came into tables and sources in an epoch that was sealed.
    pub(super) fn took_in(&self, rows: BTreeMap<ObjectId, u64>, catalog: &Catalog) {
        let mut inputs = self.inputs.lock();
        for (id, rows) in rows {
            let known = inputs.contains_key(&id);
            *inputs.entry(id).or_default() += rows;
            if !known {
                inputs.retain(|id, _| catalog.get(*id).is_some());
            }
        }
    }

    /// An epoch is on disk.
    pub(super) fn committed(&self, epoch: EpochFacts) {
        self.epochs.add(1);
        self.epoch_time.took(epoch.work);
        self.commit_time.took(epoch.commit);
        self.commit_bytes.add(epoch.bytes);
        let mut last = self.last_epochs.lock();
        last.truncate(EPOCHS_MAX - 1);
        last.push_front(epoch);
    }

    /// An epoch is lost.
    pub(super) fn lost(&self) {
        self.lost.add(1);
    }

    /// Nothing is committed, for this reason; or epochs go on.
    pub(super) fn stopped(&self, error: Option<&Error>) {
        *self.stopped.lock() = error.cloned();
    }

    /// A view's plan, with what each operator has done since it was installed in this process.
    pub(super) fn analyze(&self, view: ObjectId, plan: &Plan, catalog: &Catalog) -> Result<Vec<String>> {
        let not_there = || Error::not_ready("the materialized view is not running");
        let readings = self.meters.view(view).ok_or_else(not_there)?;
        let since = plan.nodes.last().and_then(|node| readings.get(&node.id)).map_or(0, |last| last.since);
        let note = |node: &Node| readings.get(&node.id).map_or_else(String::new, |reading| note(reading, since));
        let mut lines = plan::explain::annotated(plan, catalog, &note);
        lines.push(format!("counted since {}", moment(since)));
        Ok(lines)
    }

    fn tell_epochs(&self, published: &Published, page: &mut Page) {
        page.counter("millstream_epochs_total", "Epochs committed.", self.epochs.get());
        page.counter("millstream_epochs_lost_total", "Epochs that could not be committed.", self.lost.get());
        page.histogram("millstream_epoch_seconds", "From an epoch's begin until it is sealed.", &self.epoch_time);
        page.histogram("millstream_commit_seconds", "How long commits took.", &self.commit_time);
        page.counter("millstream_commit_bytes_total", "What commits wrote.", self.commit_bytes.get());
        page.gauge("millstream_epoch", "The last committed epoch.", published.epoch.0);
        let time = published.system.epoch_time.map_or(0.0, seconds);
        page.gauge("millstream_epoch_timestamp_seconds", "When the last committed epoch began.", time);
    }

    /// Rows by object. Changes of relations of errors are told apart: they are what to be alarmed by.
    fn tell_rows(&self, catalog: &Catalog, page: &mut Page) {
        let mut inputs = self.inputs.lock().clone();
        let views = self.meters.views().into_iter().collect::<BTreeMap<_, _>>();
        // A table that nothing came into counts too.
        for object in catalog.objects().filter(|object| takes_rows(object)) {
            inputs.entry(object.id).or_default();
        }
        let is_errors = |id: ObjectId| catalog.get(id).is_some_and(|object| errors::is_errors(object));
        let mut family = page.counters("millstream_input_rows_total", "Rows that came into a table or source.");
        for (id, rows) in inputs.iter().filter(|(id, _)| !is_errors(**id)) {
            sample(&mut family, catalog, *id, rows);
        }
        let mut family = page.counters("millstream_view_rows_total", "Rows that came into a view, or went.");
        let is_sink = |id: ObjectId| catalog.get(id).is_some_and(|o| matches!(o.kind, ObjectKind::Sink(_)));
        for (id, rows) in views.iter().filter(|(id, _)| !is_errors(**id) && !is_sink(**id)) {
            sample(&mut family, catalog, *id, rows);
        }
        let mut family = page.counters("millstream_sink_rows_total", "Changes that a sink has put out.");
        for (id, rows) in views.iter().filter(|(id, _)| is_sink(**id)) {
            sample(&mut family, catalog, *id, rows);
        }
        let help = "Rows that came into a relation $errors or $late, or went.";
        let mut family = page.counters("millstream_error_rows_total", help);
        for (id, rows) in inputs.iter().chain(&views).filter(|(id, _)| is_errors(**id)) {
            sample(&mut family, catalog, *id, rows);
        }
    }

    fn tell_store(&self, page: &mut Page) {
        let (store, blocks) = (self.store.vitals(), &self.meters.blocks);
        page.gauge("millstream_state_memory_bytes", "Operator state in memory.", self.meters.state_bytes());
        page.gauge("millstream_store_live_bytes", "About what the store holds on disk.", store.live_bytes);
        page.gauge("millstream_store_file_bytes", "What the store's files of data take.", store.file_bytes);
        page.gauge("millstream_store_compaction_bytes", "About what waits to be compacted.", store.compaction_bytes);
        page.gauge("millstream_store_memtable_bytes", "Memory of the store's memtables.", store.memtable_bytes);
        page.gauge("millstream_store_cache_bytes", "Memory of the store's block cache.", store.cache_bytes);
        let help = "Blocks that operators found in the block cache.";
        page.counter("millstream_store_cache_hits_total", help, blocks.hits.get());
        let help = "Blocks that operators had to read from files.";
        page.counter("millstream_store_cache_misses_total", help, blocks.misses.get());
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Live for Metrics {
    fn rows_out(&self, object: ObjectId) -> Option<u64> {
        self.meters.rows_out(object)
    }

    fn kept(&self, object: ObjectId, after: Epoch) -> Result<KeptFacts> {
        let (space, from) = (Space::Changelog(object), changelog::key_of(after.next()));
        let mut scan = self.store.reader(None).scan(space, Some(&from), None);
        let mut kept = KeptFacts::default();
        for _ in 0..KEPT_CHUNKS {
            let Some((key, value)) = scan.next_entry()? else { return Ok(kept) };
            let (_, time) = changelog::head(key, value)?;
            kept.since.get_or_insert(time);
            kept.bytes += (key.len() + value.len()) as u64;
        }
        // So many are not counted, but measured.
        Ok(KeptFacts { bytes: kept.bytes.max(self.store.changelog_bytes_after(object, &from)), ..kept })
    }

    fn epochs(&self) -> Vec<EpochFacts> {
        self.last_epochs.lock().iter().rev().cloned().collect()
    }

    fn operators(&self, catalog: &Catalog) -> Result<Vec<OperatorFacts>> {
        let mut all = Vec::new();
        for object in catalog.objects() {
            let Some(plan) = object.plan() else { continue };
            let Some(readings) = self.meters.view(object.id) else { continue };
            let plan = plan::stored::read(plan)?;
            for node in &plan.nodes {
                let Some(reading) = readings.get(&node.id) else { continue };
                all.push(OperatorFacts {
                    view: object.id,
                    node: node.id.0,
                    inputs: node.inputs.iter().map(|input| input.0).collect(),
                    operator: plan::explain::operator(&plan, node, catalog),
                    views: reading.views,
                    since: reading.since,
                    rows_in: reading.rows_in,
                    rows_out: reading.rows_out,
                    busy: reading.busy,
                    state_bytes: reading.state_bytes,
                });
            }
        }
        Ok(all)
    }
}

/// What an operator has done. One that works for other views too may have done so for longer.
fn note(reading: &Reading, since: Micros) -> String {
    let Reading { rows_in, rows_out, state_bytes, views, .. } = reading;
    let time = reading.busy.as_secs_f64() * 1e3;
    let state = if *state_bytes > 0 { format!(" state={state_bytes} bytes") } else { String::new() };
    let shared = if *views > 1 { format!(", for {views} views") } else { String::new() };
    let longer = if reading.since != since { format!(" since {}", moment(reading.since)) } else { String::new() };
    format!(" (in={rows_in} out={rows_out} time={time:.3} ms{state}{shared}{longer})")
}

/// A moment as text, in UTC.
fn moment(micros: Micros) -> String {
    let mut text = String::new();
    write_timestamptz(micros, &Zone::UTC, &mut text);
    text
}

/// Whether rows come into an object from outside.
fn takes_rows(object: &Object) -> bool {
    match &object.kind {
        ObjectKind::Table(_) | ObjectKind::Source(_) => true,
        ObjectKind::View(_) | ObjectKind::MaterializedView(_) => false,
        ObjectKind::Sink(_) | ObjectKind::Subscription(_) => false,
    }
}

impl Engine {
    /// Whether work is taken; else why not.
    pub fn health(&self) -> Result<()> {
        if let Some(error) = &*self.shared.metrics.stopped.lock() {
            return Err(error.clone());
        }
        let threads = self.shared.threads.lock();
        if threads.is_empty() || threads.iter().any(|thread| thread.is_finished()) {
            return Err(Error::shutdown("the engine has ended"));
        }
        Ok(())
    }

    /// Writes what was counted.
    pub fn tell(&self, page: &mut Page) {
        let (published, metrics) = (self.published(), &self.shared.metrics);
        let (catalog, system) = (&published.catalog, &published.system);
        metrics.tell_epochs(&published, page);
        metrics.tell_rows(catalog, page);
        let mut lag = page.gauges("millstream_source_lag_messages", "Messages that are there and not yet committed.");
        for (id, partition, lag_messages) in system.lags() {
            if let Some(object) = catalog.get(id) {
                lag.sample(&[("object", &name(object)), ("partition", partition)], lag_messages);
            }
        }
        let mut trouble = page.gauges("millstream_source_trouble", "1 for a source that cannot be read.");
        for object in catalog.objects().filter(|object| object.feed().is_some()) {
            let troubled = system.troubles.iter().any(|(id, _)| *id == object.id);
            sample(&mut trouble, catalog, object.id, u8::from(troubled));
        }
        let mut behind = page.gauges("millstream_watermark_lag_seconds", "How far a watermark is behind the clock.");
        for facts in &system.watermarks {
            if let (None, Some(watermark)) = (&facts.partition, facts.watermark) {
                sample(&mut behind, catalog, facts.object, seconds(metrics.clock.now() - watermark));
            }
        }
        metrics.tell_store(page);
        page.gauges("millstream_queue_length", "What waits for the coordinator.")
            .sample(&[("queue", "requests")], self.shared.requests.len())
            .sample(&[("queue", "source_batches")], self.shared.events.len());
        let given_up = stack::GIVEN_UP.count();
        page.gauge("millstream_plannings_given_up", "Cancelled statements that are still being planned.", given_up);
    }
}

/// A value of an object; nothing for one that is in no catalog.
fn sample(family: &mut Family<'_>, catalog: &Catalog, id: ObjectId, value: impl Display) {
    if let Some(object) = catalog.get(id) {
        family.sample(&[("object", &name(object))], value);
    }
}

fn name(object: &Object) -> String {
    format!("{}.{}", object.schema, object.name)
}

fn seconds(micros: Micros) -> f64 {
    micros as f64 / 1e6
}
