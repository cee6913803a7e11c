//! A named subscription: its client and the server die at random moments, and what the client has taken over is the view, each
//! change once. What it has acknowledged is let go of on disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream::state::Space;
use millstream::state::Store;
use millstream::state::StoreOptions;
use parking_lot::Mutex;
use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio_postgres::Client;
use tokio_postgres::Error;

use crate::support::Server;
use crate::support::connect;
use crate::support::execute;
use crate::support::follower::Change;
use crate::support::follower::Follower;
use crate::support::rows;
use crate::support::value;

/// Times that client or server die in the default run.
const DEATHS: u64 = 16;

/// How long anything may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

const OBJECTS: &str = "
    CREATE TABLE item (id INTEGER PRIMARY KEY, kind INTEGER, v BIGINT);
    INSERT INTO item SELECT i, i % 7, i FROM generate_series(1, 40) AS g(i);
    CREATE MATERIALIZED VIEW per_kind AS SELECT kind, count(*) AS n, sum(v) AS s FROM item GROUP BY kind;
    CREATE SUBSCRIPTION s FROM per_kind";

/// What the client has on a disk of its own: the rows, and the epoch up to which they have every change. It sets both at once.
#[derive(Default)]
struct Mine {
    rows: BTreeMap<String, i64>,
    through: u64,
}

impl Mine {
    /// Takes over what came up to the end of an epoch, unless it is here already.
    fn take(&mut self, changes: &[Change], epoch: u64) {
        for change in changes.iter().filter(|change| change.epoch > self.through) {
            *self.rows.entry(change.row.clone()).or_default() += change.diff.expect("a change");
        }
        self.rows.retain(|_, count| *count != 0);
        let twice = self.rows.iter().find(|(_, count)| **count != 1);
        assert_eq!(twice, None, "after epoch {epoch}");
        self.through = self.through.max(epoch);
    }
}

/// The subscriber: takes what comes up to the end of an epoch over, then acknowledges it; sometimes it does so later.
async fn follow(port: u16, mine: Arc<Mutex<Mine>>, mut random: StdRng) -> Result<(), Error> {
    let through = mine.lock().through;
    let sql = match (through, random.random_bool(0.5)) {
        (0, _) => "SUBSCRIBE s WITH (progress)".to_string(),
        (_, true) => "SUBSCRIBE s WITH (progress, snapshot = false)".to_string(),
        (_, false) => format!("SUBSCRIBE s WITH (progress) AS OF {through}"),
    };
    let acknowledging = connect(port).await?;
    let mut follower = Follower::try_start(connect(port).await?, &sql).await?;
    let mut changes = Vec::new();
    loop {
        let change = follower.next().await?;
        if change.diff.is_some() {
            changes.push(change);
            continue;
        }
        mine.lock().take(&changes, change.epoch);
        changes.clear();
        if random.random_bool(0.6) {
            acknowledging.batch_execute(&format!("ALTER SUBSCRIPTION s ADVANCE TO {}", change.epoch)).await?;
        }
    }
}

/// Writes until the server is gone.
async fn write(port: u16, mut random: StdRng) -> Result<(), Error> {
    let client = connect(port).await?;
    loop {
        let (id, kind, v) = (random.random_range(0..60), random.random_range(0..7), random.random_range(0..9));
        let sql = match random.random_range(0..4) {
            0 => format!("DELETE FROM item WHERE id = {id}"),
            1 => format!("UPDATE item SET kind = {kind} WHERE id % 5 = {}", id % 5),
            _ => format!("INSERT INTO item VALUES ({id}, {kind}, {v}) ON CONFLICT (id) DO UPDATE SET v = item.v + 1"),
        };
        client.batch_execute(&sql).await?;
    }
}

