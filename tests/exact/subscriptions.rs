//! Subscriptions: folded, they are the relation at every epoch, whatever is killed in between, and nobody waits for a slow one.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use tokio_postgres::Client;

use crate::support::Server;
use crate::support::execute;
use crate::support::follower::Follower;
use crate::support::rows;
use crate::support::value;

/// Random histories in the default run.
const HISTORIES: u64 = 4;

/// Statements of a history.
const STEPS: usize = 60;

const OBJECTS: &str = "
    CREATE TABLE item (id INTEGER PRIMARY KEY, kind INTEGER, v BIGINT) WITH (retain_history = '1 hour');
    CREATE TABLE note (kind INTEGER, word TEXT) WITH (retain_history = '1 hour');
    CREATE MATERIALIZED VIEW per_kind WITH (retain_history = '1 hour') AS
      SELECT kind, count(*) AS n, sum(v) AS s, max(v) AS hi FROM item GROUP BY kind;
    CREATE MATERIALIZED VIEW pairs WITH (retain_history = '1 hour') AS
      SELECT i.v % 3 AS rest, n.word FROM item i LEFT JOIN note n ON i.kind = n.kind;
    CREATE MATERIALIZED VIEW over_view WITH (retain_history = '1 hour') AS
      SELECT n, count(*) AS kinds FROM per_kind GROUP BY n;";

/// What is followed: a relation, and the query that it answers.
const FOLLOWED: &[(&str, &str)] = &[
    ("item", "SELECT * FROM item"),
    ("note", "SELECT * FROM note"),
    ("per_kind", "SELECT * FROM per_kind"),
    ("pairs", "SELECT * FROM pairs"),
    ("over_view", "SELECT * FROM over_view"),
];

fn statement(random: &mut StdRng) -> String {
    let (id, kind, v) = (random.random_range(0..12), random.random_range(0..4), random.random_range(0..6));
    match random.random_range(0..10) {
        0..3 => format!("INSERT INTO item VALUES ({id}, {kind}, {v}) ON CONFLICT (id) DO UPDATE SET v = excluded.v"),
        3 => format!("UPDATE item SET v = v + 1, kind = {kind} WHERE id < {id}"),
        4 => format!("DELETE FROM item WHERE id = {id}"),
        5 => format!("UPDATE item SET v = v WHERE kind = {kind}"),
        6..8 => format!("INSERT INTO note VALUES ({kind}, 'a'), ({kind}, 'a'), ({kind}, 'b{v}')"),
        8 => format!("DELETE FROM note WHERE kind = {kind}"),
        _ => format!("BEGIN; DELETE FROM item WHERE kind = {kind}; INSERT INTO note VALUES ({kind}, 'c'); COMMIT"),
    }
}

/// The last epoch and the sorted rows of a query at it.
async fn at_one_moment(client: &Client, query: &str) -> (u64, Vec<String>) {
    execute(client, "BEGIN").await;
    let epoch = value(client, "SELECT max(epoch) FROM ms_catalog.epochs").await.parse().expect("a number");
    let mut rows = rows(client, query).await.expect("a read");
    execute(client, "COMMIT").await;
    rows.sort();
    (epoch, rows)
}

