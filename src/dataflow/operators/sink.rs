//! The end of a sink's plan: changes go out here. They are counted as they pass, and kept nowhere; a connector that is to deliver
//! each of them exactly once will have them recorded in the sink's changelog, and read them from there once they are committed.

use crate::dataflow::operator::Context;
use crate::dataflow::operator::Operator;
use crate::delta::Delta;
use crate::error::Result;

/// Lets changes go.
pub struct Sink;

impl Operator for Sink {
    fn on_delta(&mut self, _port: usize, delta: Delta, cx: &mut Context<'_>) -> Result<()> {
        cx.out.push(delta);
        Ok(())
    }
}
