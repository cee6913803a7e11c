//! Join: all pairs of rows from two arrangements whose keys are equal.
//!
//! With L and R as they were at the step's start and ΔL and ΔR what the step brings, the answer changes by
//! `ΔL⋈R + L⋈ΔR + ΔL⋈ΔR`. Both arrangements apply their deltas only after the step, so they are L and R; and as the three
//! terms never look at which side is which object, a collection may be joined with itself over one arrangement. Where a side
//! takes rows back, the terms may cancel each other; what is put out is consolidated then, so that joins over joins do not
//! multiply what is not there.

use std::mem;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use hashbrown::HashTable;

use crate::dataflow::operator::Context;
use crate::dataflow::operator::Operator;
use crate::dataflow::operators::arrange::SharedArrangement;
use crate::delta::{Delta, arrow_error, consolidate};
use crate::error::{Error, Result};
use crate::state::codec;
use crate::state::codec::ByteRows;
use crate::types::schema_of;

/// The equi-join of two arrangements: the left's columns, then the right's. Weights multiply.
pub struct Join {
    /// What the left input is indexed in.
    left: SharedArrangement,
    /// What the right input is indexed in.
    right: SharedArrangement,
    /// The columns of left, right and output.
    schemas: [SchemaRef; 3],
    /// This step's input, by port.
    waiting: [Vec<Delta>; 2],
}

/// So many rows are put out in one delta.
const ROWS_OUT: usize = 8192;

/// One side's delta and the keys of its rows.
struct Side {
    delta: Delta,
    keys: ByteRows,
}

impl Side {
    fn takes_back(&self) -> bool {
        self.delta.weights().iter().any(|weight| *weight < 0)
    }
}

/// Pairs found: rows of a delta, by number, and what each was found with.
struct Pairs<T> {
    rows: Vec<u32>,
    others: Vec<T>,
    weights: Vec<i64>,
}

impl Join {
    /// An operator over two arrangements whose keys have the same types. Port 0 takes what the left one passes on, port 1
    /// what the right one does.
    pub fn new(left: SharedArrangement, right: SharedArrangement) -> Join {
        let (l, r) = (left.borrow().columns().to_vec(), right.borrow().columns().to_vec());
        let schemas = [schema_of(&l), schema_of(&r), schema_of(&[l, r].concat())];
        Join { left, right, schemas, waiting: Default::default() }
    }

    fn side(&mut self, port: usize) -> Result<Option<Side>> {
        let waiting = mem::take(&mut self.waiting[port]);
        if waiting.is_empty() {
            return Ok(None);
        }
        let delta = Delta::concat(&self.schemas[port], &waiting)?;
        let arrangement = if port == 0 { &self.left } else { &self.right };
        let keys = arrangement.borrow().keys_of(&delta)?;
        Ok(Some(Side { delta, keys }))
    }

    /// A delta of one side with the arrangement of the other.
    fn join_stored(&self, side: &Side, left: bool, cx: &mut Context<'_>) -> Result<()> {
        let other = if left { &self.right } else { &self.left };
        let slots = other.borrow_mut().find(&side.keys, cx.state)?;
        let other = other.borrow();
        let mut put_out = |pairs: &mut Pairs<&[u8]>| -> Result<()> {
            let mine = pairs.take_rows(&side.delta)?;
            let theirs = other.decode(pairs.others.iter().copied())?;
            let columns = if left { [mine, theirs] } else { [theirs, mine] };
            cx.out.push(self.output(columns, mem::take(&mut pairs.weights))?);
            pairs.clear();
            Ok(())
        };
        let mut pairs = Pairs::new();
        for (row, slot) in slots.iter().enumerate() {
            let Some(slot) = slot else { continue };
            for (weight, bytes) in other.rows_of(*slot) {
                pairs.push(row, bytes, side.delta.weights()[row], weight)?;
                if pairs.rows.len() == ROWS_OUT {
                    put_out(&mut pairs)?;
                }
            }
        }
        if pairs.rows.is_empty() { Ok(()) } else { put_out(&mut pairs) }
    }

