//! The rows of a table or view as they were at an epoch before: those of now, minus what its changelog says has come since.
//!
//! What has changed since is summed up in memory, by row; the rows themselves are read as they are stored and leave as they
//! come, so that a large relation with few changes takes little.

use std::collections::HashMap;

use crate::catalog::Object;
use crate::catalog::Storage;
use crate::dataflow::changelog;
use crate::dataflow::changelog::ChangelogCodec;
use crate::dataflow::relation::RelationCodec;
use crate::delta::Delta;
use crate::delta::consolidate;
use crate::error::Error;
use crate::error::Result;
use crate::ids::Epoch;
use crate::state::Scan;
use crate::state::Snapshot;
use crate::state::Space;

/// Rows of a batch.
const BATCH_ROWS: usize = 8192;

/// Chunks of the changelog after which others have their turn.
const CHUNKS_AT_ONCE: usize = 16;

/// What a row costs in memory besides its bytes.
const ROW_BYTES: usize = 64;

/// The rows of a stored relation as of an epoch.
pub struct PastRows {
    /// How they are stored.
    codec: RelationCodec,
    /// Those of now.
    scan: Scan,
    /// The changes since, until they are summed up.
    changes: Option<(ChangelogCodec, Scan)>,
    /// A row as bytes, of the columns that a query sees.
    visible: RelationCodec,
    /// By how much the count of each row has changed since, as far as that is not taken into account yet.
    since: HashMap<Vec<u8>, i64>,
    /// What `since` takes.
    bytes: usize,
    /// What it may take.
    bytes_max: usize,
    /// What was and is no more, once the rows of now are through.
    gone: Option<std::vec::IntoIter<(Vec<u8>, i64)>>,
}

impl PastRows {
    /// The rows of an object as of an epoch, after which its changelog is there in the snapshot. `None`: as of the snapshot
    /// itself. The changes since may take so many bytes.
    pub fn new(object: &Object, snapshot: &Snapshot, as_of: Option<Epoch>, bytes_max: usize) -> Option<PastRows> {
        let codec = RelationCodec::of(object)?;
        let scan = snapshot.scan(Space::Relation(object.id), None, None);
        let changes = as_of.map(|epoch| {
            let from = changelog::key_of(epoch.next());
            (
                ChangelogCodec::new(&object.stored_columns()),
                snapshot.scan(Space::Changelog(object.id), Some(&from), None),
            )
        });
        let visible = RelationCodec::new(object.columns(), Storage::Log);
        Some(PastRows { codec, scan, changes, visible, since: HashMap::new(), bytes: 0, bytes_max, gone: None })
    }

    /// The next rows: the columns that a query sees. `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Delta>> {
        while !self.sum_up()? {
            tokio::task::yield_now().await;
        }
        while self.gone.is_none() {
            let Some(delta) = self.codec.read_chunk(&mut self.scan, BATCH_ROWS)? else {
                self.gone = Some(std::mem::take(&mut self.since).into_iter().collect::<Vec<_>>().into_iter());
                break;
            };
            let delta = self.as_it_was(&self.narrowed(&delta)?)?;
            if !delta.is_empty() {
                return Ok(Some(delta));
            }
        }
        self.next_gone()
    }

    /// Takes in some of the changes since; whether those were the last.
    fn sum_up(&mut self) -> Result<bool> {
        let Some((codec, mut scan)) = self.changes.take() else { return Ok(true) };
        for _ in 0..CHUNKS_AT_ONCE {
            let Some((key, value)) = scan.next_entry()? else { return Ok(true) };
            let delta = self.narrowed(&codec.decode(key, value)?.delta)?;
            let rows = self.visible.values(delta.batch())?;
            for (row, weight) in rows.iter().zip(delta.weights()) {
                let count = self.since.entry(row.to_vec()).or_insert_with(|| {
                    self.bytes += row.len() + ROW_BYTES;
                    0
                });
                *count += weight;
                if *count == 0 {
                    self.since.remove(row);
                    self.bytes -= row.len() + ROW_BYTES;
                }
            }
            if self.bytes > self.bytes_max {
                let message = format!("more than {} MB of rows have changed since that epoch", self.bytes_max >> 20);
                return Err(Error::out_of_memory(message).hint(
                    "Begin at a later epoch, or without AS OF; or start the server with a larger --memory-limit.",
                ));
            }
        }
        self.changes = Some((codec, scan));
        Ok(false)
    }

    /// Rows of now, each as often as it was there.
    fn as_it_was(&mut self, delta: &Delta) -> Result<Delta> {
        if self.since.is_empty() {
            return Ok(delta.clone());
        }
        let rows = self.visible.values(delta.batch())?;
        let mut weights = delta.weights().to_vec();
        for (row, weight) in rows.iter().zip(&mut weights) {
            let Some(more) = self.since.get_mut(row) else { continue };
            // Equal rows may be stored apart: what this one cannot give is taken from the next.
            let taken = (*more).min(*weight);
            *weight -= taken;
            *more -= taken;
            if *more == 0 {
                self.since.remove(row);
            }
        }
        consolidate(&Delta::new(delta.batch().clone(), weights.into()))
    }

    fn next_gone(&mut self) -> Result<Option<Delta>> {
        let gone = self.gone.iter_mut().flatten().take(BATCH_ROWS);
        let (rows, weights): (Vec<_>, Vec<_>) = gone.map(|(row, more)| (row, -more)).unzip();
        if rows.is_empty() {
            return Ok(None);
        }
        if weights.iter().any(|weight| *weight < 0) {
            return Err(Error::corrupted("a changelog tells of rows that are not in its relation"));
        }
        let batch = self.visible.decode_rows(rows.iter().map(Vec::as_slice), rows.len())?;
        Ok(Some(Delta::new(batch, weights.into())))
    }

    /// The columns that a query sees. Rows that differ in hidden ones only may be equal.
    fn narrowed(&self, delta: &Delta) -> Result<Delta> {
        let width = self.visible.schema.fields().len();
        match width < delta.batch().num_columns() {
            true => consolidate(&delta.first_columns(&self.visible.schema)?),
            false => Ok(delta.clone()),
        }
    }
}
