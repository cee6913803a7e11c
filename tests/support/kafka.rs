//! A real Kafka broker for tests: started by `kafka/kafka.sh`, gone when the test process is gone, however it ends.

use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use futures::executor::block_on;
use rdkafka::ClientConfig;
use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::admin::AdminClient;
use rdkafka::admin::AdminOptions;
use rdkafka::admin::NewPartitions;
use rdkafka::admin::NewTopic;
use rdkafka::admin::TopicReplication;
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::BaseConsumer;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::Header;
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::BaseProducer;
use rdkafka::producer::BaseRecord;
use rdkafka::producer::Producer;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running broker.
pub struct Broker {
    directory: PathBuf,
    address: String,
    /// Waits for the end of its input, which is this process's end, and then kills the broker and removes its data.
    watchdog: Child,
}

/// A message to be produced.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub partition: i32,
    pub key: Option<Vec<u8>>,
    pub payload: Option<Vec<u8>>,
    /// Milliseconds since 1970; `None`: now.
    pub timestamp: Option<i64>,
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Record {
    /// A message of this payload, without a key.
    pub fn new(partition: i32, payload: impl Into<Vec<u8>>) -> Record {
        Record { partition, payload: Some(payload.into()), ..Record::default() }
    }
}

impl Broker {
    /// The broker that all tests of this process share, each with topics of its own.
    pub fn shared() -> &'static Broker {
        static SHARED: OnceLock<Broker> = OnceLock::new();
        SHARED.get_or_init(Broker::start)
    }

    /// A broker of the caller's own, to be stopped and started at will.
    pub fn start() -> Broker {
        let directory = tempfile::Builder::new().prefix("millstream-kafka-").tempdir().unwrap().keep();
        let watch = "read _; \"$0\" kill \"$1\"; rm -rf \"$1\"";
        let watchdog = Command::new("bash")
            .args(["-c", watch])
            .arg(script())
            .arg(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let address = run("start", &directory);
        Broker { directory, address, watchdog }
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Stops it cleanly.
    pub fn stop(&self) {
        run("stop", &self.directory);
    }

    /// Kills it as a crash would.
    pub fn kill(&self) {
        run("kill", &self.directory);
    }

    /// Stops it in its tracks: connections stay open, and nothing answers.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = std::fs::read_to_string(self.directory.join("pid")).unwrap();
        assert!(Command::new("kill").args([signal, pid.trim()]).status().unwrap().success());
    }

    /// Starts it again, with its data, at its address.
    pub fn start_again(&self) {
        assert_eq!(run("start", &self.directory), self.address);
    }

    /// Creates a topic.
    pub fn create_topic(&self, topic: &str, partitions: i32) {
        let topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        let results = block_on(self.admin().create_topics([&topic], &AdminOptions::new())).unwrap();
        results.into_iter().for_each(|result| drop(result.unwrap()));
    }

    /// Creates a topic that was just deleted, as soon as it is gone.
    pub fn create_topic_again(&self, topic: &str, partitions: i32) {
        let topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        let admin = self.admin();
        for _ in 0..10_000 {
            let results = block_on(admin.create_topics([&topic], &AdminOptions::new())).unwrap();
            match results.into_iter().next().unwrap() {
                Ok(_) => return,
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
        panic!("topic {} is still there", topic.name);
    }

    /// Deletes a topic.
    pub fn delete_topic(&self, topic: &str) {
        let results = block_on(self.admin().delete_topics(&[topic], &AdminOptions::new())).unwrap();
        results.into_iter().for_each(|result| drop(result.unwrap()));
    }

    /// Gives a topic so many partitions in all.
    pub fn grow_topic(&self, topic: &str, partitions: usize) {
        let grown = NewPartitions::new(topic, partitions);
        let results = block_on(self.admin().create_partitions([&grown], &AdminOptions::new())).unwrap();
        results.into_iter().for_each(|result| drop(result.unwrap()));
    }

    /// Makes the topic forget what lies before these offsets.
    pub fn forget_before(&self, topic: &str, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset)).unwrap();
        let results = block_on(self.admin().delete_records(&list, &AdminOptions::new())).unwrap();
        results.elements().iter().for_each(|element| element.error().unwrap());
    }

    /// Produces these messages and waits until the broker has them.
    pub fn produce(&self, topic: &str, records: impl IntoIterator<Item = Record>) {
        let producer: BaseProducer = self.config().set("linger.ms", "5").create().unwrap();
        send_all(&producer, topic, records);
        producer.flush(PATIENCE).unwrap();
    }

    /// Produces these messages in one transaction, which it commits or aborts.
    pub fn produce_transaction(&self, topic: &str, records: impl IntoIterator<Item = Record>, commit: bool) {
        let producer: BaseProducer = self.config().set("transactional.id", topic).create().unwrap();
        producer.init_transactions(PATIENCE).unwrap();
        producer.begin_transaction().unwrap();
        send_all(&producer, topic, records);
        producer.flush(PATIENCE).unwrap();
        if commit {
            producer.commit_transaction(PATIENCE).unwrap();
        } else {
            producer.abort_transaction(PATIENCE).unwrap();
        }
    }

    /// The offset that this group has committed for a partition.
    pub fn group_offset(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        let consumer: BaseConsumer = self.config().set("group.id", group).create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        let list = consumer.committed_offsets(list, PATIENCE).unwrap();
        match list.elements()[0].offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        }
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.address);
        config
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.config().create().unwrap()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        self.watchdog.wait().unwrap();
    }
}

fn send_all(producer: &BaseProducer, topic: &str, records: impl IntoIterator<Item = Record>) {
    for record in records {
        let headers = record
            .headers
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(value) }));
        let mut message = BaseRecord::<[u8], [u8]>::to(topic).partition(record.partition).headers(headers);
        if let Some(key) = &record.key {
            message = message.key(key);
        }
        if let Some(payload) = &record.payload {
            message = message.payload(payload);
        }
        if let Some(timestamp) = record.timestamp {
            message = message.timestamp(timestamp);
        }
        while let Err((error, again)) = producer.send(message) {
            assert_eq!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
            producer.poll(Duration::from_millis(10));
            message = again;
        }
        producer.poll(Duration::ZERO);
    }
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/kafka/kafka.sh")
}

/// Runs the script and gives what it printed.
fn run(verb: &str, directory: &Path) -> String {
    let output = Command::new(script()).arg(verb).arg(directory).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "kafka.sh {verb} failed; are the packages of `make test` installed?");
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}