/// One history: followers come at random moments, and go on after each restart where they stopped.
async fn live(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let workers = random.random_range(1..=3).to_string();
    let mut server = Server::start(directory.path(), &["--workers", &workers]);
    let mut client = server.connect().await;
    execute(&client, OBJECTS).await;
    let mut followers: Vec<(usize, bool, Follower)> = Vec::new();
    let mut moments: Vec<(usize, u64, Vec<String>)> = Vec::new();
    for step in 0..STEPS {
        if random.random_bool(0.2) {
            let which = random.random_range(0..FOLLOWED.len());
            let by_query = random.random_bool(0.4);
            let target = if by_query { format!("({})", FOLLOWED[which].1) } else { FOLLOWED[which].0.to_string() };
            let sql = format!("SUBSCRIBE TO {target} WITH (progress = true)");
            followers.push((which, by_query, Follower::start(server.connect().await, &sql).await));
        }
        execute(&client, &statement(&mut random)).await;
        if random.random_bool(0.06) {
            server.restart();
            client = server.connect().await;
            followers = go_on(&server, followers).await;
        }
        if random.random_bool(0.3) || step + 1 == STEPS {
            for (which, _, follower) in &mut followers {
                let (epoch, rows) = at_one_moment(&client, FOLLOWED[*which].1).await;
                follower.until(epoch).await.expect("a subscription goes on");
                let folded = follower.sorted();
                assert_eq!(folded, rows, "seed {seed}, step {step}: {} at epoch {epoch}", FOLLOWED[*which].0);
                assert!(follower.rows.values().all(|count| *count > 0), "seed {seed}: a count below zero");
            }
            let which = random.random_range(0..FOLLOWED.len());
            let (epoch, rows) = at_one_moment(&client, FOLLOWED[which].1).await;
            moments.push((which, epoch, rows));
            // Moments before and after a restart, some with nothing to come after them.
            let (which, epoch, rows) = moments.choose(&mut random).expect("there is a moment");
            was_as_of(&server, FOLLOWED[*which].0, *epoch, rows).await;
        }
    }
}

/// Begun at an epoch, a subscription has the rows of then, and goes on from there.
async fn was_as_of(server: &Server, relation: &str, epoch: u64, rows: &[String]) {
    let sql = format!("SUBSCRIBE {relation} WITH (snapshot, progress) AS OF {epoch}");
    let mut follower = Follower::start(server.connect().await, &sql).await;
    loop {
        let before = follower.sorted();
        let change = follower.next().await.expect("a subscription goes on");
        if change.epoch > epoch || change.diff.is_none() {
            assert_eq!(before, rows, "{relation} as of epoch {epoch}");
            break;
        }
        assert!(change.diff > Some(0), "{relation} as of epoch {epoch} begins with {change:?}");
    }
    let now = value(&server.connect().await, "SELECT max(epoch) FROM ms_catalog.epochs").await;
    follower.until(now.parse().expect("a number")).await.expect("it goes on");
    let (_, now) = at_one_moment(&server.connect().await, &format!("SELECT * FROM {relation}")).await;
    assert_eq!(follower.sorted(), now, "{relation} since epoch {epoch}");
}

/// After a restart: what follows a relation goes on after the last epoch it was told of; a query is gone with its session.
async fn go_on(server: &Server, followers: Vec<(usize, bool, Follower)>) -> Vec<(usize, bool, Follower)> {
    let mut going = Vec::new();
    for (which, by_query, follower) in followers {
        if by_query || follower.through == 0 {
            continue;
        }
        let sql = format!("SUBSCRIBE {} WITH (progress) AS OF {}", FOLLOWED[which].0, follower.through);
        let fresh = Follower::start(server.connect().await, &sql).await;
        // It has read up to the end of an epoch each time, and no further.
        let (rows, through) = (follower.rows, follower.through);
        going.push((which, false, fresh.with_rows(rows, through)));
    }
    going
}

#[test]
fn a_folded_subscription_is_the_relation_at_each_epoch() {
    crate::runtime().block_on(async {
        let seed = crate::from_environment("SUBSCRIPTION_SEED");
        for seed in seed.map_or(0..HISTORIES, |seed| seed..seed + 1) {
            live(seed).await;
        }
    });
}

#[test]
fn a_slow_subscriber_holds_back_nobody() {
    crate::runtime().block_on(async {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let server = Server::start(directory.path(), &["--workers", "1"]);
        let client = server.connect().await;
        execute(&client, "CREATE TABLE wide (id INTEGER PRIMARY KEY, pad TEXT)").await;
        let rows = (0..300).map(|id| format!("({id}, '')")).collect::<Vec<_>>().join(", ");
        execute(&client, &format!("INSERT INTO wide VALUES {rows}")).await;
        let mut slow = Follower::start(server.connect().await, "SUBSCRIBE wide WITH (progress)").await;
        slow.next().await.expect("a first row");
        // Far more than the sockets' buffers take, while it reads nothing.
        for n in 0..20 {
            execute(&client, &format!("UPDATE wide SET pad = repeat('{n} ', 1000)")).await;
        }
        let (epoch, rows) = at_one_moment(&client, "SELECT id, pad FROM wide").await;
        slow.until(epoch).await.expect("it reads on");
        assert_eq!(slow.sorted(), rows);
    });
}

