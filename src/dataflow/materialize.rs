//! The end of a view's plan: keeps its rows in the store, records their changes where somebody needs them, and passes them
//! on to the views above it.

use crate::catalog::Storage;
use crate::dataflow::changelog::ChangelogCodec;
use crate::dataflow::operator::Context;
use crate::dataflow::operator::Operator;
use crate::dataflow::relation::PAGE_ROWS;
use crate::dataflow::relation::RelationCodec;
use crate::delta::Delta;
use crate::delta::consolidate;
use crate::error::Error;
use crate::error::Result;
use crate::ids::Epoch;
use crate::ids::ObjectId;
use crate::ids::WorkerId;
use crate::state::Space;
use crate::state::StateReader;
use crate::state::Writes;
use crate::types::Column;

/// Collects an epoch's changes of a view and turns their sum into writes.
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
    pending: Vec<Delta>,
    /// Rows in `pending`.
    pending_rows: usize,
    /// Bytes in `pending`.
    pending_bytes: usize,
    /// `pending_rows` at which they are consolidated again.
    consolidate_at: usize,
    /// What `on_epoch` made of it, for `seal`.
    entries: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// The same as chunks of the changelog, if it is kept.
    recorded: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Pending rows above which an epoch's changes are consolidated early, since many of them may cancel out.
const CONSOLIDATE_ROWS: usize = 65_536;

impl Materialize {
    /// The sink of view `object`, whose rows have these columns.
    pub fn new(object: ObjectId, columns: &[Column], storage: Storage, worker: WorkerId) -> Materialize {
        let codec = RelationCodec::new(columns, storage);
        let entries = Vec::new();
        Materialize {
            object,
            codec,
            changelog: ChangelogCodec::new(columns),
            worker,
            pending: Vec::new(),
            pending_rows: 0,
            pending_bytes: 0,
            consolidate_at: CONSOLIDATE_ROWS,
            entries,
            recorded: Vec::new(),
        }
    }

    /// Everything pending as one consolidated delta.
    fn take(&mut self) -> Result<Delta> {
        let pending = std::mem::take(&mut self.pending);
        (self.pending_rows, self.pending_bytes) = (0, 0);
        let delta = Delta::concat(&self.codec.schema, &pending)?;
        match self.codec.storage {
            Storage::Log => Ok(delta),
            Storage::Keyed(_) | Storage::Hashed => consolidate(&delta),
        }
    }

    /// A keyed view: an insert sets the key, a retraction without an insert takes it out.
    fn keyed(&mut self, delta: &Delta) -> Result<()> {
        let keys = self.codec.keys(delta.batch())?;
        let values = self.codec.values(delta.batch())?;
        let mut order = (0..delta.len()).collect::<Vec<_>>();
        order.sort_by(|&a, &b| keys.get(a).cmp(keys.get(b)).then(delta.weights()[a].cmp(&delta.weights()[b])));
        for group in order.chunk_by(|&a, &b| keys.get(a) == keys.get(b)) {
            let last = group[group.len() - 1];
            let count = group.iter().map(|&row| delta.weights()[row]).sum::<i64>();
            let inserts = group.iter().filter(|&&row| delta.weights()[row] > 0).count();
            if inserts > 1 || !(-1..=1).contains(&count) || delta.weights()[last] > 1 {
                let message = format!("view {} would hold two rows for one key", self.object);
                return Err(Error::internal(message));
            }
            let value = (inserts == 1).then(|| values.get(last).to_vec());
            self.entries.push((keys.get(last).to_vec(), value));
        }
        Ok(())
    }

    /// A multiset: counts are added to those stored.
    fn hashed(&mut self, delta: &Delta, state: &StateReader) -> Result<()> {
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
        for ((hash, row, weight), old) in touched.iter().zip(counts) {
            let count = old + weight;
            if count < 0 {
                return Err(Error::internal(format!("view {} holds a row {count} times", self.object)));
            }
            let value = (count > 0).then(|| self.codec.encode_counted(count, rows.get(*row)));
            self.entries.push((hash.to_vec(), value));
        }
        Ok(())
    }

    /// An append-only view without a key: pages in order of arrival.
    fn log(&mut self, delta: &Delta, epoch: Epoch) -> Result<()> {
        if delta.weights().iter().any(|&w| w < 1) {
            return Err(Error::internal(format!("append-only view {} got a retraction", self.object)));
        }
        let rows = self.codec.values(&delta.expanded()?)?;
        for (page, from) in (0..rows.len()).step_by(PAGE_ROWS).enumerate() {
            let to = rows.len().min(from + PAGE_ROWS);
            let mut key = epoch.0.to_be_bytes().to_vec();
            key.extend(self.worker.0.to_be_bytes());
            key.extend((page as u32).to_be_bytes());
            self.entries.push((key, Some(self.codec.encode_page(&rows, from, to))));
        }
        Ok(())
    }
}

impl Operator for Materialize {
    fn on_delta(&mut self, _port: usize, delta: Delta, cx: &mut Context<'_>) -> Result<()> {
        self.pending_rows += delta.len();
        self.pending_bytes += delta.memory_bytes();
        self.pending.push(delta.clone());
        cx.out.push(delta);
        if self.pending_rows > self.consolidate_at && self.codec.storage != Storage::Log {
            let sum = self.take()?;
            (self.pending_rows, self.pending_bytes) = (sum.len(), sum.memory_bytes());
            self.consolidate_at = CONSOLIDATE_ROWS.max(2 * sum.len());
            self.pending.push(sum);
        }
        Ok(())
    }

    fn on_epoch(&mut self, cx: &mut Context<'_>) -> Result<()> {
        let delta = self.take()?;
        self.consolidate_at = CONSOLIDATE_ROWS;
        if cx.recording.objects.contains(&self.object) {
            self.recorded = self.changelog.encode(&delta, cx.epoch, self.worker.0, cx.recording.time)?;
        }
        match self.codec.storage {
            Storage::Keyed(_) => self.keyed(&delta),
            Storage::Hashed => self.hashed(&delta, cx.state),
            Storage::Log => self.log(&delta, cx.epoch),
        }
    }

    fn memory_bytes(&self) -> usize {
        self.pending_bytes
    }

    fn seal(&mut self, writes: &mut Writes) -> Result<()> {
        let space = Space::Relation(self.object);
        for (key, value) in self.entries.drain(..) {
            match value {
                Some(value) => writes.put(space, &key, &value),
                None => writes.delete(space, &key),
            }
        }
        for (key, value) in self.recorded.drain(..) {
            writes.put(Space::Changelog(self.object), &key, &value);
        }
        Ok(())
    }
}
