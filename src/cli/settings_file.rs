//! The settings file of `serve`: its flags by their names, in TOML. A flag goes before the environment, and that before the
//! file.

use std::ffi::OsString;
use std::path::Path;

use clap::Args;
use clap::Command;
use toml_edit::Document;
use toml_edit::Item;
use toml_edit::Value;

use crate::cli::ServeOptions;
use crate::connectors::options::nearest;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;

/// The flag that names the file, and has no place in it.
pub(super) const CONFIG: &str = "config";

/// What a file says of one flag.
pub(super) struct Setting {
    /// The flag's id, as clap calls it.
    pub id: String,
    /// What would be written on the command line instead.
    pub arguments: Vec<OsString>,
}

/// The settings of a file, each checked as its flag would be: a wrong one is told with its line, even where a flag goes before it.
pub(super) fn read(file: &Path) -> Result<Vec<Setting>> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        let message = format!("cannot read the settings file {}: {error}", file.display());
        Error::new(Kind::Io, message).hint("Name another one with --config or MILLSTREAM_CONFIG.")
    })?;
    let place = Place { file, text: &text };
    let document = Document::parse(text.as_str())
        .map_err(|error| place.error(error.span().map_or(0, |span| span.start), error.message().trim()))?;
    let flags = ServeOptions::augment_args(Command::new("serve").no_binary_name(true).disable_help_flag(true));
    let known = flags.get_arguments().filter(|flag| flag.get_id().as_str() != CONFIG).collect::<Vec<_>>();
    let mut settings = Vec::new();
    for (key, item) in document.iter() {
        let at = document.as_table().key(key).and_then(|key| key.span()).map_or(0, |span| span.start);
        // Underscores are as good as hyphens.
        let name = key.replace('_', "-");
        let Some(flag) = known.iter().find(|flag| flag.get_long() == Some(&name)) else {
            let names = known.iter().filter_map(|flag| flag.get_long()).collect::<Vec<_>>();
            let error = place.error(at, &format!("unknown setting \"{key}\""));
            return Err(match nearest(&name, names.iter().copied()) {
                Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
                None => error.hint(format!("The settings are {}.", names.join(", "))),
            });
        };
        let values = values_of(item).ok_or_else(|| {
            place.error(at, &format!("setting \"{key}\" is neither a text nor a number nor a list of such"))
        })?;
        let arguments = values.iter().map(|value| format!("--{name}={value}").into()).collect::<Vec<OsString>>();
        if let Err(error) = flags.clone().try_get_matches_from(&arguments) {
            return Err(place.error(at, &format!("invalid value for setting \"{key}\"")).detail(reason(&error)));
        }
        settings.push(Setting { id: flag.get_id().to_string(), arguments });
    }
    Ok(settings)
}

/// The values of a setting as they would be written after its flag.
fn values_of(item: &Item) -> Option<Vec<String>> {
    match item.as_value()? {
        Value::Array(values) => values.iter().map(text_of).collect(),
        value => text_of(value).map(|value| vec![value]),
    }
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.value().clone()),
        Value::Integer(number) => Some(number.value().to_string()),
        Value::Float(number) => Some(number.value().to_string()),
        Value::Boolean(truth) => Some(truth.value().to_string()),
        Value::Datetime(_) | Value::Array(_) | Value::InlineTable(_) => None,
    }
}

/// Why clap refuses a value, without what it says for a command line.
fn reason(error: &clap::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => source.to_string(),
        None => error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_string(),
    }
}

/// A file and what is in it, to say where something is wrong.
struct Place<'a> {
    file: &'a Path,
    text: &'a str,
}

impl Place<'_> {
    fn error(&self, at: usize, what: &str) -> Error {
        let before = &self.text.as_bytes()[..at.min(self.text.len())];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        Error::invalid_parameter(format!("{}:{line}: {what}", self.file.display()))
    }
}
