//! `connector = 'kafka'`: the partitions of one topic, each read from an offset of ours.
//!
//! Which partitions are read, and from where, is decided here and remembered in our own commits: no consumer group assigns
//! them. The group of the option `group.id.prefix` only learns afterwards how far we are, so that lag tools can show it.
//!
//! ```text
//!  librdkafka's threads ──► its queue (bounded in bytes) ──► reader: rows by partition ──► events (bounded) ──► engine
//!                                                             ▲ new partitions
//!                                        housekeeper: metadata every few seconds, offsets to the group
//! ```
//!
//! While the events' queue is full the reader does not poll, librdkafka's queue fills up and fetching pauses.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossbeam_channel::Sender;

use self::client::Cluster;
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
use crate::formats::Encode;
use crate::time::Clock;
use crate::types::Column;
use crate::types::SqlType;

mod client;
mod headers;
mod identity;
mod rows;
mod reader;

/// The options of `connector = 'kafka'`.
const OPTIONS: &[OptionSpec] = &[
    OptionSpec { name: "topic", kind: OptionKind::Text, default: Default::Required, doc: "The topic to read." },
    OptionSpec {
        name: "properties.bootstrap.server",
        kind: OptionKind::Text,
        default: Default::Required,
        doc: "Where the brokers are: host:port, several separated by commas.",
    },
    OptionSpec {
        name: "scan.startup.mode",
        kind: OptionKind::Choice(&["earliest", "latest", "timestamp"]),
        default: Default::Value("earliest"),
        doc: "Where the source begins: at the first message still kept, after the last one, or at the first one that is not \
              older than scan.startup.timestamp.millis. It is resolved to offsets when the source is created.",
    },
    OptionSpec {
        name: "scan.startup.timestamp.millis",
        kind: OptionKind::Integer { min: 0, max: i64::MAX / 1000 },
        default: Default::None,
        doc: "Milliseconds since 1970 (UTC), for scan.startup.mode = 'timestamp'.",
    },
    OptionSpec {
        name: "group.id.prefix",
        kind: OptionKind::Text,
        default: Default::Value("millstream"),
        doc: "Committed offsets are told to the consumer group of this name, a hyphen and the source's name.",
    },
    OptionSpec {
        name: "properties.client.id",
        kind: OptionKind::Text,
        default: Default::Value("millstream"),
        doc: "The name that the brokers show in their logs and quotas.",
    },
    OptionSpec {
        name: "properties.security.protocol",
        kind: OptionKind::Choice(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]),
        default: Default::Value("PLAINTEXT"),
        doc: "How the connection is secured.",
    },
    OptionSpec {
        name: "properties.sasl.mechanism",
        kind: OptionKind::Choice(&["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]),
        default: Default::Value("PLAIN"),
        doc: "How to log in, when the protocol is one with SASL.",
    },
    OptionSpec {
        name: "properties.sasl.username",
        kind: OptionKind::Text,
        default: Default::None,
        doc: "The user to log in as.",
    },
    OptionSpec {
        name: "properties.sasl.password",
        kind: OptionKind::Secret,
        default: Default::None,
        doc: "The user's password.",
    },
    OptionSpec {
        name: "properties.ssl.ca.pem",
        kind: OptionKind::Text,
        default: Default::None,
        doc: "Certificates that the broker's may be signed by, in PEM form; without it, those of the system.",
    },
    OptionSpec {
        name: "properties.ssl.ca.location",
        kind: OptionKind::Text,
        default: Default::None,
        doc: "As properties.ssl.ca.pem, in a file on the server, which must lie under /etc/ssl or /etc/millstream.",
    },
    OptionSpec {
        name: "properties.fetch.max.bytes",
        kind: OptionKind::Integer { min: 1024, max: 1 << 30 },
        default: Default::Value("52428800"),
        doc: "The most bytes that a broker sends at a time.",
    },
    OptionSpec {
        name: "properties.queued.max.messages.kbytes",
        kind: OptionKind::Integer { min: 1, max: 2_097_151 },
        default: Default::Value("32768"),
        doc: "How much is fetched ahead at most, in KiB.",
    },
];

/// `connector = 'kafka'`.
pub(super) struct Kafka;

/// Where a source begins.
enum Startup {
    Earliest,
    Latest,
    /// Milliseconds since 1970.
    Timestamp(i64),
}

impl Connector for Kafka {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn options(&self) -> &'static [OptionSpec] {
        OPTIONS
    }

    fn validate(&self, spec: &SourceSpec) -> Result<()> {
        let options = checked(&spec.options)?;
        Startup::of(&options)?;
        client::check(&options)?;
        let encode = spec.format.as_ref().map(|format| &format.encode);
        if let Some(Encode::Csv { header: true, .. }) = encode {
            return Err(Error::invalid_parameter("a message of a topic has no header")
                .hint("Write ENCODE CSV (header = false): the fields then go by the order of the columns."));
        }
        for (column, part) in &spec.columns {
            check_column(column, part)?;
        }
        RowsBuilder::new(spec).map(|_| ())
    }

    fn columns(&self, options: &BTreeMap<String, String>) -> Result<Option<Vec<Column>>> {
        checked(options).map(|_| None)
    }

    fn start(&self, spec: &SourceSpec) -> Result<Positions> {
        self.validate(spec)?;
        let options = checked(&spec.options)?;
        let cluster = Cluster::connect(&options, &spec.name)?;
        let partitions = cluster.first_look()?;
        match Startup::of(&options)? {
            Startup::Earliest => cluster.first_offsets(&partitions),
            Startup::Latest => cluster.end_offsets(&partitions),
            Startup::Timestamp(millis) => cluster.offsets_at(&partitions, millis),
        }
    }

    fn identity(&self, spec: &SourceSpec) -> Result<Option<String>> {
        self.validate(spec)?;
        let cluster = Cluster::connect(&checked(&spec.options)?, &spec.name)?;
        cluster.first_look()?;
        cluster.topic_id(client::PATIENCE)
    }

    fn read(
        &self,
        spec: SourceSpec,
        from: Positions,
        clock: Arc<dyn Clock>,
        events: Sender<SourceEvent>,
    ) -> Result<Box<dyn Reader>> {
        self.validate(&spec)?;
        let cluster = Cluster::connect(&checked(&spec.options)?, &spec.name)?;
        Ok(Box::new(reader::KafkaReader::start(spec, &from, clock, events, cluster)?))
    }
}

