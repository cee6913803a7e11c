//! The names of a query's columns.
//!
//! DataFusion wants the names of one SELECT list unique; Postgres does not, and has its own idea of what an expression
//! without an alias is called. So every item gets Postgres' name as an alias before planning, and a second one of the same
//! name gets a tail that cannot be typed, which [`shown`] takes off again.

use sqlparser::ast::{DataType, Expr, FunctionArguments, Ident, SelectItem, SetExpr, Value};

use crate::sql::bind::names::parts;
use crate::sql::parse::grammar::folded;

/// What separates a name from the number that makes it unique.
const TAIL: char = '\u{1}';

/// The name that the client is told.
pub fn shown(name: &str) -> &str {
    name.split(TAIL).next().unwrap_or_default()
}

/// Gives the items of one SELECT list unique names. With `around_wildcards` also those that a wildcard beside them may
/// bring in again.
pub fn name_items(items: &mut [SelectItem], around_wildcards: bool) {
    let has_wildcard = items.iter().any(|i| matches!(i, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)));
    let mut taken: Vec<String> = Vec::new();
    for item in items {
        let (name, is_column) = match item {
            SelectItem::UnnamedExpr(expr @ (Expr::Identifier(_) | Expr::CompoundIdentifier(_))) => (name(expr), true),
            SelectItem::UnnamedExpr(expr) => (name(expr), false),
            SelectItem::ExprWithAlias { alias, .. } => (folded(alias), false),
            SelectItem::ExprWithAliases { .. } | SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) => {
                continue;
            }
        };
        let doubles = taken.iter().filter(|t| **t == name).count() + usize::from(has_wildcard && around_wildcards);
        taken.push(name.clone());
        if doubles == 0 && is_column {
            continue;
        }
        let alias = if doubles == 0 { name } else { format!("{name}{TAIL}{doubles}") };
        let alias = Ident::with_quote('"', alias);
        match item {
            SelectItem::ExprWithAlias { alias: old, .. } => *old = alias,
            SelectItem::UnnamedExpr(expr) => {
                let expr = std::mem::replace(expr, Expr::value(Value::Null));
                *item = SelectItem::ExprWithAlias { expr, alias };
            }
            SelectItem::ExprWithAliases { .. } | SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) => {}
        }
    }
}

/// What Postgres calls an expression without an alias.
pub fn name(expr: &Expr) -> String {
    own_name(expr).unwrap_or_else(|| "?column?".to_string())
}

fn own_name(expr: &Expr) -> Option<String> {
    Some(match expr {
        Expr::Identifier(ident) => folded(ident),
        Expr::CompoundIdentifier(idents) => folded(idents.last()?),
        Expr::Function(function) => {
            let name = parts(&function.name).pop()?;
            match (&function.args, name.as_str()) {
                (FunctionArguments::None, "current_timestamp" | "localtimestamp") => name,
                _ => name,
            }
        }
        Expr::Cast { expr, data_type, .. } => own_name(expr).unwrap_or_else(|| type_name(data_type)),
        Expr::TypedString(typed) => type_name(&typed.data_type),
        Expr::Interval(_) => "interval".to_string(),
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } => own_name(inner)?,
        Expr::CompoundFieldAccess { root, .. } => own_name(root)?,
        Expr::Case { else_result, .. } => {
            else_result.as_deref().filter(|e| is_named(e)).and_then(own_name).unwrap_or_else(|| "case".to_string())
        }
        Expr::Exists { .. } => "exists".to_string(),
        Expr::Array(_) => "array".to_string(),
        Expr::Extract { .. } => "extract".to_string(),
        Expr::Substring { .. } => "substring".to_string(),
        Expr::Position { .. } => "position".to_string(),
        Expr::Overlay { .. } => "overlay".to_string(),
        Expr::Trim { .. } => "btrim".to_string(),
        Expr::Ceil { .. } => "ceil".to_string(),
        Expr::Floor { .. } => "floor".to_string(),
        Expr::AtTimeZone { .. } => "timezone".to_string(),
        Expr::Tuple(_) => "row".to_string(),
        Expr::Value(value) if matches!(value.value, Value::Boolean(_)) => "bool".to_string(),
        Expr::Subquery(query) => match query.body.as_ref() {
            SetExpr::Select(select) => match select.projection.first()? {
                SelectItem::UnnamedExpr(expr) => own_name(expr)?,
                SelectItem::ExprWithAlias { alias, .. } => shown(&folded(alias)).to_string(),
                _ => return None,
            },
            _ => return None,
        },
        _ => return None,
    })
}

/// Whether an expression has a name of its own, which even a CASE around it takes: a type's name is not enough.
fn is_named(expr: &Expr) -> bool {
    match expr {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Function(_) => true,
        Expr::Cast { expr, .. } | Expr::Nested(expr) => is_named(expr),
        _ => false,
    }
}

/// Postgres' internal name of a type.
fn type_name(data_type: &DataType) -> String {
    let text = data_type.to_string().to_lowercase();
    let bare = text.split(['(', '[']).next().unwrap_or_default().trim();
    match bare {
        "int" | "integer" => "int4",
        "bigint" => "int8",
        "smallint" => "int2",
        "boolean" => "bool",
        "real" => "float4",
        "double precision" | "double" | "float" => "float8",
        "decimal" | "dec" => "numeric",
        "character varying" => "varchar",
        "timestamp without time zone" => "timestamp",
        "timestamp with time zone" => "timestamptz",
        "string" => "text",
        other => other.rsplit('.').next().unwrap_or(other),
    }
    .to_string()
}
