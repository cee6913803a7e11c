//! Cursors: rows that wait for FETCH.
//!
//! # How a statement plugs in that streams rows
//!
//! A cursor, `COPY ... TO STDOUT` and the protocol's portals know nothing of queries. They take whatever a bound statement
//! answers with [`Outcome::Rows`]: columns, and a [`RowStream`] of batches that ends, or never does. A new statement that
//! yields rows (SUBSCRIBE, say) is there with
//! 1. an arm in `Session::execute` that answers `Outcome::Rows`, with a stream made by [`crate::session::outcome::stream`] or
//!    its like. Batches may be of any size; a batch is sent on as soon as it comes, and taken only when the client has room.
//!    `poll_next` must lose nothing when nobody waits for it any more: a FETCH that times out asks again later. Dropping the
//!    stream ends the statement.
//! 2. an arm in [`Bound::columns`](crate::sql::bound::Bound::columns), by which Describe and COPY know its columns;
//! 3. a word in the grammar's `row_statement`, which is what may stand behind `DECLARE c CURSOR FOR` and in `COPY (...)`.
//!
//! A cursor takes the statement's rows at its snapshot, that of its transaction. One WITH HOLD goes on when its transaction
//! is committed, and keeps that snapshot for as long as it is open.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use futures::StreamExt;
use futures::stream::Fuse;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::engine::Parameter;
use crate::error::Error;
use crate::error::Result;
use crate::session::Session;
use crate::session::outcome::Outcome;
use crate::session::outcome::RowStream;
use crate::session::outcome::Tag;
use crate::session::scroll::Scroll;
use crate::session::transaction::State;
use crate::sql::bound::Bound;
use crate::sql::bound::Direction;
use crate::sql::bound::Fetch;
use crate::types::Column;

/// A session's cursors by name.
pub(super) type Cursors = BTreeMap<String, Cursor>;

/// A cursor.
pub(super) struct Cursor {
    /// The columns of its rows.
    pub(super) columns: Arc<[Column]>,
    rows: Source,
    /// Whether a simple query gets its rows in binary.
    pub(super) binary: bool,
    /// Whether it outlives its transaction.
    pub(super) hold: bool,
    /// The statement that declared it.
    pub(super) sql: String,
    /// How many savepoints there were when it was declared; `None`: its transaction is committed.
    level: Option<usize>,
}

/// Where a cursor's rows come from.
enum Source {
    /// It goes forward only: what was given is forgotten.
    Forward(Arc<Mutex<Rows>>),
    /// SCROLL.
    Scroll(Arc<Mutex<Scroll>>),
}

/// What a cursor has not given yet.
struct Rows {
    stream: Fuse<RowStream>,
    /// The rest of a batch that was given in part.
    rest: Option<RecordBatch>,
    /// How many rows it has given.
    passed: u64,
}

/// The next rows of a cursor that goes forward.
fn forward(rows: &Arc<Mutex<Rows>>, count: Option<u64>, deadline: Option<Instant>) -> RowStream {
    let fetching = Fetching { rows: rows.clone(), left: count, deadline, gave: false };
    Box::pin(futures::stream::unfold(fetching, |mut fetching| async move {
        let batch = fetching.next().await?;
        Some((batch, fetching))
    }))
}

/// How many rows a cursor that cannot go back passes, and then gives (`None`: all of them).
fn way_forward(direction: Direction, at: u64) -> Result<(u64, Option<u64>)> {
    let back = || Error::not_ready("cursor can only scan forward").hint("Declare it with SCROLL to let it go back.");
    let to = |number: i64| match number.unsigned_abs().checked_sub(at + 1) {
        Some(between) if number > 0 => Ok((between, Some(1))),
        _ => Err(back()),
    };
    match direction {
        Direction::All => Ok((0, None)),
        Direction::Rows(count) if count > 0 => Ok((0, Some(count.unsigned_abs()))),
        Direction::Relative(count) if count > 0 => Ok((count.unsigned_abs() - 1, Some(1))),
        Direction::Absolute(number) => to(number),
        Direction::Rows(_) | Direction::Relative(_) | Direction::AllBack => Err(back()),
    }
}

/// One FETCH while it runs.
struct Fetching {
    rows: Arc<Mutex<Rows>>,
    /// How many rows are still wanted; `None`: all.
    left: Option<u64>,
    deadline: Option<Instant>,
    /// Whether it has given any.
    gave: bool,
}

impl Fetching {
    async fn next(&mut self) -> Option<Result<RecordBatch>> {
        if self.left == Some(0) {
            return None;
        }
        let mut rows = self.rows.lock().await;
        let batch = match (rows.rest.take(), self.deadline) {
            (Some(batch), _) => batch,
            // What is there already is taken also when the time is up, but not for ever.
            (None, Some(deadline)) if self.gave && Instant::now() >= deadline => return None,
            (None, deadline) => {
                let next = rows.stream.next();
                let batch = match deadline {
                    Some(deadline) => tokio::time::timeout_at(deadline, next).await.ok()??,
                    None => next.await?,
                };
                match batch {
                    Ok(batch) => batch,
                    Err(error) => return Some(Err(error)),
                }
            }
        };
        self.gave |= batch.num_rows() > 0;
        let all = batch.num_rows();
        let taken = self.left.map_or(all, |left| all.min(usize::try_from(left).unwrap_or(usize::MAX)));
        rows.passed += taken as u64;
        if taken < all {
            rows.rest = Some(batch.slice(taken, all - taken));
        }
        if let Some(left) = &mut self.left {
            *left -= taken as u64;
        }
        Some(Ok(batch.slice(0, taken)))
    }
}

