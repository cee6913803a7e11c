//! The way to the brokers: our options in librdkafka's words, and the questions we ask about a topic.

use std::ffi::CString;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::bindings::rd_kafka_brokers_add;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::BaseConsumer;
use rdkafka::consumer::Consumer;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::error::KafkaResult;
use rdkafka::error::RDKafkaErrorCode;

use crate::connectors::Positions;
use crate::connectors::options::Options;
use crate::connectors::options::nearest;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;

/// How long a statement waits for the brokers.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Where certificates may be read from: a statement must not be able to make the server open any file.
const CERTIFICATE_DIRECTORIES: &[&str] = &["/etc/ssl", "/etc/millstream"];

/// Our options that librdkafka knows under a name of its own.
const PASSED_ON: &[(&str, &str)] = &[
    ("properties.bootstrap.server", "bootstrap.servers"),
    ("properties.client.id", "client.id"),
    ("properties.security.protocol", "security.protocol"),
    ("properties.sasl.username", "sasl.username"),
    ("properties.sasl.password", "sasl.password"),
    ("properties.ssl.ca.pem", "ssl.ca.pem"),
    ("properties.fetch.max.bytes", "fetch.max.bytes"),
    ("properties.queued.max.messages.kbytes", "queued.max.messages.kbytes"),
];

/// What the reader's promises need, whatever the options say.
const FIXED: &[(&str, &str)] = &[
    // Positions are ours: never moved, never forgotten, never guessed.
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("allow.auto.create.topics", "false"),
    ("isolation.level", "read_committed"),
    ("enable.partition.eof", "true"),
    // A reader that is held back by a full queue polls late; nobody takes its partitions away.
    ("max.poll.interval.ms", "86400000"),
    // The end of a partition is noticed after this; a full queue is looked at again after that.
    ("fetch.wait.max.ms", "100"),
    ("fetch.queue.backoff.ms", "10"),
    ("fetch.error.backoff.ms", "200"),
    // A broker that was away is found soon after it comes back.
    ("reconnect.backoff.max.ms", "1000"),
    // A partition whose leader was not known yet when it was assigned is only asked for again with the next refresh.
    ("topic.metadata.refresh.interval.ms", "5000"),
    // What we would send; fetch.max.bytes may not be less.
    ("message.max.bytes", "1000"),
    ("log.connection.close", "false"),
    // What it says of topics tells us when a topic of the same name takes another's place.
    ("debug", "topic"),
];

/// A topic on its brokers.
pub(super) struct Cluster {
    pub(super) consumer: BaseConsumer<Context>,
    pub(super) topic: String,
    /// The brokers as the user named them, for messages.
    servers: String,
}

/// Sends librdkafka's words to our log, and hears what it says nowhere else.
#[derive(Default)]
pub(super) struct Context {
    /// The id of the topic that librdkafka reads from now on. It says so before it fetches the first message by it.
    topic_id: Mutex<Option<String>>,
    /// How often that was another one.
    topic_ids: AtomicUsize,
    /// Why brokers could not be reached, as last said.
    reason: Mutex<Option<String>>,
}

impl Context {
    /// How often librdkafka has said by which id it reads the topic.
    pub(super) fn topic_ids(&self) -> usize {
        self.topic_ids.load(Ordering::Acquire)
    }

    /// The id of the topic that is read, if it was said.
    pub(super) fn topic_id(&self) -> Option<String> {
        self.topic_id.lock().clone()
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if let Some((_, ids)) = message.split_once(" changed id from ")
            && let Some((_, id)) = ids.split_once(" to ")
        {
            *self.topic_id.lock() = Some(id.trim().to_string());
            self.topic_ids.fetch_add(1, Ordering::Release);
        }
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                tracing::warn!(facility, "kafka: {message}");
            }
            RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                tracing::debug!(facility, "kafka: {message}");
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!("kafka: {error}: {reason}");
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            *self.reason.lock() = Some(reason.to_string());
        }
    }
}

