//! What the engine counts, and what it tells of it to whoever watches from outside. The coordinator and the committer count
//! once an epoch; whoever asks adds up, and waits for neither.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::catalog::Catalog;
use crate::catalog::Object;
use crate::catalog::ObjectKind;
use crate::dataflow::meters::Meters;
use crate::engine::Engine;
use crate::engine::Published;
use crate::engine::errors;
use crate::error::Error;
use crate::error::Result;
use crate::ids::ObjectId;
use crate::state::Store;
use crate::telemetry::Counter;
use crate::telemetry::Family;
use crate::telemetry::Histogram;
use crate::telemetry::Page;
use crate::time::Clock;
use crate::time::Micros;

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
    /// Rows that came into each table and source.
    inputs: Mutex<BTreeMap<ObjectId, u64>>,
    /// Why nothing can be committed any more.
    stopped: Mutex<Option<Error>>,
}

/// What a committed epoch was.
#[derive(Clone, Debug)]
pub struct EpochFacts {
    /// How long it was worked on, until it was sealed.
    pub work: Duration,
    /// What its commit wrote, in bytes.
    pub bytes: usize,
}

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
    pub(super) fn committed(&self, epoch: &EpochFacts, commit: Duration) {
        self.epochs.add(1);
        self.epoch_time.took(epoch.work);
        self.commit_time.took(commit);
        self.commit_bytes.add(epoch.bytes as u64);
    }

    /// An epoch is lost.
    pub(super) fn lost(&self) {
        self.lost.add(1);
    }

    /// Nothing is committed any more.
    pub(super) fn stopped(&self, error: &Error) {
        *self.stopped.lock() = Some(error.clone());
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
        for (id, rows) in views.iter().filter(|(id, _)| !is_errors(**id)) {
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

/// Whether rows come into an object from outside.
fn takes_rows(object: &Object) -> bool {
    match &object.kind {
        ObjectKind::Table(_) | ObjectKind::Source(_) => true,
        ObjectKind::View(_) | ObjectKind::MaterializedView(_) => false,
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
        for (id, partition, watermark) in &system.watermarks {
            if let (None, Some(watermark)) = (partition, watermark) {
                sample(&mut behind, catalog, *id, seconds(metrics.clock.now() - watermark));
            }
        }
        metrics.tell_store(page);
        page.gauges("millstream_queue_length", "What waits for the coordinator.")
            .sample(&[("queue", "requests")], self.shared.requests.len())
            .sample(&[("queue", "source_batches")], self.shared.events.len());
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
