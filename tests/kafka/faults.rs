//! What can happen to a topic and its broker: whatever it is, the views catch up exactly, or an error says what is lost. Never a gap.
//!
//! `KAFKA_MESSAGES=n`, `KAFKA_SERVER_KILLS=n`, `KAFKA_BROKER_KILLS=n`, `KAFKA_STALL_SECONDS=n`: the sizes.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream::time::Clock;
use millstream::time::SystemClock;

use crate::broker::Broker;
use crate::broker::Record;
use crate::database::Database;
use crate::database::source;

/// A number from the environment.
fn size(name: &str, default: i64) -> i64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn number(partition: i32, n: i64) -> Record {
    Record::new(partition, format!("{{\"n\":{n}}}"))
}

fn amount(i: i64) -> i64 {
    i * 7919 % 1_000_003
}

/// Produces the messages of these numbers over 4 partitions.
fn produce(broker: &Broker, topic: &str, numbers: std::ops::Range<i64>) {
    broker.produce(
        topic,
        numbers.map(|i| Record::new(i as i32 % 4, format!("{{\"k\":{},\"v\":{}}}", i % 97, amount(i)))),
    );
}

/// What two views come to over so many messages: for each key, and for each last digit of the key, count, sum and maximum.
fn answers(messages: i64) -> [Vec<String>; 2] {
    let mut groups = [BTreeMap::<i64, (i64, i64, i64)>::new(), BTreeMap::new()];
    for i in 0..messages {
        for (groups, key) in groups.iter_mut().zip([i % 97, i % 97 % 10]) {
            let (n, s, m) = groups.entry(key).or_insert((0, 0, 0));
            (*n, *s, *m) = (*n + 1, *s + amount(i), (*m).max(amount(i)));
        }
    }
    groups.map(|groups| groups.into_iter().map(|(k, (n, s, m))| format!("{k}|{n}|{s}|{m}")).collect())
}

