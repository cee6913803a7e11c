//! Session: each row with the session that it lies in, the rows of its partition whose neighbours are at most a gap apart.
//!
//! The rows of open sessions are kept by partition. A step computes the sessions of each partition that it touches as they were
//! and as they are, and puts out the difference: a row that joins two sessions takes both back and brings the merged one.
//!
//! ```text
//!   before:  ●──●──●      ●──●        two sessions
//!   + row              ●
//!   after:   ●──●──●───●──●──●        one: the rows of both go and come with the new start and end
//! ```
//!
//! A session that the watermark has closed is let go of. When one may be, is told by a second table, of session ends with their
//! partitions; an end that has moved on since finds nothing to close.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::Array;
use arrow::array::ArrayRef;
use arrow::array::AsArray;
use arrow::array::RecordBatch;
use arrow::array::TimestampMicrosecondArray;
use arrow::array::new_null_array;
use arrow::compute::is_not_null;
use arrow::compute::is_null;
use arrow::datatypes::SchemaRef;
use arrow::datatypes::TimestampMicrosecondType;

use crate::dataflow::operator::Context;
use crate::dataflow::operator::Operator;
use crate::dataflow::operators::aggregate::record::put_version;
use crate::dataflow::operators::aggregate::table::SlotTable;
use crate::dataflow::operators::arrange::Arrangement;
use crate::dataflow::row_error::RowError;
use crate::dataflow::row_error::describe;
use crate::delta::Delta;
use crate::delta::arrow_error;
use crate::error::Error;
use crate::error::Result;
use crate::functions::window::Span;
use crate::functions::window::sessions;
use crate::ids::Shard;
use crate::ids::TableId;
use crate::state::StateReader;
use crate::state::Writes;
use crate::state::codec;
use crate::state::codec::ByteRows;
use crate::state::codec::RowCodec;
use crate::time::Micros;
use crate::types::Column;
use crate::types::schema_of;

/// What a session operator is made of.
pub struct Plan<'a> {
    /// The columns of the input.
    pub input: &'a [Column],
    /// The columns of the output: those of the input, then start and end.
    pub output: &'a [Column],
    /// The time column.
    pub time: usize,
    /// The columns of the partition.
    pub partition: &'a [usize],
    /// The gap.
    pub gap_us: i64,
    /// The tables of rows and of ends.
    pub tables: [TableId; 2],
    /// When sessions are closed after their end, if they are.
    pub closes_after_us: Option<i64>,
}

/// The operator.
pub struct Session {
    time: usize,
    gap_us: i64,
    closes_after_us: Option<i64>,
    input: SchemaRef,
    output: SchemaRef,
    row_codec: RowCodec,
    /// The rows of open sessions by partition.
    rows: Arrangement,
    /// Ends of sessions with their partitions.
    ends: SlotTable,
    /// Whether each of them is still to be looked at, by its slot.
    alive: Vec<bool>,
    /// This step's input.
    waiting: Vec<Delta>,
}

/// A row of a partition: its time, and how often it was and is there.
struct Row {
    time: Micros,
    before: i64,
    after: i64,
}

/// The rows of a partition, by time and bytes.
type Partition = BTreeMap<(Micros, Vec<u8>), Row>;

/// Rows to be put out.
#[derive(Default)]
struct Output {
    rows: ByteRows,
    spans: Vec<Span>,
    weights: Vec<i64>,
}

impl Output {
    fn push(&mut self, row: &[u8], span: Span, weight: i64) {
        if weight != 0 {
            self.rows.push(row);
            self.spans.push(span);
            self.weights.push(weight);
        }
    }
}

impl Session {
    /// The operator of a plan. With `fresh` nothing is stored yet.
    pub fn new(plan: &Plan<'_>, fresh: bool) -> Session {
        Session {
            time: plan.time,
            gap_us: plan.gap_us,
            closes_after_us: plan.closes_after_us,
            input: schema_of(plan.input),
            output: schema_of(plan.output),
            row_codec: RowCodec::new(plan.input.iter().map(|c| c.ty.arrow()).collect()),
            rows: Arrangement::new(plan.input, plan.partition, plan.tables[0], None, fresh),
            ends: SlotTable::closing(plan.tables[1], fresh, plan.closes_after_us),
            alive: Vec::new(),
            waiting: Vec::new(),
        }
    }

    /// The rows of these partitions as they are, by partition, then by time and bytes.
    fn stored(&mut self, keys: &ByteRows, state: &StateReader) -> Result<Vec<Partition>> {
        let slots = self.rows.find(keys, state)?;
        let mut places = Vec::new();
        for (at, slot) in slots.iter().enumerate() {
            places.extend(slot.iter().flat_map(|slot| self.rows.rows_of(*slot)).map(|(weight, row)| (at, weight, row)));
        }
        let columns = self.rows.decode(places.iter().map(|(_, _, row)| *row))?;
        let times = times_of(&columns[self.time])?;
        let mut partitions = Vec::new();
        partitions.resize_with(keys.len(), BTreeMap::new);
        for (index, (at, weight, row)) in places.into_iter().enumerate() {
            let time = times.value(index);
            let known: &mut Row =
                partitions[at].entry((time, row.to_vec())).or_insert(Row { time, before: 0, after: 0 });
            known.before += weight;
            known.after += weight;
        }
        Ok(partitions)
    }

