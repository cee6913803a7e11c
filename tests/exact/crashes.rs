//! Crashes: clients write and a generator runs while the server dies, at random moments and at every point of
//! [`millstream::fault::POINTS`]. After each restart every write that was acknowledged is there, the one under way is there as
//! a whole or not at all, and every view equals its query. At the end the generator's rows were counted once each.
//!
//! `CRASH_RUNS=n`: so many kills, the first of them one at each point.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream::fault::POINTS;
use rand::Rng;
use rand::seq::IndexedRandom;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use crate::support::Server;
use crate::support::execute;
use crate::support::rows;
use crate::support::value;

/// Kills in the default run.
const KILLS: usize = 50;

/// How many clients write.
const CLIENTS: usize = 4;

/// The rows of the generated source, in all.
const ROWS: u64 = 160_000;

/// How long anything may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tables, and views of every shape over them.
const OBJECTS: &str = "
    CREATE TABLE counter (id INTEGER PRIMARY KEY, x BIGINT NOT NULL);
    INSERT INTO counter VALUES (0, 0), (1, 0), (2, 0), (3, 0);
    CREATE TABLE entry (client INTEGER, n BIGINT, half INTEGER, PRIMARY KEY (client, n, half));
    CREATE SOURCE seq (n BIGINT, ts TIMESTAMP)
      WITH (connector = 'generator', generator = 'sequence', rate = '4000', rows = '160000');
    CREATE MATERIALIZED VIEW generated AS SELECT count(*) AS c, sum(n) AS s, min(n) AS lo, max(n) AS hi FROM seq;
    CREATE MATERIALIZED VIEW by_rest AS SELECT n % 10 AS r, count(*) AS c, sum(n) AS s FROM seq GROUP BY n % 10;
    CREATE MATERIALIZED VIEW rested AS SELECT sum(c) AS c, sum(s) AS s, count(*) AS g FROM by_rest;
    CREATE MATERIALIZED VIEW entries AS
      SELECT client, count(*) AS c, sum(n) AS s, max(n) AS hi, count(DISTINCT half) AS halves FROM entry GROUP BY client;
    CREATE MATERIALIZED VIEW joined AS
      SELECT c.id, c.x, e.c, e.hi FROM counter c LEFT JOIN entries e ON e.client = c.id;
    CREATE MATERIALIZED VIEW whole AS
      SELECT a.client, a.n FROM entry a JOIN entry b ON a.client = b.client AND a.n = b.n
      WHERE a.half = 0 AND b.half = 1;
    CREATE MATERIALIZED VIEW total AS SELECT sum(x) AS t, count(*) AS c FROM counter;";

/// Views over tables, with their queries.
const QUERIES: &[(&str, &str)] = &[
    (
        "entries",
        "SELECT client, count(*) AS c, sum(n) AS s, max(n) AS hi, count(DISTINCT half) AS halves FROM entry GROUP BY client",
    ),
    (
        "joined",
        "SELECT c.id, c.x, e.c, e.hi FROM counter c
         LEFT JOIN (SELECT client, count(*) AS c, max(n) AS hi FROM entry GROUP BY client) e ON e.client = c.id",
    ),
    (
        "whole",
        "SELECT a.client, a.n FROM entry a JOIN entry b ON a.client = b.client AND a.n = b.n WHERE a.half = 0 AND b.half = 1",
    ),
    ("total", "SELECT sum(x) AS t, count(*) AS c FROM counter"),
];

/// What one client knows of its writes: they are numbered, and it waits for each before the next.
#[derive(Clone, Debug, Default)]
struct Known {
    /// The numbers whose entries were acknowledged are those below.
    acknowledged: i64,
    /// Whether the entry with the next number is under way.
    entry_under_way: bool,
    /// How often its counter was raised, as acknowledged since the last check.
    raised: i64,
    /// Whether one more raise is under way.
    raise_under_way: bool,
}

