//! `to_char` with Postgres' patterns.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::Array;
use arrow::array::ArrayRef;
use arrow::array::AsArray;
use arrow::array::StringBuilder;
use arrow::array::types::Decimal128Type;
use arrow::array::types::Float64Type;
use arrow::array::types::IntervalMonthDayNanoType;
use arrow::array::types::TimestampMicrosecondType;
use datafusion::logical_expr::ColumnarValue;
use datafusion::logical_expr::ScalarFunctionArgs;

use crate::error::Result;
use crate::functions::columns::arrays;
use crate::functions::columns::result;
use crate::functions::columns::type_of;
use crate::functions::columns::zone;
use crate::types::SqlType;
use crate::types::calendar::Date;
use crate::types::calendar::MICROS_PER_DAY;
use crate::types::calendar::MICROS_PER_SECOND;
use crate::types::calendar::MONTHS;
use crate::types::calendar::WEEKDAYS;
use crate::types::calendar::weekday_from_monday;
use crate::types::datetime::write_offset;
use crate::types::interval::Interval;
use crate::types::numeric::parse_decimal;
use crate::types::numeric::rescale_decimal;
use crate::types::zone::Zone;

/// `to_char(value, pattern)`.
pub fn to_char(args: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let ty = type_of(args, 0)?;
    let zone = zone(args, 2)?;
    let columns = arrays(args)?;
    let patterns = columns[1].as_string::<i32>();
    let mut builder = StringBuilder::new();
    let mut text = String::new();
    let mut dates = DatePattern::parse("");
    // Neighbours often lie in one period of what the pattern shows: the text is then that of the row before.
    let mut before = None;
    for row in 0..patterns.len() {
        if patterns.is_null(row) || columns[0].is_null(row) {
            builder.append_null();
            continue;
        }
        if patterns.value(row) != dates.text {
            dates = DatePattern::parse(patterns.value(row));
            before = None;
        }
        let period = dates.period_of(&ty, &columns[0], row, &zone);
        if period.is_none() || period != before {
            text.clear();
            write_value(&ty, &columns[0], row, &zone, &dates, &mut text)?;
            before = period;
        }
        builder.append_value(&text);
    }
    result(Arc::new(builder.finish()), &args.args)
}

fn write_value(
    ty: &SqlType,
    values: &ArrayRef,
    row: usize,
    zone: &Zone,
    dates: &DatePattern<'_>,
    out: &mut String,
) -> Result<()> {
    let pattern = dates.text;
    match ty {
        SqlType::Numeric { scale, .. } => {
            let value = values.as_primitive::<Decimal128Type>().value(row);
            NumberPattern::parse(pattern).write(value, *scale, out);
        }
        SqlType::Double => {
            let value = values.as_primitive::<Float64Type>().value(row);
            let number = NumberPattern::parse(pattern);
            let decimal = parse_decimal(&format!("{value:.14e}"), 38, number.decimals().min(18) as i8)?;
            number.write(decimal, number.decimals().min(18) as i8, out);
        }
        SqlType::Interval => {
            let value = Interval::from(values.as_primitive::<IntervalMonthDayNanoType>().value(row));
            let date = Date {
                year: (value.months / 12) as i64,
                month: (value.months % 12).unsigned_abs(),
                day: value.days.unsigned_abs(),
            };
            Wall { date, micros: value.micros, offset: 0, zone: "" }.write(dates, out);
        }
        _ => {
            let moment = values.as_primitive::<TimestampMicrosecondType>().value(row);
            let zoned = *ty == SqlType::Timestamptz;
            let local = if zoned { zone.to_local(moment) } else { moment };
            let wall = Wall {
                date: Date::from_days(local.div_euclid(MICROS_PER_DAY)),
                micros: local.rem_euclid(MICROS_PER_DAY),
                offset: if zoned { zone.offset_at(moment) } else { 0 },
                zone: if zoned { "UTC" } else { "" },
            };
            match zone {
                Zone::Named(named) if zoned => Wall { zone: named.name(), ..wall }.write(dates, out),
                _ => wall.write(dates, out),
            }
        }
    }
    Ok(())
}