impl Cursor {
    /// Whether it can go back.
    pub(super) fn scrolls(&self) -> bool {
        matches!(self.rows, Source::Scroll(_))
    }
}

impl Session {
    /// The columns of a cursor's rows.
    pub fn cursor_columns(&self, name: &str) -> Option<Arc<[Column]>> {
        self.cursors.get(name).map(|cursor| cursor.columns.clone())
    }

    /// Closes a cursor, if there is one.
    pub fn close_cursor(&mut self, name: &str) {
        self.cursors.remove(name);
    }

    /// DECLARE.
    pub(super) async fn declare(&mut self, bound: &Bound, parameters: &[Parameter], alone: bool) -> Result<Outcome> {
        let Bound::Declare { name, binary, hold, scroll, query, sql } = bound else {
            return Err(Error::internal("no DECLARE"));
        };
        self.share(alone);
        if !hold && matches!(self.state, State::None) {
            return Err(Error::no_transaction("DECLARE CURSOR can only be used in transaction blocks")
                .hint("Say BEGIN before, or declare the cursor WITH HOLD."));
        }
        if self.cursors.contains_key(name) {
            return Err(Error::duplicate_cursor(format!("cursor \"{name}\" already exists")));
        }
        let Outcome::Rows { columns, rows, .. } = Box::pin(self.execute(query, parameters, alone)).await? else {
            return Err(Error::internal("a cursor's statement gives no rows"));
        };
        let rows = match scroll {
            true => Source::Scroll(Arc::new(Mutex::new(Scroll::new(rows.fuse())))),
            false => Source::Forward(Arc::new(Mutex::new(Rows { stream: rows.fuse(), rest: None, passed: 0 }))),
        };
        let level = self.state.open().map(|open| open.level());
        let cursor = Cursor { columns, rows, binary: *binary, hold: *hold, sql: sql.clone(), level };
        self.cursors.insert(name.clone(), cursor);
        Ok(Outcome::Command("DECLARE CURSOR".into()))
    }

    /// FETCH and MOVE.
    pub(super) async fn fetch(&mut self, fetch: &Fetch) -> Result<Outcome> {
        let cursor = self.cursors.get(&fetch.cursor).ok_or_else(|| no_cursor(&fetch.cursor))?;
        let deadline = fetch.timeout_ms.map(|timeout| Instant::now() + Duration::from_millis(timeout));
        let rows: RowStream = match &cursor.rows {
            Source::Scroll(scroll) => {
                let go = async { scroll.lock().await.go(fetch.direction, deadline).await };
                let batches = self.interrupt.guard(go).await?;
                Box::pin(futures::stream::iter(batches.into_iter().map(Ok)))
            }
            Source::Forward(rows) => {
                let passed = rows.lock().await.passed;
                let (skipped, count) = way_forward(fetch.direction, passed)?;
                self.interrupt.guard(count_rows(forward(rows, Some(skipped), deadline))).await?;
                forward(rows, count, deadline)
            }
        };
        if !fetch.moves {
            let (columns, binary) = (cursor.columns.clone(), cursor.binary);
            return Ok(Outcome::Rows { columns, rows, tag: Tag::Count("FETCH"), binary });
        }
        let moved = self.interrupt.guard(count_rows(rows)).await?;
        Ok(Outcome::Command(format!("MOVE {moved}")))
    }

    /// CLOSE.
    pub(super) fn close_cursors(&mut self, name: Option<&str>) -> Result<Outcome> {
        match name {
            None => self.cursors.clear(),
            Some(name) => drop(self.cursors.remove(name).ok_or_else(|| no_cursor(name))?),
        }
        let tag = if name.is_some() { "CLOSE CURSOR" } else { "CLOSE CURSOR ALL" };
        Ok(Outcome::Command(tag.into()))
    }

    /// The transaction is committed: only cursors WITH HOLD stay, and now for good.
    pub(super) fn hold_cursors(&mut self) {
        self.cursors.retain(|_, cursor| cursor.hold);
        self.cursors.values_mut().for_each(|cursor| cursor.level = None);
    }

    /// The transaction, or what was done since so many savepoints, is undone: its cursors go.
    pub(super) fn drop_cursors(&mut self, savepoints: usize) {
        self.cursors.retain(|_, cursor| cursor.level.is_none_or(|level| level < savepoints));
    }
}

async fn count_rows(mut rows: RowStream) -> Result<usize> {
    let mut count = 0;
    while let Some(batch) = rows.next().await {
        count += batch?.num_rows();
    }
    Ok(count)
}

fn no_cursor(name: &str) -> Error {
    Error::undefined_cursor(format!("cursor \"{name}\" does not exist"))
}
