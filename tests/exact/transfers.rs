//! The bank of the article "Internal consistency in streaming systems", under kills: transfers come in order of time and then up
//! to ten seconds out of it, while clients poll and one folds a subscription, and the server is killed again and again. No
//! observation, before or after a kill, shows anything but the exact result for some of the transfers.
//!
//! `BANK_TRANSFERS=n`, `BANK_OBSERVATIONS=n`, `BANK_KILLS=n`: the sizes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::RwLock;
use tokio_postgres::Client;
use tokio_postgres::Error;

use crate::from_environment;
use crate::support::Server;
use crate::support::execute;
use crate::support::follower::Follower;
use crate::support::rows;
use crate::support::value;

/// How many accounts there are.
const ACCOUNTS: u64 = 10;

/// How many clients write, and how many poll.
const WRITERS: usize = 2;
const READERS: u64 = 4;

/// Rows of a statement at most.
const ROWS_MAX: usize = 200;

/// The views of the article.
const OBJECTS: &str = "
    CREATE TABLE transfer (id BIGINT PRIMARY KEY, from_account INTEGER NOT NULL, to_account INTEGER NOT NULL,
      amount BIGINT NOT NULL, ts TIMESTAMP NOT NULL);
    CREATE MATERIALIZED VIEW accepted AS SELECT id FROM transfer;
    CREATE MATERIALIZED VIEW outer_join AS
      SELECT t1.id AS id, t2.id AS other FROM (SELECT id, amount FROM transfer) t1
      LEFT JOIN (SELECT id, to_account FROM transfer) t2 ON t1.id = t2.id;
    CREATE MATERIALIZED VIEW unmatched AS SELECT count(*) AS c FROM outer_join WHERE other IS NULL;
    CREATE MATERIALIZED VIEW credits AS SELECT to_account AS account, sum(amount) AS credits FROM transfer GROUP BY to_account;
    CREATE MATERIALIZED VIEW debits AS SELECT from_account AS account, sum(amount) AS debits FROM transfer GROUP BY from_account;
    CREATE MATERIALIZED VIEW balance WITH (retain_history = '1 hour') AS
      SELECT credits.account AS account, credits - debits AS balance FROM credits JOIN debits ON credits.account = debits.account;
    CREATE MATERIALIZED VIEW total AS SELECT sum(balance) AS total FROM balance;
    CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS c, count(DISTINCT id) AS d, sum(amount) AS s FROM transfer;";

/// What must read the same at every moment.
const INVARIANTS: &[(&str, &str)] = &[
    ("SELECT total FROM total", "0"),
    ("SELECT sum(balance), count(*) FROM balance", "0|10"),
    ("SELECT c FROM unmatched", "0"),
    ("SELECT (SELECT sum(credits) FROM credits) = (SELECT sum(debits) FROM debits)", "t"),
    ("SELECT c = d AND c = s AND c = (SELECT sum(credits) FROM credits) FROM counted", "t"),
    (
        "SELECT count(*) FROM balance b JOIN credits c ON b.account = c.account JOIN debits d ON d.account = c.account
         WHERE b.balance <> c.credits - d.debits",
        "0",
    ),
];

/// The same, of reads that go through every transfer.
const DEAR_INVARIANTS: &[(&str, &str)] = &[
    ("SELECT count(*) FROM outer_join WHERE other IS NULL OR other <> id", "0"),
    (
        "SELECT (SELECT count(*) FROM transfer) = (SELECT c FROM counted)
            AND (SELECT count(*) FROM outer_join) = (SELECT count(*) FROM accepted)
            AND (SELECT count(*) FROM accepted) = (SELECT c FROM counted)",
        "t",
    ),
];

/// One of so many reads is a dear one.
const DEAR_EVERY: u32 = 200;

/// A transfer: its number and the two accounts. The amount is 1.
#[derive(Clone, Copy)]
struct Transfer {
    id: u64,
    from: u64,
    to: u64,
}

/// What the clients share.
struct Bank {
    server: RwLock<Server>,
    /// The transfers, in the order in which they come.
    transfers: Vec<Transfer>,
    /// The next of them.
    next: AtomicU64,
    /// So many were acknowledged.
    written: AtomicU64,
    /// Reads, and epochs of the subscription.
    observed: AtomicU64,
    /// Epochs alone.
    followed: AtomicU64,
    /// So many observations are to be made.
    observations: u64,
    closed: AtomicBool,
}

