//! Functions of dates, times and intervals: EXTRACT, date_trunc, age and their kin.

use arrow::array::Array;
use arrow::array::ArrayRef;
use arrow::array::AsArray;
use arrow::array::Decimal128Array;
use arrow::array::Float64Array;
use arrow::array::IntervalMonthDayNanoArray;
use arrow::array::TimestampMicrosecondArray;
use arrow::array::types::Date32Type;
use arrow::array::types::Decimal128Type;
use arrow::array::types::Float64Type;
use arrow::array::types::Int32Type;
use arrow::array::types::IntervalMonthDayNanoType;
use arrow::array::types::Time64MicrosecondType;
use arrow::array::types::TimestampMicrosecondType;
use arrow::datatypes::IntervalMonthDayNano;
use datafusion::common::DFSchema;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::ColumnarValue;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::ScalarFunctionArgs;
use datafusion::logical_expr::ScalarUDF;
use datafusion::logical_expr::lit;
use std::sync::Arc;

use crate::error::Error;
use crate::error::Result;
use crate::functions::cast::expr_type;
use crate::functions::columns::arrays;
use crate::functions::columns::binary;
use crate::functions::columns::finish;
use crate::functions::columns::result;
use crate::functions::columns::type_of;
use crate::functions::columns::unary;
use crate::functions::columns::zone;
use crate::functions::define::call;
use crate::functions::define::function;
use crate::functions::operator::scale_of;
use crate::functions::to_char;
use crate::types::SqlType;
use crate::types::calendar::Date;
use crate::types::calendar::MICROS_PER_DAY;
use crate::types::calendar::MICROS_PER_SECOND;
use crate::types::calendar::weekday_from_monday;
use crate::types::cast::is_text;
use crate::types::interval::Interval;
use crate::types::numeric::PRECISION_MAX;
use crate::types::zone::Zone;

/// What [`parts`] counts in: microseconds, or whole numbers.
const MICROS_SCALE: i8 = 6;

/// The functions of this file.
pub fn functions() -> Vec<ScalarUDF> {
    vec![
        span_function(),
        extract_function(),
        extract_fraction_function(),
        extract_millis_function(),
        function("date_part", &["datepart"], date_part_types, date_part),
        function("date_trunc", &["datetrunc"], date_trunc_types, date_trunc),
        function("age", &[], age_types, age),
        function("make_date", &[], make_date_types, make_date),
        function("to_timestamp", &[], to_timestamp_types, to_timestamp),
        function("to_char", &["date_format"], to_char_types, to_char::to_char),
        function("justify_hours", &[], interval_types, |args| justify(args, false, true)),
        function("justify_days", &[], interval_types, |args| justify(args, true, false)),
        function("justify_interval", &[], interval_types, |args| justify(args, true, true)),
    ]
}

/// An interval as the number that it is compared by.
pub fn span(interval: Expr) -> Expr {
    call(span_function(), vec![interval])
}

fn span_function() -> ScalarUDF {
    let types = |types: &[Option<SqlType>]| {
        (types.len() == 1).then(|| (vec![SqlType::Interval], SqlType::Numeric { precision: PRECISION_MAX, scale: 0 }))
    };
    function("interval_span", &[], types, |args| {
        let spans = unary::<IntervalMonthDayNanoType, Decimal128Type>(args, |value| Ok(Interval::from(value).span()))?;
        finish(spans, args)
    })
}

/// `EXTRACT(field FROM source)`: a `numeric` with as many digits after the point as the field has.
pub fn extract(args: Vec<Expr>) -> Expr {
    let field = match args.first() {
        Some(Expr::Literal(ScalarValue::Utf8(Some(field)), _)) => field.to_ascii_lowercase(),
        _ => String::new(),
    };
    let function = match field.as_str() {
        "second" | "seconds" | "epoch" | "julian" => extract_fraction_function(),
        "millisecond" | "milliseconds" => extract_millis_function(),
        _ => extract_function(),
    };
    call(function, args)
}

