//! Final rows: holds rows back until the watermark says that nothing can change in them, and puts each out once. This is
//! EMIT ON WINDOW CLOSE.
//!
//! State is a map from the row's closing time and the 128-bit hash of its bytes to count and bytes, so that what is closed at
//! once lies together.

use arrow::array::Array;
use arrow::array::RecordBatch;
use arrow::compute::is_not_null;
use arrow::datatypes::SchemaRef;

use crate::dataflow::operator::Context;
use crate::dataflow::operator::Operator;
use crate::dataflow::operators::aggregate::byte_column::ByteColumn;
use crate::dataflow::operators::aggregate::record::put_integer;
use crate::dataflow::operators::aggregate::record::put_version;
use crate::dataflow::operators::aggregate::record::take_long;
use crate::dataflow::operators::aggregate::record::take_version;
use crate::dataflow::operators::aggregate::table::SlotTable;
use crate::delta::Delta;
use crate::delta::arrow_error;
use crate::error::Error;
use crate::error::Result;
use crate::ids::Shard;
use crate::ids::TableId;
use crate::state::Moves;
use crate::state::StateReader;
use crate::state::Writes;
use crate::state::codec;
use crate::state::codec::ByteRows;
use crate::state::codec::KeyCodec;
use crate::state::codec::RowCodec;
use crate::types::Column;
use crate::types::schema_of;

/// Rows that wait until they are final.
pub struct FinalRows {
    /// The column whose time decides.
    column: usize,
    /// The columns by whose hash rows come to this worker.
    route: Vec<usize>,
    route_codec: KeyCodec,
    time_codec: KeyCodec,
    row_codec: RowCodec,
    schema: SchemaRef,
    /// The rows in memory.
    waiting: SlotTable,
    /// How often each is there, by its slot.
    counts: Vec<i64>,
    /// Its bytes, by its slot.
    rows: ByteColumn,
}

impl FinalRows {
    /// An operator over rows of these columns, final so long after the time in `column`. With `fresh` nothing is stored yet.
    pub fn new(
        columns: &[Column],
        column: usize,
        route: Vec<usize>,
        table: TableId,
        closes_after_us: Option<i64>,
        fresh: bool,
    ) -> FinalRows {
        let types = |of: &[usize]| of.iter().map(|&c| columns[c].ty.arrow()).collect::<Vec<_>>();
        FinalRows {
            column,
            route_codec: KeyCodec::new(types(&route)),
            route,
            time_codec: KeyCodec::new(types(&[column])),
            row_codec: RowCodec::new(columns.iter().map(|c| c.ty.arrow()).collect()),
            schema: schema_of(columns),
            waiting: SlotTable::closing(table, fresh, closes_after_us),
            counts: Vec::new(),
            rows: ByteColumn::default(),
        }
    }

    /// The slots of these rows, with what is stored of them.
    fn slots(&mut self, delta: &Delta, rows: &ByteRows, cx: &Context<'_>) -> Result<Vec<u32>> {
        let columns = delta.batch().columns();
        let times = self.time_codec.encode(std::slice::from_ref(&columns[self.column]), delta.len())?;
        let route = self.route.iter().map(|&c| columns[c].clone()).collect::<Vec<_>>();
        let route = self.route_codec.encode(&route, delta.len())?;
        let mut keys = ByteRows::default();
        for (time, row) in times.iter().zip(rows.iter()) {
            keys.bytes.extend_from_slice(time);
            keys.push(&xxhash_rust::xxh3::xxh3_128(row).to_be_bytes());
        }
        let mut slots = Vec::with_capacity(keys.len());
        self.waiting.intern(&keys, &mut slots, |row| Shard::of(codec::hash(route.get(row))));
        self.counts.resize(self.waiting.len(), 0);
        self.rows.grow(self.waiting.len());
        let (counts, known) = (&mut self.counts, &mut self.rows);
        self.waiting.load(cx.state, |slot, record| {
            let (count, row) = decode(record)?;
            counts[slot as usize] = count;
            known.set(slot as usize, Some(row));
            Ok(())
        })?;
        Ok(slots)
    }

