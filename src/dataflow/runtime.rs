//! The coordinator's side of the workers: starts their threads, gives them their shares, gathers what they sealed.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use crossbeam_channel::Receiver;
use crossbeam_channel::Sender;
use crossbeam_channel::bounded;
use crossbeam_channel::unbounded;

use crate::catalog::Storage;
use crate::dataflow::changelog::Recording;
use crate::dataflow::graph::Graph;
use crate::dataflow::meters::Meters;
use crate::dataflow::operator::Room;
use crate::dataflow::watermarks::Watermarks;
pub use crate::dataflow::worker::Aside;
use crate::dataflow::worker::Close;
use crate::dataflow::worker::Command;
use crate::dataflow::worker::Finished;
use crate::dataflow::worker::Scope;
use crate::dataflow::worker::Share;
pub use crate::dataflow::worker::Start;
use crate::dataflow::worker::Worker;
use crate::delta::Delta;
use crate::error::Error;
use crate::error::Result;
use crate::ids::ObjectId;
use crate::ids::Portion;
use crate::ids::TableId;
use crate::ids::WorkerId;
use crate::plan::ir::Plan;
use crate::state::StateReader;
use crate::state::Writes;
use crate::time::Micros;

/// Rows of a step: what fits the caches.
pub const STEP_ROWS: usize = 8192;

/// Steps that may wait for a worker: the coordinator runs no further ahead.
const COMMANDS_MAX: usize = 8;

/// What the workers may take of memory, all together.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Operator state between epochs, in bytes.
    pub state_bytes: usize,
    /// By how much it may grow in a portion of an epoch, in bytes, while more is owed.
    pub portion_bytes: usize,
    /// What an operator may put out at a time.
    pub room: Room,
}

/// All workers.
pub struct Runtime {
    /// To each worker.
    commands: Vec<Sender<Command>>,
    /// From all workers.
    answers: Receiver<Result<Finished>>,
    /// The coordinator's copy of the graph.
    graph: Graph,
    /// Objects whose changes this epoch has taken in.
    touched: BTreeSet<ObjectId>,
    /// What the running epoch has added to operator state so far, in bytes.
    growth: Arc<AtomicUsize>,
    /// For each worker, whether stored state is still to be brought into memory.
    cold: Vec<Arc<AtomicBool>>,
    /// The part of it that filling views has brought.
    fill_growth: Arc<AtomicUsize>,
    /// From all workers, what they were through with besides epochs.
    asides: Receiver<Aside>,
    /// So many of those are still to come for steps of views that stand behind.
    fill_answers: usize,
    /// And so many for state that is brought into memory.
    warm_answers: usize,
    /// Views that stand behind, with their plans.
    behind: BTreeMap<ObjectId, Arc<Plan>>,
    /// Those that this epoch has filled.
    filled: BTreeSet<ObjectId>,
    /// How far views have come in event time.
    watermarks: Watermarks,
    /// The views whose watermark the running epoch has moved.
    moved: BTreeSet<ObjectId>,
    /// What operators have done.
    meters: Arc<Meters>,
    threads: Vec<JoinHandle<()>>,
}

/// What all workers sealed at an epoch's end.
pub struct SealedShares {
    /// Their writes.
    pub writes: Vec<Writes>,
    /// Bytes of operator state in memory.
    pub state_bytes: usize,
    /// Whether more is owed: these are a portion of the epoch, which is ended once more when the next portion has begun.
    pub more: bool,
}

impl Runtime {
    /// Starts so many worker threads with so much memory. What their operators do is counted in `meters`, from nothing.
    pub fn start(workers: usize, memory: Memory, meters: Arc<Meters>) -> Result<Runtime> {
        meters.clear();
        let (answer, answers) = unbounded();
        let (peers, inboxes): (Vec<_>, Vec<_>) = (0..workers).map(|_| unbounded()).unzip();
        let (growth, fill_growth) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (aside, asides) = unbounded();
        let (mut commands, mut cold) = (Vec::new(), Vec::new());
        let mut threads = Vec::new();
        for (number, inbox) in inboxes.into_iter().enumerate() {
            let (command, receiver) = bounded(COMMANDS_MAX);
            commands.push(command);
            let is_cold = Arc::<AtomicBool>::default();
            cold.push(is_cold.clone());
            let share = Share {
                memory_bytes: memory.state_bytes / workers,
                room: Room { bytes: memory.room.bytes / workers, ..memory.room },
                portion_bytes: memory.portion_bytes,
                growth: growth.clone(),
                fill_growth: fill_growth.clone(),
                asides: aside.clone(),
                is_cold,
                meters: meters.clone(),
            };
            let (answer, peers) = (answer.clone(), peers.clone());
            let work = move || Worker::new(WorkerId(number as u16), receiver, answer, peers, inbox, share).run();
            let thread = std::thread::Builder::new().name(format!("worker-{number}"));
            threads.push(thread.stack_size(8 << 20).spawn(work)?);
        }
        Ok(Runtime {
            commands,
            answers,
            graph: Graph::default(),
            touched: BTreeSet::new(),
            growth,
            cold,
            fill_growth,
            asides,
            fill_answers: 0,
            warm_answers: 0,
            behind: BTreeMap::new(),
            filled: BTreeSet::new(),
            watermarks: Watermarks::default(),
            moved: BTreeSet::new(),
            meters,
            threads,
        })
    }

