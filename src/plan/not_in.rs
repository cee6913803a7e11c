//! `IN (SELECT ...)` in two truth values, before DataFusion takes it apart.
//!
//! DataFusion's mark joins know no NULL: to them `x IN (q)` is whether a row of `q` equals `x`, else false. For a predicate
//! that is enough where it asks only whether `x IN (q)` is true. Where it asks whether it is *false*, as `NOT IN` does, more
//! must hold: no row of `q` is NULL, and `x` is not NULL or `q` has no rows. These conditions are added here with EXISTS,
//! following AND, OR and NOT down from the predicate's top; IN anywhere else is refused. Thereafter an anti join that
//! DataFusion calls null-aware is to be taken as a plain one.

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
use datafusion::logical_expr::Operator;
use datafusion::logical_expr::exists;
use datafusion::logical_expr::expr::InSubquery;

use crate::error::Error;
use crate::error::Result;
use crate::plan::expr::planning;

/// The plan with every IN of a subquery meant in two truth values.
pub fn rewrite(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut refused = None;
    let plan = plan.transform_down_with_subqueries(|node| {
        let LogicalPlan::Filter(filter) = node else { return Ok(Transformed::no(node)) };
        let schema = filter.input.schema().clone();
        match predicate(filter.predicate, true, &schema) {
            Ok(predicate) => Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(predicate, filter.input)?))),
            Err(error) => {
                let message = error.message.clone();
                refused.get_or_insert(error);
                Err(datafusion::common::DataFusionError::Plan(message))
            }
        }
    });
    match (plan, refused) {
        (Ok(plan), None) => Ok(plan.data),
        (_, Some(error)) => Err(error),
        (Err(error), None) => Err(planning(error)),
    }
}

/// A predicate that is true where this one is (`positive`), or false where this one is.
fn predicate(expr: Expr, positive: bool, outer: &DFSchema) -> Result<Expr> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::And | Operator::Or), right }) => {
            let left = Box::new(predicate(*left, positive, outer)?);
            let right = Box::new(predicate(*right, positive, outer)?);
            Ok(Expr::BinaryExpr(BinaryExpr { left, op, right }))
        }
        Expr::Not(inner) => Ok(!predicate(*inner, !positive, outer)?),
        Expr::InSubquery(mut subquery) => {
            let asked_true = positive != subquery.negated;
            let negated = std::mem::replace(&mut subquery.negated, false);
            if asked_true {
                let test = Expr::InSubquery(subquery);
                return Ok(if negated { !test } else { test });
            }
            let answer = is_false(subquery, outer)?;
            Ok(if negated { answer } else { !answer })
        }
        other => {
            let nested = other.exists(|e| Ok(matches!(e, Expr::InSubquery(_)))).map_err(planning)?;
            if nested {
                return Err(Error::unsupported(
                    "IN (SELECT ...) inside another expression is not supported in a materialized view",
                )
                .hint("Use it as a condition of WHERE, joined to others by AND, OR and NOT."));
            }
            Ok(other)
        }
    }
}

/// True where `x IN (q)` is false, else false.
fn is_false(subquery: InSubquery, outer: &DFSchema) -> Result<Expr> {
    let operand = subquery.expr.as_ref().clone();
    let values = subquery.subquery.subquery.clone();
    let mut answer = !Expr::InSubquery(subquery);
    if values.schema().field(0).is_nullable() {
        answer = answer.and(!exists(nulls(&values)?));
    }
    if operand.nullable(outer).map_err(planning)? {
        answer = answer.and(operand.is_not_null().or(!exists(values)));
    }
    Ok(answer)
}

/// The rows of a one-column plan that are NULL.
fn nulls(values: &Arc<LogicalPlan>) -> Result<Arc<LogicalPlan>> {
    let value = Expr::Column(Column::from(values.schema().qualified_field(0)));
    Ok(Arc::new(LogicalPlan::Filter(Filter::try_new(value.is_null(), values.clone()).map_err(planning)?)))
}