impl ConsumerContext for Context {
    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::debug!("kafka: offsets were not told to the group: {error}");
        }
    }
}

impl Cluster {
    /// A client by these options. Connects in the background.
    pub(super) fn connect(options: &Options<'_>, source: &str) -> Result<Cluster> {
        check(options)?;
        let mut config = ClientConfig::new();
        for (name, value) in FIXED {
            config.set(*name, *value);
        }
        for (ours, theirs) in PASSED_ON {
            if let Some(value) = options.text(ours) {
                config.set(*theirs, value);
            }
        }
        let prefix = options.text("group.id.prefix").expect("the option has a default");
        config.set("group.id", format!("{prefix}-{source}"));
        if let (Some(_), Some(mechanism)) =
            (options.text("properties.sasl.username"), options.text("properties.sasl.mechanism"))
        {
            config.set("sasl.mechanism", mechanism);
        }
        if let Some(location) = options.text("properties.ssl.ca.location") {
            config.set("ssl.ca.location", confined(location)?);
        }
        config.set_log_level(RDKafkaLogLevel::Debug);
        let consumer = config
            .create_with_context(Context::default())
            .map_err(|error| Error::invalid_parameter(format!("kafka: {error}")))?;
        let text = |name| options.text(name).expect("the option is required").to_string();
        Ok(Cluster { consumer, topic: text("topic"), servers: text("properties.bootstrap.server") })
    }

    /// Names the brokers to librdkafka again. One that stops or starts may answer that there are none, and librdkafka 2.12 then
    /// forgets them for good (its issue 5301). Those it knows stay as they are, but each call leaves a copy of the list in its memory.
    pub(super) fn name_brokers(&self) {
        let Ok(servers) = CString::new(self.servers.as_str()) else { return };
        // SAFETY: the client lives as long as `self`, and the list is copied.
        unsafe { rd_kafka_brokers_add(self.consumer.client().native_ptr(), servers.as_ptr()) };
    }

