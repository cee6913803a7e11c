//! A view that brings a worker down whenever it takes rows in: it is not created, or, after a restart, stands still. Nobody else
//! is harmed, and nothing is left of it.

use std::collections::BTreeSet;
use std::time::Duration;

use millstream::fault::WORKER_POINTS;
use millstream::state::Store;
use millstream::state::StoreOptions;
use tokio_postgres::Client;

use crate::support::Server;
use crate::support::connect;
use crate::support::execute;
use crate::support::rows;
use crate::support::value;

/// How long anything may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Rows that there are before any fault.
const ROWS: u64 = 2000;

/// The view is filled in this many steps and more.
const ARGUMENTS: &[&str] = &["--workers", "2", "--fill-rows", "20"];

/// The view that cannot be filled, and its query.
const WIDE: &str =
    "CREATE MATERIALIZED VIEW wide AS SELECT id % 10 AS k, count(*) AS n, max(v) AS hi FROM item GROUP BY id % 10";
const WIDE_QUERY: &str = "SELECT id % 10 AS k, count(*) AS n, max(v) AS hi FROM item GROUP BY id % 10 ORDER BY k";

async fn begin(data_dir: &std::path::Path) -> Server {
    let server = Server::start(data_dir, ARGUMENTS);
    let client = server.connect().await;
    execute(&client, "CREATE TABLE item (id BIGINT PRIMARY KEY, v BIGINT)").await;
    execute(&client, &format!("INSERT INTO item SELECT i, i * 7 % 100 FROM generate_series(1, {ROWS}) AS g(i)")).await;
    execute(&client, "CREATE MATERIALIZED VIEW total AS SELECT count(*) AS n, sum(v) AS s FROM item").await;
    server
}

/// The fault of a worker at its `n`th step that fills views, and at each after.
fn fault(n: u64) -> String {
    format!("{}:{n}", WORKER_POINTS[0])
}

/// The others go on, and are exact.
async fn goes_on(client: &Client) {
    execute(client, "INSERT INTO item SELECT min(id) - 1, 3 FROM item").await;
    execute(client, "UPDATE item SET v = v + 1 WHERE id = 5").await;
    let both = "SELECT t.n = i.n AND t.s = i.s FROM total t, (SELECT count(*) AS n, sum(v) AS s FROM item) i";
    assert_eq!(value(client, both).await, "t");
}

async fn until(client: &Client, sql: &str, wanted: &str) {
    let comes = async {
        while value(client, sql).await != wanted {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, comes).await.unwrap_or_else(|_| panic!("{sql} does not become {wanted}"));
}

/// Writes until it is told to stop; each write must succeed.
async fn write(port: u16, mut stop: tokio::sync::oneshot::Receiver<()>) -> u64 {
    let client = connect(port).await.expect("the server is there");
    let mut written = 0;
    while stop.try_recv().is_err() {
        written += 1;
        execute(&client, &format!("INSERT INTO item VALUES ({}, 1)", 1_000_000 + written)).await;
    }
    written
}

#[test]
fn a_view_that_brings_workers_down_is_not_created() {
    crate::runtime().block_on(async {
        // In the creating epoch, and in the middle.
        for n in [1, 40] {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let mut server = begin(directory.path()).await;
            assert!(server.launch(&[("MILLSTREAM_FAULT", &fault(n))]), "it starts");
            let client = server.connect().await;
            let (stop, stopped) = tokio::sync::oneshot::channel();
            let writer = tokio::spawn(write(server.port, stopped));
            for _ in 0..2 {
                let error = client.batch_execute(WIDE).await.expect_err("it cannot be filled");
                let error = error.as_db_error().expect("an answer");
                assert_eq!((error.code().code(), error.message()), ("XX000", "a worker panicked; see the log"));
                assert_eq!(
                    value(&client, "SELECT count(*) FROM ms_catalog.objects WHERE name LIKE 'wide%'").await,
                    "0"
                );
                assert_eq!(value(&client, "SELECT count(*) FROM ms_catalog.jobs").await, "0");
                goes_on(&client).await;
            }
            stop.send(()).expect("it still writes");
            let written = writer.await.expect("every write succeeds");
            assert_eq!(
                value(&client, "SELECT count(*) FROM item WHERE id > 1000000 AND v = 1").await,
                written.to_string()
            );
            // Without the fault it is created.
            server.restart();
            let client = server.connect().await;
            execute(&client, WIDE).await;
            let is = rows(&client, "SELECT * FROM wide ORDER BY k").await.expect("a read");
            assert_eq!(is, rows(&client, WIDE_QUERY).await.expect("a read"));
            execute(&client, "DROP MATERIALIZED VIEW wide; DROP MATERIALIZED VIEW total").await;
            assert_eq!(server.terminate(), Some(0));
            let store = Store::open(directory.path(), StoreOptions::default()).expect("the server is down");
            assert!(store.tables_besides(&BTreeSet::new()).expect("a scan").is_empty(), "state is left");
        }
    });
}

#[test]
fn a_view_that_nobody_waits_for_stands_still_until_the_next_start() {
    crate::runtime().block_on(async {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut server = begin(directory.path()).await;
        assert!(server.launch(&[("MILLSTREAM_FAULT", "fill.after_chunk:20")]), "it starts");
        let client = server.connect().await;
        client.batch_execute(WIDE).await.expect_err("the server dies");
        for again in [true, false] {
            assert!(server.launch(&[("MILLSTREAM_FAULT", &fault(3))]), "it starts");
            let client = server.connect().await;
            until(&client, "SELECT max(trouble) FROM ms_catalog.jobs", "a worker panicked; see the log").await;
            goes_on(&client).await;
            let error = client.batch_execute("SELECT * FROM wide").await.expect_err("it is not filled");
            assert_eq!(error.as_db_error().map(|e| e.code().code()), Some("55000"), "{error:?}");
            goes_on(&client).await;
            assert_eq!(value(&client, "SELECT name FROM ms_catalog.jobs").await, "wide");
            if again {
                // Without the fault it goes on where it stood.
                server.restart();
                let client = server.connect().await;
                until(&client, "SELECT count(*) FROM ms_catalog.jobs", "0").await;
                let is = rows(&client, "SELECT * FROM wide ORDER BY k").await.expect("a read");
                assert_eq!(is, rows(&client, WIDE_QUERY).await.expect("a read"));
                execute(&client, "DROP MATERIALIZED VIEW wide").await;
                assert!(server.launch(&[("MILLSTREAM_FAULT", "fill.after_chunk:20")]), "it starts");
                let client = server.connect().await;
                client.batch_execute(WIDE).await.expect_err("the server dies");
            } else {
                // Or it is dropped as it stands.
                execute(&client, "DROP MATERIALIZED VIEW wide").await;
                assert_eq!(value(&client, "SELECT count(*) FROM ms_catalog.jobs").await, "0");
                goes_on(&client).await;
            }
        }
    });
}