    /// The deltas of both sides with each other.
    fn join_deltas(&self, left: &Side, right: &Side, cx: &mut Context<'_>) -> Result<()> {
        let index = Index::new(&right.keys);
        let mut put_out = |pairs: &mut Pairs<u32>| -> Result<()> {
            let others = UInt32Array::from(mem::take(&mut pairs.others));
            let columns = [pairs.take_rows(&left.delta)?, take_rows(&right.delta, &others)?];
            cx.out.push(self.output(columns, mem::take(&mut pairs.weights))?);
            pairs.clear();
            Ok(())
        };
        let mut pairs = Pairs::new();
        for (row, key) in left.keys.iter().enumerate() {
            for other in index.rows_of(key) {
                pairs.push(row, other, left.delta.weights()[row], right.delta.weights()[other as usize])?;
                if pairs.rows.len() == ROWS_OUT {
                    put_out(&mut pairs)?;
                }
            }
        }
        if pairs.rows.is_empty() { Ok(()) } else { put_out(&mut pairs) }
    }

    fn output(&self, columns: [Vec<ArrayRef>; 2], weights: Vec<i64>) -> Result<Delta> {
        let options = RecordBatchOptions::new().with_row_count(Some(weights.len()));
        let batch = RecordBatch::try_new_with_options(self.schemas[2].clone(), columns.concat(), &options);
        Ok(Delta::new(batch.map_err(arrow_error)?, weights.into()))
    }
}

impl Operator for Join {
    fn on_delta(&mut self, port: usize, delta: Delta, _cx: &mut Context<'_>) -> Result<()> {
        self.waiting[port].push(delta);
        Ok(())
    }

    fn on_step(&mut self, cx: &mut Context<'_>) -> Result<()> {
        let (left, right) = (self.side(0)?, self.side(1)?);
        let before = cx.out.len();
        if let Some(left) = &left {
            self.join_stored(left, true, cx)?;
        }
        if let Some(right) = &right {
            self.join_stored(right, false, cx)?;
        }
        let (Some(left), Some(right)) = (&left, &right) else { return Ok(()) };
        self.join_deltas(left, right, cx)?;
        if left.takes_back() || right.takes_back() {
            let put_out = consolidate(&Delta::concat(&self.schemas[2], &cx.out.split_off(before))?)?;
            cx.out.extend(
                (0..put_out.len()).step_by(ROWS_OUT).map(|at| put_out.slice(at, ROWS_OUT.min(put_out.len() - at))),
            );
        }
        Ok(())
    }
}

impl<T> Pairs<T> {
    fn new() -> Pairs<T> {
        Pairs { rows: Vec::new(), others: Vec::new(), weights: Vec::new() }
    }

    fn push(&mut self, row: usize, other: T, weight: i64, other_weight: i64) -> Result<()> {
        let weight = weight.checked_mul(other_weight);
        self.weights.push(weight.ok_or_else(|| Error::out_of_range("too many equal rows in a join"))?);
        self.rows.push(row as u32);
        self.others.push(other);
        Ok(())
    }

    fn take_rows(&mut self, delta: &Delta) -> Result<Vec<ArrayRef>> {
        take_rows(delta, &UInt32Array::from(mem::take(&mut self.rows)))
    }

    fn clear(&mut self) {
        *self = Pairs::new();
    }
}

fn take_rows(delta: &Delta, rows: &UInt32Array) -> Result<Vec<ArrayRef>> {
    delta.batch().columns().iter().map(|c| take(c, rows, None).map_err(arrow_error)).collect()
}

/// The rows of a delta by key, for as long as one step.
struct Index<'a> {
    keys: &'a ByteRows,
    /// The last row of each key.
    last: HashTable<u32>,
    /// For each row the one before it with the same key; itself for the first.
    previous: Vec<u32>,
}

impl<'a> Index<'a> {
    fn new(keys: &'a ByteRows) -> Index<'a> {
        let mut index = Index { keys, last: HashTable::with_capacity(keys.len()), previous: Vec::new() };
        for (row, key) in keys.iter().enumerate() {
            let row = row as u32;
            let hash = |r: &u32| codec::hash(keys.get(*r as usize));
            match index.last.find_mut(codec::hash(key), |r| keys.get(*r as usize) == key) {
                Some(last) => index.previous.push(mem::replace(last, row)),
                None => {
                    index.last.insert_unique(codec::hash(key), row, hash);
                    index.previous.push(row);
                }
            }
        }
        index
    }

    fn rows_of(&self, key: &[u8]) -> impl Iterator<Item = u32> {
        let last = self.last.find(codec::hash(key), |r| self.keys.get(*r as usize) == key).copied();
        std::iter::successors(last, |row| Some(self.previous[*row as usize]).filter(|previous| previous != row))
    }
}
