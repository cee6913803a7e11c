//! `x op ANY (...)` and `x op ALL (...)`: over items that stand in the statement, as comparisons with each of them, which have the
//! type of `x` if they are not said to have one; over any other array, as a function of ours.

use sqlparser::ast::{ArrayElemTypeDef, BinaryOperator, CastKind, DataType, Expr, Value};
use sqlparser::ast::{Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments};
use sqlparser::ast::{Ident, ObjectName};

use crate::error::{Error, Result};
use crate::functions::quantified::{ALL, ANY};
use crate::types::parse::array_items;

/// What `left op ANY (right)` means, or with `all` `left op ALL (right)`; `None`: that is for others to say.
pub fn compared(left: &Expr, op: &BinaryOperator, right: &Expr, all: bool) -> Result<Option<Expr>> {
    if matches!(right, Expr::Subquery(_)) {
        return Ok(None);
    }
    let Some(items) = items(right)? else { return Ok(call(left, op, right, all)) };
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

/// The function over an array whose items are not known here.
fn call(left: &Expr, op: &BinaryOperator, right: &Expr, all: bool) -> Option<Expr> {
    let op = match op {
        BinaryOperator::Eq => "=",
        BinaryOperator::NotEq => "<>",
        BinaryOperator::Lt => "<",
        BinaryOperator::LtEq => "<=",
        BinaryOperator::Gt => ">",
        BinaryOperator::GtEq => ">=",
        _ => return None,
    };
    let args = [Expr::value(Value::SingleQuotedString(op.to_string())), left.clone(), right.clone()];
    let args = args.map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).to_vec();
    let list = FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() };
    Some(Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(if all { ALL } else { ANY })]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(list),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    }))
}

/// The items of an array's text, with or without a type, or of `ARRAY[...]`.
fn items(right: &Expr) -> Result<Option<Vec<Expr>>> {
    match right {
        Expr::Nested(inner) => items(inner),
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) | Value::EscapedStringLiteral(text) => items_of_text(text).map(Some),
            _ => Ok(None),
        },
        Expr::Cast { expr, data_type: DataType::Array(ArrayElemTypeDef::SquareBracket(ty, _)), .. } => {
            let typed = |item: Expr| Expr::Cast {
                kind: CastKind::DoubleColon,
                expr: Box::new(item),
                data_type: ty.as_ref().clone(),
                array: false,
                format: None,
            };
            let of_text = match expr.as_ref() {
                Expr::Value(_) => items(expr)?,
                _ => None,
            };
            Ok(of_text.map(|items| items.into_iter().map(typed).collect()))
        }
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
