//! Conversions between types, with Postgres' rounding and its errors.

use std::sync::Arc;

use arrow::array::Array;
use arrow::array::ArrayRef;
use arrow::array::ArrowPrimitiveType;
use arrow::array::AsArray;
use arrow::array::BooleanArray;
use arrow::array::ListArray;
use arrow::array::PrimitiveArray;
use arrow::array::StringArray;
use arrow::array::types::Date32Type;
use arrow::array::types::Decimal128Type;
use arrow::array::types::Float32Type;
use arrow::array::types::Float64Type;
use arrow::array::types::Int16Type;
use arrow::array::types::Int32Type;
use arrow::array::types::Int64Type;
use arrow::array::types::IntervalMonthDayNanoType;
use arrow::array::types::Time64MicrosecondType;
use arrow::array::types::TimestampMicrosecondType;
use arrow::compute::cast as arrow_cast;
use arrow::datatypes::DataType;
use arrow::datatypes::Field;
use arrow::error::ArrowError;

use crate::error::Error;
use crate::error::Result;
use crate::types::SqlType;
use crate::types::UTC;
use crate::types::calendar;
use crate::types::calendar::MICROS_PER_DAY;
use crate::types::datetime::date_in_range;
use crate::types::interval::Interval;
use crate::types::numeric::fit_decimal;
use crate::types::numeric::parse_decimal;
use crate::types::numeric::parse_double;
use crate::types::numeric::parse_real;
use crate::types::numeric::rescale_decimal;
use crate::types::numeric::write_decimal;
use crate::types::parse::cut_varchar;
use crate::types::parse::fit_varchar;
use crate::types::parse::parse_array;
use crate::types::text::format_array;
use crate::types::zone::Zone;

/// Who asked for a conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// `CAST` or `::`: text too long for its type is cut.
    Explicit,
    /// A value is stored in a column: text too long is 22001.
    Assignment,
}

/// Converts a column.
pub fn cast(array: &ArrayRef, from: &SqlType, to: &SqlType, zone: Zone, mode: Mode) -> Result<ArrayRef> {
    if array.data_type() == &DataType::Null {
        return Ok(arrow::array::new_null_array(&to.arrow(), array.len()));
    }
    if from == to {
        return Ok(array.clone());
    }
    if is_text(from) {
        return from_text(array, to, zone, mode);
    }
    if is_text(to) {
        return to_text(array, from, to, zone, mode);
    }
    if is_number(from) && is_number(to) {
        return number(array, from, to);
    }
    match (from, to) {
        (SqlType::Boolean, SqlType::Integer) => Ok(arrow_cast(array, &DataType::Int32).map_err(unwrap_arrow)?),
        (SqlType::Integer, SqlType::Boolean) => {
            let values = array.as_primitive::<Int32Type>();
            Ok(Arc::new(BooleanArray::from_unary(values, |value| value != 0)))
        }
        (SqlType::Array(from_item), SqlType::Array(to_item)) => {
            let list = array.as_list::<i32>();
            let values = cast(list.values(), from_item, to_item, zone, mode)?;
            let field = Arc::new(Field::new_list_field(values.data_type().clone(), true));
            Ok(Arc::new(ListArray::new(field, list.offsets().clone(), values, list.nulls().cloned())))
        }
        _ => datetime(array, from, to, zone),
    }
}

/// Whether there is such a conversion.
pub fn can_cast(from: &SqlType, to: &SqlType) -> bool {
    use SqlType::*;
    if from == to || is_text(from) || is_text(to) || is_number(from) && is_number(to) {
        return true;
    }
    match (from, to) {
        (Array(from), Array(to)) => can_cast(from, to),
        (Boolean, Integer) | (Integer, Boolean) => true,
        (Date, Timestamp | Timestamptz) | (Timestamp | Timestamptz, Date | Time) => true,
        (Timestamp, Timestamptz) | (Timestamptz, Timestamp) | (Time, Interval) | (Interval, Time) => true,
        _ => false,
    }
}

