//! Join: all pairs of rows from two arrangements whose keys are equal.
//!
//! With L and R as they were at the step's start and ΔL and ΔR what the step brings, the answer changes by
//! `ΔL⋈R + L⋈ΔR + ΔL⋈ΔR`. Both arrangements apply their deltas only after the step, so they are L and R; and as the three
//! terms never look at which side is which object, a collection may be joined with itself over one arrangement. Where a side
//! takes rows back, the terms may cancel each other; what is put out is consolidated then, so that joins over joins do not
//! multiply what is not there. An answer that would be too large comes later: see [`backlog`].

use std::mem;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use hashbrown::HashTable;

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
use crate::delta::{Delta, arrow_error};
use crate::error::{Error, Result};
use crate::state::codec;
use crate::state::codec::ByteRows;
use crate::types::schema_of;

/// The equi-join of two arrangements: the left's columns, then the right's. Weights multiply.
pub struct Join {
    /// The columns of the output.
    schema: SchemaRef,
    /// What it joins.
    sides: Backlog,
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
        let schema = schema_of(&[left.borrow().columns(), right.borrow().columns()].concat());
        Join { schema, sides: Backlog::new(left, right) }
    }

    /// Changes of one side, whose keys were found in the arrangement of the other at these places, with the rows there, or with those of
    /// a class.
    fn join_stored(
        &self,
        side: &Side,
        port: usize,
        (slots, class): (&[Option<Slot>], Option<Class>),
        cx: &mut Context<'_>,
    ) -> Result<()> {
        let other = self.sides.arrangements[1 - port].borrow();
        let mut put_out = |pairs: &mut Pairs<&[u8]>| -> Result<()> {
            let mine = pairs.take_rows(&side.delta)?;
            let theirs = other.decode(pairs.others.iter().copied())?;
            let columns = if port == 0 { [mine, theirs] } else { [theirs, mine] };
            cx.out.push(self.output(columns, mem::take(&mut pairs.weights))?);
            pairs.clear();
            Ok(())
        };
        let mut pairs = Pairs::new();
        for (row, slot) in slots.iter().enumerate() {
            let Some(slot) = slot else { continue };
            for (weight, bytes) in other.rows_of(*slot) {
                if class.is_some_and(|class| !class.has(bytes)) {
                    continue;
                }
                pairs.push(row, bytes, side.delta.weights()[row], weight)?;
                if pairs.rows.len() == backlog::ROWS_OUT {
                    put_out(&mut pairs)?;
                }
            }
        }
        if pairs.rows.is_empty() { Ok(()) } else { put_out(&mut pairs) }
    }

    /// The same where it is not known whether the keys are in memory.
    fn find_and_join(&self, side: &Side, port: usize, class: Option<Class>, cx: &mut Context<'_>) -> Result<()> {
        let slots = self.sides.arrangements[1 - port].borrow_mut().find(&side.keys, cx.state)?;
        self.join_stored(side, port, (&slots, class), cx)
    }

    /// The changes of both sides with each other.
    fn join_deltas(&self, left: &Side, right: &Side, index: &Index<'_>, cx: &mut Context<'_>) -> Result<()> {
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
                if pairs.rows.len() == backlog::ROWS_OUT {
                    put_out(&mut pairs)?;
                }
            }
        }
        if pairs.rows.is_empty() { Ok(()) } else { put_out(&mut pairs) }
    }

    /// Takes the pairs of these back.
    fn take_back(&self, left: &Side, right: &Side, cx: &mut Context<'_>) -> Result<bool> {
        if left.is_empty() || right.is_empty() {
            return Ok(false);
        }
        self.join_deltas(&left.negate(), right, &Index::new(&right.keys), cx)?;
        Ok(true)
    }

    fn output(&self, columns: [Vec<ArrayRef>; 2], weights: Vec<i64>) -> Result<Delta> {
        let options = RecordBatchOptions::new().with_row_count(Some(weights.len()));
        let batch = RecordBatch::try_new_with_options(self.schema.clone(), columns.concat(), &options);
        Ok(Delta::new(batch.map_err(arrow_error)?, weights.into()))
    }
}

impl Paired for Join {
    fn sides(&self) -> &Backlog {
        &self.sides
    }

    fn backlog(&mut self) -> &mut Backlog {
        &mut self.sides
    }

    fn answer(&mut self, [left, right]: &Sides, rows: usize, cx: &mut Context<'_>) -> Result<bool> {
        let mut room = rows;
        let mut find = |side: &Side, port: usize| {
            self.sides.arrangements[1 - port].borrow_mut().find_within(&side.keys, &mut room, cx.state)
        };
        let Some(right_slots) = find(left, 0)? else { return Ok(false) };
        let Some(left_slots) = find(right, 1)? else { return Ok(false) };
        let both = !left.is_empty() && !right.is_empty();
        let index = both.then(|| Index::new(&right.keys));
        if let Some(index) = &index
            && left.keys.len().saturating_mul(right.keys.len()) > room
            && !index.has_at_most(room, &left.keys)
        {
            return Ok(false);
        }
        let before = cx.out.len();
        self.join_stored(left, 0, (&right_slots, None), cx)?;
        self.join_stored(right, 1, (&left_slots, None), cx)?;
        if let Some(index) = &index {
            self.join_deltas(left, right, index, cx)?;
            if left.takes_back() || right.takes_back() {
                backlog::sum_up(&self.schema, before, cx.out)?;
            }
        }
        Ok(true)
    }

    fn settle(&mut self, Task { owed: [left, right], later, part }: &Task, cx: &mut Context<'_>) -> Result<()> {
        let (before, class) = (cx.out.len(), part.class());
        let mut cancels = false;
        if matches!(part, Part::Whole | Part::OfRight(_)) && !left.is_empty() {
            self.find_and_join(left, 0, class, cx)?;
            let since = self.sides.of_class(&right.with(&later[1])?, 1, class)?;
            cancels |= self.take_back(left, &since, cx)?;
        }
        if matches!(part, Part::Whole | Part::OfLeft(_)) && !right.is_empty() {
            self.find_and_join(right, 1, class, cx)?;
            let since = self.sides.of_class(&later[0], 0, class)?;
            cancels |= self.take_back(&since, right, cx)?;
        }
        if cancels { backlog::sum_up(&self.schema, before, cx.out) } else { Ok(()) }
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

    /// Whether these keys meet no more rows than so many.
    fn has_at_most(&self, mut rows: usize, keys: &ByteRows) -> bool {
        let mut met = keys.iter().flat_map(|key| self.rows_of(key));
        while met.next().is_some() {
            match rows.checked_sub(1) {
                Some(left) => rows = left,
                None => return false,
            }
        }
        true
    }

    fn rows_of(&self, key: &[u8]) -> impl Iterator<Item = u32> {
        let last = self.last.find(codec::hash(key), |r| self.keys.get(*r as usize) == key).copied();
        std::iter::successors(last, |row| Some(self.previous[*row as usize]).filter(|previous| previous != row))
    }
}
