//! Optimized logical plan to incremental plan, one file for each kind of node.
//!
//! A logical plan's columns are those of its schema. What is built for it may have them in another order and others
//! besides: a [`Relation`] says where each is, so that renaming and reordering cost no node.

use std::collections::BTreeMap;

use datafusion::common::DFSchema;
use datafusion::common::tree_node::TreeNode;
use datafusion::logical_expr::Distinct;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::LogicalPlan;

use crate::catalog::Catalog;
use crate::catalog::Storage;
use crate::error::Error;
use crate::error::Result;
use crate::ids::NodeId;
use crate::ids::ObjectId;
use crate::ids::TableId;
use crate::plan::Late;
use crate::plan::Lowered;
use crate::plan::builder::Builder;
use crate::plan::explain;
use crate::plan::expr::lower_expr;
use crate::plan::expr::planning;
use crate::plan::expr::sql_type;
use crate::plan::ir::Scalar;
use crate::plan::lower::window::EventTime;
use crate::plan::nullability;
use crate::plan::refuse::construct;
use crate::plan::rules;
use crate::sql::bound::Query;
use crate::sql::bound::ViewOptions;
use crate::sql::window::WindowTable;
use crate::types::Column;
use crate::types::SqlType;

mod aggregate;
mod join;
mod scan;
mod setops;
mod window;

/// What was built for a logical plan.
#[derive(Clone, Debug)]
struct Relation {
    /// The node with its rows.
    node: NodeId,
    /// For each column of the logical plan's schema, the node's column.
    columns: Vec<usize>,
}

/// One query being lowered.
struct Lowering<'a> {
    /// What exists.
    catalog: &'a Catalog,
    /// The plan so far.
    builder: Builder,
    /// The event time of the nodes of the plan that have one, while the query has windows.
    event_times: BTreeMap<NodeId, EventTime>,
    /// Whether the query has windows.
    windowed: bool,
    /// See [`ViewOptions::allowed_lateness_us`].
    allowed_lateness_us: i64,
    /// The plan of `<view>$late` so far.
    late_builder: Builder,
    /// The late rows of each window in it, with the columns that they show before their weight.
    late: Vec<(NodeId, Vec<Column>)>,
    /// Whether it is this plan that is being built.
    looking_for_late: bool,
}

/// See [`super::lower()`].
pub fn lower(
    query: &Query,
    options: &ViewOptions,
    view: ObjectId,
    catalog: &Catalog,
    next_table: TableId,
) -> Result<Lowered> {
    let optimized = rules::optimize(nullability::tell(query.plan.clone(), catalog)?)?;
    let windowed = optimized.exists(|node| Ok(WindowTable::of(node).is_some())).map_err(planning)?;
    let mut lowering = Lowering {
        catalog,
        builder: Builder::default(),
        event_times: BTreeMap::new(),
        windowed,
        allowed_lateness_us: options.allowed_lateness_us,
        late_builder: Builder::default(),
        late: Vec::new(),
        looking_for_late: false,
    };
    let mut relation = lowering.lower(&optimized)?;
    if options.emit_final {
        relation = lowering.with_closing(&relation, "EMIT ON WINDOW CLOSE")?;
        relation.node = lowering.builder.finals(relation.node);
    }
    if let Some(retention_us) = options.retention_us {
        relation = lowering.with_closing(&relation, "retention")?;
        relation.node = lowering.builder.retained(relation.node, retention_us);
    }
    let root = lowering.output(&relation, &query.columns)?;
    let (key, append_only) = (lowering.builder.node(root).key.clone(), lowering.builder.node(root).append_only);
    let (late, late_builder) = (lowering.late, lowering.late_builder);
    let (mut plan, next_table) = lowering.builder.finish(root, view, &query.columns, next_table);
    plan.allowed_lateness_us = options.allowed_lateness_us;
    let storage = match key {
        Some(key) => Storage::Keyed(key),
        None if append_only => Storage::Log,
        None => Storage::Hashed,
    };
    let late = late_relation(late, late_builder)?;
    Ok(Lowered { plan, storage, next_table, late })
}

