//! WITH RECURSIVE: types are resolved from the leaves up, but the term that refers to itself sees at its leaves what the other
//! term comes to. So that one is resolved first, and its types are those of the query, as in Postgres.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::catalog::cte_worktable::CteWorkTable;
use datafusion::common::Result as DfResult;
use datafusion::common::metadata::FieldMetadata;
use datafusion::common::tree_node::Transformed;
use datafusion::common::tree_node::TransformedResult;
use datafusion::datasource::provider_as_source;
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::Projection;
use datafusion::logical_expr::RecursiveQuery;
use datafusion::logical_expr::TableSource;
use datafusion::logical_expr::logical_plan::TableScan;
use datafusion::logical_expr::logical_plan::TableScanBuilder;

use crate::error::Error;
use crate::error::Result;
use crate::functions::cast::cast_expr;
use crate::functions::raise::raise;
use crate::types::SqlType;
use crate::types::TYPE_KEY;
use crate::types::cast::Mode;
use crate::types::zone::Zone;

/// The query with both terms resolved by `resolve`.
pub fn resolved(
    query: RecursiveQuery,
    zone: Zone,
    resolve: impl Fn(LogicalPlan) -> DfResult<LogicalPlan>,
) -> DfResult<LogicalPlan> {
    let first = marked(resolve(Arc::unwrap_or_clone(query.static_term))?)?;
    // The other term may bring NULLs in.
    let fields = first.schema().fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let source = provider_as_source(Arc::new(CteWorkTable::new(&query.name, schema)));
    let typed = Arc::unwrap_or_clone(query.recursive_term).transform_up_with_subqueries(|node| match node {
        LogicalPlan::TableScan(scan) if is_work_table(&scan.source, &query.name) => {
            let TableScan { table_name, projection, filters, fetch, .. } = scan;
            let scan = TableScanBuilder::new(table_name, source.clone()).with_projection(projection);
            let scan = scan.with_filters(filters).with_fetch(fetch).build()?;
            Ok(Transformed::yes(LogicalPlan::TableScan(scan)))
        }
        other => Ok(Transformed::no(other)),
    });
    let next = resolve(typed.data()?)?;
    let next = with_types_of(next, &first, &query.name, zone).map_err(raise)?;
    let query = RecursiveQuery::try_new(query.name, Arc::new(first), Arc::new(next), query.is_distinct)?;
    Ok(LogicalPlan::RecursiveQuery(query))
}

/// Whether this is what the query of this name has come to so far.
fn is_work_table(source: &Arc<dyn TableSource>, name: &str) -> bool {
    let provider = source_as_provider(source).ok();
    let table = provider.as_ref().and_then(|provider| provider.downcast_ref::<CteWorkTable>());
    table.is_some_and(|table| table.name() == name)
}

/// The plan with the type of each column written down: whether it would be otherwise depends on how the column was computed,
/// and the fields of both terms must be equal.
fn marked(plan: LogicalPlan) -> DfResult<LogicalPlan> {
    let columns = plan.schema().columns().into_iter().zip(plan.schema().fields().iter());
    let columns = columns.map(|(column, field)| {
        let (relation, name) = (column.relation.clone(), column.name.clone());
        let mark = SqlType::of_field(field).as_ref().map(type_mark);
        Expr::Column(column).alias_qualified_with_metadata(relation, name, mark)
    });
    let columns = columns.collect::<Vec<_>>();
    Ok(LogicalPlan::Projection(Projection::try_new(columns, Arc::new(plan))?))
}

/// The recursive term with the types of the other: digits and lengths may differ, types not.
fn with_types_of(next: LogicalPlan, first: &LogicalPlan, name: &str, zone: Zone) -> Result<LogicalPlan> {
    let of = |plan: &LogicalPlan, at: usize| SqlType::of_field(plan.schema().field(at));
    let width = first.schema().fields().len();
    if width != next.schema().fields().len() {
        return Ok(next);
    }
    let mut casts = Vec::with_capacity(width);
    for (at, column) in next.schema().columns().into_iter().enumerate() {
        let (from, to) = (of(&next, at), of(first, at));
        let (Some(to), true) = (to.as_ref(), alike(from.as_ref(), to.as_ref())) else {
            let called = |ty: Option<SqlType>| ty.map_or("unknown".to_string(), |ty| ty.to_string());
            let message = format!(
                "recursive query \"{name}\" column {} has type {} in non-recursive term but type {} overall",
                at + 1,
                called(to),
                called(from)
            );
            return Err(
                Error::type_mismatch(message).hint("Cast the output of the non-recursive term to the correct type.")
            );
        };
        let (relation, name) = (column.relation.clone(), column.name.clone());
        let cast = cast_expr(Expr::Column(column), from.as_ref(), to, zone, Mode::Explicit)?;
        casts.push(cast.alias_qualified_with_metadata(relation, name, Some(type_mark(to))));
    }
    let projection = Projection::try_new(casts, Arc::new(next)).map_err(crate::functions::from_datafusion)?;
    Ok(LogicalPlan::Projection(projection))
}

/// What tells the type of a field.
fn type_mark(ty: &SqlType) -> FieldMetadata {
    let json = serde_json::to_string(ty).expect("a type is plain data");
    FieldMetadata::from(BTreeMap::from([(TYPE_KEY.to_string(), json)]))
}

/// Whether two types are the same but for their digits or length.
fn alike(from: Option<&SqlType>, to: Option<&SqlType>) -> bool {
    let is_text = |ty: &SqlType| matches!(ty, SqlType::Text | SqlType::Varchar(_));
    match (from, to) {
        (Some(SqlType::Numeric { .. }), Some(SqlType::Numeric { .. })) => true,
        (Some(from), Some(to)) => from == to || (is_text(from) && is_text(to)),
        (None, _) | (_, None) => false,
    }
}
