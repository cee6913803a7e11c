//! The bank: money moves between accounts while readers look. It is never created and never lost, so every view of the total
//! reads the same at every moment, in every statement and in every transaction, and after every epoch of a subscription.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio_postgres::Client;

use crate::support::Server;
use crate::support::execute;
use crate::support::follower::Follower;
use crate::support::rows;
use crate::support::value;

/// How many accounts there are, with 1,000 each.
const ACCOUNTS: i32 = 10;

/// How many clients move money in each of three ways.
const WRITERS: u64 = 2;

/// How long money moves.
const DURATION: Duration = Duration::from_secs(8);

/// A table of accounts that are changed, a book of transfers that grows, and views over views over both.
const OBJECTS: &str = "
    CREATE TABLE account (id INTEGER PRIMARY KEY, balance BIGINT NOT NULL);
    INSERT INTO account VALUES (0, 1000), (1, 1000), (2, 1000), (3, 1000), (4, 1000),
      (5, 1000), (6, 1000), (7, 1000), (8, 1000), (9, 1000);
    CREATE MATERIALIZED VIEW account_total AS SELECT sum(balance) AS total, count(*) AS accounts FROM account;
    CREATE MATERIALIZED VIEW bracket AS SELECT balance / 100 AS b, sum(balance) AS s, count(*) AS c FROM account GROUP BY 1;
    CREATE MATERIALIZED VIEW bracket_total AS SELECT sum(s) AS total, sum(c) AS accounts FROM bracket;
    CREATE MATERIALIZED VIEW richest AS SELECT max(balance) AS most, min(balance) AS least FROM account;

    CREATE TABLE transfer (id BIGINT PRIMARY KEY, from_account INTEGER NOT NULL, to_account INTEGER NOT NULL,
      amount BIGINT NOT NULL);
    CREATE MATERIALIZED VIEW accepted AS SELECT id FROM transfer;
    CREATE MATERIALIZED VIEW outer_join AS
      SELECT t1.id AS id, t2.id AS other FROM (SELECT id, amount FROM transfer) t1
      LEFT JOIN (SELECT id, to_account FROM transfer) t2 ON t1.id = t2.id;
    CREATE MATERIALIZED VIEW credits AS SELECT to_account AS account, sum(amount) AS credits FROM transfer GROUP BY to_account;
    CREATE MATERIALIZED VIEW debits AS SELECT from_account AS account, sum(amount) AS debits FROM transfer GROUP BY from_account;
    CREATE MATERIALIZED VIEW balance AS
      SELECT credits.account AS account, credits - debits AS balance FROM credits JOIN debits ON credits.account = debits.account;
    CREATE MATERIALIZED VIEW total AS SELECT sum(balance) AS total FROM balance;
    CREATE MATERIALIZED VIEW unmatched AS SELECT count(*) AS c FROM outer_join WHERE other IS NULL;";

/// What must read the same at every moment: each of the queries, and its one answer.
const INVARIANTS: &[(&str, &str)] = &[
    ("SELECT total, accounts FROM account_total", "10000|10"),
    ("SELECT total, accounts FROM bracket_total", "10000|10"),
    ("SELECT sum(s), sum(c) FROM bracket", "10000|10"),
    ("SELECT sum(balance), count(*) FROM account", "10000|10"),
    ("SELECT total FROM total", "0"),
    ("SELECT sum(balance) FROM balance", "0"),
    ("SELECT count(*) FROM outer_join WHERE other IS NULL OR other <> id", "0"),
    ("SELECT c FROM unmatched", "0"),
    (
        "SELECT (SELECT sum(credits) FROM credits) = (SELECT count(*) FROM accepted)
            AND (SELECT sum(debits) FROM debits) = (SELECT count(*) FROM transfer)
            AND (SELECT count(*) FROM outer_join) = (SELECT count(*) FROM accepted)",
        "t",
    ),
    (
        "SELECT a.total = b.total AND a.total = (SELECT sum(balance) FROM account) FROM account_total a, bracket_total b",
        "t",
    ),
];

/// What the clients share.
#[derive(Default)]
struct Bank {
    closed: AtomicBool,
    /// Transfers that were acknowledged.
    moved: AtomicU64,
    /// Transactions that met a conflict and were tried again.
    retried: AtomicU64,
    /// Reads of an invariant.
    read: AtomicU64,
    /// Epochs that subscribers were through with.
    followed: AtomicU64,
    /// The number of the next row of the book.
    next: AtomicU64,
}

impl Bank {
    fn is_open(&self) -> bool {
        !self.closed.load(Ordering::SeqCst)
    }
}

