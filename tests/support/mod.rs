//! What the integration tests share: a Millstream server of their own, and clients of it.

#![allow(dead_code)] // each test binary uses a part of it

use std::io::BufRead;
use std::io::BufReader;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::ChildStdout;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::NoTls;
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::SimpleQueryRow;

pub mod follower;
pub mod postgres;

/// A server process with a data directory of its own; killed when dropped.
pub struct Server {
    process: Option<Child>,
    /// The port it listens on.
    pub port: u16,
    /// The port of its HTTP.
    pub http: u16,
    data_dir: PathBuf,
    arguments: Vec<String>,
}

impl Server {
    /// Starts a server on a free port with these further arguments.
    pub fn start(data_dir: &Path, arguments: &[&str]) -> Server {
        let server = Server::start_quietly(data_dir, arguments);
        assert!(server.port != 0, "the server does not start");
        server
    }

    /// Starts a server that may refuse to: its port is 0 then.
    pub fn start_quietly(data_dir: &Path, arguments: &[&str]) -> Server {
        let mut server = Server::prepare(data_dir, arguments);
        server.launch(&[]);
        server
    }

    /// A server that was not started yet.
    pub fn prepare(data_dir: &Path, arguments: &[&str]) -> Server {
        let arguments = arguments.iter().map(|a| a.to_string()).collect();
        Server { process: None, port: 0, http: 0, data_dir: data_dir.to_path_buf(), arguments }
    }

    /// Starts the process again on the same data, with these environment variables. Whether it came to listen: with a fault
    /// in recovery it dies before.
    pub fn launch(&mut self, environment: &[(&str, &str)]) -> bool {
        let stdout = self.spawn(environment);
        let mut lines = BufReader::new(stdout).lines();
        let port = lines.find_map(|line| {
            let line = line.ok()?;
            if let Some(http) = line.strip_prefix("metrics on http://127.0.0.1:") {
                self.http = http.strip_suffix("/metrics")?.parse().ok()?;
            }
            line.rsplit_once("listening on 127.0.0.1:")?.1.trim().parse().ok()
        });
        // Keeps the pipe open, so that the server never meets a closed one.
        std::thread::spawn(move || lines.for_each(drop));
        self.port = port.unwrap_or(0);
        self.port != 0
    }

    /// Starts the process again on the same data and does not wait until it listens. What it will print.
    pub fn spawn(&mut self, environment: &[(&str, &str)]) -> ChildStdout {
        self.kill();
        let mut process = Command::new(env!("CARGO_BIN_EXE_millstream"))
            .args(["serve", "--listen", "127.0.0.1:0", "--log", "warn", "--data-dir"])
            .arg(&self.data_dir)
            .args(&self.arguments)
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the server's binary is there");
        let stdout = process.stdout.take().expect("piped");
        self.process = Some(process);
        stdout
    }

    /// `kill -9`, at once.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Waits until the process has died by itself.
    pub fn wait(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.wait();
        }
    }

    /// Waits so long for the process to die by itself; whether it did.
    pub async fn wait_for(&mut self, patience: Duration) -> bool {
        let Some(process) = &mut self.process else { return true };
        let died = async {
            while matches!(process.try_wait(), Ok(None)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(patience, died).await.is_ok()
    }

    /// `kill -9`, and a new process on the same data.
    pub fn restart(&mut self) {
        assert!(self.launch(&[]), "the server does not start again");
    }

    /// SIGTERM; the process's exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        let mut process = self.process.take()?;
        let _ = Command::new("kill").args(["-TERM", &process.id().to_string()]).status();
        process.wait().ok()?.code()
    }

    /// A client of it.
    pub async fn connect(&self) -> Client {
        self.try_connect().await.expect("the server takes connections")
    }

    /// A client of it, unless the server is gone.
    pub async fn try_connect(&self) -> Result<Client, tokio_postgres::Error> {
        connect(self.port).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A client of the server on this port, unless it is gone.
pub async fn connect(port: u16) -> Result<Client, tokio_postgres::Error> {
    let config = format!("host=127.0.0.1 port={port} user=millstream dbname=millstream");
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// The rows of a query through the simple protocol, values as text, columns joined by `|`.
pub async fn rows(client: &Client, sql: &str) -> Result<Vec<String>, tokio_postgres::Error> {
    let mut rows = Vec::new();
    for message in client.simple_query(sql).await? {
        if let SimpleQueryMessage::Row(row) = message {
            rows.push(text_of(&row));
        }
    }
    Ok(rows)
}

/// A row's values, joined by `|`.
pub fn text_of(row: &SimpleQueryRow) -> String {
    (0..row.len()).map(|i| row.get(i).unwrap_or("NULL")).collect::<Vec<_>>().join("|")
}

/// The one value of a query.
pub async fn value(client: &Client, sql: &str) -> String {
    let rows = rows(client, sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    assert_eq!(rows.len(), 1, "{sql}");
    rows.into_iter().next().expect("one row")
}

/// Executes a statement that must succeed.
pub async fn execute(client: &Client, sql: &str) {
    client.batch_execute(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
}
