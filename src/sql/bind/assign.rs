//! Values on their way into a column: assignment casts, and literals that take the column's type.

use datafusion::logical_expr::Expr;
use sqlparser::ast;
use sqlparser::ast::{DataType, ExactNumberInfo, Ident, ObjectName, Value};

use crate::error::{Error, Result};
use crate::functions::cast::{ASSIGN, cast_expr};
use crate::sql::bind::catalog_queries::call;
use crate::sql::bind::provider::Provider;
use crate::sql::bind::rewrite::{is_placeholder, wrap_cast};
use crate::sql::semantics::resolve::zone_of;
use crate::types::cast::{Mode, is_number, is_text};
use crate::types::{Column, SqlType};

/// Casts a value to the type of the column it goes into, or refuses as Postgres does. Text that is too long is an error here,
/// where a cast would cut it.
pub fn assign(provider: &Provider, expr: Expr, from: &SqlType, column: &Column) -> Result<Expr> {
    let to = &column.ty;
    if !is_assignable(from, to) {
        let message = format!("column \"{}\" is of type {to} but expression is of type {from}", column.name);
        return Err(Error::type_mismatch(message).hint("You will need to rewrite or cast the expression."));
    }
    let zone = zone_of(provider.state.config_options())?;
    cast_expr(expr, Some(from), to, zone, Mode::Assignment)
}

/// Whether Postgres casts from one type to the other when a value is assigned.
fn is_assignable(from: &SqlType, to: &SqlType) -> bool {
    use SqlType::{Date, Interval, Oid, Time, Timestamp, Timestamptz};
    if from == to || is_text(to) || is_number(from) && is_number(to) {
        return true;
    }
    match (from, to) {
        (Date | Timestamp | Timestamptz, Date | Timestamp | Timestamptz) => true,
        (Timestamp | Timestamptz | Interval, Time) => true,
        (Time, Interval) => true,
        (Oid, to) => is_number(to),
        (from, Oid) => matches!(from, SqlType::SmallInt | SqlType::Integer | SqlType::BigInt),
        (SqlType::Array(from), SqlType::Array(to)) => is_assignable(from, to),
        _ => false,
    }
}

/// A text literal, a parameter or a NULL by itself takes the type of the column it goes into.
pub fn adopt(tree: &mut ast::Expr, ty: &SqlType) {
    let unknown = match tree {
        ast::Expr::Value(value) => match value.value {
            Value::Null => true,
            Value::SingleQuotedString(_) | Value::EscapedStringLiteral(_) | Value::DollarQuotedString(_) => {
                !is_text(ty)
            }
            _ => is_placeholder(tree),
        },
        ast::Expr::Nested(inner) => return adopt(inner, ty),
        _ => false,
    };
    if unknown {
        wrap_cast(tree, syntax(ty));
    }
}

/// Puts the function around a value that brings it to the type of the column it goes into, by itself and not by what the
/// other rows have there.
pub fn wrap_assign(value: &mut ast::Expr, ty: &SqlType) {
    let mut target = ast::Expr::value(Value::Null);
    wrap_cast(&mut target, syntax(ty));
    let value_itself = std::mem::replace(value, ast::Expr::value(Value::Null));
    *value = call(Ident::new(ASSIGN), vec![value_itself, target]);
}

/// How a type is written.
pub fn syntax(ty: &SqlType) -> DataType {
    let named = |name: &str| DataType::Custom(ObjectName::from(vec![Ident::new(name)]), Vec::new());
    match ty {
        SqlType::Numeric { precision, scale } => {
            DataType::Numeric(ExactNumberInfo::PrecisionAndScale(u64::from(*precision), i64::from(*scale)))
        }
        SqlType::Array(item) => DataType::Array(ast::ArrayElemTypeDef::SquareBracket(Box::new(syntax(item)), None)),
        SqlType::Boolean => named("bool"),
        SqlType::SmallInt => named("int2"),
        SqlType::Integer => named("int4"),
        SqlType::BigInt => named("int8"),
        SqlType::Real => named("float4"),
        SqlType::Double => named("float8"),
        SqlType::Text | SqlType::Varchar(_) => named("text"),
        SqlType::Bytea => named("bytea"),
        SqlType::Date => named("date"),
        SqlType::Time => named("time"),
        SqlType::Timestamp => named("timestamp"),
        SqlType::Timestamptz => named("timestamptz"),
        SqlType::Interval => named("interval"),
        SqlType::Oid => named("oid"),
        SqlType::Name => named("name"),
        SqlType::Char => named("char"),
    }
}
