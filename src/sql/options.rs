//! The options of `WITH (...)`: typed values out of text, and FORMAT ... ENCODE. What a connector's options mean, it says
//! itself; here are those of the statement.

use std::collections::BTreeMap;

use crate::connectors;
use crate::error::{Error, Result};
use crate::formats::{Encode, Envelope, Format};
use crate::sql::parse::ast::{FormatClause, OptionValue};

/// The idle timeout of a watermark that says none, in milliseconds.
pub const IDLE_TIMEOUT_MS: u64 = 60_000;

/// Options that are taken out one by one; what is left over is unknown, or the connector's.
pub struct Options {
    values: Vec<OptionValue>,
    /// The names asked for, to suggest the nearest.
    known: Vec<&'static str>,
}

impl Options {
    /// The options of a statement.
    pub fn new(values: &[OptionValue]) -> Options {
        Options { values: values.to_vec(), known: Vec::new() }
    }

    /// Takes an option as it is written.
    pub fn take(&mut self, key: &'static str) -> Option<OptionValue> {
        self.known.push(key);
        let at = self.values.iter().position(|option| option.key.eq_ignore_ascii_case(key))?;
        Some(self.values.remove(at))
    }

    /// Takes the option that says the connector; without it, an error whose hint says how it is written.
    pub fn connector(&mut self, hint: &str) -> Result<OptionValue> {
        if let Some(connector) = self.take("connector") {
            return Ok(connector);
        }
        let missing = Error::invalid_parameter("option \"connector\" is missing");
        let near = |option: &&OptionValue| nearest(&option.key, ["connector"]).is_some();
        Err(match self.values.iter().find(near) {
            Some(option) => missing.at(option.position).hint("Perhaps you meant \"connector\"."),
            None => missing.hint(hint),
        })
    }

    /// Takes a boolean as Postgres writes them: `true`, `'on'`, `0`.
    pub fn boolean(&mut self, key: &'static str) -> Result<Option<bool>> {
        let Some(option) = self.take(key) else { return Ok(None) };
        match option.value.to_lowercase().as_str() {
            "true" | "on" | "yes" | "1" => Ok(Some(true)),
            "false" | "off" | "no" | "0" => Ok(Some(false)),
            _ => {
                let message = format!("invalid value for option \"{key}\": \"{}\"", option.value);
                Err(Error::invalid_parameter(message).at(option.position).hint("Write true or false."))
            }
        }
    }

    /// Takes a duration such as `5 minutes`, `'30s'` or `1500` (milliseconds), in milliseconds.
    pub fn duration_ms(&mut self, key: &'static str) -> Result<Option<u64>> {
        let Some(option) = self.take(key) else { return Ok(None) };
        match duration_ms(&option.value) {
            Some(value) => Ok(Some(value)),
            None => {
                let message = format!("invalid value for option \"{key}\": \"{}\"", option.value);
                Err(Error::invalid_parameter(message)
                    .at(option.position)
                    .hint("Write a duration such as '30 seconds' or '5 min'."))
            }
        }
    }

    /// A statement's text with the values put out of sight that are secrets of its connector.
    pub fn without_secrets(&self, connector: &str, sql: &str) -> String {
        let secrets = self.values.iter().filter(|option| connectors::is_secret(connector, &option.key));
        let mut shown = String::new();
        let mut hidden = 0..0;
        for (at, c) in sql.chars().enumerate() {
            if let Some(secret) = secrets.clone().find(|secret| secret.written.offset == at) {
                hidden = at..at + secret.written.text.chars().count();
                shown.push_str("'***'");
            }
            if !hidden.contains(&at) {
                shown.push(c);
            }
        }
        shown
    }

    /// The rest, for a connector.
    pub fn rest(self) -> BTreeMap<String, String> {
        self.values.into_iter().map(|option| (option.key, option.value)).collect()
    }

    /// Refuses the rest, naming the nearest option.
    pub fn finish(self) -> Result<()> {
        let Some(option) = self.values.first() else { return Ok(()) };
        let error = Error::invalid_parameter(format!("unrecognized option \"{}\"", option.key)).at(option.position);
        Err(match nearest(&option.key, self.known) {
            Some(known) => error.hint(format!("Perhaps you meant \"{known}\".")),
            None => error,
        })
    }
}

