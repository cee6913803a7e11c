//! The two sides of a join, and what it owes: changes that it has taken in and not yet answered, because the answer is large.
//!
//! One row of a dimension may meet millions. What a step brings is answered at once if that stays within the room there is; else it
//! is put aside, and answered over several passes, some keys in each. In between, all arrangements go on: a key that is owed shows
//! what it did before the step, all others what they do now. As each key is by itself, that is a join of two collections that have been
//! there, only not at the same moment for all keys; nothing that is put out has to be undone.
//!
//! With L and R as they are now, A and B what is owed of a key, and A' and B' what came to it after that and is owed as well, the answer
//! to A and B is the difference between `(L−A')⋈(R−B')` and `(L−A'−A)⋈(R−B'−B)`:
//!
//! ```text
//!    A⋈(R−B'−B)  +  (L−A')⋈B
//! ```
//!
//! A key that is too large by itself is answered in parts: the first term by a hash of the right rows, then the second by one of the
//! left rows, so that what takes a pair back and what brings it anew are in one part.

use std::cmp::Ordering;
use std::mem;
use std::ops::Range;

use arrow::array::UInt32Array;
use arrow::datatypes::SchemaRef;

use crate::dataflow::operator::Context;
use crate::dataflow::operator::Operator;
use crate::dataflow::operator::Room;
use crate::dataflow::operators::arrange::SharedArrangement;
use crate::delta::Delta;
use crate::delta::consolidate;
use crate::error::Result;
use crate::state::StateReader;
use crate::state::codec;
use crate::state::codec::ByteRows;
use crate::types::schema_of;

/// An operator over two arrangements.
pub(super) trait Paired {
    /// Its two sides.
    fn sides(&self) -> &Backlog;

    /// The same, to take in and to put out.
    fn backlog(&mut self) -> &mut Backlog;

    /// Answers a step, which the arrangements do not have yet, if that makes about so many rows at most. Whether it did.
    fn answer(&mut self, step: &Sides, rows: usize, cx: &mut Context<'_>) -> Result<bool>;

    /// Answers some of what is owed, which the arrangements have.
    fn settle(&mut self, task: &Task, cx: &mut Context<'_>) -> Result<()>;
}

impl<P: Paired> Operator for P {
    fn on_delta(&mut self, port: usize, delta: Delta, _cx: &mut Context<'_>) -> Result<()> {
        self.backlog().waiting[port].push(delta);
        Ok(())
    }

    /// Answers the step, or puts it aside.
    fn on_step(&mut self, cx: &mut Context<'_>) -> Result<()> {
        let step = self.backlog().step()?;
        let rows = self.backlog().rows_in(cx.room);
        if self.backlog().owes() {
            // What comes now waits behind what is owed: some of it may be of the same keys.
            let task = if cx.room.turn { self.backlog().next(rows, cx.state)? } else { None };
            if let Some(task) = task {
                self.settle(&task, cx)?;
            }
            self.backlog().put_aside(step);
        } else if let Some(step) = step
            && !self.answer(&step, rows, cx)?
        {
            self.backlog().put_aside(Some(step));
        }
        self.backlog().put_out(cx.out.first());
        Ok(())
    }

    fn owes(&self) -> bool {
        self.sides().owes()
    }

    fn memory_bytes(&self) -> usize {
        self.sides().bytes
    }
}

/// Sums up what was put out from there on.
pub(super) fn sum_up(schema: &SchemaRef, from: usize, out: &mut Vec<Delta>) -> Result<()> {
    let sum = consolidate(&Delta::concat(schema, &out.split_off(from))?)?;
    out.extend((0..sum.len()).step_by(ROWS_OUT).map(|at| sum.slice(at, ROWS_OUT.min(sum.len() - at))));
    Ok(())
}

/// So many rows are put out in one delta.
pub(super) const ROWS_OUT: usize = 8192;

/// Of so many keys at most it is asked at once how many rows they have.
const KEYS_AT_ONCE: usize = 256;

/// A key comes in so many parts at most: for each of them all its rows are gone through.
const PARTS_MAX: usize = 32;

/// What a row is taken to be while none was seen, in bytes.
const ROW_BYTES: usize = 256;

/// Rows of one side, with their keys.
pub(super) struct Side {
    pub delta: Delta,
    pub keys: ByteRows,
}

/// What a step brings, or what is owed of some keys: the left rows, then the right ones.
pub(super) type Sides = [Side; 2];

/// What is to be answered now of what is owed.
pub(super) struct Task {
    /// A and B.
    pub owed: Sides,
    /// A' and B'.
    pub later: Sides,
    /// Which pairs of them.
    pub part: Part,
}

/// Some of a key's pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All.
    Whole,
    /// Those of the left side's changes with these of the right rows.
    OfRight(Class),
    /// Those of the right side's changes with these of the left rows.
    OfLeft(Class),
}

/// The rows whose hash leaves this remainder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Class {
    remainder: u64,
    of: u64,
}

