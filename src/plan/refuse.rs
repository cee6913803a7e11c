//! What a view cannot be made of yet: refused by name, with a hint, before DataFusion rewrites the query.

use datafusion::common::DataFusionError;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::Aggregate;
use datafusion::logical_expr::Distinct;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::Subquery;

use crate::error::Error;
use crate::error::Result;
use crate::plan::expr::check_volatility;
use crate::plan::expr::planning;

/// Refuses a query that holds a construct which cannot be maintained.
pub fn check(plan: &LogicalPlan) -> Result<()> {
    let mut refused = None;
    let walked = plan.apply_with_subqueries(|node| match check_node(node) {
        Ok(()) => Ok(TreeNodeRecursion::Continue),
        Err(error) => {
            refused.get_or_insert(error);
            Ok(TreeNodeRecursion::Stop)
        }
    });
    walked.map_err(planning)?;
    refused.map_or(Ok(()), Err)
}

/// The error for a construct that no view can have yet.
pub fn construct(what: &str) -> Error {
    Error::unsupported(format!("{what} is not supported in a materialized view"))
        .hint("Leave it out of the view, and apply it in the query that reads the view.")
}

fn check_node(node: &LogicalPlan) -> Result<()> {
    match node {
        LogicalPlan::Limit(_) => return Err(construct("LIMIT")),
        LogicalPlan::Sort(sort) if sort.fetch.is_some() => return Err(construct("LIMIT")),
        LogicalPlan::Window(_) => return Err(construct("a window function")),
        LogicalPlan::RecursiveQuery(_) => return Err(construct("WITH RECURSIVE")),
        LogicalPlan::Distinct(Distinct::On(_)) => return Err(construct("DISTINCT ON")),
        _ => {}
    }
    let mut refused = None;
    let mut check = |expr: &Expr| -> Result<TreeNodeRecursion, DataFusionError> {
        expr.apply(|e| match check_expr(e) {
            Ok(()) => Ok(TreeNodeRecursion::Continue),
            Err(error) => {
                refused.get_or_insert(error);
                Ok(TreeNodeRecursion::Stop)
            }
        })
    };
    node.apply_expressions(&mut check).map_err(planning)?;
    refused.map_or(Ok(()), Err)
}

fn check_expr(expr: &Expr) -> Result<()> {
    match expr {
        Expr::ScalarFunction(function) => check_volatility(function),
        Expr::InSubquery(test) => check_existence(&test.subquery),
        Expr::Exists(test) => check_existence(&test.subquery),
        Expr::WindowFunction(_) => Err(construct("a window function")),
        Expr::Unnest(_) => Err(construct("unnest")),
        Expr::GroupingSet(_) => Err(construct("GROUPING SETS")),
        _ => Ok(()),
    }
}

/// An aggregate without groups has a row even where its input has none; DataFusion loses that row when it takes a
/// correlated EXISTS or IN apart.
fn check_existence(subquery: &Subquery) -> Result<()> {
    if subquery.outer_ref_columns.is_empty() {
        return Ok(());
    }
    let global = |node: &LogicalPlan| matches!(node, LogicalPlan::Aggregate(Aggregate { group_expr, .. }) if group_expr.is_empty());
    let found = subquery.subquery.exists(|node| Ok(global(node))).map_err(planning)?;
    if found {
        return Err(construct("a correlated EXISTS or IN over an aggregate without GROUP BY"));
    }
    Ok(())
}
