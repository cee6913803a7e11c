//! One worker: its share of every operator, and the passes through them.
//!
//! A *pass* goes once through the reached vertices in topological order. At a vertex whose input is exchanged the worker
//! waits for one message from each worker, empty or not, so all workers go through the same passes in the same order.

mod ending;
mod installing;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use crossbeam_channel::Receiver;
use crossbeam_channel::Sender;

use crate::catalog::Storage;
use crate::dataflow::changelog::Recording;
use crate::dataflow::exchange::partition;
use crate::dataflow::graph::Graph;
use crate::dataflow::graph::Index;
use crate::dataflow::meters::Meter;
use crate::dataflow::meters::Meters;
use crate::dataflow::operator::Context;
use crate::dataflow::operator::Operator;
use crate::dataflow::operator::Room;
use crate::dataflow::operators::arrange::SharedArrangement;
use crate::dataflow::row_error;
use crate::dataflow::row_error::RowError;
use crate::delta::Delta;
use crate::error::Error;
use crate::error::Result;
use crate::ids::ObjectId;
use crate::ids::Portion;
use crate::ids::Shard;
use crate::ids::WorkerId;
use crate::plan::ir::Op;
use crate::plan::ir::Plan;
use crate::state::StateReader;
use crate::state::ThreadBlocks;
use crate::state::Writes;
use crate::time::Clock;
use crate::time::Micros;
use crate::time::SystemClock;

/// What the coordinator asks of a worker. All workers get the same commands in the same order.
pub enum Command {
    /// Adds a view's plan, or a sink's, whose rows have no storage.
    Install { view: ObjectId, plan: Arc<Plan>, storage: Option<Storage>, start: Start },
    /// A view that stood behind is one of the others from here on.
    Join { view: ObjectId },
    /// Lets a view use state that other plans keep, in place of its own: see [`Graph::share`].
    Share { view: ObjectId, plan: Arc<Plan> },
    /// Takes a view's plan out.
    Remove { view: ObjectId },
    /// Brings some of the stored state into memory, as it is between epochs.
    Warm { state: StateReader },
    /// Begins an epoch, or the next portion of one.
    Begin { portion: Portion, state: StateReader },
    /// One step: this worker's share of the changes of tables and sources, and what all workers' shares can reach.
    Step { deltas: Vec<(ObjectId, Delta)>, scope: Scope },
    /// The last passes of the epoch, or of a portion of it, over what the epoch reached; then everything is sealed, with the deltas
    /// that are recorded.
    Finish { scope: Scope, close: Close, recording: Arc<Recording> },
}

/// How a view's plan begins to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Standing behind, just created: nothing of its state is on disk.
    Fresh,
    /// Standing behind, as it did when the server went down.
    Behind,
    /// As one of the others.
    Joined,
}

/// How far the views' watermarks have come at an epoch's end.
#[derive(Clone, Debug, Default)]
pub struct Close {
    /// The views whose watermark has moved.
    pub moved: Arc<BTreeSet<ObjectId>>,
    /// The watermarks of all views that have one.
    pub watermarks: Arc<BTreeMap<ObjectId, Micros>>,
}

/// Which vertices a pass goes through.
#[derive(Clone, Debug)]
pub enum Scope {
    /// What changes of these objects reach.
    Reached(Arc<BTreeSet<ObjectId>>),
    /// Some views alone, which stand behind; `create` in their first pass.
    Views { views: Arc<[ObjectId]>, create: bool },
    /// What changes of these objects reach, and these views.
    Both { objects: Arc<BTreeSet<ObjectId>>, views: Arc<BTreeSet<ObjectId>> },
}

/// What a worker answers to [`Command::Finish`], and to any command that failed.
pub struct Finished {
    /// Everything the epoch changed in this worker's state.
    pub writes: Writes,
    /// Bytes of operator state in memory after the epoch.
    pub state_bytes: usize,
    /// Whether more is owed, so that this was a portion, and nothing was closed.
    pub more: bool,
}

/// Deltas on their way from one worker to another.
pub struct Parcel {
    /// The pass they belong to, counted from the worker's start.
    pass: u64,
    /// Where they go.
    to: (Index, usize),
    /// The deltas; empty to say that there are none. An error: the sender failed and will send nothing more.
    deltas: Result<Vec<Delta>>,
    /// What is owed, in parcels that tell this.
    debts: Debts,
}

/// What has come for one place before it was wanted.
#[derive(Default)]
struct Early {
    /// How many parcels.
    parcels: usize,
    deltas: Vec<Delta>,
    debts: Debts,
}

