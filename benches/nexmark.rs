//! Nexmark into stored views, and what keeps no state into a sink too, from the generator in the process and from JSON lines on disk: events per second and per
//! CPU-second, from the difference of two sizes, so that start-up is not counted.
//!
//!     cargo bench --bench nexmark                       everything
//!     cargo bench --bench nexmark -- generator q3 q4    some of it (generator, files; views, sinks; queries)
//!     EVENTS=100000 cargo bench --bench nexmark         another smaller size; the larger one is four times as much

use std::path::Path;
use std::path::PathBuf;

use events::write_files;
use millstream::time::Clock;
use millstream::time::SystemClock;

#[path = "support/events.rs"]
mod events;
#[path = "support/queries.rs"]
mod queries;
#[path = "support/server.rs"]
mod server;

use queries::QUERIES;
use queries::Query;
use server::Server;
use server::execute;

/// Where events come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Setting {
    Generator,
    Files,
}

/// Where answers go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Views,
    Sinks,
}

/// What one run took.
struct Run {
    wall_s: f64,
    cpu_s: f64,
    /// What of it the kernel took.
    system_s: f64,
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
    let targets = [Target::Views, Target::Sinks];
    let all =
        [Setting::Generator, Setting::Files].into_iter().flat_map(|setting| targets.map(|target| (setting, target)));
    for (setting, target) in all {
        if (names("generator") || names("files")) && !names(setting.name())
            || (names("views") || names("sinks")) && !names(target.name())
        {
            continue;
        }
        println!(
            "\nFrom {}, {}; thousands of events per second, {events} and {} events",
            setting.doc(),
            target.doc(),
            4 * events
        );
        println!(
            "{:<5} {:>8} {:>8} {:>8} {:>11} {:>10} {:>9} {:>9} {:>9} {:>9}",
            "query", "wall", "per CPU", "kernel %", "Flink wall", "Flink CPU", "rows", "peak MB", "disk MB", "written"
        );
        let any = QUERIES.iter().any(|query| names(query.name));
        let fits = |query: &&Query| target == Target::Views || query.is_stateless();
        for query in QUERIES.iter().filter(|query| !any || names(query.name)).filter(fits) {
            let small = runtime.block_on(run(setting, target, query, events));
            let large = runtime.block_on(run(setting, target, query, 4 * events));
            let rate = |small: f64, large: f64| 3.0 * events as f64 / (large - small).max(1e-9) / 1e3;
            let (wall, cpu) = (rate(small.wall_s, large.wall_s), rate(small.cpu_s, large.cpu_s));
            let kernel = large.system_s / large.cpu_s * 100.0;
            let flink = match setting {
                Setting::Generator => query.flink_generator,
                Setting::Files => query.flink_files,
            };
            let (flink_wall, flink_cpu) =
                flink.map_or(("–".into(), "–".into()), |(w, c)| (w.to_string(), c.to_string()));
            println!(
                "{:<5} {wall:>8.0} {cpu:>8.0} {kernel:>8.0} {flink_wall:>11} {flink_cpu:>10} {:>9} {:>9} {:>9} {:>9}",
                query.name, large.rows, large.memory_mb, large.state_mb, large.written_mb
            );
        }
    }
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Target::Views => "views",
            Target::Sinks => "sinks",
        }
    }

    fn doc(self) -> &'static str {
        match self {
            Target::Views => "stored views",
            Target::Sinks => "into a sink that forgets",
        }
    }

    /// The statement that has a query answered, and the one that tells how many rows came.
    fn statements(self, query: &Query) -> (String, &'static str) {
        match self {
            Target::Views => (format!("CREATE MATERIALIZED VIEW v AS {}", query.sql), "SELECT count(*) FROM v"),
            Target::Sinks => (
                format!("CREATE SINK v AS {} WITH (connector = 'blackhole')", query.sql),
                "SELECT rows_out FROM ms_catalog.sinks WHERE name = 'v'",
            ),
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
async fn run(setting: Setting, target: Target, query: &Query, events: u64) -> Run {
    let files = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("nexmark");
    if setting == Setting::Files {
        write_files(&files.join(events.to_string()), events).expect("the files can be written");
    }
    std::fs::create_dir_all(&files).expect("a folder for files");
    let directory = tempfile::tempdir_in(&files).expect("a temporary directory");
    let roots = files.to_str().expect("a path of UTF-8");
    let server = Server::start(directory.path(), &["--file-root", roots]);
    let client = server.connect().await;
    for kind in ["person", "auction", "bid"] {
        execute(&client, &setting.source(kind, events)).await;
    }
    let (begun, cpu) = (SystemClock.instant(), server.cpu_seconds());
    let (create, count) = target.statements(query);
    execute(&client, &create).await;
    execute(&client, "FLUSH").await;
    let wall_s = begun.elapsed().as_secs_f64();
    let [user_s, system_s] = server.cpu_seconds();
    let (user_s, system_s) = (user_s - cpu[0], system_s - cpu[1]);
    let rows = client.query_one(count, &[]).await.expect("the rows can be counted").get(0);
    Run {
        wall_s,
        cpu_s: user_s + system_s,
        system_s,
        rows,
        memory_mb: server.figure("status", "VmHWM:") / 1024,
        state_mb: size_of(directory.path()) >> 20,
        written_mb: server.figure("io", "write_bytes:") >> 20,
    }
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