/// Whether its values are strings.
pub fn is_text(ty: &SqlType) -> bool {
    matches!(ty, SqlType::Text | SqlType::Varchar(_) | SqlType::Name | SqlType::Char)
}

/// Whether it is an integer type.
pub fn is_integer(ty: &SqlType) -> bool {
    matches!(ty, SqlType::SmallInt | SqlType::Integer | SqlType::BigInt | SqlType::Oid)
}

/// Whether it is a numeric type of any kind.
pub fn is_number(ty: &SqlType) -> bool {
    is_integer(ty) || matches!(ty, SqlType::Numeric { .. } | SqlType::Real | SqlType::Double)
}

fn from_text(array: &ArrayRef, to: &SqlType, zone: Zone, mode: Mode) -> Result<ArrayRef> {
    let texts = array.as_string::<i32>();
    match to {
        SqlType::Text | SqlType::Name | SqlType::Char => Ok(array.clone()),
        SqlType::Varchar(length) => limit(texts, *length, mode),
        SqlType::Boolean
        | SqlType::SmallInt
        | SqlType::Integer
        | SqlType::BigInt
        | SqlType::Real
        | SqlType::Double
        | SqlType::Numeric { .. }
        | SqlType::Bytea
        | SqlType::Date
        | SqlType::Time
        | SqlType::Timestamp
        | SqlType::Timestamptz
        | SqlType::Interval
        | SqlType::Oid
        | SqlType::Array(_) => parse_array(texts, to, zone),
    }
}

fn to_text(array: &ArrayRef, from: &SqlType, to: &SqlType, zone: Zone, mode: Mode) -> Result<ArrayRef> {
    let texts = match from {
        SqlType::Boolean => {
            let words = array.as_boolean().iter().map(|value| value.map(|v| if v { "true" } else { "false" }));
            words.collect::<StringArray>()
        }
        _ => format_array(array.as_ref(), from, zone)?,
    };
    match to {
        SqlType::Varchar(length) => limit(&texts, *length, mode),
        _ => Ok(Arc::new(texts)),
    }
}

fn limit(texts: &StringArray, length: u32, mode: Mode) -> Result<ArrayRef> {
    let fits = |text: &str| text.len() <= length as usize;
    if texts.iter().flatten().all(fits) {
        return Ok(Arc::new(texts.clone()));
    }
    let limited = texts.iter().map(|text| match (text, mode) {
        (None, _) => Ok(None),
        (Some(text), Mode::Explicit) => Ok(Some(cut_varchar(text, length))),
        (Some(text), Mode::Assignment) => fit_varchar(text, length).map(Some),
    });
    Ok(Arc::new(limited.collect::<Result<StringArray>>()?))
}

/// The error of a value that an integer type does not hold.
pub fn integer_out_of_range(ty: &SqlType) -> Error {
    Error::out_of_range(match ty {
        SqlType::Oid => "OID out of range".to_string(),
        _ => format!("{ty} out of range"),
    })
}

fn number(array: &ArrayRef, from: &SqlType, to: &SqlType) -> Result<ArrayRef> {
    match (from, to) {
        (SqlType::Numeric { scale, .. }, _) => from_decimal(array.as_primitive(), *scale, to),
        (SqlType::Real, SqlType::Double) => Ok(map::<Float32Type, Float64Type>(array, |value| Ok(value as f64))?),
        (SqlType::Double, SqlType::Real) => Ok(map::<Float64Type, Float32Type>(array, |value| match value as f32 {
            narrow if narrow.is_infinite() && value.is_finite() => {
                Err(Error::out_of_range("value out of range: overflow"))
            }
            0.0 if value != 0.0 => Err(Error::out_of_range("value out of range: underflow")),
            narrow => Ok(narrow),
        })?),
        (SqlType::Real, _) => from_float(&map::<Float32Type, Float64Type>(array, |value| Ok(value as f64))?, to, 6),
        (SqlType::Double, _) => from_float(array, to, 15),
        _ => {
            let wide = arrow_cast(array, &DataType::Int64).map_err(unwrap_arrow)?;
            from_integer(&wide, to)
        }
    }
}

