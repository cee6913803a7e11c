//! Accumulators in columns: what one aggregate call keeps for all groups, by the slot of the group.
//!
//! Each kind of accumulator is a struct of vectors that implements [`Accumulators`]; a call has one boxed column of them,
//! never a boxed accumulator per group. The folding loops run over (slot, weight, value) with the type known.

use std::sync::Arc;

use arrow::array::Array;
use arrow::array::ArrayRef;
use arrow::array::AsArray;
use arrow::array::BooleanArray;
use arrow::array::Int64Array;
use arrow::buffer::NullBuffer;

use crate::error::Error;
use crate::error::Result;
use crate::state::Moves;

use super::record::put_integer;
use super::record::take_long;

/// The state of one aggregate call, for all groups in memory. Slots are those of the node's groups.
pub(super) trait Accumulators {
    /// Makes room for `slots` groups; new ones are empty.
    fn grow(&mut self, slots: usize);

    /// Follows the table of the groups when some have gone.
    fn compact(&mut self, moves: &Moves);

    /// Folds rows in. `values` is the argument's column; `count(*)` has none.
    fn update(&mut self, rows: &Rows<'_>, values: Option<&ArrayRef>) -> Result<()>;

    /// The results of these groups, one each. A group whose result cannot be has NULL, and an entry in `errors` under its index
    /// in `slots`.
    fn finish(&self, slots: &[u32], errors: &mut Vec<(usize, Error)>) -> Result<ArrayRef>;

    /// Appends one group's state to its record.
    fn write(&self, slot: u32, out: &mut Vec<u8>);

    /// Sets one group's state to what [`write`](Accumulators::write) wrote, and moves past it.
    fn read(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<()>;

    /// How much memory all this takes, in bytes.
    fn memory_bytes(&self) -> usize;
}

/// Rows to be folded into groups.
pub(super) struct Rows<'a> {
    /// The group of each row.
    pub slots: &'a [u32],
    /// The weight of each row.
    pub weights: &'a [i64],
    /// Which rows count; `None`: all.
    pub mask: Option<NullBuffer>,
}

impl Rows<'_> {
    /// Calls `fold(row, slot, weight)` for each row that counts.
    #[inline]
    pub fn each(&self, mut fold: impl FnMut(usize, usize, i64)) {
        match &self.mask {
            None => {
                for (row, (slot, weight)) in self.slots.iter().zip(self.weights).enumerate() {
                    fold(row, *slot as usize, *weight);
                }
            }
            Some(mask) => {
                for row in mask.valid_indices() {
                    fold(row, self.slots[row] as usize, self.weights[row]);
                }
            }
        }
    }

    /// Whether every row that counts is an insert.
    pub fn only_inserts(&self) -> bool {
        let mut least = 1;
        self.each(|_, _, weight| least = least.min(weight));
        least > 0
    }
}

/// Which rows count for an aggregate: those where `filter`, if any, is true and `argument`, if any, is not NULL.
pub(super) fn mask(argument: Option<&ArrayRef>, filter: Option<&ArrayRef>) -> Option<NullBuffer> {
    let argument = argument.and_then(|values| values.logical_nulls());
    let filter = filter.map(|values| {
        let values = values.as_boolean();
        match values.nulls() {
            Some(nulls) => NullBuffer::new(values.values() & nulls.inner()),
            None => NullBuffer::new(values.values().clone()),
        }
    });
    NullBuffer::union(argument.as_ref(), filter.as_ref()).filter(|mask| mask.null_count() > 0)
}

/// The argument's column, of a call that has one.
pub(super) fn argument(values: Option<&ArrayRef>) -> Result<&ArrayRef> {
    values.ok_or_else(|| Error::internal("an aggregate without its argument"))
}

/// `count(*)` and `count(x)`.
#[derive(Default)]
pub(super) struct Counts(Vec<i64>);

impl Accumulators for Counts {
    fn grow(&mut self, slots: usize) {
        self.0.resize(slots, 0);
    }

    fn compact(&mut self, moves: &Moves) {
        moves.apply(&mut self.0);
    }

    fn update(&mut self, rows: &Rows<'_>, _values: Option<&ArrayRef>) -> Result<()> {
        rows.each(|_, slot, weight| self.0[slot] += weight);
        Ok(())
    }

    fn finish(&self, slots: &[u32], _errors: &mut Vec<(usize, Error)>) -> Result<ArrayRef> {
        Ok(Arc::new(Int64Array::from_iter_values(slots.iter().map(|slot| self.0[*slot as usize]))))
    }

    fn write(&self, slot: u32, out: &mut Vec<u8>) {
        put_integer(out, self.0[slot as usize] as i128);
    }

    fn read(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<()> {
        self.0[slot as usize] = take_long(bytes)?;
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        self.0.len() * size_of::<i64>()
    }
}

/// Which of the two that count truths.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Quantifier {
    /// `bool_and`: no value is false.
    All,
    /// `bool_or`: some value is true.
    Any,
}

/// `bool_and` and `bool_or`: how many values are true, and how many false.
pub(super) struct Truths {
    quantifier: Quantifier,
    /// Rows with true, by slot.
    truths: Vec<i64>,
    /// Rows with false, by slot.
    lies: Vec<i64>,
}

impl Truths {
    pub fn new(quantifier: Quantifier) -> Truths {
        Truths { quantifier, truths: Vec::new(), lies: Vec::new() }
    }
}

impl Accumulators for Truths {
    fn grow(&mut self, slots: usize) {
        self.truths.resize(slots, 0);
        self.lies.resize(slots, 0);
    }

    fn compact(&mut self, moves: &Moves) {
        moves.apply(&mut self.truths);
        moves.apply(&mut self.lies);
    }

    fn update(&mut self, rows: &Rows<'_>, values: Option<&ArrayRef>) -> Result<()> {
        let values = argument(values)?.as_boolean().values();
        rows.each(|row, slot, weight| {
            let counts = if values.value(row) { &mut self.truths } else { &mut self.lies };
            counts[slot] += weight;
        });
        Ok(())
    }

    fn finish(&self, slots: &[u32], _errors: &mut Vec<(usize, Error)>) -> Result<ArrayRef> {
        let results = slots.iter().map(|slot| {
            let (truths, lies) = (self.truths[*slot as usize], self.lies[*slot as usize]);
            (truths != 0 || lies != 0).then_some(match self.quantifier {
                Quantifier::All => lies == 0,
                Quantifier::Any => truths != 0,
            })
        });
        Ok(Arc::new(results.collect::<BooleanArray>()))
    }

    fn write(&self, slot: u32, out: &mut Vec<u8>) {
        put_integer(out, self.truths[slot as usize] as i128);
        put_integer(out, self.lies[slot as usize] as i128);
    }

    fn read(&mut self, slot: u32, bytes: &mut &[u8]) -> Result<()> {
        self.truths[slot as usize] = take_long(bytes)?;
        self.lies[slot as usize] = take_long(bytes)?;
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        (self.truths.len() + self.lies.len()) * size_of::<i64>()
    }
}
