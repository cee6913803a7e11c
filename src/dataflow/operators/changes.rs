//! Changes: each change of the input as a row that is only ever added.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;

use crate::dataflow::operator::Context;
use crate::dataflow::operator::Operator;
use crate::delta::{Delta, arrow_error};
use crate::error::Result;
use crate::types::{Column, schema_of};

/// Turns the weight of each row into a column, and inserts the row.
pub struct Changes {
    /// The output columns: those of the input, then the weight.
    schema: SchemaRef,
}

impl Changes {
    /// An operator with these output columns.
    pub fn new(columns: &[Column]) -> Changes {
        Changes { schema: schema_of(columns) }
    }
}

impl Operator for Changes {
    fn on_delta(&mut self, _port: usize, delta: Delta, cx: &mut Context<'_>) -> Result<()> {
        let weights = Arc::new(delta.weights_array().clone()) as ArrayRef;
        let columns = delta.batch().columns().iter().cloned().chain([weights]).collect();
        cx.out.push(Delta::inserts(RecordBatch::try_new(self.schema.clone(), columns).map_err(arrow_error)?));
        Ok(())
    }
}