fn extract_function() -> ScalarUDF {
    function("extract", &[], |types| extract_types(types, 0), extract_digits)
}

fn extract_fraction_function() -> ScalarUDF {
    function("extract_fraction", &[], |types| extract_types(types, 6), extract_digits)
}

fn extract_millis_function() -> ScalarUDF {
    function("extract_millis", &[], |types| extract_types(types, 3), extract_digits)
}

/// With `scale` digits after the point; none for a date, whose parts are all whole.
fn extract_types(types: &[Option<SqlType>], scale: i8) -> Option<(Vec<SqlType>, SqlType)> {
    let arguments = part_types(types)?;
    let scale = if arguments[1] == SqlType::Date { 0 } else { scale };
    Some((arguments, SqlType::Numeric { precision: PRECISION_MAX, scale }))
}

fn date_part_types(types: &[Option<SqlType>]) -> Option<(Vec<SqlType>, SqlType)> {
    Some((part_types(types)?, SqlType::Double))
}

/// A field, something that has it, and perhaps a time zone.
fn part_types(types: &[Option<SqlType>]) -> Option<Vec<SqlType>> {
    let (source, rest) = match types {
        [_, source] => (source, None),
        [_, source, _] => (source, Some(SqlType::Text)),
        _ => return None,
    };
    use SqlType::*;
    let source = source.clone().unwrap_or(Timestamptz);
    if !matches!(source, Date | Time | Timestamp | Timestamptz | Interval) {
        return None;
    }
    Some([Text, source].into_iter().chain(rest).collect())
}

/// Adds the session's zone to calls whose answer depends on it.
pub fn with_zone(name: &str, mut args: Vec<Expr>, schema: &DFSchema, zone: Zone) -> Result<Vec<Expr>> {
    let arity = match name {
        "extract" | "extract_fraction" | "extract_millis" | "date_part" | "date_trunc" | "to_char" => 2,
        _ => return Ok(args),
    };
    if zone != Zone::UTC && args.len() == arity {
        let at = if name == "to_char" { 0 } else { 1 };
        if expr_type(&args[at], schema)? == Some(SqlType::Timestamptz) {
            args.push(lit(zone.to_string()));
        }
    }
    Ok(args)
}

/// The field with the digits of the call's type.
fn extract_digits(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let scale = SqlType::of_field(&args.return_field).map_or(0, |ty| scale_of(&ty));
    let unit = 10i128.pow((MICROS_SCALE - scale) as u32);
    let (values, nulls) = parts(args)?;
    let values = values.into_iter().map(|value| value / unit);
    let array = Decimal128Array::new(values.collect(), nulls).with_data_type(args.return_field.data_type().clone());
    result(Arc::new(array), &args.args)
}

fn date_part(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let (values, nulls) = parts(args)?;
    let array = Float64Array::new(values.into_iter().map(|value| value as f64 / 1e6).collect(), nulls);
    result(Arc::new(array), &args.args)
}

/// The field of every row, in millionths.
fn parts(args: &ScalarFunctionArgs) -> Result<(Vec<i128>, Option<arrow::buffer::NullBuffer>)> {
    let zone = zone(args, 2)?;
    let ty = type_of(args, 1)?;
    let columns = arrays(args)?;
    let fields = columns[0].as_string::<i32>();
    let source = &columns[1];
    let nulls = arrow::buffer::NullBuffer::union(fields.nulls(), source.nulls());
    let mut last: Option<(&str, Field)> = None;
    let mut values = Vec::with_capacity(source.len());
    for row in 0..source.len() {
        if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            values.push(0);
            continue;
        }
        let name = fields.value(row);
        let field = match last {
            Some((known, field)) if known == name => field,
            _ => Field::parse(name)?,
        };
        last = Some((name, field));
        values.push(part(field, &ty, source, row, &zone)?);
    }
    Ok((values, nulls))
}

