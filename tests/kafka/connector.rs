//! The connector by itself: readers, positions, decoding.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int32Type;
use arrow::datatypes::Int64Type;
use arrow::datatypes::TimestampMicrosecondType;
use crossbeam_channel::Receiver;
use millstream::connectors::Connector;
use millstream::connectors::MessageError;
use millstream::connectors::Part;
use millstream::connectors::Positions;
use millstream::connectors::Reader;
use millstream::connectors::SourceBatch;
use millstream::connectors::SourceEvent;
use millstream::connectors::SourceSpec;
use millstream::connectors::find;
use millstream::error::Error;
use millstream::error::Kind;
use millstream::ids::ObjectId;
use millstream::time::Clock;
use millstream::time::SystemClock;
use millstream::types::Column;
use millstream::types::SqlType;

use crate::broker::Broker;
use crate::broker::Record;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

fn kafka() -> &'static dyn Connector {
    find("kafka").unwrap()
}

/// A source of one column `n`.
fn source(broker: &Broker, topic: &str, options: &[(&str, &str)]) -> SourceSpec {
    let mut all = BTreeMap::from([
        ("topic".to_string(), topic.to_string()),
        ("properties.bootstrap.server".to_string(), broker.address().to_string()),
    ]);
    all.extend(options.iter().map(|(k, v)| (k.to_string(), v.to_string())));
    let columns = vec![(Column::new("n", SqlType::BigInt), Part::Field("n".into()))];
    SourceSpec {
        source: ObjectId(16384),
        name: topic.into(),
        columns,
        options: all,
        until: None,
        identity: None,
        fields: Vec::new(),
        format: None,
        environment: Arc::default(),
    }
}

fn number(partition: i32, n: i64) -> Record {
    Record::new(partition, format!("{{\"n\":{n}}}"))
}

/// What a reader has told so far.
struct Reading {
    reader: Box<dyn Reader>,
    events: Receiver<SourceEvent>,
    batches: Vec<SourceBatch>,
    troubles: Vec<Error>,
    failed: Option<Error>,
}

impl Reading {
    fn start(spec: &SourceSpec) -> Reading {
        Reading::from(spec, kafka().start(spec).unwrap())
    }

    fn from(spec: &SourceSpec, positions: Positions) -> Reading {
        let (sender, events) = crossbeam_channel::bounded(4);
        let reader = kafka().read(spec.clone(), positions, Arc::new(SystemClock), sender).unwrap();
        Reading { reader, events, batches: Vec::new(), troubles: Vec::new(), failed: None }
    }

    /// Takes events in until this holds.
    #[track_caller]
    fn until(&mut self, what: &str, done: impl Fn(&Reading) -> bool) {
        let deadline = SystemClock.instant() + PATIENCE;
        while !done(self) {
            match self.events.recv_deadline(deadline) {
                Ok(SourceEvent::Batch(batch)) => self.batches.push(batch),
                Ok(SourceEvent::Trouble { error, .. }) => self.troubles.push(error),
                Ok(SourceEvent::Failed { error, .. }) => self.failed = Some(error),
                Err(_) => panic!("not seen in time: {what}; {} rows, {:?}", self.rows(), self.troubles),
            }
        }
    }

    fn rows(&self) -> usize {
        self.batches.iter().map(|b| b.batch.num_rows()).sum()
    }

    /// All values of `n`, sorted; one that could not be read is NULL.
    fn numbers(&self) -> Vec<i64> {
        let columns = self.batches.iter().map(|b| b.batch.column(0).as_primitive::<Int64Type>());
        let mut numbers = columns.flatten().flatten().collect::<Vec<_>>();
        numbers.sort_unstable();
        numbers
    }

    fn errors(&self) -> Vec<&MessageError> {
        self.batches.iter().flat_map(|b| &b.errors).collect()
    }

    /// Where each partition stands.
    fn positions(&self) -> Positions {
        self.batches.iter().map(|b| (b.partition.clone(), b.next_offset)).collect()
    }