/// What the clock on the wall and the calendar show.
#[derive(Clone, Copy)]
struct Wall<'a> {
    date: Date,
    micros: i64,
    offset: i32,
    zone: &'a str,
}

/// The keywords of date patterns; of two that begin alike the longer stands first.
const KEYWORDS: [&str; 59] = [
    "SSSSS", "SSSS", "Y,YYY", "A.D.", "a.d.", "B.C.", "b.c.", "A.M.", "a.m.", "P.M.", "p.m.", "HH24", "HH12", "IYYY",
    "IDDD", "YYYY", "MONTH", "Month", "month", "AD", "ad", "BC", "bc", "AM", "am", "PM", "pm", "HH", "MI", "SS", "MS",
    "US", "FF1", "FF2", "FF3", "FF4", "FF5", "FF6", "YYY", "IYY", "YY", "IY", "DAY", "Day", "day", "DDD", "MON", "Mon",
    "mon", "MM", "DY", "Dy", "dy", "DD", "ID", "WW", "IW", "CC", "TZH",
];

/// Those of one letter, and those that must be tried after all others.
const SHORT_KEYWORDS: [&str; 12] = ["TZM", "TZ", "tz", "OF", "RM", "rm", "Y", "I", "D", "W", "Q", "J"];

/// A pattern for dates and times, taken apart.
struct DatePattern<'a> {
    text: &'a str,
    pieces: Vec<Piece<'a>>,
    /// Local times that lie in one period of so many microseconds, counted from 1970, look the same.
    period_micros: i64,
}

/// A part of a pattern.
enum Piece<'a> {
    /// Shown as it is.
    Text(&'a str),
    /// A keyword, as it is written; without `fill` no blanks and zeroes are added.
    Keyword { keyword: &'static str, written: &'a str, fill: bool },
    /// The ending of the ordinal number before, in upper or lower case.
    Ordinal { upper: bool },
}

