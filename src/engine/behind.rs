//! Views that stand behind: filled in bounded chunks, inside the epochs that the others go on with.
//!
//! Such a view has a frontier *f*: of every input it holds, as of *f*, the rows at or before a position in key order, and those
//! behind the last key that was there when it was created. In each epoch it takes in what the inputs' changelogs hold from *f* to
//! the epoch before, as far as that concerns what it holds, and then the next rows after the position as they are in that epoch.
//! Positions and frontier are written with the state that they belong to, so that a restart goes on. When every input is
//! through, the next epoch begins by taking in the last changes, and from then on the view is one of the others.
//!
//! ```text
//!              ┌ rows of the input in key order ────────────────┐ end ┌ what came since ┐
//!  epoch n     │ held as of n−1 ········· │ next chunk │        │     │ held as of n−1 ·│
//!  epoch n+1   │ + changes of n, as far as they lie │ next chunk│     │ + changes of n ·│
//! ```
//!
//! A source is not stored: a reader of its own brings its messages from the start up to where the shared reader stood when the
//! view was created; what the shared one brought since is in the source's changelog.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::BooleanArray;
use serde::Deserialize;
use serde::Serialize;

use crate::catalog::Object;
use crate::catalog::Storage;
use crate::connectors::Positions;
use crate::dataflow::changelog;
use crate::dataflow::changelog::ChangelogCodec;
use crate::dataflow::relation::RelationCodec;
use crate::delta::Delta;
use crate::engine::changes::recorded_columns;
use crate::engine::needs::Cursor;
use crate::error::Result;
use crate::ids::Epoch;
use crate::ids::ObjectId;
use crate::state::Space;
use crate::state::StateReader;
use crate::time::Micros;

/// How far a view that stands behind has come, as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filled {
    /// When the work began.
    pub begun: Micros,
    /// Its inputs' changes are in up to this epoch.
    pub frontier: Epoch,
    /// The views that are filled as one: it, and its relations of errors and of late rows.
    pub views: Vec<ObjectId>,
    /// How far it has come in each input.
    pub inputs: BTreeMap<ObjectId, Place>,
}

/// A place in an input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// In stored rows: behind this key (`None`: at the beginning), of those up to the `end`, with so many rows taken in.
    Rows { after: Option<Vec<u8>>, end: Vec<u8>, rows: u64 },
    /// In a source's messages, which begin and end at these offsets: where each partition is to be read on.
    Offsets { start: Positions, next: Positions, end: Positions },
    /// Behind all that was there, which were so many rows: what comes is in the changelog.
    Through { rows: u64 },
}

/// An input of a view that stands behind.
pub struct Input {
    /// The table, view or source.
    object: ObjectId,
    /// How its rows are stored; `None` for a source, which has none.
    rows: Option<RelationCodec>,
    /// How its changes are.
    changes: ChangelogCodec,
    /// Says what of its changelog is still needed.
    cursor: Arc<Cursor>,
}

impl Place {
    /// The beginning of an object's stored rows.
    pub fn start(object: ObjectId, base: &StateReader) -> Result<Place> {
        let mut scan = base.scan_reverse(Space::Relation(object), None, None);
        Ok(match scan.next_entry()? {
            Some((end, _)) => Place::Rows { after: None, end: end.to_vec(), rows: 0 },
            None => Place::Through { rows: 0 },
        })
    }

    /// The rows, or messages, taken in so far.
    pub fn rows(&self) -> u64 {
        match self {
            Place::Rows { rows, .. } | Place::Through { rows } => *rows,
            Place::Offsets { start, next, .. } => between(start, next),
        }
    }

    /// All there are, where that is known.
    pub fn total(&self) -> Option<u64> {
        match self {
            Place::Rows { .. } => None,
            Place::Offsets { start, end, .. } => Some(between(start, end)),
            Place::Through { rows } => Some(*rows),
        }
    }
}

/// How many offsets lie between these positions.
fn between(from: &Positions, to: &Positions) -> u64 {
    to.iter().map(|(partition, to)| to.saturating_sub(offset(from, partition)).max(0) as u64).sum()
}

