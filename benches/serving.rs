//! How quickly answers come: INSERT to visible in a view and in a subscription while 10,000 rows a second arrive, and SELECT by key
//! through prepared statements (pgbench). The clients run on the same machine; the server's own CPU time is told apart.
//!
//!     cargo bench --bench serving

use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use futures::TryStreamExt;
use millstream::time::Clock;
use millstream::time::SystemClock;
use tokio_postgres::CopyOutStream;

#[path = "support/server.rs"]
mod server;

use server::Server;
use server::execute;

/// Rows of one INSERT, of which there are a hundred a second.
const BATCH: usize = 100;
/// How long each part takes.
const SECONDS: u64 = 10;
/// Rows of the table that is read by key.
const KEYS: i64 = 100_000;

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let server = Server::start(directory.path(), &[]);
        inserts(&server).await;
        for clients in [1, 2, 8] {
            reads(&server, directory.path(), clients).await;
        }
        println!("peak memory of the server: {} MB", server.figure("status", "VmHWM:") / 1024);
    });
}

fn cpu_of(server: &Server) -> f64 {
    server.cpu_seconds().into_iter().sum()
}

/// A row of the view that an INSERT changed is read, by another client, as soon as the INSERT has been answered: it must show it.
async fn inserts(server: &Server) {
    let (writer, reader) = (server.connect().await, server.connect().await);
    let sql = "CREATE TABLE event (id bigint PRIMARY KEY, grp integer, x bigint);
               CREATE MATERIALIZED VIEW sums AS SELECT grp, count(*) AS c, sum(x) AS s FROM event GROUP BY grp";
    execute(&writer, sql).await;
    let select = reader.prepare("SELECT c FROM sums WHERE grp = $1").await.expect("it is prepared");
    let subscriber = server.connect().await;
    let changes = subscriber.copy_out("COPY (SUBSCRIBE sums WITH (snapshot = false)) TO STDOUT").await;
    let changes = changes.expect("it is subscribed to");
    let received = tokio::spawn(arrivals(changes));
    let (clock, mut taken, mut acknowledged) = (SystemClock, Vec::new(), Vec::new());
    let (begun, cpu) = (clock.instant(), cpu_of(server));
    for batch in 0..(SECONDS as usize * 10_000 / BATCH) {
        let due = begun + Duration::from_micros(100 * (batch * BATCH) as u64);
        tokio::time::sleep_until(due.into()).await;
        let group = (batch % 1000) as i32;
        let rows = (0..BATCH).map(|row| format!("({}, {group}, {row})", batch * BATCH + row)).collect::<Vec<_>>();
        writer.batch_execute(&format!("INSERT INTO event VALUES {}", rows.join(", "))).await.expect("rows are taken");
        acknowledged.push(clock.instant());
        let count = reader.query_one(&select, &[&group]).await.expect("the view is read").get::<_, i64>(0);
        assert_eq!(count, (BATCH * (batch / 1000 + 1)) as i64, "what is acknowledged is visible");
        taken.push(clock.instant() - due);
    }
    let (seconds, cpu) = (begun.elapsed().as_secs_f64(), cpu_of(server) - cpu);
    let told = times(&mut taken);
    println!("INSERT to visible at 10,000 rows/s: {told}; {:.0}% of a core", cpu / seconds * 100.0);
    let received = received.await.expect("the subscriber ends well");
    let late = received.iter().zip(acknowledged).map(|(received, told)| received.saturating_duration_since(told));
    println!("INSERT acknowledged to its row in a subscription: {}", times(&mut late.collect::<Vec<_>>()));
}

/// When the new row of each batch came out of a subscription.
async fn arrivals(changes: CopyOutStream) -> Vec<Instant> {
    let (mut changes, mut arrived) = (std::pin::pin!(changes), Vec::new());
    while arrived.len() < SECONDS as usize * 10_000 / BATCH {
        let row = changes.try_next().await.expect("changes go on").expect("a subscription does not end");
        // ms_epoch, ms_time, ms_diff, columns
        if row.split(|byte| *byte == b'\t').nth(2) == Some(b"1") {
            arrived.push(SystemClock.instant());
        }
    }
    arrived
}

fn times(taken: &mut [Duration]) -> String {
    taken.sort_unstable();
    let at = |share: f64| taken[((taken.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    format!("p50 {:.2} ms, p99 {:.2} ms, worst {:.2} ms", at(0.5), at(0.99), at(1.0))
}

/// So many clients of pgbench read rows by key, each as fast as it can.
async fn reads(server: &Server, directory: &Path, clients: usize) {
    let first = server.connect().await;
    let sql = format!(
        "CREATE TABLE IF NOT EXISTS account (id bigint PRIMARY KEY, owner text, balance bigint);
         INSERT INTO account SELECT n, 'owner ' || n, n FROM generate_series(1, {KEYS}) AS g(n) ON CONFLICT DO NOTHING"
    );
    execute(&first, &sql).await;
    let script = directory.join("reads.sql");
    let text = format!("\\set id random(1, {KEYS})\nSELECT * FROM account WHERE id = :id;\n");
    std::fs::write(&script, text).expect("the script is written");
    let cpu = cpu_of(server);
    let output = Command::new("pgbench")
        .args(["--no-vacuum", "--protocol=prepared", "--host=127.0.0.1", "--username=millstream"])
        .args([format!("--port={}", server.port), format!("--time={SECONDS}"), format!("--client={clients}")])
        .args([format!("--jobs={}", clients.min(2)), format!("--file={}", script.display()), "millstream".to_owned()])
        .output()
        .expect("pgbench is there (.ci/packages bench)");
    let cpu = cpu_of(server) - cpu;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = |name: &str| -> f64 {
        let line = told.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("");
        line.split([' ', '/']).find_map(|word| word.parse().ok()).expect("pgbench tells it")
    };
    println!(
        "SELECT by key, {clients} clients: {:.0} a second, {:.0} a CPU-second of the server",
        number("tps = "),
        number("number of transactions actually processed: ") / cpu
    );
}
