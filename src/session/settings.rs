//! The settings of one session: what SET, SHOW and RESET work on, transactional as in Postgres.
//!
//! Which settings there are is said in [`crate::catalog::system::settings`]; here are the values that differ from their
//! defaults. A SET in a transaction that is rolled back is undone; a SET LOCAL ends with its transaction.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::FixedOffset;

use crate::catalog::system::settings::Access;
use crate::catalog::system::settings::Definition;
use crate::catalog::system::settings::SETTINGS;
use crate::catalog::system::settings::SettingKind;
use crate::catalog::system::settings::find;
use crate::error::Error;
use crate::error::Result;

/// Names of settings with their values.
type Values = BTreeMap<&'static str, String>;

/// The settings of a session.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// What the client set at startup: the defaults of this session.
    startup: Values,
    /// What SET set.
    session: Values,
    /// What SET LOCAL set in the current transaction.
    local: Values,
    /// Counts changes, so that what was derived from the settings can be kept until they change.
    version: u64,
}

/// The settings at some moment of a transaction, to go back to.
#[derive(Clone, Debug)]
pub struct Mark {
    session: Values,
    local: Values,
}

impl Settings {
    /// The present value of a setting that exists.
    pub fn get(&self, name: &str) -> &str {
        find(name).map_or("", |definition| self.value(definition))
    }

    fn value(&self, definition: &'static Definition) -> &str {
        [&self.local, &self.session, &self.startup]
            .into_iter()
            .find_map(|values| values.get(definition.name))
            .map_or(definition.default, String::as_str)
    }

    /// The present value of a setting, with its name as it is shown.
    pub fn show(&self, name: &str) -> Result<(&'static str, &str)> {
        let definition = lookup(name)?;
        Ok((definition.name, self.value(definition)))
    }

    /// Every setting with its value.
    pub fn all(&self) -> impl Iterator<Item = (&'static Definition, &str)> {
        SETTINGS.iter().map(|definition| (definition, self.value(definition)))
    }

    /// Every setting with its value, as the functions of `pg_catalog` want it.
    pub fn to_map(&self) -> Arc<BTreeMap<String, String>> {
        Arc::new(self.all().map(|(definition, value)| (definition.name.to_string(), value.to_string())).collect())
    }

    /// Sets a value for this session, or for the current transaction.
    pub fn set(&mut self, name: &str, value: &str, local: bool) -> Result<()> {
        let definition = lookup(name)?;
        let value = check(definition, value)?;
        if definition.access == Access::Fixed && value != definition.default {
            let message = format!("parameter \"{}\" cannot be changed", definition.name);
            return Err(Error::new(crate::error::Kind::NotReady, message));
        }
        self.version += 1;
        if local {
            self.local.insert(definition.name, value);
        } else {
            self.local.remove(definition.name);
            self.session.insert(definition.name, value);
        }
        Ok(())
    }

    /// Sets a setting that exists to a value that it takes, for the current transaction.
    pub(super) fn set_local(&mut self, name: &'static str, value: &str) {
        self.version += 1;
        self.local.insert(name, value.to_string());
    }

    /// Sets the default of this session, as the startup packet asks.
    pub fn set_startup(&mut self, name: &str, value: &str) -> Result<()> {
        let definition = lookup(name)?;
        let value = check(definition, value)?;
        if definition.access == Access::Session {
            self.startup.insert(definition.name, value);
        }
        Ok(())
    }

    /// Back to the default.
    pub fn reset(&mut self, name: &str, local: bool) -> Result<()> {
        let definition = lookup(name)?;
        self.version += 1;
        self.local.remove(definition.name);
        if local {
            let default = self.startup.get(definition.name).map_or(definition.default, String::as_str).to_string();
            self.local.insert(definition.name, default);
        } else {
            self.session.remove(definition.name);
        }
        Ok(())
    }

    /// All of them back to their defaults.
    pub fn reset_all(&mut self) {
        self.version += 1;
        self.local.clear();
        self.session.clear();
    }

    /// The present state, to go back to.
    pub fn mark(&self) -> Mark {
        Mark { session: self.session.clone(), local: self.local.clone() }
    }

    /// Undoes what was set since.
    pub fn restore(&mut self, mark: Mark) {
        self.version += 1;
        self.session = mark.session;
        self.local = mark.local;
    }

    /// The transaction is over: SET LOCAL with it.
    pub fn end_transaction(&mut self) {
        if !self.local.is_empty() {
            self.version += 1;
            self.local.clear();
        }
    }

