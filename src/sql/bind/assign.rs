//! Values on their way into a column: assignment casts, and literals that take the column's type.

use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::Cast;
use datafusion::prelude::lit;
use sqlparser::ast;
use sqlparser::ast::{DataType, ExactNumberInfo, Ident, ObjectName, Value};

use crate::error::{Error, Result};
use crate::functions::assign::varchar_assign;
use crate::sql::bind::query::field;
use crate::sql::bind::rewrite::{is_placeholder, wrap_cast};
use crate::types::{Column, SqlType};

/// Casts a value to the type of the column it goes into, or refuses as Postgres does.
pub fn assign(expr: Expr, from: &SqlType, column: &Column) -> Result<Expr> {
    let to = &column.ty;
    if !is_assignable(from, to) {
        let message = format!("column \"{}\" is of type {to} but expression is of type {from}", column.name);
        return Err(Error::type_mismatch(message).hint("You will need to rewrite or cast the expression."));
    }
    if from == to {
        return Ok(expr);
    }
    let plain = match to {
        SqlType::Varchar(_) => &SqlType::Text,
        other => other,
    };
    let cast = match from.arrow() == plain.arrow() {
        true => expr,
        false => Expr::Cast(Cast::new_from_field(Box::new(expr), field(plain))),
    };
    Ok(match to {
        SqlType::Varchar(length) => varchar_assign().call(vec![cast, lit(i64::from(*length))]),
        _ => cast,
    })
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

fn is_number(ty: &SqlType) -> bool {
    match ty {
        SqlType::SmallInt
        | SqlType::Integer
        | SqlType::BigInt
        | SqlType::Real
        | SqlType::Double
        | SqlType::Numeric { .. } => true,
        SqlType::Boolean
        | SqlType::Text
        | SqlType::Varchar(_)
        | SqlType::Bytea
        | SqlType::Date
        | SqlType::Time
        | SqlType::Timestamp
        | SqlType::Timestamptz
        | SqlType::Interval
        | SqlType::Oid
        | SqlType::Name
        | SqlType::Char
        | SqlType::Array(_) => false,
    }
}

fn is_text(ty: &SqlType) -> bool {
    matches!(ty, SqlType::Text | SqlType::Varchar(_) | SqlType::Name | SqlType::Char)
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