/// Two accounts and an amount.
fn transfer(random: &mut StdRng) -> (i32, i32, i32) {
    let from = random.random_range(0..ACCOUNTS);
    let to = (from + random.random_range(1..ACCOUNTS)) % ACCOUNTS;
    (from, to, random.random_range(1..50))
}

/// Moves money by two updates in a transaction, trying again on a conflict.
async fn move_in_transactions(client: Client, bank: Arc<Bank>, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    while bank.is_open() {
        let (from, to, amount) = transfer(&mut random);
        loop {
            let outcome = async {
                client.batch_execute("BEGIN").await?;
                client
                    .batch_execute(&format!("UPDATE account SET balance = balance - {amount} WHERE id = {from}"))
                    .await?;
                client
                    .batch_execute(&format!("UPDATE account SET balance = balance + {amount} WHERE id = {to}"))
                    .await?;
                client.batch_execute("COMMIT").await
            };
            let Err(error) = outcome.await else { break };
            let code = error.as_db_error().map(|error| error.code().code().to_string());
            assert_eq!(code.as_deref(), Some("40001"), "{error:?}");
            let _ = client.batch_execute("ROLLBACK").await;
            bank.retried.fetch_add(1, Ordering::SeqCst);
        }
        bank.moved.fetch_add(1, Ordering::SeqCst);
    }
}