impl<'a> DatePattern<'a> {
    fn parse(text: &'a str) -> DatePattern<'a> {
        let mut pattern = DatePattern { text, pieces: Vec::new(), period_micros: MICROS_PER_DAY };
        let mut rest = text;
        let mut fill = true;
        while let Some(c) = rest.chars().next() {
            if let Some(more) = rest.strip_prefix("FM").or_else(|| rest.strip_prefix("fm")) {
                fill = false;
                rest = more;
                continue;
            }
            if let Some(more) = rest.strip_prefix("TM").or_else(|| rest.strip_prefix("FX")) {
                rest = more;
                continue;
            }
            if let (Some(Piece::Keyword { keyword, .. }), Some(ordinal)) =
                (pattern.pieces.last(), ["TH", "th"].iter().find(|th| rest.starts_with(**th)))
                && is_number(keyword)
            {
                pattern.pieces.push(Piece::Ordinal { upper: *ordinal == "TH" });
                rest = &rest[2..];
                continue;
            }
            if c == '"' {
                let quoted = &rest[1..];
                let end = quoted.find('"').unwrap_or(quoted.len());
                pattern.pieces.push(Piece::Text(&quoted[..end]));
                rest = quoted.get(end + 1..).unwrap_or("");
                continue;
            }
            match KEYWORDS.iter().chain(&SHORT_KEYWORDS).find(|keyword| matches_keyword(rest, keyword)) {
                Some(keyword) => {
                    let (written, more) = rest.split_at(keyword.len());
                    pattern.pieces.push(Piece::Keyword { keyword, written, fill });
                    pattern.period_micros = pattern.period_micros.min(period_of(keyword));
                    rest = more;
                    fill = true;
                }
                None => {
                    let (text, more) = rest.split_at(c.len_utf8());
                    pattern.pieces.push(Piece::Text(text));
                    rest = more;
                }
            }
        }
        pattern
    }

    /// The period in which a row's time lies, if all times in it look the same.
    fn period_of(&self, ty: &SqlType, values: &ArrayRef, row: usize, zone: &Zone) -> Option<i64> {
        let alike = *ty == SqlType::Timestamp || (*ty == SqlType::Timestamptz && *zone == Zone::UTC);
        let moment = || values.as_primitive::<TimestampMicrosecondType>().value(row);
        alike.then(|| moment().div_euclid(self.period_micros))
    }
}

/// So many microseconds, counted from 1970, have the same value of a keyword.
fn period_of(keyword: &str) -> i64 {
    match keyword {
        "HH24" | "HH12" | "HH" | "AM" | "am" | "PM" | "pm" | "A.M." | "a.m." | "P.M." | "p.m." => {
            3600 * MICROS_PER_SECOND
        }
        "MI" => 60 * MICROS_PER_SECOND,
        "SS" | "SSSS" | "SSSSS" => MICROS_PER_SECOND,
        "MS" | "US" | "FF1" | "FF2" | "FF3" | "FF4" | "FF5" | "FF6" => 1,
        _ => MICROS_PER_DAY,
    }
}

/// Whether a keyword stands for a number.
fn is_number(keyword: &str) -> bool {
    let wall = Wall { date: Date::from_days(0), micros: 0, offset: 0, zone: "" };
    wall.keyword(keyword, keyword, true, &mut String::new()).is_some()
}

impl Wall<'_> {
    fn write(&self, pattern: &DatePattern<'_>, out: &mut String) {
        let mut last = 0;
        for piece in &pattern.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Keyword { keyword, written, fill } => {
                    last = self.keyword(written, keyword, *fill, out).unwrap_or_default();
                }
                Piece::Ordinal { upper: true } => out.push_str(&ordinal_suffix(last).to_uppercase()),
                Piece::Ordinal { upper: false } => out.push_str(ordinal_suffix(last)),
            }
        }
    }

    /// Writes what a keyword stands for; answers the number, if it is one.
    fn keyword(&self, written: &str, keyword: &str, fill: bool, out: &mut String) -> Option<i64> {
        let seconds = self.micros / MICROS_PER_SECOND;
        let (hour, micros) = (seconds / 3600, (self.micros % MICROS_PER_SECOND).abs());
        let twelve = if hour % 12 == 0 { 12 } else { hour % 12 };
        let year = if self.date.year <= 0 { 1 - self.date.year } else { self.date.year };
        let days = self.date.days();
        let weekday = weekday_from_monday(days);
        let (value, width) = match keyword {
            "HH24" => (hour, 2),
            "HH12" | "HH" => (twelve, 2),
            "MI" => (seconds / 60 % 60, 2),
            "SS" => (seconds % 60, 2),
            "SSSSS" | "SSSS" => (seconds, 0),
            "MS" | "FF3" => (micros / 1000, 3),
            "US" | "FF6" => (micros, 6),
            "FF1" => (micros / 100_000, 1),
            "FF2" => (micros / 10_000, 2),
            "FF4" => (micros / 100, 4),
            "FF5" => (micros / 10, 5),
            "YYYY" => (year, 4),
            "YYY" => (year % 1000, 3),
            "YY" => (year % 100, 2),
            "Y" => (year % 10, 1),
            "IYYY" => (self.date.iso_week().0, 4),
            "IYY" => (self.date.iso_week().0 % 1000, 3),
            "IY" => (self.date.iso_week().0 % 100, 2),
            "I" => (self.date.iso_week().0 % 10, 1),
            "MM" => (self.date.month as i64, 2),
            "DD" => (self.date.day as i64, 2),
            "DDD" => (self.date.day_of_year(), 3),
            "IDDD" => ((self.date.iso_week().1 - 1) * 7 + weekday + 1, 3),
            "D" => ((weekday + 1) % 7 + 1, 1),
            "ID" => (weekday + 1, 1),
            "WW" => ((self.date.day_of_year() - 1) / 7 + 1, 2),
            "W" => ((self.date.day as i64 - 1) / 7 + 1, 1),
            "IW" => (self.date.iso_week().1, 2),
            "CC" => ((year + 99) / 100, 2),
            "Q" => ((self.date.month as i64 - 1) / 3 + 1, 1),
            "J" => (days + 2_440_588, 0),
            _ => {
                self.word(written, keyword, fill, out);
                return None;
            }
        };
        let width = if fill { width } else { 0 };
        write!(out, "{value:0width$}").expect("a String takes everything");
        Some(value)
    }

    fn word(&self, written: &str, keyword: &str, fill: bool, out: &mut String) {
        let afternoon = self.micros / MICROS_PER_SECOND / 3600 % 24 >= 12;
        let before = self.date.year <= 0;
        let month = MONTHS[(self.date.month.max(1) - 1) as usize];
        let day = WEEKDAYS[weekday_from_monday(self.date.days()) as usize];
        let padded = |name: &str| if fill { format!("{name:<9}") } else { name.to_string() };
        let text = match keyword.to_ascii_uppercase().as_str() {
            "A.M." | "P.M." => if afternoon { "p.m." } else { "a.m." }.to_string(),
            "AM" | "PM" => if afternoon { "pm" } else { "am" }.to_string(),
            "A.D." | "B.C." => if before { "b.c." } else { "a.d." }.to_string(),
            "AD" | "BC" => if before { "bc" } else { "ad" }.to_string(),
            "MONTH" => padded(month),
            "MON" => month[..3].to_string(),
            "DAY" => padded(day),
            "DY" => day[..3].to_string(),
            "Y,YYY" => format!("{},{:03}", self.date.year / 1000, self.date.year % 1000),
            "RM" => {
                let roman = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"];
                let roman = roman[(self.date.month.max(1) - 1) as usize];
                if fill { format!("{roman:<4}") } else { roman.to_string() }
            }
            "TZ" => self.zone.to_string(),
            "TZH" => format!("{}{:02}", if self.offset < 0 { '-' } else { '+' }, self.offset.abs() / 3600),
            "TZM" => format!("{:02}", self.offset.abs() / 60 % 60),
            _ => {
                let mut offset = String::new();
                write_offset(self.offset, &mut offset);
                offset
            }
        };
        match written.chars().filter(|c| c.is_alphabetic()).collect::<Vec<_>>().as_slice() {
            [first, second, ..] if first.is_uppercase() && second.is_uppercase() => out.push_str(&text.to_uppercase()),
            [first, ..] if first.is_lowercase() => out.push_str(&text.to_lowercase()),
            _ => out.push_str(&text),
        }
    }
}

