//! What a worker installs: plans come and go, and stored state is brought into memory.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::catalog::Storage;
use crate::dataflow::build;
use crate::dataflow::graph::Index;
use crate::dataflow::input::Input;
use crate::dataflow::materialize::Materialize;
use crate::dataflow::operator::Operator;
use crate::dataflow::worker::Start;
use crate::dataflow::worker::Worker;
use crate::error::Error;
use crate::error::Result;
use crate::ids::ObjectId;
use crate::ids::Shard;
use crate::plan::ir::Op;
use crate::plan::ir::Plan;
use crate::state::StateReader;
use crate::time::Clock;
use crate::time::SystemClock;

/// State is brought into memory for so long at once, or for as long as one shard takes.
const WARM_TIME: Duration = Duration::from_millis(1);

/// An epoch begins with some of it if nothing was brought in for so long.
const WARM_PAUSE: Duration = Duration::from_millis(20);

impl Worker {
    /// Adds a view's plan, with an operator for each vertex that is new.
    pub(super) fn install(
        &mut self,
        view: ObjectId,
        plan: &Plan,
        storage: Option<&Storage>,
        start: Start,
    ) -> Result<()> {
        if start != Start::Joined {
            self.graph.set_behind(view);
        }
        let fresh = start == Start::Fresh;
        for index in self.graph.add(view, plan, storage) {
            let operator = self.operator_of(index, storage, fresh)?;
            self.operators.insert(index, operator);
            self.meters.insert(index, self.share.meters.of(index, self.id));
            if !fresh && !self.graph.vertex(index).node.op.tables().is_empty() {
                self.cold.push_back((index, Shard(self.shards.start)));
            }
        }
        Ok(())
    }

    /// Lets a view use state that other plans keep, in place of its own.
    pub(super) fn share(&mut self, view: ObjectId, plan: &Plan) -> Result<()> {
        let shared = self.graph.share(view, plan);
        self.forget(&shared.removed);
        for index in shared.moved {
            // Whatever else reads state, reads what it puts out.
            if matches!(self.graph.vertex(index).node.op, Op::Join | Op::Anti) {
                let operator = self.build(index, false)?;
                self.operators.insert(index, operator);
            }
        }
        Ok(())
    }

    /// Drops everything that is kept for vertices that are gone.
    pub(super) fn forget(&mut self, removed: &[Index]) {
        for index in removed {
            self.operators.remove(index);
            self.meters.remove(index);
            self.reached.remove(index);
            self.owing.remove(index);
            self.cold.retain(|(cold, _)| cold != index);
            self.arrangements.remove(index);
            self.memory_bytes -= self.memory.remove(index).unwrap_or(0);
        }
    }

    /// Brings some of the stored state into memory, until there is no more or no more room.
    pub(super) fn warm(&mut self, state: &StateReader) -> Result<()> {
        let begun = SystemClock.instant();
        while SystemClock.instant() - begun < WARM_TIME {
            let Some((index, shard)) = self.cold.pop_front() else { break };
            if self.memory_bytes > self.share.memory_bytes / 4 * 3 {
                self.cold.clear();
                break;
            }
            let next = Shard(shard.0 + 1);
            let last = next.0 >= self.shards.end;
            self.operator(index).warm(shard, last, state)?;
            self.measure(index);
            if !last {
                self.cold.push_front((index, next));
            }
        }
        self.warmed = Some(SystemClock.instant());
        self.share.is_cold.store(!self.cold.is_empty(), Ordering::Relaxed);
        Ok(())
    }

    /// The same as an epoch begins, where epochs leave no time between them.
    pub(super) fn warm_if_due(&mut self, state: &StateReader) -> Result<()> {
        match self.warmed.is_none_or(|warmed| SystemClock.instant() - warmed > WARM_PAUSE) {
            true => self.warm(state),
            false => Ok(()),
        }
    }

    /// Makes a vertex's operator for this worker.
    fn operator_of(&mut self, index: Index, storage: Option<&Storage>, fresh: bool) -> Result<Box<dyn Operator>> {
        let vertex = self.graph.vertex(index);
        match &vertex.node.op {
            Op::Input { columns, .. } => return Ok(Box::new(Input::new(columns, &vertex.node.columns))),
            Op::Materialize { object } => {
                let storage = storage.cloned().ok_or_else(|| Error::internal("a view has no storage"))?;
                return Ok(Box::new(Materialize::new(*object, &vertex.node.columns, storage, self.id)));
            }
            Op::Errors { .. } | Op::Values { .. } | Op::Project { .. } | Op::Filter { .. } => {}
            Op::Union
            | Op::Negate
            | Op::Repeat { .. }
            | Op::Window { .. }
            | Op::Changes
            | Op::Sink { .. }
            | Op::Anti => {}
            Op::Arrange { .. } | Op::Join | Op::Aggregate { .. } | Op::Final { .. } | Op::Session { .. } => {}
        }
        self.build(index, fresh)
    }

    /// Makes the operator of a vertex that is none of the worker's own.
    fn build(&mut self, index: Index, fresh: bool) -> Result<Box<dyn Operator>> {
        let vertex = self.graph.vertex(index);
        let offered = vertex.inputs.iter().filter_map(|edge| edge.from).map(|from| build::Input {
            columns: &self.graph.vertex(from).node.columns,
            arrangement: self.arrangements.get(&from),
        });
        let built = build::build(&vertex.node, &offered.collect::<Vec<_>>(), fresh)?;
        if let Some(arrangement) = built.arrangement {
            self.arrangements.insert(index, arrangement);
        }
        built.operator.ok_or_else(|| Error::internal("a node of a plan has no operator"))
    }
}