/// A part of a date or time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Millennium,
    Century,
    Decade,
    Year,
    IsoYear,
    Quarter,
    Month,
    Week,
    Day,
    DayOfWeek,
    IsoDayOfWeek,
    DayOfYear,
    Hour,
    Minute,
    Second,
    Millisecond,
    Microsecond,
    Epoch,
    Timezone,
    TimezoneHour,
    TimezoneMinute,
}

impl Field {
    /// The field of this name.
    pub fn parse(name: &str) -> Result<Field> {
        Ok(match name.to_ascii_lowercase().as_str() {
            "millennium" | "millennia" => Field::Millennium,
            "century" | "centuries" => Field::Century,
            "decade" | "decades" => Field::Decade,
            "year" | "years" | "y" => Field::Year,
            "isoyear" => Field::IsoYear,
            "quarter" | "quarters" => Field::Quarter,
            "month" | "months" | "mon" => Field::Month,
            "week" | "weeks" => Field::Week,
            "day" | "days" | "d" => Field::Day,
            "dow" | "dayofweek" => Field::DayOfWeek,
            "isodow" => Field::IsoDayOfWeek,
            "doy" | "dayofyear" => Field::DayOfYear,
            "hour" | "hours" | "h" => Field::Hour,
            "minute" | "minutes" | "m" => Field::Minute,
            "second" | "seconds" | "s" => Field::Second,
            "millisecond" | "milliseconds" | "ms" => Field::Millisecond,
            "microsecond" | "microseconds" | "us" => Field::Microsecond,
            "epoch" => Field::Epoch,
            "timezone" => Field::Timezone,
            "timezone_hour" => Field::TimezoneHour,
            "timezone_minute" => Field::TimezoneMinute,
            _ => return Err(Error::invalid_parameter(format!("unit \"{name}\" not recognized for type timestamp"))),
        })
    }
}

fn no_field(field: Field, ty: &SqlType) -> Error {
    let name = format!("{field:?}").to_lowercase();
    Error::unsupported(format!("unit \"{name}\" not supported for type {ty}"))
}

fn part(field: Field, ty: &SqlType, source: &ArrayRef, row: usize, zone: &Zone) -> Result<i128> {
    const UNIT: i128 = 1_000_000;
    match ty {
        SqlType::Interval => interval_part(field, source.as_primitive::<IntervalMonthDayNanoType>().value(row).into()),
        SqlType::Time => time_part(field, source.as_primitive::<Time64MicrosecondType>().value(row))
            .ok_or_else(|| no_field(field, ty)),
        SqlType::Date => {
            let days = source.as_primitive::<Date32Type>().value(row) as i64;
            match field {
                Field::Epoch => Ok(days as i128 * MICROS_PER_DAY as i128),
                _ => date_field(field, days).ok_or_else(|| no_field(field, ty)),
            }
        }
        _ => {
            let moment = source.as_primitive::<TimestampMicrosecondType>().value(row);
            let offset = if *ty == SqlType::Timestamptz { zone.offset_at(moment) as i128 } else { 0 };
            let local = if *ty == SqlType::Timestamptz { zone.to_local(moment) } else { moment };
            let (days, time) = (local.div_euclid(MICROS_PER_DAY), local.rem_euclid(MICROS_PER_DAY));
            match field {
                Field::Epoch => Ok(moment as i128),
                Field::Timezone if *ty == SqlType::Timestamptz => Ok(offset * UNIT),
                Field::TimezoneHour if *ty == SqlType::Timestamptz => Ok(offset / 3600 * UNIT),
                Field::TimezoneMinute if *ty == SqlType::Timestamptz => Ok(offset / 60 % 60 * UNIT),
                _ => time_part(field, time).or_else(|| date_field(field, days)).ok_or_else(|| no_field(field, ty)),
            }
        }
    }
}

fn time_part(field: Field, micros: i64) -> Option<i128> {
    const UNIT: i128 = 1_000_000;
    let micros = micros as i128;
    Some(match field {
        Field::Hour => micros / (3600 * UNIT) * UNIT,
        Field::Minute => micros / (60 * UNIT) % 60 * UNIT,
        Field::Second => micros % (60 * UNIT),
        Field::Millisecond => micros % (60 * UNIT) * 1000,
        Field::Microsecond => micros % (60 * UNIT) * UNIT,
        Field::Epoch => micros,
        _ => return None,
    })
}

