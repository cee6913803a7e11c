//! The incremental plan: a list of nodes in topological order, each with what a batch plan does not know (keys,
//! append-only, watermark columns, the state it owns). This is the form that is stored with a view, so a change to
//! any type here is a change of the disk format: see [`super::stored`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::functions::window::Windows;
use crate::ids::{NodeId, ObjectId, TableId};
use crate::types::{Column, SqlType};

/// A view's plan, or a sink's. The last node is its [`Op::Materialize`] or [`Op::Sink`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// In topological order; `nodes[i].id` is `i`.
    pub nodes: Vec<Node>,
    /// How far the view's watermark stays behind those of its inputs, in microseconds.
    pub allowed_lateness_us: i64,
}

/// One step of the plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its place in the plan.
    pub id: NodeId,
    /// What it does.
    pub op: Op,
    /// Where its inputs come from, one a port.
    pub inputs: Vec<NodeId>,
    /// The columns of its output.
    pub columns: Vec<Column>,
    /// Columns proved unique in its output, if any. An empty list: there is at most one row.
    pub key: Option<Vec<usize>>,
    /// Whether its output is proved to carry no retractions.
    pub append_only: bool,
    /// Columns of its output on which the watermark is a lower bound of what is still to come.
    pub watermarks: Vec<usize>,
    /// Columns of its output that decide when a row is final: what comes later than the view's watermark is proved to be
    /// above it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub closing: Vec<Closing>,
    /// The first column of the key of its state is such a column, in all inputs: what is kept under it goes when the view's
    /// watermark has reached the column plus so many microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closes_after_us: Option<i64>,
}

/// A column that decides when a row is final: once the view's watermark has reached the column plus `after_us`, no change of
/// the row can come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// The column, a timestamp.
    pub column: usize,
    /// Microseconds: 0 for the end of a window, its size for the start.
    pub after_us: i64,
}

/// What a node does. Columns are numbered from 0 in the input's output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// The changes of an object, these of its stored columns.
    Input { object: ObjectId, columns: Vec<usize> },
    /// The rows of a view that its operators could not compute, as the worker gathers them: see [`super::errors`].
    Errors { view: ObjectId },
    /// These rows, once, when the view is created.
    Values { rows: Vec<Vec<Literal>> },
    /// One output column for each expression.
    Project { expressions: Vec<Scalar> },
    /// The rows for which the predicate is true.
    Filter { predicate: Scalar },
    /// The sum of all inputs, which have the same columns.
    Union,
    /// The input with its weights turned around.
    Negate,
    /// Each row as often as this column of it says, which is a bigint and not negative.
    Repeat { times: usize },
    /// Each row once for each window that its `time` column lies in: its columns, then start and end of the window.
    Window { time: usize, windows: Windows },
    /// Each row with the session of its partition that it lies in: its columns, then start and end. `rows` has the rows of
    /// open sessions by partition, `ends` when they may be closed.
    Session { time: usize, partition: Vec<usize>, gap_us: i64, rows: TableId, ends: TableId },
    /// Each row once it is final by its `column` (see [`Node::closing`]), held back until then. Nothing is ever taken back.
    Final { column: usize, table: TableId },
    /// Each change as a row: the input's columns, then its weight. Nothing is ever taken back.
    Changes,
    /// The input indexed by a key, for the joins that read it; passes its input on. With `null_safe` rows whose key holds a
    /// NULL are kept (and NULL equals NULL), else they are left out.
    Arrange { key: Vec<usize>, null_safe: bool, table: TableId },
    /// The equi-join of two [`Op::Arrange`] inputs on their keys: all columns of the left, then all of the right. A cross
    /// join has empty keys. Further conditions are a [`Op::Filter`] above it. Outer and semi joins are composed of
    /// joins, distincts, anti joins and unions.
    Join,
    /// The rows of the left [`Op::Arrange`] input whose key the right one does not have, in which each key is there once.
    Anti,
    /// One row for each value of the `group` columns that has rows: the group columns, then the aggregates. Without `group`
    /// columns always one row. Without aggregates this is DISTINCT.
    Aggregate { group: Vec<usize>, calls: Vec<AggregateCall>, table: TableId, multisets: Vec<Multiset> },
    /// Keeps the rows as the content of a view.
    Materialize { object: ObjectId },
    /// Hands the changes to what a sink's connector delivers them to; nothing is kept.
    Sink { object: ObjectId },
}

/// One aggregate of [`Op::Aggregate`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AggregateCall {
    /// Which.
    pub function: AggregateFunction,
    /// The column it takes; `None` for `count(*)`.
    pub argument: Option<usize>,
    /// The boolean column that FILTER was computed into: rows where it is not true do not count.
    pub filter: Option<usize>,
    /// The type of the result.
    pub ty: SqlType,
    /// For DISTINCT, and for min and max over retracting input: which of the node's multisets holds the values.
    pub multiset: Option<usize>,
    /// Whether each value counts once.
    pub distinct: bool,
}

/// The aggregate functions that are maintained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AggregateFunction {
    Count,
    Sum,
    Avg,
    Min,
    Max,
    BoolAnd,
    BoolOr,
}

