//! GROUP BY, DISTINCT and aggregates without groups: one output row for each group that has rows.
//!
//! ```text
//!            on_step                                             on_epoch
//! deltas ──► slots of groups ──► weights, accumulators     ──► search open extremes ──► after
//!            (load new ones)     multisets ─ transitions ─┘     before ───────────────┴──► − old row, + new row
//! ```
//!
//! What a group holds lies in columns by its slot: the sum of its rows' weights, and the [`Accumulators`](accumulators::Accumulators)
//! of each call. Calls with DISTINCT, and min and max over retracting input, are not fed by the rows but by the transitions of a
//! [`Multiset`]: which values appeared in a group, and which went.
//!
//! Output is held until the epoch's end. When a group is touched for the first time in an epoch its row is computed as it
//! was; at the end it is computed again, and where the two differ the old row is retracted and the new one inserted. So
//! an epoch's delta is consolidated however many steps it had, and nothing of the output has to be stored.
//!
//! A result that does not fit its type is an error of its group, which then has no row: it is decided by the result alone, and taken
//! back when the result fits again.
//!
//! A group that the watermark closes is let go of, in memory and on disk, without a change: nothing can come to it any more.
//!
//! A group without rows has no state. The one group of an aggregate without group columns is there all the same.

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;

use crate::dataflow::operator::Context;
use crate::dataflow::operator::Operator;
use crate::delta::Delta;
use crate::error::Error;
use crate::error::Result;
use crate::ids::Shard;
use crate::ids::TableId;
use crate::plan::ir;
use crate::state::Moves;
use crate::state::StateReader;
use crate::state::Writes;
use crate::state::codec;
use crate::state::codec::ByteRows;
use crate::state::codec::KeyCodec;
use crate::types::Column;
use crate::types::schema_of;

use calls::Call;
use multiset::Multiset;
use multiset::Part;
use outcome::Change;
use outcome::Fate;
use outcome::Outcome;
use record::put_integer;
use record::put_version;
use record::take_long;
use record::take_version;
use table::SlotTable;

pub(super) mod accumulators;
pub(super) mod byte_column;
mod calls;
mod extremes;
mod multiset;
mod ordered;
mod ordinals;
mod outcome;
pub(super) mod record;
mod sums;
pub(super) mod table;
#[cfg(test)]
mod tests;

/// The operator of [`ir::Op::Aggregate`]. Its input has been exchanged by the group columns.
pub struct Aggregate {
    /// The input's columns that are grouped by.
    group: Vec<usize>,
    /// Makes key bytes of the group columns.
    key_codec: KeyCodec,
    /// The columns of the output.
    schema: SchemaRef,
    /// The groups in memory.
    groups: SlotTable,
    /// The sum of the weights of each group's rows, by its slot.
    weights: Vec<i64>,
    /// The aggregates.
    calls: Vec<Call>,
    /// What those with DISTINCT, and some others, are fed by.
    multisets: Vec<Multiset>,
    /// The deltas of the running step.
    pending: Vec<Delta>,
    /// The groups that were touched since output was last put out.
    touched: Touched,
}

/// How an aggregate keeps its state.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// The table of the groups.
    pub table: TableId,
    /// When groups are closed after the time that their key begins with, if they are.
    pub closes_after_us: Option<i64>,
    /// Whether the view was just created: there is nothing stored.
    pub fresh: bool,
}

/// Groups with an output to be put out.
#[derive(Default)]
struct Touched {
    /// Groups that were there.
    old: Vec<u32>,
    /// What they came to, in pieces.
    before: Vec<Outcome>,
    /// Groups that were not.
    new: Vec<u32>,
}

impl Aggregate {
    /// The operator for a node with this input and output.
    pub fn new(
        input: &[Column],
        group: &[usize],
        calls: &[ir::AggregateCall],
        multisets: &[ir::Multiset],
        output: &[Column],
        state: Kept,
    ) -> Result<Aggregate> {
        let Kept { table, closes_after_us, fresh } = state;
        Ok(Aggregate {
            group: group.to_vec(),
            key_codec: KeyCodec::new(group.iter().map(|column| input[*column].ty.arrow()).collect()),
            schema: schema_of(output),
            groups: SlotTable::closing(table, fresh, closes_after_us),
            weights: Vec::new(),
            calls: calls.iter().map(|call| Call::new(call, input)).collect::<Result<_>>()?,
            multisets: multisets
                .iter()
                .map(|multiset| Multiset::new(multiset, input, fresh, closes_after_us))
                .collect(),
            pending: Vec::new(),
            touched: Touched::default(),
        })
    }