/// Both sides of a join, and its debts.
pub(super) struct Backlog {
    /// What the two inputs are indexed in.
    pub arrangements: [SharedArrangement; 2],
    /// The columns of both.
    schemas: [SchemaRef; 2],
    /// This step's input, by port.
    waiting: [Vec<Delta>; 2],
    /// What is owed, summed up and in the order of keys, as far as it was there when this round began.
    round: Sides,
    /// Where the rows of each key end in both sides of the round.
    ends: Vec<[usize; 2]>,
    /// So many keys of the round are through.
    done: usize,
    /// Of the next key the parts that are through, and how many there are of each term.
    parts: Option<(usize, usize)>,
    /// What came after that.
    later: Vec<Sides>,
    /// What all that is owed takes, in bytes.
    bytes: usize,
    /// What a row that was put out took, in bytes.
    row_bytes: Option<usize>,
}

impl Class {
    pub fn is_first(self) -> bool {
        self.remainder == 0
    }

    pub fn has(self, row: &[u8]) -> bool {
        codec::hash(row) % self.of == self.remainder
    }
}

impl Part {
    /// The class that is meant of one side's rows, if it is not all of them.
    pub fn class(self) -> Option<Class> {
        match self {
            Part::Whole => None,
            Part::OfRight(class) | Part::OfLeft(class) => Some(class),
        }
    }
}

impl Side {
    fn empty(schema: &SchemaRef) -> Side {
        Side { delta: Delta::empty(schema.clone()), keys: ByteRows::default() }
    }

    pub fn is_empty(&self) -> bool {
        self.delta.is_empty()
    }

    pub fn takes_back(&self) -> bool {
        self.delta.weights().iter().any(|weight| *weight < 0)
    }

    /// What takes it back.
    pub fn negate(&self) -> Side {
        Side { delta: self.delta.negate(), keys: self.keys.clone() }
    }

    fn slice(&self, rows: Range<usize>) -> Side {
        let mut keys = ByteRows::default();
        keys.extend(&self.keys, rows.clone());
        Side { delta: self.delta.slice(rows.start, rows.len()), keys }
    }

    /// These of its rows.
    pub fn take(&self, rows: Vec<u32>) -> Result<Side> {
        let mut keys = ByteRows::default();
        rows.iter().for_each(|row| keys.push(self.keys.get(*row as usize)));
        Ok(Side { delta: self.delta.take(&UInt32Array::from(rows))?, keys })
    }

    /// Both one after the other.
    pub fn with(&self, other: &Side) -> Result<Side> {
        let mut keys = self.keys.clone();
        keys.extend(&other.keys, 0..other.keys.len());
        let schema = self.delta.batch().schema();
        Ok(Side { delta: Delta::concat(&schema, &[self.delta.clone(), other.delta.clone()])?, keys })
    }

    /// In the order of keys.
    fn sorted(&self) -> Result<Side> {
        let mut rows = (0..self.delta.len() as u32).collect::<Vec<_>>();
        rows.sort_by(|a, b| self.keys.get(*a as usize).cmp(self.keys.get(*b as usize)));
        self.take(rows)
    }

    fn memory_bytes(&self) -> usize {
        self.delta.memory_bytes() + self.keys.bytes.len() + self.keys.ends.len() * size_of::<u32>()
    }
}

impl Backlog {
    /// Nothing is owed yet.
    pub fn new(left: SharedArrangement, right: SharedArrangement) -> Backlog {
        let schemas = [&left, &right].map(|side| schema_of(side.borrow().columns()));
        Backlog {
            round: schemas.each_ref().map(Side::empty),
            arrangements: [left, right],
            schemas,
            waiting: Default::default(),
            ends: Vec::new(),
            done: 0,
            parts: None,
            later: Vec::new(),
            bytes: 0,
            row_bytes: None,
        }
    }

