//! The end of a view's plan: keeps its rows in the store, records their changes where somebody needs them, and passes them
//! on to the views above it.

use arrow::array::BooleanArray;
use arrow::compute::not;
use arrow::datatypes::SchemaRef;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::catalog::Storage;
use crate::dataflow::changelog;
use crate::dataflow::changelog::ChangelogCodec;
use crate::dataflow::operator::Context;
use crate::dataflow::operator::Operator;
use crate::dataflow::relation::PAGE_ROWS;
use crate::dataflow::relation::RelationCodec;
use crate::delta::Delta;
use crate::delta::arrow_error;
use crate::delta::consolidate;
use crate::error::Error;
use crate::error::Result;
use crate::ids::ObjectId;
use crate::ids::Portion;
use crate::ids::WorkerId;
use crate::state::Space;
use crate::state::StateReader;
use crate::state::Writes;
use crate::state::codec;
use crate::state::codec::ByteRows;
use crate::state::slots::KeySlots;
use crate::types::Column;

/// Turns the sum of an epoch's changes of a view into writes.
pub struct Materialize {
    /// The view.
    object: ObjectId,
    /// How its rows are stored.
    codec: RelationCodec,
    /// How its changes are stored.
    changelog: ChangelogCodec,
    /// Which worker this is: part of a log's keys.
    worker: WorkerId,
    /// What this epoch brought so far.
    brought: Brought,
}

/// An epoch's changes until its end.
enum Brought {
    /// Rows that others may cancel out.
    Changes(Pending),
    /// Rows of a log, which stay: the page that grows, and where the full ones are among the epoch's writes.
    Pages { page: ByteRows, written: Vec<usize> },
}

/// Changes that wait to be summed up.
#[derive(Default)]
struct Pending {
    deltas: Vec<Delta>,
    /// Rows in `deltas`.
    rows: usize,
    /// Bytes in `deltas`.
    bytes: usize,
    /// So many rows were left when they were summed up last.
    left: usize,
}

/// Pending rows above which an epoch's changes are consolidated early, since many of them may cancel out.
const CONSOLIDATE_ROWS: usize = 65_536;

impl Pending {
    /// Takes a delta in. When much has come, it is summed up.
    fn push(&mut self, delta: Delta, schema: &SchemaRef) -> Result<()> {
        self.rows += delta.len();
        self.bytes += delta.memory_bytes();
        self.deltas.push(delta);
        if self.rows > CONSOLIDATE_ROWS.max(2 * self.left) {
            let sum = self.take(schema)?;
            (self.rows, self.bytes, self.left) = (sum.len(), sum.memory_bytes(), sum.len());
            self.deltas.push(sum);
        }
        Ok(())
    }

    /// The sum; nothing is left.
    fn take(&mut self, schema: &SchemaRef) -> Result<Delta> {
        let Pending { deltas, .. } = std::mem::take(self);
        consolidate(&Delta::concat(schema, &deltas)?)
    }
}

impl Materialize {
    /// The sink of view `object`, whose rows have these columns.
    pub fn new(object: ObjectId, columns: &[Column], storage: Storage, worker: WorkerId) -> Materialize {
        let brought = match storage {
            Storage::Keyed(_) | Storage::Hashed => Brought::Changes(Pending::default()),
            Storage::Log => Brought::Pages { page: ByteRows::default(), written: Vec::new() },
        };
        let codec = RelationCodec::new(columns, storage);
        Materialize { object, codec, changelog: ChangelogCodec::new(columns), worker, brought }
    }

