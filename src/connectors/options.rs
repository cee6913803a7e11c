//! Options of a connector, from a typed list of what is allowed. The list is the documentation, and nothing that is not on
//! it ever reaches a library underneath: with librdkafka some options load code or run a shell.

use std::collections::BTreeMap;
use std::fmt;

use chrono::NaiveDateTime;

use crate::error::{Error, Result};
use crate::time::Micros;

/// One option that a connector knows.
#[derive(Clone, Copy, Debug)]
pub struct OptionSpec {
    /// Its name in `WITH (...)`; a `*` in it stands for the name of a column.
    pub name: &'static str,
    /// What values it takes.
    pub kind: OptionKind,
    /// Its value when it is not given.
    pub default: Default,
    /// What it does, in a sentence.
    pub doc: &'static str,
}

/// What an option is when it is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Default {
    /// It must be given.
    Required,
    /// It may be left out; what that means is in the option's text.
    None,
    /// This value.
    Value(&'static str),
}

/// The type of an option's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum OptionKind {
    /// Any text that is not empty.
    Text,
    /// As [`OptionKind::Text`], and never shown.
    Secret,
    /// A whole number in this range, both ends included.
    Integer { min: i64, max: i64 },
    /// A number in this range, both ends included.
    Number { min: f64, max: f64 },
    /// `YYYY-MM-DD HH:MM:SS[.f]`, in UTC.
    Timestamp,
    /// One of these words.
    Choice(&'static [&'static str]),
}

/// Options that were given, checked against the list of a connector.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    specs: &'static [OptionSpec],
    given: &'a BTreeMap<String, String>,
}

impl<'a> Options<'a> {
    /// Checks all that was given: 42704 for a name that is not on the list (with the nearest one that is), 22023 for a value
    /// that is not of its option's type or for a required option that is missing.
    pub fn check(
        connector: &str,
        specs: &'static [OptionSpec],
        given: &'a BTreeMap<String, String>,
    ) -> Result<Options<'a>> {
        check_given(connector, specs, given)?;
        for spec in specs {
            if spec.default == Default::Required && !given.contains_key(spec.name) {
                return Err(Error::invalid_parameter(format!(
                    "connector \"{connector}\" needs the option \"{}\"",
                    spec.name
                ))
                .hint(spec.doc));
            }
        }
        Ok(Options { specs, given })
    }

    /// The value of a text option or choice, or its default.
    pub fn text(&self, name: &str) -> Option<&'a str> {
        let spec = self.specs.iter().find(|s| s.is_named(name)).expect("an option is read by a name on the list");
        match (self.given.get(name), spec.default) {
            (Some(value), _) => Some(value),
            (None, Default::Value(value)) => Some(value),
            (None, Default::Required | Default::None) => None,
        }
    }

    /// The value of an [`OptionKind::Integer`].
    pub fn integer(&self, name: &str) -> Option<i64> {
        self.text(name).map(|v| v.trim().parse().expect("the value was checked"))
    }

    /// The value of an [`OptionKind::Number`].
    pub fn number(&self, name: &str) -> Option<f64> {
        self.text(name).map(|v| v.trim().parse().expect("the value was checked"))
    }

    /// The value of an [`OptionKind::Timestamp`].
    pub fn timestamp(&self, name: &str) -> Option<Micros> {
        self.text(name).map(|v| parse_timestamp(v).expect("the value was checked"))
    }
}

/// Checks each option that was given, but not whether others are missing.
pub fn check_given(connector: &str, specs: &[OptionSpec], given: &BTreeMap<String, String>) -> Result<()> {
    for (name, value) in given {
        let known = specs.iter().find(|s| s.is_named(name));
        let spec = known.ok_or_else(|| unknown(connector, specs, name))?;
        spec.kind.check(value).map_err(|why| spec.invalid(value, &why))?;
    }
    Ok(())
}

impl OptionSpec {
    /// Whether it is the option of this name.
    pub(super) fn is_named(&self, name: &str) -> bool {
        match self.name.split_once('*') {
            None => self.name == name,
            Some((before, after)) => {
                let column = name.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
                column.is_some_and(|column| !column.is_empty())
            }
        }
    }

    fn invalid(&self, value: &str, why: &str) -> Error {
        let value = match self.kind {
            OptionKind::Secret => "***",
            OptionKind::Text
            | OptionKind::Integer { .. }
            | OptionKind::Number { .. }
            | OptionKind::Timestamp
            | OptionKind::Choice(_) => value,
        };
        Error::invalid_parameter(format!("invalid value for option \"{}\": \"{value}\"", self.name))
            .detail(format!("It must be {why}."))
            .hint(self.doc)
    }
}

impl OptionKind {
    /// `Err` says what the value should have been.
    fn check(self, value: &str) -> Result<(), String> {
        let good = match self {
            OptionKind::Text | OptionKind::Secret => !value.trim().is_empty() && !value.contains('\0'),
            OptionKind::Integer { min, max } => {
                value.trim().parse::<i64>().is_ok_and(|number| (min..=max).contains(&number))
            }
            OptionKind::Number { min, max } => {
                value.trim().parse::<f64>().is_ok_and(|number| (min..=max).contains(&number))
            }
            OptionKind::Timestamp => parse_timestamp(value).is_some(),
            OptionKind::Choice(words) => words.contains(&value),
        };
        if good { Ok(()) } else { Err(self.to_string()) }
    }
}

