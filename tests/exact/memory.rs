//! A statement that changes more than memory holds is refused, and nothing else suffers: neither what other sessions write
//! at the same moment, nor the sources that are read, nor any view.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_postgres::Client;

use crate::support::Server;
use crate::support::execute;
use crate::support::value;

/// Two sides of a join that match in nothing yet, a counter, and a source that is read all the while.
const OBJECTS: &str = "
    CREATE VIEW digit AS VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9);
    CREATE VIEW thousand (n) AS SELECT a.column1 + 10 * b.column1 + 100 * c.column1 FROM digit a, digit b, digit c;
    CREATE TABLE l (id INTEGER PRIMARY KEY, k INTEGER NOT NULL, note TEXT);
    CREATE TABLE r (id INTEGER PRIMARY KEY, k INTEGER NOT NULL);
    INSERT INTO l SELECT n, 1, repeat('x', 1500) FROM thousand WHERE n < 150;
    INSERT INTO r SELECT id, 2 FROM l;
    CREATE MATERIALIZED VIEW joined AS SELECT l.id AS l, r.id AS r, l.note FROM l JOIN r ON l.k = r.k;
    CREATE MATERIALIZED VIEW pairs AS SELECT count(*) AS n FROM joined;

    CREATE TABLE counter (id INTEGER PRIMARY KEY, n BIGINT NOT NULL);
    INSERT INTO counter VALUES (1, 0);
    CREATE MATERIALIZED VIEW counted AS SELECT sum(n) AS n FROM counter;

    CREATE SOURCE bid WITH (connector = 'generator', generator = 'nexmark', nexmark.table = 'bid', rate = 5000, rows = 30000);
    CREATE MATERIALIZED VIEW bids AS SELECT count(*) AS n, count(DISTINCT auction) AS auctions FROM bid;";

/// The bids among the generator's events: 46 of 50.
const BIDS: i64 = 30_000 * 46 / 50;

/// Counts up until it is told to stop. Returns how often.
async fn count_up(client: Client, stop: Arc<AtomicBool>) -> i64 {
    let mut done = 0;
    while !stop.load(Ordering::SeqCst) {
        execute(&client, "UPDATE counter SET n = n + 1").await;
        done += 1;
    }
    done
}

#[test]
fn a_statement_that_outgrows_memory_fails_alone() {
    crate::runtime().block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let arguments = ["--workers", "2", "--memory-limit", "64MB", "--fill-rows", "2"];
        let server = Server::start(directory.path(), &arguments);
        let client = server.connect().await;
        execute(&client, OBJECTS).await;
        let stop = Arc::new(AtomicBool::new(false));
        let counters = [server.connect().await, server.connect().await];
        let counters = counters.map(|client| tokio::spawn(count_up(client, stop.clone())));

        // A view is filled all the while.
        let filler = server.connect().await;
        let many = "SELECT a.n + 1000 * b.n, b.n FROM thousand a, thousand b WHERE b.n < 10";
        execute(&filler, "CREATE TABLE many (id INTEGER PRIMARY KEY, k INTEGER)").await;
        execute(&filler, &format!("INSERT INTO many {many}")).await;
        let filled = tokio::spawn(async move {
            execute(&filler, "CREATE MATERIALIZED VIEW filled AS SELECT k, count(*) AS n, sum(id) AS s FROM many GROUP BY k").await;
        });

        for too_large in [
            // Twenty thousand wide pairs from 150 rows.
            "UPDATE r SET k = 1",
            // Many rows at once.
            "INSERT INTO l SELECT 1000 + a.n + 1000 * b.n, 3, repeat('x', 1500) FROM thousand a, thousand b WHERE b.n < 20",
            "BEGIN; UPDATE r SET k = 1; COMMIT",
        ] {
            let error = client.batch_execute(too_large).await.expect_err(too_large);
            assert_eq!(error.code().map(|c| c.code()), Some("53200"), "{too_large}: {error:?}");
            client.batch_execute("ROLLBACK").await.unwrap();
        }
        execute(&client, "UPDATE r SET k = 1 WHERE id < 3").await;
        assert_eq!(value(&client, "SELECT n FROM pairs").await, "450");
        assert_eq!(value(&client, "SELECT count(*) FROM r WHERE k = 2").await, "147");

        filled.await.expect("the view is filled");
        assert_eq!(value(&client, "SELECT count(*), min(n), max(n), sum(s) FROM filled").await, "10|1000|1000|49995000");
        stop.store(true, Ordering::SeqCst);
        let mut done = 0;
        for counter in counters {
            done += counter.await.expect("every update succeeds");
        }
        assert_eq!(value(&client, "SELECT n FROM counted").await, done.to_string());
        while value(&client, "SELECT n FROM bids").await != BIDS.to_string() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let fresh = "CREATE MATERIALIZED VIEW again AS SELECT count(*) AS n, count(DISTINCT auction) AS auctions FROM bid";
        execute(&client, fresh).await;
        execute(&client, "FLUSH").await;
        let both = "SELECT bids.n = again.n AND bids.auctions = again.auctions FROM bids, again";
        assert_eq!(value(&client, both).await, "t");
    });
}
