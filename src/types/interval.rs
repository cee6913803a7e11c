//! Intervals: months, days and microseconds that are never mixed up, read and written in the style of Postgres.

use std::fmt::Write;

use arrow::datatypes::IntervalMonthDayNano;

use crate::error::Error;
use crate::error::Result;
use crate::types::calendar::MICROS_PER_SECOND;
use crate::types::datetime::fraction_micros;
use crate::types::datetime::write_fraction;
use crate::types::numeric::is_space;

/// A span of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interval {
    pub months: i32,
    pub days: i32,
    pub micros: i64,
}

impl From<IntervalMonthDayNano> for Interval {
    fn from(value: IntervalMonthDayNano) -> Interval {
        Interval { months: value.months, days: value.days, micros: value.nanoseconds / 1000 }
    }
}

/// The error of an interval beyond its range.
pub fn out_of_range() -> Error {
    Error::datetime_overflow("interval out of range")
}

impl Interval {
    /// The interval as Arrow has it: its time reaches 292 years only.
    pub fn arrow(&self) -> Result<IntervalMonthDayNano> {
        let nanos = self.micros.checked_mul(1000).ok_or_else(out_of_range)?;
        Ok(IntervalMonthDayNano::new(self.months, self.days, nanos))
    }

    /// What intervals are compared by: microseconds, months of 30 days, days of 24 hours.
    pub fn span(&self) -> i128 {
        let days = self.months as i128 * 30 + self.days as i128;
        days * 86_400 * MICROS_PER_SECOND as i128 + self.micros as i128
    }

    /// The sum.
    pub fn plus(&self, other: &Interval) -> Result<Interval> {
        Ok(Interval {
            months: self.months.checked_add(other.months).ok_or_else(out_of_range)?,
            days: self.days.checked_add(other.days).ok_or_else(out_of_range)?,
            micros: self.micros.checked_add(other.micros).ok_or_else(out_of_range)?,
        })
    }

    /// The opposite.
    pub fn negated(&self) -> Result<Interval> {
        Ok(Interval {
            months: self.months.checked_neg().ok_or_else(out_of_range)?,
            days: self.days.checked_neg().ok_or_else(out_of_range)?,
            micros: self.micros.checked_neg().ok_or_else(out_of_range)?,
        })
    }

    /// The product: fractions of months go to days, those of days to time, as in Postgres.
    pub fn times(&self, factor: f64) -> Result<Interval> {
        const DAY: f64 = 86_400.0;
        let months = self.months as f64 * factor;
        let days = self.days as f64 * factor;
        let whole_months = checked_i32(months.trunc())?;
        let whole_days = checked_i32(days.trunc())?;
        let spilled = tidy((months - months.trunc()) * 30.0);
        let mut day = whole_days;
        let mut seconds = tidy((days - days.trunc() + spilled - spilled.trunc()) * DAY);
        if seconds.abs() >= DAY {
            day = day.checked_add((seconds / DAY) as i32).ok_or_else(out_of_range)?;
            seconds -= (seconds / DAY).trunc() * DAY;
        }
        day = day.checked_add(spilled as i32).ok_or_else(out_of_range)?;
        let micros = (self.micros as f64 * factor + seconds * 1e6).round_ties_even();
        if micros.is_nan() || micros.abs() >= i64::MAX as f64 {
            return Err(out_of_range());
        }
        Ok(Interval { months: whole_months, days: day, micros: micros as i64 })
    }

    /// Writes it: `1 year 2 mons 3 days 04:05:06.7`.
    pub fn write(&self, out: &mut String) {
        let start = out.len();
        let mut before = false;
        for (value, unit) in [(self.months / 12, "year"), (self.months % 12, "mon"), (self.days, "day")] {
            if value != 0 {
                let space = if out.len() > start { " " } else { "" };
                let sign = if before && value > 0 { "+" } else { "" };
                let plural = if value == 1 { "" } else { "s" };
                write!(out, "{space}{sign}{value} {unit}{plural}").expect("a String takes everything");
                before = value < 0;
            }
        }
        if out.len() == start || self.micros != 0 {
            let space = if out.len() > start { " " } else { "" };
            let sign = if self.micros < 0 {
                "-"
            } else if before {
                "+"
            } else {
                ""
            };
            let micros = self.micros.unsigned_abs();
            let seconds = micros / 1_000_000;
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            write!(out, "{space}{sign}{hours:02}:{minutes:02}:{:02}", seconds % 60).expect("a String takes everything");
            write_fraction((micros % 1_000_000) as i64, out);
        }
    }