    /// The step's input; `None` if there is none.
    pub fn step(&mut self) -> Result<Option<Sides>> {
        match self.waiting.iter().all(Vec::is_empty) {
            true => Ok(None),
            false => mem::take(&mut self.waiting).map_sides(|port, deltas| self.side(port, &deltas)).map(Some),
        }
    }

    fn side(&self, port: usize, deltas: &[Delta]) -> Result<Side> {
        let delta = Delta::concat(&self.schemas[port], deltas)?;
        let keys = self.arrangements[port].borrow().keys_of(&delta)?;
        Ok(Side { delta, keys })
    }

    /// Whether anything is owed.
    pub fn owes(&self) -> bool {
        self.done < self.ends.len() || !self.later.is_empty()
    }

    /// Puts a step aside, to be answered in later passes: then the arrangements will have it.
    pub fn put_aside(&mut self, step: Option<Sides>) {
        if let Some(step) = step {
            self.bytes += step.iter().map(Side::memory_bytes).sum::<usize>();
            self.later.push(step);
        }
    }

    /// How many rows there is room for.
    pub fn rows_in(&self, room: Room) -> usize {
        room.rows.min(room.bytes / self.row_bytes.unwrap_or(ROW_BYTES).max(1)).max(1)
    }

    /// Learns from a delta that was put out how large rows are.
    pub fn put_out(&mut self, delta: Option<&Delta>) {
        if let Some(delta) = delta.filter(|delta| !delta.is_empty()) {
            self.row_bytes = Some(delta.memory_bytes() / delta.len());
        }
    }

    /// The rows of a side that are of a class, if one is meant.
    pub fn of_class(&self, side: &Side, port: usize, class: Option<Class>) -> Result<Side> {
        let rows = match class {
            Some(class) => {
                let bytes = self.arrangements[port].borrow().encode(&side.delta)?;
                (0..bytes.len() as u32).filter(|row| class.has(bytes.get(*row as usize))).collect()
            }
            None => (0..side.delta.len() as u32).collect(),
        };
        side.take(rows)
    }

    /// The next of what is owed, with answers of about so many rows. What came in this pass is not among it: the arrangements do not
    /// have it yet.
    pub fn next(&mut self, rows: usize, state: &StateReader) -> Result<Option<Task>> {
        if self.done == self.ends.len() {
            self.begin_round()?;
        }
        if self.done == self.ends.len() {
            return Ok(None);
        }
        let (taken, first) = match self.parts {
            Some(_) => (0, 0),
            None => self.keys_within(rows, state)?,
        };
        let (keys, part) = match taken {
            0 => (self.done..self.done + 1, self.next_part(first, rows)),
            _ => (self.done..self.done + taken, Part::Whole),
        };
        let task = Task {
            owed: [0, 1].map(|port| self.round[port].slice(self.rows_of(port, &keys))),
            later: [self.later_of(0, &keys)?, self.later_of(1, &keys)?],
            part,
        };
        if self.parts.is_none() {
            self.done = keys.end;
        }
        if self.done == self.ends.len() {
            self.bytes -= self.round.iter().map(Side::memory_bytes).sum::<usize>();
            (self.round, self.ends, self.done) = (self.schemas.each_ref().map(Side::empty), Vec::new(), 0);
        }
        Ok(Some(task))
    }

    /// What came by now is owed from here on.
    fn begin_round(&mut self) -> Result<()> {
        let later = mem::take(&mut self.later);
        let all = [0, 1].map(|port| later.iter().map(|step| step[port].delta.clone()).collect::<Vec<_>>());
        drop(later);
        self.round = all.map_sides(|port, deltas| {
            let sum = consolidate(&Delta::concat(&self.schemas[port], &deltas)?)?;
            self.side(port, &[sum])?.sorted()
        })?;
        self.bytes = self.round.iter().map(Side::memory_bytes).sum();
        let [left, right] = &self.round;
        let (mut at, lengths) = ([0, 0], [left.keys.len(), right.keys.len()]);
        while at != lengths {
            let order = match (at[0] < lengths[0], at[1] < lengths[1]) {
                (true, true) => left.keys.get(at[0]).cmp(right.keys.get(at[1])),
                (true, false) => Ordering::Less,
                (false, true) | (false, false) => Ordering::Greater,
            };
            let [of_left, of_right] = [(left, at[0]), (right, at[1])].map(|(side, from)| end_of_key(&side.keys, from));
            match order {
                Ordering::Less => at[0] = of_left,
                Ordering::Greater => at[1] = of_right,
                Ordering::Equal => at = [of_left, of_right],
            }
            self.ends.push(at);
        }
        Ok(())
    }

