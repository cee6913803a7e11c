//! The optimizer's rules for reads: DataFusion's, without those that answer otherwise under our types, and with what its
//! operators need to answer as views do.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::Column;
use datafusion::common::DFSchema;
use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::Transformed;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::functions_window::expr_fn::row_number;
use datafusion::logical_expr::Distinct;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::ExprFunctionExt;
use datafusion::logical_expr::ExprSchemable;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::lit;
use datafusion::optimizer::ApplyOrder;
use datafusion::optimizer::Optimizer;
use datafusion::optimizer::OptimizerConfig;
use datafusion::optimizer::OptimizerRule;

use crate::functions::math::without_negative_zero;
use crate::sql::semantics::resolve::input_schema;
use crate::sql::semantics::simplify::Simplify;
use crate::types::SqlType;

/// Rules of DataFusion's that are left out. This one splits a sum beside a DISTINCT into a sum of sums, and with us a sum of
/// bigints is numeric.
const WRONG: [&str; 1] = ["single_distinct_aggregation_to_group_by"];

/// The rules, in order.
pub fn optimizer_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let ours: [Arc<dyn OptimizerRule + Send + Sync>; 2] = [Arc::new(FirstRows), Arc::new(DistinctFloats)];
    let theirs = Optimizer::new().rules.into_iter().filter(|rule| !WRONG.contains(&rule.name()));
    let simplify = Arc::new(Simplify::default());
    let mended = theirs.map(|rule| if rule.name() == simplify.name() { simplify.clone() } else { rule });
    ours.into_iter().chain(mended).collect()
}

/// DISTINCT ON: of each group the whole row that comes first, by ORDER BY and then by all columns, where DataFusion takes the first value
/// of each column.
#[derive(Debug)]
struct FirstRows;

impl OptimizerRule for FirstRows {
    fn name(&self) -> &str {
        "first_rows"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, _config: &dyn OptimizerConfig) -> DfResult<Transformed<LogicalPlan>> {
        let LogicalPlan::Distinct(Distinct::On(distinct)) = plan else { return Ok(Transformed::no(plan)) };
        let asked = distinct.sort_expr.unwrap_or_default();
        let rest = distinct.select_expr.iter().map(|expr| expr.clone().unalias().sort(true, false));
        let order = asked.iter().cloned().chain(rest).collect::<Vec<_>>();
        let number = row_number().partition_by(distinct.on_expr).order_by(order).build()?;
        let name = number.schema_name().to_string();
        let mut rows = LogicalPlanBuilder::from(distinct.input.as_ref().clone()).window(vec![number])?;
        rows = rows.filter(Expr::Column(Column::from_name(name)).eq(lit(1u64)))?;
        if !asked.is_empty() {
            rows = rows.sort(asked)?;
        }
        Ok(Transformed::yes(rows.project(distinct.select_expr)?.build()?))
    }
}

/// `count(DISTINCT float)` over values in which the two zeros are one: DataFusion tells floats apart by their bits.
#[derive(Debug)]
struct DistinctFloats;

impl OptimizerRule for DistinctFloats {
    fn name(&self) -> &str {
        "distinct_floats"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn rewrite(&self, plan: LogicalPlan, _config: &dyn OptimizerConfig) -> DfResult<Transformed<LogicalPlan>> {
        if !matches!(plan, LogicalPlan::Aggregate(_) | LogicalPlan::Window(_)) {
            return Ok(Transformed::no(plan));
        }
        let schema = input_schema(&plan)?;
        let names = NamePreserver::new(&plan);
        plan.map_expressions(|expr| {
            let name = names.save(&expr);
            let counted = expr.transform_down(|expr| count(expr, &schema))?;
            Ok(counted.update_data(|expr| name.restore(expr)))
        })
    }
}

fn count(mut expr: Expr, schema: &DFSchema) -> DfResult<Transformed<Expr>> {
    let Expr::AggregateFunction(call) = &mut expr else { return Ok(Transformed::no(expr)) };
    if !call.params.distinct || call.func.name() != "count" {
        return Ok(Transformed::no(expr));
    }
    let mut changed = false;
    for arg in &mut call.params.args {
        let ty = match arg.get_type(schema)? {
            DataType::Float32 => SqlType::Real,
            DataType::Float64 => SqlType::Double,
            _ => continue,
        };
        let canonical = without_negative_zero(arg.clone(), &ty);
        // The optimizer comes by more than once.
        if !adds_alike(arg, &canonical) {
            *arg = canonical;
            changed = true;
        }
    }
    let next = if changed { TreeNodeRecursion::Jump } else { TreeNodeRecursion::Continue };
    Ok(Transformed::new(expr, changed, next))
}

/// Whether both are sums with the same second operand.
fn adds_alike(arg: &Expr, canonical: &Expr) -> bool {
    match (arg, canonical) {
        (Expr::ScalarFunction(a), Expr::ScalarFunction(b)) => a.func == b.func && a.args.last() == b.args.last(),
        _ => false,
    }
}
