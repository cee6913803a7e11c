//! Tables that a topic fills: added to, overwritten and taken from by key, exact whatever is killed when.

use std::collections::BTreeMap;

use crate::broker::Broker;
use crate::broker::Record;
use crate::database::Database;

/// A message of this key; without a payload it takes the row of its key away.
fn keyed(partition: i32, key: i64, payload: Option<String>) -> Record {
    let key = Some(key.to_string().into_bytes());
    match payload {
        Some(payload) => Record { key, ..Record::new(partition, payload) },
        None => Record { partition, key, ..Record::default() },
    }
}

/// What a table of this name and these columns is created by.
fn table(broker: &Broker, name: &str, topic: &str, columns: &str, format: &str) -> String {
    format!(
        "CREATE TABLE {name} {columns} WITH (connector = 'kafka', topic = '{topic}',
         properties.bootstrap.server = '{}') FORMAT {format} ENCODE JSON",
        broker.address()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upserts_and_tombstones_are_exact_after_kill_9() {
    const ROUNDS: i64 = 6;
    const KEYS: i64 = 2000;
    let broker = Broker::shared();
    broker.create_topic("upserted", 3);
    let mut database = Database::start().await;
    let columns = "(v bigint, PRIMARY KEY (k)) INCLUDE KEY AS k BIGINT";
    database.execute(&table(broker, "kept", "upserted", columns, "UPSERT")).await;
    let added = table(broker, "added", "upserted", "(v bigint) INCLUDE KEY AS k TEXT", "PLAIN");
    database.execute(&added).await;
    database.execute("CREATE MATERIALIZED VIEW sums AS SELECT count(*) AS n, sum(v) AS s, max(v) AS m FROM kept").await;

    let (mut rows, mut written) = (BTreeMap::new(), 0);
    for round in 0..ROUNDS {
        let mut records = Vec::new();
        for i in 0..KEYS * 3 {
            let key = (i * 7919 + round) % KEYS;
            let value = (i % 5 != 0).then_some(round * 1_000_000 + i);
            match value {
                Some(value) => rows.insert(key, value),
                None => rows.remove(&key),
            };
            written += i64::from(value.is_some());
            records.push(keyed((key % 3) as i32, key, value.map(|v| format!("{{\"v\":{v}}}"))));
        }
        broker.produce("upserted", records);
        // In the middle of it, wherever that is.
        database.restart().await;
        let consistent = "SELECT (SELECT count(*) FROM kept) = n, (SELECT sum(v) FROM kept) = s FROM sums";
        let answer = database.value(consistent).await;
        assert!(answer == "t|t" || answer == "t|NULL", "{answer}");
    }
    for _ in 0..2 {
        database.execute("FLUSH").await;
        let expected = rows.iter().map(|(key, value)| format!("{key}|{value}")).collect::<Vec<_>>();
        assert_eq!(database.rows("SELECT k, v FROM kept ORDER BY k").await, expected);
        let (sum, most) = (rows.values().sum::<i64>(), rows.values().max().unwrap());
        assert_eq!(database.value("SELECT n, s, m FROM sums").await, format!("{}|{sum}|{most}", rows.len()));
        assert_eq!(database.value("SELECT count(*) FROM added").await, written.to_string());
        // What means nothing under FORMAT PLAIN is kept apart.
        let tombstones = ROUNDS * KEYS * 3 - written;
        assert_eq!(database.value("SELECT count(*) FROM added$errors").await, tombstones.to_string());
        assert_eq!(database.value("SELECT count(*) FROM kept$errors").await, "0");
        database.restart().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_cannot_be_read_is_kept_apart() {
    let broker = Broker::shared();
    broker.create_topic("badly_keyed", 1);
    let text = |key: &str| Record { key: Some(key.into()), ..Record::new(0, "{\"v\":1}") };
    broker.produce("badly_keyed", [text("1"), text("one"), Record::new(0, "{\"v\":2}"), text("2")]);
    let database = Database::start().await;
    let columns = "(v bigint, PRIMARY KEY (k)) INCLUDE KEY AS k BIGINT";
    database.execute(&table(broker, "badly_keyed", "badly_keyed", columns, "UPSERT")).await;
    database.execute("FLUSH").await;
    assert_eq!(database.rows("SELECT k, v FROM badly_keyed ORDER BY k").await, ["1|1", "2|1"]);
    assert_eq!(
        database.rows("SELECT \"offset\", \"column\", reason FROM badly_keyed$errors ORDER BY \"offset\"").await,
        [
            "1|k|invalid input syntax for type bigint: \"one\"",
            "2|k|null value in column \"k\" violates not-null constraint"
        ]
    );
}
