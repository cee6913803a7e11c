//! Arrange: an input indexed by a key, kept once and shared by the joins that read it.
//!
//! The operator passes its input on at once and holds it back from its own index until the step is through, so that every
//! reader in a step sees the [`Arrangement`] as it was at the step's start: that is what makes a join
//! `ΔL⋈R + L⋈ΔR + ΔL⋈ΔR`, also where L and R are one.

mod arrangement;
mod cache;
mod chunks;
mod close;
mod lookup;
mod rows;
mod seal;

use std::cell::RefCell;
use std::mem;
use std::rc::Rc;

use arrow::array::{Array, BooleanArray};
use arrow::compute::{and, is_not_null};
use arrow::datatypes::SchemaRef;

use crate::dataflow::operator::Context;
use crate::dataflow::operator::Operator;
use crate::delta::{Delta, arrow_error};
use crate::error::Result;
use crate::ids::{Shard, TableId};
use crate::state::StateReader;
use crate::state::Writes;
use crate::types::{Column, schema_of};

pub use arrangement::Arrangement;
pub(in crate::dataflow::operators) use cache::Slot;

/// An arrangement as its owner and its readers on one worker hold it.
pub type SharedArrangement = Rc<RefCell<Arrangement>>;

/// The operator that owns an arrangement.
pub struct Arrange {
    /// The columns of input and output.
    schema: SchemaRef,
    /// The key's columns.
    key: Vec<usize>,
    /// Whether rows whose key holds a NULL are kept.
    null_safe: bool,
    /// This step's input.
    waiting: Vec<Delta>,
    /// The index.
    arrangement: SharedArrangement,
}

impl Arrange {
    /// An operator over an input of these columns, and the arrangement that it fills. With `fresh` there is nothing on
    /// disk yet: the view was just created.
    pub fn new(
        columns: &[Column],
        key: &[usize],
        null_safe: bool,
        table: TableId,
        closes_after_us: Option<i64>,
        fresh: bool,
    ) -> (Arrange, SharedArrangement) {
        let arrangement = Arrangement::new(columns, key, table, closes_after_us, fresh);
        let arrangement = Rc::new(RefCell::new(arrangement));
        let (schema, key) = (schema_of(columns), key.to_vec());
        (Arrange { schema, key, null_safe, waiting: Vec::new(), arrangement: arrangement.clone() }, arrangement)
    }

    /// The delta without the rows whose key holds a NULL: such a key equals none.
    fn without_null_keys(&self, delta: Delta) -> Result<Delta> {
        let mut keep: Option<BooleanArray> = None;
        for column in self.key.iter().map(|&k| delta.batch().column(k)).filter(|c| c.null_count() > 0) {
            let valid = is_not_null(column).map_err(arrow_error)?;
            keep = Some(match keep {
                Some(keep) => and(&keep, &valid).map_err(arrow_error)?,
                None => valid,
            });
        }
        keep.map_or(Ok(delta.clone()), |keep| delta.filter(&keep))
    }
}

impl Operator for Arrange {
    fn on_delta(&mut self, _port: usize, delta: Delta, cx: &mut Context<'_>) -> Result<()> {
        let delta = if self.null_safe { delta } else { self.without_null_keys(delta)? };
        if !delta.is_empty() {
            self.waiting.push(delta.clone());
            cx.out.push(delta);
        }
        Ok(())
    }

    fn on_step(&mut self, cx: &mut Context<'_>) -> Result<()> {
        let waiting = mem::take(&mut self.waiting);
        match waiting.is_empty() {
            true => Ok(()),
            false => self.arrangement.borrow_mut().receive(&Delta::concat(&self.schema, &waiting)?, cx.state),
        }
    }

    fn after_step(&mut self) -> Result<()> {
        self.arrangement.borrow_mut().apply();
        Ok(())
    }

    /// Readers above still want what this epoch closes: it goes when all is sealed.
    fn on_epoch(&mut self, cx: &mut Context<'_>) -> Result<()> {
        self.arrangement.borrow_mut().close(cx)
    }

    fn seal(&mut self, writes: &mut Writes) -> Result<()> {
        self.arrangement.borrow_mut().seal(writes)
    }

    fn warm(&mut self, shard: Shard, _last: bool, state: &StateReader) -> Result<()> {
        self.arrangement.borrow_mut().warm(shard, state)
    }

    fn memory_bytes(&self) -> usize {
        self.arrangement.borrow().memory_bytes()
    }

    fn shrink(&mut self, bytes: usize) {
        self.arrangement.borrow_mut().shrink(bytes);
    }
}