/// Where a partition stands; one that was found later begins at 0.
fn offset(positions: &Positions, partition: &str) -> i64 {
    positions.get(partition).copied().unwrap_or(0)
}

/// Whether all partitions have come to their end.
pub fn is_through(next: &Positions, end: &Positions) -> bool {
    end.iter().all(|(partition, end)| offset(next, partition) >= *end)
}

impl Filled {
    /// Whether some input has stored rows left.
    pub fn has_rows(&self) -> bool {
        self.inputs.values().any(|place| matches!(place, Place::Rows { .. }))
    }

    /// Whether only changes are missing.
    pub fn is_complete(&self) -> bool {
        self.inputs.values().all(|place| matches!(place, Place::Through { .. }))
    }
}

impl Input {
    /// A table, view or source, whose changelog the cursor keeps.
    pub fn new(object: &Object, cursor: Arc<Cursor>) -> Input {
        let changes = ChangelogCodec::new(&recorded_columns(object));
        Input { object: object.id, rows: RelationCodec::of(object), changes, cursor }
    }

    /// The object.
    pub fn object(&self) -> ObjectId {
        self.object
    }

    /// Its changes up to this epoch are in.
    pub fn advance(&self, frontier: Epoch) {
        self.cursor.advance(frontier);
    }

    /// Gives the changes after `from` up to `to` that concern rows held at this place.
    pub fn changes(
        &self,
        base: &StateReader,
        (from, to): (Epoch, Epoch),
        place: &Place,
        take: &mut dyn FnMut(Delta),
    ) -> Result<()> {
        let (first, end) = (changelog::key_of(from.next()), changelog::key_of(to.next()));
        let mut scan = base.scan(Space::Changelog(self.object), Some(&first), Some(&end));
        while let Some((key, value)) = scan.next_entry()? {
            let delta = self.changes.decode(key, value)?.delta;
            let delta = match (place, &self.rows) {
                (Place::Rows { after, end, .. }, Some(codec)) => held(codec, &delta, after.as_deref(), end)?,
                (Place::Rows { .. } | Place::Offsets { .. } | Place::Through { .. }, _) => delta,
            };
            if !delta.is_empty() {
                take(delta);
            }
        }
        Ok(())
    }

    /// The next rows after a place, about so many; the place moves behind them.
    pub fn rows(&self, base: &StateReader, place: &mut Place, most: usize) -> Result<Option<Delta>> {
        let (Place::Rows { after, end, rows }, Some(codec)) = (&mut *place, &self.rows) else { return Ok(None) };
        // The least key behind another is that one and a zero byte.
        let from = after.as_ref().map(|after| [&after[..], &[0]].concat());
        let to = [&end[..], &[0]].concat();
        let mut scan = base.scan(Space::Relation(self.object), from.as_deref(), Some(&to));
        let mut last = Vec::new();
        let found = codec.read_chunk_to(&mut scan, most, &mut last)?;
        *rows += found.as_ref().map_or(0, |delta| delta.len() as u64);
        match found.is_none() || last == *end {
            true => *place = Place::Through { rows: *rows },
            false => *after = Some(last),
        }
        Ok(found)
    }
}

/// The rows of a delta that lie at or before a position, or behind the end.
fn held(codec: &RelationCodec, delta: &Delta, after: Option<&[u8]>, end: &[u8]) -> Result<Delta> {
    let is_held = |key: &[u8]| after.is_some_and(|after| key <= after) || key > end;
    let keep = match &codec.storage {
        Storage::Keyed(_) => codec.keys(delta.batch())?.iter().map(is_held).collect::<Vec<_>>(),
        Storage::Hashed => {
            let rows = codec.values(delta.batch())?;
            rows.iter().map(|row| is_held(&RelationCodec::row_hash(row))).collect()
        }
        // What a log gets comes behind all that it has.
        Storage::Log => return Ok(delta.clone()),
    };
    delta.filter(&BooleanArray::from(keep))
}
