//! Puts an incremental plan together node by node: equal nodes become one, trivial ones vanish, each gets the properties
//! that are proved of it. State tables are numbered at the end, when it is known which nodes are needed.

use crate::error::Result;
use crate::functions::window::WINDOW_COLUMNS;
use crate::functions::window::Windows;
use crate::ids::NodeId;
use crate::ids::ObjectId;
use crate::ids::TableId;
use crate::plan::bind::bind;
use crate::plan::ir::AggregateCall;
use crate::plan::ir::Closing;
use crate::plan::ir::Literal;
use crate::plan::ir::Multiset;
use crate::plan::ir::Node;
use crate::plan::ir::Op;
use crate::plan::ir::Plan;
use crate::plan::ir::Scalar;
use crate::plan::properties;
use crate::plan::properties::Properties;
use crate::plan::properties::closes_after;
use crate::types::Column;
use crate::types::SqlType;

/// Not numbered yet.
const UNNUMBERED: TableId = TableId(0);

/// A row at the very end of a session still belongs to it, so it is closed when the watermark has passed the end.
pub const SESSION_CLOSES_AFTER_US: i64 = 1;

/// A plan that grows.
#[derive(Clone, Default)]
pub struct Builder {
    /// In topological order; `nodes[i].id` is `i`.
    nodes: Vec<Node>,
}

impl Builder {
    /// A node made before.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// The columns of a node's output.
    pub fn columns(&self, id: NodeId) -> &[Column] {
        &self.node(id).columns
    }

    /// The changes of an object: `stored` has the columns of the selection, `properties` is of the selection too.
    pub fn input(
        &mut self,
        object: ObjectId,
        columns: Vec<usize>,
        stored: Vec<Column>,
        properties: Properties,
    ) -> NodeId {
        self.push(Op::Input { object, columns }, vec![], stored, properties, None)
    }

    /// Constant rows.
    pub fn values(&mut self, rows: Vec<Vec<Literal>>, columns: Vec<Column>) -> NodeId {
        self.derived(Op::Values { rows }, vec![], columns)
    }

    /// One row of one column that nobody reads: an edge always has a column.
    pub fn one_row(&mut self) -> NodeId {
        let Scalar::Literal(truth) = Scalar::truth() else { unreachable!("TRUE is a literal") };
        let column = Column { name: "row".into(), ty: truth.ty.clone(), nullable: false };
        self.values(vec![vec![truth]], vec![column])
    }

    /// These expressions with their names. Columns of an input are selected there; a projection of a projection is one.
    pub fn project(&mut self, input: NodeId, expressions: Vec<(Scalar, String)>) -> Result<NodeId> {
        let node = self.node(input);
        let selected = expressions.iter().map(|(e, _)| if let Scalar::Column(c) = e { Some(*c) } else { None });
        let selected = selected.collect::<Option<Vec<usize>>>();
        if let Some(selected) = &selected {
            if selected.iter().copied().eq(0..node.columns.len()) {
                return Ok(input);
            }
            if let Op::Input { object, columns } = &node.op
                && selected.iter().enumerate().all(|(i, c)| !selected[..i].contains(c))
            {
                let stored = selected.iter().map(|&c| node.columns[c].clone()).collect();
                let properties = properties::of(node).select(selected);
                return Ok(self.input(*object, selected.iter().map(|&c| columns[c]).collect(), stored, properties));
            }
        }
        if let Op::Project { expressions: inner } = &node.op
            && foldable(inner, expressions.iter().map(|(e, _)| e))
        {
            let folded = expressions.into_iter().map(|(e, name)| (e.substitute(&|c| inner[c].clone()), name)).collect();
            let below = node.inputs[0];
            return self.project(below, folded);
        }
        let mut columns = Vec::with_capacity(expressions.len());
        for (scalar, name) in &expressions {
            bind(scalar, &node.columns)?;
            let nullable = scalar.nullable(&node.columns);
            columns.push(Column { name: name.clone(), ty: scalar.ty(&node.columns), nullable });
        }
        let expressions = expressions.into_iter().map(|(e, _)| e).collect();
        Ok(self.derived(Op::Project { expressions }, vec![input], columns))
    }