/// Writes until the server is gone: two halves of an entry in one transaction or one statement, and a raise of the counter.
async fn write(client: Client, id: usize, mut known: Known) -> Known {
    loop {
        let n = known.acknowledged;
        let halves = if n % 2 == 0 {
            format!("INSERT INTO entry VALUES ({id}, {n}, 0), ({id}, {n}, 1)")
        } else {
            format!("BEGIN; INSERT INTO entry VALUES ({id}, {n}, 0); INSERT INTO entry VALUES ({id}, {n}, 1); COMMIT")
        };
        known.entry_under_way = true;
        if let Err(error) = client.batch_execute(&halves).await {
            assert!(error.as_db_error().is_none_or(ends_sessions), "an entry fails: {error:?}");
            return known;
        }
        (known.entry_under_way, known.acknowledged) = (false, n + 1);
        known.raise_under_way = true;
        if let Err(error) = client.batch_execute(&format!("UPDATE counter SET x = x + 1 WHERE id = {id}")).await {
            assert!(error.as_db_error().is_none_or(ends_sessions), "a raise fails: {error:?}");
            return known;
        }
        (known.raise_under_way, known.raised) = (false, known.raised + 1);
    }
}

/// Whether this error says that the server goes away.
fn ends_sessions(error: &tokio_postgres::error::DbError) -> bool {
    error.code().code().starts_with("57P")
}