/// What joins still owe, and whether there is memory to put it out.
#[derive(Clone, Copy, Debug, Default)]
struct Debts {
    /// The last vertex, in the order of the pass, that owes something.
    last: Option<Index>,
    /// Whether the portion has used up its memory.
    full: bool,
}

/// What kind of pass it is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Create,
    Step,
    /// What was held back until the end is put out.
    Flush,
    /// Nothing is owed any more; what the watermarks close is let go of.
    Close,
}

/// What a worker was through with that is no part of an epoch's own work.
#[derive(Clone, Copy, Debug)]
pub enum Aside {
    /// A step of views that stand behind; it took so long.
    Filled(Duration),
    /// Some of the stored state is in memory.
    Warmed,
}

/// A worker's share of memory, and what the coordinator is told of it.
pub struct Share {
    /// What operator state may take between epochs, in bytes.
    pub memory_bytes: usize,
    /// How much an operator may put out at a time.
    pub room: Room,
    /// By how much state may grow in a portion of an epoch, all workers together: then it ends, even if more is owed.
    pub portion_bytes: usize,
    /// By how much the running epoch has made the state of all workers grow, in bytes.
    pub growth: Arc<AtomicUsize>,
    /// The part of it that filling views has brought.
    pub fill_growth: Arc<AtomicUsize>,
    /// Takes what the worker was through with besides.
    pub asides: Sender<Aside>,
    /// Whether stored state is still to be brought into memory.
    pub is_cold: Arc<AtomicBool>,
    /// What operators have done.
    pub meters: Arc<Meters>,
}

/// A worker thread's state.
pub struct Worker {
    id: WorkerId,
    /// Commands from the coordinator.
    commands: Receiver<Command>,
    /// Answers to the coordinator.
    answers: Sender<Result<Finished>>,
    /// To each worker, this one too.
    peers: Vec<Sender<Parcel>>,
    /// From each worker.
    parcels: Receiver<Parcel>,
    /// Parcels that came before they were wanted, and how many came for each exchange.
    early: HashMap<(u64, Index, usize), Early>,
    graph: Graph,
    /// The operator of each vertex.
    operators: BTreeMap<Index, Box<dyn Operator>>,
    /// What each of them has done.
    meters: BTreeMap<Index, Arc<Meter>>,
    /// Arrangements that joins share, by the vertex that owns them.
    arrangements: BTreeMap<Index, SharedArrangement>,
    /// Passes begun.
    pass: u64,
    /// The portion of the epoch that runs, and the state it sees.
    epoch: Option<(Portion, StateReader)>,
    /// What of the epoch is recorded, once it ends.
    recording: Arc<Recording>,
    /// Operators whose stored state is still to be brought into memory, each with its next shard.
    cold: VecDeque<(Index, Shard)>,
    /// When some of it was brought in last.
    warmed: Option<Instant>,
    /// What the running epoch writes.
    writes: Writes,
    /// Vertices reached in this epoch.
    reached: BTreeSet<Index>,
    /// Those that owe something.
    owing: BTreeSet<Index>,
    /// Vertices before this one do not put out what they owe in this pass.
    turn: Index,
    /// What each operator's state took when it was last called, in bytes.
    memory: BTreeMap<Index, usize>,
    /// The sum of `memory`.
    memory_bytes: usize,
    share: Share,
    /// In the last pass of the epoch, how far the views' watermarks have come.
    close: Option<Close>,
    /// The shards that this worker owns.
    shards: Range<u16>,
}

impl Worker {
    /// A worker with no plans.
    pub fn new(
        id: WorkerId,
        commands: Receiver<Command>,
        answers: Sender<Result<Finished>>,
        peers: Vec<Sender<Parcel>>,
        parcels: Receiver<Parcel>,
        share: Share,
    ) -> Worker {
        let owned = |shard: &u16| Shard(*shard).owner(peers.len()) == id;
        let shards = (0..Shard::COUNT).filter(owned).collect::<Vec<_>>();
        let shards = shards.first().map_or(0..0, |first| *first..first + shards.len() as u16);
        Worker {
            id,
            commands,
            answers,
            peers,
            parcels,
            early: HashMap::new(),
            graph: Graph::default(),
            operators: BTreeMap::new(),
            meters: BTreeMap::new(),
            arrangements: BTreeMap::new(),
            pass: 0,
            epoch: None,
            recording: Arc::default(),
            cold: VecDeque::new(),
            warmed: None,
            writes: Writes::default(),
            reached: BTreeSet::new(),
            owing: BTreeSet::new(),
            turn: 0,
            memory: BTreeMap::new(),
            memory_bytes: 0,
            share,
            close: None,
            shards,
        }
    }

