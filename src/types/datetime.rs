//! Dates, times and timestamps as text, read and written as Postgres does under `DateStyle = ISO, MDY`.

use std::fmt::Write;

use crate::error::Error;
use crate::error::Result;
use crate::time::Micros;
use crate::types::calendar::Date;
use crate::types::calendar::MICROS_PER_DAY;
use crate::types::calendar::MICROS_PER_SECOND;
use crate::types::calendar::MONTHS;
use crate::types::calendar::WEEKDAYS;
use crate::types::numeric::is_space;
use crate::types::zone::Zone;

/// Reads a `date`: days since 1970-01-01.
pub fn parse_date(text: &str) -> Result<i32> {
    let Moment::At(fields) = parse(text, "date")? else {
        return Ok(if text.contains('-') { i32::MIN } else { i32::MAX });
    };
    let date = fields.date.ok_or_else(|| invalid("date", text))?;
    let valid =
        date_in_range(date).ok_or_else(|| Error::datetime_overflow(format!("date out of range: \"{text}\"")))?;
    Ok(valid)
}

/// The days of a date, if Postgres has it.
pub fn date_in_range(date: Date) -> Option<i32> {
    let days = date.days();
    let least = Date { year: -4713, month: 11, day: 24 }.days();
    (days >= least && date.year <= 5_874_897).then_some(days as i32)
}

/// Reads a `time`: microseconds since midnight.
pub fn parse_time(text: &str) -> Result<i64> {
    match parse(text, "time")? {
        Moment::At(Fields { time: Some(time), .. }) => Ok(time),
        Moment::At(_) | Moment::Future | Moment::Past => Err(invalid("time", text)),
    }
}

/// Reads a `timestamp`: what the clock reads. A zone in the text is ignored.
pub fn parse_timestamp(text: &str) -> Result<Micros> {
    match parse(text, "timestamp")? {
        Moment::Future => Ok(Micros::MAX),
        Moment::Past => Ok(Micros::MIN),
        Moment::At(fields) => fields.local("timestamp", text),
    }
}

/// Reads a `timestamptz`: a moment. Without a zone in the text it is taken in `zone`.
pub fn parse_timestamptz(text: &str, zone: &Zone) -> Result<Micros> {
    match parse(text, "timestamp with time zone")? {
        Moment::Future => Ok(Micros::MAX),
        Moment::Past => Ok(Micros::MIN),
        Moment::At(fields) => {
            let local = fields.local("timestamp with time zone", text)?;
            Ok(fields.zone.unwrap_or(*zone).to_utc(local))
        }
    }
}

/// Writes a `date`.
pub fn write_date(days: i32, out: &mut String) {
    match days {
        i32::MAX => out.push_str("infinity"),
        i32::MIN => out.push_str("-infinity"),
        _ => {
            let date = Date::from_days(days as i64);
            write_ymd(date, out);
            write_era(date, out);
        }
    }
}

/// Writes a `time`.
pub fn write_time(micros: i64, out: &mut String) {
    let seconds = micros / MICROS_PER_SECOND;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    write!(out, "{hour:02}:{minute:02}:{second:02}").expect("a String takes everything");
    write_fraction(micros % MICROS_PER_SECOND, out);
}

/// Writes `.5` for half a second, nothing for none.
pub fn write_fraction(micros: i64, out: &mut String) {
    if micros != 0 {
        write!(out, ".{micros:06}").expect("a String takes everything");
        out.truncate(out.trim_end_matches('0').len());
    }
}

/// Writes a `timestamp`.
pub fn write_timestamp(micros: Micros, out: &mut String) {
    if !write_infinity(micros, out) {
        write_era(write_local(micros, out), out);
    }
}

/// Writes a `timestamptz` as it reads in `zone`, with the zone's offset.
pub fn write_timestamptz(micros: Micros, zone: &Zone, out: &mut String) {
    if write_infinity(micros, out) {
        return;
    }
    let offset = zone.offset_at(micros);
    let date = write_local(micros.saturating_add(offset as i64 * MICROS_PER_SECOND), out);
    write_offset(offset, out);
    write_era(date, out);
}

/// Writes `+02`, `-03:30`.
pub fn write_offset(offset: i32, out: &mut String) {
    let (sign, distance) = if offset < 0 { ('-', -offset) } else { ('+', offset) };
    write!(out, "{sign}{:02}", distance / 3600).expect("a String takes everything");
    if distance % 3600 != 0 {
        write!(out, ":{:02}", distance / 60 % 60).expect("a String takes everything");
    }
    if distance % 60 != 0 {
        write!(out, ":{:02}", distance % 60).expect("a String takes everything");
    }
}

