//! Literals that DataFusion cannot read, put in another way before it sees them.

use std::ops::ControlFlow;

use sqlparser::ast::CastKind;
use sqlparser::ast::DataType;
use sqlparser::ast::Expr;
use sqlparser::ast::Interval as IntervalLiteral;
use sqlparser::ast::Value;
use sqlparser::ast::VisitMut;
use sqlparser::ast::VisitorMut;

use crate::error::Error;
use crate::error::Result;
use crate::types::interval::Interval;
use crate::types::numeric::PRECISION_MAX;

/// Changes a syntax tree in place: interval literals become casts of their text in Postgres' form, and numbers with more digits than
/// a `numeric` has become `double precision`. An interval that cannot be read is an error.
pub fn prepare(tree: &mut impl VisitMut) -> Result<()> {
    match tree.visit(&mut Literals) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Literals;

impl VisitorMut for Literals {
    type Break = Error;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        let replaced = match expr {
            Expr::Interval(interval) => interval_cast(interval),
            Expr::Value(value) => match &value.value {
                Value::Number(digits, _) if exceeds_numeric(digits) => {
                    Ok(Some(cast(digits.clone(), DataType::DoublePrecision)))
                }
                _ => Ok(None),
            },
            _ => Ok(None),
        };
        match replaced {
            Ok(Some(replacement)) => *expr = replacement,
            Ok(None) => {}
            Err(error) => return ControlFlow::Break(error),
        }
        ControlFlow::Continue(())
    }
}

fn cast(text: String, data_type: DataType) -> Expr {
    let expr = Box::new(Expr::Value(Value::SingleQuotedString(text).into()));
    Expr::Cast { kind: CastKind::DoubleColon, expr, data_type, array: false, format: None }
}

fn interval_cast(literal: &IntervalLiteral) -> Result<Option<Expr>> {
    let Expr::Value(value) = literal.value.as_ref() else { return Ok(None) };
    let Value::SingleQuotedString(text) = &value.value else { return Ok(None) };
    if literal.last_field.is_some() || literal.leading_precision.is_some() {
        return Ok(None);
    }
    let interval = match &literal.leading_field {
        Some(unit) => Interval::parse_unit(text, &unit.to_string())?,
        None => Interval::parse(text)?,
    };
    let mut text = String::new();
    interval.write(&mut text);
    let data_type = DataType::Interval { fields: None, precision: None };
    Ok(Some(cast(text, data_type)))
}

/// Whether a number has more digits than a `numeric` holds, on either side of the point.
fn exceeds_numeric(digits: &str) -> bool {
    let (mantissa, exponent) = match digits.find(['e', 'E']) {
        Some(at) => (&digits[..at], digits[at + 1..].parse::<i64>().unwrap_or(i64::MAX)),
        None => (digits, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let whole = (whole.trim_start_matches('0').len() as i64).saturating_add(exponent).max(0);
    let fraction = (fraction.len() as i64).saturating_sub(exponent).max(0);
    whole.saturating_add(fraction) > PRECISION_MAX as i64
}
