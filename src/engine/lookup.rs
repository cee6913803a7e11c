//! Reads by key that need no planning: `SELECT columns FROM relation WHERE key = value [AND ...]`, as a driver sends them
//! thousands of times a second. What a query of any other form asks, DataFusion plans.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::Operator;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;

use crate::engine::Rows;
use crate::engine::query::Relation;
use crate::engine::query::View;
use crate::error::Result;
use crate::functions::from_datafusion;
use crate::sql::bound::Query;
use crate::sql::bound::RelationRef;
use crate::sql::bound::RelationSource;

/// A query of that form.
struct Lookup<'a> {
    source: &'a RelationSource,
    /// Which columns of the relation are asked for.
    columns: Vec<usize>,
    /// Columns of the relation and what each of them must be.
    conditions: Vec<(usize, ScalarValue)>,
    /// The answer's.
    schema: SchemaRef,
}

/// The answer, if the query is of that form and its conditions are those of one key.
pub fn read(view: &View, query: &Query, parameters: &[ScalarValue]) -> Result<Option<Rows>> {
    let Some(lookup) = Lookup::of(&query.plan, parameters) else { return Ok(None) };
    let Some(relation) = lookup.relation(view)? else { return Ok(None) };
    let Some(key) = lookup.key(&relation)? else { return Ok(None) };
    let row = match key.iter().any(|value| value.is_null()) {
        true => None,
        false => {
            let values =
                key.iter().map(|value| value.to_array()).collect::<datafusion::common::Result<Vec<ArrayRef>>>();
            relation.row(&values.map_err(from_datafusion)?)?
        }
    };
    let schema = lookup.schema.clone();
    let answer = row.map(|row| {
        let columns = lookup.columns.iter().map(|&column| row.column(column).clone()).collect();
        Ok(RecordBatch::try_new(schema, columns)?)
    });
    let stream = futures::stream::iter(answer);
    let stream = Box::pin(RecordBatchStreamAdapter::new(lookup.schema.clone(), stream));
    let lacking = view.published.lacking(&query.reads)?;
    Ok(Some(Rows { schema: lookup.schema, stream, ready: true, lacking }))
}

/// How such a read is shown, if the query is one.
pub fn explain(view: &View, query: &Query, parameters: &[ScalarValue]) -> Result<Option<Vec<String>>> {
    let Some(lookup) = Lookup::of(&query.plan, parameters) else { return Ok(None) };
    let Some(relation) = lookup.relation(view)? else { return Ok(None) };
    let Some(key) = lookup.key(&relation)? else { return Ok(None) };
    Ok(Some(vec![relation.lookup_shown(&key)]))
}

impl<'a> Lookup<'a> {
    /// What is read; `None`: no stored relation.
    fn relation(&self, view: &View) -> Result<Option<Relation>> {
        let RelationRef::Object(id) = self.source.relation else { return Ok(None) };
        let Some(object) = view.published.catalog.get(id) else { return Ok(None) };
        Relation::new(object, self.source.schema.clone(), view.clone()).map(Some)
    }

    fn of(plan: &'a LogicalPlan, parameters: &[ScalarValue]) -> Option<Lookup<'a>> {
        let LogicalPlan::Projection(projection) = plan else { return None };
        let LogicalPlan::Filter(filter) = projection.input.as_ref() else { return None };
        let mut input = filter.input.as_ref();
        while let LogicalPlan::SubqueryAlias(alias) = input {
            input = alias.input.as_ref();
        }
        let LogicalPlan::TableScan(scan) = input else { return None };
        if scan.projection.is_some() || !scan.filters.is_empty() || scan.fetch.is_some() {
            return None;
        }
        let source = RelationSource::of(&scan.source)?;
        let columns = projection.expr.iter().map(|expr| column_of(expr, source)).collect::<Option<_>>()?;
        let conditions = split_conjunction(&filter.predicate).into_iter();
        let conditions = conditions.map(|expr| condition_of(expr, source, parameters)).collect::<Option<_>>()?;
        Some(Lookup { source, columns, conditions, schema: Arc::clone(projection.schema.inner()) })
    }

    /// The values of the relation's key, if the conditions are about its columns and no others.
    fn key(&self, relation: &Relation) -> Result<Option<Vec<&ScalarValue>>> {
        let columns = relation.key_columns();
        if columns.is_empty() || columns.len() != self.conditions.len() {
            return Ok(None);
        }
        let value = |column: &usize| self.conditions.iter().find(|(of, _)| of == column).map(|(_, value)| value);
        Ok(columns.iter().map(value).collect())
    }
}

/// The column of the relation that an expression is.
fn column_of(expr: &Expr, source: &RelationSource) -> Option<usize> {
    match expr {
        Expr::Column(column) => source.schema.index_of(&column.name).ok(),
        Expr::Alias(alias) => column_of(&alias.expr, source),
        _ => None,
    }
}

/// The column and its value, of `column = value`. Of floats several values may be equal.
fn condition_of(expr: &Expr, source: &RelationSource, parameters: &[ScalarValue]) -> Option<(usize, ScalarValue)> {
    let Expr::BinaryExpr(binary) = expr else { return None };
    if binary.op != Operator::Eq {
        return None;
    }
    let (column, value) = match (binary.left.as_ref(), binary.right.as_ref()) {
        (column @ Expr::Column(_), value) | (value, column @ Expr::Column(_)) => (column, value),
        _ => return None,
    };
    let column = column_of(column, source)?;
    let value = value_of(value, parameters)?;
    let ty = source.schema.field(column).data_type();
    (value.data_type() == *ty && !ty.is_floating()).then_some((column, value))
}

/// A constant or parameter, also where an integer is converted to another type of integer.
fn value_of(expr: &Expr, parameters: &[ScalarValue]) -> Option<ScalarValue> {
    match expr {
        Expr::Literal(value, _) => Some(value.clone()),
        Expr::Placeholder(placeholder) => {
            let number = placeholder.id.strip_prefix('$')?.parse::<usize>().ok()?;
            parameters.get(number.checked_sub(1)?).cloned()
        }
        Expr::Cast(cast) => {
            let (value, ty): (ScalarValue, &DataType) = (value_of(&cast.expr, parameters)?, cast.field.data_type());
            if !(value.data_type().is_integer() && ty.is_integer()) {
                return None;
            }
            value.cast_to(ty).ok().filter(|cast| cast.is_null() == value.is_null())
        }
        _ => None,
    }
}