    /// Whether the last batch of each of these partitions told its end.
    fn all_at_end(&self, partitions: usize) -> bool {
        let last = self.batches.iter().map(|b| (&b.partition, b.at_end)).collect::<BTreeMap<_, _>>();
        last.len() == partitions && last.values().all(|at_end| *at_end)
    }
}

#[test]
fn every_message_comes_once_and_a_second_reader_goes_on() {
    let broker = Broker::shared();
    broker.create_topic("many", 4);
    broker.produce("many", (0..10_000).map(|n| number(n as i32 % 4, n)));
    let spec = source(broker, "many", &[]);
    let mut reading = Reading::start(&spec);
    reading.until("all ends", |r| r.all_at_end(4));
    assert_eq!(reading.numbers(), (0..10_000).collect::<Vec<_>>());
    assert_eq!(Some(reading.positions()), reading.reader.end()().unwrap());
    assert!(reading.batches.iter().all(|b| b.batch.num_rows() <= 4096));

    // A batch's position is that after its rows, whatever was read beyond.
    let first = reading.batches.iter().find(|b| b.batch.num_rows() > 0).unwrap().clone();
    let mut positions = kafka().start(&spec).unwrap();
    positions.insert(first.partition.clone(), first.next_offset);
    let mut second = Reading::from(&spec, positions);
    second.until("the rest", |r| r.all_at_end(4));
    assert_eq!(second.rows(), 10_000 - first.batch.num_rows());

    broker.produce("many", [number(2, 10_000)]);
    reading.until("one more", |r| r.rows() == 10_001);

    reading.reader.committed(&reading.positions());
    let told = || broker.group_offset("millstream-many", "many", 2);
    let deadline = SystemClock.instant() + PATIENCE;
    while told() != Some(2501) {
        assert!(SystemClock.instant() < deadline, "the group was told {:?}", told());
        SystemClock.sleep(Duration::from_millis(100));
    }
}

#[test]
fn what_does_not_decode_is_told_and_stops_nothing() {
    let broker = Broker::shared();
    broker.create_topic("poison", 1);
    let deep = format!("{{\"n\":{}1{}}}", "[".repeat(200), "]".repeat(200));
    type Poison<'a> = (Option<&'a [u8]>, &'a str, Option<&'a str>);
    let poison: Vec<Poison<'_>> = vec![
        (Some(b"{\"n\":1"), "the text ends where \",\" or \"}\" was expected", None),
        (Some(b"\xff\xfe"), "the text is not valid UTF-8 after byte 0", None),
        (Some(b"[1]"), "a JSON object was expected", None),
        (Some(b""), "the text is empty", None),
        (None, "the message has no payload, which means nothing under FORMAT PLAIN", None),
        (Some(deep.as_bytes()), "values are nested more than 128 deep", None),
        (Some(b"{\"n\":\"x\"}"), "invalid input syntax for type bigint: \"x\"", Some("n")),
        (Some(b"{\"n\":1e30}"), "invalid input syntax for type bigint: \"1e30\"", Some("n")),
    ];
    let bad = |payload: &Option<&[u8]>| Record { payload: payload.map(<[u8]>::to_vec), ..Record::default() };
    let records = poison.iter().enumerate().flat_map(|(i, (payload, ..))| [number(0, i as i64), bad(payload)]);
    broker.produce("poison", records.collect::<Vec<_>>());
    let mut reading = Reading::start(&source(broker, "poison", &[]));
    reading.until("the end", |r| r.all_at_end(1));
    assert_eq!(reading.numbers(), (0..poison.len() as i64).collect::<Vec<_>>());
    for (i, (error, (payload, reason, column))) in reading.errors().into_iter().zip(&poison).enumerate() {
        assert_eq!(error.offset, i as i64 * 2 + 1);
        assert_eq!(error.payload.as_deref(), *payload);
        assert_eq!((error.reason.as_str(), error.column.as_deref()), (*reason, *column));
    }
    assert_eq!(reading.errors().len(), poison.len());
}