    /// Adds a view's plan.
    pub fn install(&mut self, view: ObjectId, plan: Arc<Plan>, storage: Option<Storage>, start: Start) {
        self.graph.add(view, &plan, storage.as_ref());
        self.meters.install(view, self.graph.places(view, &plan), self.commands.len());
        match start {
            Start::Fresh | Start::Behind => {
                self.graph.set_behind(view);
                self.behind.insert(view, plan.clone());
            }
            Start::Joined => self.watermarks.add(view, &plan),
        }
        if start != Start::Fresh {
            self.cold.iter().for_each(|cold| cold.store(true, Ordering::Relaxed));
        }
        self.tell(|_| Command::Install { view, plan: plan.clone(), storage: storage.clone(), start });
    }

    /// The first pass of views that were just created.
    pub fn create(&mut self, views: &Arc<[ObjectId]>) {
        self.fill_step(Vec::new(), Scope::Views { views: views.clone(), create: true }, views);
    }

    /// A step of views that stand behind, with rows or changes of their inputs.
    pub fn fill(&mut self, views: &Arc<[ObjectId]>, deltas: Vec<(ObjectId, Delta)>) {
        self.fill_step(deltas, Scope::Views { views: views.clone(), create: false }, views);
    }

    fn fill_step(&mut self, deltas: Vec<(ObjectId, Delta)>, scope: Scope, views: &[ObjectId]) {
        self.filled.extend(views);
        self.fill_answers += self.commands.len();
        self.cut(&deltas, &scope);
    }

    /// How many steps of views that stand behind are still to be worked.
    pub fn fill_steps_ahead(&self) -> usize {
        self.fill_answers.div_ceil(self.commands.len())
    }

    /// What workers were through with besides epochs, to be told to [`Runtime::aside_done`].
    pub fn asides(&self) -> &Receiver<Aside> {
        &self.asides
    }

    /// A worker was through with this.
    pub fn aside_done(&mut self, aside: Aside) {
        match aside {
            Aside::Filled(_) => self.fill_answers -= 1,
            Aside::Warmed => self.warm_answers -= 1,
        }
    }

    /// Makes views that stood behind some of the others.
    pub fn join(&mut self, views: &[ObjectId]) {
        for &view in views {
            self.graph.join(view);
            if let Some(plan) = self.behind.remove(&view) {
                self.watermarks.add(view, &plan);
            }
            self.tell(|_| Command::Join { view });
        }
    }

    /// The plan of a view that was just filled, with the state of other plans where those keep the same.
    pub fn shareable(&self, view: ObjectId, plan: &Plan) -> Plan {
        self.graph.shareable(view, plan)
    }

    /// Lets the view go on with that plan. No epoch is running.
    pub fn share(&mut self, view: ObjectId, plan: &Arc<Plan>) {
        self.graph.share(view, plan);
        self.meters.install(view, self.graph.places(view, plan), self.commands.len());
        self.tell(|_| Command::Share { view, plan: plan.clone() });
    }

    /// Whether any plan uses this state table.
    pub fn uses(&self, table: TableId) -> bool {
        self.graph.uses(table)
    }

    /// Takes a view's plan out.
    pub fn remove(&mut self, view: ObjectId) {
        self.graph.remove(view);
        self.meters.remove(view);
        self.watermarks.remove(view);
        self.behind.remove(&view);
        self.filled.remove(&view);
        self.tell(|_| Command::Remove { view });
    }

    /// By how much the running epoch has made operator state grow so far, in bytes.
    pub fn growth_bytes(&self) -> usize {
        self.growth.load(Ordering::Relaxed)
    }

    /// The same of views that stand behind.
    pub fn fill_growth_bytes(&self) -> usize {
        self.fill_growth.load(Ordering::Relaxed)
    }

    /// Whether any plan reads this object.
    pub fn is_read(&self, object: ObjectId) -> bool {
        self.graph.is_read(object)
    }

    /// Which of an object's stored columns any plan reads.
    pub fn columns_read(&self, object: ObjectId) -> BTreeSet<usize> {
        self.graph.columns_read(object)
    }

