//! Repeat: each row as often as a column of it says. Linear, so it keeps nothing.

use arrow::array::AsArray;
use arrow::array::types::Int64Type;

use crate::dataflow::operator::Context;
use crate::dataflow::operator::Operator;
use crate::delta::Delta;
use crate::error::Result;

/// Multiplies weights.
pub struct Repeat {
    /// The column that says how often.
    times: usize,
}

impl Repeat {
    /// An operator that repeats by this bigint column.
    pub fn new(times: usize) -> Repeat {
        Repeat { times }
    }
}

impl Operator for Repeat {
    fn on_delta(&mut self, _port: usize, delta: Delta, cx: &mut Context<'_>) -> Result<()> {
        let times = delta.batch().column(self.times).as_primitive::<Int64Type>();
        let weights = delta.weights().iter().zip(times).map(|(weight, times)| weight * times.unwrap_or(0));
        cx.out.push(Delta::new(delta.batch().clone(), weights.collect::<Vec<_>>().into()));
        Ok(())
    }
}