    /// Changes with each change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The schemas of `search_path`; `"$user"` is nobody's schema.
    pub fn search_path(&self) -> Vec<String> {
        let names = self.get("search_path").split(',').map(|name| name.trim());
        let plain = names.map(|name| match name.strip_prefix('"').and_then(|n| n.strip_suffix('"')) {
            Some(quoted) => quoted.replace("\"\"", "\""),
            None => name.to_lowercase(),
        });
        plain.filter(|name| !name.is_empty() && name != "$user").collect()
    }

    /// Whether a setting of kind `Bool` is on.
    pub fn is_on(&self, name: &str) -> bool {
        self.get(name) == "on"
    }

    /// The time of a setting of kind `Milliseconds`; `None`: never.
    pub fn duration(&self, name: &str) -> Option<Duration> {
        let ms = milliseconds(self.get(name))?;
        (ms > 0).then(|| Duration::from_millis(ms))
    }
}

fn lookup(name: &str) -> Result<&'static Definition> {
    find(name).ok_or_else(|| {
        let error = Error::undefined_object(format!("unrecognized configuration parameter \"{name}\""));
        let lower = name.to_lowercase();
        let nearest = SETTINGS.iter().map(|d| (strsim::osa_distance(&d.name.to_lowercase(), &lower), d.name)).min();
        match nearest {
            Some((distance, nearest)) if distance <= 3 => error.hint(format!("Perhaps you meant \"{nearest}\".")),
            _ => error.hint("SHOW ALL lists the parameters there are."),
        }
    })
}

/// The value as it is kept: spelt as Postgres shows it.
fn check(definition: &Definition, value: &str) -> Result<String> {
    let value = value.trim();
    let wrong = || {
        let message = format!("invalid value for parameter \"{}\": \"{value}\"", definition.name);
        Error::invalid_parameter(message)
    };
    match definition.kind {
        SettingKind::Bool => match value.to_ascii_lowercase().as_str() {
            "on" | "true" | "yes" | "1" | "t" | "y" => Ok("on".into()),
            "off" | "false" | "no" | "0" | "f" | "n" => Ok("off".into()),
            _ => Err(Error::invalid_parameter(format!("parameter \"{}\" requires a Boolean value", definition.name))),
        },
        SettingKind::Integer(least, most) => match value.parse::<i64>() {
            Ok(n) if (least..=most).contains(&n) => Ok(n.to_string()),
            Ok(n) => Err(Error::invalid_parameter(format!(
                "{n} is outside the valid range for parameter \"{}\" ({least} .. {most})",
                definition.name
            ))),
            Err(_) => Err(wrong()),
        },
        SettingKind::Milliseconds => match milliseconds(value) {
            Some(ms) => Ok(if ms == 0 { "0".into() } else { shown_duration(ms) }),
            None => Err(wrong().hint("Valid units for this parameter are \"ms\", \"s\", \"min\", \"h\", and \"d\".")),
        },
        SettingKind::Enum(words) => word(definition, words, value).ok_or_else(|| match words.len() {
            1 => wrong().hint(format!("The only value is \"{}\".", words[0])),
            _ => wrong().hint(format!("Available values: {}.", words.join(", "))),
        }),
        SettingKind::TimeZone => time_zone(value).ok_or_else(wrong),
        SettingKind::Names | SettingKind::Text => Ok(value.to_string()),
    }
}

/// The word that a value of an enum means.
fn word(definition: &Definition, words: &[&str], value: &str) -> Option<String> {
    // Some clients quote what they send at startup.
    let folded = value.trim_matches('\'').to_ascii_lowercase();
    let meant = match definition.name {
        // Of style and order either may be left out; the order then stays as it is by default.
        "DateStyle" => date_style(&folded)?,
        "client_encoding" | "server_encoding" if matches!(folded.as_str(), "utf-8" | "unicode") => "UTF8",
        "client_encoding" if folded == "sql_ascii" => "UTF8",
        "jit" => folded.as_str(),
        _ => words.iter().copied().find(|word| word.eq_ignore_ascii_case(&folded))?,
    };
    Some(meant.to_string())
}