    /// Folds in what the step brought.
    fn fold(&mut self, state: &StateReader) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut parts = Vec::with_capacity(self.pending.len());
        for delta in std::mem::take(&mut self.pending) {
            let columns = self.group.iter().map(|column| delta.batch().column(*column).clone()).collect::<Vec<_>>();
            let keys = self.key_codec.encode(&columns, delta.len())?;
            let slots = self.slots(&keys);
            parts.push(Part { delta, keys, slots });
        }
        self.load(state)?;
        self.touch(&parts)?;
        for part in &parts {
            for (slot, weight) in part.slots.iter().zip(part.delta.weights()) {
                self.weights[*slot as usize] += weight;
            }
        }
        let multisets = self.multisets.iter_mut();
        let transitions = multisets.map(|multiset| multiset.fold(&parts, &self.groups, state));
        let transitions = transitions.collect::<Result<Vec<_>>>()?;
        let mut calls = self.calls.iter_mut();
        calls.try_for_each(|call| call.fold(&parts, &self.multisets, &transitions)).map_err(|error| {
            let message = format!("state table {}: {}", self.groups.id(), error.message);
            Error { message, ..error }
        })
    }

    /// The slots of these groups.
    fn slots(&mut self, keys: &ByteRows) -> Vec<u32> {
        let mut slots = Vec::with_capacity(keys.len());
        self.groups.intern(keys, &mut slots, |row| Shard::of(codec::hash(keys.get(row))));
        slots
    }

    /// Makes room for new groups and reads what is stored of them.
    fn load(&mut self, state: &StateReader) -> Result<()> {
        self.weights.resize(self.groups.len(), 0);
        self.calls.iter_mut().for_each(|call| call.accumulators_mut().grow(self.groups.len()));
        let (weights, calls) = (&mut self.weights, &mut self.calls);
        self.groups.load(state, |slot, record| {
            take_version(record)?;
            weights[slot as usize] = take_long(record)?;
            calls.iter_mut().try_for_each(|call| call.accumulators_mut().read(slot, record))
        })
    }

    /// Keeps the output of the groups that are touched for the first time, as it is before they change.
    fn touch(&mut self, parts: &[Part]) -> Result<()> {
        let known = self.touched.old.len();
        for slot in parts.iter().flat_map(|part| &part.slots) {
            if self.groups.mark(*slot) {
                match self.is_there(*slot) {
                    true => self.touched.old.push(*slot),
                    false => self.touched.new.push(*slot),
                }
            }
        }
        if self.touched.old.len() > known {
            let before = self.outcome(&self.touched.old[known..])?;
            self.touched.before.push(before);
        }
        Ok(())
    }

    fn is_there(&self, slot: u32) -> bool {
        self.weights[slot as usize] > 0 || self.group.is_empty()
    }

    /// What these groups come to now.
    fn outcome(&self, slots: &[u32]) -> Result<Outcome> {
        let fate = |slot: &u32| if self.is_there(*slot) { Fate::Row } else { Fate::Absent };
        let mut outcome = Outcome { columns: Vec::new(), fates: slots.iter().map(fate).collect() };
        let mut errors = Vec::new();
        for call in &self.calls {
            outcome.columns.push(call.accumulators().finish(slots, &mut errors)?);
        }
        for (index, error) in errors {
            if outcome.fates[index] == Fate::Row {
                outcome.fates[index] = Fate::Failed(Box::new(error));
            }
        }
        Ok(outcome)
    }

    /// Lets go of the groups that the watermark closes. Their rows stay where they were put out.
    fn close(&mut self, cx: &Context<'_>) -> Result<()> {
        for slot in self.groups.close(cx, |_, _| Ok(()))? {
            self.weights[slot as usize] = 0;
        }
        self.multisets.iter_mut().try_for_each(|multiset| multiset.close(cx))
    }

    /// Fails if more was taken back than had come.
    fn check(&self) -> Result<()> {
        let negative = self.groups.dirty().iter().find(|slot| self.weights[**slot as usize] < 0);
        if let Some(slot) = negative {
            let weight = self.weights[*slot as usize];
            return Err(Error::internal(format!("state table {}: a group has {weight} rows", self.groups.id())));
        }
        self.multisets.iter().try_for_each(Multiset::check)
    }

    /// The group columns of these slots.
    fn key_columns(&self, slots: impl Iterator<Item = u32>) -> Result<Vec<ArrayRef>> {
        self.key_codec.decode(slots.map(|slot| self.groups.key(slot)))
    }

    /// The columns by slot follow their table.
    fn compact(&mut self, moves: &Moves) {
        moves.apply(&mut self.weights);
        self.calls.iter_mut().for_each(|call| call.accumulators_mut().compact(moves));
    }

    /// How much memory the groups take, without the multisets, in bytes.
    fn groups_bytes(&self) -> usize {
        let calls = self.calls.iter().map(|call| call.accumulators().memory_bytes()).sum::<usize>();
        self.groups.memory_bytes() + self.weights.len() * size_of::<i64>() + calls
    }
}