    /// These columns of the input, in this order.
    pub fn select(&mut self, input: NodeId, columns: &[usize]) -> Result<NodeId> {
        let named = columns.iter().map(|&c| (Scalar::Column(c), self.columns(input)[c].name.clone())).collect();
        self.project(input, named)
    }

    /// The rows for which the predicate is true.
    pub fn filter(&mut self, input: NodeId, predicate: Scalar) -> Result<NodeId> {
        if predicate == Scalar::truth() {
            return Ok(input);
        }
        let columns = self.columns(input).to_vec();
        if let Scalar::Literal(_) = predicate {
            return Ok(self.values(vec![], columns));
        }
        bind(&predicate, &columns)?;
        Ok(self.derived(Op::Filter { predicate }, vec![input], columns))
    }

    /// The sum of inputs of equal Arrow types; names are those of the first. Where the types of a column differ, it has the
    /// one that holds all values of the Arrow type.
    pub fn union(&mut self, inputs: Vec<NodeId>) -> NodeId {
        let inputs: Vec<NodeId> = inputs.iter().copied().filter(|&i| !self.is_empty(i) || inputs.len() == 1).collect();
        match inputs.as_slice() {
            [] => unreachable!("a union has inputs"),
            [only] => return *only,
            _ => {}
        }
        let mut columns = self.columns(inputs[0]).to_vec();
        for (i, column) in columns.iter_mut().enumerate() {
            column.nullable = inputs.iter().any(|&input| self.columns(input)[i].nullable);
            if inputs.iter().any(|&input| self.columns(input)[i].ty != column.ty)
                && let Some(general) = SqlType::of_arrow(&column.ty.arrow())
            {
                column.ty = general;
            }
        }
        self.derived(Op::Union, inputs, columns)
    }

    /// The input with its weights turned around.
    pub fn negate(&mut self, input: NodeId) -> NodeId {
        let columns = self.columns(input).to_vec();
        self.derived(Op::Negate, vec![input], columns)
    }

    /// Each row as often as a column of it says.
    pub fn repeat(&mut self, input: NodeId, times: usize) -> NodeId {
        let columns = self.columns(input).to_vec();
        self.derived(Op::Repeat { times }, vec![input], columns)
    }

    /// The input indexed by a key, which begins with what closes it so long after, if anything does.
    fn arrange(&mut self, input: NodeId, key: Vec<usize>, null_safe: bool, closes_after_us: Option<i64>) -> NodeId {
        let columns = self.columns(input).to_vec();
        let null_safe = null_safe && key.iter().any(|&c| columns[c].nullable);
        let op = Op::Arrange { key, null_safe, table: UNNUMBERED };
        let properties = properties::derive(&op, &[self.node(input)]);
        self.push(op, vec![input], columns, properties, closes_after_us)
    }

    /// The rows of two inputs that agree on their keys. Where a pair of columns closes on both sides, it comes first: what has
    /// been closed on both can meet nothing any more.
    pub fn join(&mut self, left: (NodeId, &[usize]), right: (NodeId, &[usize]), null_safe: bool) -> NodeId {
        let [left, right] = self.arrange_both(left, right, null_safe);
        self.join_arranged(left, right)
    }

    /// The rows of the left input whose key is none of the right one's, in which each key is there once.
    pub fn anti(&mut self, left: (NodeId, &[usize]), right: (NodeId, &[usize]), null_safe: bool) -> NodeId {
        let [left, right] = self.arrange_both(left, right, null_safe);
        let columns = self.columns(left).to_vec();
        self.derived(Op::Anti, vec![left, right], columns)
    }

