//! Tells DataFusion which columns of our relations are never NULL.
//!
//! The schema of a bound query's scans leaves that open, since nullability is ours; told here, `x IS NOT NULL` of a key folds
//! away and `NOT IN` over such columns is a plain anti join.

use std::sync::Arc;

use arrow::datatypes::Field;
use arrow::datatypes::Schema;
use datafusion::common::tree_node::Transformed;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::TableScan;
use datafusion::logical_expr::logical_plan::TableScanBuilder;

use crate::catalog::Catalog;
use crate::error::Result;
use crate::plan::expr::planning;
use crate::plan::objects::object_properties;
use crate::sql::bound::RelationRef;
use crate::sql::bound::RelationSource;
use crate::types::Column;

/// The plan with the nullability of every scan's columns.
pub fn tell(plan: LogicalPlan, catalog: &Catalog) -> Result<LogicalPlan> {
    let told = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::TableScan(scan) => match source(&scan, catalog) {
            None => Ok(Transformed::no(LogicalPlan::TableScan(scan))),
            Some(source) => {
                let TableScan { table_name, projection, filters, fetch, .. } = scan;
                let told = TableScanBuilder::new(table_name, Arc::new(source));
                let told = told.with_projection(projection).with_filters(filters).with_fetch(fetch);
                Ok(Transformed::yes(LogicalPlan::TableScan(told.build()?)))
            }
        },
        other => Ok(Transformed::yes(other.recompute_schema()?)),
    });
    Ok(told.map_err(planning)?.data)
}

/// The same source with what the catalog knows; `None` where it knows nothing, which is told when the scan is lowered.
fn source(scan: &TableScan, catalog: &Catalog) -> Option<RelationSource> {
    let source = RelationSource::of(&scan.source)?;
    let RelationRef::Object(id) = &source.relation else { return None };
    let (columns, _) = object_properties(catalog.get(*id)?).ok()?;
    let told = |(field, column): (&Arc<Field>, &Column)| field.as_ref().clone().with_nullable(column.nullable);
    let fields = source.schema.fields().iter().zip(&columns).map(told).collect::<Vec<_>>();
    let schema = Arc::new(Schema::new_with_metadata(fields, source.schema.metadata().clone()));
    Some(RelationSource { schema, ..source.clone() })
}
