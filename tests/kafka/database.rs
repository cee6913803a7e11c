//! A server with a data directory of its own, and what the tests ask of it.

use std::time::Duration;

use millstream::time::Clock;
use millstream::time::SystemClock;
use tempfile::TempDir;
use tokio_postgres::Client;
use tokio_postgres::error::DbError;

use crate::broker::Broker;
use crate::support;
use crate::support::Server;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(120);

/// A server and a client of it.
pub struct Database {
    pub server: Server,
    client: Option<Client>,
    _data: TempDir,
}

impl Database {
    /// A new one.
    pub async fn start() -> Database {
        let data = tempfile::Builder::new().prefix("millstream-").tempdir().unwrap();
        let server = Server::start(data.path(), &["--workers", "2", "--memory-limit", "512MB"]);
        let client = Some(server.connect().await);
        Database { server, client, _data: data }
    }

    /// `kill -9`, and up again on the same data.
    pub async fn restart(&mut self) {
        self.server.restart();
        self.client = Some(self.server.connect().await);
    }

    /// Up again on the same data, to die at this fault point. Whether it came so far as to listen.
    pub async fn launch_to_die(&mut self, fault: &str) -> bool {
        self.client = None;
        self.server.launch(&[("MILLSTREAM_FAULT", fault)])
    }

    /// Waits so long for the process to die by itself; whether it did.
    pub async fn died(&mut self, patience: Duration) -> bool {
        self.server.wait_for(patience).await
    }

    /// The client.
    pub fn client(&self) -> &Client {
        self.client.as_ref().expect("the server is up")
    }

    /// Executes statements that must succeed.
    pub async fn execute(&self, sql: &str) {
        support::execute(self.client(), sql).await;
    }

    /// The error of a statement that must fail.
    pub async fn refused(&self, sql: &str) -> DbError {
        let error = self.client().batch_execute(sql).await.expect_err(sql);
        error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error}")).clone()
    }

    /// The rows of a query, columns joined by `|`.
    pub async fn rows(&self, sql: &str) -> Vec<String> {
        support::rows(self.client(), sql).await.unwrap_or_else(|e| panic!("{sql}: {e:?}"))
    }

    /// The one value of a query.
    pub async fn value(&self, sql: &str) -> String {
        support::value(self.client(), sql).await
    }

    /// Asks until the answer is as wanted.
    pub async fn until(&self, sql: &str, wanted: impl Fn(&[String]) -> bool) -> Vec<String> {
        let deadline = SystemClock.instant() + PATIENCE;
        loop {
            let rows = self.rows(sql).await;
            if wanted(&rows) {
                return rows;
            }
            assert!(SystemClock.instant() < deadline, "{sql}: still {rows:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The statement for a source of this name over a topic: its columns and what follows them, further options.
pub fn source(broker: &Broker, name: &str, topic: &str, columns: &str, options: &[(&str, &str)]) -> String {
    let further = options.iter().map(|(name, value)| format!(", {name} = '{value}'")).collect::<String>();
    format!(
        "CREATE SOURCE {name} {columns} WITH (connector = 'kafka', topic = '{topic}',
         properties.bootstrap.server = '{}'{further}) FORMAT PLAIN ENCODE JSON",
        broker.address()
    )
}