    /// Works until the coordinator goes away. After an error the worker answers every `Finish` with it: its state is not
    /// to be trusted, and nothing may be committed any more.
    pub fn run(mut self) {
        let mut failed: Option<Error> = None;
        let mut blocks = ThreadBlocks::begin();
        while let Ok(command) = self.commands.recv() {
            let finish = matches!(command, Command::Finish { .. });
            let fills = matches!(command, Command::Step { scope: Scope::Views { .. }, .. });
            let warms = matches!(command, Command::Warm { .. });
            let begun = SystemClock.instant();
            let answer = match &failed {
                Some(error) => Err(error.clone()),
                None => self.execute_or_tell(command),
            };
            match answer {
                Ok(Some(finished)) => {
                    blocks.tell(&self.share.meters.blocks);
                    let _ = self.answers.send(Ok(finished));
                }
                Ok(None) => {}
                Err(error) => {
                    if finish {
                        let _ = self.answers.send(Err(error.clone()));
                    } else if failed.is_none() {
                        tracing::error!(worker = self.id.0, %error, "a worker failed");
                    }
                    failed = Some(error);
                }
            }
            if fills {
                let _ = self.share.asides.send(Aside::Filled(SystemClock.instant() - begun));
            } else if warms {
                let _ = self.share.asides.send(Aside::Warmed);
            }
        }
    }

