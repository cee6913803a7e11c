//! Views created over what is there already, while others write, and while the server is killed: filled in small steps, they
//! equal their queries; cancelled or dropped, they leave nothing behind.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use tokio_postgres::NoTls;

use crate::support::Server;
use crate::support::execute;
use crate::support::rows;
use crate::support::value;
use millstream::state::Space;

/// Random histories in the default run.
const HISTORIES: u64 = 2;

/// Rounds of a history: views are created, and something happens meanwhile.
const ROUNDS: usize = 5;

/// Rows in each table at the beginning.
const ROWS: usize = 1500;

/// How long anything may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(120);

const OBJECTS: &str = "
    CREATE TABLE item (id INTEGER PRIMARY KEY, kind INTEGER, v BIGINT);
    CREATE TABLE note (kind INTEGER, word TEXT);
    CREATE TABLE entry (n BIGINT, word TEXT) APPEND ONLY;
    CREATE TABLE event (n BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts) APPEND ONLY;
    CREATE MATERIALIZED VIEW windows AS
      SELECT window_end, count(*) AS c, sum(n) AS s FROM TUMBLE(event, ts, INTERVAL '10 seconds') GROUP BY window_end;
    CREATE MATERIALIZED VIEW finals AS
      SELECT window_end, count(*) AS c, sum(n) AS s FROM TUMBLE(event, ts, INTERVAL '10 seconds') GROUP BY window_end EMIT FINAL;
    CREATE MATERIALIZED VIEW ratios AS SELECT id, 1000 / (v - 500) AS r FROM item WHERE id % 2 = 0;
    CREATE MATERIALIZED VIEW per_kind AS SELECT kind, count(*) AS n, sum(v) AS s FROM item GROUP BY kind;
    CREATE MATERIALIZED VIEW bag AS SELECT kind % 7 AS k, v % 5 AS r FROM item;
    CREATE MATERIALIZED VIEW log AS SELECT n, word FROM entry WHERE n % 3 > 0;";

/// Queries of every shape: over tables with and without a key, over views stored by key, by hash and as a log.
const QUERIES: &[&str] = &[
    // What is late for the one is late for the other, whenever they were created.
    WINDOWS,
    FINALS,
    // Some rows cannot be computed.
    RATIOS,
    "SELECT kind, count(*) AS n, sum(v) AS s, min(v) AS lo, max(v) AS hi, count(DISTINCT v) AS d FROM item GROUP BY kind",
    "SELECT count(*) AS n, sum(v) AS s FROM item",
    "SELECT id, v FROM item WHERE v % 2 = 0",
    "SELECT DISTINCT word FROM note",
    "SELECT i.id, n.word FROM item i JOIN note n ON i.kind = n.kind WHERE i.id % 50 = 0",
    "SELECT n.word, p.s FROM note n LEFT JOIN per_kind p ON n.kind = p.kind",
    "SELECT a.id, b.id AS other FROM item a JOIN item b ON a.id = b.v AND a.id % 3 = 0",
    "SELECT k, count(*) AS n FROM bag GROUP BY k",
    "SELECT word, count(*) AS n, max(n) AS hi FROM log GROUP BY word",
    "SELECT n, word FROM log",
    "SELECT k AS x FROM bag UNION ALL SELECT kind FROM per_kind",
    "SELECT id FROM item i WHERE NOT EXISTS (SELECT 1 FROM note n WHERE n.kind = i.kind)",
];

const WINDOWS: &str =
    "SELECT window_end, count(*) AS c, sum(n) AS s FROM TUMBLE(event, ts, INTERVAL '10 seconds') GROUP BY window_end";
const FINALS: &str = "SELECT window_end, count(*) AS c, sum(n) AS s FROM TUMBLE(event, ts, INTERVAL '10 seconds') \
     GROUP BY window_end EMIT FINAL";
const RATIOS: &str = "SELECT id, 1000 / (v - 500) AS r FROM item WHERE id % 2 = 0";

