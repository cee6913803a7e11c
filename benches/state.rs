//! What must stay as it is while the data grows: the cost of an epoch, the memory of the server, the latency of others beside
//! long work. The server's own CPU time is told, since the clients run on the same machine.
//!
//!     cargo bench --bench state [-- PART...]
//!
//! Parts: `flat`, `memory`, `large`, `filling`, `idle`. `STATE_ROWS` says how many rows the largest table has (10 million).

use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use millstream::time::Clock;
use millstream::time::SystemClock;
use tempfile::TempDir;
use tokio_postgres::Client;

#[path = "support/server.rs"]
mod server;

use server::Server;
use server::execute;

/// Rows written by one INSERT that fills a table.
const CHUNK: u64 = 100_000;
/// Rows changed by one statement that is measured.
const TOUCHED: u64 = 100;
/// Statements measured at each point.
const STATEMENTS: u64 = 1000;

fn main() {
    let wanted = std::env::args().skip(1).filter(|part| !part.starts_with('-')).collect::<Vec<_>>();
    let is_wanted = |part: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == part);
    let rows = std::env::var("STATE_ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(10_000_000);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        if is_wanted("idle") {
            idle().await;
        }
        if is_wanted("flat") {
            flat(rows).await;
        }
        if is_wanted("memory") {
            memory(rows).await;
        }
        if is_wanted("large") {
            large(rows).await;
        }
        if is_wanted("filling") {
            filling(rows).await;
        }
    });
}

fn now() -> Instant {
    SystemClock.instant()
}

fn cpu_of(server: &Server) -> f64 {
    server.cpu_seconds().into_iter().sum()
}

fn megabytes(server: &Server, name: &str) -> u64 {
    server.figure("status", name) / 1024
}

/// What a directory takes on disk, in megabytes.
fn disk_of(directory: &Path) -> u64 {
    fn bytes(directory: &Path) -> u64 {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        entries.map(|e| if e.path().is_dir() { bytes(&e.path()) } else { e.metadata().map_or(0, |m| m.len()) }).sum()
    }
    bytes(directory) >> 20
}

/// Waits until the server has nothing left to do: what compaction takes is not an epoch's.
async fn quiet(server: &Server) {
    let mut before = cpu_of(server);
    for _ in 0..120 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let cpu = cpu_of(server);
        if cpu - before < 0.02 {
            return;
        }
        before = cpu;
    }
}

/// The value at a share of the sorted times, in milliseconds.
fn at(times: &mut [Duration], share: f64) -> f64 {
    times.sort_unstable();
    times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3
}

/// Rows `from + 1 ..= to`: ten to a group, and a text.
async fn fill(client: &Client, from: u64, to: u64) {
    for first in (from..to).step_by(CHUNK as usize) {
        let last = to.min(first + CHUNK);
        let rows = format!("SELECT n, n / 10, n, md5(n::text) FROM generate_series({}, {last}) AS g(n)", first + 1);
        execute(client, &format!("INSERT INTO item {rows}")).await;
    }
}

const ITEM: &str = "
    CREATE TABLE item (id bigint PRIMARY KEY, grp bigint, x bigint, note text);
    CREATE MATERIALIZED VIEW groups AS SELECT grp, count(*) AS n, sum(x) AS s, max(x) AS m FROM item GROUP BY grp";

/// What a statement that changes a hundred rows, the same ones at every size, costs the server.
async fn touch(client: &Client, server: &Server, table: &str) -> (f64, f64) {
    let sql = format!("UPDATE {table} SET x = x + 1 WHERE id = $1");
    let one = client.prepare(&sql).await.expect("it is prepared");
    let mut times = Vec::new();
    let cpu = cpu_of(server);
    for statement in 0..STATEMENTS {
        let begun = now();
        client.execute(&one, &[&((statement * 37 % TOUCHED + 1) as i64)]).await.expect("it is written");
        times.push(begun.elapsed());
    }
    ((cpu_of(server) - cpu) / STATEMENTS as f64 * 1e3, at(&mut times, 0.5))
}

/// What a statement costs the server that adds one row to the join key that has all.
async fn append(client: &Client, server: &Server, from: u64) -> f64 {
    let cpu = cpu_of(server);
    for n in from..from + STATEMENTS {
        execute(client, &format!("INSERT INTO l VALUES ({n}, 1, 1)")).await;
    }
    (cpu_of(server) - cpu) / STATEMENTS as f64 * 1e3
}