#[test]
fn the_parts_of_a_message() {
    let broker = Broker::shared();
    broker.create_topic("parts", 2);
    let full = Record {
        partition: 1,
        key: Some(b"k".to_vec()),
        timestamp: Some(1_700_000_000_123),
        headers: vec![("h".into(), b"1".to_vec()), ("bad".into(), b"\xff".to_vec())],
        ..number(1, 7)
    };
    let bad_key = Record { key: Some(b"\xff".to_vec()), ..number(1, 8) };
    broker.produce("parts", [full, bad_key, number(1, 9)]);
    let mut spec = source(broker, "parts", &[]);
    for (name, ty, part) in [
        ("k", SqlType::Text, Part::Key),
        ("p", SqlType::Integer, Part::Partition),
        ("o", SqlType::BigInt, Part::Offset),
        ("t", SqlType::Timestamptz, Part::Timestamp),
        ("h", SqlType::Text, Part::Headers),
    ] {
        spec.columns.push((Column::new(name, ty), part));
    }
    let mut reading = Reading::start(&spec);
    // A key that cannot be read is missed only by those who read it.
    reading.until("the rows", |r| r.rows() == 3);
    let batches = reading.batches.iter().map(|b| &b.batch).collect::<Vec<_>>();
    let batch = arrow::compute::concat_batches(&batches[0].schema(), batches).unwrap();
    assert_eq!(batch.column(1).as_string::<i32>().iter().collect::<Vec<_>>(), [Some("k"), None, None]);
    assert_eq!(batch.column(2).as_primitive::<Int32Type>().values(), &[1, 1, 1]);
    assert_eq!(batch.column(3).as_primitive::<Int64Type>().values(), &[0, 1, 2]);
    assert_eq!(batch.column(4).as_primitive::<TimestampMicrosecondType>().value(0), 1_700_000_000_123_000);
    let headers = batch.column(5).as_string::<i32>().iter().collect::<Vec<_>>();
    assert_eq!(headers, [Some("{\"bad\":\"\u{fffd}\",\"h\":\"1\"}"), None, None]);
    assert_eq!(reading.errors()[0].column.as_deref(), Some("k"));
}

#[test]
fn a_start_is_resolved_to_offsets() {
    let broker = Broker::shared();
    broker.create_topic("start", 2);
    let at = |n: i64| Record { timestamp: Some(1_700_000_000_000 + n), ..number(0, n) };
    broker.produce("start", (0..100).map(at));
    let start = |options: &[(&str, &str)]| kafka().start(&source(broker, "start", options)).unwrap();
    let positions = |p0, p1| Positions::from([("0".to_string(), p0), ("1".to_string(), p1)]);
    assert_eq!(start(&[]), positions(0, 0));
    assert_eq!(start(&[("scan.startup.mode", "latest")]), positions(100, 0));
    let from = |millis| start(&[("scan.startup.mode", "timestamp"), ("scan.startup.timestamp.millis", millis)]);
    assert_eq!(from("1700000000042"), positions(42, 0));
    assert_eq!(from("1900000000000"), positions(100, 0));
}

#[test]
fn a_partition_added_is_read_from_its_beginning() {
    let broker = Broker::shared();
    broker.create_topic("grown", 1);
    broker.produce("grown", [number(0, 0)]);
    let mut reading = Reading::start(&source(broker, "grown", &[("scan.startup.mode", "latest")]));
    broker.grow_topic("grown", 3);
    broker.produce("grown", [number(0, 1), number(1, 2), number(2, 3)]);
    reading.until("the new partitions", |r| r.rows() == 3);
    assert_eq!(reading.numbers(), [1, 2, 3]);
    reading.until("their ends", |r| r.all_at_end(3));
}

#[test]
fn a_transaction_counts_when_it_is_committed() {
    let broker = Broker::shared();
    broker.create_topic("transactions", 1);
    broker.produce_transaction("transactions", [number(0, 1), number(0, 2)], true);
    broker.produce_transaction("transactions", [number(0, 3)], false);
    let mut reading = Reading::start(&source(broker, "transactions", &[]));
    // The records that end a transaction have offsets too: the position must come to lie behind them.
    reading.until("the end", |r| r.all_at_end(1));
    assert_eq!(reading.numbers(), [1, 2]);
    let end = reading.reader.end()().unwrap().unwrap();
    reading.until("the position behind the markers", |r| r.positions() == end);
}

