//! What every operator has done since it was installed. Each worker counts its own calls, a call at a time; they are added up
//! when somebody asks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use parking_lot::Mutex;

use crate::dataflow::graph::Index;
use crate::ids::NodeId;
use crate::ids::ObjectId;
use crate::ids::WorkerId;
use crate::state::BlockCounts;
use crate::telemetry::Counter;
use crate::time::Clock;
use crate::time::Micros;

/// What one operator has done on one worker. Workers do not share cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Meter {
    rows_in: Counter,
    rows_out: Counter,
    busy_ns: Counter,
    state_bytes: AtomicUsize,
}

impl Meter {
    /// Counts a call: the changes it was given and those it put out.
    pub fn called(&self, rows_in: usize, rows_out: usize) {
        self.rows_in.add(rows_in as u64);
        self.rows_out.add(rows_out as u64);
    }

    /// Adds to the time that it was at work.
    pub fn busy(&self, time: Duration) {
        self.busy_ns.add(time.as_nanos() as u64);
    }

    /// Notes what its state takes in memory.
    pub fn holds(&self, state_bytes: usize) {
        self.state_bytes.store(state_bytes, Ordering::Relaxed);
    }
}

/// What an operator has done on all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Since when: its installation in this process.
    pub since: Micros,
    /// Changes that it was given.
    pub rows_in: u64,
    /// Changes that it put out.
    pub rows_out: u64,
    /// How long it was at work, on all workers together.
    pub busy: Duration,
    /// What its state takes in memory now.
    pub state_bytes: usize,
    /// How many views it works for.
    pub views: usize,
}

/// The meters of all operators.
pub struct Meters {
    clock: Arc<dyn Clock>,
    known: Mutex<Known>,
    /// Blocks of the store that workers read.
    pub blocks: BlockCounts,
}

#[derive(Default)]
struct Known {
    operators: BTreeMap<Index, Metered>,
    /// The operator of each node of each view's plan.
    views: BTreeMap<ObjectId, BTreeMap<NodeId, Index>>,
}

/// One operator.
struct Metered {
    since: Micros,
    /// How many views it works for.
    views: usize,
    /// One for each worker.
    meters: Vec<Arc<Meter>>,
}

impl Meters {
    /// No operators yet.
    pub fn new(clock: Arc<dyn Clock>) -> Meters {
        Meters { clock, known: Mutex::default(), blocks: BlockCounts::default() }
    }

    /// All operators are gone.
    pub(super) fn clear(&self) {
        *self.known.lock() = Known::default();
    }

    /// These operators of so many workers work for a view from now on, and no others do.
    pub(super) fn install(&self, view: ObjectId, places: BTreeMap<NodeId, Index>, workers: usize) {
        let mut known = self.known.lock();
        let since = self.clock.now();
        let fresh = || Metered { since, views: 0, meters: (0..workers).map(|_| Arc::default()).collect() };
        for index in places.values() {
            known.operators.entry(*index).or_insert_with(fresh);
        }
        known.views.insert(view, places);
        known.count_views();
    }

    /// A view is gone.
    pub(super) fn remove(&self, view: ObjectId) {
        let mut known = self.known.lock();
        known.views.remove(&view);
        known.count_views();
    }

    /// The meter of an operator on a worker.
    pub(super) fn of(&self, index: Index, worker: WorkerId) -> Arc<Meter> {
        let known = self.known.lock();
        let found = known.operators.get(&index).and_then(|metered| metered.meters.get(usize::from(worker.0)));
        found.cloned().unwrap_or_default()
    }

    /// The moment, from which to count how long a call takes.
    pub(super) fn begin(&self) -> Instant {
        self.clock.instant()
    }

    /// How long it was since then.
    pub(super) fn since(&self, begun: Instant) -> Duration {
        self.clock.instant() - begun
    }

    /// What the operator of each node of a view's plan has done; `None` for a view that is not running.
    pub fn view(&self, view: ObjectId) -> Option<BTreeMap<NodeId, Reading>> {
        let known = self.known.lock();
        let places = known.views.get(&view)?;
        Some(places.iter().filter_map(|(node, index)| Some((*node, known.read(*index)?))).collect())
    }

    /// The changes that each running view has put out.
    pub fn views(&self) -> Vec<(ObjectId, u64)> {
        let known = self.known.lock();
        let last = |places: &BTreeMap<NodeId, Index>| known.read(*places.last_key_value()?.1);
        known.views.iter().filter_map(|(view, places)| Some((*view, last(places)?.rows_out))).collect()
    }

    /// The changes that a view has put out; `None` for one that is not running.
    pub fn rows_out(&self, view: ObjectId) -> Option<u64> {
        let known = self.known.lock();
        Some(known.read(*known.views.get(&view)?.last_key_value()?.1)?.rows_out)
    }

    /// What the state of all operators takes in memory.
    pub fn state_bytes(&self) -> usize {
        let known = self.known.lock();
        let all = known.operators.values().flat_map(|metered| &metered.meters);
        all.map(|meter| meter.state_bytes.load(Ordering::Relaxed)).sum()
    }
}

impl Known {
    /// Counts again for how many views each operator works, and forgets those that work for none.
    fn count_views(&mut self) {
        self.operators.values_mut().for_each(|metered| metered.views = 0);
        for index in self.views.values().flat_map(BTreeMap::values) {
            if let Some(metered) = self.operators.get_mut(index) {
                metered.views += 1;
            }
        }
        self.operators.retain(|_, metered| metered.views > 0);
    }

    fn read(&self, index: Index) -> Option<Reading> {
        let metered = self.operators.get(&index)?;
        let mut sum = Reading { since: metered.since, views: metered.views, ..Reading::default() };
        for meter in &metered.meters {
            sum.rows_in += meter.rows_in.get();
            sum.rows_out += meter.rows_out.get();
            sum.busy += Duration::from_nanos(meter.busy_ns.get());
            sum.state_bytes += meter.state_bytes.load(Ordering::Relaxed);
        }
        Some(sum)
    }
}
