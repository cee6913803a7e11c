//! A statement that changes more than memory holds is spilled, whole or not at all, and nothing else suffers: neither what other
//! sessions write at the same moment, nor the sources that are read, nor any view.

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

/// Rows with numbers from 0 on.
const TWENTY_THOUSAND: &str = "(SELECT a.n + 1000 * b.n AS n FROM thousand a, thousand b WHERE b.n < 20) AS many";

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
fn a_statement_that_outgrows_memory_is_spilled() {
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
            execute(
                &filler,
                "CREATE MATERIALIZED VIEW filled AS SELECT k, count(*) AS n, sum(id) AS s FROM many GROUP BY k",
            )
            .await;
        });

        // Twenty thousand wide pairs from 150 rows, in a statement and in a transaction.
        execute(&client, "UPDATE r SET k = 1").await;
        assert_eq!(value(&client, "SELECT n FROM pairs").await, "22500");
        execute(&client, "BEGIN; UPDATE r SET k = 2; COMMIT").await;
        assert_eq!(value(&client, "SELECT n FROM pairs").await, "0");
        // Many rows at once, which do not fit in themselves.
        execute(&client, &format!("INSERT INTO l SELECT 1000 + n, 3, repeat('x', 1500) FROM {TWENTY_THOUSAND}")).await;
        let marks =
            client.execute("UPDATE l SET note = note || id WHERE id >= 1000", &[]).await.expect("it is spilled");
        assert_eq!(marks, 20_000);
        let wrong =
            "SELECT count(*) FROM l WHERE note <> repeat('x', 1500) || CASE WHEN id < 1000 THEN '' ELSE id::text END";
        assert_eq!(value(&client, wrong).await, "0");
        // Rows chosen by a few values: what reads may take holds those, not the table.
        let chosen = "WHERE id IN (SELECT 1000 + 100 * n FROM thousand WHERE n < 100)";
        let touched = client.execute(&format!("UPDATE l SET k = 4 {chosen}"), &[]).await.expect("few are held");
        assert_eq!(touched, 100);
        assert_eq!(value(&client, &format!("SELECT count(*), max(k) FROM l {chosen}")).await, "100|4");
        let rest = "SELECT count(*), min(id) FROM l WHERE id NOT IN (SELECT id FROM r)";
        assert_eq!(value(&client, rest).await, "20000|1000");
        let few = "SELECT count(*), sum(r.id) FROM r WHERE EXISTS (SELECT 1 FROM l WHERE l.id = r.id AND l.note <> '')";
        assert_eq!(value(&client, few).await, "150|11175");
        // One that fails in the end leaves nothing behind, and one whose answer does not fit is refused.
        let twice = "SELECT 100000 + n AS id, 3, repeat('x', 1500) FROM {} UNION ALL SELECT 7, 3, ''";
        for (sql, code) in [
            (format!("INSERT INTO l {}", twice.replace("{}", TWENTY_THOUSAND)), "23505"),
            (String::from("UPDATE l SET note = note || '!' WHERE id >= 1000 RETURNING note"), "53200"),
            (String::from("BEGIN; UPDATE l SET note = note || '!' WHERE id >= 1000"), "53200"),
        ] {
            let error = client.batch_execute(&sql).await.expect_err(&sql);
            assert_eq!(error.code().map(|c| c.code()), Some(code), "{sql}: {error:?}");
            client.batch_execute("ROLLBACK").await.unwrap();
        }
        assert_eq!(value(&client, "SELECT count(*) FROM l").await, "20150");
        assert_eq!(value(&client, wrong).await, "0");
        execute(&client, "UPDATE r SET k = 1 WHERE id < 3").await;
        assert_eq!(value(&client, "SELECT n FROM pairs").await, "450");
        execute(&client, "DELETE FROM l WHERE id >= 1000 AND note LIKE 'x%'").await;
        assert_eq!(value(&client, "SELECT count(*), max(id) FROM l").await, "150|149");
        execute(&client, "UPDATE r SET k = 1").await;
        execute(&client, "TRUNCATE l").await;
        assert_eq!(value(&client, "SELECT n FROM pairs").await, "0");

        filled.await.expect("the view is filled");
        assert_eq!(
            value(&client, "SELECT count(*), min(n), max(n), sum(s) FROM filled").await,
            "10|1000|1000|49995000"
        );
        stop.store(true, Ordering::SeqCst);
        let mut done = 0;
        for counter in counters {
            done += counter.await.expect("every update succeeds");
        }
        assert_eq!(value(&client, "SELECT n FROM counted").await, done.to_string());
        while value(&client, "SELECT n FROM bids").await != BIDS.to_string() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let fresh =
            "CREATE MATERIALIZED VIEW again AS SELECT count(*) AS n, count(DISTINCT auction) AS auctions FROM bid";
        execute(&client, fresh).await;
        execute(&client, "FLUSH").await;
        let both = "SELECT bids.n = again.n AND bids.auctions = again.auctions FROM bids, again";
        assert_eq!(value(&client, both).await, "t");
    });
}

/// The rows of `big`, and the copy of them that a view keeps, as one answer tells them.
const BIG: &str = "SELECT min(x), max(x), (SELECT min(s) FROM summed), (SELECT sum(n) FROM summed) FROM big";

