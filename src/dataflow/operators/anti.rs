//! Anti join: the rows of one arrangement whose key another one does not have.
//!
//! With K as 1 for the keys that are there and 0 for the others, the answer is `L·(1−K)`, which a step changes by
//! `ΔL·(1−K−ΔK) − L·ΔK`: a row that comes with its partner never shows, and nothing is put out to be taken back. The right side has
//! each key once; while joins below owe something, a key may be there twice for a moment, which makes no difference. An answer that
//! would be too large comes later: see [`backlog`].

use std::mem;

use arrow::array::{RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::datatypes::SchemaRef;

use crate::dataflow::operator::Context;
use crate::dataflow::operators::arrange::SharedArrangement;
use crate::dataflow::operators::arrange::Slot;
use crate::dataflow::operators::backlog;
use crate::dataflow::operators::backlog::Backlog;
use crate::dataflow::operators::backlog::Class;
use crate::dataflow::operators::backlog::Paired;
use crate::dataflow::operators::backlog::Part;
use crate::dataflow::operators::backlog::Side;
use crate::dataflow::operators::backlog::Sides;
use crate::dataflow::operators::backlog::Task;
use crate::delta::Delta;
use crate::delta::arrow_error;
use crate::error::{Error, Result};
use crate::state::StateReader;
use crate::state::codec::ByteRows;
use crate::state::slots::KeySlots;
use crate::types::schema_of;

/// The rows of the left arrangement whose key the right one does not have.
pub struct Anti {
    /// The columns of the left side and of the output.
    schema: SchemaRef,
    /// The rows, and the keys that take rows away.
    sides: Backlog,
}

/// How often keys are there, before a change and after it.
struct Turns {
    keys: KeySlots,
    by_slot: Vec<[i64; 2]>,
}

impl Anti {
    /// An operator over two arrangements whose keys have the same types. Port 0 takes what the left one passes on, port 1
    /// what the right one does.
    pub fn new(left: SharedArrangement, right: SharedArrangement) -> Anti {
        let schema = schema_of(left.borrow().columns());
        Anti { schema, sides: Backlog::new(left, right) }
    }

    /// How often keys are there, before and after some changes: by how much what is there differs from what the arrangement has.
    fn turns(&self, differ: [&[(&Side, i64)]; 2], state: &StateReader) -> Result<Turns> {
        let (mut keys, mut slots) = (KeySlots::default(), Vec::new());
        for (side, _) in differ.into_iter().flatten() {
            keys.lookup_or_insert(&side.keys, &mut slots, &mut Vec::new());
        }
        let mut all = ByteRows::default();
        (0..keys.len() as u32).for_each(|slot| all.push(keys.key(slot)));
        let there = self.there(&all, state)?;
        let mut by_slot = there.into_iter().map(|there| [there, there]).collect::<Vec<_>>();
        let mut slots = slots.into_iter();
        for (at, sides) in differ.into_iter().enumerate() {
            for (side, sign) in sides {
                let changes = side.delta.weights().iter().zip(slots.by_ref());
                changes.for_each(|(weight, slot)| by_slot[slot as usize][at] += sign * weight);
            }
        }
        Ok(Turns { keys, by_slot })
    }

    /// How often the right side's arrangement has keys.
    fn there(&self, keys: &ByteRows, state: &StateReader) -> Result<Vec<i64>> {
        self.sides.arrangements[1].borrow_mut().weights(keys, state)
    }

    /// Changed rows, as far as their keys are not there before the turns (0) or after them (1).
    fn rows_alone(&self, rows: &Side, (turns, at): (&Turns, usize), cx: &mut Context<'_>) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let there = self.there(&rows.keys, cx.state)?;
        let is_alone = |row: &u32| {
            let there = turns.of(rows.keys.get(*row as usize)).map_or(there[*row as usize], |turn| turn[at]);
            there <= 0
        };
        let alone = (0..rows.delta.len() as u32).filter(is_alone).collect::<Vec<_>>();
        if !alone.is_empty() {
            cx.out.push(rows.delta.take(&UInt32Array::from(alone))?);
        }
        Ok(())
    }

    /// Known rows, or those of a class, whose key comes or goes, at these places.
    fn rows_turned(
        &self,
        slots: &[Option<Slot>],
        turns: &[i64],
        class: Option<Class>,
        cx: &mut Context<'_>,
    ) -> Result<()> {
        let left = self.sides.arrangements[0].borrow();
        let (mut rows, mut weights) = (Vec::new(), Vec::new());
        let mut put_out = |rows: &mut Vec<&[u8]>, weights: &mut Vec<i64>| -> Result<()> {
            let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
            let columns = left.decode(mem::take(rows).into_iter())?;
            let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options);
            cx.out.push(Delta::new(batch.map_err(arrow_error)?, mem::take(weights).into()));
            Ok(())
        };
        for (slot, turn) in slots.iter().zip(turns) {
            let Some(slot) = slot else { continue };
            for (weight, bytes) in left.rows_of(*slot) {
                if class.is_some_and(|class| !class.has(bytes)) {
                    continue;
                }
                rows.push(bytes);
                weights.push(weight.checked_mul(-turn).ok_or_else(too_many)?);
                if rows.len() == backlog::ROWS_OUT {
                    put_out(&mut rows, &mut weights)?;
                }
            }
        }
        if rows.is_empty() { Ok(()) } else { put_out(&mut rows, &mut weights) }
    }
}