/// Moves money by one update of two rows, which never conflicts.
async fn move_in_statements(client: Client, bank: Arc<Bank>, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    while bank.is_open() {
        let (from, to, amount) = transfer(&mut random);
        let sql = format!(
            "UPDATE account SET balance = CASE WHEN id = {from} THEN balance - {amount} ELSE balance + {amount} END
             WHERE id IN ({from}, {to})"
        );
        let changed = client.execute(&sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        assert_eq!(changed, 2);
        bank.moved.fetch_add(1, Ordering::SeqCst);
    }
}

/// Writes transfers into the book, in one statement or a transaction. Every account gives to its neighbour, so that each has
/// credits and debits from the first epoch on, without which a join of both would not have its balance.
async fn write_book(client: Client, bank: Arc<Bank>) {
    while bank.is_open() {
        let first = bank.next.fetch_add(ACCOUNTS as u64, Ordering::SeqCst);
        let rows = (0..ACCOUNTS).map(|from| {
            format!("({}, {from}, {}, 1)", first + from as u64, (from + 1 + first as i32 / ACCOUNTS) % ACCOUNTS)
        });
        let rows = rows.collect::<Vec<_>>();
        let insert = "INSERT INTO transfer VALUES";
        if first.is_multiple_of(3) {
            execute(&client, &format!("{insert} {}", rows.join(", "))).await;
        } else {
            let (some, others) = rows.split_at(4);
            execute(&client, "BEGIN").await;
            execute(&client, &format!("{insert} {}", some.join(", "))).await;
            execute(&client, &format!("{insert} {}", others.join(", "))).await;
            execute(&client, "COMMIT").await;
        }
        bank.moved.fetch_add(1, Ordering::SeqCst);
    }
}

/// Reads every invariant again and again, each for itself or several in one transaction.
async fn watch(client: Client, bank: Arc<Bank>, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    while bank.is_open() {
        let (query, answer) = INVARIANTS[random.random_range(0..INVARIANTS.len())];
        assert_eq!(value(&client, query).await, answer, "{query}");
        bank.read.fetch_add(1, Ordering::SeqCst);
        if random.random_bool(0.1) {
            watch_in_transaction(&client, &mut random).await;
        }
    }
}

/// All reads of a transaction see one moment, in tables and views.
async fn watch_in_transaction(client: &Client, random: &mut StdRng) {
    execute(client, "BEGIN").await;
    let accounts = rows(client, "SELECT id, balance FROM account ORDER BY id").await.expect("a read");
    let extremes = value(client, "SELECT most, least FROM richest").await;
    let count = value(client, "SELECT count(*) FROM accepted").await;
    tokio::time::sleep(Duration::from_millis(random.random_range(0..30))).await;
    let balances =
        accounts.iter().map(|row| row.split_once('|').expect("two columns").1.parse::<i64>().expect("a number"));
    let (most, least) = (balances.clone().max(), balances.clone().min());
    assert_eq!(balances.sum::<i64>(), 10_000);
    assert_eq!(extremes, format!("{}|{}", most.expect("some"), least.expect("some")));
    assert_eq!(rows(client, "SELECT id, balance FROM account ORDER BY id").await.expect("a read"), accounts);
    assert_eq!(value(client, "SELECT count(*) FROM transfer").await, count);
    assert_eq!(value(client, "SELECT sum(credits) FROM credits").await, count);
    execute(client, "COMMIT").await;
}

/// What is followed, and what its rows must come to after each epoch: how often each row is there, and the row.
type Check = fn(&BTreeMap<String, i64>) -> bool;

/// The sum of a column over the rows.
fn sum(rows: &BTreeMap<String, i64>, column: usize) -> i64 {
    let value = |row: &str| row.split('|').nth(column).expect("the column").parse::<i64>().expect("a number");
    rows.iter().map(|(row, count)| value(row) * count).sum()
}

/// Views, tables and queries, and what holds in them after every epoch.
const FOLLOWED: &[(&str, Check)] = &[
    ("account", |rows| sum(rows, 1) == 10_000 && rows.len() == 10),
    ("account_total", |rows| rows.contains_key("10000|10")),
    ("bracket", |rows| sum(rows, 1) == 10_000 && sum(rows, 2) == 10),
    ("bracket_total", |rows| rows.contains_key("10000|10")),
    ("balance", |rows| sum(rows, 1) == 0 && rows.len() == 10),
    ("total", |rows| rows.contains_key("0")),
    ("unmatched", |rows| rows.contains_key("0")),
    ("(SELECT sum(balance) AS s FROM account)", |rows| rows.contains_key("10000")),
    ("(SELECT account, credits FROM credits UNION ALL SELECT account, -debits FROM debits)", |rows| sum(rows, 1) == 0),
];

/// Follows one of them, and looks at its rows whenever an epoch is through.
async fn follow(client: Client, bank: Arc<Bank>, target: &str, holds: Check) {
    let mut follower = Follower::start(client, &format!("SUBSCRIBE TO {target} WITH (progress)")).await;
    let mut last = 0;
    while bank.is_open() {
        let change = follower.next().await.unwrap_or_else(|error| panic!("{target}: {error:?}"));
        assert!(change.epoch >= last, "{target}: epoch {} after {last}", change.epoch);
        last = change.epoch;
        if change.diff.is_none() {
            assert!(holds(&follower.rows), "{target} after epoch {}: {:?}", change.epoch, follower.rows);
            assert!(follower.rows.values().all(|count| *count == 1), "{target}: {:?}", follower.rows);
            bank.followed.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[test]
fn the_total_reads_the_same_at_every_moment() {
    crate::runtime().block_on(async {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let server = Server::start(directory.path(), &["--workers", "2"]);
        execute(&server.connect().await, OBJECTS).await;
        let bank = Arc::new(Bank::default());
        let mut clients = tokio::task::JoinSet::new();
        // The book's first page, before anybody looks: an empty sum is NULL.
        let first = (0..ACCOUNTS).map(|n| format!("({n}, {n}, {}, 1)", (n + 1) % ACCOUNTS)).collect::<Vec<_>>();
        execute(&server.connect().await, &format!("INSERT INTO transfer VALUES {}", first.join(", "))).await;
        bank.next.store(ACCOUNTS as u64, Ordering::SeqCst);
        for number in 0..WRITERS {
            clients.spawn(move_in_transactions(server.connect().await, bank.clone(), number));
            clients.spawn(move_in_statements(server.connect().await, bank.clone(), 100 + number));
            clients.spawn(write_book(server.connect().await, bank.clone()));
            clients.spawn(watch(server.connect().await, bank.clone(), 200 + number));
            clients.spawn(watch(server.connect().await, bank.clone(), 300 + number));
        }
        for (target, holds) in FOLLOWED {
            clients.spawn(follow(server.connect().await, bank.clone(), target, *holds));
        }
        let close = bank.clone();
        tokio::spawn(async move {
            tokio::time::sleep(DURATION).await;
            close.closed.store(true, Ordering::SeqCst);
        });
        while let Some(client) = clients.join_next().await {
            client.expect("no client fails");
        }
        let counts = [&bank.moved, &bank.retried, &bank.read, &bank.followed];
        let [moved, retried, read, followed] = counts.map(|count| count.load(Ordering::SeqCst));
        println!("{moved} transfers, {retried} retried, {read} reads, {followed} epochs followed");
        assert!(
            moved > 20 && read > 20 && followed > 20,
            "{moved} transfers, {read} reads, {followed} epochs followed"
        );
        let client = server.connect().await;
        for (query, answer) in INVARIANTS {
            assert_eq!(value(&client, query).await, *answer, "{query}");
        }
    });
}
