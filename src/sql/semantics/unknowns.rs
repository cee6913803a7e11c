//! Operands whose type only the other side says, where that one's digits are not theirs: `'2.251'` beside a `numeric(6,2)` is
//! 2.251, and what is looked for in a `varchar(3)` may be longer.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;

use crate::types::SqlType;
use crate::types::numeric::PRECISION_MAX;

/// The type of what stands beside a value of this type, and says none itself.
pub fn type_beside(other: Option<SqlType>) -> SqlType {
    match other {
        None | Some(SqlType::Varchar(_)) => SqlType::Text,
        Some(SqlType::Numeric { scale: ..=9, .. }) => SqlType::NUMERIC,
        Some(other) => other,
    }
}

/// An operand beside one of this type, with the digits that it is written with; a parameter takes any.
pub fn beside(expr: Expr, other: Option<&SqlType>) -> Expr {
    let Some(SqlType::Numeric { .. }) = other else { return expr };
    match &expr {
        Expr::Literal(ScalarValue::Utf8(Some(text)), None) => match decimal(text) {
            Some(value) => Expr::Literal(value, None),
            None => expr,
        },
        Expr::Placeholder(placeholder) if placeholder.field.is_none() => {
            let mut placeholder = placeholder.clone();
            placeholder.field = Some(Arc::new(type_beside(other.cloned()).field("", true)));
            Expr::Placeholder(placeholder)
        }
        _ => expr,
    }
}

/// Plain digits as a number of just so many; `None` for other ways to write one.
fn decimal(text: &str) -> Option<ScalarValue> {
    let text = text.trim();
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let all = [whole, part].concat();
    if all.is_empty() || all.len() > usize::from(PRECISION_MAX) || !all.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value = all.parse::<i128>().ok()?;
    let value = if text.starts_with('-') { -value } else { value };
    Some(ScalarValue::Decimal128(Some(value), all.len() as u8, part.len() as i8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_counted() {
        assert_eq!(decimal(" -2.251 "), Some(ScalarValue::Decimal128(Some(-2251), 4, 3)));
        assert_eq!(decimal(".5"), Some(ScalarValue::Decimal128(Some(5), 1, 1)));
        for other in ["", ".", "1e3", "NaN", "1.2.3", "--1", "12345678901234567890.1234567890123456789"] {
            assert_eq!(decimal(other), None, "{other}");
        }
    }
}