fn date_field(field: Field, days: i64) -> Option<i128> {
    let date = Date::from_days(days);
    let year = if date.year <= 0 { date.year - 1 } else { date.year };
    let counted = |span: i64| if year > 0 { (year + span - 1) / span } else { -((span - 1 - (year - 1 + 1)) / span) };
    let value = match field {
        Field::Millennium => counted(1000),
        Field::Century => counted(100),
        Field::Decade => date.year.div_euclid(10),
        Field::Year => year,
        Field::IsoYear => date.iso_week().0,
        Field::Quarter => (date.month as i64 - 1) / 3 + 1,
        Field::Month => date.month as i64,
        Field::Week => date.iso_week().1,
        Field::Day => date.day as i64,
        Field::DayOfWeek => (weekday_from_monday(days) + 1) % 7,
        Field::IsoDayOfWeek => weekday_from_monday(days) + 1,
        Field::DayOfYear => date.day_of_year(),
        _ => return None,
    };
    Some(value as i128 * 1_000_000)
}

fn interval_part(field: Field, interval: Interval) -> Result<i128> {
    const UNIT: i128 = 1_000_000;
    let (years, months) = ((interval.months / 12) as i128, (interval.months % 12) as i128);
    let micros = interval.micros as i128;
    Ok(match field {
        Field::Millennium => years / 1000 * UNIT,
        Field::Century => years / 100 * UNIT,
        Field::Decade => years / 10 * UNIT,
        Field::Year => years * UNIT,
        Field::Quarter => (months / 3 + 1) * UNIT,
        Field::Month => months * UNIT,
        Field::Day => interval.days as i128 * UNIT,
        Field::Epoch => {
            let days = years * 36525 * 864 + (months * 30 + interval.days as i128) * 86_400;
            days * UNIT + micros
        }
        _ => return time_part(field, interval.micros).ok_or_else(|| no_field(field, &SqlType::Interval)),
    })
}

fn date_trunc_types(types: &[Option<SqlType>]) -> Option<(Vec<SqlType>, SqlType)> {
    let mut wanted = part_types(types)?;
    wanted[1] = match &wanted[1] {
        SqlType::Date => SqlType::Timestamptz,
        SqlType::Time => return None,
        ty => ty.clone(),
    };
    let result = wanted[1].clone();
    Some((wanted, result))
}

fn date_trunc(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let zone = zone(args, 2)?;
    let ty = type_of(args, 1)?;
    let columns = arrays(args)?;
    let fields = columns[0].as_string::<i32>();
    let rows = columns[1].len();
    let field = |row: usize| if fields.is_null(row) { Ok(None) } else { Field::parse(fields.value(row)).map(Some) };
    if ty == SqlType::Interval {
        let source = columns[1].as_primitive::<IntervalMonthDayNanoType>();
        let truncated = (0..rows).map(|row| match field(row)?.filter(|_| source.is_valid(row)) {
            Some(field) => truncate_interval(field, source.value(row).into())?.arrow().map(Some),
            None => Ok(None),
        });
        let array: IntervalMonthDayNanoArray = truncated.collect::<Result<_>>()?;
        return finish(array, args);
    }
    let source = columns[1].as_primitive::<TimestampMicrosecondType>();
    let zoned = ty == SqlType::Timestamptz;
    let truncated = (0..rows).map(|row| match field(row)?.filter(|_| source.is_valid(row)) {
        Some(_) if matches!(source.value(row), i64::MAX | i64::MIN) => Ok(Some(source.value(row))),
        Some(field) if zoned => Ok(Some(zone.to_utc(truncate(field, zone.to_local(source.value(row)))?))),
        Some(field) => truncate(field, source.value(row)).map(Some),
        None => Ok(None),
    });
    let array: TimestampMicrosecondArray = truncated.collect::<Result<_>>()?;
    finish(array, args)
}