fn date_style(folded: &str) -> Option<&'static str> {
    let mut order = "ISO, MDY";
    for part in folded.split(',').map(str::trim) {
        match part {
            "iso" | "default" => {}
            "mdy" | "us" | "noneuro" | "noneuropean" => order = "ISO, MDY",
            "dmy" | "euro" | "european" => order = "ISO, DMY",
            "ymd" => order = "ISO, YMD",
            _ => return None,
        }
    }
    Some(order)
}

/// A time zone as it is kept: a name of the IANA database, or a fixed offset.
fn time_zone(value: &str) -> Option<String> {
    let fixed = value.trim_matches('\'');
    if let Ok(hours) = fixed.parse::<f64>()
        && hours.abs() <= 15.0
    {
        let seconds = (hours * 3600.0) as i32;
        return FixedOffset::east_opt(seconds).map(|offset| offset.to_string());
    }
    if fixed.parse::<FixedOffset>().is_ok() {
        return Some(fixed.to_string());
    }
    if matches!(fixed.to_ascii_lowercase().as_str(), "default" | "local") {
        return Some("UTC".into());
    }
    chrono_tz::TZ_VARIANTS
        .iter()
        .map(|zone| zone.name())
        .find(|name| name.eq_ignore_ascii_case(fixed))
        .map(str::to_string)
}

/// A time in Postgres' spelling, as milliseconds.
fn milliseconds(value: &str) -> Option<u64> {
    let value = value.trim();
    let split = value.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(value.len());
    let (number, unit) = value.split_at(split);
    let factor = match unit.trim() {
        "" | "ms" => 1.0,
        "us" => 0.001,
        "s" => 1_000.0,
        "min" => 60_000.0,
        "h" => 3_600_000.0,
        "d" => 86_400_000.0,
        _ => return None,
    };
    let ms = number.parse::<f64>().ok()? * factor;
    (ms <= f64::from(i32::MAX)).then_some(ms.round() as u64)
}

/// A time with the largest unit that divides it, as SHOW shows it.
fn shown_duration(ms: u64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")];
    match units.into_iter().find(|(factor, _)| ms.is_multiple_of(*factor)) {
        Some((factor, unit)) => format!("{}{unit}", ms / factor),
        None => format!("{ms}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_checked_and_spelt_as_postgres_shows_them() {
        let mut settings = Settings::default();
        for (name, value, shown) in [
            ("timezone", "europe/berlin", "Europe/Berlin"),
            ("TimeZone", "-3", "-03:00"),
            ("statement_timeout", "1500", "1500ms"),
            ("statement_timeout", "2s", "2s"),
            ("datestyle", "ISO", "ISO, MDY"),
            ("client_encoding", "utf-8", "UTF8"),
            ("client_encoding", "'utf-8'", "UTF8"),
            ("jit", "false", "off"),
            ("extra_float_digits", "3", "3"),
        ] {
            settings.set(name, value, false).unwrap();
            assert_eq!(settings.get(name), shown, "{name} = {value}");
        }
        for (name, value) in [("timezone", "Mars"), ("statement_timeout", "1 parsec"), ("extra_float_digits", "99")] {
            assert_eq!(settings.set(name, value, false).unwrap_err().kind.sqlstate(), "22023");
        }
        assert_eq!(settings.duration("statement_timeout"), Some(Duration::from_secs(2)));
    }

    #[test]
    fn an_unknown_setting_names_the_nearest() {
        let error = Settings::default().show("serch_path").unwrap_err();
        assert_eq!(error.kind.sqlstate(), "42704");
        assert_eq!(error.hint.as_deref(), Some("Perhaps you meant \"search_path\"."));
    }

    #[test]
    fn facts_cannot_be_set() {
        let mut settings = Settings::default();
        assert!(settings.set("server_version", "16", false).is_err());
        assert!(settings.set("integer_datetimes", "on", false).is_ok());
    }

    #[test]
    fn a_transaction_takes_its_settings_back() {
        let mut settings = Settings::default();
        settings.set_startup("application_name", "psql").unwrap();
        settings.set("search_path", "a, \"B\"", false).unwrap();
        let mark = settings.mark();
        settings.set("search_path", "c", false).unwrap();
        settings.set("application_name", "x", true).unwrap();
        assert_eq!((settings.get("search_path"), settings.get("application_name")), ("c", "x"));
        settings.end_transaction();
        assert_eq!(settings.get("application_name"), "psql");
        settings.restore(mark);
        assert_eq!(settings.search_path(), ["a", "B"]);
        settings.reset_all();
        assert_eq!(settings.search_path(), ["public"]);
    }
}