async fn flat(rows: u64) {
    let directory = TempDir::new().expect("a temporary directory");
    let server = Server::start(directory.path(), &[]);
    let client = server.connect().await;
    execute(&client, ITEM).await;
    let mut there = 0;
    for size in [rows / 100, rows / 10, rows] {
        fill(&client, there, size).await;
        there = size;
        quiet(&server).await;
        touch(&client, &server, "item").await;
        let (cpu, median) = touch(&client, &server, "item").await;
        println!("epoch of one row over {size} rows: {cpu:.3} ms of CPU, {median:.2} ms at the median");
    }
    execute(&client, "CREATE TABLE other (id bigint PRIMARY KEY, k bigint)").await;
    for view in 0..500 {
        let sql = format!(
            "CREATE MATERIALIZED VIEW v{view} AS SELECT k % {} AS r, count(*) AS n FROM other GROUP BY 1",
            view + 2
        );
        execute(&client, &sql).await;
    }
    quiet(&server).await;
    touch(&client, &server, "item").await;
    let (cpu, median) = touch(&client, &server, "item").await;
    println!("the same with 500 other views: {cpu:.3} ms of CPU, {median:.2} ms at the median");
    let sql = "CREATE TABLE l (id bigint PRIMARY KEY, k bigint, x bigint); CREATE TABLE r (id bigint PRIMARY KEY, k bigint, x bigint)";
    execute(&client, sql).await;
    execute(&client, "CREATE MATERIALIZED VIEW met AS SELECT l.id, r.id AS other FROM l JOIN r ON l.k = r.k").await;
    let mut there = 0;
    for size in [1_000, 1_000_000] {
        execute(&client, &format!("INSERT INTO l SELECT n, 1, n FROM generate_series({}, {size}) AS g(n)", there + 1))
            .await;
        quiet(&server).await;
        append(&client, &server, 10_000_000 + size).await;
        let cpu = append(&client, &server, 20_000_000 + size).await;
        println!("append to a join key of {size} rows: {cpu:.3} ms of CPU");
        there = size;
    }
    drop((client, server));
    let begun = now();
    let server = Server::start(directory.path(), &[]);
    let row = server.connect().await.query_one("SELECT n FROM groups WHERE grp = 77", &[]).await;
    row.expect("the row is there");
    println!(
        "restart after kill -9 with {} MB on disk: first answer after {:.2} s",
        disk_of(directory.path()),
        begun.elapsed().as_secs_f64()
    );
}

/// The same load under a limit that holds it, and under one of a tenth of its state.
async fn memory(rows: u64) {
    for limit in ["16GB", "512MB"] {
        let directory = TempDir::new().expect("a temporary directory");
        let server = Server::start(directory.path(), &["--memory-limit", limit]);
        let client = server.connect().await;
        execute(&client, ITEM).await;
        let (begun, cpu) = (now(), cpu_of(&server));
        fill(&client, 0, rows).await;
        // Changes of rows anywhere: each finds its row and its group on disk if they are not in memory.
        let changes = (rows / 10).max(1);
        let sql = |part: u64| {
            let keys = format!(
                "SELECT 1 + (n::bigint * 7919) % {rows} FROM generate_series({}, {}) AS g(n)",
                part * 10_000,
                part * 10_000 + 9_999
            );
            format!("UPDATE item SET x = x + 1 WHERE id IN ({keys})")
        };
        let (filled, filled_cpu) = (begun.elapsed().as_secs_f64(), cpu_of(&server) - cpu);
        let (begun, cpu) = (now(), cpu_of(&server));
        let mut done = 0;
        while done < changes && begun.elapsed() < Duration::from_secs(120) {
            execute(&client, &sql(done / 10_000)).await;
            done += 10_000;
        }
        let (seconds, cpu) = (begun.elapsed().as_secs_f64(), cpu_of(&server) - cpu);
        println!(
            "memory limit {limit}: {:.0} rows/s filled ({:.0} a CPU-second), {:.0} changes/s anywhere ({:.0} a CPU-second), \
             {} MB at most, {} MB on disk",
            rows as f64 / filled,
            rows as f64 / filled_cpu,
            done as f64 / seconds,
            done as f64 / cpu,
            megabytes(&server, "VmHWM:"),
            disk_of(directory.path())
        );
    }
}