fn from_integer(array: &ArrayRef, to: &SqlType) -> Result<ArrayRef> {
    let overflow = || integer_out_of_range(to);
    match to {
        SqlType::SmallInt => map::<Int64Type, Int16Type>(array, |v| i16::try_from(v).map_err(|_| overflow())),
        SqlType::Integer => map::<Int64Type, Int32Type>(array, |v| i32::try_from(v).map_err(|_| overflow())),
        SqlType::Oid => map::<Int64Type, Int64Type>(array, |v| u32::try_from(v).map(i64::from).map_err(|_| overflow())),
        SqlType::Real => map::<Int64Type, Float32Type>(array, |v| Ok(v as f32)),
        SqlType::Double => map::<Int64Type, Float64Type>(array, |v| Ok(v as f64)),
        SqlType::Numeric { precision, scale } => decimals(array.as_primitive::<Int64Type>(), to, |v| {
            let value = rescale_decimal(v as i128, 0, *scale).unwrap_or(i128::MAX);
            fit_decimal(value, *precision, *scale)
        }),
        _ => Ok(array.clone()),
    }
}

fn from_float(array: &ArrayRef, to: &SqlType, digits: usize) -> Result<ArrayRef> {
    let whole = |value: f64, least: f64, bound: f64| {
        let rounded = value.round_ties_even();
        let fits = rounded >= least && rounded < bound;
        if fits { Ok(rounded as i64) } else { Err(integer_out_of_range(to)) }
    };
    const BOUND: f64 = 9_223_372_036_854_775_808.0;
    match to {
        SqlType::SmallInt => map::<Float64Type, Int16Type>(array, |v| Ok(whole(v, -32_768.0, 32_768.0)? as i16)),
        SqlType::Integer => {
            map::<Float64Type, Int32Type>(array, |v| Ok(whole(v, -2_147_483_648.0, 2_147_483_648.0)? as i32))
        }
        SqlType::Oid => map::<Float64Type, Int64Type>(array, |v| whole(v, 0.0, 4_294_967_296.0)),
        SqlType::Numeric { precision, scale } => {
            let digits = digits - 1;
            decimals(array.as_primitive::<Float64Type>(), to, |value| {
                parse_decimal(&format!("{value:.digits$e}"), *precision, *scale)
            })
        }
        _ => map::<Float64Type, Int64Type>(array, |v| whole(v, -BOUND, BOUND)),
    }
}

fn from_decimal(array: &PrimitiveArray<Decimal128Type>, from: i8, to: &SqlType) -> Result<ArrayRef> {
    let whole = |value: i128| {
        let rounded = rescale_decimal(value, from, 0).and_then(|v| i64::try_from(v).ok());
        rounded.ok_or_else(|| integer_out_of_range(to))
    };
    match to {
        SqlType::Numeric { precision, scale } => decimals(array, to, |value| {
            fit_decimal(rescale_decimal(value, from, *scale).unwrap_or(i128::MAX), *precision, *scale)
        }),
        SqlType::Double => try_map::<Decimal128Type, Float64Type>(array, |value| decimal_to_double(value, from)),
        SqlType::Real => try_map::<Decimal128Type, Float32Type>(array, |value| {
            let mut text = String::new();
            write_decimal(value, from, &mut text);
            parse_real(&text)
        }),
        _ => from_integer(&try_map::<Decimal128Type, Int64Type>(array, whole)?, to),
    }
}

/// The nearest `double precision`.
pub fn decimal_to_double(value: i128, scale: i8) -> Result<f64> {
    if value.unsigned_abs() < 1 << 53 && (0..=22).contains(&scale) {
        return Ok(value as f64 / 10f64.powi(scale as i32));
    }
    let mut text = String::new();
    write_decimal(value, scale, &mut text);
    parse_double(&text)
}

