//! The beginning of a plan: takes the columns it wants of an object's changes.

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

/// Picks columns of the stored rows of an object.
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

impl Operator for Input {
    fn on_delta(&mut self, _port: usize, delta: Delta, cx: &mut Context<'_>) -> Result<()> {
        let columns = self.columns.iter().map(|&c| delta.batch().column(c).clone()).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(delta.len()));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options).map_err(arrow_error)?;
        cx.out.push(delta.with_batch(batch));
        Ok(())
    }
}