    /// Two inputs indexed by keys that are to be equal.
    fn arrange_both(&mut self, left: (NodeId, &[usize]), right: (NodeId, &[usize]), null_safe: bool) -> [NodeId; 2] {
        let after = |(input, key): (NodeId, &[usize]), at: usize| closes_after(self.node(input), key[at]);
        let both = |at: usize| Some((after(left, at)?.max(after(right, at)?), at));
        let closing = (0..left.1.len()).filter_map(both).min();
        let first = closing.map_or(0, |(_, at)| at);
        let order = (first..first + 1).chain(0..first).chain(first + 1..left.1.len());
        let order = order.filter(|&at| at < left.1.len()).collect::<Vec<_>>();
        let key = |key: &[usize]| order.iter().map(|&at| key[at]).collect::<Vec<_>>();
        let closes_after_us = closing.map(|(after_us, _)| after_us);
        [left, right].map(|side| self.arrange(side.0, key(side.1), null_safe, closes_after_us))
    }

    /// The rows of two arrangements that agree on the keys.
    fn join_arranged(&mut self, left: NodeId, right: NodeId) -> NodeId {
        let columns = [self.columns(left), self.columns(right)].concat();
        self.derived(Op::Join, vec![left, right], columns)
    }

    /// Each row once it is final, by the column that closes first.
    pub fn finals(&mut self, input: NodeId) -> NodeId {
        let closing = self.closes(input);
        let op = Op::Final { column: closing.column, table: UNNUMBERED };
        let properties = properties::derive(&op, &[self.node(input)]);
        self.push(op, vec![input], self.columns(input).to_vec(), properties, Some(closing.after_us))
    }

    /// The rows without those that have been final for so long: each is taken back once. That comes when the watermark has
    /// long passed it, so nothing that holds of the rows by the watermark holds of what is left.
    pub fn retained(&mut self, input: NodeId, retention_us: i64) -> NodeId {
        let closing = self.closes(input);
        let op = Op::Final { column: closing.column, table: UNNUMBERED };
        let after_us = closing.after_us.saturating_add(retention_us);
        let properties = Properties { append_only: true, ..Properties::default() };
        let old = self.push(op, vec![input], self.columns(input).to_vec(), properties, Some(after_us));
        let taken_back = self.negate(old);
        let left = self.union(vec![input, taken_back]);
        self.prove_key(left, self.node(input).key.clone());
        left
    }

    /// The column that closes first, where there is known to be one.
    fn closes(&self, input: NodeId) -> Closing {
        self.closing(input).expect("something closes these rows")
    }

    /// One row a group; `columns` are those of the calls. Groups are closed by the first of their columns, if that closes.
    pub fn aggregate(
        &mut self,
        input: NodeId,
        group: Vec<usize>,
        calls: Vec<AggregateCall>,
        multisets: Vec<Multiset>,
        columns: Vec<Column>,
    ) -> NodeId {
        let grouped = group.iter().map(|&c| self.columns(input)[c].clone());
        let columns = grouped.chain(columns).collect();
        let closes_after_us = group.first().and_then(|&first| closes_after(self.node(input), first));
        let op = Op::Aggregate { group, calls, table: UNNUMBERED, multisets };
        let properties = properties::derive(&op, &[self.node(input)]);
        self.push(op, vec![input], columns, properties, closes_after_us)
    }

    /// Each row with each window that its column `time` lies in.
    pub fn window(&mut self, input: NodeId, time: usize, windows: Windows) -> NodeId {
        let below = self.columns(input);
        let (ty, nullable) = (below[time].ty.clone(), below[time].nullable);
        let added = WINDOW_COLUMNS.map(|name| Column { name: name.into(), ty: ty.clone(), nullable });
        let columns = [below, &added].concat();
        self.derived(Op::Window { time, windows }, vec![input], columns)
    }

