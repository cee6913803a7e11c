//! Connectors carry messages and offsets; they never know what the messages mean. Those of sources are here [`Connector`]s, those
//! of sinks [`SinkConnector`]s.
//!
//! A connector resolves where a source starts ([`Connector::start`]) and then runs a reader on threads of its own, which
//! puts [`SourceBatch`]es into a bounded queue: when the queue is full the reader waits (Kafka partitions are paused), so
//! nothing grows without limit.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use crossbeam_channel::Sender;
use parking_lot::Mutex;

use self::options::OptionKind;
use self::options::OptionSpec;
use crate::error::Error;
use crate::error::Result;
use crate::formats::Format;
use crate::ids::ObjectId;
use crate::time::Clock;
use crate::types::Column;

pub mod options;
mod blackhole;
mod file;
mod generator;
mod kafka;
mod worker;

/// Next offset to read of each partition.
pub type Positions = BTreeMap<String, i64>;

/// What of a message fills a column of a source. (Computed columns are not the connector's business.)
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// The payload's field of this name.
    Field(String),
    /// The message key.
    Key,
    /// The partition number.
    Partition,
    /// The offset.
    Offset,
    /// The message's timestamp.
    Timestamp,
    /// The headers, as the text of a JSON object.
    Headers,
    /// The name of the file.
    File,
}

/// What the server lets its connectors touch.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// The directories that files may be read from, as real paths.
    pub file_roots: Vec<PathBuf>,
}

/// Where a new source begins.
#[derive(Clone, Debug, Default)]
pub struct Beginning {
    /// The first offset of each partition.
    pub positions: Positions,
    /// What tells its input from a later one of the same name.
    pub identity: Option<String>,
}

/// A source as its connector sees it.
#[derive(Clone, Debug)]
pub struct SourceSpec {
    /// Which source.
    pub source: ObjectId,
    /// Its name, for messages and logs.
    pub name: String,
    /// The columns wanted, in this order, each with what fills it.
    pub columns: Vec<(Column, Part)>,
    /// The names of all fields that the source declares, wanted or not, in their order.
    pub fields: Vec<String>,
    /// FORMAT and ENCODE; `None` for a connector that makes rows itself.
    pub format: Option<Format>,
    /// The connector's options as given.
    pub options: BTreeMap<String, String>,
    /// Reads what lies before these offsets and nothing else, as fast as it goes: it was there already.
    pub until: Option<Positions>,
    /// What [`Connector::identity`] told when the source was created. Another input of the same name is not read.
    pub identity: Option<String>,
    /// What may be touched.
    pub environment: Arc<Environment>,
}

/// Decoded rows of one partition.
#[derive(Clone, Debug)]
pub struct SourceBatch {
    /// Which source.
    pub source: ObjectId,
    /// Which partition.
    pub partition: String,
    /// The rows: the columns of [`SourceSpec::columns`]. May be empty: then only the position moved, or the end was met.
    pub batch: RecordBatch,
    /// Which of the rows say that the row of their key is to go; empty: none does.
    pub deleted: Vec<bool>,
    /// The offset of each row.
    pub offsets: Vec<i64>,
    /// The offset after these rows.
    pub next_offset: i64,
    /// Whether the reader stood at the partition's end after these rows.
    pub at_end: bool,
    /// What of this range could not be decoded: messages, which have no row, and values, where their rows have NULL.
    pub errors: Vec<MessageError>,
}

/// A message that could not be decoded, or one value of it.
#[derive(Clone, Debug)]
pub struct MessageError {
    /// Its offset.
    pub offset: i64,
    /// The payload as it came; `None` also when it decoded and a value computed from it is what failed.
    pub payload: Option<Vec<u8>>,
    /// Why.
    pub reason: String,
    /// The column whose value had the wrong type or could not be computed; `None`: the whole message is broken.
    pub column: Option<String>,
}

/// What a reader tells.
#[derive(Clone, Debug)]
pub enum SourceEvent {
    /// Rows.
    Batch(SourceBatch),
    /// The source cannot be read at the moment; it is tried again. Shown to users, cleared by the next batch.
    Trouble { source: ObjectId, error: Error },
    /// The source can never be read on (offsets no longer kept, topic deleted). The reader has stopped.
    Failed { source: ObjectId, error: Error },
}

/// One kind of input.
pub trait Connector: Send + Sync {
    /// Its name in `connector = '...'`.
    fn name(&self) -> &'static str;

    /// The options it knows.
    fn options(&self) -> &'static [OptionSpec];

    /// Checks options and columns without any I/O; names the nearest known option for an unknown one.
    fn validate(&self, spec: &SourceSpec) -> Result<()>;

