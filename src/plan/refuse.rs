//! What a view cannot be made of yet: refused by name, with a hint, before DataFusion rewrites the query.

use datafusion::common::DataFusionError;
use datafusion::common::JoinType;
use datafusion::common::NullEquality;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::Aggregate;
use datafusion::logical_expr::Distinct;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::Subquery;
use datafusion::logical_expr::logical_plan::Join;

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
        LogicalPlan::Unnest(_) => return Err(construct("unnest")),
        LogicalPlan::RecursiveQuery(_) => return Err(construct("WITH RECURSIVE")),
        LogicalPlan::Distinct(Distinct::On(_)) => return Err(construct("DISTINCT ON")),
        LogicalPlan::Join(join) if is_set_operation_all(join) => {
            let name = if join.join_type == JoinType::LeftSemi { "INTERSECT ALL" } else { "EXCEPT ALL" };
            return Err(construct(name));
        }
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

/// DataFusion plans `EXCEPT` and `INTERSECT` as joins under which NULL equals NULL, and leaves the DISTINCT of the left side
/// out for ALL, which is not what ALL means.
fn is_set_operation_all(join: &Join) -> bool {
    matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti)
        && join.null_equality == NullEquality::NullEqualsNull
        && !matches!(join.left.as_ref(), LogicalPlan::Distinct(_))
}

fn check_expr(expr: &Expr) -> Result<()> {
    match expr {
        Expr::ScalarFunction(function) => check_volatility(function),
        Expr::ScalarSubquery(subquery) if !single_row(&subquery.subquery) => Err(Error::unsupported(
            "a scalar subquery that may return more than one row is not supported in a materialized view",
        )
        .hint("Make it an aggregate, such as max(...), or join with it.")),
        Expr::InSubquery(test) => check_existence(&test.subquery),
        Expr::Exists(test) => check_existence(&test.subquery),
        Expr::WindowFunction(_) => Err(construct("a window function")),
        Expr::Unnest(_) => Err(construct("unnest")),
        Expr::GroupingSet(_) => Err(construct("GROUPING SETS")),
        _ => Ok(()),
    }
}

/// Whether a plan can be seen to have at most one row: an aggregate without groups, or constants.
fn single_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(node) => single_row(&node.input),
        LogicalPlan::SubqueryAlias(node) => single_row(&node.input),
        LogicalPlan::Filter(node) => single_row(&node.input),
        LogicalPlan::Sort(node) => single_row(&node.input),
        LogicalPlan::Aggregate(node) => node.group_expr.is_empty(),
        LogicalPlan::EmptyRelation(_) => true,
        LogicalPlan::Values(node) => node.values.len() <= 1,
        _ => false,
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
