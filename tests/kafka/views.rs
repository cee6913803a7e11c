//! What a client sees of a topic: views over it, its errors, its watermarks, its troubles.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::broker::Broker;
use crate::broker::Record;
use crate::database::Database;
use crate::database::source;

fn number(partition: i32, n: i64) -> Record {
    Record::new(partition, format!("{{\"n\":{n}}}"))
}

/// `{"n": n, "at": second n of the year}`.
fn event(partition: i32, n: i64) -> Record {
    let at = format!("2026-01-01 00:{:02}:{:02}", n / 60, n % 60);
    Record::new(partition, format!("{{\"n\":{n},\"at\":\"{at}\"}}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_may_be_away_and_views_stay_readable() {
    let broker = Broker::start();
    broker.create_topic("absent", 4);
    let produce = |numbers: std::ops::Range<i64>| broker.produce("absent", numbers.map(|n| number(n as i32 % 4, n)));
    produce(0..50_000);
    let mut database = Database::start().await;
    database.execute(&source(&broker, "absent", "absent", "(n bigint)", &[])).await;
    database.execute("CREATE TABLE t (x bigint); CREATE MATERIALIZED VIEW sums AS SELECT sum(x) AS s FROM t").await;
    database.execute("CREATE MATERIALIZED VIEW counts AS SELECT count(*) AS n, sum(n) AS s FROM absent").await;
    const COUNTS: &str = "SELECT n, s FROM counts";
    const TROUBLE: &str = "SELECT trouble FROM ms_catalog.sources WHERE name = 'absent'";

    // While it consumes.
    database.until("SELECT n FROM counts", |rows| rows[0] != "0").await;
    broker.stop();
    database.until(TROUBLE, |rows| rows[0].starts_with("kafka at 127.0.0.1:")).await;
    let counted = database.value("SELECT n FROM counts").await.parse::<i64>().unwrap();
    assert!((1..=50_000).contains(&counted), "{counted}");
    // Whoever asks the broker waits, and is told; nobody else waits.
    let (other, asked) = (database.server.connect().await, AtomicBool::new(false));
    let flush = async {
        let error = other.batch_execute("FLUSH").await.unwrap_err();
        asked.store(true, Ordering::SeqCst);
        error
    };
    let write = async {
        let mut written = 0;
        while written < 3 || !asked.load(Ordering::SeqCst) {
            database.execute("INSERT INTO t VALUES (1)").await;
            written += 1;
            assert_eq!(database.value("SELECT s FROM sums").await, written.to_string());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let (error, ()) = tokio::join!(flush, write);
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code().code(), "58030");
    assert!(error.message().starts_with("kafka at 127.0.0.1:"), "{error}");
    broker.start_again();
    produce(50_000..60_000);
    database.execute("FLUSH").await;
    assert_eq!(database.value(COUNTS).await, "60000|1799970000");
    database.until(TROUBLE, |rows| rows[0] == "NULL").await;

    // A server that starts without its broker.
    broker.kill();
    database.restart().await;
    assert_eq!(database.value(COUNTS).await, "60000|1799970000");
    database.until(TROUBLE, |rows| rows[0].starts_with("kafka at 127.0.0.1:")).await;
    broker.start_again();
    produce(60_000..70_000);
    database.execute("FLUSH").await;
    assert_eq!(database.value(COUNTS).await, "70000|2449965000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_is_kept_apart_and_its_neighbours_count() {
    let broker = Broker::shared();
    broker.create_topic("poisoned", 1);
    let payloads: [&[u8]; 7] =
        [b"{\"n\":1}", b"{\"n\":", b"{\"n\":2}", b"{\"n\":\"many\"}", b"\xff\x00", b"{\"n\":0}", b"{\"n\":3}"];
    let records = payloads.map(|payload| Record::new(0, payload));
    broker.produce("poisoned", records.into_iter().chain([Record::default(), number(0, 4)]));
    let mut database = Database::start().await;
    // The value 0 decodes, and then has no reciprocal.
    let columns = "(n bigint, reciprocal bigint AS 100 / n)";
    database.execute(&source(broker, "poisoned", "poisoned", columns, &[])).await;
    database.execute("CREATE MATERIALIZED VIEW healthy AS SELECT n, reciprocal FROM poisoned").await;
    for _ in 0..2 {
        database.execute("FLUSH").await;
        let rows = database.rows("SELECT n, reciprocal FROM healthy ORDER BY n").await;
        assert_eq!(rows, ["1|100", "2|50", "3|33", "4|25"]);
        let errors = "SELECT topic, partition, \"offset\", \"column\", payload, reason FROM poisoned$errors
                      ORDER BY \"offset\"";
        assert_eq!(
            database.rows(errors).await,
            [
                "poisoned|0|1||\\x7b226e223a|the text ends where a value was expected",
                "poisoned|0|3|n|\\x7b226e223a226d616e79227d|invalid input syntax for type bigint: \"many\"",
                "poisoned|0|4||\\xff00|the text is not valid UTF-8 after byte 0",
                "poisoned|0|5|reciprocal|NULL|division by zero",
                "poisoned|0|7||NULL|the message has no payload, which means nothing under FORMAT PLAIN",
            ]
        );
        database.restart().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_added_is_found() {
    let broker = Broker::shared();
    broker.create_topic("growing", 1);
    broker.produce("growing", [number(0, 1)]);
    let mut database = Database::start().await;
    database.execute(&source(broker, "growing", "growing", "(n bigint)", &[])).await;
    database.execute("CREATE MATERIALIZED VIEW grown AS SELECT count(*) AS n, sum(n) AS s FROM growing").await;
    database.execute("FLUSH").await;
    assert_eq!(database.value("SELECT n, s FROM grown").await, "1|1");
    broker.grow_topic("growing", 3);
    broker.produce("growing", [number(0, 10), number(1, 100), number(2, 1000)]);
    database.until("SELECT n, s FROM grown", |rows| rows[0] == "4|1111").await;
    // It is remembered, and a view that comes later has it from its beginning.
    database.restart().await;
    broker.produce("growing", [number(2, 10_000)]);
    database.execute("FLUSH").await;
    database.execute("CREATE MATERIALIZED VIEW again AS SELECT count(*) AS n, sum(n) AS s FROM growing").await;
    for view in ["grown", "again"] {
        assert_eq!(database.value(&format!("SELECT n, s FROM {view}")).await, "5|11111");
    }
    let offsets = "SELECT partition, next_offset FROM ms_catalog.offsets ORDER BY partition";
    assert_eq!(database.rows(offsets).await, ["0|2", "1|1", "2|2"]);
}

/// The watermark of a source as a whole.
fn watermark(source: &str) -> String {
    format!("SELECT watermark FROM ms_catalog.watermarks WHERE name = '{source}' AND partition IS NULL")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_partition_holds_the_watermark_back_for_so_long() {
    let broker = Broker::shared();
    broker.create_topic("timed", 2);
    let mut database = Database::start().await;
    let columns = "(n bigint, at timestamp, WATERMARK FOR at AS at - INTERVAL '1 second')";
    for (name, idle_timeout) in [("patient", "1 hour"), ("impatient", "1 second")] {
        database.execute(&source(broker, name, "timed", columns, &[("idle_timeout", idle_timeout)])).await;
        let view = format!(
            "CREATE MATERIALIZED VIEW {name}_windows AS SELECT window_start, count(*) AS n
             FROM TUMBLE({name}, at, INTERVAL '10 seconds') GROUP BY window_start, window_end"
        );
        database.execute(&view).await;
    }
    let (patient, impatient) = (watermark("patient"), watermark("impatient"));
    broker.produce("timed", [event(0, 10)]);
    // The partition that never spoke counts too.
    database.until(&impatient, |rows| rows == ["2026-01-01 00:00:09+00"]).await;
    assert_eq!(database.rows(&patient).await, ["NULL"]);
    broker.produce("timed", [event(1, 12)]);
    database.until(&patient, |rows| rows == ["2026-01-01 00:00:09+00"]).await;

    // Partition 1 falls silent.
    broker.produce("timed", [event(0, 60)]);
    database.until(&impatient, |rows| rows == ["2026-01-01 00:00:59+00"]).await;
    database.execute("FLUSH").await;
    assert_eq!(database.rows(&patient).await, ["2026-01-01 00:00:11+00"]);
    let partitions = "SELECT name, partition, watermark FROM ms_catalog.watermarks
                      WHERE partition IS NOT NULL ORDER BY name, partition";
    let expected = ["impatient|0|59", "impatient|1|11", "patient|0|59", "patient|1|11"];
    let shown = |rows: &[&str], at: &str| {
        rows.iter()
            .map(|row| row.rsplit_once('|').map(|(head, s)| format!("{head}|{at}{s}+00")).unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(database.rows(partitions).await, shown(&expected, "2026-01-01 00:00:"));
    let holders = "SELECT name, held_by FROM ms_catalog.watermarks
                   WHERE partition IS NULL AND name LIKE 'patient%' ORDER BY name";
    assert_eq!(database.rows(holders).await, ["patient|partition 1", "patient_windows|public.patient"]);
    let lags = "SELECT name, lag FROM ms_catalog.sources ORDER BY name";
    database.until(lags, |rows| rows == ["impatient|0", "patient|0"]).await;

    // And speaks again, which moves no watermark back.
    broker.produce("timed", [event(1, 30)]);
    let check = async |database: &Database| {
        assert_eq!(database.rows(&impatient).await, ["2026-01-01 00:00:59+00"]);
        assert_eq!(database.rows(&patient).await, ["2026-01-01 00:00:29+00"]);
        let windows = database.rows("SELECT window_start, n FROM patient_windows ORDER BY 1").await;
        assert_eq!(windows, ["2026-01-01 00:00:10|2", "2026-01-01 00:00:30|1", "2026-01-01 00:01:00|1"]);
    };
    database.execute("FLUSH").await;
    check(&database).await;

    // A restart leaves the watermarks where they were, before and after the readers run again.
    database.restart().await;
    check(&database).await;
    broker.produce("timed", [event(0, 61)]);
    database.until("SELECT sum(n) FROM patient_windows", |rows| rows == ["5"]).await;
    database.execute("FLUSH").await;
    assert_eq!(database.rows(&patient).await, ["2026-01-01 00:00:29+00"]);
    database.until(&impatient, |rows| rows == ["2026-01-01 00:01:00+00"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_that_comes_later_equals_the_first() {
    let broker = Broker::shared();
    broker.create_topic("replayed", 2);
    let full = Record {
        key: Some(b"key".to_vec()),
        timestamp: Some(1_700_000_000_123),
        headers: vec![("h".into(), b"1".to_vec())],
        ..number(1, -1)
    };
    let bare = |n: i64| Record { timestamp: Some(1_700_000_000_000 + n), ..number(n as i32 % 2, n) };
    broker.produce("replayed", [full].into_iter().chain((0..20_000).map(bare)));
    let mut database = Database::start().await;
    let columns = "(n bigint) INCLUDE KEY AS k, PARTITION AS p, OFFSET AS o, TIMESTAMP AS t, HEADERS AS h";
    database.execute(&source(broker, "replayed", "replayed", columns, &[])).await;
    database.execute("CREATE MATERIALIZED VIEW first AS SELECT n, k, p, o, t, h FROM replayed").await;
    // While the first is on its way, and while more comes.
    database.until("SELECT count(*) > 0 FROM first", |rows| rows == ["t"]).await;
    broker.produce("replayed", (20_000..30_000).map(bare));
    database.execute("CREATE MATERIALIZED VIEW second AS SELECT n, k, p, o, t, h FROM replayed").await;
    broker.produce("replayed", (30_000..40_000).map(bare));
    database.execute("FLUSH").await;
    let check = async |database: &Database, view: &str| {
        let totals = database.value(&format!("SELECT count(*), sum(n), sum(p), sum(o), max(t) FROM {view}")).await;
        assert_eq!(totals, "40001|799979999|20001|400000000|2023-11-14 22:13:59.999+00", "{view}");
        let one = database.value(&format!("SELECT n, k, p, o, t, h FROM {view} WHERE n = -1")).await;
        assert_eq!(one, "-1|\\x6b6579|1|0|2023-11-14 22:13:20.123+00|{\"h\":\"1\"}", "{view}");
        let one = database.value(&format!("SELECT k, p, o, h FROM {view} WHERE n = 2")).await;
        assert_eq!(one, "NULL|0|1|NULL", "{view}");
    };
    check(&database, "first").await;
    check(&database, "second").await;
    assert_eq!(database.rows("SELECT * FROM first EXCEPT SELECT * FROM second").await, [""; 0]);

    // Nobody reads the source any more, and at once somebody reads it anew: nothing of the old reading counts.
    for _ in 0..5 {
        database.execute("DROP MATERIALIZED VIEW first, second").await;
        for view in ["first", "second"] {
            database
                .execute(&format!("CREATE MATERIALIZED VIEW {view} AS SELECT n, k, p, o, t, h FROM replayed"))
                .await;
        }
    }
    database.execute("FLUSH").await;
    check(&database, "first").await;
    check(&database, "second").await;
    database.restart().await;
    database.execute("FLUSH").await;
    check(&database, "first").await;
    check(&database, "second").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_refused_clearly() {
    let broker = Broker::shared();
    broker.create_topic("readable", 1);
    broker.produce("readable", [number(0, 1)]);
    let database = Database::start().await;
    let columns = "(n bigint)";
    let error = database.refused(&source(broker, "s", "readabel", columns, &[])).await;
    assert_eq!(error.code().code(), "42704");
    assert_eq!(error.message(), format!("topic \"readabel\" does not exist on {}", broker.address()));
    assert_eq!(error.hint(), Some("Create it, or perhaps you meant \"readable\"."));

    let nowhere = "CREATE SOURCE s (n bigint) WITH (connector = 'kafka', topic = 'readable',
                   properties.bootstrap.server = '127.0.0.1:1') FORMAT PLAIN ENCODE JSON";
    let error = database.refused(nowhere).await;
    assert_eq!(error.code().code(), "58030");
    assert!(error.message().starts_with("kafka at 127.0.0.1:1 cannot be reached: "), "{error}");

    for (option, hint) in [
        (("scan.startup.mod", "latest"), "Perhaps you meant \"scan.startup.mode\"."),
        (("plugin.library.paths", "/evil.so"), ""),
    ] {
        let error = database.refused(&source(broker, "s", "readable", columns, &[option])).await;
        assert_eq!(error.code().code(), "42704", "{error}");
        assert_eq!(error.message(), format!("option \"{}\" does not exist for connector \"kafka\"", option.0));
        assert!(error.hint().is_some_and(|h| h.starts_with(hint)), "{:?}", error.hint());
    }
    let error = database.refused(&source(broker, "s", "readable", columns, &[("scan.startup.mode", "first")])).await;
    assert_eq!(error.code().code(), "22023");
    assert_eq!(error.detail(), Some("It must be one of 'earliest', 'latest', 'timestamp'."));

    // Nothing was left behind, and the server goes on.
    assert_eq!(database.rows("SELECT name FROM ms_catalog.sources").await, [""; 0]);
    database.execute(&source(broker, "s", "readable", columns, &[])).await;
    database.execute("CREATE MATERIALIZED VIEW v AS SELECT sum(n) AS s FROM s").await;
    database.execute("FLUSH").await;
    assert_eq!(database.value("SELECT s FROM v").await, "1");

    // A topic that goes away for good.
    broker.delete_topic("readable");
    let gone = format!("topic \"readable\" does not exist on {}", broker.address());
    let trouble = "SELECT trouble FROM ms_catalog.sources";
    database.until(trouble, |rows| rows[0].starts_with(&gone)).await;
    assert_eq!(database.refused("FLUSH").await.message(), gone);
    assert_eq!(database.value("SELECT s FROM v").await, "1");
}
