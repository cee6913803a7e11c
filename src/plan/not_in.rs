//! `IN (SELECT ...)` in two truth values, before DataFusion takes it apart.
//!
//! DataFusion's mark joins know no NULL: to them `x IN (q)` is whether a row of `q` equals `x`, else false. For a predicate
//! that is enough where it asks only whether `x IN (q)` is true. Where it asks whether it is *false*, as `NOT IN` does, more
//! must hold: no row of `q` is NULL, and `x` is not NULL or `q` has no rows. These conditions are added here with EXISTS,
//! following AND, OR and NOT down from the predicate's top; IN anywhere else gets its third value by a CASE. Thereafter an anti
//! join that DataFusion calls null-aware is to be taken as a plain one.

use std::sync::Arc;

use datafusion::common::Column;
use datafusion::common::DFSchema;
use datafusion::common::DataFusionError;
use datafusion::common::tree_node::Transformed;
use datafusion::common::tree_node::TreeNode;
use datafusion::logical_expr::BinaryExpr;
use datafusion::logical_expr::Case;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::ExprSchemable;
use datafusion::logical_expr::Filter;
use datafusion::logical_expr::Join;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::Operator;
use datafusion::logical_expr::exists;
use datafusion::logical_expr::expr::InSubquery;
use datafusion::logical_expr::lit;

use crate::error::Result;
use crate::plan::expr::planning;

/// The plan with every IN of a subquery meant in two truth values.
pub fn rewrite(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rewritten = plan.transform_down_with_subqueries(|node| {
        let LogicalPlan::Filter(filter) = node else { return Ok(Transformed::no(node)) };
        let schema = filter.input.schema().clone();
        let predicate = predicate(filter.predicate, true, &schema)?;
        Ok(Transformed::yes(LogicalPlan::Filter(Filter::try_new(predicate, filter.input)?)))
    });
    Ok(rewritten.map_err(planning)?.data)
}

/// The plan, once optimized, with its anti joins plain, for who runs it by DataFusion.
pub fn plain_joins(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plain = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Join(join) if join.null_aware => {
            Ok(Transformed::yes(LogicalPlan::Join(Join { null_aware: false, ..join })))
        }
        other => Ok(Transformed::no(other)),
    });
    Ok(plain.map_err(planning)?.data)
}

/// A predicate that is true where this one is (`positive`), or false where this one is.
fn predicate(expr: Expr, positive: bool, outer: &DFSchema) -> Result<Expr, DataFusionError> {
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
        other => Ok(other
            .transform_up(|part| match part {
                Expr::InSubquery(test) => Ok(Transformed::yes(three_valued(test, outer)?)),
                part => Ok(Transformed::no(part)),
            })?
            .data),
    }
}

/// `x IN (q)` with all of its values.
fn three_valued(mut test: InSubquery, outer: &DFSchema) -> Result<Expr, DataFusionError> {
    let negated = std::mem::replace(&mut test.negated, false);
    let is_true = Expr::InSubquery(test.clone());
    let is_false = is_false(test, outer)?;
    let branches = vec![(is_true, !negated), (is_false, negated)];
    let branches = branches.into_iter().map(|(test, value)| (Box::new(test), Box::new(lit(value))));
    Ok(Expr::Case(Case::new(None, branches.collect(), None)))
}

/// True where `x IN (q)` is false, else false.
fn is_false(subquery: InSubquery, outer: &DFSchema) -> Result<Expr, DataFusionError> {
    let operand = subquery.expr.as_ref().clone();
    let values = subquery.subquery.subquery.clone();
    let mut answer = !Expr::InSubquery(subquery);
    if values.schema().field(0).is_nullable() {
        answer = answer.and(!exists(nulls(&values)?));
    }
    if operand.nullable(outer)? {
        answer = answer.and(operand.is_not_null().or(!exists(values)));
    }
    Ok(answer)
}

/// The rows of a one-column plan that are NULL.
fn nulls(values: &Arc<LogicalPlan>) -> Result<Arc<LogicalPlan>, DataFusionError> {
    let value = Expr::Column(Column::from(values.schema().qualified_field(0)));
    Ok(Arc::new(LogicalPlan::Filter(Filter::try_new(value.is_null(), values.clone())?)))
}
