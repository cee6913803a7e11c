//! `connector = 'file'`: the lines of a file, of the files of a directory, or of those that match a pattern.
//!
//! Each file is a partition, named as the `path` names it; an offset is the number of the byte at which a line begins. Files
//! are read in the order of their names, each to its end. With `follow` the reader then goes on looking for lines that were
//! appended and for files that are new; without, the source ends there.
//!
//! Which bytes of a file were read is only known by their number. So a file that becomes shorter, or that is replaced by
//! another one, ends the source with an error: nothing is guessed.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossbeam_channel::Sender;

use self::pattern::Pattern;
use self::reader::FileReader;
use self::rows::RowsBuilder;
use super::Connector;
use super::Part;
use super::Positions;
use super::Reader;
use super::SourceEvent;
use super::SourceSpec;
use super::options::Default;
use super::options::OptionKind;
use super::options::OptionSpec;
use super::options::Options;
use crate::error::Error;
use crate::error::Result;
use crate::formats::Envelope;
use crate::time::Clock;
use crate::types::Column;
use crate::types::SqlType;

mod pattern;
mod confined;
mod records;
mod rows;
mod reader;

/// The options of `connector = 'file'`.
const OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: "path",
        kind: OptionKind::Text,
        default: Default::Required,
        doc: "A file, a directory (its files, but not those that begin with a dot), or a pattern with * and ? in it. It must \
              lie in a directory that the server was started with (--file-root); a relative one is looked for in each.",
    },
    OptionSpec {
        name: "follow",
        kind: OptionKind::Choice(&["true", "false"]),
        default: Default::Value("false"),
        doc: "Whether to go on with lines that are appended and files that are new. A last line without a newline then \
              waits for it. Without, the files that are there when the source is created are read once.",
    },
];

/// `connector = 'file'`.
pub(super) struct Files;

/// What the options say.
struct Settings {
    pattern: Pattern,
    follow: bool,
}

impl Connector for Files {
    fn name(&self) -> &'static str {
        "file"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn validate(&self, spec: &SourceSpec) -> Result<()> {
        Settings::of(spec)?;
        let Some(format) = &spec.format else {
            return Err(Error::invalid_parameter("a source of files needs a FORMAT")
                .hint("Write FORMAT PLAIN ENCODE JSON or FORMAT PLAIN ENCODE CSV after the options."));
        };
        if format.envelope == Envelope::Upsert {
            return Err(Error::unsupported("the lines of a file have no keys, which FORMAT UPSERT needs")
                .hint("Write FORMAT PLAIN: a table with a PRIMARY KEY is overwritten by its columns."));
        }
        for (column, part) in &spec.columns {
            check_column(column, part)?;
        }
        RowsBuilder::new(spec, "").map(|_| ())
    }

    fn columns(&self, _options: &BTreeMap<String, String>) -> Result<Option<Vec<Column>>> {
        Ok(None)
    }

    fn start(&self, spec: &SourceSpec) -> Result<Positions> {
        self.validate(spec)?;
        let settings = Settings::of(spec)?;
        let files = settings.pattern.files(&spec.environment.file_roots)?;
        if files.is_empty() && !settings.follow {
            return Err(settings.pattern.nothing());
        }
        Ok(files.into_keys().map(|name| (name, 0)).collect())
    }

    fn read(
        &self,
        spec: SourceSpec,
        from: Positions,
        clock: Arc<dyn Clock>,
        events: Sender<SourceEvent>,
    ) -> Result<Box<dyn Reader>> {
        self.validate(&spec)?;
        let settings = Settings::of(&spec)?;
        Ok(Box::new(FileReader::start(spec, settings, from, clock, events)?))
    }
}

impl Settings {
    fn of(spec: &SourceSpec) -> Result<Settings> {
        let options = Options::check("file", OPTIONS, &spec.options)?;
        if spec.environment.file_roots.is_empty() {
            return Err(Error::new(crate::error::Kind::NotReady, "the server does not read files").hint(
                "Start it with --file-root DIRECTORY (or MILLSTREAM_FILE_ROOT) to let sources read what lies in it.",
            ));
        }
        let pattern = Pattern::parse(options.text("path").expect("the option is required"))?;
        Ok(Settings { pattern, follow: options.text("follow") == Some("true") })
    }
}

/// Whether a part of a file can fill a column of this type.
fn check_column(column: &Column, part: &Part) -> Result<()> {
    let (what, ty) = match part {
        Part::Field(_) => return Ok(()),
        Part::Offset => ("OFFSET", SqlType::BigInt),
        Part::File => ("FILE", SqlType::Text),
        Part::Key | Part::Partition | Part::Timestamp | Part::Headers => {
            return Err(Error::unsupported("a line of a file has no such part to INCLUDE")
                .hint("INCLUDE FILE is its file's name, INCLUDE OFFSET the number of its first byte."));
        }
    };
    if column.ty == ty {
        return Ok(());
    }
    Err(Error::type_mismatch(format!("INCLUDE {what} makes a column of type {ty}, not {}", column.ty)))
}

#[cfg(test)]
mod tests;