    /// A keyed view: an insert sets the key, a retraction without an insert takes it out.
    fn keyed(&self, delta: &Delta, state: &StateReader, writes: &mut Writes) -> Result<()> {
        let keys = self.codec.keys(delta.batch())?;
        let values = self.codec.values(delta.batch())?;
        let space = Space::Relation(self.object);
        let hash = |row: u32| codec::hash(keys.get(row as usize));
        // The rows that come and those that go, by key: at most one of each.
        let mut turns = [HashTable::<u32>::with_capacity(delta.len()), HashTable::new()];
        for (row, weight) in (0..).zip(delta.weights()) {
            let key = keys.get(row as usize);
            let turn = match weight {
                1 => &mut turns[0],
                -1 => &mut turns[1],
                _ => return Err(self.wrong(*weight)),
            };
            match turn.entry(hash(row), |&other| keys.get(other as usize) == key, |&other| hash(other)) {
                Entry::Vacant(entry) => drop(entry.insert(row)),
                Entry::Occupied(_) => return Err(self.wrong(2 * weight)),
            }
        }
        let [come, go] = turns;
        let lacks = |turn: &HashTable<u32>, row: u32| {
            turn.find(hash(row), |&other| keys.get(other as usize) == keys.get(row as usize)).is_none()
        };
        if cfg!(debug_assertions) {
            let alone = |turn: &HashTable<u32>, other| turn.iter().copied().filter(|row| lacks(other, *row)).collect();
            self.check_stored(&keys, alone(&go, &come), 1, state)?;
            self.check_stored(&keys, alone(&come, &go), 0, state)?;
        }
        for (row, weight) in (0..).zip(delta.weights()) {
            let key = keys.get(row as usize);
            if *weight > 0 {
                writes.put(space, key, values.get(row as usize));
            } else if lacks(&come, row) {
                writes.delete(space, key);
            }
        }
        Ok(())
    }

    /// Which rows of a keyed view's changes cannot be written yet, because a row has come before the one that had its key has gone.
    fn halves(&self, delta: &Delta, state: &StateReader) -> Result<BooleanArray> {
        let keys = self.codec.keys(delta.batch())?;
        let (mut table, mut slots, mut first) = (KeySlots::default(), Vec::new(), Vec::new());
        table.lookup_or_insert(&keys, &mut slots, &mut first);
        // How often a row comes for each key, and how often one goes.
        let mut turns = vec![[0; 2]; table.len()];
        for (slot, weight) in slots.iter().zip(delta.weights()) {
            turns[*slot as usize][usize::from(*weight < 0)] += weight.unsigned_abs();
        }
        let mut halves = turns.iter().map(|[come, go]| *come > 1 || *go > 1).collect::<Vec<_>>();
        let mut alone = (0..turns.len()).filter(|slot| turns[*slot] == [1, 0]).collect::<Vec<_>>();
        alone.sort_unstable_by_key(|slot| table.key(*slot as u32));
        let space = Space::Relation(self.object);
        let wanted = alone.iter().map(|slot| (space, table.key(*slot as u32))).collect::<Vec<_>>();
        state.get_many(&wanted, &mut |index, value| {
            halves[alone[index]] = value.is_some();
            Ok(())
        })?;
        Ok(slots.iter().map(|slot| Some(halves[*slot as usize])).collect())
    }

    /// Fails unless the keys of these rows are there so often. It costs a read of each, so that only tests look: whatever gives a keyed
    /// view its rows has checked them.
    fn check_stored(&self, keys: &ByteRows, mut rows: Vec<u32>, times: i64, state: &StateReader) -> Result<()> {
        rows.sort_unstable_by_key(|row| keys.get(*row as usize));
        let wanted = rows.iter().map(|row| (Space::Relation(self.object), keys.get(*row as usize)));
        state.get_many(&wanted.collect::<Vec<_>>(), &mut |_, value| match (times, value.is_some() as i64) {
            (wanted, there) if wanted == there => Ok(()),
            (_, there) => Err(self.wrong(2 * there - 1)),
        })
    }

    /// A view would hold a row less than not at all, or another one for its key.
    fn wrong(&self, times: i64) -> Error {
        let object = self.object;
        Error::internal(match times {
            ..0 => format!("view {object} was told to take out a row that it does not have"),
            0.. => format!("view {object} would hold two rows for one key"),
        })
    }

    /// A multiset: counts are added to those stored.
    fn hashed(&self, delta: &Delta, state: &StateReader, writes: &mut Writes) -> Result<()> {
        let rows = self.codec.values(delta.batch())?;
        let mut touched = (0..rows.len())
            .map(|row| (RelationCodec::row_hash(rows.get(row)), row, delta.weights()[row]))
            .collect::<Vec<_>>();
        touched.sort_unstable();
        let space = Space::Relation(self.object);
        let keys = touched.iter().map(|(hash, _, _)| (space, &hash[..])).collect::<Vec<_>>();
        let mut counts = vec![0; touched.len()];
        let codec = &self.codec;
        state.get_many(&keys, &mut |index, value| {
            if let Some(value) = value {
                counts[index] = codec.decode_counted(value)?.0;
            }
            Ok(())
        })?;
        let mut value = Vec::new();
        for ((hash, row, weight), old) in touched.iter().zip(counts) {
            match old + weight {
                ..0 => return Err(self.wrong(old + weight)),
                0 => writes.delete(space, hash),
                count => {
                    self.codec.encode_counted(count, rows.get(*row), &mut value);
                    writes.put(space, hash, &value);
                }
            }
        }
        Ok(())
    }

