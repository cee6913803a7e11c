//! A plan running on one thread over a store of its own: what the worker and the engine do, in short.

use std::fmt::Write;
use std::mem;
use std::sync::Arc;

use tempfile::TempDir;

use crate::dataflow::build::Built;
use crate::dataflow::build::Input;
use crate::dataflow::build::build;
use crate::dataflow::changelog::Recording;
use crate::dataflow::operator::Context;
use crate::dataflow::operator::Operator;
use crate::dataflow::operator::Room;
use crate::dataflow::operators::golden::plan;
use crate::dataflow::row_error::RowError;
use crate::delta::Delta;
use crate::delta::consolidate;
use crate::delta::pretty;
use crate::error::Result;
use crate::ids::Epoch;
use crate::ids::Portion;
use crate::ids::Shard;
use crate::plan::ir::Node;
use crate::state::{Sealed, StateReader, Store, StoreOptions, Writes};
use crate::types::schema_of;

/// The running plan.
pub(in crate::dataflow::operators) struct World {
    /// Its nodes by name.
    nodes: Vec<(String, Node)>,
    /// What runs of each.
    built: Vec<Built>,
    /// What is on its way to each node.
    queues: Vec<Vec<(usize, Delta)>>,
    /// The nodes that this epoch reached.
    reached: Vec<bool>,
    /// What the last node put out and nobody looked at yet.
    output: Vec<Delta>,
    errors: Vec<RowError>,
    /// What the running epoch writes.
    writes: Writes,
    /// So many shards were brought into memory since the last restart.
    warmed: u16,
    /// How much each operator may put out at a time.
    pub(in crate::dataflow::operators) room: Room,
    /// The watermark of the plan's view.
    pub(in crate::dataflow::operators) watermark: Option<i64>,
    /// The running epoch.
    epoch: Epoch,
    /// The last epoch, whose commit comes after the next one is computed, as late as an engine may.
    sealed: Option<Arc<Sealed>>,
    state: StateReader,
    store: Arc<Store>,
    dir: TempDir,
}

impl World {
    /// Starts the plan of a golden script's header.
    pub fn of(header: &str) -> World {
        World::new(plan::parse(header))
    }

    pub(super) fn new(nodes: Vec<(String, Node)>) -> World {
        let dir = TempDir::new().unwrap();
        let store = Store::open(dir.path(), StoreOptions::default()).unwrap();
        let mut world = World {
            built: build_all(&nodes, true),
            queues: vec![Vec::new(); nodes.len()],
            reached: vec![false; nodes.len()],
            output: Vec::new(),
            errors: Vec::new(),
            writes: Writes::default(),
            warmed: Shard::COUNT,
            room: Room::ENDLESS,
            watermark: None,
            epoch: Epoch(1),
            sealed: None,
            state: store.reader(None),
            store,
            dir,
            nodes,
        };
        world.pass(|operator, cx| operator.on_create(true, cx)).unwrap();
        world
    }

    /// Brings rows into an input.
    pub fn bring(&mut self, input: &str, rows: &str) {
        let at = self.nodes.iter().position(|(name, _)| name == input).unwrap_or_else(|| panic!("no input {input}"));
        let delta = pretty::parse(&self.nodes[at].1.columns, rows).unwrap();
        self.queues[at].push((0, delta));
    }

    /// Ends a step.
    pub fn step(&mut self) {
        self.pass(|_, _| Ok(())).unwrap();
    }

    /// Ends the epoch, with the step that is open.
    pub fn epoch(&mut self) -> Result<()> {
        self.pass(|operator, cx| operator.on_epoch(cx))?;
        while self.built.iter().filter_map(|b| b.operator.as_ref()).any(|operator| operator.owes()) {
            self.pass(|operator, cx| operator.on_epoch(cx))?;
        }
        let mut writes = mem::take(&mut self.writes);
        for operator in self.built.iter_mut().filter_map(|b| b.operator.as_mut()) {
            operator.seal(&mut writes)?;
        }
        self.commit();
        let sealed = Arc::new(Sealed::new(self.epoch, vec![writes]));
        self.state = self.store.reader(Some(sealed.clone()));
        self.sealed = Some(sealed);
        self.epoch = self.epoch.next();
        self.reached.fill(false);
        Ok(())
    }

    /// Lets go of all clean state beyond so many bytes for each operator.
    pub fn shrink(&mut self, bytes: usize) {
        self.built.iter_mut().filter_map(|b| b.operator.as_mut()).for_each(|o| o.shrink(bytes));
    }

