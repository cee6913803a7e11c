//! A server of the bench's own, on a free port, and what the kernel tells of its process.

use std::io::BufRead;
use std::io::BufReader;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use tokio_postgres::Client;
use tokio_postgres::NoTls;

/// A running server. Killed when dropped.
pub struct Server {
    process: Child,
    /// Where it listens.
    pub port: u16,
}

impl Server {
    /// Starts a server on this data, with these further arguments.
    pub fn start(data_dir: &Path, arguments: &[&str]) -> Server {
        let mut process = Command::new(env!("CARGO_BIN_EXE_millstream"))
            .args(["serve", "--listen", "127.0.0.1:0", "--log", "warn", "--data-dir"])
            .arg(data_dir)
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server's binary is there");
        let mut lines = BufReader::new(process.stdout.take().expect("piped")).lines();
        let port = lines.find_map(|line| line.ok()?.rsplit_once("listening on 127.0.0.1:")?.1.trim().parse().ok());
        // Keeps the pipe open, so that the server never meets a closed one.
        std::thread::spawn(move || lines.for_each(drop));
        Server { process, port: port.expect("the server listens") }
    }

    /// A client of it.
    pub async fn connect(&self) -> Client {
        let config = format!("host=127.0.0.1 port={} user=millstream dbname=millstream", self.port);
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await.expect("the server takes connections");
        tokio::spawn(connection);
        client
    }

    /// User and system time so far, in seconds.
    pub fn cpu_seconds(&self) -> [f64; 2] {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap_or_default();
        let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
        let mut ticks = after.split_whitespace().skip(11).filter_map(|ticks| ticks.parse::<f64>().ok());
        [(); 2].map(|()| ticks.next().unwrap_or(0.0) / 100.0)
    }

    /// A number that the kernel tells of the process.
    pub fn figure(&self, file: &str, name: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/{file}", self.process.id())).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or("");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Statements that must succeed.
pub async fn execute(client: &Client, sql: &str) {
    client.batch_execute(sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
}