/// What a value must be, to follow "It must be".
impl fmt::Display for OptionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OptionKind::Text | OptionKind::Secret => f.write_str("a text that is not empty"),
            OptionKind::Integer { min, max: i64::MAX } => write!(f, "a whole number, at least {min}"),
            OptionKind::Integer { min, max } => write!(f, "a whole number from {min} to {max}"),
            OptionKind::Number { min, max } if max.is_finite() => write!(f, "a number from {min} to {max}"),
            OptionKind::Number { min, .. } => write!(f, "a number, at least {min}"),
            OptionKind::Timestamp => f.write_str("a timestamp like '2026-01-31 12:00:00' (UTC)"),
            OptionKind::Choice(words) => {
                let words = words.iter().map(|w| format!("'{w}'")).collect::<Vec<_>>();
                write!(f, "one of {}", words.join(", "))
            }
        }
    }
}

/// The known name that is most like `name`, if one is at all.
pub fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let rated = known.map(|k| (k, strsim::jaro_winkler(name, k)));
    rated.filter(|(_, likeness)| *likeness > 0.7).max_by(|a, b| a.1.total_cmp(&b.1)).map(|(k, _)| k)
}

fn unknown(connector: &str, specs: &[OptionSpec], name: &str) -> Error {
    let error = Error::undefined_object(format!("option \"{name}\" does not exist for connector \"{connector}\""));
    let names = || specs.iter().map(|s| s.name);
    // As the options would be called for the column that this one seems to be for.
    let column = name.split('.').nth(1).unwrap_or("*");
    let called = names().map(|known| known.replace('*', column)).collect::<Vec<_>>();
    match nearest(name, called.iter().map(String::as_str)) {
        Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
        None if specs.is_empty() => error.hint("It has no options."),
        None => error.hint(format!("Its options are {}.", names().collect::<Vec<_>>().join(", "))),
    }
}

pub(super) fn parse_timestamp(text: &str) -> Option<Micros> {
    let text = text.trim().trim_end_matches('Z');
    let forms = ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f"];
    let parsed = forms.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok())?;
    Some(parsed.and_utc().timestamp_micros())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    const SPECS: &[OptionSpec] = &[
        OptionSpec { name: "topic", kind: OptionKind::Text, default: Default::Required, doc: "The topic to read." },
        OptionSpec {
            name: "rate",
            kind: OptionKind::Number { min: 0.0, max: f64::INFINITY },
            default: Default::Value("10"),
            doc: "How fast.",
        },
        OptionSpec { name: "password", kind: OptionKind::Secret, default: Default::None, doc: "The password." },
        OptionSpec {
            name: "mode",
            kind: OptionKind::Choice(&["earliest", "latest"]),
            default: Default::Value("earliest"),
            doc: "Where to start.",
        },
    ];

    fn given(options: &[(&str, &str)]) -> BTreeMap<String, String> {
        options.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[test]
    fn checked_options_have_their_values_or_defaults() {
        let given = given(&[("topic", "t")]);
        let options = Options::check("x", SPECS, &given).unwrap();
        assert_eq!(options.text("topic"), Some("t"));
        assert_eq!(options.number("rate"), Some(10.0));
        assert_eq!(options.text("mode"), Some("earliest"));
        assert_eq!(options.text("password"), None);
    }

    #[test]
    fn an_unknown_option_is_refused_with_the_nearest() {
        let error = Options::check("x", SPECS, &given(&[("topik", "t")])).unwrap_err();
        assert_eq!(error.kind, Kind::UndefinedObject);
        assert_eq!(error.message, "option \"topik\" does not exist for connector \"x\"");
        assert_eq!(error.hint.as_deref(), Some("Perhaps you meant \"topic\"."));
        let error = Options::check("x", SPECS, &given(&[("plugin.library.paths", "/evil.so")])).unwrap_err();
        assert_eq!(error.kind, Kind::UndefinedObject);
    }

    #[test]
    fn an_ill_typed_value_is_refused_and_a_secret_never_shown() {
        let error = Options::check("x", SPECS, &given(&[("topic", "t"), ("mode", "first")])).unwrap_err();
        assert_eq!(error.kind, Kind::InvalidParameter);
        assert_eq!(error.detail.as_deref(), Some("It must be one of 'earliest', 'latest'."));
        for bad in ["-1", "NaN", "fast"] {
            assert!(Options::check("x", SPECS, &given(&[("topic", "t"), ("rate", bad)])).is_err(), "{bad}");
        }
        let error = Options::check("x", SPECS, &given(&[("topic", "t"), ("password", "hush\0")])).unwrap_err();
        assert!(!error.message.contains("hush"), "{error:?}");
        let error = Options::check("x", SPECS, &given(&[])).unwrap_err();
        assert_eq!(error.message, "connector \"x\" needs the option \"topic\"");
    }
}