/// Creates and drops a view again and again until the server is gone, so that it also dies in catalog changes.
async fn change_catalog(client: Client) {
    loop {
        for sql in [
            "CREATE MATERIALIZED VIEW passing AS SELECT id % 2 AS r, sum(x) AS s FROM counter GROUP BY id % 2",
            "DROP MATERIALIZED VIEW passing",
        ] {
            if client.batch_execute(sql).await.is_err_and(|error| error.as_db_error().is_none_or(ends_sessions)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The driver's books.
struct Books {
    known: Vec<Known>,
    /// The counters as they were last seen.
    counters: BTreeMap<usize, i64>,
}

impl Books {
    fn new() -> Books {
        let counters = (0..CLIENTS).map(|id| (id, 0)).collect();
        Books { known: vec![Known::default(); CLIENTS], counters }
    }

    /// Lets the clients write.
    async fn open(&self, server: &Server) -> (Vec<JoinHandle<Known>>, JoinHandle<()>) {
        let mut writers = Vec::new();
        for (id, known) in self.known.iter().enumerate() {
            match server.try_connect().await {
                Ok(client) => writers.push(tokio::spawn(write(client, id, known.clone()))),
                Err(_) => writers.push(tokio::spawn(std::future::ready(known.clone()))),
            }
        }
        let catalog = match server.try_connect().await {
            Ok(client) => tokio::spawn(change_catalog(client)),
            Err(_) => tokio::spawn(std::future::ready(())),
        };
        (writers, catalog)
    }

    /// Waits until the clients have met the end, and takes down what they know.
    async fn close(&mut self, (writers, catalog): (Vec<JoinHandle<Known>>, JoinHandle<()>)) {
        for (known, writer) in self.known.iter_mut().zip(writers) {
            *known = patiently(writer).await.expect("a writer ends with the server");
        }
        patiently(catalog).await.expect("the catalog's client ends with the server");
    }

    /// Everything acknowledged is there, once; what was under way, as a whole or not at all.
    async fn check(&mut self, client: &Client, moment: &str) {
        for id in 0..CLIENTS {
            let known = &mut self.known[id];
            let found =
                rows(client, &format!("SELECT n, count(*) FROM entry WHERE client = {id} GROUP BY n ORDER BY n")).await;
            let found = found.unwrap_or_else(|error| panic!("{moment}: {error:?}"));
            let count = found.len() as i64;
            let whole = (0..count).map(|n| format!("{n}|2")).collect::<Vec<_>>();
            assert_eq!(found, whole, "{moment}: the entries of client {id} are whole, without a gap; {known:?}");
            let most = known.acknowledged + known.entry_under_way as i64;
            assert!(
                (known.acknowledged..=most).contains(&count),
                "{moment}: {count} entries of client {id}; {known:?}"
            );

            let x = value(client, &format!("SELECT x FROM counter WHERE id = {id}")).await;
            let x = x.parse::<i64>().expect("a number");
            let least = self.counters[&id] + known.raised;
            let most = least + known.raise_under_way as i64;
            assert!((least..=most).contains(&x), "{moment}: counter {id} is {x}, not {least}..={most}");
            self.counters.insert(id, x);
            *known = Known { acknowledged: count, ..Known::default() };
        }
        for (view, query) in QUERIES {
            assert_eq!(
                sorted(client, &format!("SELECT * FROM {view}")).await,
                sorted(client, query).await,
                "{moment}: {view}"
            );
        }
        check_generated(client, moment).await;
    }
}

/// The generator's rows are a prefix without a gap, the same in all views.
async fn check_generated(client: &Client, moment: &str) {
    let seen = value(client, "SELECT g.c, g.s, g.lo, g.hi, r.c, r.s FROM generated g, rested r").await;
    let numbers = seen.split('|').map(|text| text.parse::<i64>().unwrap_or(0)).collect::<Vec<_>>();
    let count = numbers[0];
    let sum = count * (count - 1) / 2;
    assert_eq!(numbers, [count, sum, 0, (count - 1).max(0), count, sum], "{moment}: {seen}");
}

async fn sorted(client: &Client, sql: &str) -> Vec<String> {
    let mut rows = rows(client, sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    rows.sort();
    rows
}

async fn patiently<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it does not take for ever")
}

/// How the server dies.
#[derive(Clone, Debug)]
enum Death {
    /// When it comes to a point for the nth time.
    At(&'static str, u32),
    /// In the middle of its work, so long after the clients began.
    Working(Duration),
    /// So long after its start, while it recovers.
    Starting(Duration),
}

impl Death {
    fn at(point: &'static str, random: &mut impl Rng) -> Death {
        let count = if point.starts_with("recovery") { 1 } else { *[1, 2, 7, 30].choose(random).expect("some") };
        Death::At(point, count)
    }

    fn any(random: &mut impl Rng) -> Death {
        match random.random_range(0..10) {
            // The source may have come to its end by now.
            0..2 => {
                let points = POINTS.iter().filter(|point| !point.starts_with("source")).collect::<Vec<_>>();
                Death::at(points.choose(random).expect("some"), random)
            }
            2..4 => Death::Starting(Duration::from_millis(random.random_range(0..300))),
            _ => Death::Working(Duration::from_millis(random.random_range(0..500))),
        }
    }

    /// The server, which does not run, starts and dies so.
    async fn come_to(&self, server: &mut Server, books: &mut Books) {
        match self {
            Death::At(point, count) => {
                assert!(die_at(server, books, point, *count).await, "the point {point}:{count} was not reached");
            }
            Death::Working(wait) => {
                server.restart();
                let open = books.open(server).await;
                tokio::time::sleep(*wait).await;
                server.kill();
                books.close(open).await;
            }
            Death::Starting(wait) => {
                let _stdout = server.spawn(&[]);
                tokio::time::sleep(*wait).await;
                server.kill();
            }
        }
    }
}

/// Starts the server, kills it at this point, and says whether it came to that.
async fn die_at(server: &mut Server, books: &mut Books, point: &str, count: u32) -> bool {
    let fault = format!("{point}:{count}");
    if !server.launch(&[("MILLSTREAM_FAULT", &fault)]) {
        server.wait();
        return true;
    }
    let open = books.open(server).await;
    let died = server.wait_for(PATIENCE).await;
    server.kill();
    books.close(open).await;
    died
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_counts_twice() {
    crate::runtime().block_on(async {
        let directory = tempfile::tempdir().expect("a temporary directory");
        // A view of four rows is filled in several epochs.
        let mut server = Server::start(directory.path(), &["--workers", "2", "--fill-rows", "1"]);
        execute(&server.connect().await, OBJECTS).await;
        let mut books = Books::new();
        let mut random = rand::rng();
        server.kill();
        let kills = crate::from_environment("CRASH_RUNS").map_or(KILLS, |runs| runs as usize);
        for kill in 0..kills {
            let death = match POINTS.get(kill) {
                Some(point) => Death::at(point, &mut random),
                None => Death::any(&mut random),
            };
            death.come_to(&mut server, &mut books).await;
            server.restart();
            books.check(&server.connect().await, &format!("after kill {kill}, {death:?}")).await;
            server.kill();
            if (kill + 1) % 100 == 0 {
                println!("{} kills", kill + 1);
            }
        }
        server.restart();
        let client = server.connect().await;
        let all = async {
            while value(&client, "SELECT c FROM generated").await != ROWS.to_string() {
                execute(&client, "FLUSH").await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        patiently(all).await;
        books.check(&client, "at the end").await;
        assert!(books.known.iter().all(|known| known.acknowledged > 0), "every client wrote: {:?}", books.known);
        assert_eq!(server.terminate(), Some(0), "SIGTERM stops it cleanly");
    });
}
