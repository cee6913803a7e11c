//! Nexmark into stored views, from the generator in the process and from JSON lines on disk: events per second and per
//! CPU-second, from the difference of two sizes, so that start-up is not counted.
//!
//!     cargo bench --bench nexmark                       everything
//!     cargo bench --bench nexmark -- generator q3 q4    some of it
//!     EVENTS=100000 cargo bench --bench nexmark         another smaller size; the larger one is four times as much

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

use millstream::time::Clock;
use millstream::time::SystemClock;
use tokio_postgres::Client;
use tokio_postgres::NoTls;

use events::write_files;

#[path = "support/events.rs"]
mod events;
#[path = "support/queries.rs"]
mod queries;

use queries::QUERIES;
use queries::Query;

/// Where events come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Setting {
    Generator,
    Files,
}

/// What one run took.
struct Run {
    wall_s: f64,
    cpu_s: f64,
    rows: i64,
    memory_mb: u64,
    state_mb: u64,
    written_mb: u64,
}

fn main() {
    let chosen = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect::<Vec<_>>();
    let events = std::env::var("EVENTS").ok().and_then(|e| e.parse().ok()).unwrap_or(1_000_000_u64);
    let names = |name: &str| chosen.iter().any(|c| c == name);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    for setting in [Setting::Generator, Setting::Files] {
        if (names("generator") || names("files")) && !names(setting.name()) {
            continue;
        }
        println!(
            "\nFrom {}, stored views; thousands of events per second, {events} and {} events",
            setting.doc(),
            4 * events
        );
        println!(
            "{:<5} {:>8} {:>8} {:>11} {:>10} {:>9} {:>9} {:>9} {:>9}",
            "query", "wall", "per CPU", "Flink wall", "Flink CPU", "rows", "peak MB", "disk MB", "written"
        );
        let any = QUERIES.iter().any(|query| names(query.name));
        for query in QUERIES.iter().filter(|query| !any || names(query.name)) {
            let small = runtime.block_on(run(setting, query, events));
            let large = runtime.block_on(run(setting, query, 4 * events));
            let rate = |small: f64, large: f64| 3.0 * events as f64 / (large - small).max(1e-9) / 1e3;
            let (wall, cpu) = (rate(small.wall_s, large.wall_s), rate(small.cpu_s, large.cpu_s));
            let flink = match setting {
                Setting::Generator => query.flink_generator,
                Setting::Files => query.flink_files,
            };
            let (flink_wall, flink_cpu) =
                flink.map_or(("–".into(), "–".into()), |(w, c)| (w.to_string(), c.to_string()));
            println!(
                "{:<5} {wall:>8.0} {cpu:>8.0} {flink_wall:>11} {flink_cpu:>10} {:>9} {:>9} {:>9} {:>9}",
                query.name, large.rows, large.memory_mb, large.state_mb, large.written_mb
            );
        }
    }
}

impl Setting {
    fn name(self) -> &'static str {
        match self {
            Setting::Generator => "generator",
            Setting::Files => "files",
        }
    }

    fn doc(self) -> &'static str {
        match self {
            Setting::Generator => "the generator in the process",
            Setting::Files => "JSON lines on disk, a file for each kind of event",
        }
    }

    /// The statement that declares one of the three kinds of event as a source of so many events of all kinds.
    fn source(self, kind: &str, events: u64) -> String {
        match self {
            Setting::Generator => format!(
                "CREATE SOURCE {kind} WITH (connector = 'generator', generator = 'nexmark', nexmark.table = '{kind}', \
                 rate = 0, rows = {events})"
            ),
            Setting::Files => format!(
                "CREATE SOURCE {kind} ({}) WITH (connector = 'file', path = '{events}/{kind}.jsonl') \
                 FORMAT PLAIN ENCODE JSON",
                events::columns(kind)
            ),
        }
    }
}

/// Runs one query over so many events in a server of its own.
async fn run(setting: Setting, query: &Query, events: u64) -> Run {
    let files = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("nexmark");
    if setting == Setting::Files {
        write_files(&files.join(events.to_string()), events).expect("the files can be written");
    }
    std::fs::create_dir_all(&files).expect("a folder for files");
    let directory = tempfile::tempdir_in(&files).expect("a temporary directory");
    let mut server = Command::new(env!("CARGO_BIN_EXE_millstream"))
        .args(["serve", "--listen", "127.0.0.1:0", "--log", "warn", "--file-root"])
        .arg(&files)
        .arg("--data-dir")
        .arg(directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the server's binary is there");
    let output = std::io::BufReader::new(server.stdout.take().expect("piped"));
    let mut lines = std::io::BufRead::lines(output);
    let port = lines.find_map(|line| line.ok()?.rsplit_once("listening on 127.0.0.1:")?.1.trim().parse::<u16>().ok());
    let client = connect(port.expect("the server listens")).await;
    for kind in ["person", "auction", "bid"] {
        let sql = setting.source(kind, events);
        client.batch_execute(&sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    }
    let (begun, cpu) = (SystemClock.instant(), cpu_seconds(server.id()));
    let sql = format!("CREATE MATERIALIZED VIEW v AS {}", query.sql);
    client.batch_execute(&sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    client.batch_execute("FLUSH").await.expect("all events become visible");
    let (wall_s, cpu_s) = (begun.elapsed().as_secs_f64(), cpu_seconds(server.id()) - cpu);
    let rows = client.query_one("SELECT count(*) FROM v", &[]).await.expect("the view can be read").get(0);
    let run = Run {
        wall_s,
        cpu_s,
        rows,
        memory_mb: of_process(server.id(), "status", "VmHWM:") / 1024,
        state_mb: size_of(directory.path()) >> 20,
        written_mb: of_process(server.id(), "io", "write_bytes:") >> 20,
    };
    let _ = server.kill();
    let _ = server.wait();
    run
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

/// A number that the kernel tells of a process.
fn of_process(pid: u32, file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or("");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// How many bytes the files of a directory take.
fn size_of(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size_of(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.map(size).sum()
}