    /// Begins an epoch, or the next portion of one, which sees this state.
    pub fn begin(&mut self, portion: Portion, state: &StateReader) {
        self.growth.store(0, Ordering::Relaxed);
        self.fill_growth.store(0, Ordering::Relaxed);
        self.tell(|_| Command::Begin { portion, state: state.clone() });
    }

    /// One step with these changes of tables and sources.
    pub fn step(&mut self, deltas: Vec<(ObjectId, Delta)>) {
        let objects = deltas.iter().map(|(object, _)| *object).collect::<BTreeSet<_>>();
        self.touched.extend(objects.iter().copied());
        self.cut(&deltas, &Scope::Reached(Arc::new(objects)));
    }

    /// Gives each worker an even share of a step.
    fn cut(&self, deltas: &[(ObjectId, Delta)], scope: &Scope) {
        let workers = self.commands.len();
        let share = |worker: usize| {
            let cut = |(object, delta): &(ObjectId, Delta)| {
                let (from, to) = (delta.len() * worker / workers, delta.len() * (worker + 1) / workers);
                (from < to).then(|| (*object, delta.slice(from, to - from)))
            };
            deltas.iter().filter_map(cut).collect::<Vec<_>>()
        };
        self.tell(|worker| Command::Step { deltas: share(worker), scope: scope.clone() });
    }

    /// Whether stored state is still to be brought into memory, and nothing of it is on its way: whatever comes then does not wait
    /// long.
    pub fn can_warm(&self) -> bool {
        self.warm_answers == 0 && self.cold.iter().any(|cold| cold.load(Ordering::Relaxed))
    }

    /// Brings some of it in. No epoch is running; this is the state after the last one.
    pub fn warm(&mut self, state: &StateReader) {
        self.warm_answers += self.commands.len();
        self.tell(|_| Command::Warm { state: state.clone() });
    }

    /// Whether a view has a watermark, and where that stands, for all views that read one.
    pub fn watermarks(&self) -> &Watermarks {
        &self.watermarks
    }

    /// Tells, after a restart, where the inputs' watermarks stood: what those close was let go before.
    pub fn recover(&mut self, inputs: &[(ObjectId, Option<Micros>)]) {
        self.watermarks.advance(inputs.iter().copied());
    }

    /// Ends the epoch, in which the watermarks of tables and sources have come so far: the last passes, then everything sealed,
    /// with what is recorded. Waits for all workers. While more is owed than memory holds, that ends a portion alone.
    pub fn finish(&mut self, inputs: &[(ObjectId, Option<Micros>)], recording: Recording) -> Result<SealedShares> {
        self.moved.extend(self.watermarks.advance(inputs.iter().copied()));
        let watermarks = Arc::new(self.watermarks.views().filter_map(|(view, at)| Some((view, at?))).collect());
        let shares = self.end(Close { moved: Arc::new(self.moved.clone()), watermarks }, recording)?;
        if !shares.more {
            self.moved.clear();
        }
        Ok(shares)
    }

    /// Ends a portion of the epoch: like [`finish`](Runtime::finish), but watermarks stay where they are, and nothing closes.
    pub fn finish_portion(&mut self, recording: Recording) -> Result<SealedShares> {
        self.end(Close::default(), recording)
    }

    fn end(&mut self, close: Close, recording: Recording) -> Result<SealedShares> {
        let recording = Arc::new(recording);
        let objects = Arc::new(self.touched.clone());
        let scope = match self.filled.is_empty() {
            true => Scope::Reached(objects),
            false => Scope::Both { objects, views: Arc::new(self.filled.clone()) },
        };
        self.tell(|_| Command::Finish { scope: scope.clone(), close: close.clone(), recording: recording.clone() });
        let mut shares = SealedShares { writes: Vec::new(), state_bytes: 0, more: false };
        let gone = |_| Error::internal("a worker thread has died");
        let answers =
            (0..self.commands.len()).map(|_| self.answers.recv().map_err(gone)).collect::<Result<Vec<_>>>()?;
        // Workers that fail each in their own way do so at every end from now on: it is told in the same words.
        if let Some(error) = answers.iter().filter_map(|answer| answer.as_ref().err()).min_by_key(|e| &e.message) {
            return Err(error.clone());
        }
        for finished in answers.into_iter().flatten() {
            shares.writes.push(finished.writes);
            shares.state_bytes += finished.state_bytes;
            shares.more |= finished.more;
        }
        if !shares.more {
            self.touched.clear();
            self.filled.clear();
        }
        Ok(shares)
    }

    fn tell(&self, command: impl Fn(usize) -> Command) {
        for (worker, sender) in self.commands.iter().enumerate() {
            let _ = sender.send(command(worker));
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.commands.clear();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