impl Operator for Aggregate {
    fn on_delta(&mut self, _port: usize, delta: Delta, _cx: &mut Context<'_>) -> Result<()> {
        if !delta.is_empty() {
            self.pending.push(delta);
        }
        Ok(())
    }

    fn on_step(&mut self, cx: &mut Context<'_>) -> Result<()> {
        self.fold(cx.state)
    }

    fn on_epoch(&mut self, cx: &mut Context<'_>) -> Result<()> {
        self.fold(cx.state)?;
        self.check()?;
        for call in &mut self.calls {
            call.search(&self.multisets, &self.groups, cx.state)?;
        }
        let Touched { old, before, new } = std::mem::take(&mut self.touched);
        let slots = old.into_iter().chain(new).collect::<Vec<_>>();
        if slots.is_empty() {
            return self.close(cx);
        }
        slots.iter().for_each(|slot| self.groups.unmark(*slot));
        let before = match before.is_empty() {
            true => Outcome::none(&self.schema, self.group.len()),
            false => Outcome::concat(before)?,
        };
        let after = self.outcome(&slots)?;
        let change = Change::between(&before, &after)?;
        let failed = self.key_columns(change.failed().map(|index| slots[index]))?;
        change.report(failed, &self.schema, cx.errors)?;
        let keys = self.key_columns(change.groups().map(|index| slots[index]))?;
        cx.out.extend(change.delta(keys, &before, &after, &self.schema)?);
        self.close(cx)
    }

    fn on_create(&mut self, first: bool, cx: &mut Context<'_>) -> Result<()> {
        if !first || !self.group.is_empty() {
            return Ok(());
        }
        let mut key = ByteRows::default();
        key.push(&[]);
        let slots = self.slots(&key);
        self.load(cx.state)?;
        let (before, after) = (Outcome::none(&self.schema, 0), self.outcome(&slots)?);
        let change = Change::between(&before, &after)?;
        change.report(Vec::new(), &self.schema, cx.errors)?;
        cx.out.extend(change.delta(Vec::new(), &before, &after, &self.schema)?);
        Ok(())
    }

    fn seal(&mut self, writes: &mut Writes) -> Result<()> {
        let (weights, calls) = (&self.weights, &self.calls);
        self.groups.seal(writes, |slot, record| {
            put_version(record);
            put_integer(record, weights[slot as usize] as i128);
            calls.iter().for_each(|call| call.accumulators().write(slot, record));
            weights[slot as usize] != 0
        });
        if let Some(moves) = self.groups.without_empty() {
            self.compact(&moves);
        }
        self.multisets.iter_mut().for_each(|multiset| multiset.seal(writes));
        Ok(())
    }

    fn warm(&mut self, shard: Shard, last: bool, state: &StateReader) -> Result<()> {
        let (weights, calls) = (&mut self.weights, &mut self.calls);
        self.groups.warm(shard, last, state, |slot, record| {
            weights.resize(weights.len().max(slot as usize + 1), 0);
            calls.iter_mut().for_each(|call| call.accumulators_mut().grow(weights.len()));
            take_version(record)?;
            weights[slot as usize] = take_long(record)?;
            calls.iter_mut().try_for_each(|call| call.accumulators_mut().read(slot, record))
        })?;
        self.multisets.iter_mut().try_for_each(|multiset| multiset.warm(shard, last, state))
    }

    fn memory_bytes(&self) -> usize {
        self.groups_bytes() + self.multisets.iter().map(Multiset::memory_bytes).sum::<usize>()
    }

    fn shrink(&mut self, bytes: usize) {
        let all = self.memory_bytes();
        if all <= bytes {
            return;
        }
        let share = |part: usize| (part as f64 * bytes as f64 / all as f64) as usize;
        let groups = self.groups_bytes();
        if let Some(moves) = self.groups.evict(groups, share(groups)) {
            self.compact(&moves);
        }
        for multiset in &mut self.multisets {
            multiset.shrink(share(multiset.memory_bytes()));
        }
    }
}
