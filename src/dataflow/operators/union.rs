//! Union: the sum of all inputs.

use arrow::datatypes::SchemaRef;

use crate::dataflow::operator::Context;
use crate::dataflow::operator::Operator;
use crate::delta::Delta;
use crate::error::Result;
use crate::types::{Column, schema_of};

/// Passes on what any port brings, under its own column names.
pub struct Union {
    /// The output columns.
    schema: SchemaRef,
}

impl Union {
    /// An operator whose inputs all have columns of these types.
    pub fn new(columns: &[Column]) -> Union {
        Union { schema: schema_of(columns) }
    }
}

impl Operator for Union {
    fn on_delta(&mut self, _port: usize, delta: Delta, cx: &mut Context<'_>) -> Result<()> {
        cx.out.push(delta.with_schema(self.schema.clone())?);
        Ok(())
    }
}
