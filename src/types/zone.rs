//! Time zones as sessions name them, and what a moment reads on the wall there.

use std::fmt;

use chrono::Offset;
use chrono::TimeZone;
use chrono_tz::Tz;

use crate::error::Error;
use crate::error::Result;
use crate::time::Micros;
use crate::types::calendar::MICROS_PER_SECOND;

/// A time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    /// So many seconds east of UTC, always.
    Fixed(i32),
    /// A zone of the tz database.
    Named(Tz),
}

impl Zone {
    /// UTC.
    pub const UTC: Zone = Zone::Fixed(0);

    /// The zone of this name: `UTC`, `Europe/Berlin`, `+02:00` (east of UTC, as in a timestamp).
    pub fn parse(name: &str) -> Result<Zone> {
        let name = name.trim();
        let utc = ["utc", "gmt", "z", "zulu", "etc/utc", "uct"];
        if utc.iter().any(|utc| name.eq_ignore_ascii_case(utc)) {
            return Ok(Zone::UTC);
        }
        if let Some(offset) = Zone::offset(name) {
            return Ok(Zone::Fixed(offset));
        }
        let any_case = || chrono_tz::TZ_VARIANTS.iter().copied().find(|zone| zone.name().eq_ignore_ascii_case(name));
        let named = name.parse().ok().or_else(any_case).map(Zone::Named);
        named.ok_or_else(|| Error::invalid_parameter(format!("time zone \"{name}\" not recognized")))
    }

    /// `+hh`, `+hhmm`, `+hh:mm` or `+hh:mm:ss` in seconds.
    pub fn offset(text: &str) -> Option<i32> {
        let (sign, digits) = match text.as_bytes().first()? {
            b'+' => (1, &text[1..]),
            b'-' => (-1, &text[1..]),
            _ => return None,
        };
        let number = |digits: &str| digits.parse::<u32>().ok().filter(|_| digits.len() <= 2).map(|n| n as i32);
        let mut parts = digits.split(':');
        let first = parts.next()?;
        if !digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b':') {
            return None;
        }
        let (hours, mut minutes) = match first.len() {
            1 | 2 => (number(first)?, 0),
            3 | 4 => (number(&first[..first.len() - 2])?, number(&first[first.len() - 2..])?),
            _ => return None,
        };
        if let Some(part) = parts.next() {
            minutes = number(part)?;
        }
        let seconds = parts.next().map_or(Some(0), number)?;
        let valid = hours <= 15 && minutes < 60 && seconds < 60 && parts.next().is_none();
        valid.then_some(sign * (hours * 3600 + minutes * 60 + seconds))
    }

    /// Seconds east of UTC at this moment.
    pub fn offset_at(&self, utc: Micros) -> i32 {
        match self {
            Zone::Fixed(offset) => *offset,
            Zone::Named(zone) => {
                let moment = chrono::DateTime::from_timestamp_micros(utc).unwrap_or_default().naive_utc();
                zone.offset_from_utc_datetime(&moment).fix().local_minus_utc()
            }
        }
    }

    /// What the clock on the wall reads at this moment.
    pub fn to_local(&self, utc: Micros) -> Micros {
        if utc == Micros::MAX || utc == Micros::MIN {
            return utc;
        }
        utc.saturating_add(self.offset_at(utc) as Micros * MICROS_PER_SECOND)
    }

    /// The moment at which the clock on the wall reads `local`. Of two, the one in standard time; a reading that is skipped is taken
    /// by the offset before the gap. Both as Postgres does.
    pub fn to_utc(&self, local: Micros) -> Micros {
        if local == Micros::MAX || local == Micros::MIN {
            return local;
        }
        let at = |offset: i32| local.saturating_sub(offset as Micros * MICROS_PER_SECOND);
        let day = 86_400 * MICROS_PER_SECOND;
        let before = self.offset_at(local.saturating_sub(day));
        let after = self.offset_at(local.saturating_add(day));
        let early = at(before);
        let late = at(after);
        match (self.offset_at(early) == before, self.offset_at(late) == after) {
            (true, true) => early.max(late),
            (true, false) => early,
            (false, true) => late,
            (false, false) => early,
        }
    }
}

/// A name that [`Zone::parse`] reads.
impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Zone::Fixed(0) => f.write_str("UTC"),
            Zone::Fixed(offset) => {
                let (sign, distance) = if *offset < 0 { ('-', -offset) } else { ('+', *offset) };
                write!(f, "{sign}{:02}:{:02}:{:02}", distance / 3600, distance / 60 % 60, distance % 60)
            }
            Zone::Named(zone) => f.write_str(zone.name()),
        }
    }
}
