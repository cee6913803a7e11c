//! What the engine keeps in the store besides rows and operator state: catalog records, counters, progress of inputs. Each
//! record is a version byte and JSON.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::catalog::Catalog;
use crate::catalog::Object;
use crate::engine::behind::Filled;
use crate::engine::history::History;
use crate::engine::history::Moment;
use crate::engine::named::Stand;
use crate::error::Error;
use crate::error::Result;
use crate::ids::Epoch;
use crate::ids::ObjectId;
use crate::ids::TableId;
use crate::state::Snapshot;
use crate::state::Space;
use crate::state::Writes;
use crate::time::Micros;

/// The version of all these records.
const VERSION: u8 = 1;

/// The key of the counters; shorter than any object's key.
const COUNTERS: &[u8] = b"c";

/// The key of the schemas; shorter than any object's key.
const SCHEMAS: &[u8] = b"s";

/// Numbers that are never given out twice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// The next object id.
    pub next_object: ObjectId,
    /// The next state table id.
    pub next_table: TableId,
    /// No epoch at or above this one was ever begun.
    pub epochs_reserved: u64,
    /// The first epoch since the server was started.
    pub first_epoch: Epoch,
    /// The first and the last epoch of each time before that the server ran. Numbers between them were never committed.
    pub runs: Vec<(Epoch, Epoch)>,
    /// The time of the last epoch; it never moves back.
    pub time: Micros,
}

/// How far an input has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Each partition's next offset (of a source) and highest watermark expression.
    pub partitions: BTreeMap<String, PartitionProgress>,
    /// The watermark.
    pub watermark: Option<Micros>,
}

/// How far a partition has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionProgress {
    /// The next offset to read.
    pub offset: i64,
    /// The highest value of the watermark expression.
    pub watermark: Option<Micros>,
}

/// Sets an object's catalog record.
pub fn put_object(writes: &mut Writes, object: &Object) -> Result<()> {
    writes.put(Space::Catalog, &object.id.0.to_be_bytes(), &encode(object)?);
    Ok(())
}

/// Takes an object's records out.
pub fn delete_object(writes: &mut Writes, id: ObjectId) {
    writes.delete(Space::Catalog, &id.0.to_be_bytes());
    writes.delete(Space::Progress, &id.0.to_be_bytes());
    delete_filled(writes, id);
    writes.delete(Space::Progress, &stand_key(id));
}

/// Sets the schemas that users created.
pub fn put_schemas(writes: &mut Writes, schemas: &BTreeMap<String, ObjectId>) -> Result<()> {
    writes.put(Space::Catalog, SCHEMAS, &encode(schemas)?);
    Ok(())
}

/// Sets the counters.
pub fn put_counters(writes: &mut Writes, counters: &Counters) -> Result<()> {
    writes.put(Space::Catalog, COUNTERS, &encode(counters)?);
    Ok(())
}

/// Sets an input's progress.
pub fn put_progress(writes: &mut Writes, id: ObjectId, progress: &Progress) -> Result<()> {
    writes.put(Space::Progress, &id.0.to_be_bytes(), &encode(progress)?);
    Ok(())
}

/// Takes an input's progress out: nobody reads it any more.
pub fn delete_progress(writes: &mut Writes, id: ObjectId) {
    writes.delete(Space::Progress, &id.0.to_be_bytes());
}

/// Keeps where the watermark of a source moved.
pub fn put_moment(writes: &mut Writes, id: ObjectId, epoch: Epoch, moment: &Moment) -> Result<()> {
    writes.put(Space::Progress, &[&id.0.to_be_bytes()[..], &epoch.0.to_be_bytes()[..]].concat(), &encode(moment)?);
    Ok(())
}

/// Calls `each` with the key and the moment of each move of a source's watermark, in order.
fn moments(snapshot: &Snapshot, id: ObjectId, mut each: impl FnMut(&[u8], Moment)) -> Result<()> {
    let from = [&id.0.to_be_bytes()[..], &[0]].concat();
    // Epochs, of eight bytes, begin with a zero.
    let to = [&id.0.to_be_bytes()[..], &[1]].concat();
    let mut scan = snapshot.scan(Space::Progress, Some(&from), Some(&to));
    while let Some((key, value)) = scan.next_entry()? {
        each(key, decode(value, "a moment of a source")?);
    }
    Ok(())
}

/// How a source's watermark came to where it is.
pub fn history(snapshot: &Snapshot, id: ObjectId) -> Result<History> {
    let mut history = History::default();
    moments(snapshot, id, |_, moment| history.push(&moment))?;
    Ok(history)
}

/// Takes a source's history out.
pub fn delete_history(writes: &mut Writes, snapshot: &Snapshot, id: ObjectId) -> Result<()> {
    moments(snapshot, id, |key, _| writes.delete(Space::Progress, key))
}

/// The key of how far a view that stands behind has come.
fn filled_key(view: ObjectId) -> Vec<u8> {
    [&view.0.to_be_bytes()[..], b"f"].concat()
}

