//! Window: each row once for each window that it lies in.

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;

use crate::dataflow::operator::Context;
use crate::dataflow::operator::Operator;
use crate::dataflow::row_error::RowError;
use crate::dataflow::row_error::describe;
use crate::delta::{Delta, arrow_error};
use crate::error::{Error, Result};
use crate::functions::window::Pairs;
use crate::functions::window::Windows;
use crate::types::{Column, schema_of};

/// Pairs rows with windows. A row whose windows are out of range is reported and left out.
pub struct Window {
    /// The time of a row.
    time: usize,
    windows: Windows,
    /// The output columns: those of the input, then start and end of the window.
    schema: SchemaRef,
}

impl Window {
    /// An operator with these output columns.
    pub fn new(time: usize, windows: Windows, columns: &[Column]) -> Window {
        Window { time, windows, schema: schema_of(columns) }
    }

    /// Puts out the pairs of a delta; where one row fails, those of its halves, down to that row.
    fn put_out(&self, delta: Delta, cx: &mut Context<'_>) -> Result<()> {
        match self.windows.pairs(delta.batch().column(self.time)) {
            Ok(pairs) => cx.out.push(self.joined(delta, pairs)?),
            Err(error) if delta.len() == 1 => {
                let input = describe(delta.batch(), 0)?;
                cx.errors.push(RowError { error, input, weight: delta.weights()[0] });
            }
            Err(_) => {
                let half = delta.len() / 2;
                self.put_out(delta.slice(0, half), cx)?;
                self.put_out(delta.slice(half, delta.len() - half), cx)?;
            }
        }
        Ok(())
    }

    fn joined(&self, delta: Delta, Pairs { rows, start, end }: Pairs) -> Result<Delta> {
        let delta = match rows {
            Some(rows) => delta.take(&rows)?,
            None => delta,
        };
        let columns = delta.batch().columns().iter().cloned().chain([start, end]).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(delta.len()));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options);
        Ok(delta.with_batch(batch.map_err(arrow_error)?))
    }
}

impl Operator for Window {
    fn on_delta(&mut self, _port: usize, delta: Delta, cx: &mut Context<'_>) -> Result<()> {
        if delta.batch().num_columns() <= self.time {
            return Err(Error::internal("a window is assigned by a column that is not there"));
        }
        self.put_out(delta, cx)
    }
}
