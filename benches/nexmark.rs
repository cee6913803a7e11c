//! Nexmark from the in-process generator into stored views: events per second and per CPU-second, from the difference of two
//! sizes, so that start-up is not counted. `cargo bench --bench nexmark -- q3 q4` runs some; `EVENTS=100000` sets the smaller size.

use std::process::Command;
use std::process::Stdio;

use millstream::time::Clock;
use millstream::time::SystemClock;
use tokio_postgres::Client;
use tokio_postgres::NoTls;

/// A query: its name, its text, and Flink's figures from the in-process generator (thousands of events per second, wall and
/// per CPU-second) on this class of machine.
struct Query {
    name: &'static str,
    sql: &'static str,
    flink: (u32, u32),
}

const QUERIES: &[Query] = &[
    Query { name: "q0", sql: "SELECT auction, bidder, price, date_time, extra FROM bid", flink: (1503, 776) },
    Query {
        name: "q3",
        sql: "SELECT p.name, p.city, p.state, a.id FROM auction a JOIN person p ON a.seller = p.id
              WHERE a.category = 10 AND p.state IN ('or', 'id', 'ca')",
        flink: (886, 539),
    },
    Query {
        name: "q4",
        sql: "SELECT category, avg(final) AS average FROM (
                SELECT a.id, a.category, max(b.price) AS final FROM auction a JOIN bid b ON a.id = b.auction
                WHERE b.date_time BETWEEN a.date_time AND a.expires GROUP BY a.id, a.category) AS q
              GROUP BY category",
        flink: (216, 118),
    },
    Query {
        name: "q8",
        sql: "SELECT p.id, p.name, p.window_start FROM
                (SELECT id, name, window_start, window_end FROM TUMBLE(person, date_time, INTERVAL '10 seconds')
                 GROUP BY id, name, window_start, window_end) AS p
              JOIN (SELECT seller, window_start, window_end FROM TUMBLE(auction, date_time, INTERVAL '10 seconds')
                    GROUP BY seller, window_start, window_end) AS a
              ON p.id = a.seller AND p.window_start = a.window_start AND p.window_end = a.window_end",
        flink: (855, 461),
    },
];

/// What one run took.
struct Run {
    wall_s: f64,
    cpu_s: f64,
    rows: i64,
    memory_mb: u64,
}

fn main() {
    let chosen = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect::<Vec<_>>();
    let events = std::env::var("EVENTS").ok().and_then(|e| e.parse().ok()).unwrap_or(1_000_000_u64);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    println!(
        "Nexmark, in-process generator, durable views; thousands of events per second ({events} and {} events)",
        4 * events
    );
    println!(
        "{:<5} {:>8} {:>8} {:>12} {:>12} {:>10} {:>9}",
        "query", "wall", "per CPU", "Flink wall", "Flink CPU", "rows", "peak MB"
    );
    for query in QUERIES.iter().filter(|q| chosen.is_empty() || chosen.iter().any(|c| c == q.name)) {
        let small = runtime.block_on(run(query, events));
        let large = runtime.block_on(run(query, 4 * events));
        let rate = |small: f64, large: f64| 3.0 * events as f64 / (large - small).max(1e-9) / 1e3;
        println!(
            "{:<5} {:>8.0} {:>8.0} {:>12} {:>12} {:>10} {:>9}",
            query.name,
            rate(small.wall_s, large.wall_s),
            rate(small.cpu_s, large.cpu_s),
            query.flink.0,
            query.flink.1,
            large.rows,
            large.memory_mb
        );
    }
}

/// Runs one query over so many events in a server of its own.
async fn run(query: &Query, events: u64) -> Run {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut server = Command::new(env!("CARGO_BIN_EXE_millstream"))
        .args(["serve", "--listen", "127.0.0.1:0", "--log", "warn", "--data-dir"])
        .arg(directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the server's binary is there");
    let output = std::io::BufReader::new(server.stdout.take().expect("piped"));
    let mut lines = std::io::BufRead::lines(output);
    let port = lines.find_map(|line| line.ok()?.rsplit_once("listening on 127.0.0.1:")?.1.trim().parse::<u16>().ok());
    let client = connect(port.expect("the server listens")).await;
    for table in ["person", "auction", "bid"] {
        let sql = format!(
            "CREATE SOURCE {table} WITH (connector = 'generator', generator = 'nexmark', \
             nexmark.table = '{table}', rate = 0, rows = {events})"
        );
        client.batch_execute(&sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    }
    let (begun, cpu) = (SystemClock.instant(), cpu_seconds(server.id()));
    let sql = format!("CREATE MATERIALIZED VIEW v AS {}", query.sql);
    client.batch_execute(&sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    client.batch_execute("FLUSH").await.expect("all events become visible");
    let (wall_s, cpu_s) = (begun.elapsed().as_secs_f64(), cpu_seconds(server.id()) - cpu);
    let memory_mb = peak_memory_mb(server.id());
    let rows = client.query_one("SELECT count(*) FROM v", &[]).await.expect("the view can be read").get(0);
    let _ = server.kill();
    let _ = server.wait();
    Run { wall_s, cpu_s, rows, memory_mb }
}

async fn connect(port: u16) -> Client {
    let config = format!("host=127.0.0.1 port={port} user=millstream dbname=millstream");
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.expect("the server takes connections");
    tokio::spawn(connection);
    client
}

/// User and system time of a process so far.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let ticks = after.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<f64>().ok()).sum::<f64>();
    ticks / 100.0
}

/// The most memory a process has had.
fn peak_memory_mb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or("");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) / 1024
}
