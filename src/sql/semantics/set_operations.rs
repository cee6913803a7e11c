//! INTERSECT ALL and EXCEPT ALL, which DataFusion plans as joins that do not count.
//!
//! ```text
//! l EXCEPT ALL r     =  each row of l ∪ r, (times in l − times in r) times
//! l INTERSECT ALL r  =  each row of l ∪ r, min(times in l, times in r) times
//! ```
//!
//! That is a union in which each side marks its rows, an aggregate that counts the marks, and each group as often as that says.
//! Types are unified by the union, and NULLs are equal in the aggregate, as they are to be.

use std::sync::Arc;

use datafusion::common::Column;
use datafusion::common::JoinType;
use datafusion::common::NullEquality;
use datafusion::common::Result as DfResult;
use datafusion::common::ScalarValue;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::tree_node::TransformedResult;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::Distinct;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::logical_expr::expr_fn::col;
use datafusion::logical_expr::expr_fn::when;
use datafusion::logical_expr::lit;
use datafusion::logical_expr::logical_plan::Join;
use datafusion::optimizer::AnalyzerRule;

use crate::functions::subqueries::copies;

/// The marks, and their counts.
const MARKS: [&str; 2] = ["#left", "#right"];
/// How often a row is there.
const TIMES: &str = "#times";

/// The rule that runs before types are resolved.
#[derive(Debug)]
pub struct SetOperations;

impl AnalyzerRule for SetOperations {
    fn name(&self) -> &str {
        "set_operations"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> DfResult<LogicalPlan> {
        let replaced = plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::Join(join) if is_set_operation_all(&join) => counted(&join).map(Transformed::yes),
            other => Ok(Transformed::no(other)),
        });
        replaced.data()
    }
}

/// Only set operations are joins under which NULL equals NULL, before anything is optimized; without ALL the left side is distinct.
fn is_set_operation_all(join: &Join) -> bool {
    matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti)
        && join.null_equality == NullEquality::NullEqualsNull
        && !matches!(join.left.as_ref(), LogicalPlan::Distinct(Distinct::All(_)))
}

fn counted(join: &Join) -> DfResult<LogicalPlan> {
    let width = join.left.schema().fields().len();
    let names = (0..width).map(|place| format!("#{place}")).collect::<Vec<_>>();
    let union = LogicalPlanBuilder::from(marked(&join.left, &names, MARKS[0])?).union(marked(
        &join.right,
        &names,
        MARKS[1],
    )?)?;
    let counts = MARKS.map(|mark| count(col(Column::from_name(mark))).alias(mark));
    let counted = union.aggregate(names.iter().map(|name| col(Column::from_name(name))), counts)?;
    let [left, right] = MARKS.map(|mark| col(Column::from_name(mark)));
    let (times, condition) = match join.join_type {
        JoinType::LeftSemi => {
            let least = when(left.clone().lt(right.clone()), left.clone()).otherwise(right.clone())?;
            (least, left.gt(lit(0)).and(right.gt(lit(0))))
        }
        _ => (left.clone() - right.clone(), left.gt(right)),
    };
    let columns = names.iter().map(|name| col(Column::from_name(name)));
    let columns = columns.chain([copies(times).alias(TIMES)]).collect::<Vec<_>>();
    let repeated = counted.filter(condition)?.project(columns)?.unnest_column(TIMES)?;
    let shown = join.left.schema().columns().into_iter().zip(&names);
    let shown = shown.map(|(column, name)| col(Column::from_name(name)).alias_qualified(column.relation, column.name));
    repeated.project(shown.collect::<Vec<_>>())?.build()
}

/// One side under these names, with TRUE in its own mark and NULL in the other.
fn marked(side: &Arc<LogicalPlan>, names: &[String], mark: &str) -> DfResult<LogicalPlan> {
    let columns = side.schema().columns().into_iter().zip(names);
    let mut columns = columns.map(|(column, name)| Expr::Column(column).alias(name)).collect::<Vec<_>>();
    for name in MARKS {
        columns.push(lit(ScalarValue::Boolean((name == mark).then_some(true))).alias(name));
    }
    LogicalPlanBuilder::from(side.as_ref().clone()).project(columns)?.build()
}