/// Names of months and days say by their case how they are written; all else is read in any case.
fn matches_keyword(text: &str, keyword: &str) -> bool {
    let Some(head) = text.get(..keyword.len()) else { return false };
    let cased = keyword.bytes().any(|byte| byte.is_ascii_lowercase())
        || ["MONTH", "MON", "DAY", "DY", "AM", "PM", "A.M.", "P.M.", "AD", "BC", "A.D.", "B.C.", "TZ", "RM"]
            .contains(&keyword);
    if cased { head == keyword } else { head.eq_ignore_ascii_case(keyword) }
}

fn ordinal_suffix(value: i64) -> &'static str {
    match (value % 10, value / 10 % 10) {
        (_, 1) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    }
}

/// A pattern for numbers: digits with 9 and 0, a point, groups, and a sign.
struct NumberPattern {
    /// What stands before the point.
    whole: Vec<char>,
    /// What stands after it; `None` without a point.
    fraction: Option<Vec<char>>,
    /// `FM`: no blanks.
    tight: bool,
    /// Where the sign stands, if the pattern says.
    sign: Sign,
    /// Text before and after.
    prefix: String,
    suffix: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    Plain,
    Before,
    After,
    Minus,
    Angle,
}

impl NumberPattern {
    fn parse(pattern: &str) -> NumberPattern {
        let mut number = NumberPattern {
            whole: Vec::new(),
            fraction: None,
            tight: false,
            sign: Sign::Plain,
            prefix: String::new(),
            suffix: String::new(),
        };
        let mut rest = pattern;
        while let Some(c) = rest.chars().next() {
            let begun = !number.whole.is_empty() || number.fraction.is_some();
            let mut taken = c.len_utf8();
            match c {
                'F' | 'f' if matches_keyword(rest, "FM") => {
                    number.tight = true;
                    taken = 2;
                }
                'M' | 'm' if matches_keyword(rest, "MI") => {
                    number.sign = Sign::Minus;
                    taken = 2;
                }
                'P' | 'p' if matches_keyword(rest, "PR") => {
                    number.sign = Sign::Angle;
                    taken = 2;
                }
                'S' | 's' => number.sign = if begun { Sign::After } else { Sign::Before },
                '9' | '0' | ',' | 'G' | 'g' => match &mut number.fraction {
                    Some(fraction) => fraction.push(c),
                    None => number.whole.push(if c == 'G' || c == 'g' { ',' } else { c }),
                },
                '.' | 'D' | 'd' => number.fraction = Some(Vec::new()),
                '"' => {
                    let end = rest[1..].find('"').map_or(rest.len(), |at| at + 1);
                    let text = &rest[1..end];
                    if begun {
                        number.suffix.push_str(text)
                    } else {
                        number.prefix.push_str(text)
                    }
                    taken = (end + 1).min(rest.len());
                }
                c => {
                    if begun {
                        number.suffix.push(c)
                    } else {
                        number.prefix.push(c)
                    }
                }
            }
            rest = &rest[taken..];
        }
        number
    }

