//! Project: one output column for each expression.

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;

use crate::dataflow::operator::Context;
use crate::dataflow::operator::Operator;
use crate::dataflow::operators::evaluate::Expression;
use crate::dataflow::operators::evaluate::evaluate;
use crate::delta::{Delta, arrow_error};
use crate::error::Result;
use crate::types::{Column, schema_of};

/// Computes its output columns from each row by itself. A row that fails is reported and left out.
pub struct Project {
    /// One for each output column.
    expressions: Vec<Expression>,
    /// The output columns.
    schema: SchemaRef,
}

impl Project {
    /// An operator with these output columns, each of its expression's type.
    pub fn new(expressions: Vec<Expression>, columns: &[Column]) -> Project {
        Project { expressions, schema: schema_of(columns) }
    }
}

impl Operator for Project {
    fn on_delta(&mut self, _port: usize, delta: Delta, cx: &mut Context<'_>) -> Result<()> {
        for (rows, values) in evaluate(&self.expressions, delta, cx.errors)? {
            let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
            let batch = RecordBatch::try_new_with_options(self.schema.clone(), values, &options);
            cx.out.push(rows.with_batch(batch.map_err(arrow_error)?));
        }
        Ok(())
    }
}