/// Statements larger than memory, and what a reader sees of them meanwhile.
async fn large(rows: u64) {
    let directory = TempDir::new().expect("a temporary directory");
    let server = Server::start(directory.path(), &["--memory-limit", "512MB"]);
    let client = server.connect().await;
    execute(&client, ITEM).await;
    execute(
        &client,
        "CREATE MATERIALIZED VIEW joined AS SELECT i.id, i.x, g.s FROM item i JOIN groups g ON g.grp = i.grp",
    )
    .await;
    fill(&client, 0, rows).await;
    let reader = server.connect().await;
    for sql in ["UPDATE item SET x = x + 1", "TRUNCATE item"] {
        let (begun, cpu) = (now(), cpu_of(&server));
        let statement = client.batch_execute(sql);
        let (done, mut times) = (std::pin::pin!(statement), Vec::new());
        let reading = async {
            loop {
                let begun = now();
                reader.query_one("SELECT s FROM groups WHERE grp = 77", &[]).await.expect("readers go on");
                times.push(begun.elapsed());
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            outcome = done => outcome.unwrap_or_else(|error| panic!("{sql}: {error:?}")),
            never = reading => never,
        }
        println!(
            "{sql}, {rows} rows: {:.1} s, {:.1} s of CPU, {} MB at most; a reader's p50 {:.2} ms, p99 {:.2} ms",
            begun.elapsed().as_secs_f64(),
            cpu_of(&server) - cpu,
            megabytes(&server, "VmHWM:"),
            at(&mut times, 0.5),
            at(&mut times, 0.99)
        );
    }
}

/// A view over all rows is created while another takes 50,000 rows a second from a source and a client writes; and cancelled.
async fn filling(rows: u64) {
    let directory = TempDir::new().expect("a temporary directory");
    let server = Server::start(directory.path(), &[]);
    let client = server.connect().await;
    execute(&client, ITEM).await;
    fill(&client, 0, rows).await;
    execute(&client, "CREATE TABLE event (id bigint PRIMARY KEY, k bigint, x bigint)").await;
    execute(&client, "CREATE MATERIALIZED VIEW sums AS SELECT k, sum(x) AS s FROM event GROUP BY k").await;
    let source = "CREATE SOURCE seq (n BIGINT, ts TIMESTAMP) WITH (connector = 'generator', generator = 'sequence', rate = '50000')";
    execute(&client, source).await;
    execute(&client, "CREATE MATERIALIZED VIEW rates AS SELECT n % 1000 AS k, count(*) AS n FROM seq GROUP BY 1").await;
    let mut next = 0;
    let mut alone = inserts(&client, &mut next, Duration::from_secs(10)).await;
    let creator = server.connect().await;
    let cancel = creator.cancel_token();
    let create = tokio::spawn(async move {
        let begun = now();
        let sql = "CREATE MATERIALIZED VIEW wide AS SELECT grp % 1000 AS g, count(*) AS n, sum(x) AS s, max(note) AS m FROM item GROUP BY 1";
        let outcome = creator.batch_execute(sql).await;
        (begun.elapsed(), outcome)
    });
    let mut beside = inserts(&client, &mut next, Duration::from_secs(10)).await;
    let progress = client.query("SELECT * FROM ms_catalog.jobs", &[]).await.expect("jobs are told").len();
    let begun = now();
    let _ = cancel.cancel_query(tokio_postgres::NoTls).await;
    let (took, outcome) = create.await.expect("the creating client ends well");
    let end = match outcome {
        Ok(()) => format!("was there after {:.1} s", took.as_secs_f64()),
        Err(_) => format!("was cancelled within {:.0} ms", begun.elapsed().as_secs_f64() * 1e3),
    };
    println!(
        "INSERT beside 50,000 rows/s of a source: p50 {:.2} ms, p99 {:.2} ms alone; p50 {:.2} ms, p99 {:.2} ms beside a view over {rows} rows, \
         which {end} ({progress} job told)",
        at(&mut alone, 0.5),
        at(&mut alone, 0.99),
        at(&mut beside, 0.5),
        at(&mut beside, 0.99)
    );
}

/// A hundred INSERTs a second of one row each; how long each took, from when it was due.
async fn inserts(client: &Client, next: &mut u64, length: Duration) -> Vec<Duration> {
    let (begun, mut times) = (now(), Vec::new());
    for batch in 0..(length.as_millis() as u32 / 10) {
        let due = begun + Duration::from_millis(10) * batch;
        tokio::time::sleep_until(due.into()).await;
        *next += 1;
        execute(client, &format!("INSERT INTO event VALUES ({next}, {}, {next})", *next % 1000)).await;
        times.push(due.elapsed());
    }
    times
}

/// A server that does nothing; how quickly it starts.
async fn idle() {
    let directory = TempDir::new().expect("a temporary directory");
    let begun = now();
    let server = Server::start(directory.path(), &[]);
    let client = server.connect().await;
    let started = begun.elapsed();
    execute(&client, ITEM).await;
    fill(&client, 0, CHUNK).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let cpu = cpu_of(&server);
    tokio::time::sleep(Duration::from_secs(20)).await;
    println!(
        "start on an empty directory: {:.0} ms; idle: {:.2}% of a core, {} MB",
        started.as_secs_f64() * 1e3,
        (cpu_of(&server) - cpu) / 20.0 * 100.0,
        megabytes(&server, "VmRSS:")
    );
}
