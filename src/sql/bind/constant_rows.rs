//! `INSERT ... VALUES` of plain constants, as most clients write it: the rows are read here, as COPY reads its lines, and
//! nothing is planned for each of their values. Whatever else stands among the values, or is wrong with one of them, is left
//! to the planner, which knows where it stands.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::LogicalPlanBuilder;
use sqlparser::ast;
use sqlparser::ast::SetExpr;
use sqlparser::ast::UnaryOperator;
use sqlparser::ast::Value;

use crate::error::Result;
use crate::sql::bind::provider::Provider;
use crate::sql::bound::RelationRef;
use crate::sql::bound::RelationSource;
use crate::sql::semantics::resolve::zone_of;
use crate::types::Column;
use crate::types::SqlType;
use crate::types::parse::TextBuilder;
use crate::types::schema_of;

/// So many digits fit a bigint.
const DIGITS_MAX: usize = 18;

/// The rows as a plan, if all of them are constants that their columns take as they are.
pub fn plan(provider: &Provider, source: &ast::Query, columns: &[&Column]) -> Result<Option<LogicalPlan>> {
    let bare = source.with.is_none() && source.order_by.is_none() && source.limit_clause.is_none();
    let SetExpr::Values(values) = source.body.as_ref() else { return Ok(None) };
    let width = values.rows.first().map_or(0, |row| row.content.len());
    if !bare || source.fetch.is_some() || width == 0 || width != columns.len() {
        return Ok(None);
    }
    let zone = zone_of(provider.state.config_options())?;
    let columns = columns.iter().map(|column| Column { nullable: true, ..(*column).clone() });
    let columns = columns.collect::<Vec<_>>();
    let mut builders = columns.iter().map(|column| TextBuilder::new(&column.ty, zone)).collect::<Vec<_>>();
    for row in &values.rows {
        if row.content.len() != width {
            return Ok(None);
        }
        for ((cell, column), builder) in row.content.iter().zip(&columns).zip(&mut builders) {
            match constant(cell, &column.ty) {
                Some(Constant::Null) => builder.append_null(),
                Some(Constant::Text(text)) if builder.append(text).is_ok() => {}
                Some(Constant::Negative(digits)) if builder.append(&format!("-{digits}")).is_ok() => {}
                Some(Constant::Text(_) | Constant::Negative(_)) | None => return Ok(None),
            }
        }
    }
    let arrays = builders.iter_mut().map(TextBuilder::finish).collect();
    let Ok(rows) = RecordBatch::try_new(schema_of(&columns), arrays) else { return Ok(None) };
    let source = RelationSource { relation: RelationRef::Given, schema: rows.schema(), rows: Some(rows) };
    let plan = LogicalPlanBuilder::scan("values", Arc::new(source), None).and_then(LogicalPlanBuilder::build);
    plan.map(Some).map_err(|error| provider.fail(error))
}

/// A constant as the text that a type reads.
enum Constant<'a> {
    Null,
    Text(&'a str),
    Negative(&'a str),
}

/// A value that a column of this type takes as its text form.
fn constant<'a>(cell: &'a ast::Expr, ty: &SqlType) -> Option<Constant<'a>> {
    match cell {
        ast::Expr::Value(value) => match &value.value {
            Value::Null => Some(Constant::Null),
            Value::SingleQuotedString(text) => Some(Constant::Text(text)),
            Value::Number(..) => digits(cell, ty).map(Constant::Text),
            Value::Boolean(truth) if *ty == SqlType::Boolean => {
                Some(Constant::Text(if *truth { "true" } else { "false" }))
            }
            _ => None,
        },
        ast::Expr::UnaryOp { op: UnaryOperator::Minus, expr } => digits(expr, ty).map(Constant::Negative),
        _ => None,
    }
}

/// The digits of a whole number, for a column of numbers.
fn digits<'a>(cell: &'a ast::Expr, ty: &SqlType) -> Option<&'a str> {
    let ast::Expr::Value(value) = cell else { return None };
    let Value::Number(text, false) = &value.value else { return None };
    let number = match ty {
        SqlType::SmallInt | SqlType::Integer | SqlType::BigInt | SqlType::Numeric { .. } => true,
        SqlType::Boolean | SqlType::Real | SqlType::Double | SqlType::Text | SqlType::Varchar(_) => false,
        SqlType::Bytea | SqlType::Date | SqlType::Time | SqlType::Timestamp | SqlType::Timestamptz => false,
        SqlType::Interval | SqlType::Oid | SqlType::Name | SqlType::Char | SqlType::Array(_) => false,
    };
    (number && text.len() <= DIGITS_MAX && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}