    /// An append-only view without a key: pages in order of arrival.
    fn log(&mut self, delta: &Delta, portion: Portion, writes: &mut Writes) -> Result<()> {
        if delta.weights().iter().any(|&w| w < 1) {
            return Err(Error::internal(format!("append-only view {} got a retraction", self.object)));
        }
        let rows = self.codec.values(&delta.expanded()?)?;
        let mut from = 0;
        while from < rows.len()
            && let Brought::Pages { page, .. } = &mut self.brought
        {
            let to = rows.len().min(from + PAGE_ROWS - page.len());
            page.extend(&rows, from..to);
            if page.len() == PAGE_ROWS {
                self.end_page(portion, writes);
            }
            from = to;
        }
        Ok(())
    }

    /// Writes the page that grows, and begins the next.
    fn end_page(&mut self, portion: Portion, writes: &mut Writes) {
        let Brought::Pages { page, written } = &mut self.brought else { return };
        if !page.is_empty() {
            let key = RelationCodec::page_key(portion, self.worker.0, written.len());
            written.push(writes.len());
            writes.put(Space::Relation(self.object), &key, &self.codec.encode_page(page, 0, page.len()));
            page.clear();
        }
    }

    /// Writes the pages of this epoch to the changelog as well, if that is kept.
    fn record_pages(&mut self, cx: &mut Context<'_>) {
        let Brought::Pages { written, .. } = &mut self.brought else { return };
        let written = std::mem::take(written);
        if !cx.recording.objects.contains(&self.object) {
            return;
        }
        for (number, entry) in (0..).zip(written) {
            let Some(page) = cx.writes.value(entry) else { continue };
            let chunk = changelog::chunk_of(page, &vec![1; RelationCodec::rows_of_page(page)], cx.recording.time);
            let key = RelationCodec::page_key(cx.portion, self.worker.0, number);
            cx.writes.put(Space::Changelog(self.object), &key, &chunk);
        }
    }

    /// Writes the sum of what came, and to the changelog as well, if that is kept.
    fn write_changes(&mut self, delta: &Delta, cx: &mut Context<'_>) -> Result<()> {
        if cx.recording.objects.contains(&self.object) {
            let chunks = self.changelog.encode(delta, cx.portion, self.worker.0, cx.recording.time)?;
            for (key, chunk) in chunks {
                cx.writes.put(Space::Changelog(self.object), &key, &chunk);
            }
        }
        match self.codec.storage {
            Storage::Keyed(_) => self.keyed(delta, cx.state, cx.writes),
            Storage::Hashed => self.hashed(delta, cx.state, cx.writes),
            Storage::Log => Ok(()),
        }
    }
}

impl Operator for Materialize {
    fn on_delta(&mut self, _port: usize, delta: Delta, cx: &mut Context<'_>) -> Result<()> {
        match &mut self.brought {
            Brought::Changes(pending) => pending.push(delta.clone(), &self.codec.schema)?,
            Brought::Pages { .. } => self.log(&delta, cx.portion, cx.writes)?,
        }
        cx.out.push(delta);
        Ok(())
    }

    fn store(&mut self, whole: bool, cx: &mut Context<'_>) -> Result<bool> {
        if let Brought::Changes(pending) = &mut self.brought {
            let mut delta = pending.take(&self.codec.schema)?;
            let mut keeps = false;
            if let Storage::Keyed(_) = self.codec.storage
                && !whole
            {
                let halves = self.halves(&delta, cx.state)?;
                let kept = delta.filter(&halves)?;
                delta = delta.filter(&not(&halves).map_err(arrow_error)?)?;
                keeps = !kept.is_empty();
                if let Brought::Changes(pending) = &mut self.brought {
                    pending.push(kept, &self.codec.schema)?;
                }
            }
            self.write_changes(&delta, cx)?;
            return Ok(keeps);
        }
        self.end_page(cx.portion, cx.writes);
        self.record_pages(cx);
        Ok(false)
    }

    fn memory_bytes(&self) -> usize {
        match &self.brought {
            Brought::Changes(pending) => pending.bytes,
            Brought::Pages { page, .. } => page.bytes.capacity(),
        }
    }
}