    /// What a step brings changes in the sessions of the partitions that it touches.
    fn step(&mut self, delta: &Delta, cx: &mut Context<'_>) -> Result<()> {
        let keys = self.rows.keys_of(delta)?;
        let mut numbers = BTreeMap::new();
        let mut distinct = ByteRows::default();
        for key in keys.iter() {
            numbers.entry(key).or_insert_with(|| {
                distinct.push(key);
                distinct.len() - 1
            });
        }
        let mut partitions = self.stored(&distinct, cx.state)?;
        let times = times_of(delta.batch().column(self.time))?;
        let bytes = self.row_codec.encode(delta.batch().columns(), delta.len())?;
        for (index, (key, row)) in keys.iter().zip(bytes.iter()).enumerate() {
            let time = times.value(index);
            let partition = &mut partitions[numbers[key]];
            let known = partition.entry((time, row.to_vec())).or_insert(Row { time, before: 0, after: 0 });
            known.after += delta.weights()[index];
        }
        let mut output = Output::default();
        let mut ends = BTreeSet::new();
        for (at, partition) in partitions.iter().enumerate() {
            let before = spans(partition, |row| row.before, self.gap_us)?;
            let after = spans(partition, |row| row.after, self.gap_us)?;
            for (((_, row), known), (old, new)) in partition.iter().zip(before.iter().zip(&after)) {
                if (known.before, old) == (known.after, new) {
                    continue;
                }
                output.push(row, old.unwrap_or_default(), -known.before);
                output.push(row, new.unwrap_or_default(), known.after);
                ends.extend(new.map(|(_, end)| (at, end)));
            }
        }
        self.note(&ends, &distinct, cx.state)?;
        self.put_out(&output, cx)?;
        self.rows.receive(delta, cx.state)?;
        self.rows.apply();
        Ok(())
    }

    /// Keeps in mind that the watermark may close sessions of these partitions at these ends.
    fn note(&mut self, ends: &BTreeSet<(usize, Micros)>, partitions: &ByteRows, state: &StateReader) -> Result<()> {
        if self.closes_after_us.is_none() {
            return Ok(());
        }
        let mut keys = ByteRows::default();
        for (at, end) in ends {
            keys.bytes.extend_from_slice(&codec::micros_prefix(*end));
            keys.push(partitions.get(*at));
        }
        let mut slots = Vec::new();
        self.ends.intern(&keys, &mut slots, |row| Shard::of(codec::hash(partition_of(keys.get(row)))));
        self.alive.resize(self.ends.len(), false);
        let alive = &mut self.alive;
        self.ends.load(state, |slot, _| {
            alive[slot as usize] = true;
            Ok(())
        })?;
        for slot in slots {
            if !std::mem::replace(&mut self.alive[slot as usize], true) {
                self.ends.mark(slot);
                self.ends.unmark(slot);
            }
        }
        Ok(())
    }

    fn put_out(&self, output: &Output, cx: &mut Context<'_>) -> Result<()> {
        if output.weights.is_empty() {
            return Ok(());
        }
        let mut columns = self.row_codec.decode(output.rows.iter())?;
        for bound in [|span: &Span| span.0, |span: &Span| span.1] {
            let values = TimestampMicrosecondArray::from_iter_values(output.spans.iter().map(bound));
            columns.push(Arc::new(values.with_data_type(columns[self.time].data_type().clone())));
        }
        let batch = RecordBatch::try_new(self.output.clone(), columns).map_err(arrow_error)?;
        cx.out.push(Delta::new(batch, output.weights.clone().into()));
        Ok(())
    }

    /// Rows without a time lie in no session.
    fn put_out_timeless(&self, delta: &Delta, cx: &mut Context<'_>) -> Result<()> {
        let none = |at: usize| new_null_array(self.output.field(at).data_type(), delta.len());
        let width = self.input.fields().len();
        let columns = delta.batch().columns().iter().cloned().chain([none(width), none(width + 1)]).collect();
        let batch = RecordBatch::try_new(self.output.clone(), columns).map_err(arrow_error)?;
        cx.out.push(delta.with_batch(batch));
        Ok(())
    }

