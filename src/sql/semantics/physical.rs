//! The rules for a read's physical plan: DataFusion's, but for those that tell columns by name. Two columns of a join may have one name,
//! and a filter of one of them must not choose rows by the other.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::common::Result as DfResult;
use datafusion::common::tree_node::Transformed;
use datafusion::common::tree_node::TreeNode;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::config::ConfigOptions;
use datafusion::physical_expr::split_conjunction;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::filter_pushdown::FilterPushdown;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::execution_plan::replace_children_if_necessary;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::filter_pushdown::ChildFilterPushdownResult;
use datafusion::physical_plan::filter_pushdown::ChildPushdownResult;
use datafusion::physical_plan::filter_pushdown::FilterPushdownPhase;
use datafusion::physical_plan::repartition::RepartitionExec;

/// The rules, in order.
pub fn rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut projections = 0;
    let theirs = PhysicalOptimizer::new().rules.into_iter().filter_map(|rule| match rule.name() {
        // A second round would exchange a projection with a filter that has one itself, and mix up their columns.
        "ProjectionPushdown" => {
            projections += 1;
            (projections == 1).then_some(rule)
        }
        "FilterPushdown" => Some(Arc::new(OwnFilters) as _),
        "FilterPushdown(Post)" => Some(Arc::new(JoinFilters) as _),
        _ => Some(rule),
    });
    theirs.collect()
}

/// Tells leaves of the filter right above them.
#[derive(Debug)]
struct OwnFilters;

impl PhysicalOptimizerRule for OwnFilters {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> DfResult<Arc<dyn ExecutionPlan>> {
        let told = plan.transform_up(|node| {
            let Some(filter) = node.downcast_ref::<FilterExec>() else { return Ok(Transformed::no(node)) };
            match told(filter.input(), filter, config)? {
                Some(input) => replace_children_if_necessary(node, vec![input]).map(Transformed::yes),
                None => Ok(Transformed::no(node)),
            }
        });
        Ok(told?.data)
    }

    fn name(&self) -> &str {
        "OwnFilters"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The input of a filter with a leaf that knows of it; `None` if there is no such leaf.
fn told(
    input: &Arc<dyn ExecutionPlan>,
    filter: &FilterExec,
    config: &ConfigOptions,
) -> DfResult<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(repartition) = input.downcast_ref::<RepartitionExec>() {
        return match told(repartition.input(), filter, config)? {
            Some(below) => replace_children_if_necessary(input.clone(), vec![below]).map(Some),
            None => Ok(None),
        };
    }
    if !input.children().is_empty() {
        return Ok(None);
    }
    let conditions = split_conjunction(filter.predicate()).into_iter().cloned();
    let parent_filters = conditions.map(|filter| ChildFilterPushdownResult { filter, child_results: Vec::new() });
    let pushed = ChildPushdownResult { parent_filters: parent_filters.collect(), self_filters: Vec::new() };
    Ok(input.handle_child_pushdown_result(FilterPushdownPhase::Pre, pushed, config)?.updated_node)
}

/// Tells leaves what a join above them will know of its keys, or a LIMIT of its order, once it runs.
#[derive(Debug)]
struct JoinFilters;

impl PhysicalOptimizerRule for JoinFilters {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> DfResult<Arc<dyn ExecutionPlan>> {
        let pushed = plan.transform_down(|node| {
            let unambiguous = node.children().into_iter().try_fold(true, |so_far, child| {
                Ok::<_, datafusion::error::DataFusionError>(so_far && names_are_unique(child)?)
            });
            match unambiguous? {
                true => {
                    let pushed = FilterPushdown::new_post_optimization().optimize(node, config)?;
                    Ok(Transformed::new(pushed, true, TreeNodeRecursion::Jump))
                }
                false => Ok(Transformed::no(node)),
            }
        });
        Ok(pushed?.data)
    }

    fn name(&self) -> &str {
        "JoinFilters"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Whether no operator of a plan has two columns of one name.
fn names_are_unique(plan: &Arc<dyn ExecutionPlan>) -> DfResult<bool> {
    let mut unique = true;
    plan.apply(|node| {
        let mut names = HashSet::new();
        unique = node.schema().fields().iter().all(|field| names.insert(field.name().clone()));
        Ok(if unique { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    })?;
    Ok(unique)
}