    /// How many of the next keys are answered with so many rows; and with how many the first is.
    fn keys_within(&self, rows: usize, state: &StateReader) -> Result<(usize, usize)> {
        let keys = self.done..self.ends.len().min(self.done + KEYS_AT_ONCE);
        let mut bytes = ByteRows::default();
        keys.clone().for_each(|key| bytes.push(self.key(key)));
        let left = self.arrangements[0].borrow_mut().counts(&bytes, state)?;
        let right = self.arrangements[1].borrow_mut().counts(&bytes, state)?;
        let (mut first, mut all) = (0, 0_usize);
        for (at, key) in keys.clone().enumerate() {
            let [a, b] = [0, 1].map(|port| self.rows_of(port, &(key..key + 1)).len());
            // The rows there are and those that have gone.
            let answer = a.saturating_mul(right[at] + b).saturating_add(b.saturating_mul(left[at] + a));
            all = all.saturating_add(answer);
            if at == 0 {
                first = answer;
            }
            if all > rows {
                return Ok((at, first));
            }
        }
        Ok((keys.len(), first))
    }

    /// The next part of the next key, whose answer has about so many rows when it is begun.
    fn next_part(&mut self, answer: usize, rows: usize) -> Part {
        let [left, right] = [0, 1].map(|port| !self.rows_of(port, &(self.done..self.done + 1)).is_empty());
        let (done, of) = self.parts.unwrap_or_else(|| {
            let of = answer.div_ceil(rows.max(1)).clamp(1, PARTS_MAX);
            (if left { 0 } else { of }, of)
        });
        let class = Class { remainder: (done % of) as u64, of: of as u64 };
        let part = if done < of { Part::OfRight(class) } else { Part::OfLeft(class) };
        let all = if right { 2 * of } else { of };
        self.parts = Some((done + 1, of)).filter(|_| done + 1 < all);
        part
    }

    /// Where the rows of some keys of the round lie.
    fn rows_of(&self, port: usize, keys: &Range<usize>) -> Range<usize> {
        let end = |key: usize| key.checked_sub(1).map_or(0, |last| self.ends[last][port]);
        end(keys.start)..end(keys.end)
    }

    /// A key of the round.
    fn key(&self, key: usize) -> &[u8] {
        let [left, right] = [0, 1].map(|port| self.rows_of(port, &(key..key + 1)));
        match left.is_empty() {
            false => self.round[0].keys.get(left.start),
            true => self.round[1].keys.get(right.start),
        }
    }

    /// What came later of some keys of the round.
    fn later_of(&self, port: usize, keys: &Range<usize>) -> Result<Side> {
        let mut found = Side::empty(&self.schemas[port]);
        let (first, last) = (self.key(keys.start), self.key(keys.end - 1));
        for side in self.later.iter().map(|step| &step[port]) {
            let is_among = |row: &u32| {
                let wanted = side.keys.get(*row as usize);
                (first..=last).contains(&wanted) && self.is_key(wanted, keys)
            };
            let rows = (0..side.delta.len() as u32).filter(is_among).collect::<Vec<_>>();
            if !rows.is_empty() {
                found = found.with(&side.take(rows)?)?;
            }
        }
        Ok(found)
    }

    fn is_key(&self, wanted: &[u8], keys: &Range<usize>) -> bool {
        let (mut from, mut to) = (keys.start, keys.end);
        while from < to {
            let middle = from + (to - from) / 2;
            match self.key(middle).cmp(wanted) {
                Ordering::Equal => return true,
                Ordering::Less => from = middle + 1,
                Ordering::Greater => to = middle,
            }
        }
        false
    }
}

/// Where the key that begins here ends, if there is one.
fn end_of_key(keys: &ByteRows, from: usize) -> usize {
    let same = |at: &usize| *at < keys.len() && keys.get(*at) == keys.get(from);
    (from..).find(|at| !same(at)).unwrap_or(from)
}

/// Something for each side, made into another.
trait MapSides<T> {
    fn map_sides(self, make: impl Fn(usize, T) -> Result<Side>) -> Result<Sides>;
}

impl<T> MapSides<T> for [T; 2] {
    fn map_sides(self, make: impl Fn(usize, T) -> Result<Side>) -> Result<Sides> {
        let [left, right] = self;
        Ok([make(0, left)?, make(1, right)?])
    }
}
