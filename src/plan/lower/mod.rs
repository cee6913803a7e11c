//! Optimized logical plan to incremental plan, one file for each kind of node.
//!
//! A logical plan's columns are those of its schema. What is built for it may have them in another order and others
//! besides: a [`Relation`] says where each is, so that renaming and reordering cost no node.

use datafusion::common::DFSchema;
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
use crate::plan::Lowered;
use crate::plan::builder::Builder;
use crate::plan::explain;
use crate::plan::expr::lower_expr;
use crate::plan::expr::sql_type;
use crate::plan::ir::Scalar;
use crate::plan::nullability;
use crate::plan::refuse::construct;
use crate::plan::rules;
use crate::sql::bound::Query;
use crate::types::Column;
use crate::types::SqlType;

mod aggregate;
mod join;
mod scan;
mod setops;

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
}

/// See [`super::lower()`].
pub fn lower(query: &Query, view: ObjectId, catalog: &Catalog, next_table: TableId) -> Result<Lowered> {
    let optimized = rules::optimize(nullability::tell(query.plan.clone(), catalog)?)?;
    let mut lowering = Lowering { catalog, builder: Builder::default() };
    let relation = lowering.lower(&optimized)?;
    let root = lowering.output(&relation, &query.columns)?;
    let (key, append_only) = (lowering.builder.node(root).key.clone(), lowering.builder.node(root).append_only);
    let (plan, next_table) = lowering.builder.finish(root, view, &query.columns, next_table);
    let storage = match key {
        Some(key) => Storage::Keyed(key),
        None if append_only => Storage::Log,
        None => Storage::Hashed,
    };
    Ok(Lowered { plan, storage, next_table })
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
                Ok(Relation { node: self.builder.filter(input.node, predicate)?, columns: input.columns })
            }
            LogicalPlan::SubqueryAlias(node) => self.lower(&node.input),
            LogicalPlan::Sort(node) if node.fetch.is_none() => self.lower(&node.input),
            LogicalPlan::Aggregate(node) => self.aggregate(node),
            LogicalPlan::Join(node) => self.join(node),
            LogicalPlan::Union(node) => self.union(node),
            LogicalPlan::Distinct(Distinct::All(input)) => self.distinct(input),
            LogicalPlan::Values(node) => self.values(node),
            LogicalPlan::EmptyRelation(node) => self.empty(node),
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
        let expressions = named.map(|(name, scalar)| (scalar, name)).collect::<Vec<_>>();
        let columns = (0..expressions.len()).collect();
        Ok(Relation { node: self.builder.project(input.node, expressions)?, columns })
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
