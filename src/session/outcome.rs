//! What a statement gives: rows or a command tag, and what is said besides.

use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use arrow::array::ArrayRef;
use arrow::array::RecordBatch;
use arrow::array::StringArray;
use futures::Stream;
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::engine::Rows;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::formats::copy::Options;
use crate::functions::from_datafusion;
use crate::session::copy::CopyIn;
use crate::types::Column;
use crate::types::SqlType;
use crate::types::schema_of;

/// How many batches a read may be ahead of its client.
const BATCHES_AHEAD: usize = 2;

/// Batches of rows as they come.
pub type RowStream = Pin<Box<dyn Stream<Item = Result<RecordBatch>> + Send>>;

/// The answer to one statement.
pub enum Outcome {
    /// The statement was nothing but blanks and comments.
    Empty,
    /// Rows, streamed. Dropping them ends the read.
    Rows {
        /// The columns as the client is told.
        columns: Arc<[Column]>,
        /// The rows; their columns are in this order.
        rows: RowStream,
        /// What is said at the end.
        tag: Tag,
        /// Whether a simple query, which cannot say it, gets them in binary.
        binary: bool,
    },
    /// The rows of a COPY, to be written so.
    CopyOut { columns: Arc<[Column]>, rows: RowStream, options: Options },
    /// A COPY that waits for its data.
    CopyIn(Box<CopyIn>),
    /// Done; the command tag.
    Command(String),
}

/// The command tag of a statement that gives rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tag {
    /// This word and the number of rows sent.
    Count(&'static str),
    /// This.
    Fixed(String),
}

impl Tag {
    /// The tag after so many rows.
    pub fn after(&self, rows: u64) -> String {
        match self {
            Tag::Count(word) => format!("{word} {rows}"),
            Tag::Fixed(tag) => tag.clone(),
        }
    }
}

/// How loud a notice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Notice,
    Warning,
}

/// Something that the client is told beside the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// How loud.
    pub severity: Severity,
    /// Its SQLSTATE; `00000` when there is none.
    pub sqlstate: &'static str,
    /// The message.
    pub message: String,
}

impl Notice {
    /// Something to know.
    pub fn info(message: impl Into<String>) -> Notice {
        Notice { severity: Severity::Notice, sqlstate: "00000", message: message.into() }
    }

    /// Something to worry about.
    pub fn warning(kind: Kind, message: impl Into<String>) -> Notice {
        Notice { severity: Severity::Warning, sqlstate: kind.sqlstate(), message: message.into() }
    }
}

/// The rows of a read, which runs as a task of its own unless it has run: a join that computes for minutes before its first row
/// leaves the client's task free to notice a cancel request.
pub(super) fn stream(rows: Rows) -> RowStream {
    if rows.ready {
        return Box::pin(rows.stream.map(|batch| batch.map_err(from_datafusion)));
    }
    let (sender, batches) = mpsc::channel(BATCHES_AHEAD);
    let mut source = rows.stream;
    let task = tokio::spawn(async move {
        while let Some(batch) = source.next().await {
            if sender.send(batch.map_err(from_datafusion)).await.is_err() {
                return;
            }
        }
    });
    Box::pin(Running { batches, task: Some(task) })
}

/// A read that runs. Dropping it ends the read.
struct Running {
    batches: mpsc::Receiver<Result<RecordBatch>>,
    /// The task, until its end was seen.
    task: Option<JoinHandle<()>>,
}

impl Stream for Running {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<Option<Self::Item>> {
        match self.batches.poll_recv(context) {
            Poll::Ready(None) => {}
            other => return other,
        }
        // The task has let go of its end: because all is read, or because it panicked.
        let Some(task) = &mut self.task else { return Poll::Ready(None) };
        let ended = std::task::ready!(Pin::new(task).poll(context));
        self.task = None;
        Poll::Ready(ended.err().map(|error| Err(Error::internal(format!("the read ended by a defect: {error}")))))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// One batch as a stream.
pub(super) fn once(batch: RecordBatch) -> RowStream {
    Box::pin(futures::stream::once(std::future::ready(Ok(batch))))
}

/// Rows of text under these names.
pub(super) fn table(names: &[&str], columns: Vec<Vec<String>>) -> Result<Outcome> {
    let described: Arc<[Column]> = text_columns(names);
    let arrays = columns.into_iter().map(|values| Arc::new(StringArray::from(values)) as ArrayRef).collect();
    let batch = RecordBatch::try_new(schema_of(&described), arrays).map_err(|e| Error::internal(e.to_string()))?;
    Ok(Outcome::Rows { columns: described, rows: once(batch), tag: Tag::Count("SELECT"), binary: false })
}

/// Columns of text with these names.
pub(super) fn text_columns(names: &[&str]) -> Arc<[Column]> {
    names.iter().map(|name| Column::new(*name, SqlType::Text)).collect()
}