    /// Reads one: `1 day 2 hours`, `1 day 02:00:00`, `1-2`, `P1DT2H`, `3 days ago`.
    pub fn parse(text: &str) -> Result<Interval> {
        let trimmed = text.trim_matches(is_space);
        if let Some(iso) = trimmed.strip_prefix(['P', 'p']) {
            return parse_iso(iso).ok_or_else(|| invalid(text))?;
        }
        let mut sum = Sum::default();
        let mut pending: Option<&str> = None;
        let mut ago = false;
        let mut any = false;
        for token in tokens(trimmed) {
            if ago {
                return Err(invalid(text));
            }
            let first = token.as_bytes()[0];
            if token.contains(':') {
                if let Some(days) = pending.take() {
                    sum.add(days, "day", text)?;
                }
                sum.add_clock(token, text)?;
            } else if first.is_ascii_alphabetic() {
                match pending.take() {
                    Some(number) => sum.add(number, token, text)?,
                    None if token.eq_ignore_ascii_case("ago") && any => ago = true,
                    None => return Err(invalid(text)),
                }
            } else if token.get(1..).is_some_and(|rest| rest.contains('-')) {
                sum.add_years_and_months(token, text)?;
            } else if pending.replace(token).is_some() {
                return Err(invalid(text));
            }
            any = true;
        }
        if let Some(number) = pending {
            sum.add(number, "second", text)?;
        }
        if !any {
            return Err(invalid(text));
        }
        let interval = sum.interval()?;
        if ago { interval.negated() } else { Ok(interval) }
    }

    /// Reads one of which only `unit` was left unsaid: `INTERVAL '5' MINUTE`.
    pub fn parse_unit(text: &str, unit: &str) -> Result<Interval> {
        let number = text.trim_matches(is_space);
        let plain = number.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.'));
        if !plain || number.is_empty() || number[1..].contains('-') {
            return Interval::parse(text);
        }
        let mut sum = Sum::default();
        sum.add(number, unit, text)?;
        sum.interval()
    }
}

/// Rounds away the noise of binary fractions below a microsecond.
fn tidy(value: f64) -> f64 {
    (value * 1e6).round_ties_even() / 1e6
}

fn checked_i32(value: f64) -> Result<i32> {
    let fits = value >= i32::MIN as f64 && value <= i32::MAX as f64;
    if fits { Ok(value as i32) } else { Err(out_of_range()) }
}

fn invalid(text: &str) -> Error {
    Error::invalid_datetime(format!("invalid input syntax for type interval: \"{text}\""))
}

fn field_overflow(text: &str) -> Error {
    Error::interval_overflow(format!("interval field value out of range: \"{text}\""))
}

/// Splits at blanks and between a number and its unit.
fn tokens(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| is_space(c) || c == '@').filter(|part| !part.is_empty()).flat_map(|part| {
        let number = part.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'));
        let at = part.find(|c: char| c.is_ascii_alphabetic()).filter(|_| number && !part.contains(':'));
        let (number, unit) = part.split_at(at.unwrap_or(part.len()));
        [number, unit].into_iter().filter(|piece| !piece.is_empty())
    })
}

/// The parts of an interval while it is read; fractions have been passed down already.
#[derive(Default)]
struct Sum {
    months: i128,
    days: i128,
    micros: i128,
    /// The units that were named; each may be once.
    named: Vec<(i128, i128, i128)>,
}

impl Sum {
    fn add(&mut self, number: &str, unit: &str, text: &str) -> Result<()> {
        const SECOND: i128 = MICROS_PER_SECOND as i128;
        let unit = unit.trim_end_matches('.').to_ascii_lowercase();
        let (months, days, micros) = match unit.as_str() {
            "millennium" | "millennia" | "mil" | "mils" => (12_000, 0, 0),
            "century" | "centuries" | "cent" | "c" => (1_200, 0, 0),
            "decade" | "decades" | "dec" | "decs" => (120, 0, 0),
            "year" | "years" | "yr" | "yrs" | "y" => (12, 0, 0),
            "month" | "months" | "mon" | "mons" => (1, 0, 0),
            "week" | "weeks" | "w" => (0, 7, 0),
            "day" | "days" | "d" => (0, 1, 0),
            "hour" | "hours" | "hr" | "hrs" | "h" => (0, 0, 3600 * SECOND),
            "minute" | "minutes" | "min" | "mins" | "m" => (0, 0, 60 * SECOND),
            "second" | "seconds" | "sec" | "secs" | "s" => (0, 0, SECOND),
            "millisecond" | "milliseconds" | "msec" | "msecs" | "ms" => (0, 0, 1000),
            "microsecond" | "microseconds" | "usec" | "usecs" | "us" => (0, 0, 1),
            _ => return Err(invalid(text)),
        };
        if self.named.contains(&(months, days, micros)) {
            return Err(invalid(text));
        }
        self.named.push((months, days, micros));
        let (whole, fraction) = split_number(number).ok_or_else(|| invalid(text))?;
        // Years, months and days have 32 bits each.
        let calendar = whole * if months >= 12 { months / 12 } else { months + days };
        if whole.abs() > i64::MAX as i128 || calendar.abs() > i32::MAX as i128 {
            return Err(field_overflow(text));
        }
        self.months += whole * months;
        self.days += whole * days;
        self.micros += whole * micros;
        if fraction != 0.0 {
            let fraction_months = fraction * months as f64;
            if months >= 12 {
                self.months += fraction_months.round_ties_even() as i128;
            } else {
                let days = fraction_months * 30.0 + fraction * days as f64;
                self.days += tidy(days).trunc() as i128;
                let rest = tidy(days) - tidy(days).trunc();
                self.micros += (rest * 86_400e6 + fraction * micros as f64).round_ties_even() as i128;
            }
        }
        Ok(())
    }