fn truncate(field: Field, local: i64) -> Result<i64> {
    let to = |unit: i64| local - local.rem_euclid(unit);
    let days = local.div_euclid(MICROS_PER_DAY);
    let date = Date::from_days(days);
    let first = |year: i64, month: u32| Date { year, month, day: 1 }.days() * MICROS_PER_DAY;
    let block = |span: i64| (date.year - 1).div_euclid(span) * span + 1;
    Ok(match field {
        Field::Microsecond => local,
        Field::Millisecond => to(1000),
        Field::Second => to(MICROS_PER_SECOND),
        Field::Minute => to(60 * MICROS_PER_SECOND),
        Field::Hour => to(3600 * MICROS_PER_SECOND),
        Field::Day => to(MICROS_PER_DAY),
        Field::Week => (days - weekday_from_monday(days)) * MICROS_PER_DAY,
        Field::Month => first(date.year, date.month),
        Field::Quarter => first(date.year, (date.month - 1) / 3 * 3 + 1),
        Field::Year => first(date.year, 1),
        Field::Decade => first(date.year.div_euclid(10) * 10, 1),
        Field::Century => first(block(100), 1),
        Field::Millennium => first(block(1000), 1),
        _ => return Err(no_field(field, &SqlType::Timestamp)),
    })
}

fn truncate_interval(field: Field, interval: Interval) -> Result<Interval> {
    let Interval { months, days, micros } = interval;
    let by_months = |unit: i32| Interval { months: months / unit * unit, days: 0, micros: 0 };
    let by_time = |unit: i64| Interval { months, days, micros: micros / unit * unit };
    Ok(match field {
        Field::Microsecond => interval,
        Field::Millisecond => by_time(1000),
        Field::Second => by_time(MICROS_PER_SECOND),
        Field::Minute => by_time(60 * MICROS_PER_SECOND),
        Field::Hour => by_time(3600 * MICROS_PER_SECOND),
        Field::Day => Interval { months, days, micros: 0 },
        Field::Month => by_months(1),
        Field::Quarter => by_months(3),
        Field::Year => by_months(12),
        Field::Decade => by_months(120),
        Field::Century => by_months(1200),
        Field::Millennium => by_months(12_000),
        _ => return Err(no_field(field, &SqlType::Interval)),
    })
}

fn age_types(types: &[Option<SqlType>]) -> Option<(Vec<SqlType>, SqlType)> {
    let stamps = types.len() == 2
        && types
            .iter()
            .flatten()
            .all(|ty| matches!(ty, SqlType::Timestamp | SqlType::Timestamptz | SqlType::Date) || is_text(ty));
    stamps.then(|| (vec![SqlType::Timestamp; 2], SqlType::Interval))
}

/// The difference in years, months, days and time.
fn age(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    type Stamps = TimestampMicrosecondType;
    let ages = binary::<Stamps, Stamps, IntervalMonthDayNanoType>(args, |a, b| {
        let (late, early) = if a >= b { (a, b) } else { (b, a) };
        let (late_date, early_date) = (date_of(late), date_of(early));
        let mut micros = late.rem_euclid(MICROS_PER_DAY) - early.rem_euclid(MICROS_PER_DAY);
        let mut days = late_date.day as i32 - early_date.day as i32;
        let mut months =
            ((late_date.year - early_date.year) * 12 + late_date.month as i64 - early_date.month as i64) as i32;
        if micros < 0 {
            micros += MICROS_PER_DAY;
            days -= 1;
        }
        if days < 0 {
            let lent = if a >= b { early_date } else { late_date.plus_months(-1) };
            days += crate::types::calendar::days_in_month(lent.year, lent.month) as i32;
            months -= 1;
        }
        let age = Interval { months, days, micros };
        if a >= b { age.arrow() } else { age.negated()?.arrow() }
    })?;
    finish(ages, args)
}

fn date_of(local: i64) -> Date {
    Date::from_days(local.div_euclid(MICROS_PER_DAY))
}