#[test]
fn a_subscription_ends_with_what_it_follows() {
    crate::runtime().block_on(async {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let server = Server::start(directory.path(), &["--workers", "2"]);
        let client = server.connect().await;
        execute(&client, "CREATE TABLE t (x INTEGER)").await;
        let mut table = Follower::start(server.connect().await, "SUBSCRIBE t WITH (progress)").await;
        let mut query = Follower::start(server.connect().await, "SUBSCRIBE (SELECT count(*) FROM t)").await;
        table.next().await.expect("the end of an epoch");
        assert_eq!(query.next().await.expect("the count").row, "0");
        execute(&client, "DROP TABLE t").await;
        for follower in [&mut table, &mut query] {
            let error = loop {
                if let Err(error) = follower.next().await {
                    break error;
                }
            };
            assert_eq!(error.as_db_error().map(|e| e.code().code()), Some("42P01"), "{error:?}");
        }
    });
}

#[test]
fn copy_streams_changes_as_they_come() {
    crate::runtime().block_on(async {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let server = Server::start(directory.path(), &["--workers", "1"]);
        let client = server.connect().await;
        execute(&client, "CREATE TABLE t (x INTEGER, word TEXT); INSERT INTO t VALUES (1, 'one')").await;
        let copier = server.connect().await;
        let copy = copier.copy_out("COPY (SUBSCRIBE t) TO STDOUT").await.expect("COPY takes a subscription");
        let mut copy = Box::pin(copy);
        for (insert, end) in [("", "1\t1\tone\n"), ("INSERT INTO t VALUES (2, 'two')", "1\t2\ttwo\n")] {
            execute(&client, insert).await;
            let line = tokio::time::timeout(Duration::from_secs(60), copy.next()).await.expect("a line comes");
            let line = line.expect("it does not end").expect("no error");
            assert!(line.ends_with(end.as_bytes()), "{line:?}");
        }
    });
}

#[test]
fn nothing_is_left_of_a_subscription() {
    crate::runtime().block_on(async {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut server = Server::start(directory.path(), &["--workers", "2"]);
        let client = server.connect().await;
        execute(&client, "CREATE TABLE t (k INTEGER, x INTEGER); INSERT INTO t VALUES (1, 1), (2, 2), (2, 3)").await;
        let sql = "SUBSCRIBE (SELECT k, count(DISTINCT x) AS n FROM t GROUP BY k)";
        let mut left = Follower::start(server.connect().await, sql).await;
        let mut killed = Follower::start(server.connect().await, sql).await;
        left.next().await.expect("a row");
        killed.next().await.expect("a row");
        execute(&client, "INSERT INTO t VALUES (3, 3)").await;
        while left.next().await.expect("a change").row != "3|1" {}
        drop(left);
        // It goes with its client, which is noticed although no rows flow.
        tokio::time::sleep(Duration::from_millis(10)).await;
        execute(&client, "INSERT INTO t VALUES (4, 4)").await;
        while killed.next().await.expect("a change").row != "4|1" {}
        let ids = rows(&client, "SELECT id FROM ms_catalog.objects").await.expect("a read");
        server.restart();
        drop(server);
        assert_only(directory.path(), &ids);
    });
}

/// The store holds no state of operators, and rows and changes of these objects only.
fn assert_only(data_dir: &std::path::Path, ids: &[String]) {
    let store = millstream::state::Store::open(data_dir, millstream::state::StoreOptions::default());
    let store = store.expect("the server is down");
    assert!(
        store.tables_besides(&BTreeSet::new()).expect("a scan").is_empty(),
        "state is left: {:?}",
        store.tables_besides(&BTreeSet::new())
    );
    for object in store.objects_besides(&BTreeSet::new()).expect("a scan") {
        assert!(ids.contains(&object.to_string()), "rows of object {object} are left");
    }
}