/// What a view of this query, and its relations of late rows and of errors, must have: as its query, or as a view that has been
/// there from the beginning.
fn expected(query: &'static str, view: &str) -> Vec<(String, String)> {
    let twin = match query {
        WINDOWS => "windows",
        FINALS => "finals",
        RATIOS => "ratios",
        _ => return vec![(format!("SELECT * FROM {view}"), query.to_string())],
    };
    let parts = if query == RATIOS { ["", "$errors"] } else { ["", "$late"] };
    let same = |part: &str| (format!("SELECT * FROM {view}{part}"), format!("SELECT * FROM {twin}{part}"));
    parts.map(same).to_vec()
}

/// The tables' first rows.
async fn fill_tables(client: &Client) {
    let table = |values: &dyn Fn(usize) -> String| (0..ROWS).map(values).collect::<Vec<_>>().join(", ");
    let item = table(&|n| format!("({n}, {}, {})", n % 40, n * 7 % 1000));
    let note = table(&|n| format!("({}, 'w{}')", n % 60, n % 9));
    let entry = table(&|n| format!("({n}, 'w{}')", n % 11));
    execute(client, &format!("INSERT INTO item VALUES {item}")).await;
    execute(client, &format!("INSERT INTO note VALUES {note}")).await;
    execute(client, &format!("INSERT INTO entry VALUES {entry}")).await;
    for from in (0..ROWS).step_by(100) {
        // Every statement moves the watermark; every tenth row is late.
        let event = (from..from + 100).map(|n| moment(n, if n % 10 == 0 { n.saturating_sub(60) } else { n }));
        execute(client, &format!("INSERT INTO event VALUES {}", event.collect::<Vec<_>>().join(", "))).await;
    }
}

/// An event at so many seconds.
fn moment(n: usize, seconds: usize) -> String {
    format!("({n}, TIMESTAMP '2020-01-01' + {seconds} * INTERVAL '1 second')")
}

fn statement(random: &mut StdRng) -> String {
    let (id, kind, v) = (random.random_range(0..ROWS + 50), random.random_range(0..60), random.random_range(0..1000));
    match random.random_range(0..10) {
        9 => format!("INSERT INTO event VALUES {}, {}", moment(v, ROWS + v), moment(v, ROWS + id)),
        0..3 => format!("INSERT INTO item VALUES ({id}, {kind}, {v}) ON CONFLICT (id) DO UPDATE SET v = excluded.v"),
        3 => format!("UPDATE item SET v = v + 1 WHERE kind = {kind}"),
        4 => format!("DELETE FROM item WHERE id BETWEEN {id} AND {id} + 5"),
        5 => format!("INSERT INTO note VALUES ({kind}, 'w{}'), ({kind}, 'new')", v % 12),
        6 => format!("DELETE FROM note WHERE kind = {kind} AND word = 'w{}'", v % 9),
        _ => format!("INSERT INTO entry VALUES ({v}, 'w{}'), ({id}, 'late')", v % 13),
    }
}

/// A view of the history: its name and query.
#[derive(Clone, Debug)]
struct View {
    name: String,
    query: &'static str,
}

struct History {
    random: StdRng,
    server: Server,
    views: Vec<View>,
    created: usize,
    /// Statements that were executed while a view stood behind.
    beside: u64,
}

impl History {
    async fn live(&mut self) {
        let client = self.server.connect().await;
        execute(&client, OBJECTS).await;
        fill_tables(&client).await;
        for _ in 0..ROUNDS {
            self.round().await;
        }
    }