    fn decimals(&self) -> usize {
        self.fraction.as_ref().map_or(0, Vec::len)
    }

    fn write(&self, value: i128, scale: i8, out: &mut String) {
        let decimals = self.decimals();
        let rounded = rescale_decimal(value, scale, decimals as i8).unwrap_or(0);
        let width = decimals + 1;
        let digits = format!("{:0width$}", rounded.unsigned_abs());
        let (whole, fraction) = digits.split_at(digits.len() - decimals);
        let places = self.whole.iter().filter(|c| **c != ',').count();
        let whole = whole.trim_start_matches('0');
        let overflow = whole.len() > places;
        let negative = rounded < 0;
        let body = self.body(whole, fraction, places, overflow);
        let trimmed = body.trim_start();
        let blanks = if self.tight { "" } else { &body[..body.len() - trimmed.len()] };
        let plain_sign = if negative {
            "-"
        } else if self.tight {
            ""
        } else {
            " "
        };
        out.push_str(&self.prefix);
        match self.sign {
            Sign::Plain => out.extend([blanks, plain_sign, trimmed]),
            Sign::Before => out.extend([blanks, if negative { "-" } else { "+" }, trimmed]),
            Sign::After => out.extend([blanks, trimmed, if negative { "-" } else { "+" }]),
            Sign::Minus => out.extend([blanks, trimmed, plain_sign]),
            Sign::Angle if negative => out.extend([blanks, "<", trimmed, ">"]),
            Sign::Angle => out.extend([blanks, plain_sign, trimmed, plain_sign]),
        }
        out.push_str(&self.suffix);
    }

    /// The digits with their groups, blanks in front.
    fn body(&self, whole: &str, fraction: &str, places: usize, overflow: bool) -> String {
        let mut body = String::new();
        let forced = self.whole.iter().filter(|c| **c != ',').position(|c| *c == '0').unwrap_or(places);
        let first = places.saturating_sub(whole.len()).min(forced);
        let mut place = 0;
        for c in &self.whole {
            if *c == ',' {
                body.push(if place > first { ',' } else { ' ' });
                continue;
            }
            body.push(match place {
                _ if overflow => '#',
                place if place < first => ' ',
                place => {
                    let from_right = places - place;
                    whole.len().checked_sub(from_right).map_or('0', |at| whole.as_bytes()[at] as char)
                }
            });
            place += 1;
        }
        if whole.is_empty() && self.fraction.is_none() && forced == places {
            body.pop();
            body.push('0');
        }
        if let Some(pattern) = &self.fraction {
            body.push('.');
            let kept = match self.tight {
                true => {
                    let required = pattern.iter().rposition(|c| *c == '0').map_or(0, |at| at + 1);
                    fraction.trim_end_matches('0').len().max(required)
                }
                false => fraction.len(),
            };
            let digits = &fraction[..kept];
            body.extend(digits.chars().map(|digit| if overflow { '#' } else { digit }));
        }
        body
    }
}
