//! `x op ANY (...)` and `x op ALL (...)` over items that stand in the statement: as comparisons with each of them, which have the
//! type of `x` if they are not said to have one, and are NULL where Postgres says so.

use sqlparser::ast::{BinaryOperator, Expr, Value};

use crate::error::{Error, Result};
use crate::types::parse::array_items;

/// The comparisons that `left op ANY (right)` means, or with `all` `left op ALL (right)`; `None`: the items are not known here.
pub fn compared(left: &Expr, op: &BinaryOperator, right: &Expr, all: bool) -> Result<Option<Expr>> {
    let Some(items) = items(right)? else { return Ok(None) };
    if items.is_empty() {
        // Whatever the left side is, NULL too; it must be right all the same.
        let op = if all { BinaryOperator::Or } else { BinaryOperator::And };
        let value = Expr::IsNull(Box::new(left.clone()));
        return Ok(Some(nested(value, op, Expr::value(Value::Boolean(all)))));
    }
    if let (BinaryOperator::Eq, false) | (BinaryOperator::NotEq, true) = (op, all) {
        let list = Expr::InList { expr: Box::new(left.clone()), list: items, negated: all };
        return Ok(Some(Expr::Nested(Box::new(list))));
    }
    let one = |item| nested(left.clone(), op.clone(), item);
    let all = if all { BinaryOperator::And } else { BinaryOperator::Or };
    Ok(Some(joined(&mut items.into_iter().map(one).collect::<Vec<_>>(), &all)))
}

/// The items of an array's text, or of `ARRAY[...]`.
fn items(right: &Expr) -> Result<Option<Vec<Expr>>> {
    match right {
        Expr::Nested(inner) => items(inner),
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => items_of_text(text).map(Some),
            _ => Ok(None),
        },
        Expr::Array(array)
            if !array.elem.is_empty() && !array.elem.iter().any(|item| matches!(item, Expr::Array(_))) =>
        {
            Ok(Some(array.elem.clone()))
        }
        _ => Ok(None),
    }
}

fn items_of_text(text: &str) -> Result<Vec<Expr>> {
    let items = array_items(text)?;
    if items.iter().flatten().any(|item| item.starts_with('{')) {
        return Err(Error::unsupported("arrays of more than one dimension are not supported"));
    }
    Ok(items.into_iter().map(|item| Expr::value(item.map_or(Value::Null, Value::SingleQuotedString))).collect())
}

/// A balanced tree of these: both AND and OR are associative.
fn joined(items: &mut Vec<Expr>, op: &BinaryOperator) -> Expr {
    match items.len() {
        0 | 1 => items.pop().unwrap_or_else(|| Expr::value(Value::Null)),
        count => {
            let mut rest = items.split_off(count / 2);
            nested(joined(items, op), op.clone(), joined(&mut rest, op))
        }
    }
}

fn nested(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::Nested(Box::new(Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }))
}