    /// Views are created while statements run, and perhaps cancelled, dropped or cut short by `kill -9`.
    async fn round(&mut self) {
        let mut creations = Vec::new();
        for _ in 0..self.random.random_range(1..=2) {
            let view = View {
                name: format!("v{}", self.created),
                query: QUERIES.choose(&mut self.random).expect("there are queries"),
            };
            self.created += 1;
            let end = match self.random.random_range(0..100) {
                0..12 => End::Cancel(MIDDLE),
                12..20 => End::Leave,
                _ => End::Wait,
            };
            creations.push((view.clone(), end, create(self.server.connect().await, view, end)));
        }
        let client = self.server.connect().await;
        let kill = self.random.random_bool(0.3);
        let statements = self.random.random_range(5..30);
        for _ in 0..statements {
            execute(&client, &statement(&mut self.random)).await;
            self.beside += u64::from(value(&client, "SELECT count(*) FROM ms_catalog.jobs").await != "0");
        }
        if kill {
            self.server.restart();
        }
        for (view, end, creation) in creations {
            let outcome = tokio::time::timeout(PATIENCE, creation).await.expect("a creation ends").expect("no panic");
            self.check_outcome(view, outcome, kill || end == End::Leave).await;
        }
        if self.random.random_bool(0.3) && !self.views.is_empty() {
            let view = self.views.swap_remove(self.random.random_range(0..self.views.len()));
            execute(&self.server.connect().await, &format!("DROP MATERIALIZED VIEW {}", view.name)).await;
        }
        self.compare().await;
    }

    /// What became of a creation: a view, or nothing.
    async fn check_outcome(&mut self, view: View, outcome: Result<(), String>, left: bool) {
        let client = self.server.connect().await;
        let there = format!("SELECT count(*) FROM ms_catalog.objects WHERE name = '{}'", view.name);
        match outcome {
            Ok(()) => assert_eq!(value(&client, &there).await, "1", "{view:?}"),
            Err(error) if error == "57014" => {
                assert_eq!(value(&client, &there).await, "0", "{view:?}");
                return;
            }
            // Nobody was told what became of it.
            Err(error) => {
                assert!(left, "{view:?}: {error}");
                self.settled(&client).await;
                if value(&client, &there).await == "0" {
                    return;
                }
            }
        }
        self.views.push(view);
    }

    /// Every view, once it is filled, equals its query.
    async fn compare(&mut self) {
        let client = self.server.connect().await;
        self.settled(&client).await;
        for View { name, query } in &self.views {
            for (view, query) in expected(query, name) {
                let mut view = rows(&client, &view).await.expect("a view can be read");
                let mut answer = rows(&client, &query).await.expect("a query can be run");
                view.sort();
                answer.sort();
                assert_eq!(view, answer, "{name}: {query}");
            }
        }
    }

    /// Waits until nothing is being filled.
    async fn settled(&self, client: &Client) {
        let filled = async {
            while value(client, "SELECT count(*) FROM ms_catalog.jobs").await != "0" {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, filled).await.expect("views are filled");
    }
}

/// How a client that creates a view goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It waits.
    Wait,
    /// It asks for the end after so long.
    Cancel(Duration),
    /// It goes away in the middle.
    Leave,
}

/// In the middle of a creation, perhaps.
const MIDDLE: Duration = Duration::from_millis(20);

/// Creates a view over a connection of its own. An error is a SQLSTATE, or what became of the connection.
fn create(client: Client, view: View, end: End) -> JoinHandle<Result<(), String>> {
    tokio::spawn(async move {
        let token = client.cancel_token();
        let sql = format!("CREATE MATERIALIZED VIEW {} AS {}", view.name, view.query);
        let work = client.batch_execute(&sql);
        tokio::pin!(work);
        let done = match end {
            End::Wait => work.await,
            End::Cancel(after) => tokio::select! {
                done = &mut work => done,
                () = tokio::time::sleep(after) => {
                    let _ = token.cancel_query(NoTls).await;
                    work.await
                }
            },
            End::Leave => match tokio::time::timeout(MIDDLE, work).await {
                Ok(done) => done,
                Err(_) => return Err("the client has left".to_string()),
            },
        };
        done.map_err(|error| match error.as_db_error() {
            Some(db) => db.code().code().to_string(),
            None => error.to_string(),
        })
    })
}