#[test]
fn a_spilled_epoch_is_whole_or_absent_after_a_kill() {
    crate::runtime().block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let mut server = Server::start(directory.path(), &["--workers", "2", "--memory-limit", "64MB"]);
        let client = server.connect().await;
        execute(
            &client,
            "CREATE TABLE big (id INTEGER PRIMARY KEY, x INTEGER NOT NULL, note TEXT);
             CREATE MATERIALIZED VIEW summed AS SELECT id % 100 AS r, count(*) AS n, sum(x) AS s FROM big GROUP BY id % 100;
             CREATE MATERIALIZED VIEW copied AS SELECT id, x, note FROM big WHERE id % 2 = 0",
        )
        .await;
        execute(&client, "INSERT INTO big SELECT n, 0, repeat('x', 1000) FROM generate_series(1, 20000) AS many(n)").await;
        let mut x = 0;
        for (point, count) in millstream::fault::SPILL_POINTS.iter().flat_map(|point| [(point, 1), (point, 2)]) {
            let fault = format!("{point}:{count}");
            server.kill();
            assert!(server.launch(&[("MILLSTREAM_FAULT", &fault)]), "the server starts");
            let client = server.connect().await;
            // The second time that a commit comes to a point it is another statement's.
            for _ in 0..2 {
                let answer = client.batch_execute("UPDATE big SET x = x + 1").await;
                x += i32::from(answer.is_ok());
            }
            assert!(server.wait_for(std::time::Duration::from_secs(60)).await, "{fault} was not reached");
            server.restart();
            let client = server.connect().await;
            let (before, after) = (state_of(x), state_of(x + 1));
            let there = value(&client, BIG).await;
            assert!(there == before || there == after, "after {fault}: {there}, neither {before} nor {after}");
            let committed = !matches!(*point, "spill.after_portion" | "spill.before_commit");
            assert_eq!(there == after, committed, "after {fault}: {there}");
            x += i32::from(committed);
            let differ = "SELECT count(*) FROM big LEFT JOIN copied ON big.id = copied.id
                          WHERE big.id % 2 = 0 AND copied.x IS DISTINCT FROM big.x";
            assert_eq!(value(&client, differ).await, "0", "after {fault}");
        }
    });
}

/// Few rows of a dimension that meet many facts, joined with each other, grouped, and joined again.
const STAR: &str = "
    CREATE TABLE dimension (id INTEGER PRIMARY KEY, x INTEGER NOT NULL, name TEXT);
    CREATE TABLE fact (id INTEGER PRIMARY KEY, d INTEGER NOT NULL, other INTEGER NOT NULL);
    INSERT INTO dimension SELECT n, 0, repeat('x', 700) FROM generate_series(0, 9) AS few(n);
    INSERT INTO fact SELECT n, n % 10, n / 10 % 10 FROM generate_series(0, 29999) AS many(n);
    CREATE MATERIALIZED VIEW star AS
      SELECT f.id, f.other, d.x, d.name FROM fact f JOIN dimension d ON f.d = d.id;
    CREATE MATERIALIZED VIEW stars AS
      SELECT s.id, s.x, d.x AS y FROM star s JOIN dimension d ON s.other = d.id;
    CREATE MATERIALIZED VIEW counted AS SELECT x, y, count(*) AS n FROM stars GROUP BY x, y;";

/// What all of it says of the dimension's `x`.
const SHINES: &str = "SELECT (SELECT min(x) || ' ' || max(x) FROM dimension),
    (SELECT min(x) || ' ' || max(x) || ' ' || count(*) FROM star),
    (SELECT min(x) || ' ' || max(x) || ' ' || min(y) || ' ' || max(y) || ' ' || count(*) FROM stars),
    (SELECT min(x) || ' ' || max(y) || ' ' || sum(n) || ' ' || count(*) FROM counted)";

/// What [`SHINES`] answers when every row has this `x`.
fn shine_of(x: i32) -> String {
    format!("{x} {x}|{x} {x} 30000|{x} {x} {x} {x} 30000|{x} {x} 30000 1")
}

#[test]
fn a_few_rows_that_meet_many_are_spilled_whole_or_not_at_all() {
    crate::runtime().block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let mut server = Server::start(directory.path(), &["--workers", "2", "--memory-limit", "64MB"]);
        let client = server.connect().await;
        execute(&client, STAR).await;
        assert_eq!(value(&client, SHINES).await, shine_of(0));
        let mut x = 0;
        for point in ["spill.after_portion:3", "spill.before_commit:1", "spill.after_commit:1", "spill.mid_fold:1"] {
            server.kill();
            assert!(server.launch(&[("MILLSTREAM_FAULT", point)]), "the server starts");
            let client = server.connect().await;
            // Ten rows change, and forty megabytes with them.
            assert!(client.batch_execute("UPDATE dimension SET x = x + 1").await.is_err(), "{point} was not reached");
            server.restart();
            let client = server.connect().await;
            x += i32::from(!matches!(point, "spill.after_portion:3" | "spill.before_commit:1"));
            assert_eq!(value(&client, SHINES).await, shine_of(x), "after {point}");
        }
        let client = server.connect().await;
        execute(&client, "UPDATE dimension SET x = x + 1").await;
        assert_eq!(value(&client, SHINES).await, shine_of(x + 1));
        execute(&client, "DELETE FROM dimension WHERE id < 5").await;
        assert_eq!(value(&client, "SELECT count(*) FROM star").await, "15000");
    });
}

/// What [`BIG`] answers when every row has this `x`.
fn state_of(x: i32) -> String {
    format!("{x}|{x}|{}|20000", x * 200)
}