/// The values of one column in each group with their counts, kept for aggregates that need them: state keyed by
/// (group, value), with a count for each filter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Multiset {
    /// The column. NULLs are not kept.
    pub column: usize,
    /// By which rows are counted: those that a boolean column chooses, or all.
    pub filters: Vec<Option<usize>>,
    /// Where it lies.
    pub table: TableId,
}

/// A scalar expression. Evaluation is DataFusion's; this form is ours, so that it outlives a version of DataFusion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scalar {
    /// A column of the input.
    Column(usize),
    /// A constant.
    Literal(Literal),
    /// A function by its name in our registry (operators that are not functions have names such as `=`, `and`, `is_null`).
    Call { function: String, arguments: Vec<Scalar>, ty: SqlType },
    /// A conversion.
    Cast { input: Box<Scalar>, ty: SqlType },
    /// `CASE WHEN ... THEN ... ELSE ... END`, evaluated in order.
    Case { branches: Vec<(Scalar, Scalar)>, otherwise: Option<Box<Scalar>>, ty: SqlType },
}

/// A constant: its type and its text form (that of `types::text`), `None` for NULL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Literal {
    /// The type.
    pub ty: SqlType,
    /// The text that the type's input function reads.
    pub text: Option<String>,
}

impl Op {
    /// Whether some row can make it fail.
    pub fn can_fail(&self) -> bool {
        match self {
            Op::Project { expressions } => expressions.iter().any(Scalar::can_fail),
            Op::Filter { predicate } => predicate.can_fail(),
            Op::Aggregate { calls, .. } => {
                calls.iter().any(|call| matches!(call.function, AggregateFunction::Sum | AggregateFunction::Avg))
            }
            Op::Input { .. } | Op::Errors { .. } | Op::Values { .. } | Op::Union | Op::Negate => false,
            Op::Repeat { .. } | Op::Arrange { .. } | Op::Join | Op::Materialize { .. } | Op::Sink { .. } | Op::Anti => {
                false
            }
            // A window that begins or ends out of the range of timestamps.
            Op::Window { .. } | Op::Session { .. } => true,
            Op::Final { .. } | Op::Changes => false,
        }
    }

    /// The stored columns of an object that the node takes from outside.
    pub fn columns_of(&self, of: ObjectId) -> &[usize] {
        match self {
            Op::Input { object, columns } if *object == of => columns,
            Op::Input { .. } | Op::Errors { .. } | Op::Values { .. } | Op::Project { .. } | Op::Filter { .. } => &[],
            Op::Union | Op::Negate | Op::Repeat { .. } | Op::Join | Op::Anti | Op::Materialize { .. } => &[],
            Op::Arrange { .. } | Op::Aggregate { .. } | Op::Window { .. } | Op::Session { .. } => &[],
            Op::Final { .. } | Op::Changes | Op::Sink { .. } => &[],
        }
    }
}

impl Node {
    /// Columns that tell its rows apart: its key, else all.
    pub fn identity(&self) -> Vec<usize> {
        match &self.key {
            Some(key) if !key.is_empty() => key.clone(),
            Some(_) | None => (0..self.columns.len()).collect(),
        }
    }
}

impl Plan {
    /// The plan of a sink with the rows of this view.
    pub fn into_sink(mut self) -> Plan {
        if let Some(Node { op, .. }) = self.nodes.last_mut()
            && let Op::Materialize { object } = *op
        {
            *op = Op::Sink { object };
        }
        self
    }

    /// The state tables that the plan uses.
    pub fn tables(&self) -> Vec<TableId> {
        self.nodes.iter().flat_map(|node| node.op.tables()).collect()
    }
}

impl Op {
    /// The state tables that the node owns.
    pub fn tables(&self) -> Vec<TableId> {
        match self {
            Op::Arrange { table, .. } | Op::Final { table, .. } => vec![*table],
            Op::Session { rows, ends, .. } => vec![*rows, *ends],
            Op::Aggregate { table, multisets, .. } => {
                std::iter::once(*table).chain(multisets.iter().map(|m| m.table)).collect()
            }
            Op::Input { .. } | Op::Errors { .. } | Op::Values { .. } | Op::Project { .. } | Op::Filter { .. } => {
                Vec::new()
            }
            Op::Union | Op::Negate | Op::Repeat { .. } | Op::Join | Op::Materialize { .. } => Vec::new(),
            Op::Window { .. } | Op::Changes | Op::Sink { .. } | Op::Anti => Vec::new(),
        }
    }

    /// Puts other state tables into the places of some.
    pub fn replace_tables(&mut self, by: &BTreeMap<TableId, TableId>) {
        let replace = |table: &mut TableId| *table = by.get(table).copied().unwrap_or(*table);
        match self {
            Op::Arrange { table, .. } | Op::Final { table, .. } => replace(table),
            Op::Session { rows, ends, .. } => [rows, ends].into_iter().for_each(replace),
            Op::Aggregate { table, multisets, .. } => {
                std::iter::once(table).chain(multisets.iter_mut().map(|m| &mut m.table)).for_each(replace);
            }
            Op::Input { .. } | Op::Errors { .. } | Op::Values { .. } | Op::Project { .. } | Op::Filter { .. } => {}
            Op::Union | Op::Negate | Op::Repeat { .. } | Op::Join | Op::Materialize { .. } => {}
            Op::Window { .. } | Op::Changes | Op::Sink { .. } | Op::Anti => {}
        }
    }
}