/// How many messages the views have counted: both the same.
async fn counted(database: &Database) -> i64 {
    let counts = database.value("SELECT (SELECT sum(n) FROM by_key), (SELECT sum(n) FROM by_digit)").await;
    let (a, b) = counts.split_once('|').unwrap();
    assert_eq!(a, b, "one read, one epoch");
    if a == "NULL" { 0 } else { a.parse().unwrap() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_and_broker_die_again_and_again() {
    let messages = size("KAFKA_MESSAGES", 20_000);
    let (server_kills, broker_kills) = (size("KAFKA_SERVER_KILLS", 2), size("KAFKA_BROKER_KILLS", 1));
    let broker = Broker::start();
    broker.create_topic("dying", 4);
    let mut database = Database::start().await;
    database.execute(&source(&broker, "dying", "dying", "(k bigint, v bigint)", &[])).await;
    let views = "
        CREATE TABLE digits (d bigint PRIMARY KEY);
        INSERT INTO digits VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9);
        CREATE MATERIALIZED VIEW by_key AS SELECT k, count(*) AS n, sum(v) AS s, max(v) AS m FROM dying GROUP BY k;
        CREATE MATERIALIZED VIEW by_digit AS
          SELECT d, count(*) AS n, sum(v) AS s, max(v) AS m FROM dying JOIN digits ON d = k % 10 GROUP BY d";
    database.execute(views).await;
    let kills = server_kills + broker_kills;
    let (mut produced, mut before) = (0, 0);
    for kill in 0..kills {
        let more = messages * (kill + 1) / (kills + 1);
        produce(&broker, "dying", produced..more);
        // Somewhere in what was just produced.
        database.until("SELECT sum(n) FROM by_key", |rows| rows[0].parse::<i64>().is_ok_and(|n| n > produced)).await;
        produced = more;
        // The broker's kills lie evenly among the server's.
        if (kill + 1) * broker_kills / kills > kill * broker_kills / kills {
            broker.kill();
            before = before.max(counted(&database).await);
            broker.start_again();
        } else {
            database.restart().await;
        }
        let now = counted(&database).await;
        assert!((before..=produced).contains(&now), "{now} counted, {before} before, {produced} produced");
        before = now;
    }
    produce(&broker, "dying", produced..messages);
    let [by_key, by_digit] = answers(messages);
    for _ in 0..2 {
        database.execute("FLUSH").await;
        assert_eq!(database.rows("SELECT k, n, s, m FROM by_key ORDER BY k").await, by_key);
        assert_eq!(database.rows("SELECT d, n, s, m FROM by_digit ORDER BY d").await, by_digit);
        assert_eq!(database.rows("SELECT count(*) FROM dying$errors").await, ["0"]);
        database.restart().await;
    }
    println!("{messages} messages, {server_kills} server kills, {broker_kills} broker kills; exact");
}

/// Waits until the source tells this trouble, and checks that whoever waits for it is told too, and that all else goes on.
async fn is_told(database: &Database, trouble: &str, hint: &str) {
    database.until("SELECT trouble FROM ms_catalog.sources", |rows| rows[0].starts_with(trouble)).await;
    let error = database.refused("FLUSH").await;
    assert!(error.message().starts_with(trouble), "{error}");
    assert_eq!(error.hint(), Some(hint));
    database.execute("CREATE TABLE beside (x bigint); INSERT INTO beside VALUES (1); DROP TABLE beside").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_that_passes_what_was_read_is_told() {
    let broker = Broker::shared();
    broker.create_topic("retained", 2);
    let produce = |numbers: std::ops::Range<i64>| broker.produce("retained", numbers.map(|n| number(n as i32 % 2, n)));
    produce(0..1000);
    let mut database = Database::start().await;
    let create = source(broker, "retained", "retained", "(n bigint) INCLUDE PARTITION AS p, OFFSET AS o", &[]);
    let view =
        "CREATE MATERIALIZED VIEW kept AS SELECT p, count(*) AS n, min(o) AS lo, max(o) AS hi FROM retained GROUP BY p";
    database.execute(&format!("{create}; {view}")).await;
    database.execute("FLUSH").await;
    const KEPT: &str = "SELECT p, n, lo, hi FROM kept ORDER BY p";
    assert_eq!(database.rows(KEPT).await, ["0|500|0|499", "1|500|0|499"]);

    database.server.kill();
    produce(1000..2000);
    broker.forget_before("retained", 1, 700);
    database.restart().await;
    let hint =
        "The topic forgot messages that were not yet read, or was created anew. Drop the source and create it again.";
    is_told(&database, "offset 500 of partition 1 of topic \"retained\" is not there any more", hint).await;
    // Nothing of the partition was skipped; the other one is read as far as it was.
    let rows = database.rows(KEPT).await;
    assert_eq!(rows[1], "1|500|0|499");
    let other = rows[0].split('|').map(|n| n.parse::<i64>().unwrap()).collect::<Vec<_>>();
    assert!(other[1] == other[3] + 1 && other[2] == 0, "{rows:?}");
    // It is still so after another start, until somebody decides what to do.
    database.restart().await;
    is_told(&database, "offset 500 of partition 1 of topic \"retained\" is not there any more", hint).await;
    database.execute(&format!("DROP SOURCE retained CASCADE; {create}; {view}; FLUSH")).await;
    assert_eq!(database.rows(KEPT).await, ["0|1000|0|999", "1|300|700|999"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_created_anew_is_not_taken_for_the_old_one() {
    let broker = Broker::shared();
    let replace = |count: i64| {
        broker.delete_topic("replaced");
        broker.create_topic_again("replaced", 1);
        broker.produce("replaced", (0..count).map(|n| number(0, 1000 + n)));
    };
    broker.create_topic("replaced", 1);
    broker.produce("replaced", (0..10).map(|n| number(0, n)));
    let mut database = Database::start().await;
    let create = source(broker, "replaced", "replaced", "(n bigint)", &[]);
    let create = format!("{create}; CREATE MATERIALIZED VIEW sums AS SELECT count(*) AS n, min(n) AS lo FROM replaced");
    database.execute(&create).await;
    database.execute("FLUSH").await;
    assert_eq!(database.value("SELECT n, lo FROM sums").await, "10|0");

    // While the server is down, with more messages than there were: the next offset means something in the new topic too.
    database.server.kill();
    replace(25);
    database.restart().await;
    let (told, hint) = ("topic \"replaced\" was deleted and created anew", "Drop the source and create it again.");
    is_told(&database, told, hint).await;
    assert_eq!(database.value("SELECT n, lo FROM sums").await, "10|0");
    database.execute(&format!("DROP SOURCE replaced CASCADE; {create}; FLUSH")).await;
    assert_eq!(database.value("SELECT n, lo FROM sums").await, "25|1000");

    // While it is being read: nothing of the new topic is taken, however soon it is there.
    replace(50);
    let failed = [
        "topic \"replaced\" was deleted and created anew",
        "topic \"replaced\" does not exist",
        "offset 25 of partition 0",
    ];
    let is_failed = |rows: &[String]| failed.iter().any(|failed| rows[0].starts_with(failed));
    database.until("SELECT trouble FROM ms_catalog.sources", is_failed).await;
    database.refused("FLUSH").await;
    assert_eq!(database.value("SELECT n, lo FROM sums").await, "25|1000");
    broker.produce("replaced", [number(0, 1)]);
    database.restart().await;
    is_told(&database, told, hint).await;
    assert_eq!(database.value("SELECT n, lo FROM sums").await, "25|1000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_stalls_is_waited_for() {
    const MESSAGES: i64 = 100_000;
    let stall = Duration::from_secs(size("KAFKA_STALL_SECONDS", 3) as u64);
    let broker = Broker::start();
    broker.create_topic("stalled", 4);
    broker.produce("stalled", (0..MESSAGES).map(|n| number(n as i32 % 4, n)));
    let database = Database::start().await;
    // Little is fetched ahead.
    let options = [("properties.queued.max.messages.kbytes", "32"), ("properties.fetch.max.bytes", "32768")];
    database.execute(&source(&broker, "stalled", "stalled", "(n bigint)", &options)).await;
    database.execute("CREATE TABLE t (x bigint); CREATE MATERIALIZED VIEW xs AS SELECT count(*) AS n FROM t").await;
    database.execute("CREATE MATERIALIZED VIEW sums AS SELECT count(*) AS n, sum(n) AS s FROM stalled").await;
    let known = "SELECT lag IS NOT NULL AND n > 0 FROM ms_catalog.sources, sums";
    database.until(known, |rows| rows == ["t"]).await;
    broker.pause();
    let stalled = SystemClock.instant();
    let trouble = "SELECT trouble FROM ms_catalog.sources";
    database.until(trouble, |rows| rows[0].starts_with("kafka at 127.0.0.1:")).await;
    // What was fetched is counted, what was not is lag: it is all there.
    database.until("SELECT n + lag FROM ms_catalog.sources, sums", |rows| rows == [MESSAGES.to_string()]).await;
    let before = database.value("SELECT n, lag FROM ms_catalog.sources, sums").await;
    let mut written = 0;
    while SystemClock.instant().duration_since(stalled) < stall {
        database.execute("INSERT INTO t VALUES (1)").await;
        written += 1;
        assert_eq!(database.value("SELECT n FROM xs").await, written.to_string());
        assert_eq!(database.value("SELECT n, lag FROM ms_catalog.sources, sums").await, before);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    broker.resume();
    broker.produce("stalled", (MESSAGES..MESSAGES + 1000).map(|n| number(n as i32 % 4, n)));
    let all = MESSAGES + 1000;
    let answer = format!("{all}|{}", all * (all - 1) / 2);
    database.until("SELECT n, s FROM sums", |rows| rows == [answer.as_str()]).await;
    database.execute("FLUSH").await;
    assert_eq!(database.value("SELECT n, s FROM sums").await, answer);
    database.until(trouble, |rows| rows == ["NULL"]).await;
    database.until("SELECT lag FROM ms_catalog.sources", |rows| rows == ["0"]).await;
    println!("stalled for {} s, {written} writes beside it, counted and behind: {before}", stall.as_secs());
}