fn write_infinity(micros: Micros, out: &mut String) -> bool {
    match micros {
        Micros::MAX => out.push_str("infinity"),
        Micros::MIN => out.push_str("-infinity"),
        _ => return false,
    }
    true
}

fn write_local(local: Micros, out: &mut String) -> Date {
    let date = Date::from_days(local.div_euclid(MICROS_PER_DAY));
    write_ymd(date, out);
    out.push(' ');
    write_time(local.rem_euclid(MICROS_PER_DAY), out);
    date
}

fn write_ymd(date: Date, out: &mut String) {
    let year = if date.year <= 0 { 1 - date.year } else { date.year };
    write!(out, "{year:04}-{:02}-{:02}", date.month, date.day).expect("a String takes everything");
}

fn write_era(date: Date, out: &mut String) {
    if date.year <= 0 {
        out.push_str(" BC");
    }
}

/// What a text means.
enum Moment {
    At(Fields),
    /// `infinity`
    Future,
    /// `-infinity`
    Past,
}

/// The parts that were found.
#[derive(Clone, Copy, Debug, Default)]
struct Fields {
    date: Option<Date>,
    time: Option<i64>,
    zone: Option<Zone>,
}

impl Fields {
    fn local(&self, ty: &str, text: &str) -> Result<Micros> {
        let date = self.date.ok_or_else(|| invalid(ty, text))?;
        let overflow = || Error::datetime_overflow(format!("timestamp out of range: \"{text}\""));
        let time = self.time.unwrap_or(0);
        let micros =
            date.days().checked_mul(MICROS_PER_DAY).and_then(|day| day.checked_add(time)).ok_or_else(overflow)?;
        timestamp_in_range(micros).ok_or_else(overflow)
    }
}

/// The timestamp, if Postgres has it: from 4713 BC on. (It ends at 294276 AD, we as `i64` does, 29 years before.)
pub fn timestamp_in_range(micros: Micros) -> Option<Micros> {
    const LEAST: i64 = -210_866_803_200_000_000;
    (micros == i64::MIN || micros >= LEAST).then_some(micros)
}

fn invalid(ty: &str, text: &str) -> Error {
    Error::invalid_datetime(format!("invalid input syntax for type {ty}: \"{text}\""))
}

fn out_of_range(text: &str) -> Error {
    Error::datetime_overflow(format!("date/time field value out of range: \"{text}\""))
}

fn parse(text: &str, ty: &str) -> Result<Moment> {
    let trimmed = text.trim_matches(is_space);
    for (word, moment) in [("infinity", Moment::Future), ("-infinity", Moment::Past), ("+infinity", Moment::Future)] {
        if trimmed.eq_ignore_ascii_case(word) {
            return Ok(moment);
        }
    }
    if trimmed.eq_ignore_ascii_case("epoch") {
        let date = Some(Date::from_days(0));
        return Ok(Moment::At(Fields { date, time: Some(0), zone: Some(Zone::UTC) }));
    }
    let mut reader =
        Reader { text, ty, fields: Fields::default(), numbers: Vec::new(), month: None, era: None, half: None };
    for token in trimmed.split(|c: char| is_space(c) || c == ',') {
        if !token.is_empty() {
            reader.token(token)?;
        }
    }
    reader.finish().map(Moment::At)
}

/// Reads the parts of a text, in whatever order they come.
struct Reader<'a> {
    text: &'a str,
    ty: &'a str,
    fields: Fields,
    /// Numbers that stand alone: day and year beside the name of a month.
    numbers: Vec<&'a str>,
    month: Option<u32>,
    /// Whether BC.
    era: Option<bool>,
    /// Whether PM.
    half: Option<bool>,
}

impl<'a> Reader<'a> {
    fn invalid(&self) -> Error {
        invalid(self.ty, self.text)
    }