/// Sets how far a view that stands behind has come.
pub fn put_filled(writes: &mut Writes, view: ObjectId, filled: &Filled) -> Result<()> {
    writes.put(Space::Progress, &filled_key(view), &encode(filled)?);
    Ok(())
}

/// Takes out how far a view had come: it does not stand behind any more.
pub fn delete_filled(writes: &mut Writes, view: ObjectId) {
    writes.delete(Space::Progress, &filled_key(view));
}

/// How far a view that stands behind has come; `None` for one that does not.
pub fn filled(snapshot: &Snapshot, view: ObjectId) -> Result<Option<Filled>> {
    let value = snapshot.get(Space::Progress, &filled_key(view))?;
    value.map(|value| decode(&value, "how far a view has come")).transpose()
}

/// The key of where a named subscription stands.
fn stand_key(subscription: ObjectId) -> Vec<u8> {
    [&subscription.0.to_be_bytes()[..], b"s"].concat()
}

/// Sets where a named subscription stands.
pub fn put_stand(writes: &mut Writes, subscription: ObjectId, stand: &Stand) -> Result<()> {
    writes.put(Space::Progress, &stand_key(subscription), &encode(stand)?);
    Ok(())
}

/// Where a named subscription stands.
pub fn stand(snapshot: &Snapshot, subscription: ObjectId) -> Result<Stand> {
    let value = snapshot.get(Space::Progress, &stand_key(subscription))?;
    let value = value.ok_or_else(|| Error::corrupted("a subscription stands nowhere"))?;
    decode(&value, "where a subscription stands")
}

/// The key of the last hidden row id given out; shorter than any object's key.
const ROW_ID: &[u8] = b"r";

/// Sets the last hidden row id given out.
pub fn put_row_id(writes: &mut Writes, row_id: i64) {
    writes.put(Space::Progress, ROW_ID, &row_id.to_be_bytes());
}

/// The last hidden row id given out.
pub fn row_id(snapshot: &Snapshot) -> Result<i64> {
    let Some(bytes) = snapshot.get(Space::Progress, ROW_ID)? else { return Ok(0) };
    let bytes = bytes.try_into().map_err(|_| Error::corrupted("the record of row ids is damaged"))?;
    Ok(i64::from_be_bytes(bytes))
}

/// The key, in an object's changelog, of the epoch after which it is kept; before all chunks.
pub const KEPT: &[u8] = b"";

/// Sets since when an object's changelog is kept.
pub fn put_kept(writes: &mut Writes, object: ObjectId, since: Epoch) {
    writes.put(Space::Changelog(object), KEPT, &since.0.to_be_bytes());
}

/// Since when an object's changelog is kept.
pub fn kept(snapshot: &Snapshot, object: ObjectId) -> Result<Option<Epoch>> {
    let Some(bytes) = snapshot.get(Space::Changelog(object), KEPT)? else { return Ok(None) };
    let bytes = bytes.try_into().map_err(|_| Error::corrupted("the record of a changelog is damaged"))?;
    Ok(Some(Epoch(u64::from_be_bytes(bytes))))
}

/// The catalog and counters as stored; those of a new database if there are none.
pub fn load(snapshot: &Snapshot) -> Result<(Catalog, Counters)> {
    let mut catalog = Catalog::new();
    let mut counters = Counters::default();
    let mut scan = snapshot.scan(Space::Catalog, None, None);
    while let Some((key, value)) = scan.next_entry()? {
        if key == COUNTERS {
            counters = decode(value, "the counters")?;
        } else if key == SCHEMAS {
            catalog.schemas = decode(value, "the list of schemas")?;
        } else {
            catalog.insert(decode::<Object>(value, "an object of the catalog")?);
        }
    }
    catalog.next_object = catalog.next_object.max(counters.next_object);
    catalog.next_table = catalog.next_table.max(counters.next_table);
    Ok((catalog, counters))
}

/// An input's progress.
pub fn progress(snapshot: &Snapshot, id: ObjectId) -> Result<Option<Progress>> {
    let value = snapshot.get(Space::Progress, &id.0.to_be_bytes())?;
    value.map(|value| decode(&value, "the progress of an input")).transpose()
}

fn encode<T: Serialize>(record: &T) -> Result<Vec<u8>> {
    let mut bytes = vec![VERSION];
    serde_json::to_writer(&mut bytes, record)
        .map_err(|e| Error::internal(format!("a record cannot be written: {e}")))?;
    Ok(bytes)
}

fn decode<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T> {
    match bytes.split_first() {
        Some((&VERSION, json)) => {
            serde_json::from_slice(json).map_err(|e| Error::corrupted(format!("{what} cannot be read: {e}")))
        }
        Some((version, _)) => {
            Err(Error::corrupted(format!("{what} has format {version}, which this version cannot read"))
                .hint("Use the version of Millstream that wrote this data directory, or a newer one."))
        }
        None => Err(Error::corrupted(format!("{what} is empty"))),
    }
}