    /// `[+-]hh:mm[:ss[.f]]`
    fn add_clock(&mut self, token: &str, text: &str) -> Result<()> {
        let (sign, clock) = match token.as_bytes()[0] {
            b'-' => (-1, &token[1..]),
            b'+' => (1, &token[1..]),
            _ => (1, token),
        };
        let (clock, fraction) =
            clock.split_once('.').map_or((clock, None), |(clock, fraction)| (clock, Some(fraction)));
        let micros = fraction_micros(fraction.unwrap_or("")).ok_or_else(|| invalid(text))?;
        if !clock.bytes().all(|byte| byte.is_ascii_digit() || byte == b':') {
            return Err(invalid(text));
        }
        let part = |part: &str| {
            part.parse::<i64>().map_err(|_| if part.is_empty() { invalid(text) } else { field_overflow(text) })
        };
        let parts = clock.split(':').map(part).collect::<Result<Vec<_>>>()?;
        let (hours, minutes, seconds) = match parts.as_slice() {
            [minutes, seconds] if fraction.is_some() => (0, *minutes, *seconds),
            [hours, minutes] => (*hours, *minutes, 0),
            [hours, minutes, seconds] => (*hours, *minutes, *seconds),
            _ => return Err(invalid(text)),
        };
        if minutes > 59 || seconds > 59 {
            return Err(field_overflow(text));
        }
        let whole = hours as i128 * 3600 + minutes as i128 * 60 + seconds as i128;
        self.micros += sign * (whole * MICROS_PER_SECOND as i128 + micros as i128);
        Ok(())
    }

    /// `[+-]years-months`
    fn add_years_and_months(&mut self, token: &str, text: &str) -> Result<()> {
        let (sign, body) = match token.as_bytes()[0] {
            b'-' => (-1, &token[1..]),
            b'+' => (1, &token[1..]),
            _ => (1, token),
        };
        let parts = body.split_once('-').and_then(|(y, m)| Some((y.parse::<u32>().ok()?, m.parse::<u32>().ok()?)));
        let (years, months) = parts.ok_or_else(|| invalid(text))?;
        if months > 11 {
            return Err(field_overflow(text));
        }
        self.months += sign * (years as i128 * 12 + months as i128);
        Ok(())
    }

    fn interval(&self) -> Result<Interval> {
        Ok(Interval {
            months: i32::try_from(self.months).map_err(|_| out_of_range())?,
            days: i32::try_from(self.days).map_err(|_| out_of_range())?,
            micros: i64::try_from(self.micros).map_err(|_| out_of_range())?,
        })
    }
}

/// The whole part and the fraction of `-1.5`.
fn split_number(text: &str) -> Option<(i128, f64)> {
    let negative = text.starts_with('-');
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let digits = whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
    if !digits || whole.len() + fraction.len() == 0 {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction: f64 = if fraction.is_empty() { 0.0 } else { format!("0.{fraction}").parse().ok()? };
    Some(if negative { (-whole, -fraction) } else { (whole, fraction) })
}

/// ISO 8601 with designators, after the `P`. `None`: malformed.
fn parse_iso(text: &str) -> Option<Result<Interval>> {
    let mut sum = Sum::default();
    let mut in_time = false;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        if let Some(time) = rest.strip_prefix(['T', 't']) {
            in_time = true;
            rest = time;
            continue;
        }
        let at = rest.find(|c: char| c.is_ascii_alphabetic())?;
        let unit = match (in_time, rest.as_bytes()[at].to_ascii_uppercase()) {
            (false, b'Y') => "year",
            (false, b'M') => "month",
            (false, b'W') => "week",
            (false, b'D') => "day",
            (true, b'H') => "hour",
            (true, b'M') => "minute",
            (true, b'S') => "second",
            _ => return None,
        };
        if let Err(error) = sum.add(&rest[..at], unit, text) {
            return Some(Err(error));
        }
        rest = &rest[at + 1..];
    }
    Some(sum.interval())
}
