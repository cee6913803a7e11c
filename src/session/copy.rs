//! COPY: rows out as they come, rows in as one transaction.

use crate::engine::Parameter;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::formats::copy::Batch;
use crate::formats::copy::Options;
use crate::formats::copy::Reader;
use crate::session::Session;
use crate::session::outcome::Outcome;
use crate::sql::bound::Bound;
use crate::sql::bound::CopyFrom;
use crate::sql::bound::Dml;
use crate::types::zone::Zone;

/// A COPY FROM STDIN that waits for its data: what the client sends goes to [`Session::copy_data`] and, at its end, to
/// [`Session::copy_done`].
pub struct CopyIn {
    reader: Reader,
    /// The write of one batch.
    insert: Dml,
    /// Rows written so far.
    rows: u64,
    /// Whether it is a transaction of its own.
    alone: bool,
}

impl CopyIn {
    /// Whether the client is to send no text.
    pub fn is_binary(&self) -> bool {
        self.reader.is_binary()
    }

    /// How many columns it is to send.
    pub fn width(&self) -> usize {
        self.reader.width()
    }
}

impl Session {
    /// COPY ... TO STDOUT.
    pub(super) async fn copy_to(
        &mut self,
        source: &Bound,
        options: &Options,
        parameters: &[Parameter],
        alone: bool,
    ) -> Result<Outcome> {
        match Box::pin(self.execute(source, parameters, alone)).await? {
            Outcome::Rows { columns, rows, .. } => Ok(Outcome::CopyOut { columns, rows, options: options.clone() }),
            _ => Err(Error::internal("the statement of a COPY gives no rows")),
        }
    }

    /// COPY ... FROM STDIN. It runs in a transaction also when it is alone: all of its rows are there, or none.
    pub(super) fn copy_from(&mut self, copy: &CopyFrom, alone: bool) -> Result<Outcome> {
        self.refuse_read_only("COPY FROM")?;
        self.begin_implicit();
        let zone = Zone::parse(self.settings.get("TimeZone"))?;
        let reader = Reader::new(copy.table.clone(), copy.columns.clone(), copy.options.clone(), zone);
        Ok(Outcome::CopyIn(Box::new(CopyIn { reader, insert: copy.insert.clone(), rows: 0, alone })))
    }

    /// Takes a piece of the data.
    pub async fn copy_data(&mut self, copy: &mut CopyIn, bytes: &[u8]) -> Result<()> {
        match copy.reader.push(bytes)? {
            Some(batch) => self.copy_batch(copy, &batch).await,
            None => Ok(()),
        }
    }

    /// All data are there; gives the command tag.
    pub async fn copy_done(&mut self, mut copy: CopyIn) -> Result<String> {
        let batch = copy.reader.finish()?;
        self.copy_batch(&mut copy, &batch).await?;
        if copy.alone {
            self.finish().await?;
        }
        Ok(format!("COPY {}", copy.rows))
    }

    /// The error of a client that gives up.
    pub fn copy_failed(&self, copy: &CopyIn, message: &str) -> Error {
        Error::cancelled(format!("COPY from stdin failed: {message}")).context(copy.reader.place())
    }

    async fn copy_batch(&mut self, copy: &mut CopyIn, batch: &Batch) -> Result<()> {
        let count = batch.rows.num_rows();
        if count == 0 {
            return Ok(());
        }
        if let Err(error) = self.write_copied(copy, batch, 0, count).await {
            return Err(match error.kind {
                Kind::UniqueViolation | Kind::NotNullViolation => self.blame(copy, batch, error).await,
                _ => error,
            });
        }
        copy.rows += count as u64;
        Ok(())
    }

    async fn write_copied(&mut self, copy: &CopyIn, batch: &Batch, from: usize, count: usize) -> Result<()> {
        let interrupt = self.interrupt.clone();
        let open = self.state.open().ok_or_else(|| Error::internal("a COPY has lost its transaction"))?;
        let written = open.transaction.write_given(&copy.insert, batch.rows.slice(from, count));
        interrupt.guard(written).await.map(drop)
    }

    /// Finds the line of the row that cannot be written, by halves. What is written meanwhile goes with the transaction.
    async fn blame(&mut self, copy: &CopyIn, batch: &Batch, error: Error) -> Error {
        let (mut from, mut count) = (0, batch.rows.num_rows());
        let mut error = error;
        while count > 1 {
            let half = count / 2;
            match self.write_copied(copy, batch, from, half).await {
                Ok(()) => {
                    from += half;
                    count -= half;
                }
                Err(found) => {
                    error = found;
                    count = half;
                }
            }
        }
        error.context(copy.reader.at(batch.lines[from]))
    }
}