/// The relation of all rows that are late for some window of a view: the columns of its windows by name, NULL in rows of
/// another window that lacks them.
fn late_relation(late: Vec<(NodeId, Vec<Column>)>, mut builder: Builder) -> Result<Option<Late>> {
    let mut columns: Vec<Column> = Vec::new();
    let mut places = Vec::new();
    for (_, shown) in &late {
        let mut taken = Vec::new();
        for column in shown {
            let free = |(at, c): (usize, &Column)| (c.ty == column.ty && !taken.contains(&at)).then_some(at);
            let named =
                |(_, c): &(usize, &Column)| c.name == column.name || c.name.starts_with(&format!("{}_", column.name));
            let found = columns.iter().enumerate().filter(named).find_map(free);
            let at = found.unwrap_or_else(|| {
                let mut name = column.name.clone();
                while columns.iter().any(|c| c.name == name) {
                    name.push_str("_2");
                }
                columns.push(Column { name, ty: column.ty.clone(), nullable: true });
                columns.len() - 1
            });
            taken.push(at);
        }
        places.push(taken);
    }
    let Some((first, _)) = late.first() else { return Ok(None) };
    let weight = builder.columns(*first).last().expect("changes have a weight").clone();
    let mut parts = Vec::new();
    for ((node, shown), places) in late.iter().zip(&places) {
        let own = |at: usize| places.iter().position(|place| *place == at).map(Scalar::Column);
        let all = columns.iter().enumerate().map(|(at, c)| (own(at).unwrap_or_else(|| Scalar::null(c.ty.clone())), c));
        let all = all.map(|(scalar, c)| (scalar, c.name.clone()));
        let all = all.chain([(Scalar::Column(shown.len()), weight.name.clone())]).collect();
        parts.push(builder.project(*node, all)?);
    }
    let root = builder.union(parts);
    columns.push(weight);
    Ok(Some(Late { builder, root, columns }))
}