fn datetime(array: &ArrayRef, from: &SqlType, to: &SqlType, zone: Zone) -> Result<ArrayRef> {
    use SqlType::*;
    let at_midnight = |days: i32| match days {
        i32::MAX => Ok(i64::MAX),
        i32::MIN => Ok(i64::MIN),
        _ => {
            let micros = (days as i64).checked_mul(MICROS_PER_DAY);
            micros.ok_or_else(|| Error::datetime_overflow("date out of range for timestamp"))
        }
    };
    let day_of = |local: i64| match local {
        i64::MAX => Ok(i32::MAX),
        i64::MIN => Ok(i32::MIN),
        _ => {
            let days = date_in_range(calendar::Date::from_days(local.div_euclid(MICROS_PER_DAY)));
            days.ok_or_else(|| Error::datetime_overflow("date out of range"))
        }
    };
    let moments = |result: ArrayRef| -> ArrayRef {
        Arc::new(result.as_primitive::<TimestampMicrosecondType>().clone().with_timezone(UTC))
    };
    type Moment = TimestampMicrosecondType;
    match (from, to) {
        (Date, Timestamp) => map::<Date32Type, Moment>(array, at_midnight),
        (Date, Timestamptz) => {
            map::<Date32Type, Moment>(array, |days| Ok(zone.to_utc(at_midnight(days)?))).map(moments)
        }
        (Timestamp, Date) => map::<Moment, Date32Type>(array, day_of),
        (Timestamptz, Date) => map::<Moment, Date32Type>(array, |moment| day_of(zone.to_local(moment))),
        (Timestamp, Timestamptz) => map::<Moment, Moment>(array, |local| Ok(zone.to_utc(local))).map(moments),
        (Timestamptz, Timestamp) => map::<Moment, Moment>(array, |moment| Ok(zone.to_local(moment))),
        (Timestamp, Time) => map::<Moment, Time64MicrosecondType>(array, |local| Ok(local.rem_euclid(MICROS_PER_DAY))),
        (Timestamptz, Time) => {
            map::<Moment, Time64MicrosecondType>(array, |moment| Ok(zone.to_local(moment).rem_euclid(MICROS_PER_DAY)))
        }
        (Time, Interval) => map::<Time64MicrosecondType, IntervalMonthDayNanoType>(array, |micros| {
            self::Interval { months: 0, days: 0, micros }.arrow()
        }),
        (Interval, Time) => map::<IntervalMonthDayNanoType, Time64MicrosecondType>(array, |value| {
            Ok(self::Interval::from(value).micros.rem_euclid(MICROS_PER_DAY))
        }),
        _ => Err(Error::cannot_coerce(format!("cannot cast type {from} to {to}"))),
    }
}

fn map<A: ArrowPrimitiveType, B: ArrowPrimitiveType>(
    array: &ArrayRef,
    f: impl Fn(A::Native) -> Result<B::Native>,
) -> Result<ArrayRef> {
    try_map::<A, B>(array.as_primitive::<A>(), f)
}

fn try_map<A: ArrowPrimitiveType, B: ArrowPrimitiveType>(
    array: &PrimitiveArray<A>,
    f: impl Fn(A::Native) -> Result<B::Native>,
) -> Result<ArrayRef> {
    Ok(Arc::new(array.try_unary::<_, B, Error>(f)?))
}

fn decimals<A: ArrowPrimitiveType>(
    array: &PrimitiveArray<A>,
    to: &SqlType,
    f: impl Fn(A::Native) -> Result<i128>,
) -> Result<ArrayRef> {
    let values = array.try_unary::<_, Decimal128Type, Error>(f)?;
    Ok(Arc::new(values.with_data_type(to.arrow())))
}

/// Our error in an Arrow error, or what comes nearest.
pub fn unwrap_arrow(error: ArrowError) -> Error {
    match error {
        ArrowError::ExternalError(error) => match error.downcast::<Error>() {
            Ok(error) => *error,
            Err(error) => Error::internal(error.to_string()),
        },
        ArrowError::DivideByZero => Error::division_by_zero("division by zero"),
        ArrowError::ArithmeticOverflow(message) => Error::out_of_range(message),
        ArrowError::CastError(message) | ArrowError::ParseError(message) => Error::invalid_text(message),
        other => Error::internal(other.to_string()),
    }
}