    /// Begins anew with what is on disk.
    pub fn restart(&mut self) {
        self.commit();
        self.built = build_all(&self.nodes, false);
        self.warmed = 0;
        self.state = self.store.reader(None);
        assert!(self.dir.path().exists());
    }

    /// Brings the next third of the shards on disk into memory.
    pub fn warm(&mut self) {
        let end = Shard::COUNT.min(self.warmed + Shard::COUNT / 3 + 1);
        for shard in mem::replace(&mut self.warmed, end)..end {
            for operator in self.built.iter_mut().filter_map(|b| b.operator.as_mut()) {
                operator.warm(Shard(shard), shard + 1 == Shard::COUNT, &self.state).unwrap();
            }
        }
    }

    /// How much memory the operators say they take.
    pub fn memory_bytes(&self) -> usize {
        self.built.iter().filter_map(|b| b.operator.as_ref()).map(|o| o.memory_bytes()).sum()
    }

    /// What the last node put out since this was asked last.
    pub fn output(&mut self) -> Delta {
        let schema = schema_of(&self.nodes.last().unwrap().1.columns);
        consolidate(&Delta::concat(&schema, &mem::take(&mut self.output)).unwrap()).unwrap()
    }

    /// The same as sorted text, then the errors.
    pub(super) fn answers(&mut self) -> String {
        let rows = pretty::print(&self.output()).unwrap();
        let mut lines = rows.lines().map(str::to_string).collect::<Vec<_>>();
        lines.sort_by(|a, b| a.split_once(' ').map(|a| a.1).cmp(&b.split_once(' ').map(|b| b.1)).then(a.cmp(b)));
        lines.extend(self.errors.drain(..).map(|e| format!("! {:+} {}", e.weight, e.error)));
        let mut text = String::new();
        lines.iter().for_each(|line| writeln!(text, "{line}").unwrap());
        text
    }

    fn commit(&mut self) {
        if let Some(sealed) = self.sealed.take() {
            self.store.commit(&sealed, false).unwrap();
        }
    }

    /// Goes once through all nodes in order, with `then` for each that the epoch has reached.
    fn pass(&mut self, then: impl Fn(&mut dyn Operator, &mut Context<'_>) -> Result<()>) -> Result<()> {
        for at in 0..self.nodes.len() {
            let queue = mem::take(&mut self.queues[at]);
            let inputs = &self.nodes[at].1.inputs;
            let from_input = inputs.iter().any(|input| self.reached[input.0 as usize]);
            self.reached[at] |= !queue.is_empty() || from_input || inputs.is_empty();
            if !self.reached[at] {
                continue;
            }
            let mut out = Vec::new();
            match self.built[at].operator.as_mut() {
                None => out.extend(queue.into_iter().map(|(_, delta)| delta)),
                Some(operator) => {
                    let (portion, state, errors) = (Portion::first(self.epoch), &self.state, &mut self.errors);
                    let (watermark, shards) = (self.watermark, 0..crate::ids::Shard::COUNT);
                    let (recording, writes, room) = (&Recording::default(), &mut self.writes, self.room);
                    let mut cx =
                        Context { portion, state, recording, writes, out: &mut out, room, watermark, shards, errors };
                    for (port, delta) in queue {
                        operator.on_delta(port, delta, &mut cx)?;
                    }
                    operator.on_step(&mut cx)?;
                    then(operator.as_mut(), &mut cx)?;
                }
            }
            self.send(at, out);
        }
        self.built.iter_mut().filter_map(|b| b.operator.as_mut()).try_for_each(|o| o.after_step())
    }

    fn send(&mut self, from: usize, out: Vec<Delta>) {
        for (to, (_, node)) in self.nodes.iter().enumerate() {
            for port in (0..node.inputs.len()).filter(|&port| node.inputs[port].0 as usize == from) {
                self.queues[to].extend(out.iter().map(|delta| (port, delta.clone())));
            }
        }
        if from == self.nodes.len() - 1 {
            self.output.extend(out);
        }
    }
}

fn build_all(nodes: &[(String, Node)], fresh: bool) -> Vec<Built> {
    let mut built = Vec::<Built>::new();
    for (_, node) in nodes {
        let input = |id: &crate::ids::NodeId| Input {
            columns: &nodes[id.0 as usize].1.columns,
            arrangement: built[id.0 as usize].arrangement.as_ref(),
        };
        let inputs = node.inputs.iter().map(input).collect::<Vec<_>>();
        let one = build(node, &inputs, fresh).unwrap();
        built.push(one);
    }
    built
}