/// Waits until the client has everything up to now; it is the view then.
async fn has_all(client: &Client, mine: &Mutex<Mine>) {
    let epoch = value(client, "SELECT max(epoch) FROM ms_catalog.epochs").await.parse::<u64>().expect("a number");
    let arrives = async {
        while mine.lock().through < epoch {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, arrives).await.expect("the changes come");
    let mut there = rows(client, "SELECT * FROM per_kind").await.expect("a read");
    there.sort();
    assert_eq!(mine.lock().rows.keys().cloned().collect::<Vec<_>>(), there);
}

async fn live_and_die(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut fresh = || StdRng::seed_from_u64(random.random());
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut server = Server::start(directory.path(), &["--workers", "2"]);
    execute(&server.connect().await, OBJECTS).await;
    let mine = Arc::new(Mutex::new(Mine::default()));
    let mut deaths = fresh();
    for death in 0..DEATHS {
        let writer = tokio::spawn(write(server.port, fresh()));
        let mut follower = tokio::spawn(follow(server.port, mine.clone(), fresh()));
        tokio::time::sleep(Duration::from_millis(deaths.random_range(10..250))).await;
        if deaths.random_bool(0.5) {
            follower.abort();
            let _ = follower.await;
            follower = tokio::spawn(follow(server.port, mine.clone(), fresh()));
            tokio::time::sleep(Duration::from_millis(deaths.random_range(0..100))).await;
        }
        server.kill();
        // A client that had been told something wrong has said so.
        for task in [writer, follower] {
            let error = task.await.expect("no panic").expect_err("its server is dead");
            assert_eq!(error.as_db_error().map(|e| e.message()), None, "seed {seed}, death {death}");
        }
        server.restart();
    }
    let client = server.connect().await;
    let follower = tokio::spawn(follow(server.port, mine.clone(), fresh()));
    execute(&client, "DELETE FROM item WHERE id % 2 = 0").await;
    has_all(&client, &mine).await;
    follower.abort();
    is_let_go(server, directory.path()).await;
}

/// What is acknowledged goes: first nobody can go on from there, then nothing of it is on disk.
async fn is_let_go(mut server: Server, data_dir: &std::path::Path) {
    let client = server.connect().await;
    let stands = "SELECT epoch FROM ms_catalog.subscriptions WHERE name = 's'";
    let before = value(&client, stands).await;
    execute(&client, "INSERT INTO item VALUES (100, 1, 1); ALTER SUBSCRIPTION s ADVANCE TO LATEST").await;
    let stand = value(&client, stands).await.parse::<u64>().expect("a number");
    let goes = async {
        loop {
            // Each epoch is an occasion.
            execute(&client, "UPDATE item SET v = v + 1 WHERE id = 100").await;
            let goes_on = format!("BEGIN; DECLARE c CURSOR FOR SUBSCRIBE per_kind AS OF {before}");
            let refused = client.batch_execute(&goes_on).await.err();
            execute(&client, "ROLLBACK").await;
            if let Some(error) = refused {
                assert_eq!(error.as_db_error().map(|e| e.code().code()), Some("72000"), "{error:?}");
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, goes).await.expect("it is let go of");
    let view = value(&client, "SELECT id FROM ms_catalog.objects WHERE name = 'per_kind'").await;
    assert_eq!(server.terminate(), Some(0));
    let store = Store::open(data_dir, StoreOptions::default()).expect("the server is down");
    let space = Space::Changelog(millstream::ids::ObjectId(view.parse().expect("a number")));
    let mut scan = store.snapshot().scan(space, Some(&[0]), None);
    let mut kept = Vec::new();
    while let Some((key, _)) = scan.next_entry().expect("a scan") {
        kept.push(u64::from_be_bytes(key[..8].try_into().expect("an epoch")));
    }
    assert!(!kept.is_empty() && kept.iter().all(|epoch| *epoch > stand), "{kept:?} is kept, it stands at {stand}");
}

#[test]
fn a_named_subscription_gives_each_change_once_whoever_dies() {
    crate::runtime().block_on(async {
        let seed = crate::from_environment("SUBSCRIPTION_SEED").unwrap_or(1);
        live_and_die(seed).await;
    });
}

#[test]
fn a_subscription_that_nobody_reads_is_overtaken_by_its_retention() {
    crate::runtime().block_on(async {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut server = Server::start(directory.path(), &["--workers", "1"]);
        let mut client = server.connect().await;
        execute(&client, "CREATE TABLE t (x INTEGER); CREATE SUBSCRIPTION brief FROM t WITH (retention = '10ms')")
            .await;
        execute(&client, "CREATE TABLE other (x INTEGER); CREATE SUBSCRIPTION patient FROM other").await;
        for name in ["brief", "patient"] {
            execute(&client, &format!("ALTER SUBSCRIPTION {name} ADVANCE TO LATEST")).await;
        }
        let overtaken = "SELECT overtaken FROM ms_catalog.subscriptions WHERE name = 'brief'";
        let overtakes = async {
            while value(&client, overtaken).await != "t" {
                execute(&client, "INSERT INTO t VALUES (1); INSERT INTO other VALUES (1)").await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, overtakes).await.expect("what has grown too old goes");
        for _ in 0..2 {
            let error = Follower::try_start(server.connect().await, "SUBSCRIBE brief").await;
            let error = match error {
                Ok(mut follower) => follower.next().await.expect_err("what it lacks is gone"),
                Err(error) => error,
            };
            let error = error.as_db_error().expect("an answer");
            assert_eq!((error.code().code(), error.hint().is_some()), ("72000", true), "{error:?}");
            let mut patient = Follower::start(server.connect().await, "SUBSCRIBE patient").await;
            patient.next().await.expect("nothing of it is gone");
            server.restart();
            client = server.connect().await;
            assert_eq!(value(&client, overtaken).await, "t");
        }
        // Whoever has read further goes on.
        execute(&client, "ALTER SUBSCRIPTION brief ADVANCE TO LATEST").await;
        assert_eq!(value(&client, overtaken).await, "f");
        execute(&client, "INSERT INTO t VALUES (7)").await;
        let mut brief = Follower::start(server.connect().await, "SUBSCRIBE brief").await;
        assert_eq!(brief.next().await.expect("it goes on").row, "7");
    });
}
