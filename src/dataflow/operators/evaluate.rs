//! Evaluation of expressions over whole deltas, in which each row's outcome is its own.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::array::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::physical_expr::PhysicalExpr;

use crate::dataflow::row_error;
use crate::dataflow::row_error::RowError;
use crate::delta::Delta;
use crate::error::Result;
use crate::functions::from_datafusion;

/// An expression bound to the columns of an operator's input.
pub type Expression = Arc<dyn PhysicalExpr>;

/// A piece of a delta with the value of each expression for each of its rows.
pub(super) type Evaluated = (Delta, Vec<ArrayRef>);

/// Evaluates all expressions over all rows. The pieces that come back, in the order of the rows, lack those rows for which
/// an expression failed; these go to `errors`.
///
/// Nearly always that is one piece. Where evaluation of a batch fails, each half of it is tried, down to the failing rows:
/// a batch with one of them costs twice as much as one without, and a logarithm of small pieces.
pub(super) fn evaluate(expressions: &[Expression], delta: Delta, errors: &mut Vec<RowError>) -> Result<Vec<Evaluated>> {
    let mut pieces = Vec::new();
    evaluate_piece(expressions, delta, errors, &mut pieces)?;
    Ok(pieces)
}

fn evaluate_piece(
    expressions: &[Expression],
    delta: Delta,
    errors: &mut Vec<RowError>,
    pieces: &mut Vec<Evaluated>,
) -> Result<()> {
    if delta.is_empty() {
        return Ok(());
    }
    match evaluate_batch(expressions, delta.batch()) {
        Ok(values) => pieces.push((delta, values)),
        Err(error) if delta.len() == 1 => {
            let input = row_error::describe(delta.batch(), 0)?;
            errors.push(RowError { error: from_datafusion(error), input, weight: delta.weights()[0] });
        }
        Err(_) => {
            let half = delta.len() / 2;
            evaluate_piece(expressions, delta.slice(0, half), errors, pieces)?;
            evaluate_piece(expressions, delta.slice(half, delta.len() - half), errors, pieces)?;
        }
    }
    Ok(())
}

/// The value of each expression for each row of a batch.
pub(super) fn evaluate_batch(
    expressions: &[Expression],
    batch: &RecordBatch,
) -> Result<Vec<ArrayRef>, DataFusionError> {
    expressions.iter().map(|e| e.evaluate(batch)?.into_array(batch.num_rows())).collect()
}