    /// The topic's partitions.
    pub(super) fn partitions(&self, timeout: Duration) -> Result<Vec<i32>> {
        let metadata = self.consumer.fetch_metadata(Some(&self.topic), timeout).map_err(|e| self.unreachable(&e))?;
        let topic = metadata.topics().iter().find(|t| t.name() == self.topic);
        let error = topic.and_then(|t| t.error()).map(RDKafkaErrorCode::from);
        match (topic, error) {
            (None, _) | (_, Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic)) => {
                Err(self.missing())
            }
            (Some(_), Some(error)) => {
                Err(Error::io(format!("topic \"{}\" on {} cannot be read: {error}", self.topic, self.servers)))
            }
            (Some(topic), None) => {
                let mut partitions = topic.partitions().iter().map(|p| p.id()).collect::<Vec<_>>();
                partitions.sort_unstable();
                Ok(partitions)
            }
        }
    }

    /// The topic's partitions, of a client that has nothing to read yet: an error tells why, which is among what it would read.
    pub(super) fn first_look(&self) -> Result<Vec<i32>> {
        self.partitions(PATIENCE).map_err(|error| {
            while self.consumer.poll(Duration::ZERO).is_some() {}
            match self.consumer.context().reason.lock().take() {
                Some(reason) if error.kind == Kind::Io => error.detail(format!("{}.", reason.trim_end_matches('.'))),
                Some(_) | None => error,
            }
        })
    }

    /// The first offset that each partition still holds.
    pub(super) fn first_offsets(&self, partitions: &[i32]) -> Result<Positions> {
        partitions.iter().map(|p| Ok((p.to_string(), self.bounds(*p, PATIENCE)?.0))).collect()
    }

    /// The offset after each partition's last message.
    pub(super) fn end_offsets(&self, partitions: &[i32]) -> Result<Positions> {
        partitions.iter().map(|p| Ok((p.to_string(), self.bounds(*p, PATIENCE)?.1))).collect()
    }

    /// The offset of each partition's first message that is not older than this; its end where there is none.
    pub(super) fn offsets_at(&self, partitions: &[i32], millis: i64) -> Result<Positions> {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            let added = list.add_partition_offset(&self.topic, *partition, Offset::Offset(millis));
            added.map_err(|e| self.unreachable(&e))?;
        }
        let found = self.consumer.offsets_for_times(list, PATIENCE).map_err(|e| self.unreachable(&e))?;
        let mut positions = Positions::new();
        for element in found.elements() {
            element.error().map_err(|e| self.unreachable(&e))?;
            let offset = match element.offset() {
                Offset::Offset(offset) => offset,
                _ => self.bounds(element.partition(), PATIENCE)?.1,
            };
            positions.insert(element.partition().to_string(), offset);
        }
        Ok(positions)
    }

    /// The first offset kept, and the one after the last.
    pub(super) fn bounds(&self, partition: i32, timeout: Duration) -> Result<(i64, i64)> {
        self.consumer.fetch_watermarks(&self.topic, partition, timeout).map_err(|e| self.unreachable(&e))
    }

    /// Positions as librdkafka's list.
    pub(super) fn list(&self, positions: impl IntoIterator<Item = (i32, i64)>) -> Result<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in positions {
            list.add_partition_offset(&self.topic, partition, Offset::Offset(offset))
                .map_err(|e| Error::corrupted(format!("offset {offset} of partition {partition}: {e}")))?;
        }
        Ok(list)
    }

    /// The error for brokers that do not answer.
    pub(super) fn unreachable(&self, error: &KafkaError) -> Error {
        let code = error.rdkafka_error_code();
        let why = code.map_or_else(|| error.to_string(), |code| code.to_string());
        Error::io(format!("kafka at {} cannot be reached: {why}", self.servers))
            .hint("Check the address, that the broker runs, and properties.security.protocol.")
    }

    /// The error for a topic that is not there.
    pub(super) fn missing(&self) -> Error {
        let error = Error::undefined_object(format!("topic \"{}\" does not exist on {}", self.topic, self.servers));
        let Ok(metadata) = self.consumer.fetch_metadata(None, PATIENCE) else { return error };
        match nearest(&self.topic, metadata.topics().iter().map(|t| t.name())) {
            Some(near) => error.hint(format!("Create it, or perhaps you meant \"{near}\".")),
            None => error.hint("Create it first: reading a topic does not create it."),
        }
    }
}

/// Whether these options go together, and name no file outside of where certificates lie.
pub(super) fn check(options: &Options<'_>) -> Result<()> {
    let protocol = options.text("properties.security.protocol").expect("the option has a default");
    let user = options.text("properties.sasl.username");
    let password = options.text("properties.sasl.password");
    if protocol.starts_with("SASL") && (user.is_none() || password.is_none()) {
        return Err(Error::invalid_parameter(format!(
            "security protocol {protocol} needs the options \"properties.sasl.username\" and \"properties.sasl.password\""
        )));
    }
    if !protocol.starts_with("SASL") && (user.is_some() || password.is_some()) {
        return Err(Error::invalid_parameter(format!("security protocol {protocol} does not log in"))
            .hint("Set properties.security.protocol to 'SASL_SSL' or 'SASL_PLAINTEXT'."));
    }
    options.text("properties.ssl.ca.location").map_or(Ok(()), |location| confined(location).map(|_| ()))
}

/// The real path of a file of certificates, if it lies where it may.
fn confined(location: &str) -> Result<String> {
    let refuse = || {
        Error::invalid_parameter(format!("\"{location}\" is no file under {}", CERTIFICATE_DIRECTORIES.join(" or ")))
            .hint("Give the certificates themselves in properties.ssl.ca.pem.")
    };
    let path = Path::new(location).canonicalize().map_err(|_| refuse())?;
    if !path.is_file() || !CERTIFICATE_DIRECTORIES.iter().any(|directory| path.starts_with(directory)) {
        return Err(refuse());
    }
    Ok(path.to_str().ok_or_else(refuse)?.to_string())
}
