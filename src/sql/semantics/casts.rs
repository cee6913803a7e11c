//! The casts that DataFusion's type coercion puts in, as ours where they would answer otherwise.

use datafusion::common::Result as DfResult;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::tree_node::TransformedResult;
use datafusion::common::tree_node::TreeNode;
use datafusion::logical_expr::Cast;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::optimizer::AnalyzerRule;

use crate::functions::cast::cast_expr;
use crate::functions::cast::expr_type;
use crate::functions::raise::raise;
use crate::sql::semantics::resolve::input_schema;
use crate::sql::semantics::resolve::zone_of;
use crate::types::SqlType;
use crate::types::cast::Mode;
use crate::types::cast::can_cast;

/// The rule that runs after DataFusion's type coercion.
#[derive(Debug)]
pub struct Casts;

impl AnalyzerRule for Casts {
    fn name(&self) -> &str {
        "casts"
    }

    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> DfResult<LogicalPlan> {
        let zone = zone_of(config).map_err(raise)?;
        let replace_in_node = |plan: LogicalPlan| {
            if matches!(plan, LogicalPlan::Limit(_)) {
                return Ok(Transformed::no(plan));
            }
            let schema = input_schema(&plan)?;
            let names = NamePreserver::new(&plan);
            let replace = |expr: Expr| {
                let Expr::Cast(Cast { expr: operand, field }) = &expr else { return Ok(Transformed::no(expr)) };
                let from = expr_type(operand, &schema);
                let (Ok(from), Some(to)) = (from, SqlType::of_field(field)) else { return Ok(Transformed::no(expr)) };
                if !from.as_ref().is_none_or(|from| can_cast(from, &to)) || from.as_ref() == Some(&to) {
                    return Ok(Transformed::no(expr));
                }
                let ours = cast_expr(operand.as_ref().clone(), from.as_ref(), &to, zone, Mode::Explicit);
                ours.map(Transformed::yes).map_err(raise)
            };
            plan.map_expressions(|expr| {
                let name = names.save(&expr);
                let replaced = expr.transform_up(replace)?;
                Ok(replaced.update_data(|expr| name.restore(expr)))
            })
        };
        plan.transform_up_with_subqueries(replace_in_node).data()
    }
}
