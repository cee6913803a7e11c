//! The proleptic Gregorian calendar over the whole range of Postgres, in plain integers.

/// A second.
pub const MICROS_PER_SECOND: i64 = 1_000_000;
/// A day without a change of clocks.
pub const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// A year (1 BC is 0), a month from 1, a day from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    pub year: i64,
    pub month: u32,
    pub day: u32,
}

impl Date {
    /// The date so many days after 1970-01-01 (H. Hinnant, "chrono-compatible low-level date algorithms").
    pub fn from_days(days: i64) -> Date {
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let of_era = shifted.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * of_year + 2) / 153;
        let day = (of_year - (153 * shifted_month + 2) / 5 + 1) as u32;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 } as u32;
        Date { year: year_of_era + era * 400 + (month <= 2) as i64, month, day }
    }

    /// Days since 1970-01-01.
    pub fn days(&self) -> i64 {
        let year = self.year - (self.month <= 2) as i64;
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let shifted_month = (self.month as i64 + 9) % 12;
        let of_year = (153 * shifted_month + 2) / 5 + self.day as i64 - 1;
        era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year - 719_468
    }

    /// Whether there is such a day.
    pub fn is_valid(&self) -> bool {
        (1..=12).contains(&self.month) && self.day >= 1 && self.day <= days_in_month(self.year, self.month)
    }

    /// The date so many months later, the day no later than the month has.
    pub fn plus_months(&self, months: i64) -> Date {
        let months = self.year * 12 + self.month as i64 - 1 + months;
        let (year, month) = (months.div_euclid(12), months.rem_euclid(12) as u32 + 1);
        Date { year, month, day: self.day.min(days_in_month(year, month)) }
    }

    /// The day of the year, from 1.
    pub fn day_of_year(&self) -> i64 {
        self.days() - Date { year: self.year, month: 1, day: 1 }.days() + 1
    }

    /// The ISO 8601 year and week of it.
    pub fn iso_week(&self) -> (i64, i64) {
        let days = self.days();
        let thursday = days - weekday_from_monday(days) + 3;
        let date = Date::from_days(thursday);
        (date.year, (date.day_of_year() - 1) / 7 + 1)
    }
}

/// How many days a month has.
pub fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// 0 for Monday.
pub fn weekday_from_monday(days: i64) -> i64 {
    (days + 3).rem_euclid(7)
}

/// The names of the months.
pub const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// The names of the days, Monday first.
pub const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