    /// Executes a command. When it fails, the other workers are told, so that none waits for this one for ever.
    fn execute_or_tell(&mut self, command: Command) -> Result<Option<Finished>> {
        let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.execute(command)));
        let answer = answer.unwrap_or_else(|_| Err(Error::internal("a worker panicked; see the log")));
        if let Err(error) = &answer {
            for peer in &self.peers {
                let _ = peer.send(Parcel {
                    pass: self.pass,
                    to: (0, 0),
                    deltas: Err(error.clone()),
                    debts: Debts::default(),
                });
            }
        }
        answer
    }

    fn execute(&mut self, command: Command) -> Result<Option<Finished>> {
        match command {
            Command::Install { view, plan, storage, start } => self.install(view, &plan, storage.as_ref(), start)?,
            Command::Join { view } => self.graph.join(view),
            Command::Share { view, plan } => self.share(view, &plan)?,
            Command::Remove { view } => {
                let removed = self.graph.remove(view);
                self.forget(&removed);
            }
            Command::Warm { state } => self.warm(&state)?,
            Command::Begin { portion, state } => {
                self.warm_if_due(&state)?;
                self.epoch = Some((portion, state));
            }
            Command::Step { deltas, scope } => {
                let (phase, growth) = match scope {
                    Scope::Views { create: true, .. } => (Phase::Create, &self.share.fill_growth),
                    Scope::Views { create: false, .. } => (Phase::Step, &self.share.fill_growth),
                    Scope::Reached(_) | Scope::Both { .. } => (Phase::Step, &self.share.growth),
                };
                if let Scope::Views { .. } = scope {
                    crate::fault::worker_point("worker.fill");
                }
                let (vertices, growth) = (self.vertices(&scope), growth.clone());
                // What is behind goes first, so that it does not pile up.
                self.turn = self.owing.last().copied().unwrap_or(0);
                self.pass(&vertices, deltas, phase, &growth)?;
                if let Scope::Views { .. } = scope {
                    // How long it takes tells how much to give next.
                    self.pay(&vertices, &growth)?;
                }
                crate::fault::point("epoch.mid_step");
            }
            Command::Finish { scope, close, recording } => {
                self.recording = recording;
                return self.finish(&scope, close).map(Some);
            }
        }
        Ok(None)
    }

    /// The vertices of a pass, in topological order.
    fn vertices(&self, scope: &Scope) -> Vec<Index> {
        match scope {
            Scope::Reached(objects) => self.graph.reach(objects),
            Scope::Views { views, .. } => views
                .iter()
                .flat_map(|view| self.graph.view(*view))
                .copied()
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect(),
            Scope::Both { objects, views } => {
                let views = views.iter().flat_map(|view| self.graph.view(*view)).copied();
                self.graph.reach(objects).into_iter().chain(views).collect::<BTreeSet<_>>().into_iter().collect()
            }
        }
    }

    /// Goes once through the reached vertices. By how much state grows is added to `growth`.
    fn pass(
        &mut self,
        vertices: &[Index],
        deltas: Vec<(ObjectId, Delta)>,
        phase: Phase,
        growth: &AtomicUsize,
    ) -> Result<()> {
        self.pass += 1;
        let mut waiting: HashMap<(Index, usize), Vec<Delta>> = HashMap::new();
        for (object, delta) in deltas {
            for index in self.graph.inputs_of(object).filter(|index| vertices.binary_search(index).is_ok()) {
                waiting.entry((index, 0)).or_default().push(delta.clone());
            }
        }
        let mut called = Vec::new();
        let written = self.writes.bytes();
        for &index in vertices {
            let ports = self.graph.vertex(index).inputs.len();
            let mut inputs = Vec::with_capacity(ports);
            for port in 0..ports {
                let edge = &self.graph.vertex(index).inputs[port];
                // What is not in the pass sends nothing: a watermark may reach an operator that no row does.
                let sent = edge.from.is_some_and(|from| vertices.binary_search(&from).is_ok());
                let deltas = match &edge.exchange {
                    Some(_) if self.peers.len() > 1 && sent => self.receive(index, port)?,
                    _ => waiting.remove(&(index, port)).unwrap_or_default(),
                };
                inputs.push(deltas);
            }
            let idle = inputs.iter().all(Vec::is_empty);
            let out = if idle && !self.must_call(index, phase) {
                Vec::new()
            } else {
                called.push(index);
                let (out, failed) = self.call(index, inputs, phase)?;
                self.report(index, &failed, vertices, &mut waiting)?;
                out
            };
            self.forward(index, out, vertices, &mut waiting)?;
        }
        for &index in &called {
            let begun = self.share.meters.begin();
            self.operator(index).after_step()?;
            self.meter(index).busy(self.share.meters.since(begun));
            match self.operator(index).owes() {
                true => self.owing.insert(index),
                false => self.owing.remove(&index),
            };
        }
        let before = self.memory_bytes + written;
        called.iter().for_each(|&index| self.measure(index));
        let now = self.memory_bytes + self.writes.bytes();
        growth.fetch_add(now.saturating_sub(before), Ordering::Relaxed);
        self.reached.extend(called);
        Ok(())
    }

    /// Notes what the state of an operator, and that which it reads, takes now.
    fn measure(&mut self, index: Index) {
        let vertex = self.graph.vertex(index);
        if let Op::Join | Op::Anti = vertex.node.op {
            let read = vertex.inputs.iter().filter_map(|edge| edge.from).collect::<Vec<_>>();
            read.into_iter().for_each(|from| self.measure_alone(from));
        }
        self.measure_alone(index);
    }

    fn measure_alone(&mut self, index: Index) {
        let now = self.operator(index).memory_bytes();
        self.meter(index).holds(now);
        let before = self.memory.insert(index, now).unwrap_or(0);
        self.memory_bytes = self.memory_bytes + now - before;
    }

    /// Whether a vertex is called even if no delta came: when it is created, when it owes something, and at the end of an epoch that
    /// reached it.
    fn must_call(&self, index: Index, phase: Phase) -> bool {
        match phase {
            Phase::Create => true,
            Phase::Step => index >= self.turn && self.owing.contains(&index),
            Phase::Flush | Phase::Close => self.reached.contains(&index),
        }
    }

    fn operator(&mut self, index: Index) -> &mut Box<dyn Operator> {
        self.operators.get_mut(&index).expect("every vertex has its operator")
    }

    fn meter(&self, index: Index) -> &Meter {
        self.meters.get(&index).expect("every vertex has its meter")
    }

    /// Calls one operator for one pass. Returns what it put out, and the rows that it could not compute.
    fn call(&mut self, index: Index, inputs: Vec<Vec<Delta>>, phase: Phase) -> Result<(Vec<Delta>, Vec<RowError>)> {
        let (portion, state) = self.epoch.as_ref().expect("passes run inside an epoch");
        let room = match phase {
            // Whatever comes now would come too late in the next pass.
            Phase::Close => Room::ENDLESS,
            Phase::Create | Phase::Step | Phase::Flush => Room { turn: index >= self.turn, ..self.share.room },
        };
        let operator = self.operators.get_mut(&index).expect("every vertex has its operator");
        let (mut out, mut failed) = (Vec::new(), Vec::new());
        let (begun, rows_in) = (self.share.meters.begin(), rows(inputs.iter().flatten()));
        let view = self.graph.vertex(index).views.first();
        let watermark = self.close.as_ref().and_then(|close| close.watermarks.get(view?).copied());
        let shards = self.shards.clone();
        let (recording, writes) = (&self.recording, &mut self.writes);
        let (portion, errors) = (*portion, &mut failed);
        let mut cx = Context { portion, state, recording, writes, out: &mut out, room, watermark, shards, errors };
        if phase == Phase::Create {
            operator.on_create(self.id.0 == 0, &mut cx)?;
        }
        for (port, deltas) in inputs.into_iter().enumerate() {
            for delta in deltas.into_iter().filter(|delta| !delta.is_empty()) {
                operator.on_delta(port, delta, &mut cx)?;
            }
        }
        operator.on_step(&mut cx)?;
        if let Phase::Flush | Phase::Close = phase {
            operator.on_epoch(&mut cx)?;
        }
        self.meter(index).called(rows_in, rows(&out));
        self.meter(index).busy(self.share.meters.since(begun));
        Ok((out, failed))
    }

    /// Brings the rows that a vertex could not compute to its view's relation of errors.
    fn report(
        &self,
        index: Index,
        failed: &[RowError],
        vertices: &[Index],
        waiting: &mut HashMap<(Index, usize), Vec<Delta>>,
    ) -> Result<()> {
        if failed.is_empty() {
            return Ok(());
        }
        // What fails in a view's relation of late rows fails in the view too, and is reported there.
        let mut views = self.graph.vertex(index).views.iter();
        let Some(errors) = views.find_map(|view| self.graph.errors_of(*view)) else { return Ok(()) };
        if vertices.binary_search(&errors).is_err() {
            let error = &failed[0].error;
            return Err(Error::internal(format!("an operator failed that never fails: {error}")));
        }
        waiting.entry((errors, 0)).or_default().push(row_error::delta(failed)?);
        Ok(())
    }

    /// Brings what a vertex put out to its readers, here or on other workers.
    fn forward(
        &mut self,
        index: Index,
        out: Vec<Delta>,
        vertices: &[Index],
        waiting: &mut HashMap<(Index, usize), Vec<Delta>>,
    ) -> Result<()> {
        let out = out.into_iter().filter(|delta| !delta.is_empty()).collect::<Vec<_>>();
        for &(reader, port) in &self.graph.vertex(index).readers {
            if vertices.binary_search(&reader).is_err() || !self.graph.flows(index, reader) {
                continue;
            }
            match &self.graph.vertex(reader).inputs[port].exchange {
                Some(columns) if self.peers.len() > 1 => {
                    let mut shares = vec![Vec::new(); self.peers.len()];
                    for delta in &out {
                        for (share, part) in shares.iter_mut().zip(partition(delta, columns, self.peers.len())?) {
                            share.extend(part);
                        }
                    }
                    for (peer, deltas) in self.peers.iter().zip(shares) {
                        let (to, debts) = ((reader, port), Debts::default());
                        let _ = peer.send(Parcel { pass: self.pass, to, deltas: Ok(deltas), debts });
                    }
                }
                _ => waiting.entry((reader, port)).or_default().extend(out.iter().cloned()),
            }
        }
        Ok(())
    }

    /// Waits for the parcels of all workers for one port.
    fn receive(&mut self, index: Index, port: usize) -> Result<Vec<Delta>> {
        self.receive_all((index, port)).map(|early| early.deltas)
    }

    /// Waits for the parcels of all workers for one place in this pass.
    fn receive_all(&mut self, to: (Index, usize)) -> Result<Early> {
        let wanted = (self.pass, to.0, to.1);
        loop {
            if self.early.get(&wanted).is_some_and(|early| early.parcels == self.peers.len()) {
                return Ok(self.early.remove(&wanted).unwrap_or_default());
            }
            let parcel = self.parcels.recv().map_err(|_| Error::shutdown("the server is shutting down"))?;
            let early = self.early.entry((parcel.pass, parcel.to.0, parcel.to.1)).or_default();
            early.parcels += 1;
            early.deltas.extend(parcel.deltas?);
            early.debts = early.debts.and(parcel.debts);
        }
    }
}

impl Debts {
    fn and(self, other: Debts) -> Debts {
        Debts { last: self.last.max(other.last), full: self.full || other.full }
    }
}

fn rows<'a>(deltas: impl IntoIterator<Item = &'a Delta>) -> usize {
    deltas.into_iter().map(Delta::len).sum()
}
