//! The rows of a SCROLL cursor: kept as they come, so that it can go back.

use arrow::array::RecordBatch;
use arrow::array::UInt64Array;
use arrow::compute::take_record_batch;
use futures::StreamExt;
use futures::stream::Fuse;
use tokio::time::Instant;

use crate::error::Error;
use crate::error::Result;
use crate::session::outcome::RowStream;
use crate::sql::bound::Direction;

/// So many bytes of rows may be kept.
const KEPT_BYTES_MAX: usize = 64 << 20;

/// Rows that were taken from a stream, and where in them a cursor stands.
pub(super) struct Scroll {
    stream: Fuse<RowStream>,
    kept: Vec<RecordBatch>,
    kept_rows: u64,
    kept_bytes: usize,
    /// Whether the stream has ended.
    ended: bool,
    /// The number of the row that the cursor stands on: 0 is before the first, one more than there are after the last.
    at: u64,
}

impl Scroll {
    /// Before the first of these rows.
    pub(super) fn new(stream: Fuse<RowStream>) -> Scroll {
        Scroll { stream, kept: Vec::new(), kept_rows: 0, kept_bytes: 0, ended: false, at: 0 }
    }

    /// Goes there; the rows that FETCH gives for it.
    pub(super) async fn go(&mut self, direction: Direction, deadline: Option<Instant>) -> Result<Vec<RecordBatch>> {
        let here = i64::try_from(self.at).unwrap_or(i64::MAX);
        match direction {
            Direction::All => self.forward(u64::MAX, deadline).await,
            Direction::Rows(count) if count > 0 => self.forward(count.unsigned_abs(), deadline).await,
            Direction::AllBack => self.back(u64::MAX),
            Direction::Rows(count) if count < 0 => self.back(count.unsigned_abs()),
            Direction::Rows(_) => self.one(self.at, deadline).await,
            Direction::Relative(count) => self.one(here.saturating_add(count).max(0).unsigned_abs(), deadline).await,
            Direction::Absolute(number) if number >= 0 => self.one(number.unsigned_abs(), deadline).await,
            Direction::Absolute(from_end) => {
                self.read(u64::MAX, None).await?;
                let number = (self.kept_rows + 1).saturating_sub(from_end.unsigned_abs());
                self.one(number, deadline).await
            }
        }
    }

    async fn forward(&mut self, count: u64, deadline: Option<Instant>) -> Result<Vec<RecordBatch>> {
        let first = self.at.saturating_add(1);
        let wanted = self.at.saturating_add(count);
        self.read(wanted, deadline).await?;
        let last = wanted.min(self.kept_rows);
        self.at = if self.ended && wanted > last { self.kept_rows + 1 } else { last.max(self.at) };
        Ok(self.rows(first, last))
    }

    fn back(&mut self, count: u64) -> Result<Vec<RecordBatch>> {
        let last = self.at.saturating_sub(1);
        let wanted = self.at.saturating_sub(count);
        self.at = wanted;
        let backwards = self.rows(wanted.max(1), last).into_iter().rev().map(|batch| {
            let order = UInt64Array::from_iter_values((0..batch.num_rows() as u64).rev());
            take_record_batch(&batch, &order).map_err(|error| Error::internal(error.to_string()))
        });
        backwards.collect()
    }

    /// Goes to a row and gives it alone.
    async fn one(&mut self, number: u64, deadline: Option<Instant>) -> Result<Vec<RecordBatch>> {
        self.read(number, deadline).await?;
        self.at = if number <= self.kept_rows { number } else { self.kept_rows + u64::from(self.ended) };
        Ok(if self.at == number && number > 0 { self.rows(number, number) } else { Vec::new() })
    }

    /// Keeps rows until there are so many, the stream ends, or it is time.
    async fn read(&mut self, rows: u64, deadline: Option<Instant>) -> Result<()> {
        while self.kept_rows < rows && !self.ended {
            let next = self.stream.next();
            let next = match deadline {
                Some(deadline) => match tokio::time::timeout_at(deadline, next).await {
                    Ok(next) => next,
                    Err(_) => return Ok(()),
                },
                None => next.await,
            };
            let Some(batch) = next.transpose()? else {
                self.ended = true;
                return Ok(());
            };
            self.kept_bytes += batch.get_array_memory_size();
            if self.kept_bytes > KEPT_BYTES_MAX {
                let message = "a SCROLL cursor keeps the rows that it has passed, and these are too many";
                return Err(Error::out_of_memory(message)
                    .hint("Declare the cursor without SCROLL, or let its query choose fewer rows."));
            }
            self.kept_rows += batch.num_rows() as u64;
            self.kept.push(batch);
        }
        Ok(())
    }

    /// The kept rows from one number to another, both of them too.
    fn rows(&self, first: u64, last: u64) -> Vec<RecordBatch> {
        let (mut rows, mut before) = (Vec::new(), 0);
        for batch in &self.kept {
            let count = batch.num_rows() as u64;
            let (from, to) = (first.saturating_sub(before + 1).min(count), last.saturating_sub(before).min(count));
            if from < to {
                rows.push(batch.slice(from as usize, (to - from) as usize));
            }
            before += count;
        }
        rows
    }
}
