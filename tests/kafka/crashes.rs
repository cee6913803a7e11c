//! From a topic to views while the server is killed again and again: every number is exact.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream::time::Clock;
use millstream::time::SystemClock;

use crate::broker::Broker;
use crate::broker::Record;
use crate::database::Database;
use crate::database::source;

const MESSAGES: i64 = 200_000;

/// Messages that are there before anybody reads.
const BACKLOG: i64 = 100_000;

/// Where the process dies, and at which visit; each in a process that is consuming.
const FAULTS: &[&str] = &[
    "recovery.after_load:1",
    "source.after_read:3",
    "commit.before_write:2",
    "epoch.before_seal:2",
    "commit.after_write:2",
    "commit.after_sync:1",
    "source.after_read:1",
    "commit.before_write:1",
    "commit.after_write:1",
];

const VIEWS: &str = "
    CREATE TABLE groups (g bigint PRIMARY KEY, name text NOT NULL);
    INSERT INTO groups SELECT g, 'group ' || g FROM (VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)) AS v (g);
    CREATE MATERIALIZED VIEW by_key AS
      SELECT k, count(*) AS n, sum(v) AS s, max(v) AS m FROM crashed GROUP BY k;
    CREATE MATERIALIZED VIEW by_name AS
      SELECT g.name, count(*) AS n, sum(c.v) AS s, min(c.v) AS m
      FROM crashed c JOIN groups g ON g.g = c.k % 10 GROUP BY g.name";

fn key(i: i64) -> i64 {
    i % 97
}

fn amount(i: i64) -> i64 {
    i * 7919 % 1_000_003
}

/// Produces the messages of these numbers.
fn produce(broker: &Broker, numbers: std::ops::Range<i64>) {
    let record = |i: i64| Record::new((i % 4) as i32, format!("{{\"k\":{},\"v\":{}}}", key(i), amount(i)));
    broker.produce("crashed", numbers.map(record));
}

/// `by_key` as it must be in the end.
fn by_key() -> Vec<String> {
    let mut groups = BTreeMap::<i64, (i64, i64, i64)>::new();
    for i in 0..MESSAGES {
        let (n, s, m) = groups.entry(key(i)).or_insert((0, 0, i64::MIN));
        (*n, *s, *m) = (*n + 1, *s + amount(i), (*m).max(amount(i)));
    }
    groups.into_iter().map(|(k, (n, s, m))| format!("{k}|{n}|{s}|{m}")).collect()
}

/// `by_name` as it must be in the end, with group 3 renamed.
fn by_name() -> Vec<String> {
    let mut groups = BTreeMap::<String, (i64, i64, i64)>::new();
    for i in 0..MESSAGES {
        let name = if key(i) % 10 == 3 { "renamed".to_string() } else { format!("group {}", key(i) % 10) };
        let (n, s, m) = groups.entry(name).or_insert((0, 0, i64::MAX));
        (*n, *s, *m) = (*n + 1, *s + amount(i), (*m).min(amount(i)));
    }
    groups.into_iter().map(|(name, (n, s, m))| format!("{name}|{n}|{s}|{m}")).collect()
}

/// How many messages the views have counted: both the same, never fewer than before, never more than there are.
async fn counted(database: &Database, before: i64, produced: i64) -> i64 {
    let counts = "SELECT (SELECT sum(n) FROM by_key), (SELECT sum(n) FROM by_name)";
    let counts = database.rows(counts).await;
    let (a, b) = counts[0].split_once('|').unwrap();
    assert_eq!(a, b, "one read, one epoch");
    let counted = if a == "NULL" { 0 } else { a.parse().unwrap() };
    assert!((before..=produced).contains(&counted), "{counted} were counted, {before} before, {produced} produced");
    counted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_counted_twice_by_kill_9() {
    let broker = Broker::shared();
    broker.create_topic("crashed", 4);
    produce(broker, 0..BACKLOG);
    let mut database = Database::start().await;
    database.execute(&source(broker, "crashed", "crashed", "(k bigint, v bigint)", &[])).await;
    database.execute(VIEWS).await;

    // Into the backlog, as soon as some of it is visible.
    let mut before = 0;
    for _ in 0..3 {
        let more = |rows: &[String]| rows[0].parse::<i64>().is_ok_and(|n| n > before || n == BACKLOG);
        database.until("SELECT sum(n) FROM by_key", more).await;
        database.restart().await;
        before = counted(&database, before, BACKLOG).await;
    }
    database.execute("UPDATE groups SET name = 'renamed' WHERE g = 3").await;

    // At named points, while more is produced until the process has died.
    let mut produced = BACKLOG;
    for fault in FAULTS {
        if database.launch_to_die(fault).await {
            let deadline = SystemClock.instant() + Duration::from_secs(60);
            while !database.died(Duration::from_millis(100)).await {
                assert!(SystemClock.instant() < deadline && produced < MESSAGES, "{fault} was not reached");
                produce(broker, produced..produced + 1000);
                produced += 1000;
            }
        }
        database.restart().await;
        before = counted(&database, before, produced).await;
    }

    produce(broker, produced..MESSAGES);
    for _ in 0..2 {
        database.execute("FLUSH").await;
        assert_eq!(database.rows("SELECT k, n, s, m FROM by_key ORDER BY k").await, by_key());
        assert_eq!(database.rows("SELECT name, n, s, m FROM by_name ORDER BY name").await, by_name());
        assert_eq!(counted(&database, MESSAGES, MESSAGES).await, MESSAGES);
        database.restart().await;
    }
}