    /// Lets go of the rows of sessions that the watermark closes.
    fn close(&mut self, cx: &Context<'_>) -> Result<()> {
        let (Some(watermark), Some(after_us)) = (cx.watermark, self.closes_after_us) else { return Ok(()) };
        let mut due = BTreeSet::new();
        let slots = self.ends.close(cx, |key, _| {
            due.insert(partition_of(key).to_vec());
            Ok(())
        })?;
        for slot in slots {
            self.alive[slot as usize] = false;
            due.insert(partition_of(self.ends.key(slot)).to_vec());
        }
        let mut keys = ByteRows::default();
        due.iter().for_each(|key| keys.push(key));
        let (mut rows, mut weights) = (ByteRows::default(), Vec::new());
        for partition in self.stored(&keys, cx.state)? {
            let spans = spans(&partition, |row| row.after, self.gap_us)?;
            for (((_, row), known), span) in partition.iter().zip(spans) {
                if span.is_some_and(|(_, end)| end.saturating_add(after_us) <= watermark) {
                    rows.push(row);
                    weights.push(-known.after);
                }
            }
        }
        if weights.is_empty() {
            return Ok(());
        }
        let columns = self.row_codec.decode(rows.iter())?;
        let batch = RecordBatch::try_new(self.input.clone(), columns).map_err(arrow_error)?;
        self.rows.receive(&Delta::new(batch, weights.into()), cx.state)?;
        self.rows.apply();
        Ok(())
    }
}

/// The session of each row of a partition that is there, in their order.
fn spans(partition: &Partition, weight: fn(&Row) -> i64, gap_us: i64) -> Result<Vec<Option<Span>>> {
    let there = partition.values().filter(|row| weight(row) != 0).map(|row| row.time).collect::<Vec<_>>();
    let mut spans = Vec::with_capacity(there.len());
    for (range, span) in sessions(&there, gap_us)? {
        spans.extend(range.map(|_| span));
    }
    let mut spans = spans.into_iter();
    Ok(partition.values().map(|row| if weight(row) != 0 { spans.next() } else { None }).collect())
}

fn times_of(column: &ArrayRef) -> Result<&TimestampMicrosecondArray> {
    let times = column.as_primitive_opt::<TimestampMicrosecondType>();
    times.ok_or_else(|| Error::internal("sessions are made by what is not a timestamp"))
}

/// The partition behind a session's end.
fn partition_of(key: &[u8]) -> &[u8] {
    &key[codec::micros_prefix(0).len()..]
}

impl Operator for Session {
    fn on_delta(&mut self, _port: usize, delta: Delta, cx: &mut Context<'_>) -> Result<()> {
        let times = delta.batch().column(self.time).clone();
        if times.null_count() > 0 {
            self.put_out_timeless(&delta.filter(&is_null(&times).map_err(arrow_error)?)?, cx)?;
        }
        let delta = match times.null_count() {
            0 => delta,
            _ => delta.filter(&is_not_null(&times).map_err(arrow_error)?)?,
        };
        let last = times_of(&times)?.iter().flatten().max();
        if last.is_some_and(|last| last.checked_add(self.gap_us).is_none()) {
            return self.put_in_range(delta, cx);
        }
        self.waiting.push(delta);
        Ok(())
    }

    fn on_step(&mut self, cx: &mut Context<'_>) -> Result<()> {
        let delta = Delta::concat(&self.input, &std::mem::take(&mut self.waiting))?;
        if delta.is_empty() { Ok(()) } else { self.step(&delta, cx) }
    }

    fn on_epoch(&mut self, cx: &mut Context<'_>) -> Result<()> {
        self.close(cx)
    }

    fn seal(&mut self, writes: &mut Writes) -> Result<()> {
        let alive = &self.alive;
        self.ends.seal(writes, |slot, record| {
            put_version(record);
            alive[slot as usize]
        });
        if let Some(moves) = self.ends.without_empty() {
            moves.apply(&mut self.alive);
        }
        self.rows.seal(writes)
    }

    fn warm(&mut self, shard: Shard, last: bool, state: &StateReader) -> Result<()> {
        let alive = &mut self.alive;
        self.ends.warm(shard, last, state, |slot, _| {
            alive.resize(alive.len().max(slot as usize + 1), false);
            alive[slot as usize] = true;
            Ok(())
        })?;
        self.rows.warm(shard, state)
    }

    fn memory_bytes(&self) -> usize {
        self.rows.memory_bytes() + self.ends.memory_bytes() + self.alive.len()
    }

    fn shrink(&mut self, bytes: usize) {
        let ends = self.ends.memory_bytes() + self.alive.len();
        let share = (ends as u128 * bytes as u128 / self.memory_bytes().max(1) as u128) as usize;
        self.rows.shrink(bytes - share);
        if let Some(moves) = self.ends.evict(ends, share) {
            moves.apply(&mut self.alive);
        }
    }
}

impl Session {
    /// Keeps the rows whose session has an end; the others are reported and left out.
    fn put_in_range(&mut self, delta: Delta, cx: &mut Context<'_>) -> Result<()> {
        let times = times_of(delta.batch().column(self.time))?;
        for row in 0..delta.len() {
            match times.value(row).checked_add(self.gap_us) {
                Some(_) => self.waiting.push(delta.slice(row, 1)),
                None => {
                    let error = Error::datetime_overflow("timestamp out of range");
                    let input = describe(delta.batch(), row)?;
                    cx.errors.push(RowError { error, input, weight: delta.weights()[row] });
                }
            }
        }
        Ok(())
    }
}