    /// Each row with the session of its partition. With `closing` the rows are bounded by the watermark, and so are sessions.
    pub fn session(&mut self, input: NodeId, time: usize, partition: Vec<usize>, gap_us: i64, closing: bool) -> NodeId {
        let below = self.columns(input);
        let (ty, nullable) = (below[time].ty.clone(), below[time].nullable);
        let added = WINDOW_COLUMNS.map(|name| Column { name: name.into(), ty: ty.clone(), nullable });
        let (end, columns) = (below.len() + 1, [below, &added].concat());
        let op = Op::Session { time, partition, gap_us, rows: UNNUMBERED, ends: UNNUMBERED };
        let mut properties = properties::derive(&op, &[self.node(input)]);
        if closing {
            properties.watermarks = vec![end];
            properties.closing = vec![Closing { column: end, after_us: SESSION_CLOSES_AFTER_US }];
        }
        self.push(op, vec![input], columns, properties, closing.then_some(SESSION_CLOSES_AFTER_US))
    }

    /// Each change as a row, its weight in a last column of this name.
    pub fn changes(&mut self, input: NodeId, weight: &str) -> NodeId {
        let weight = Column { name: weight.into(), ty: SqlType::BigInt, nullable: false };
        let columns = [self.columns(input), &[weight]].concat();
        self.derived(Op::Changes, vec![input], columns)
    }

    /// Each row once.
    pub fn distinct(&mut self, input: NodeId) -> NodeId {
        if self.node(input).key.is_some() {
            return input;
        }
        let all = 0..self.columns(input).len();
        let first = self.closing(input).map_or(0, |closing| closing.column);
        let group = std::iter::once(first).chain(all.clone().filter(|&c| c != first)).collect::<Vec<_>>();
        let back = all.map(|c| group.iter().position(|g| *g == c).expect("all columns are grouped by"));
        let back = back.collect::<Vec<_>>();
        let distinct = self.aggregate(input, group, vec![], vec![], vec![]);
        self.select(distinct, &back).expect("a column can be selected")
    }

    /// Notes a key that the rules for single nodes do not see.
    pub fn prove_key(&mut self, id: NodeId, key: Option<Vec<usize>>) {
        let node = &mut self.nodes[id.0 as usize];
        if node.key.is_none() {
            node.key = key;
        }
    }

    /// Notes columns that decide when a row is final, as the rules for single nodes do not see.
    pub fn prove_closing(&mut self, id: NodeId, closing: Vec<Closing>) {
        self.nodes[id.0 as usize].closing = closing;
    }

    /// The column that closes first, if any does.
    pub fn closing(&self, id: NodeId) -> Option<Closing> {
        self.node(id).closing.iter().copied().min_by_key(|closing| (closing.after_us, closing.column))
    }

    /// The plan that keeps `root` as the content of `object` under these names and types, and the first table id it leaves
    /// free.
    pub fn finish(mut self, root: NodeId, object: ObjectId, wanted: &[Column], next_table: TableId) -> (Plan, TableId) {
        let told = |(column, wanted): (&Column, &Column)| Column { nullable: column.nullable, ..wanted.clone() };
        let columns = self.columns(root).iter().zip(wanted).map(told).collect();
        let last = self.derived(Op::Materialize { object }, vec![root], columns);
        let mut needed = vec![false; self.nodes.len()];
        needed[last.0 as usize] = true;
        for node in self.nodes.iter().rev() {
            if needed[node.id.0 as usize] {
                node.inputs.iter().for_each(|input| needed[input.0 as usize] = true);
            }
        }
        let mut renumbered = vec![NodeId(0); self.nodes.len()];
        let mut nodes: Vec<Node> = vec![];
        let mut next_table = next_table;
        for mut node in self.nodes {
            if !needed[node.id.0 as usize] {
                continue;
            }
            let id = NodeId(nodes.len() as u32);
            renumbered[node.id.0 as usize] = id;
            node.id = id;
            node.inputs.iter_mut().for_each(|input| *input = renumbered[input.0 as usize]);
            number_tables(&mut node.op, &mut next_table);
            nodes.push(node);
        }
        (Plan { nodes, allowed_lateness_us: 0 }, next_table)
    }