    /// The columns that a source gets when none are declared; `None` when they must be declared.
    fn columns(&self, options: &BTreeMap<String, String>) -> Result<Option<Vec<Column>>>;

    /// The partitions there are and the offset at which each begins, by the options. May take a while; fails when the other
    /// side cannot be reached or the topic does not exist.
    fn start(&self, spec: &SourceSpec) -> Result<Positions>;

    /// What tells the input from a later one of the same name, where there is such a thing. Asked before [`Connector::start`], so that
    /// an input that is replaced in between is noticed.
    fn identity(&self, _spec: &SourceSpec) -> Result<Option<String>> {
        Ok(None)
    }

    /// Starts reading from these positions (partitions found later start at their beginning).
    fn read(
        &self,
        spec: SourceSpec,
        from: Positions,
        clock: Arc<dyn Clock>,
        events: Sender<SourceEvent>,
    ) -> Result<Box<dyn Reader>>;
}

/// The question where an input ends, to be asked on a thread that may wait for the answer.
pub type EndQuestion = Box<dyn FnOnce() -> Result<Option<Positions>> + Send>;

/// The offset after the last message of each partition, as it was last seen; empty where nobody knows.
pub type Ends = Arc<Mutex<Positions>>;

/// A running reader. Dropping it stops its threads and waits for them.
pub trait Reader: Send {
    /// These positions are committed in our store: the other side may be told, for its lag tools.
    fn committed(&self, positions: &Positions);

    /// Asks for the offsets after the last message that exists then, for FLUSH and lag; `None` when the input is endless.
    fn end(&self) -> EndQuestion;

    /// Where its partitions end, as far as it notices by itself: kept up to date while it runs.
    fn ends_seen(&self) -> Ends {
        Ends::default()
    }
}

/// One kind of output.
pub trait SinkConnector: Send + Sync {
    /// Its name in `connector = '...'`.
    fn name(&self) -> &'static str;

    /// The options it knows.
    fn options(&self) -> &'static [OptionSpec];

    /// Checks options without any I/O; names the nearest known option for an unknown one.
    fn validate(&self, options: &BTreeMap<String, String>) -> Result<()>;
}

/// Every connector of sources there is.
static ALL: &[&dyn Connector] = &[&generator::Datagen, &file::Files, &generator::Generator, &kafka::Kafka];

/// Every connector of sinks there is.
static SINKS: &[&dyn SinkConnector] = &[&blackhole::Blackhole];

/// The name and options of every connector, of sources and of sinks.
pub fn all() -> impl Iterator<Item = (&'static str, &'static [OptionSpec])> {
    let sources = ALL.iter().map(|connector| (connector.name(), connector.options()));
    sources.chain(SINKS.iter().map(|connector| (connector.name(), connector.options())))
}

/// Whether an option's value is not to be shown: that of a secret, and of whatever is not known.
pub fn is_secret(connector: &str, option: &str) -> bool {
    let mut specs = all().filter(|(name, _)| *name == connector).flat_map(|(_, specs)| specs);
    match specs.find(|spec| spec.is_named(option)) {
        Some(OptionSpec { kind: OptionKind::Secret, .. }) | None => true,
        Some(_) => false,
    }
}

/// The connector of sources of this name; an unknown name is refused, naming the nearest.
pub fn find(name: &str) -> Result<&'static dyn Connector> {
    let found = ALL.iter().find(|connector| connector.name() == name).copied();
    found.ok_or_else(|| unknown(name, "connector", ALL.iter().map(|connector| connector.name())))
}

/// Checks the options given for a connector of sources against its list.
pub fn check_options(connector: &str, given: &BTreeMap<String, String>) -> Result<()> {
    let connector = find(connector)?;
    options::check_given(connector.name(), connector.options(), given)
}

/// The connector of sinks of this name; an unknown name is refused, naming the nearest.
pub fn find_sink(name: &str) -> Result<&'static dyn SinkConnector> {
    let found = SINKS.iter().find(|connector| connector.name() == name).copied();
    found.ok_or_else(|| unknown(name, "connector of sinks", SINKS.iter().map(|connector| connector.name())))
}

fn unknown(name: &str, what: &str, names: impl Iterator<Item = &'static str>) -> Error {
    let error = Error::undefined_object(format!("{what} \"{name}\" does not exist"));
    let names = names.collect::<Vec<_>>();
    match options::nearest(name, names.iter().copied()) {
        Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
        None => {
            let names = names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>();
            error.hint(format!("There {} {}.", if names.len() == 1 { "is" } else { "are" }, names.join(", ")))
        }
    }
}