/// The transfers: the first half comes in order of time, the other up to ten of its sixty seconds late.
fn transfers(count: u64) -> Vec<Transfer> {
    let mut random = StdRng::seed_from_u64(7);
    let transfer = |id: u64| {
        let late = if id < count / 2 { 0.0 } else { random.random_range(0.0..10.0) };
        let (from, to) = (random.random_range(0..ACCOUNTS), random.random_range(0..ACCOUNTS));
        ((60 * id / count) as f64 + late, Transfer { id, from, to })
    };
    let mut transfers = (0..count).map(transfer).collect::<Vec<_>>();
    transfers.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    transfers.into_iter().map(|(_, transfer)| transfer).collect()
}

impl Bank {
    fn is_open(&self) -> bool {
        !self.closed.load(Ordering::SeqCst)
    }

    /// A connection, as soon as the server takes one.
    async fn connect(&self) -> Client {
        loop {
            if let Ok(client) = self.server.read().await.try_connect().await {
                return client;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The answer to a query, asked again of the next server when this one is killed.
    async fn ask(&self, client: &mut Client, sql: &str) -> Vec<String> {
        loop {
            match rows(client, sql).await {
                Ok(rows) => return rows,
                Err(error) => *client = self.after(&error, sql).await,
            }
        }
    }

    /// A new connection after an error, which must be that of a server that was killed.
    async fn after(&self, error: &Error, what: &str) -> Client {
        let gone = error.as_db_error().is_none_or(|error| error.code().code().starts_with("57P"));
        assert!(gone, "{what}: {error:?}");
        self.connect().await
    }

    fn insert(&self, transfers: &[Transfer]) -> String {
        let row = |Transfer { id, from, to }: &Transfer| {
            let second = 60 * id / self.transfers.len() as u64;
            format!("({id}, {from}, {to}, 1, '2021-01-01 00:00:{second:02}')")
        };
        let rows = transfers.iter().map(row).collect::<Vec<_>>().join(", ");
        format!("INSERT INTO transfer VALUES {rows} ON CONFLICT (id) DO NOTHING")
    }
}

/// Writes transfers as fast as they are looked at. A statement that a kill cut off is sent again: it is there or not.
async fn write(bank: Arc<Bank>, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut client = bank.connect().await;
    let count = bank.transfers.len() as u64;
    loop {
        let rows = random.random_range(1..=ROWS_MAX.min(1 + bank.transfers.len() / 50)) as u64;
        let from = bank.next.fetch_add(rows, Ordering::SeqCst);
        if from >= count {
            return;
        }
        while bank.is_open() && from * bank.observations > (bank.observed.load(Ordering::SeqCst) + 50) * count {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let some = &bank.transfers[from as usize..count.min(from + rows) as usize];
        bank.ask(&mut client, &bank.insert(some)).await;
        bank.written.fetch_add(some.len() as u64, Ordering::SeqCst);
    }
}

/// Reads invariants again and again, and that nothing acknowledged is missing.
async fn poll(bank: Arc<Bank>, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut client = bank.connect().await;
    while bank.is_open() {
        if random.random_range(0..10) == 0 {
            let least = bank.written.load(Ordering::SeqCst);
            let count = bank.ask(&mut client, "SELECT c FROM counted").await[0].parse::<u64>().expect("a number");
            assert!(count >= least, "{count} transfers, and {least} were acknowledged");
        } else {
            let dear = random.random_range(0..DEAR_EVERY) == 0;
            let of = if dear { DEAR_INVARIANTS } else { INVARIANTS };
            let (query, answer) = of[random.random_range(0..of.len())];
            assert_eq!(bank.ask(&mut client, query).await, [answer], "{query}");
        }
        bank.observed.fetch_add(1, Ordering::SeqCst);
    }
}

/// Follows the balances, going on after a kill with what it had after the last epoch that it was told of.
async fn follow(bank: Arc<Bank>) {
    let (mut known, mut through) = (BTreeMap::new(), None);
    while bank.is_open() {
        let resumed = through.map_or(String::new(), |epoch| format!(" AS OF {epoch}"));
        let sql = format!("SUBSCRIBE TO balance WITH (progress){resumed}");
        let client = bank.connect().await;
        // The server may be killed in between.
        let Ok(follower) = Follower::try_start(client, &sql).await else { continue };
        let mut follower = follower.with_rows(known.clone(), through.unwrap_or(0));
        while bank.is_open() {
            let change = match follower.next().await {
                Ok(change) => change,
                Err(error) => {
                    drop(bank.after(&error, &sql).await);
                    break;
                }
            };
            assert!(change.epoch >= through.unwrap_or(0), "epoch {} after {through:?}", change.epoch);
            if change.diff.is_none() {
                let rows = &follower.rows;
                let balance =
                    |row: &String| row.rsplit_once('|').expect("two columns").1.parse::<i64>().expect("a number");
                assert_eq!(rows.keys().map(balance).sum::<i64>(), 0, "after epoch {}: {rows:?}", change.epoch);
                assert!(rows.len() == 10 && rows.values().all(|n| *n == 1), "after epoch {}: {rows:?}", change.epoch);
                (known, through) = (rows.clone(), Some(change.epoch));
                bank.followed.fetch_add(1, Ordering::SeqCst);
                bank.observed.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

/// Kills the server so often, evenly over the observations.
async fn kill(bank: Arc<Bank>, kills: u64) {
    let observed = async |least: u64| {
        while bank.observed.load(Ordering::SeqCst) < least {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    for kill in 1..=kills {
        observed(bank.observations * kill / (kills + 1)).await;
        let mut server = bank.server.write().await;
        tokio::task::block_in_place(|| server.restart());
    }
    observed(bank.observations).await;
    while bank.written.load(Ordering::SeqCst) < bank.transfers.len() as u64 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    bank.closed.store(true, Ordering::SeqCst);
}

/// The balances in the end, as rows.
fn balances(transfers: &[Transfer]) -> Vec<String> {
    let mut balances = [0; ACCOUNTS as usize];
    // What every account gives its neighbour before cancels out.
    for transfer in transfers {
        balances[transfer.to as usize] += 1;
        balances[transfer.from as usize] -= 1;
    }
    balances.iter().enumerate().map(|(account, balance)| format!("{account}|{balance}")).collect()
}

#[test]
fn every_observation_is_exact_under_kills() {
    crate::runtime().block_on(async {
        let count = from_environment("BANK_TRANSFERS").unwrap_or(2000);
        let observations = from_environment("BANK_OBSERVATIONS").unwrap_or(1000);
        let kills = from_environment("BANK_KILLS").unwrap_or(3);
        let directory = tempfile::tempdir().expect("a temporary directory");
        let server = Server::start(directory.path(), &["--workers", "2"]);
        let client = server.connect().await;
        execute(&client, OBJECTS).await;
        // So that every account has credits and debits before anybody looks.
        let page = (0..ACCOUNTS).map(|n| format!("({}, {n}, {}, 1, '2021-01-01')", count + n, (n + 1) % ACCOUNTS));
        let page = page.collect::<Vec<_>>().join(", ");
        execute(&client, &format!("INSERT INTO transfer VALUES {page}")).await;
        let bank = Arc::new(Bank {
            server: RwLock::new(server),
            transfers: transfers(count),
            next: AtomicU64::new(0),
            written: AtomicU64::new(0),
            observed: AtomicU64::new(0),
            followed: AtomicU64::new(0),
            observations,
            closed: AtomicBool::new(false),
        });
        let mut clients = tokio::task::JoinSet::new();
        (0..WRITERS as u64).for_each(|seed| drop(clients.spawn(write(bank.clone(), seed))));
        (0..READERS).for_each(|seed| drop(clients.spawn(poll(bank.clone(), 100 + seed))));
        clients.spawn(kill(bank.clone(), kills));
        let follower = tokio::spawn(follow(bank.clone()));
        while let Some(client) = clients.join_next().await {
            client.expect("no client fails");
        }
        // It waits for a change that does not come any more, unless it failed.
        follower.abort();
        assert!(follower.await.is_err_and(|end| end.is_cancelled()), "the follower failed");
        let client = bank.connect().await;
        for (query, answer) in INVARIANTS.iter().chain(DEAR_INVARIANTS) {
            assert_eq!(value(&client, query).await, *answer, "{query}");
        }
        let balance = rows(&client, "SELECT account, balance FROM balance ORDER BY account").await.expect("a read");
        assert_eq!(balance, balances(&bank.transfers));
        assert_eq!(value(&client, "SELECT count(*) FROM outer_join").await, (count + ACCOUNTS).to_string());
        let [observed, followed] = [&bank.observed, &bank.followed].map(|count| count.load(Ordering::SeqCst));
        println!("{count} transfers, {kills} kills, {observed} observations, {followed} of them epochs; no violation");
    });
}
