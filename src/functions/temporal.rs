//! Arithmetic with dates, times and intervals.

use arrow::array::types::ArrowPrimitiveType;
use arrow::array::types::Date32Type;
use arrow::array::types::Float64Type;
use arrow::array::types::Int32Type;
use arrow::array::types::IntervalMonthDayNanoType;
use arrow::array::types::Time64MicrosecondType;
use arrow::array::types::TimestampMicrosecondType;
use arrow::datatypes::IntervalMonthDayNano;
use datafusion::logical_expr::ColumnarValue;
use datafusion::logical_expr::ScalarFunctionArgs;

use crate::error::Error;
use crate::error::Result;
use crate::functions::arithmetic::division_by_zero;
use crate::functions::columns::binary;
use crate::functions::columns::finish;
use crate::functions::columns::zone;
use crate::functions::operator::Symbol;
use crate::types::SqlType;
use crate::types::calendar::Date;
use crate::types::calendar::MICROS_PER_DAY;
use crate::types::datetime::date_in_range;
use crate::types::datetime::timestamp_in_range;
use crate::types::interval::Interval;
use crate::types::zone::Zone;

type Dates = Date32Type;
type Spans = IntervalMonthDayNanoType;
type Stamps = TimestampMicrosecondType;
type Times = Time64MicrosecondType;

/// The value of a resolved operator on these types.
pub fn evaluate(symbol: Symbol, left: &SqlType, right: &SqlType, args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    use SqlType::*;
    let sign = if symbol == Symbol::Subtract { -1 } else { 1 };
    let zone = if *left == Timestamptz || *right == Timestamptz { zone(args, 2)? } else { Zone::UTC };
    match (symbol, left, right) {
        (Symbol::Add | Symbol::Subtract, Date, Integer) => {
            finish(binary::<Dates, Int32Type, Dates>(args, |day, by| move_days(day, by as i64 * sign))?, args)
        }
        (Symbol::Add, Integer, Date) => {
            finish(binary::<Int32Type, Dates, Dates>(args, |by, day| move_days(day, by as i64))?, args)
        }
        (Symbol::Subtract, Date, Date) => finish(binary::<Dates, Dates, Int32Type>(args, days_between)?, args),
        (Symbol::Add | Symbol::Subtract, Timestamp | Timestamptz, Interval) => {
            finish(binary::<Stamps, Spans, Stamps>(args, |at, by| move_by(at, signed(by, sign)?, &zone))?, args)
        }
        (Symbol::Add, Interval, Timestamp | Timestamptz) => {
            finish(binary::<Spans, Stamps, Stamps>(args, |by, at| move_by(at, by.into(), &zone))?, args)
        }
        (Symbol::Subtract, Timestamp | Timestamptz, Timestamp | Timestamptz) => {
            finish(binary::<Stamps, Stamps, Spans>(args, span_between)?, args)
        }
        (Symbol::Add | Symbol::Subtract, Time, Interval) => {
            let turned = |at: i64, by| Ok((at + self::Interval::micros_of(by) * sign).rem_euclid(MICROS_PER_DAY));
            finish(binary::<Times, Spans, Times>(args, turned)?, args)
        }
        (Symbol::Add, Interval, Time) => {
            let turned = |by, at: i64| Ok((at + self::Interval::micros_of(by)).rem_euclid(MICROS_PER_DAY));
            finish(binary::<Spans, Times, Times>(args, turned)?, args)
        }
        (Symbol::Subtract, Time, Time) => {
            let between = |a: i64, b: i64| self::Interval { months: 0, days: 0, micros: a - b }.arrow();
            finish(binary::<Times, Times, Spans>(args, between)?, args)
        }
        (Symbol::Add | Symbol::Subtract, Interval, Interval) => {
            let sum = |a: IntervalMonthDayNano, b| self::Interval::from(a).plus(&signed(b, sign)?)?.arrow();
            finish(binary::<Spans, Spans, Spans>(args, sum)?, args)
        }
        (Symbol::Multiply, Interval, Double) => scaled::<Spans, Float64Type>(args, |span, by| (span, by)),
        (Symbol::Multiply, Double, Interval) => scaled::<Float64Type, Spans>(args, |by, span| (span, by)),
        (Symbol::Divide, Interval, Double) => {
            let divided = |span: IntervalMonthDayNano, by: f64| match by {
                0.0 => Err(division_by_zero()),
                _ => self::Interval::from(span).times(1.0 / by)?.arrow(),
            };
            finish(binary::<Spans, Float64Type, Spans>(args, divided)?, args)
        }
        _ => Err(Error::internal(format!("operator {left} {} {right} was not resolved", symbol.text()))),
    }
}

fn scaled<A: ArrowPrimitiveType, B: ArrowPrimitiveType>(
    args: &ScalarFunctionArgs,
    order: impl Fn(A::Native, B::Native) -> (IntervalMonthDayNano, f64),
) -> Result<ColumnarValue> {
    let product = |a, b| {
        let (span, by) = order(a, b);
        Interval::from(span).times(by)?.arrow()
    };
    finish(binary::<A, B, Spans>(args, product)?, args)
}

fn signed(value: IntervalMonthDayNano, sign: i64) -> Result<Interval> {
    let interval = Interval::from(value);
    if sign < 0 { interval.negated() } else { Ok(interval) }
}

impl Interval {
    fn micros_of(value: IntervalMonthDayNano) -> i64 {
        Interval::from(value).micros % MICROS_PER_DAY
    }
}

fn move_days(day: i32, by: i64) -> Result<i32> {
    if day == i32::MAX || day == i32::MIN {
        return Ok(day);
    }
    let moved = date_in_range(Date::from_days(day as i64 + by));
    moved.ok_or_else(|| Error::datetime_overflow("date out of range"))
}

fn days_between(a: i32, b: i32) -> Result<i32> {
    let infinite = |day| day == i32::MAX || day == i32::MIN;
    if infinite(a) || infinite(b) {
        return Err(Error::datetime_overflow("cannot subtract infinite dates"));
    }
    Ok(a - b)
}

/// Moves a moment: months and days on the calendar of `zone`, the rest as time goes by.
pub fn move_by(at: i64, by: Interval, zone: &Zone) -> Result<i64> {
    if at == i64::MAX || at == i64::MIN {
        return Ok(at);
    }
    let overflow = || Error::datetime_overflow("timestamp out of range");
    let mut moved = at;
    if by.months != 0 || by.days != 0 {
        let local = zone.to_local(at);
        let date = Date::from_days(local.div_euclid(MICROS_PER_DAY)).plus_months(by.months as i64);
        let midnight = (date.days() + by.days as i64).checked_mul(MICROS_PER_DAY).ok_or_else(overflow)?;
        let local = midnight.checked_add(local.rem_euclid(MICROS_PER_DAY)).ok_or_else(overflow)?;
        moved = zone.to_utc(local);
    }
    moved.checked_add(by.micros).and_then(timestamp_in_range).ok_or_else(overflow)
}

/// The difference in days and time, as Postgres justifies it.
fn span_between(a: i64, b: i64) -> Result<IntervalMonthDayNano> {
    let infinite = |at| at == i64::MAX || at == i64::MIN;
    if infinite(a) || infinite(b) {
        return Err(Error::datetime_overflow("cannot subtract infinite timestamps"));
    }
    let micros = a.checked_sub(b).ok_or_else(crate::types::interval::out_of_range)?;
    let days = i32::try_from(micros / MICROS_PER_DAY).map_err(|_| crate::types::interval::out_of_range())?;
    Interval { months: 0, days, micros: micros % MICROS_PER_DAY }.arrow()
}