impl Lowering<'_> {
    fn lower(&mut self, plan: &LogicalPlan) -> Result<Relation> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::Projection(node) => {
                let input = self.lower(&node.input)?;
                self.project(&input, &node.expr, node.input.schema())
            }
            LogicalPlan::Filter(node) => {
                let input = self.lower(&node.input)?;
                let predicate = self.scalar(&node.predicate, node.input.schema(), &input)?;
                let node = self.builder.filter(input.node, predicate)?;
                if let Some(event) = self.event_times.get(&input.node).copied() {
                    self.event_times.insert(node, event);
                }
                Ok(Relation { node, columns: input.columns })
            }
            LogicalPlan::SubqueryAlias(node) => self.lower(&node.input),
            LogicalPlan::Sort(node) if node.fetch.is_none() => self.lower(&node.input),
            LogicalPlan::Aggregate(node) => self.aggregate(node),
            LogicalPlan::Join(node) => self.join(node),
            LogicalPlan::Union(node) => self.union(node),
            LogicalPlan::Distinct(Distinct::All(input)) => self.distinct(input),
            LogicalPlan::Values(node) => self.values(node),
            LogicalPlan::EmptyRelation(node) => self.empty(node),
            LogicalPlan::Extension(_) => match WindowTable::of(plan) {
                Some(table) => self.window(table),
                None => Err(construct(&format!("{}", plan.display()))),
            },
            LogicalPlan::Subquery(_) => Err(construct("a subquery correlated in this way")),
            LogicalPlan::Window(_) => Err(construct("a window function")),
            LogicalPlan::Sort(_) | LogicalPlan::Limit(_) => Err(construct("LIMIT")),
            LogicalPlan::Distinct(Distinct::On(_)) => Err(construct("DISTINCT ON")),
            LogicalPlan::Unnest(node) => self.copies(node),
            LogicalPlan::RecursiveQuery(_) => Err(construct("WITH RECURSIVE")),
            other => Err(construct(&format!("{}", other.display()))),
        }
    }

    /// Expressions over a relation. Where all are columns, no node is needed.
    fn project(&mut self, input: &Relation, exprs: &[Expr], below: &DFSchema) -> Result<Relation> {
        let scalars = exprs.iter().map(|e| self.scalar(e, below, input)).collect::<Result<Vec<_>>>()?;
        let place = |scalar: &Scalar| if let Scalar::Column(c) = scalar { Some(*c) } else { None };
        if let Some(columns) = scalars.iter().map(place).collect::<Option<Vec<usize>>>() {
            return Ok(Relation { node: input.node, columns });
        }
        let named = exprs.iter().zip(scalars).map(|(e, scalar)| (self.name(e, &scalar, input.node), scalar));
        let mut expressions = named.map(|(name, scalar)| (scalar, name)).collect::<Vec<_>>();
        let columns = (0..expressions.len()).collect();
        let event = self.carry(input.node, &mut expressions);
        let node = self.builder.project(input.node, expressions)?;
        if let Some(event) = event {
            self.event_times.insert(node, event);
        }
        Ok(Relation { node, columns })
    }

    /// What to call an expression: as the query does, else by what it computes.
    fn name(&self, expr: &Expr, scalar: &Scalar, input: NodeId) -> String {
        match expr {
            Expr::Alias(alias) => alias.name.clone(),
            _ => explain::scalar(scalar, self.builder.columns(input)),
        }
    }

    /// An expression over the schema of a logical plan, over what was built for it.
    fn scalar(&self, expr: &Expr, schema: &DFSchema, relation: &Relation) -> Result<Scalar> {
        Ok(lower_expr(expr, schema)?.over(&relation.columns))
    }

    /// A relation of only these columns and the one that says when its rows are final, which a clause needs.
    fn with_closing(&mut self, relation: &Relation, clause: &str) -> Result<Relation> {
        let Some(closing) = self.builder.closing(relation.node) else { return Err(self.nothing_closes(clause)) };
        let mut kept = relation.columns.iter().copied().chain([closing.column]).collect::<Vec<_>>();
        kept.sort_unstable();
        kept.dedup();
        let node = self.builder.select(relation.node, &kept)?;
        let place = |c: &usize| kept.iter().position(|k| k == c).expect("it was kept");
        Ok(Relation { node, columns: relation.columns.iter().map(place).collect() })
    }

    /// Why a query has no final rows, and what is missing.
    fn nothing_closes(&self, clause: &str) -> Error {
        let error = Error::unsupported(format!("{clause} needs rows that a watermark makes final"))
            .detail("No column of the query's rows, or of their groups, is that of a window closed by a watermark.");
        match self.windowed && self.event_times.is_empty() {
            true => error.hint(
                "Declare the time column of the input with WATERMARK FOR ts AS ts - INTERVAL '5 seconds', and take it \
                 into the window as it is.",
            ),
            false if !self.windowed => error.hint(
                "Put the rows into windows, such as FROM TUMBLE(t, ts, INTERVAL '1 minute'), where ts is declared with \
                 WATERMARK FOR.",
            ),
            false => error
                .hint("Group by window_start or window_end, join on them, or keep the rows of the window as they are."),
        }
    }

    /// Exactly these columns of the relation's node as a node; never without a column, since an edge always has one.
    fn narrow(&mut self, node: NodeId, columns: &[usize]) -> Result<NodeId> {
        match columns {
            [] => self.builder.project(node, vec![(Scalar::truth(), "row".into())]),
            columns => self.builder.select(node, columns),
        }
    }

    /// The relation as a node with these columns in this order.
    fn output(&mut self, relation: &Relation, columns: &[Column]) -> Result<NodeId> {
        if relation.columns.len() != columns.len() {
            return Err(Error::internal(format!("a plan of {} columns for {}", relation.columns.len(), columns.len())));
        }
        let input = self.builder.columns(relation.node);
        let place = |(&c, wanted): (&usize, &Column)| (cast(Scalar::Column(c), &wanted.ty, input), wanted.name.clone());
        let expressions = relation.columns.iter().zip(columns).map(place).collect();
        self.builder.project(relation.node, expressions)
    }
}

/// The scalar in the Arrow type of this type. Types that Arrow does not tell apart, such as `varchar(5)` and `text`, have the
/// same values: a conversion would cut them.
fn cast(scalar: Scalar, ty: &SqlType, input: &[Column]) -> Scalar {
    if scalar.ty(input).arrow() == ty.arrow() {
        return scalar;
    }
    Scalar::Cast { input: Box::new(scalar), ty: ty.clone() }
}

/// The columns that a logical plan's schema means.
fn schema_columns(schema: &DFSchema) -> Result<Vec<Column>> {
    schema.fields().iter().map(|f| Ok(Column::new(f.name(), sql_type(f)?))).collect()
}
