//! Intervals that are equal though they are written differently, such as `1 month` and `30 days`, as one group.
//!
//! They are grouped by their length. The group shows the least of its forms, so that no answer depends on the order of arrival.

use std::sync::Arc;

use datafusion::common::Column;
use datafusion::common::Result as DfResult;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::tree_node::TransformedResult;
use datafusion::functions_aggregate::expr_fn::min;
use datafusion::logical_expr::Aggregate;
use datafusion::logical_expr::Distinct;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::ExprSchemable;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::LogicalPlanBuilder;
use datafusion::optimizer::AnalyzerRule;

use crate::functions::moments::span;
use crate::types::SqlType;

/// The rule that runs when types are resolved.
#[derive(Debug)]
pub struct IntervalGroups;

impl AnalyzerRule for IntervalGroups {
    fn name(&self) -> &str {
        "interval_groups"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> DfResult<LogicalPlan> {
        let in_node = |node: LogicalPlan| match node {
            LogicalPlan::Aggregate(aggregate) if groups_by_interval(&aggregate)? => by_length(&aggregate),
            LogicalPlan::Distinct(Distinct::All(input)) if has_interval(&input) => {
                let columns = input.schema().columns().into_iter().map(Expr::Column).collect();
                by_length(&Aggregate::try_new(input, columns, Vec::new())?)
            }
            other => Ok(Transformed::no(other)),
        };
        plan.transform_up_with_subqueries(in_node).data()
    }
}

fn has_interval(plan: &LogicalPlan) -> bool {
    plan.schema().fields().iter().any(|field| SqlType::of_field(field) == Some(SqlType::Interval))
}

fn is_interval(expr: &Expr, aggregate: &Aggregate) -> DfResult<bool> {
    let (_, field) = expr.to_field(aggregate.input.schema())?;
    Ok(SqlType::of_field(&field) == Some(SqlType::Interval))
}

fn groups_by_interval(aggregate: &Aggregate) -> DfResult<bool> {
    for expr in &aggregate.group_expr {
        if !matches!(expr, Expr::GroupingSet(_)) && is_interval(expr, aggregate)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn by_length(aggregate: &Aggregate) -> DfResult<Transformed<LogicalPlan>> {
    let mut shown = aggregate.schema.columns().into_iter().map(Expr::Column).collect::<Vec<_>>();
    let mut group = Vec::new();
    let mut calls = aggregate.aggr_expr.clone();
    for (place, expr) in aggregate.group_expr.iter().enumerate() {
        if !is_interval(expr, aggregate)? {
            group.push(expr.clone());
            continue;
        }
        let (length, form) = (format!("#length{place}"), format!("#form{place}"));
        let bare = expr.clone().unalias();
        group.push(span(bare.clone()).alias(length));
        calls.push(min(bare).alias(&form));
        let (relation, field) = aggregate.schema.qualified_field(place);
        shown[place] = Expr::Column(Column::from_name(form)).alias_qualified(relation.cloned(), field.name());
    }
    let grouped = LogicalPlan::Aggregate(Aggregate::try_new(Arc::clone(&aggregate.input), group, calls)?);
    Ok(Transformed::yes(LogicalPlanBuilder::from(grouped).project(shown)?.build()?))
}