#[test]
fn views_created_at_any_moment_equal_their_queries() {
    crate::runtime().block_on(async {
        let seed = crate::from_environment("FILLING_SEED");
        let mut beside = 0;
        for seed in seed.map_or(0..HISTORIES, |seed| seed..seed + 1) {
            println!("seed {seed}");
            let mut random = StdRng::seed_from_u64(seed);
            let directory = tempfile::tempdir().expect("a temporary directory");
            let workers = random.random_range(1..=3).to_string();
            let server = Server::start(directory.path(), &["--workers", &workers, "--fill-rows", "40"]);
            let mut history = History { random, server, views: Vec::new(), created: 0, beside: 0 };
            history.live().await;
            beside += history.beside;
            // What was cancelled or dropped is gone; so is the rest, once it is dropped.
            let client = history.server.connect().await;
            for view in &history.views {
                execute(&client, &format!("DROP MATERIALIZED VIEW {}", view.name)).await;
            }
            execute(&client, "DROP TABLE item, note, entry, event CASCADE").await;
            drop(client);
            history.server.terminate();
            assert_empty(directory.path());
        }
        assert!(beside > 0, "no statement ran beside a view that stood behind");
    });
}

#[test]
fn a_drop_that_the_server_did_not_survive_leaves_nothing() {
    crate::runtime().block_on(async {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut server = Server::start(directory.path(), &["--workers", "2"]);
        let client = server.connect().await;
        execute(&client, OBJECTS).await;
        fill_tables(&client).await;
        execute(&client, &format!("CREATE MATERIALIZED VIEW v AS {}", QUERIES[3])).await;
        drop(client);
        // It dies between the commit of the DROP and the removal of what is stored.
        assert!(server.launch(&[("MILLSTREAM_FAULT", "ddl.after_commit:1")]), "it starts");
        let client = server.connect().await;
        assert!(client.batch_execute("DROP TABLE item, note, entry, event CASCADE").await.is_err());
        server.wait();
        assert!(server.launch(&[]), "it starts again");
        let client = server.connect().await;
        assert_eq!(value(&client, "SELECT count(*) FROM ms_catalog.objects").await, "0");
        drop(client);
        server.terminate();
        assert_empty(directory.path());
    });
}