    fn token(&mut self, token: &'a str) -> Result<()> {
        let first = token.as_bytes()[0];
        if first == b'+' || first == b'-' && self.fields.time.is_some() {
            return self.zone(token);
        }
        if first.is_ascii_alphabetic() {
            return self.word(token);
        }
        if !first.is_ascii_digit() {
            return Err(self.invalid());
        }
        let joint = token.find(['T', 't']).filter(|at| token[..*at].bytes().all(|b| b.is_ascii_digit() || b == b'-'));
        if let Some(at) = joint.filter(|at| token[*at + 1..].starts_with(|c: char| c.is_ascii_digit())) {
            self.date(&token[..at])?;
            return self.time(&token[at + 1..]);
        }
        if token.contains(':') {
            return match token.find(':').zip(token.find('-')) {
                Some((colon, dash)) if dash < colon => Err(self.invalid()),
                _ => self.time(token),
            };
        }
        if token.bytes().all(|byte| byte.is_ascii_digit()) {
            return match (token.len(), self.fields.date, self.fields.time) {
                (8, None, _) | (6, None, Some(_)) => self.date(token),
                (6 | 4, Some(_), None) | (6, None, None) if self.fields.date.is_some() || self.ty == "time" => {
                    self.time(token)
                }
                (6, None, None) if self.month.is_none() => self.date(token),
                _ => {
                    self.numbers.push(token);
                    Ok(())
                }
            };
        }
        let digits = token.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let suffix = &token[digits.len()..];
        let ordinal = ["st", "nd", "rd", "th"].iter().any(|ordinal| suffix.eq_ignore_ascii_case(ordinal));
        if ordinal && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            self.numbers.push(digits);
            return Ok(());
        }
        self.date(token)
    }

    fn word(&mut self, word: &'a str) -> Result<()> {
        let lower = word.to_ascii_lowercase();
        let named = |names: &[&str]| {
            let matches =
                |name: &&str| lower.len() >= 3 && name.to_ascii_lowercase().starts_with(lower.trim_end_matches('.'));
            names.iter().position(matches)
        };
        match lower.as_str() {
            "am" | "pm" if self.half.is_none() => self.half = Some(lower == "pm"),
            "ad" | "bc" if self.era.is_none() => self.era = Some(lower == "bc"),
            "t" | "at" | "on" => {}
            _ => {
                let letters = lower.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(lower.len());
                if let Some(month) = named(&MONTHS) {
                    self.month = Some(month as u32 + 1);
                } else if letters < lower.len() && MONTHS.iter().any(|m| m[..3].eq_ignore_ascii_case(&lower[..letters]))
                {
                    return self.date(word);
                } else if named(&WEEKDAYS).is_none() {
                    return self.zone(word);
                }
            }
        }
        Ok(())
    }

    fn zone(&mut self, name: &str) -> Result<()> {
        let abbreviations = [
            ("est", -5),
            ("edt", -4),
            ("cst", -6),
            ("cdt", -5),
            ("mst", -7),
            ("mdt", -6),
            ("pst", -8),
            ("pdt", -7),
            ("cet", 1),
            ("cest", 2),
        ];
        let known = abbreviations.iter().find(|(zone, _)| name.eq_ignore_ascii_case(zone));
        let zone = match known {
            Some((_, hours)) => Zone::Fixed(hours * 3600),
            None if name.starts_with(['+', '-']) => Zone::Fixed(Zone::offset(name).ok_or_else(|| {
                Error::zone_displacement(format!("time zone displacement out of range: \"{}\"", self.text))
            })?),
            None if name.contains('/') => Zone::parse(&name.to_lowercase())?,
            None => Zone::parse(name).map_err(|_| self.invalid())?,
        };
        if self.fields.zone.replace(zone).is_some() {
            return Err(self.invalid());
        }
        Ok(())
    }

    fn time(&mut self, token: &'a str) -> Result<()> {
        let end = token.find(|c: char| !(c.is_ascii_digit() || c == ':' || c == '.')).unwrap_or(token.len());
        let (clock, rest) = token.split_at(end);
        let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
        let packed = !clock.contains(':');
        let parts: Vec<&str> = match (packed, clock.len()) {
            (true, 6) => vec![&clock[..2], &clock[2..4], &clock[4..]],
            (true, 4) => vec![&clock[..2], &clock[2..]],
            (true, 1 | 2) => vec![clock, "0"],
            (true, _) => return Err(self.invalid()),
            (false, _) => clock.split(':').collect(),
        };
        if !(2..=3).contains(&parts.len()) || self.fields.time.is_some() {
            return Err(self.invalid());
        }
        let mut numbers = [0i64; 3];
        for (number, part) in numbers.iter_mut().zip(&parts) {
            *number =
                part.parse().map_err(|_| if part.is_empty() { self.invalid() } else { out_of_range(self.text) })?;
        }
        let [hour, minute, second] = numbers;
        let micros = fraction_micros(fraction).ok_or_else(|| self.invalid())?;
        if hour > 24 || minute > 59 || second > 60 {
            return Err(out_of_range(self.text));
        }
        let day = hour * 3600 + minute * 60 + second;
        if day > 86_400 || day == 86_400 && hour == 24 && micros > 0 {
            return Err(out_of_range(self.text));
        }
        self.fields.time = Some(day * MICROS_PER_SECOND + micros);
        match rest.is_empty() {
            true => Ok(()),
            false if rest.starts_with(|c: char| c.is_ascii_alphabetic()) => self.word(rest),
            false => self.zone(rest),
        }
    }

    fn date(&mut self, token: &str) -> Result<()> {
        if self.fields.date.is_some() {
            return Err(self.invalid());
        }
        let parts: Vec<&str> = match (token.bytes().all(|b| b.is_ascii_digit()), token.len()) {
            (true, 8..) => {
                vec![&token[..token.len() - 4], &token[token.len() - 4..token.len() - 2], &token[token.len() - 2..]]
            }
            (true, 6) => vec![&token[..2], &token[2..4], &token[4..]],
            _ => token.split(['-', '/', '.']).collect(),
        };
        let [first, second, third] = parts.as_slice() else { return Err(self.invalid()) };
        let month_of =
            |part: &str| MONTHS.iter().position(|m| part.len() >= 3 && m[..3].eq_ignore_ascii_case(&part[..3]));
        let number = |part: &str| part.parse::<u32>().map_err(|_| self.invalid());
        let packed = !token.contains(['-', '/', '.']);
        let named = |month: usize| month as u32 + 1;
        let (year, month, day) = if let Some(month) = month_of(second) {
            match first.len() {
                3.. => (*first, named(month), number(third)?),
                _ => (*third, named(month), number(first)?),
            }
        } else if let Some(month) = month_of(first) {
            (*third, named(month), number(second)?)
        } else if packed || first.len() >= 3 {
            (*first, number(second)?, number(third)?)
        } else {
            (*third, number(first)?, number(second)?)
        };
        self.fields.date = Some(Date { year: self.year(year)?, month, day });
        Ok(())
    }

    /// A year of two digits lies between 1970 and 2069.
    fn year(&self, text: &str) -> Result<i64> {
        let year: i64 = text.parse().map_err(|_| self.invalid())?;
        if year > 6_000_000 {
            return Err(out_of_range(self.text));
        }
        Ok(match (text.len(), year) {
            (2, ..70) => year + 2000,
            (2, _) => year + 1900,
            _ => year,
        })
    }

    fn finish(mut self) -> Result<Fields> {
        if let Some(month) = self.month {
            let [first, second] = self.numbers.as_slice() else { return Err(self.invalid()) };
            let (day, year) = if first.len() > 2 { (second, first) } else { (first, second) };
            let day = day.parse().map_err(|_| self.invalid())?;
            if self.fields.date.is_some() {
                return Err(self.invalid());
            }
            self.fields.date = Some(Date { year: self.year(year)?, month, day });
        } else if !self.numbers.is_empty() {
            return Err(self.invalid());
        }
        if let Some(date) = &mut self.fields.date {
            if date.year == 0 {
                return Err(out_of_range(self.text));
            }
            if self.era == Some(true) {
                date.year = 1 - date.year;
            }
            if !date.is_valid() {
                return Err(out_of_range(self.text));
            }
        }
        if let (Some(pm), Some(time)) = (self.half, &mut self.fields.time) {
            let hour = *time / (3600 * MICROS_PER_SECOND);
            if !(0..=12).contains(&hour) {
                return Err(out_of_range(self.text));
            }
            *time += match (pm, hour) {
                (true, 0..12) => 12,
                (false, 12) => -12,
                _ => 0,
            } * 3600
                * MICROS_PER_SECOND;
        }
        if self.fields.date.is_none() && self.fields.time.is_none() {
            return Err(self.invalid());
        }
        Ok(self.fields)
    }
}

/// The digits after the point of a second, rounded to microseconds; `None` if they are not digits.
pub fn fraction_micros(digits: &str) -> Option<i64> {
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut micros = 0;
    let mut unit = 100_000;
    for digit in digits.bytes().take(7) {
        let digit = (digit - b'0') as i64;
        micros += if unit > 0 { digit * unit } else { (digit >= 5) as i64 };
        unit /= 10;
    }
    Some(micros)
}
