//! Anti join: the rows of one arrangement whose key another one does not have, in which each key is there once.
//!
//! With K as 1 for the keys that are there and 0 for the others, the answer is `L·(1−K)`, which a step changes by
//! `ΔL·(1−K−ΔK) − L·ΔK`: a row that comes with its partner never shows, and nothing is put out to be taken back.

use std::mem;

use arrow::array::{RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::datatypes::SchemaRef;

use crate::dataflow::operator::Context;
use crate::dataflow::operator::Operator;
use crate::dataflow::operators::arrange::SharedArrangement;
use crate::delta::{Delta, arrow_error};
use crate::error::{Error, Result};
use crate::state::codec::ByteRows;
use crate::state::slots::KeySlots;
use crate::types::schema_of;

/// The rows of the left arrangement whose key the right one does not have.
pub struct Anti {
    /// What the rows are indexed in.
    left: SharedArrangement,
    /// The keys that take rows away.
    right: SharedArrangement,
    /// The columns of both.
    schemas: [SchemaRef; 2],
    /// This step's input, by port.
    waiting: [Vec<Delta>; 2],
}

/// So many rows are put out in one delta.
const ROWS_OUT: usize = 8192;

/// How a step changes the number of times that keys are there.
struct Turns {
    keys: KeySlots,
    by_slot: Vec<i64>,
}

impl Anti {
    /// An operator over two arrangements whose keys have the same types. Port 0 takes what the left one passes on, port 1
    /// what the right one does.
    pub fn new(left: SharedArrangement, right: SharedArrangement) -> Anti {
        let schemas = [schema_of(left.borrow().columns()), schema_of(right.borrow().columns())];
        Anti { left, right, schemas, waiting: Default::default() }
    }

    fn step(&mut self, port: usize) -> Result<(Delta, ByteRows)> {
        let delta = Delta::concat(&self.schemas[port], &mem::take(&mut self.waiting[port]))?;
        let arrangement = if port == 0 { &self.left } else { &self.right };
        let keys = arrangement.borrow().keys_of(&delta)?;
        Ok((delta, keys))
    }

    /// New rows, as far as their keys are not there when the step is through.
    fn rows_alone(&self, rows: &Delta, keys: &ByteRows, turns: &Turns, cx: &mut Context<'_>) -> Result<()> {
        let slots = self.right.borrow_mut().find(keys, cx.state)?;
        let right = self.right.borrow();
        let (mut at, mut weights) = (Vec::new(), Vec::new());
        for (row, (key, slot)) in keys.iter().zip(slots).enumerate() {
            let before = slot.map_or(0, |slot| right.rows_of(slot).map(|(weight, _)| weight).sum::<i64>());
            let weight = rows.weights()[row].checked_mul(1 - before - turns.of(key)).ok_or_else(too_many)?;
            if weight != 0 {
                at.push(row as u32);
                weights.push(weight);
            }
        }
        if !at.is_empty() {
            cx.out.push(Delta::new(rows.take(&UInt32Array::from(at))?.batch().clone(), weights.into()));
        }
        Ok(())
    }

    /// Old rows whose key comes or goes.
    fn rows_turned(&self, turns: &Turns, cx: &mut Context<'_>) -> Result<()> {
        let (keys, turns) = turns.changed();
        let slots = self.left.borrow_mut().find(&keys, cx.state)?;
        let left = self.left.borrow();
        let (mut rows, mut weights) = (Vec::new(), Vec::new());
        let mut put_out = |rows: &mut Vec<&[u8]>, weights: &mut Vec<i64>| -> Result<()> {
            let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
            let columns = left.decode(mem::take(rows).into_iter())?;
            let batch = RecordBatch::try_new_with_options(self.schemas[0].clone(), columns, &options);
            cx.out.push(Delta::new(batch.map_err(arrow_error)?, mem::take(weights).into()));
            Ok(())
        };
        for (slot, turn) in slots.into_iter().zip(turns) {
            let Some(slot) = slot else { continue };
            for (weight, bytes) in left.rows_of(slot) {
                rows.push(bytes);
                weights.push(weight.checked_mul(-turn).ok_or_else(too_many)?);
                if rows.len() == ROWS_OUT {
                    put_out(&mut rows, &mut weights)?;
                }
            }
        }
        if rows.is_empty() { Ok(()) } else { put_out(&mut rows, &mut weights) }
    }
}

impl Operator for Anti {
    fn on_delta(&mut self, port: usize, delta: Delta, _cx: &mut Context<'_>) -> Result<()> {
        self.waiting[port].push(delta);
        Ok(())
    }

    fn on_step(&mut self, cx: &mut Context<'_>) -> Result<()> {
        let ((rows, rows_keys), (partners, keys)) = (self.step(0)?, self.step(1)?);
        let turns = Turns::new(&keys, partners.weights());
        if !rows.is_empty() {
            self.rows_alone(&rows, &rows_keys, &turns, cx)?;
        }
        if keys.is_empty() { Ok(()) } else { self.rows_turned(&turns, cx) }
    }
}

impl Turns {
    fn new(keys: &ByteRows, weights: &[i64]) -> Turns {
        let (mut table, mut slots) = (KeySlots::default(), Vec::new());
        table.lookup_or_insert(keys, &mut slots, &mut Vec::new());
        let mut by_slot = vec![0; table.len()];
        slots.iter().zip(weights).for_each(|(slot, weight)| by_slot[*slot as usize] += weight);
        Turns { keys: table, by_slot }
    }

    fn of(&self, key: &[u8]) -> i64 {
        let slot = if self.by_slot.is_empty() { None } else { self.keys.get(key) };
        slot.map_or(0, |slot| self.by_slot[slot as usize])
    }

    /// The keys that come or go, and how often.
    fn changed(&self) -> (ByteRows, Vec<i64>) {
        let (mut keys, mut turns) = (ByteRows::default(), Vec::new());
        for (slot, turn) in self.by_slot.iter().enumerate().filter(|(_, turn)| **turn != 0) {
            keys.push(self.keys.key(slot as u32));
            turns.push(*turn);
        }
        (keys, turns)
    }
}

fn too_many() -> Error {
    Error::out_of_range("too many equal rows in a join")
}
