//! What DataFusion cannot read, or would read otherwise, put in another way before it sees it.

use std::ops::ControlFlow;

use sqlparser::ast::BinaryOperator;
use sqlparser::ast::CastKind;
use sqlparser::ast::DataType;
use sqlparser::ast::Expr;
use sqlparser::ast::Interval as IntervalLiteral;
use sqlparser::ast::UnaryOperator;
use sqlparser::ast::Value;
use sqlparser::ast::VisitMut;
use sqlparser::ast::VisitorMut;

use crate::error::Error;
use crate::error::Result;
use crate::sql::walk;
use crate::types::interval::Interval;
use crate::types::numeric::PRECISION_MAX;

/// Changes a syntax tree in place. Interval literals become casts of their text in Postgres' form, numbers with more digits
/// than a `numeric` has become `double precision`, comparisons of rows become those of their parts, and a sign binds more
/// tightly than a power. An interval that cannot be read is an error.
pub fn prepare(tree: &mut impl VisitMut) -> Result<()> {
    let mut preparation = Preparation { failed: None };
    let _ = walk::change(tree, &mut preparation);
    preparation.failed.map_or(Ok(()), Err)
}

struct Preparation {
    /// Why it broke off.
    failed: Option<Error>,
}

impl VisitorMut for Preparation {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match replacement(expr) {
            Ok(replacement) => {
                replacement.into_iter().for_each(|replacement| *expr = replacement);
                ControlFlow::Continue(())
            }
            Err(error) => {
                self.failed = Some(error);
                ControlFlow::Break(())
            }
        }
    }
}

/// What stands for an expression whose parts are prepared; `None`: it stays.
fn replacement(expr: &mut Expr) -> Result<Option<Expr>> {
    match expr {
        Expr::Interval(interval) => interval_cast(interval),
        Expr::Value(value) => Ok(match &value.value {
            Value::Number(digits, _) if exceeds_numeric(digits) => {
                Some(cast(digits.clone(), DataType::DoublePrecision))
            }
            Value::UnicodeStringLiteral(text) => Some(Expr::value(Value::SingleQuotedString(text.clone()))),
            _ => None,
        }),
        Expr::UnaryOp { op: UnaryOperator::Minus, expr: operand } => Ok(negated_base(operand)),
        Expr::UnaryOp { op: UnaryOperator::BitwiseNot, expr: operand } => {
            let ones = Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(number("1")) };
            Ok(Some(binary(operand.as_ref().clone(), BinaryOperator::PGBitwiseXor, ones)))
        }
        Expr::BinaryOp { left, op: op @ (BinaryOperator::Eq | BinaryOperator::NotEq), right } => {
            let Some(equal) = rows_equal(left, right)? else { return Ok(None) };
            Ok(Some(if *op == BinaryOperator::Eq { equal } else { not(equal) }))
        }
        Expr::InList { expr: row, list, negated } => {
            let mut any: Option<Expr> = None;
            for other in list.iter() {
                let Some(equal) = rows_equal(row, other)? else { return Ok(None) };
                any = Some(match any {
                    Some(others) => binary(others, BinaryOperator::Or, equal),
                    None => equal,
                });
            }
            let any = any.map(|any| Expr::Nested(Box::new(any)));
            Ok(if *negated { any.map(not) } else { any })
        }
        _ => Ok(None),
    }
}

fn binary(left: Expr, op: BinaryOperator, right: Expr) -> Expr {
    Expr::Nested(Box::new(Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) }))
}

fn not(expr: Expr) -> Expr {
    Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(expr) }
}

fn number(digits: &str) -> Expr {
    Expr::value(Value::Number(digits.to_string(), false))
}

/// `- a ^ b`, which the parser reads as `- (a ^ b)`, as Postgres does: `(- a) ^ b`.
fn negated_base(operand: &mut Expr) -> Option<Expr> {
    let is_power =
        |expr: &Expr| matches!(expr, Expr::BinaryOp { op: BinaryOperator::PGExp | BinaryOperator::BitwiseXor, .. });
    if !is_power(operand) {
        return None;
    }
    let mut power = operand.clone();
    let mut base = &mut power;
    while is_power(base) {
        let Expr::BinaryOp { left, .. } = base else { break };
        base = left;
    }
    *base = Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(base.clone()) };
    Some(power)
}

/// `(a, b) = (c, d)` by its parts; `None`: these are no rows.
fn rows_equal(left: &Expr, right: &Expr) -> Result<Option<Expr>> {
    let (Expr::Tuple(left), Expr::Tuple(right)) = (left, right) else { return Ok(None) };
    if left.len() != right.len() {
        return Err(Error::syntax("unequal number of entries in row expressions"));
    }
    let pairs = left.iter().zip(right).map(|(a, b)| binary(a.clone(), BinaryOperator::Eq, b.clone()));
    Ok(pairs.reduce(|all, pair| binary(all, BinaryOperator::And, pair)))
}

fn cast(text: String, data_type: DataType) -> Expr {
    let expr = Box::new(Expr::Value(Value::SingleQuotedString(text).into()));
    Expr::Cast { kind: CastKind::DoubleColon, expr, data_type, array: false, format: None }
}

fn interval_cast(literal: &IntervalLiteral) -> Result<Option<Expr>> {
    if let Expr::Cast { kind, expr, data_type, array, format } = literal.value.as_ref() {
        // `interval '1 day'::text` is a cast of the interval.
        let inner = IntervalLiteral { value: expr.clone(), ..literal.clone() };
        let (kind, data_type, format) = (kind.clone(), data_type.clone(), format.clone());
        let cast = |expr| Expr::Cast { kind, expr: Box::new(expr), data_type, array: *array, format };
        return Ok(interval_cast(&inner)?.map(cast));
    }
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