#[test]
fn a_broker_may_go_away_and_come_back() {
    let broker = Broker::start();
    broker.create_topic("away", 2);
    broker.produce("away", (0..100).map(|n| number(n as i32 % 2, n)));
    let mut reading = Reading::start(&source(&broker, "away", &[]));
    reading.until("the first rows", |r| r.rows() == 100);
    broker.stop();
    reading.until("trouble", |r| !r.troubles.is_empty());
    assert!(reading.troubles[0].message.starts_with("kafka at 127.0.0.1:"), "{:?}", reading.troubles);
    let told = reading.batches.len();
    broker.start_again();
    reading.until("a batch that clears the trouble", |r| r.batches.len() > told);
    broker.produce("away", (100..200).map(|n| number(n as i32 % 2, n)));
    reading.until("the rows after", |r| r.rows() == 200);
    broker.kill();
    broker.start_again();
    broker.produce("away", (200..300).map(|n| number(n as i32 % 2, n)));
    reading.until("the rows after the crash", |r| r.rows() == 300);
    assert_eq!(reading.numbers(), (0..300).collect::<Vec<_>>());
    assert!(reading.failed.is_none());
}

#[test]
fn offsets_that_are_gone_are_an_error_and_not_skipped() {
    let broker = Broker::shared();
    broker.create_topic("forgotten", 1);
    broker.produce("forgotten", (0..10).map(|n| number(0, n)));
    let spec = source(broker, "forgotten", &[]);
    let start = kafka().start(&spec).unwrap();
    broker.forget_before("forgotten", 0, 5);
    let mut reading = Reading::from(&spec, start);
    reading.until("the failure", |r| r.failed.is_some());
    assert_eq!(reading.failed.unwrap().message, "offset 0 of partition 0 of topic \"forgotten\" is not there any more");
    assert_eq!(kafka().start(&spec).unwrap(), Positions::from([("0".to_string(), 5)]));
}

#[test]
fn a_topic_deleted_is_a_failure() {
    let broker = Broker::shared();
    broker.create_topic("deleted", 1);
    broker.produce("deleted", [number(0, 0)]);
    let mut reading = Reading::start(&source(broker, "deleted", &[]));
    reading.until("the row", |r| r.rows() == 1);
    broker.delete_topic("deleted");
    reading.until("the failure", |r| r.failed.is_some());
    assert!(reading.failed.unwrap().message.starts_with("topic \"deleted\" does not exist on "));
}

#[test]
fn what_is_not_there_is_a_clear_error() {
    let broker = Broker::shared();
    broker.create_topic("present", 1);
    let error = kafka().start(&source(broker, "presnt", &[])).unwrap_err();
    assert_eq!(error.kind, Kind::UndefinedObject);
    assert_eq!(error.message, format!("topic \"presnt\" does not exist on {}", broker.address()));
    assert_eq!(error.hint.as_deref(), Some("Create it, or perhaps you meant \"present\"."));
    let nowhere = [("properties.bootstrap.server", "127.0.0.1:1")];
    let error = kafka().start(&source(broker, "present", &nowhere)).unwrap_err();
    assert_eq!(error.kind, Kind::Io);
    assert!(error.message.starts_with("kafka at 127.0.0.1:1 cannot be reached: "), "{error}");
}

#[test]
fn a_reader_that_nobody_reads_waits_and_ends_when_dropped() {
    let broker = Broker::shared();
    broker.create_topic("held", 1);
    broker.produce("held", (0..50_000).map(|n| number(0, n)));
    let mut reading = Reading::start(&source(broker, "held", &[]));
    SystemClock.sleep(Duration::from_millis(500));
    assert!(reading.events.len() <= 4);
    reading.until("all rows", |r| r.rows() == 50_000);
    let held = Reading::start(&source(broker, "held", &[]));
    let dropped = SystemClock.instant();
    drop(held.reader);
    assert!(SystemClock.instant().duration_since(dropped) < Duration::from_secs(5));
}
