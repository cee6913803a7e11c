//! The operator as a whole: golden scripts, and random histories against recomputation.

use std::sync::Arc;

use tempfile::TempDir;

use crate::dataflow::operator::Context;
use crate::dataflow::operator::Operator;
use crate::delta::consolidate;
use crate::delta::pretty;
use crate::error::Error;
use crate::error::Result;
use crate::ids::Epoch;
use crate::ids::TableId;
use crate::plan::ir::AggregateCall;
use crate::plan::ir::AggregateFunction;
use crate::plan::ir::Multiset;
use crate::state::Sealed;
use crate::state::Store;
use crate::state::StoreOptions;
use crate::state::Writes;
use crate::types::Column;
use crate::types::SqlType;

use super::Aggregate;

mod random;
mod scripts;

/// A node of a plan.
struct Node {
    input: Vec<Column>,
    group: Vec<usize>,
    calls: Vec<AggregateCall>,
    multisets: Vec<Multiset>,
    output: Vec<Column>,
}

/// The calls of a node under test; whether its input retracts.
struct NodeBuilder {
    node: Node,
    retracts: bool,
}

impl NodeBuilder {
    fn new(input: &[(&str, SqlType)], group: &[usize], retracts: bool) -> NodeBuilder {
        let input = input.iter().map(|(name, ty)| Column::new(*name, ty.clone())).collect::<Vec<_>>();
        let output = group.iter().map(|column| input[*column].clone()).collect();
        let node = Node { input, group: group.to_vec(), calls: Vec::new(), multisets: Vec::new(), output };
        NodeBuilder { node, retracts }
    }

    fn call(
        mut self,
        function: AggregateFunction,
        argument: Option<usize>,
        filter: Option<usize>,
        distinct: bool,
        ty: SqlType,
    ) -> NodeBuilder {
        let extreme = matches!(function, AggregateFunction::Min | AggregateFunction::Max);
        let multiset = (distinct || extreme && self.retracts).then(|| {
            let column = argument.expect("such a call has an argument");
            let multisets = &mut self.node.multisets;
            let known = multisets.iter().position(|known| (known.column, known.filter) == (column, filter));
            known.unwrap_or_else(|| {
                let table = TableId(multisets.len() as u32 + 2);
                multisets.push(Multiset { column, filter, table });
                multisets.len() - 1
            })
        });
        self.node.output.push(Column::new("c", ty.clone()));
        self.node.calls.push(AggregateCall { function, argument, filter, ty, multiset, distinct });
        self
    }
}

/// A node at work over a store of its own.
struct World {
    node: Node,
    directory: TempDir,
    store: Arc<Store>,
    sealed: Option<Arc<Sealed>>,
    epoch: Epoch,
    operator: Aggregate,
}

impl World {
    /// The node, just created.
    fn new(node: Node) -> World {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), StoreOptions::default()).unwrap();
        let operator = operator(&node, true);
        World { node, directory, store, sealed: None, epoch: Epoch(1), operator }
    }

    /// Calls the operator; what it puts out, as text, sorted, errors last.
    fn run(&mut self, call: impl FnOnce(&mut Aggregate, &mut Context<'_>) -> Result<()>) -> Result<String> {
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        let state = self.store.reader(self.sealed.clone());
        let mut context = Context { epoch: self.epoch, state: &state, out: &mut out, errors: &mut errors };
        call(&mut self.operator, &mut context)?;
        let mut lines = Vec::new();
        for delta in &out {
            assert_eq!(consolidate(delta)?.len(), delta.len(), "the delta is consolidated");
            lines.extend(pretty::print(delta)?.lines().map(str::to_string));
        }
        lines.sort_by_key(|line| (line[1..].to_string(), line.starts_with('+')));
        lines.extend(errors.iter().map(|error| format!("{:+} error: {}", error.weight, error.error)));
        Ok(lines.iter().map(|line| format!("{line}\n")).collect())
    }

    fn create(&mut self) -> Result<String> {
        self.run(|operator, cx| operator.on_create(true, cx))
    }

    fn step(&mut self, rows: &str) -> Result<()> {
        let delta = pretty::parse(&self.node.input, rows)?;
        let half = delta.len() / 2;
        let halves = [delta.slice(0, half), delta.slice(half, delta.len() - half)];
        let out = self.run(|operator, cx| {
            halves.into_iter().try_for_each(|delta| operator.on_delta(0, delta, cx))?;
            operator.on_step(cx)
        })?;
        operator_is_silent(&out)
    }

    /// Ends the epoch and commits the one before: the reader finds this one sealed.
    fn end_epoch(&mut self) -> Result<String> {
        let out = self.run(|operator, cx| operator.on_epoch(cx))?;
        let mut writes = Writes::default();
        self.operator.seal(&mut writes)?;
        let sealed = Arc::new(Sealed::new(self.epoch, vec![writes]));
        if let Some(before) = self.sealed.replace(sealed) {
            self.store.commit(&before, false)?;
        }
        self.epoch = self.epoch.next();
        Ok(out)
    }

    /// A new operator over the reopened store.
    fn restart(self) -> World {
        let World { node, directory, store, sealed, epoch, operator: old } = self;
        if let Some(sealed) = sealed {
            store.commit(&sealed, true).unwrap();
        }
        drop((old, store));
        let store = Store::open(directory.path(), StoreOptions::default()).unwrap();
        let operator = operator(&node, false);
        World { node, directory, store, sealed: None, epoch, operator }
    }
}

fn operator(node: &Node, fresh: bool) -> Aggregate {
    let Node { input, group, calls, multisets, output } = node;
    Aggregate::new(input, group, calls, TableId(1), multisets, output, fresh).unwrap()
}

fn operator_is_silent(out: &str) -> Result<()> {
    match out {
        "" => Ok(()),
        _ => Err(Error::internal("put something out before the epoch's end")),
    }
}