impl Startup {
    fn of(options: &Options<'_>) -> Result<Startup> {
        let millis = options.integer("scan.startup.timestamp.millis");
        match (options.text("scan.startup.mode"), millis) {
            (Some("timestamp"), Some(millis)) => Ok(Startup::Timestamp(millis)),
            (Some("timestamp"), None) => Err(Error::invalid_parameter(
                "scan.startup.mode = 'timestamp' needs the option \"scan.startup.timestamp.millis\"",
            )),
            (_, Some(_)) => Err(Error::invalid_parameter(
                "option \"scan.startup.timestamp.millis\" needs scan.startup.mode = 'timestamp'",
            )),
            (Some("latest"), None) => Ok(Startup::Latest),
            (_, None) => Ok(Startup::Earliest),
        }
    }
}

fn checked(options: &BTreeMap<String, String>) -> Result<Options<'_>> {
    Options::check("kafka", OPTIONS, options)
}

/// Whether a part of the message can fill a column of this type.
fn check_column(column: &Column, part: &Part) -> Result<()> {
    let (what, types): (_, &[SqlType]) = match part {
        Part::Field(_) => return Ok(()),
        // A key of another type than bytea is read as text of that type.
        Part::Key => return Ok(()),
        Part::Partition => ("PARTITION", &[SqlType::Integer]),
        Part::Offset => ("OFFSET", &[SqlType::BigInt]),
        Part::Timestamp => ("TIMESTAMP", &[SqlType::Timestamptz]),
        Part::Headers => ("HEADERS", &[SqlType::Text]),
        Part::File => {
            return Err(Error::unsupported("a message of a topic lies in no file that INCLUDE FILE could name"));
        }
    };
    if types.contains(&column.ty) {
        return Ok(());
    }
    let types = types.iter().map(SqlType::to_string).collect::<Vec<_>>().join(" or ");
    Err(Error::type_mismatch(format!("INCLUDE {what} makes a column of type {types}, not {}", column.ty)))
}

#[cfg(test)]
mod tests;
