//! Postgres' answers out of DataFusion: the settings, planners, rules and functions that views and reads are planned with alike.
//!
//! What DataFusion would read wrongly is changed in the syntax tree first ([`prepare`]). SQL then becomes a logical plan with operators of ours ([`planner`]) and types of ours ([`names`]). The analyzer then resolves types
//! from the leaves up ([`resolve`]), DataFusion's own coercion finds the little that is left, its casts are replaced where
//! they would answer otherwise ([`casts`]), and what can fail is guarded, so that a row's outcome is its own ([`guard`]). Reads
//! then go through DataFusion's optimizer with a few rules changed ([`reads`]).

use std::sync::Arc;

use datafusion::config::Dialect;
use datafusion::execution::SessionStateBuilder;
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::optimizer::AnalyzerRule;
use datafusion::optimizer::analyzer::resolve_grouping_function::ResolveGroupingFunction;
use datafusion::optimizer::analyzer::type_coercion::TypeCoercion;
use datafusion::prelude::SessionConfig;

use crate::functions;

pub mod casts;
pub mod existence;
pub mod guard;
pub mod intervals;
pub mod names;
mod physical;
pub mod planner;
pub mod prepare;
pub mod reads;
pub mod recursion;
pub mod unknowns;
pub mod resolve;
pub mod scalar_subqueries;
pub mod set_operations;
pub mod simplify;

#[cfg(test)]
mod tests;

/// A session's way to plan: its time zone, our settings, planners, rules and functions over DataFusion's. Who runs a read sets its time
/// ([`functions::now::set_now`]); while there is none, `now()` fails and so does not fold into a view's plan.
pub fn session_state(time_zone: &str) -> SessionStateBuilder {
    let mut state = SessionStateBuilder::new().with_config(config(time_zone)).with_default_features();
    let planners: Vec<Arc<dyn ExprPlanner>> = vec![Arc::new(planner::Operators)];
    let theirs = state.expr_planners().take().unwrap_or_default();
    let mut scalars = state.scalar_functions().take().unwrap_or_default();
    let mut aggregates = state.aggregate_functions().take().unwrap_or_default();
    scalars.extend(functions::scalars());
    aggregates.extend(functions::aggregates());
    state
        .with_expr_planners(planners.into_iter().chain(theirs).collect())
        .with_scalar_functions(scalars)
        .with_aggregate_functions(aggregates)
        .with_type_planner(Arc::new(names::Types))
        .with_analyzer_rules(analyzer_rules())
        .with_optimizer_rules(reads::optimizer_rules())
        .with_physical_optimizer_rules(physical::rules())
}

/// A join of no more distinct values looks them up in a relation that has them as keys.
const LOOKED_UP_MAX: usize = 10_000;
/// They may take so much memory.
const LOOKED_UP_BYTES_MAX: usize = 4 << 20;

/// The settings without which DataFusion answers otherwise, or reads more.
fn config(time_zone: &str) -> SessionConfig {
    let mut config = SessionConfig::new();
    let options = config.options_mut();
    options.execution.time_zone = Some(time_zone.to_string());
    options.sql_parser.dialect = Dialect::PostgreSQL;
    options.sql_parser.parse_float_as_decimal = true;
    options.sql_parser.map_string_types_to_utf8view = false;
    options.sql_parser.default_null_ordering = "nulls_max".to_string();
    options.optimizer.expand_views_at_output = true;
    options.optimizer.hash_join_inlist_pushdown_max_distinct_values = LOOKED_UP_MAX;
    options.optimizer.hash_join_inlist_pushdown_max_size = LOOKED_UP_BYTES_MAX;
    config
}

/// The analyzer's rules, in order.
pub fn analyzer_rules() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    vec![
        Arc::new(ResolveGroupingFunction::new()),
        Arc::new(set_operations::SetOperations),
        Arc::new(existence::Existence),
        Arc::new(resolve::Resolve),
        Arc::new(intervals::IntervalGroups),
        Arc::new(scalar_subqueries::ScalarSubqueries),
        Arc::new(TypeCoercion::new()),
        Arc::new(casts::Casts),
        Arc::new(guard::Guard),
    ]
}
