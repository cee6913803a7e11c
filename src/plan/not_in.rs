//! `NOT IN (SELECT ...)` in terms of EXISTS, before DataFusion sees it.
//!
//! DataFusion's mark joins know no NULL, and its null-aware anti join only some shapes. But a predicate asks only whether it
//! is true, and that can be said with EXISTS alone: `x NOT IN (q)` is true iff no row of `q` equals `x`, none of `q` is
//! NULL, and `x` is not NULL or `q` has no rows. Under NOT it matters instead whether the operand is false, so the rewrite
//! follows AND, OR and NOT down from the predicate's top with that in mind; IN anywhere else is refused.

use std::sync::Arc;

use datafusion::common::Column;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::Transformed;
use datafusion::common::tree_node::TreeNode;
use datafusion::logical_expr::BinaryExpr;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::ExprSchemable;
use datafusion::logical_expr::Filter;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::logical_expr::Operator;
use datafusion::logical_expr::exists;
use datafusion::logical_expr::expr::InSubquery;
use datafusion::logical_expr::lit;

use crate::error::Error;
use crate::error::Result;
use crate::plan::expr::planning;

/// The plan with every `NOT IN` of a subquery rewritten.
pub fn rewrite(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut rewriter = Rewriter { count: 0, refused: None };
    let plan = plan.transform_down_with_subqueries(|node| {
        let LogicalPlan::Filter(filter) = node else { return Ok(Transformed::no(node)) };
        let schema = filter.input.schema().clone();
        match rewriter.predicate(filter.predicate, true, &schema) {
            Ok(predicate) => Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(predicate, filter.input)?))),
            Err(error) => {
                let message = error.message.clone();
                rewriter.refused.get_or_insert(error);
                Err(datafusion::common::DataFusionError::Plan(message))
            }
        }
    });
    match (plan, rewriter.refused) {
        (Ok(plan), None) => Ok(plan.data),
        (_, Some(error)) => Err(error),
        (Err(error), None) => Err(planning(error)),
    }
}

/// The state of a rewrite.
struct Rewriter {
    /// How many were rewritten, for unique aliases.
    count: usize,
    /// Why the query is refused.
    refused: Option<Error>,
}

impl Rewriter {
    /// A predicate that is true where this one is (`positive`), or false where this one is.
    fn predicate(&mut self, expr: Expr, positive: bool, outer: &DFSchema) -> Result<Expr> {
        match expr {
            Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
                let left = Box::new(self.predicate(*left, positive, outer)?);
                let right = Box::new(self.predicate(*right, positive, outer)?);
                Ok(Expr::BinaryExpr(BinaryExpr { left, op, right }))
            }
            Expr::Not(inner) => Ok(!self.predicate(*inner, !positive, outer)?),
            Expr::InSubquery(mut subquery) => match (positive, subquery.negated) {
                (true, false) => Ok(Expr::InSubquery(subquery)),
                (true, true) => self.is_false(subquery, outer),
                (false, false) => Ok(!self.is_false(subquery, outer)?),
                (false, true) => {
                    subquery.negated = false;
                    let (operand, values) = self.parts(subquery, outer)?;
                    Ok(!exists(filtered(&values, |value| value.eq(operand))?))
                }
            },
            other => {
                let nested = other.exists(|e| Ok(matches!(e, Expr::InSubquery(_)))).map_err(planning)?;
                if nested {
                    return Err(Error::unsupported("IN (SELECT ...) inside another expression is not supported in a materialized view")
                        .hint("Use it as a condition of WHERE, joined to others by AND, OR and NOT."));
                }
                Ok(other)
            }
        }
    }

    /// True where `x IN (q)` is false, else false.
    fn is_false(&mut self, subquery: InSubquery, outer: &DFSchema) -> Result<Expr> {
        let operand_nullable = subquery.expr.nullable(outer).map_err(planning)?;
        let unchanged = subquery.expr.as_ref().clone();
        let (operand, values) = self.parts(subquery, outer)?;
        let mut answer = !exists(filtered(&values, |value| value.eq(operand))?);
        if values.schema().field(0).is_nullable() {
            answer = answer.and(!exists(filtered(&values, |value| value.is_null())?));
        }
        if operand_nullable {
            answer = answer.and(unchanged.is_not_null().or(!exists(values)));
        }
        Ok(answer)
    }

    /// The left operand as seen from inside the subquery, and the subquery under a name of its own.
    fn parts(&mut self, subquery: InSubquery, outer: &DFSchema) -> Result<(Expr, Arc<LogicalPlan>)> {
        self.count += 1;
        let operand = subquery.expr.transform(|e| match e {
            Expr::Column(column) => {
                let (_, field) = outer.qualified_field_from_column(&column)?;
                Ok(Transformed::yes(Expr::OuterReferenceColumn(field.clone(), column)))
            }
            Expr::OuterReferenceColumn(..) => Err(datafusion::common::DataFusionError::NotImplemented(
                "NOT IN over a column of a query further out".into(),
            )),
            other => Ok(Transformed::no(other)),
        });
        let values = LogicalPlanBuilder::from(subquery.subquery.subquery.as_ref().clone())
            .alias(format!("__not_in_{}", self.count))
            .and_then(LogicalPlanBuilder::build);
        Ok((operand.map_err(planning)?.data, Arc::new(values.map_err(planning)?)))
    }
}

/// The rows of a one-column plan whose value satisfies a condition.
fn filtered(values: &Arc<LogicalPlan>, condition: impl FnOnce(Expr) -> Expr) -> Result<Arc<LogicalPlan>> {
    let value = Expr::Column(Column::from(values.schema().qualified_field(0)));
    let filter = Filter::try_new(condition(value), values.clone()).map_err(planning)?;
    let rows = LogicalPlanBuilder::from(LogicalPlan::Filter(filter)).project([lit(true)]);
    Ok(Arc::new(rows.and_then(LogicalPlanBuilder::build).map_err(planning)?))
}
