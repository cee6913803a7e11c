//! Filter: the rows for which a predicate is true.

use std::slice;

use arrow::array::Array;
use arrow::array::AsArray;

use crate::dataflow::operator::Context;
use crate::dataflow::operator::Operator;
use crate::dataflow::operators::evaluate::Expression;
use crate::dataflow::operators::evaluate::evaluate;
use crate::delta::Delta;
use crate::error::{Error, Result};

/// Lets through what its predicate is true for, with all columns. A row that fails is reported and left out.
pub struct Filter {
    /// Of type boolean.
    predicate: Expression,
}

impl Filter {
    /// An operator with this predicate.
    pub fn new(predicate: Expression) -> Filter {
        Filter { predicate }
    }
}

impl Operator for Filter {
    fn on_delta(&mut self, _port: usize, delta: Delta, cx: &mut Context<'_>) -> Result<()> {
        for (rows, values) in evaluate(slice::from_ref(&self.predicate), delta, cx.errors)? {
            let keep = values[0].as_boolean_opt().ok_or_else(|| Error::internal("a predicate is not boolean"))?;
            let rows = match keep.null_count() == 0 && keep.true_count() == keep.len() {
                true => rows,
                false => rows.filter(keep)?,
            };
            if !rows.is_empty() {
                cx.out.push(rows);
            }
        }
        Ok(())
    }
}
