//! Which side of `WHERE id IN (SELECT ...)` is held in memory: the one that seems smaller. DataFusion builds its hash table of the left
//! side, whatever that is, and of a query's relations it knows no sizes: all of a large table would have to be in memory for a few
//! rows of it.

use std::any::Any;

use datafusion::common::DataFusionError;
use datafusion::common::JoinType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::tree_node::TreeNode;
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::Join;
use datafusion::logical_expr::LogicalPlan;

use crate::engine::query::Relation;
use crate::error::Result;
use crate::functions::from_datafusion;

/// About what something takes of which nothing is known: values, or what a function makes.
const UNKNOWN_BYTES: u64 = 4096;

/// The least that a table or view is thought to take: what is only in memtables is not counted.
const RELATION_BYTES_MIN: u64 = 8192;

/// A filter is thought to leave this part of its rows.
const FILTERED_PART: u64 = 4;

/// The optimized plan, with the smaller side of each semi and anti join on its left: of the subquery of IN or EXISTS and the rows that
/// it chooses; if neither is, the subquery, so that those rows may be looked up. Other joins stay as they are written: what exchanges
/// their sides has to put the columns in order again, and DataFusion, which tells columns by name there, then takes a filter of one
/// side's column for one of the other's.
pub fn smaller_left(plan: LogicalPlan) -> Result<LogicalPlan> {
    let swapped = plan.transform_up(|node| match node {
        LogicalPlan::Join(join) if chooses(&join) && bytes(&join.left) >= bytes(&join.right) => {
            Ok(Transformed::yes(LogicalPlan::Join(swap(join)?)))
        }
        other => Ok(Transformed::no(other)),
    });
    Ok(swapped.map_err(from_datafusion)?.data)
}

/// Whether a join only chooses rows of its left side.
fn chooses(join: &Join) -> bool {
    !join.on.is_empty() && matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti)
}

/// The same join with its sides exchanged.
fn swap(join: Join) -> Result<Join, DataFusionError> {
    let on = join.on.into_iter().map(|(left, right)| (right, left)).collect();
    Join::try_new(
        join.right,
        join.left,
        on,
        join.filter,
        join.join_type.swap(),
        join.join_constraint,
        join.null_equality,
        join.null_aware,
    )
}

/// About how many bytes the rows of a relation take for which these filters hold.
fn relation_bytes(relation: &Relation, filters: &[Expr]) -> u64 {
    match relation.looks_up(filters) {
        true => 0,
        false => relation.stored_bytes().max(RELATION_BYTES_MIN),
    }
}

/// About how many bytes a plan's rows take.
fn bytes(plan: &LogicalPlan) -> u64 {
    match plan {
        LogicalPlan::TableScan(scan) => match source_as_provider(&scan.source) {
            Ok(provider) => {
                let relation = (provider.as_ref() as &dyn Any).downcast_ref::<Relation>();
                relation.map_or(UNKNOWN_BYTES, |relation| relation_bytes(relation, &scan.filters))
            }
            Err(_) => UNKNOWN_BYTES,
        },
        LogicalPlan::Filter(filter) => bytes(&filter.input) / FILTERED_PART,
        other => match other.inputs().as_slice() {
            [] => UNKNOWN_BYTES,
            inputs => inputs.iter().map(|input| bytes(input)).sum(),
        },
    }
}