impl Paired for Anti {
    fn sides(&self) -> &Backlog {
        &self.sides
    }

    fn backlog(&mut self) -> &mut Backlog {
        &mut self.sides
    }

    fn answer(&mut self, [rows, partners]: &Sides, most: usize, cx: &mut Context<'_>) -> Result<bool> {
        let turns = self.turns([&[], &[(partners, 1)]], cx.state)?;
        let (keys, changes) = turns.changed();
        let mut room = most;
        let found = self.sides.arrangements[0].borrow_mut().find_within(&keys, &mut room, cx.state)?;
        let Some(slots) = found else { return Ok(false) };
        self.rows_alone(rows, (&turns, 1), cx)?;
        self.rows_turned(&slots, &changes, None, cx)?;
        Ok(true)
    }

    fn settle(&mut self, Task { owed: [rows, partners], later, part }: &Task, cx: &mut Context<'_>) -> Result<()> {
        let (from, class) = (cx.out.len(), part.class());
        let turns = self.turns([&[(&later[1], -1), (partners, -1)], &[(&later[1], -1)]], cx.state)?;
        if matches!(part, Part::Whole | Part::OfRight(_)) && class.is_none_or(Class::is_first) {
            self.rows_alone(rows, (&turns, 0), cx)?;
        }
        if matches!(part, Part::Whole | Part::OfLeft(_)) && !partners.is_empty() {
            let (keys, changes) = turns.changed();
            let slots = self.sides.arrangements[0].borrow_mut().find(&keys, cx.state)?;
            self.rows_turned(&slots, &changes, class, cx)?;
            let since = self.sides.of_class(&later[0], 0, class)?;
            let turn = |row: usize| turns.turn(since.keys.get(row));
            let weights = since.delta.weights().iter().enumerate().map(|(row, weight)| weight * turn(row));
            let weights = weights.collect::<Vec<_>>();
            let turned = (0..weights.len() as u32).filter(|row| weights[*row as usize] != 0).collect::<Vec<_>>();
            cx.out.push(Delta::new(since.delta.batch().clone(), weights.into()).take(&UInt32Array::from(turned))?);
        }
        backlog::sum_up(&self.schema, from, cx.out)
    }
}

impl Turns {
    /// How often a key is there before and after, if it may have changed.
    fn of(&self, key: &[u8]) -> Option<[i64; 2]> {
        let slot = if self.by_slot.is_empty() { None } else { self.keys.get(key) };
        slot.map(|slot| self.by_slot[slot as usize])
    }

    /// 1 for a key that comes, −1 for one that goes.
    fn turn(&self, key: &[u8]) -> i64 {
        self.of(key).map_or(0, turn)
    }

    /// The keys that come or go, and which they do.
    fn changed(&self) -> (ByteRows, Vec<i64>) {
        let (mut keys, mut turns) = (ByteRows::default(), Vec::new());
        for (slot, turned) in self.by_slot.iter().copied().map(turn).enumerate().filter(|(_, turn)| *turn != 0) {
            keys.push(self.keys.key(slot as u32));
            turns.push(turned);
        }
        (keys, turns)
    }
}

fn turn([before, after]: [i64; 2]) -> i64 {
    i64::from(after > 0) - i64::from(before > 0)
}

fn too_many() -> Error {
    Error::out_of_range("too many equal rows in a join")
}