fn make_date_types(types: &[Option<SqlType>]) -> Option<(Vec<SqlType>, SqlType)> {
    (types.len() == 3).then(|| (vec![SqlType::Integer; 3], SqlType::Date))
}

fn make_date(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let columns = arrays(args)?;
    let [years, months, days] = [0, 1, 2].map(|at| columns[at].as_primitive::<Int32Type>());
    let dates = (0..years.len()).map(|row| {
        if years.is_null(row) || months.is_null(row) || days.is_null(row) {
            return Ok(None);
        }
        let (year, month, day) = (years.value(row), months.value(row), days.value(row));
        let date = Date { year: year as i64 + (year < 0) as i64, month: month as u32, day: day as u32 };
        let valid = year != 0 && date.is_valid();
        let days = valid.then(|| crate::types::datetime::date_in_range(date)).flatten();
        let error = || Error::datetime_overflow(format!("date field value out of range: {year}-{month:02}-{day:02}"));
        days.map(Some).ok_or_else(error)
    });
    finish(dates.collect::<Result<arrow::array::Date32Array>>()?, args)
}

fn to_timestamp_types(types: &[Option<SqlType>]) -> Option<(Vec<SqlType>, SqlType)> {
    (types.len() == 1).then(|| (vec![SqlType::Double], SqlType::Timestamptz))
}

fn to_timestamp(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let moments = unary::<Float64Type, TimestampMicrosecondType>(args, |seconds| {
        let micros = (seconds * 1e6).round_ties_even();
        match micros {
            f64::INFINITY => Ok(i64::MAX),
            f64::NEG_INFINITY => Ok(i64::MIN),
            micros if micros.abs() < 9.2e18 => Ok(micros as i64),
            _ => Err(Error::datetime_overflow(format!("timestamp out of range: \"{seconds}\""))),
        }
    })?;
    finish(moments, args)
}

fn to_char_types(types: &[Option<SqlType>]) -> Option<(Vec<SqlType>, SqlType)> {
    let (source, zone) = match types {
        [source, _] => (source, None),
        [source, _, _] => (source, Some(SqlType::Text)),
        _ => return None,
    };
    use SqlType::*;
    let source = match source.clone()? {
        Date => Timestamp,
        ty @ (Timestamp | Timestamptz | Interval | Numeric { .. } | Double) => ty,
        Time => Interval,
        SmallInt | Integer | BigInt => Numeric { precision: 38, scale: 0 },
        Real => Double,
        _ => return None,
    };
    Some(([source, Text].into_iter().chain(zone).collect(), Text))
}

fn interval_types(types: &[Option<SqlType>]) -> Option<(Vec<SqlType>, SqlType)> {
    (types.len() == 1).then(|| (vec![SqlType::Interval], SqlType::Interval))
}

/// Turns 24 hours into days, and 30 days into months.
fn justify(args: &ScalarFunctionArgs, months: bool, hours: bool) -> Result<ColumnarValue> {
    let justified =
        unary::<IntervalMonthDayNanoType, IntervalMonthDayNanoType>(args, |value: IntervalMonthDayNano| {
            let Interval { months: mut month, days: mut day, mut micros } = Interval::from(value);
            if hours {
                day += (micros / MICROS_PER_DAY) as i32;
                micros %= MICROS_PER_DAY;
            }
            if months {
                month += day / 30;
                day %= 30;
            }
            if months && month > 0 && (day < 0 || day == 0 && micros < 0) {
                day += 30;
                month -= 1;
            } else if months && month < 0 && (day > 0 || day == 0 && micros > 0) {
                day -= 30;
                month += 1;
            }
            if hours && day > 0 && micros < 0 {
                micros += MICROS_PER_DAY;
                day -= 1;
            } else if hours && day < 0 && micros > 0 {
                micros -= MICROS_PER_DAY;
                day += 1;
            }
            Interval { months: month, days: day, micros }.arrow()
        })?;
    finish(justified, args)
}
