//! Values: constant rows, there from the view's creation on.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};

use crate::dataflow::operator::Context;
use crate::dataflow::operator::Operator;
use crate::dataflow::operators::evaluate::Expression;
use crate::dataflow::operators::evaluate::evaluate_batch;
use crate::delta::{Delta, arrow_error};
use crate::error::{Error, Result};
use crate::functions::from_datafusion;
use crate::types::{Column, schema_of};

/// Puts out its rows once, on one worker.
pub struct Values {
    /// One expression for each row and column; they read no input.
    rows: Vec<Vec<Expression>>,
    /// The output columns.
    schema: SchemaRef,
}

impl Values {
    /// An operator with these rows.
    pub fn new(rows: Vec<Vec<Expression>>, columns: &[Column]) -> Values {
        Values { rows, schema: schema_of(columns) }
    }
}

impl Operator for Values {
    fn on_delta(&mut self, _port: usize, _delta: Delta, _cx: &mut Context<'_>) -> Result<()> {
        Err(Error::internal("constant rows take no input"))
    }

    fn on_create(&mut self, first: bool, cx: &mut Context<'_>) -> Result<()> {
        if !first || self.rows.is_empty() {
            return Ok(());
        }
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        let nothing = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options);
        let nothing = nothing.map_err(arrow_error)?;
        let mut deltas = Vec::with_capacity(self.rows.len());
        for row in &self.rows {
            let values = evaluate_batch(row, &nothing).map_err(from_datafusion)?;
            let batch = RecordBatch::try_new_with_options(self.schema.clone(), values, &options);
            deltas.push(Delta::inserts(batch.map_err(arrow_error)?));
        }
        cx.out.push(Delta::concat(&self.schema, &deltas)?);
        Ok(())
    }
}