    fn compact(&mut self, moves: &Moves) {
        moves.apply(&mut self.counts);
        self.rows.compact(moves);
    }

    /// Rows as often as they are there.
    fn delta<'a>(&self, rows: impl Iterator<Item = (i64, &'a [u8])>) -> Result<Delta> {
        let (counts, rows): (Vec<i64>, Vec<&[u8]>) = rows.filter(|(count, _)| *count != 0).unzip();
        if counts.iter().any(|count| *count < 0) {
            return Err(Error::internal(format!(
                "state table {}: a final row is there less than once",
                self.waiting.id()
            )));
        }
        let columns = self.row_codec.decode(rows.into_iter())?;
        let batch = RecordBatch::try_new(self.schema.clone(), columns).map_err(arrow_error)?;
        Ok(Delta::new(batch, counts.into()))
    }
}

/// Count and bytes of a stored row.
fn decode<'a>(record: &mut &'a [u8]) -> Result<(i64, &'a [u8])> {
    take_version(record)?;
    let count = take_long(record)?;
    Ok((count, std::mem::take(record)))
}

impl Operator for FinalRows {
    fn on_delta(&mut self, _port: usize, delta: Delta, cx: &mut Context<'_>) -> Result<()> {
        // What lies in no window is never in a closed one.
        let delta = match delta.batch().column(self.column).null_count() {
            0 => delta,
            _ => delta.filter(&is_not_null(delta.batch().column(self.column)).map_err(arrow_error)?)?,
        };
        let rows = self.row_codec.encode(delta.batch().columns(), delta.len())?;
        let slots = self.slots(&delta, &rows, cx)?;
        for ((&slot, row), weight) in slots.iter().zip(rows.iter()).zip(delta.weights()) {
            let at = slot as usize;
            if self.rows.get(at).is_none() {
                self.rows.set(at, Some(row));
            }
            self.counts[at] += weight;
            self.waiting.mark(slot);
            self.waiting.unmark(slot);
        }
        Ok(())
    }

    fn on_epoch(&mut self, cx: &mut Context<'_>) -> Result<()> {
        let mut stored = Vec::new();
        let slots = self.waiting.close(cx, |_, mut record| {
            let (count, row) = decode(&mut record)?;
            stored.push((count, row.to_vec()));
            Ok(())
        })?;
        let here = slots.iter().map(|&slot| (self.counts[slot as usize], self.rows.get(slot as usize).unwrap_or(&[])));
        let delta = self.delta(here.chain(stored.iter().map(|(count, row)| (*count, &row[..]))))?;
        for slot in slots {
            self.counts[slot as usize] = 0;
            self.rows.set(slot as usize, None);
        }
        if !delta.is_empty() {
            cx.out.push(delta);
        }
        Ok(())
    }

    fn seal(&mut self, writes: &mut Writes) -> Result<()> {
        let (counts, rows) = (&self.counts, &self.rows);
        self.waiting.seal(writes, |slot, record| {
            put_version(record);
            put_integer(record, counts[slot as usize] as i128);
            record.extend_from_slice(rows.get(slot as usize).unwrap_or(&[]));
            counts[slot as usize] != 0
        });
        if let Some(moves) = self.waiting.without_empty() {
            self.compact(&moves);
        }
        Ok(())
    }

    fn warm(&mut self, shard: Shard, last: bool, state: &StateReader) -> Result<()> {
        let (counts, known) = (&mut self.counts, &mut self.rows);
        self.waiting.warm(shard, last, state, |slot, record| {
            counts.resize(counts.len().max(slot as usize + 1), 0);
            known.grow(counts.len());
            let (count, row) = decode(record)?;
            counts[slot as usize] = count;
            known.set(slot as usize, Some(row));
            Ok(())
        })
    }

    fn memory_bytes(&self) -> usize {
        self.waiting.memory_bytes() + self.counts.len() * size_of::<i64>() + self.rows.memory_bytes()
    }

    fn shrink(&mut self, bytes: usize) {
        if let Some(moves) = self.waiting.evict(self.memory_bytes(), bytes) {
            self.compact(&moves);
        }
    }
}
