//! Runs `sql-tests/` in several worlds that must agree: one worker, three workers with tiny caches where new views are filled row
//! by row, `kill -9` between statements. What is under `plain/` also runs against a real PostgreSQL, the judge, where a materialized view is a view.

mod support;

use std::path::Path;
use std::path::PathBuf;

use async_trait::async_trait;
use sqllogictest::DBOutput;
use sqllogictest::DefaultColumnType;
use sqllogictest::Record;
use sqllogictest::Runner;
use support::Server;
use support::postgres::Postgres;
use tokio_postgres::Client;
use tokio_postgres::NoTls;
use tokio_postgres::SimpleQueryMessage;

/// A connection as the runner wants it.
struct Session {
    client: Client,
    /// Whether the other side is the judge.
    judge: bool,
}

/// An error as records expect it: SQLSTATE, then the message, then what of detail and hint there is.
#[derive(Debug)]
struct Failure(String);

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

fn failure(error: tokio_postgres::Error) -> Failure {
    match error.as_db_error() {
        Some(db) => {
            let part = |name: &str, text: Option<&str>| text.map_or(String::new(), |text| format!(" {name}: {text}"));
            let (detail, hint) = (part("DETAIL", db.detail()), part("HINT", db.hint()));
            Failure(format!("{}: {}{detail}{hint}", db.code().code(), db.message()))
        }
        None => Failure(error.to_string()),
    }
}

#[async_trait]
impl sqllogictest::AsyncDB for Session {
    type Error = Failure;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Failure> {
        let sql = if self.judge { for_judge(sql) } else { sql.to_string() };
        let mut rows = Vec::new();
        let (mut columns, mut hidden) = (0, 0);
        let mut affected = 0;
        for message in self.client.simple_query(&sql).await.map_err(failure)? {
            match message {
                SimpleQueryMessage::RowDescription(description) => {
                    // When a change was committed differs from run to run.
                    hidden = description.iter().take_while(|c| ["ms_epoch", "ms_time"].contains(&c.name())).count();
                    columns = description.len() - hidden;
                }
                SimpleQueryMessage::Row(row) => {
                    let value = |i| row.get(i).map_or("NULL".to_string(), shown);
                    rows.push((hidden..row.len()).map(value).collect());
                }
                SimpleQueryMessage::CommandComplete(count) => affected = count,
                _ => {}
            }
        }
        if columns == 0 {
            return Ok(DBOutput::StatementComplete(affected));
        }
        Ok(DBOutput::Rows { types: vec![DefaultColumnType::Text; columns], rows })
    }

    async fn shutdown(&mut self) {}
}

/// An empty text can be seen.
fn shown(text: &str) -> String {
    if text.is_empty() { "(empty)".to_string() } else { text.to_string() }
}

/// In PostgreSQL a plain view is always up to date, which is what a materialized view is here.
fn for_judge(sql: &str) -> String {
    sql.replace("MATERIALIZED VIEW", "VIEW")
}

async fn session(port: u16, judge: bool) -> Result<Session, Failure> {
    let config = format!("host=127.0.0.1 port={port} user=millstream dbname=millstream");
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.map_err(failure)?;
    tokio::spawn(connection);
    client.batch_execute("SET client_min_messages = error").await.map_err(failure)?;
    Ok(Session { client, judge })
}

/// Every script under a folder, in order.
fn scripts(folder: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql-tests").join(folder);
    let mut files =
        std::fs::read_dir(root).expect("the folder is there").flatten().map(|e| e.path()).collect::<Vec<_>>();
    files.retain(|file| file.extension().is_some_and(|e| e == "slt"));
    files.sort();
    let only = std::env::var("SLT").ok();
    files.retain(|file| only.as_ref().is_none_or(|only| file.to_string_lossy().contains(only)));
    files
}

/// Runs one script against a server of its own, restarting it with `kill -9` after each so many records.
async fn run_script(script: &Path, arguments: &[&str], restart_every: Option<usize>) -> Vec<String> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let arguments = [arguments, &["--file-root", concat!(env!("CARGO_MANIFEST_DIR"), "/sql-tests/data")]].concat();
    let mut server = Server::start(directory.path(), &arguments);
    let records = sqllogictest::parse_file::<DefaultColumnType>(script).expect("the script parses");
    let mut failures = Vec::new();
    let world = if restart_every.is_some() { "killed" } else { "alive" };
    let mut runner = runner(server.port, world);
    for (number, record) in records.into_iter().enumerate() {
        if matches!(record, Record::Halt { .. }) {
            break;
        }
        if restart_every.is_some_and(|every| number > 0 && number % every == 0) {
            drop(runner);
            server.restart();
            runner = self::runner(server.port, world);
        }
        if let Err(error) = runner.run_async(record).await {
            failures.push(format!("{}: {}", script.display(), error.display(false)));
        }
    }
    failures
}

/// The world of the real PostgreSQL.
const JUDGE: &str = "postgres";

/// A runner of scripts, whose records can say in which worlds they are left out (`skipif killed`).
fn runner(port: u16, world: &str) -> Runner<Session, impl sqllogictest::MakeConnection<Conn = Session>> {
    let judge = world == JUDGE;
    let mut runner = Runner::new(move || session(port, judge));
    runner.add_label(world);
    if !judge {
        runner.add_label("millstream");
    }
    runner
}

fn run_world(arguments: &[&str], restart_every: Option<usize>) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut failures = Vec::new();
    let mut count = 0;
    for script in scripts("plain").into_iter().chain(scripts("streaming")) {
        count += 1;
        failures.extend(runtime.block_on(run_script(&script, arguments, restart_every)));
    }
    println!("{count} scripts");
    assert!(failures.is_empty(), "{} records fail:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn one_worker() {
    run_world(&["--workers", "1"], None);
}

#[test]
fn three_workers_with_tiny_caches_and_steps() {
    run_world(&["--workers", "3", "--memory-limit", "16MB", "--fill-rows", "1"], None);
}

#[test]
fn killed_between_statements() {
    run_world(&["--workers", "2"], Some(3));
}

#[test]
fn postgres_is_the_judge() {
    let postgres = Postgres::start();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut failures = Vec::new();
    runtime.block_on(async {
        for script in scripts("plain") {
            let clean = session(postgres.port, true).await.expect("the judge is there");
            let fresh = "DROP SCHEMA public CASCADE; CREATE SCHEMA public";
            clean.client.batch_execute(fresh).await.expect("the judge starts afresh");
            let mut runner = runner(postgres.port, JUDGE);
            let records = sqllogictest::parse_file::<DefaultColumnType>(&script).expect("the script parses");
            for record in records {
                if let Err(error) = runner.run_async(record).await {
                    failures.push(format!("{}: {}", script.display(), error.display(false)));
                }
            }
        }
    });
    assert!(failures.is_empty(), "{} records fail:\n{}", failures.len(), failures.join("\n"));
}
