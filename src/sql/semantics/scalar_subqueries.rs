//! Scalar subqueries that may have more than one row, in a form that DataFusion's joins answer rightly.
//!
//! `(SELECT x FROM r WHERE r.k = o.k)` becomes `single((SELECT min(x) ...), (SELECT count(*) ...))`: where there is one row, that is
//! its value, and a second row is the error of the row that asks, of no other. Both are aggregates, and so can be joined.

use std::sync::Arc;

use datafusion::common::Result as DfResult;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::tree_node::TransformedResult;
use datafusion::common::tree_node::TreeNode;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::functions_aggregate::expr_fn::min;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::FetchType;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::logical_expr::Subquery;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::lit;
use datafusion::optimizer::AnalyzerRule;

use crate::functions::subqueries::single;

/// The rule that runs when types are resolved.
#[derive(Debug)]
pub struct ScalarSubqueries;

impl AnalyzerRule for ScalarSubqueries {
    fn name(&self) -> &str {
        "scalar_subqueries"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> DfResult<LogicalPlan> {
        let in_node = |node: LogicalPlan| {
            let names = NamePreserver::new(&node);
            node.map_expressions(|expr| {
                let name = names.save(&expr);
                let replaced = expr.transform_up(|part| match part {
                    Expr::ScalarSubquery(subquery) if !has_one_row(&subquery.subquery) => guarded(&subquery),
                    part => Ok(Transformed::no(part)),
                })?;
                Ok(replaced.update_data(|expr| name.restore(expr)))
            })
        };
        plan.transform_up_with_subqueries(in_node).data()
    }
}

fn guarded(subquery: &Subquery) -> DfResult<Transformed<Expr>> {
    let Some(column) = subquery.subquery.schema().columns().into_iter().next() else {
        return Ok(Transformed::no(Expr::ScalarSubquery(subquery.clone())));
    };
    let of = |call: Expr| -> DfResult<Expr> {
        let plan = LogicalPlanBuilder::from(subquery.subquery.as_ref().clone());
        let plan = plan.aggregate(Vec::<Expr>::new(), vec![call])?.build()?;
        Ok(Expr::ScalarSubquery(Subquery { subquery: Arc::new(plan), ..subquery.clone() }))
    };
    Ok(Transformed::yes(single(of(min(Expr::Column(column)))?, of(count(lit(1)))?)))
}

/// Whether a plan can be seen to have at most one row: an aggregate without groups, constants, LIMIT 1.
fn has_one_row(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Projection(node) => has_one_row(&node.input),
        LogicalPlan::SubqueryAlias(node) => has_one_row(&node.input),
        LogicalPlan::Filter(node) => has_one_row(&node.input),
        LogicalPlan::Sort(node) => has_one_row(&node.input),
        LogicalPlan::Aggregate(node) => node.group_expr.is_empty(),
        LogicalPlan::EmptyRelation(_) => true,
        LogicalPlan::Values(node) => node.values.len() <= 1,
        LogicalPlan::Limit(node) => matches!(node.get_fetch_type(), Ok(FetchType::Literal(Some(0 | 1)))),
        _ => false,
    }
}
