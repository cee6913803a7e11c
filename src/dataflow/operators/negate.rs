//! Negate: the input with its weights turned around.

use crate::dataflow::operator::Context;
use crate::dataflow::operator::Operator;
use crate::delta::Delta;
use crate::error::Result;

/// Takes away what comes in.
pub struct Negate;

impl Operator for Negate {
    fn on_delta(&mut self, _port: usize, delta: Delta, cx: &mut Context<'_>) -> Result<()> {
        cx.out.push(delta.negate());
        Ok(())
    }
}