#[test]
fn a_view_that_is_being_filled_is_refused_to_readers() {
    crate::runtime().block_on(async {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut server = Server::start(directory.path(), &["--workers", "1", "--fill-rows", "1"]);
        let client = server.connect().await;
        execute(&client, OBJECTS).await;
        fill_tables(&client).await;
        // So many rows that they are not through, one by one, before the server is up again.
        let more = "SELECT 10000 + a.id * 100 + b.id, b.id, a.id FROM item a, item b WHERE b.id < 20";
        execute(&client, &format!("INSERT INTO item {more}")).await;
        let view = View { name: "slow".to_string(), query: QUERIES[3] };
        let creation = create(server.connect().await, view, End::Wait);
        let begun = async {
            while value(&client, "SELECT count(*) FROM ms_catalog.jobs WHERE name = 'slow' AND job = 'fill'").await
                == "0"
            {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, begun).await.expect("it stands behind");
        for sql in [
            "SELECT * FROM slow",
            "SELECT n FROM slow WHERE kind = 3",
            "SUBSCRIBE slow",
            "CREATE MATERIALIZED VIEW over AS SELECT kind FROM slow",
        ] {
            let error = client.simple_query(sql).await.expect_err("it is refused");
            assert_eq!(error.as_db_error().map(|e| e.code().code()), Some("55000"), "{sql}: {error:?}");
        }
        // Writers go on; the server goes down and comes up again; so does the work, with nobody waiting.
        execute(&client, "INSERT INTO item VALUES (-1, 0, 0)").await;
        drop(client);
        assert_eq!(server.terminate(), Some(0), "it stops cleanly");
        assert_eq!(creation.await.expect("no panic").expect_err("the server went away"), "57P01");
        server.restart();
        let client = server.connect().await;
        let job = "SELECT rows > 0 AND trouble IS NULL FROM ms_catalog.jobs WHERE name = 'slow' AND job = 'fill'";
        assert_eq!(value(&client, job).await, "t");
        execute(&client, "DROP MATERIALIZED VIEW slow").await;
        assert_eq!(value(&client, "SELECT count(*) FROM ms_catalog.jobs").await, "0");
        let again = create(server.connect().await, View { name: "again".to_string(), query: QUERIES[3] }, End::Wait);
        let begun = async {
            while value(&client, "SELECT count(*) FROM ms_catalog.jobs").await == "0" {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, begun).await.expect("it stands behind");
        execute(&client, "DROP MATERIALIZED VIEW again").await;
        assert_eq!(again.await.expect("no panic").expect_err("there is no view"), "57014");
        execute(&client, "DROP TABLE item, note, entry, event CASCADE").await;
        drop(client);
        server.terminate();
        assert_empty(directory.path());
    });
}

/// Creations cancelled about when their views join.
const CANCELLED: usize = 40;

#[test]
fn a_view_is_filled_on_after_an_epoch_that_was_full() {
    crate::runtime().block_on(async {
        let directory = tempfile::tempdir().expect("a temporary directory");
        // Half of the least that an epoch may take is 8 MB, and no other work wakes the coordinator.
        let server = Server::start(directory.path(), &["--workers", "1", "--memory-limit", "16MB"]);
        let client = server.connect().await;
        execute(&client, "CREATE TABLE wide (id INTEGER PRIMARY KEY, pad TEXT)").await;
        for part in 0..5 {
            let rows = format!("generate_series({}, {}) AS g(i)", part * 5000, part * 5000 + 4999);
            execute(&client, &format!("INSERT INTO wide SELECT i, repeat('x', 1000) FROM {rows}")).await;
        }
        let create = client.batch_execute("CREATE MATERIALIZED VIEW copy AS SELECT id, pad || 'y' AS pad FROM wide");
        tokio::time::timeout(PATIENCE, create).await.expect("it does not fall asleep").expect("it is filled");
        let all = value(&client, "SELECT count(*) FROM copy WHERE length(pad) = 1001").await;
        assert_eq!(all, "25000");
    });
}

#[test]
fn a_cancelled_creation_says_what_became_of_it() {
    crate::runtime().block_on(async {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut server = Server::start(directory.path(), &["--workers", "2", "--fill-rows", "150"]);
        let client = server.connect().await;
        execute(&client, OBJECTS).await;
        fill_tables(&client).await;
        let view = View { name: "v".to_string(), query: QUERIES[3] };
        let mut after = MIDDLE;
        for round in 0..CANCELLED {
            let creator = server.connect().await;
            let end = if round % 2 == 0 {
                End::Cancel(after)
            } else {
                execute(&creator, &format!("SET statement_timeout = {}", after.as_millis().max(1))).await;
                End::Wait
            };
            let outcome = tokio::time::timeout(PATIENCE, create(creator, view.clone(), end)).await;
            let there = value(&client, "SELECT count(*) FROM ms_catalog.objects WHERE name = 'v'").await;
            assert_eq!(value(&client, "SELECT count(*) FROM ms_catalog.jobs").await, "0");
            // The next one comes nearer to the moment between the two.
            match outcome.expect("a creation ends").expect("no panic") {
                Ok(()) => {
                    assert_eq!(there, "1", "round {round}");
                    let (mut have, mut want) = (rows(&client, "SELECT * FROM v").await.expect("a read"), Vec::new());
                    want.extend(rows(&client, view.query).await.expect("a read"));
                    have.sort();
                    want.sort();
                    assert_eq!(have, want, "round {round}");
                    execute(&client, "DROP MATERIALIZED VIEW v").await;
                    after = after.mul_f64(0.8);
                }
                Err(error) => {
                    assert_eq!((error.as_str(), there.as_str()), ("57014", "0"), "round {round}");
                    after = after.mul_f64(1.25);
                }
            }
        }
        execute(&client, "DROP TABLE item, note, entry, event CASCADE").await;
        drop(client);
        server.terminate();
        assert_empty(directory.path());
    });
}

/// A source that is read while views over it are created: every row is late, or on time, for all of them.
const SOURCE: &str = "
    CREATE SOURCE seq (n BIGINT, ts TIMESTAMP,
        t TIMESTAMP AS CASE WHEN n % 10 = 0 THEN ts - INTERVAL '1 minute' ELSE ts END,
        d BIGINT AS 1000 / (n % 100), WATERMARK FOR t AS t)
      WITH (connector = 'generator', generator = 'sequence', rate = '10000', event_rate = '100', rows = '40000')";

#[test]
fn views_over_one_source_agree_whenever_they_were_created() {
    crate::runtime().block_on(async {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut server = Server::start(directory.path(), &["--workers", "2", "--fill-rows", "500"]);
        let mut client = server.connect().await;
        execute(&client, SOURCE).await;
        let rounds = 6;
        for round in 0..rounds {
            for (name, query) in [
                ("total", "SELECT count(*) AS c, sum(n) AS s FROM seq"),
                ("share", "SELECT d, count(*) AS c FROM seq GROUP BY d"),
                (
                    "windows",
                    "SELECT window_end, count(*) AS c, sum(n) AS s FROM TUMBLE(seq, t, INTERVAL '10 seconds') GROUP BY window_end",
                ),
            ] {
                execute(&client, &format!("CREATE MATERIALIZED VIEW {name}{round} AS {query}")).await;
            }
            tokio::time::sleep(Duration::from_millis(400)).await;
            // In the middle of the next creation, perhaps.
            let cut = round % 2 == 1;
            if cut {
                let more = format!("CREATE MATERIALIZED VIEW cut{round} AS SELECT count(*) AS c, sum(n) AS s FROM seq");
                let creation = tokio::spawn(async move { client.batch_execute(&more).await });
                tokio::time::sleep(Duration::from_millis(15)).await;
                server.restart();
                let _ = creation.await;
                client = server.connect().await;
            }
        }
        let all = async {
            while value(&client, "SELECT c FROM total0").await != "40000"
                || value(&client, "SELECT count(*) FROM ms_catalog.jobs").await != "0"
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, all).await.expect("all rows are read");
        assert_eq!(value(&client, "SELECT sum(c) FROM share0").await, "39600");
        for relation in ["total", "share", "windows"] {
            let mut first = rows(&client, &format!("SELECT * FROM {relation}0")).await.expect("it can be read");
            first.sort();
            for round in 1..rounds {
                let mut other = rows(&client, &format!("SELECT * FROM {relation}{round}")).await.expect("it can be read");
                other.sort();
                assert_eq!(first, other, "{relation}{round}");
            }
        }
        let late = |round: i32| format!("SELECT count(*), sum(n) FROM windows{round}$late");
        let first = value(&client, &late(0)).await;
        let on_time = value(&client, "SELECT sum(c) FROM windows0").await.parse::<i64>().expect("a number");
        assert!(on_time < 40_000, "nothing was late");
        for round in 0..rounds {
            assert_eq!(value(&client, &late(round)).await, first, "late rows of windows{round}");
        }
        for cut in rows(&client, "SELECT name FROM ms_catalog.objects WHERE name LIKE 'cut_'").await.expect("names") {
            assert_eq!(value(&client, &format!("SELECT c FROM {cut}")).await, "40000", "{cut}");
        }
        assert_eq!(value(&client, "SELECT count(*) FROM seq$errors WHERE \"column\" = 'd'").await, "400");
        execute(&client, "DROP SOURCE seq CASCADE").await;
        drop(client);
        server.terminate();
        assert_empty(directory.path());
    });
}

#[test]
fn a_sink_puts_each_change_out_and_keeps_nothing() {
    crate::runtime().block_on(async {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut server = Server::start(directory.path(), &["--workers", "2", "--fill-rows", "100"]);
        let client = server.connect().await;
        execute(&client, OBJECTS).await;
        fill_tables(&client).await;
        let to = "WITH (connector = 'blackhole')";
        execute(&client, &format!("CREATE SINK every FROM item {to}")).await;
        execute(&client, &format!("CREATE SINK kinds AS SELECT kind, count(*) AS n FROM item GROUP BY kind {to}"))
            .await;
        let out = |name: &str| format!("SELECT rows_out FROM ms_catalog.sinks WHERE name = '{name}'");
        // A group is put out again with each step that changes it.
        assert_eq!(value(&client, &out("every")).await, ROWS.to_string());
        assert!(value(&client, &out("kinds")).await.parse::<usize>().expect("a number") >= 40);
        let ids = rows(&client, "SELECT id FROM ms_catalog.sinks").await.expect("ids");
        server.restart();
        let client = server.connect().await;
        // What was put out is not put out again; what is known of the groups is.
        assert_eq!(
            (value(&client, &out("every")).await, value(&client, &out("kinds")).await),
            ("0".into(), "0".into())
        );
        execute(&client, "INSERT INTO item VALUES (-1, 7, 0)").await;
        assert_eq!(
            (value(&client, &out("every")).await, value(&client, &out("kinds")).await),
            ("1".into(), "2".into())
        );
        drop(client);
        server.terminate();
        let store = millstream::state::Store::open(directory.path(), millstream::state::StoreOptions::default());
        let stored = store.expect("the server is down").objects_besides(&BTreeSet::new()).expect("a scan");
        assert!(stored.iter().all(|object| !ids.contains(&object.to_string())), "rows of a sink are stored");
        server.restart();
        let client = server.connect().await;
        execute(&client, "DROP TABLE item, note, entry, event CASCADE").await;
        drop(client);
        server.terminate();
        assert_empty(directory.path());
    });
}

#[test]
fn the_history_of_a_watermark_is_kept_where_rows_may_be_read_again() {
    crate::runtime().block_on(async {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut server = Server::start(directory.path(), &[]);
        let client = server.connect().await;
        let input = "WITH (connector = 'generator', generator = 'sequence', rate = '0', rows = '5000')";
        execute(&client, &format!("CREATE TABLE kept (n BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts) {input}")).await;
        for source in ["seq", "left"] {
            let columns = "(n BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts)";
            execute(&client, &format!("CREATE SOURCE {source} {columns} {input}")).await;
            execute(&client, &format!("CREATE MATERIALIZED VIEW of_{source} AS SELECT count(*) FROM {source}")).await;
        }
        execute(&client, "FLUSH; DROP MATERIALIZED VIEW of_left").await;
        let id = |name: &str| format!("SELECT id FROM ms_catalog.objects WHERE name = '{name}'");
        let seq = value(&client, &id("seq")).await.parse::<u32>().expect("a number");
        drop(client);
        server.terminate();
        let store = millstream::state::Store::open(directory.path(), millstream::state::StoreOptions::default());
        let mut scan = store.expect("the server is down").snapshot().scan(Space::Progress, None, None);
        let mut moments = BTreeSet::new();
        while let Some((key, _)) = scan.next_entry().expect("a scan") {
            // An object's id, then an epoch.
            if let (12, Some(id)) = (key.len(), key.first_chunk::<4>()) {
                moments.insert(u32::from_be_bytes(*id));
            }
        }
        assert_eq!(moments, BTreeSet::from([seq]));
    });
}

/// The store holds no state of operators, no rows and no changes.
fn assert_empty(data_dir: &Path) {
    let store = millstream::state::Store::open(data_dir, millstream::state::StoreOptions::default());
    let store = store.expect("the server is down");
    assert!(
        store.tables_besides(&BTreeSet::new()).expect("a scan").is_empty(),
        "state is left: {:?}",
        store.tables_besides(&BTreeSet::new())
    );
    assert!(
        store.objects_besides(&BTreeSet::new()).expect("a scan").is_empty(),
        "rows are left: {:?}",
        store.objects_besides(&BTreeSet::new())
    );
}