    /// Whether a node is known to have exactly one row at all times.
    pub fn always_has_one(&self, id: NodeId) -> bool {
        let node = self.node(id);
        match &node.op {
            Op::Values { rows } => rows.len() == 1,
            Op::Aggregate { group, .. } => group.is_empty(),
            Op::Project { .. } => self.always_has_one(node.inputs[0]),
            Op::Input { .. } | Op::Errors { .. } | Op::Filter { .. } | Op::Union | Op::Negate => false,
            Op::Arrange { .. }
            | Op::Join
            | Op::Anti
            | Op::Repeat { .. }
            | Op::Window { .. }
            | Op::Session { .. }
            | Op::Final { .. } => false,
            Op::Changes | Op::Materialize { .. } | Op::Sink { .. } => false,
        }
    }

    /// Whether a node never has rows.
    fn is_empty(&self, id: NodeId) -> bool {
        matches!(&self.node(id).op, Op::Values { rows } if rows.is_empty())
    }

    /// A node whose properties follow from its inputs.
    fn derived(&mut self, op: Op, inputs: Vec<NodeId>, columns: Vec<Column>) -> NodeId {
        let nodes = inputs.iter().map(|&i| self.node(i)).collect::<Vec<_>>();
        let properties = properties::derive(&op, &nodes);
        self.push(op, inputs, columns, properties, None)
    }

    /// A node, or an equal one made before. Names do not tell nodes apart.
    fn push(
        &mut self,
        op: Op,
        inputs: Vec<NodeId>,
        columns: Vec<Column>,
        properties: Properties,
        closes_after_us: Option<i64>,
    ) -> NodeId {
        let same_types = |node: &Node| node.columns.iter().map(|c| &c.ty).eq(columns.iter().map(|c| &c.ty));
        let same =
            |n: &&Node| n.op == op && n.inputs == inputs && n.closes_after_us == closes_after_us && same_types(n);
        if let Some(node) = self.nodes.iter().find(same) {
            return node.id;
        }
        let id = NodeId(self.nodes.len() as u32);
        let Properties { key, append_only, watermarks, closing } = properties;
        let node = Node { id, op, inputs, columns, key, append_only, watermarks, closing, closes_after_us };
        self.nodes.push(node);
        id
    }
}

/// Whether a projection over a projection can be one: nothing that costs would be computed twice.
fn foldable<'a>(inner: &[Scalar], outer: impl Iterator<Item = &'a Scalar>) -> bool {
    let mut uses = vec![0; inner.len()];
    outer.for_each(|e| e.visit_columns(&mut |c| uses[c] += 1));
    let cheap = |e: &Scalar| matches!(e, Scalar::Column(_) | Scalar::Literal(_));
    inner.iter().zip(uses).all(|(e, n)| n <= 1 || cheap(e))
}

/// Gives the state of an operation its numbers.
fn number_tables(op: &mut Op, next: &mut TableId) {
    let mut number = |table: &mut TableId| {
        *table = *next;
        next.0 += 1;
    };
    match op {
        Op::Arrange { table, .. } | Op::Final { table, .. } => number(table),
        Op::Session { rows, ends, .. } => [rows, ends].into_iter().for_each(number),
        Op::Aggregate { table, multisets, .. } => {
            number(table);
            multisets.iter_mut().for_each(|m| number(&mut m.table));
        }
        Op::Input { .. }
        | Op::Errors { .. }
        | Op::Values { .. }
        | Op::Project { .. }
        | Op::Filter { .. }
        | Op::Union
        | Op::Negate
        | Op::Repeat { .. }
        | Op::Join
        | Op::Anti
        | Op::Window { .. }
        | Op::Changes
        | Op::Materialize { .. }
        | Op::Sink { .. } => {}
    }
}