/// The error of a connector at the option that it is about: the first that it names, or else the one that says the connector.
pub fn placed(written: &[OptionValue], error: Error) -> Error {
    let named = error.message.split('"').skip(1).step_by(2);
    let is = |name: &str| written.iter().find(|option| option.key == name || option.value == name);
    match (error.position, named.filter_map(is).next()) {
        (None, Some(option)) => Error { position: Some(option.position), ..error },
        (Some(_), _) | (None, None) => error,
    }
}

/// Takes an option that is a duration in event time, in microseconds.
pub fn duration_us(options: &mut Options, key: &'static str) -> Result<Option<i64>> {
    let Some(ms) = options.duration_ms(key)? else { return Ok(None) };
    let us = i64::try_from(ms).ok().and_then(|ms| ms.checked_mul(1000));
    us.map(Some).ok_or_else(|| Error::invalid_parameter(format!("{key} is out of range")))
}

/// The name that is nearest to a wrong one, if any is near.
pub fn nearest<'a>(wrong: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = wrong.to_lowercase();
    let distance = |name: &str| strsim::damerau_levenshtein(&wrong, &name.to_lowercase());
    let (distance, name) = names.into_iter().map(|name| (distance(name), name)).min()?;
    (distance <= wrong.chars().count().max(3) / 3).then_some(name)
}

/// What FORMAT and ENCODE mean.
pub fn format(clause: &FormatClause) -> Result<Format> {
    let mut options = Options::new(&clause.options);
    let envelope = match clause.format.as_str() {
        "plain" => Some(Envelope::Plain),
        "upsert" => Some(Envelope::Upsert),
        _ => None,
    };
    let format = match (envelope, clause.encode.as_str()) {
        (Some(envelope), "json") => Format { envelope, encode: Encode::Json },
        (Some(envelope), "csv") => Format { envelope, encode: csv(&mut options)? },
        (_, encode) => {
            let format = &clause.format;
            let message = format!("FORMAT {} ENCODE {} is not supported", format.to_uppercase(), encode.to_uppercase());
            let error = Error::unsupported(message).at(clause.position);
            return Err(error.hint("FORMAT PLAIN and FORMAT UPSERT are, with ENCODE JSON and ENCODE CSV."));
        }
    };
    options.finish()?;
    Ok(format)
}

/// The options of ENCODE CSV; `without_header` is RisingWave's word.
fn csv(options: &mut Options) -> Result<Encode> {
    let header = options.boolean("header")?;
    let without = options.boolean("without_header")?;
    let header = header.or(without.map(|without| !without)).unwrap_or(true);
    let Some(delimiter) = options.take("delimiter") else { return Ok(Encode::Csv { header, delimiter: b',' }) };
    let delimiter = match delimiter.value.as_str() {
        "\\t" | "tab" => b'\t',
        text if text.len() == 1 && !matches!(text.as_bytes()[0], b'"' | b'\r' | b'\n' | 0) => text.as_bytes()[0],
        text => {
            return Err(Error::invalid_parameter(format!("invalid value for option \"delimiter\": \"{text}\""))
                .at(delimiter.position)
                .hint("It must be one ASCII character other than a quote or newline; 'tab' is one, too."));
        }
    };
    Ok(Encode::Csv { header, delimiter })
}

fn duration_ms(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().ok()?;
    let factor = match unit.trim().to_lowercase().as_str() {
        "" | "ms" | "millisecond" | "milliseconds" => 1.0,
        "s" | "sec" | "secs" | "second" | "seconds" => 1e3,
        "m" | "min" | "mins" | "minute" | "minutes" => 60e3,
        "h" | "hour" | "hours" => 3600e3,
        "d" | "day" | "days" => 86400e3,
        _ => return None,
    };
    Some((number * factor).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_their_units() {
        assert_eq!(duration_ms("30 seconds"), Some(30_000));
        assert_eq!(duration_ms("1.5min"), Some(90_000));
        assert_eq!(duration_ms("250"), Some(250));
        assert_eq!(duration_ms("1 fortnight"), None);
        assert_eq!(duration_ms("-3s"), None);
    }

    #[test]
    fn only_a_near_name_is_suggested() {
        assert_eq!(nearest("idle_timeuot", ["idle_timeout", "retention"]), Some("idle_timeout"));
        assert_eq!(nearest("zebra", ["idle_timeout", "retention"]), None);
    }
}
