//! The beginning of a plan: takes the columns it wants of an object's changes.

use arrow::array::AsArray;
use arrow::array::BooleanArray;
use arrow::array::RecordBatch;
use arrow::array::RecordBatchOptions;
use arrow::datatypes::SchemaRef;

use crate::dataflow::operator::Context;
use crate::dataflow::operator::Operator;
use crate::delta::Delta;
use crate::delta::arrow_error;
use crate::error::Result;
use crate::types::Column;
use crate::types::schema_of;

/// The column, behind the stored ones, that marks which values of a row could not be had: a bit for each column, the lowest
/// of the first byte for the first, or NULL. Only batches with such rows have it.
pub const FAULTS_COLUMN: &str = "ms_faults";

/// Picks columns of the stored rows of an object, and leaves out rows in which one of them could not be had.
pub struct Input {
    /// Which.
    columns: Vec<usize>,
    /// What they are called from here on.
    schema: SchemaRef,
}

impl Input {
    /// An input that takes these stored columns.
    pub fn new(columns: &[usize], output: &[Column]) -> Input {
        Input { columns: columns.to_vec(), schema: schema_of(output) }
    }
}

impl Input {
    fn without_faults(&self, delta: Delta) -> Result<Delta> {
        let last = delta.batch().schema().fields().last().is_some_and(|field| field.name() == FAULTS_COLUMN);
        let marks = delta.batch().columns().last().filter(|_| last);
        let Some(marks) = marks.and_then(|marks| marks.as_binary_opt::<i32>()) else { return Ok(delta) };
        let bad =
            |bits: &[u8]| self.columns.iter().any(|c| bits.get(c / 8).is_some_and(|byte| byte >> (c % 8) & 1 == 1));
        let keep = marks.iter().map(|bits| Some(!bits.is_some_and(bad))).collect::<BooleanArray>();
        delta.filter(&keep)
    }
}

impl Operator for Input {
    fn on_delta(&mut self, _port: usize, delta: Delta, cx: &mut Context<'_>) -> Result<()> {
        let delta = self.without_faults(delta)?;
        let columns = self.columns.iter().map(|&c| delta.batch().column(c).clone()).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(delta.len()));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options).map_err(arrow_error)?;
        cx.out.push(delta.with_batch(batch));
        Ok(())
    }
}
