//! A client that subscribes, and folds what it is sent.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use futures::StreamExt;
use tokio_postgres::Client;
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::SimpleQueryRow;
use tokio_postgres::SimpleQueryStream;

/// How long the next row may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(600);

/// One row of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its epoch.
    pub epoch: u64,
    /// By how much the row's count changes; `None` tells the end of the epoch.
    pub diff: Option<i64>,
    /// The relation's columns, joined by `|`.
    pub row: String,
}

/// A subscription that is being read.
pub struct Follower {
    stream: Pin<Box<SimpleQueryStream>>,
    /// The rows as they stand after all changes read so far, with their counts.
    pub rows: BTreeMap<String, i64>,
    /// The last epoch whose end was told.
    pub through: u64,
    /// Keeps the connection.
    _client: Client,
}

impl Follower {
    /// Begins a subscription.
    pub async fn start(client: Client, sql: &str) -> Follower {
        Follower::try_start(client, sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"))
    }

    /// Begins a subscription, unless the server is gone.
    pub async fn try_start(client: Client, sql: &str) -> Result<Follower, tokio_postgres::Error> {
        let stream = client.simple_query_raw(sql).await?;
        Ok(Follower { stream: Box::pin(stream), rows: BTreeMap::new(), through: 0, _client: client })
    }

    /// Goes on with rows that were folded before.
    pub fn with_rows(mut self, rows: BTreeMap<String, i64>, through: u64) -> Follower {
        (self.rows, self.through) = (rows, through);
        self
    }

    /// The next row, folded; an error ends the subscription.
    pub async fn next(&mut self) -> Result<Change, tokio_postgres::Error> {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.stream.next()).await.expect("the next change comes");
            match message.expect("a subscription does not end by itself")? {
                SimpleQueryMessage::Row(row) => return Ok(self.fold(change(&row))),
                _ => continue,
            }
        }
    }

    /// Reads until the end of an epoch is told that is not before this one (`WITH (progress)`).
    pub async fn until(&mut self, epoch: u64) -> Result<(), tokio_postgres::Error> {
        while self.through < epoch {
            self.next().await?;
        }
        Ok(())
    }

    fn fold(&mut self, change: Change) -> Change {
        match change.diff {
            None => self.through = change.epoch,
            Some(diff) => {
                let count = self.rows.entry(change.row.clone()).or_default();
                *count += diff;
                if *count == 0 {
                    self.rows.remove(&change.row);
                }
            }
        }
        change
    }

    /// The rows, each as often as it is there.
    pub fn sorted(&self) -> Vec<String> {
        let rows = self.rows.iter();
        rows.flat_map(|(row, count)| std::iter::repeat_n(row.clone(), (*count).max(0) as usize)).collect()
    }
}

fn change(row: &SimpleQueryRow) -> Change {
    let number = |i: usize| row.get(i).map(|text| text.parse::<i64>().expect("a number"));
    let rest = (3..row.len()).map(|i| row.get(i).unwrap_or("NULL")).collect::<Vec<_>>();
    Change { epoch: number(0).expect("an epoch") as u64, diff: number(2), row: rest.join("|") }
}
