//! The coordinator's part in changelogs: takes readers in, records what tables change, lets go of what nobody needs.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::array::new_null_array;
use arrow::datatypes::SchemaRef;

use crate::catalog::Object;
use crate::catalog::ObjectKind;
use crate::dataflow::changelog;
use crate::dataflow::changelog::ChangelogCodec;
use crate::dataflow::changelog::Recording;
use crate::dataflow::input::FAULTS_COLUMN;
use crate::delta::Delta;
use crate::delta::arrow_error;
use crate::engine::coordinator::Coordinator;
use crate::engine::named::Named;
use crate::engine::needs::Cursor;
use crate::engine::needs::Expired;
use crate::engine::needs::Needs;
use crate::engine::needs::Trim;
use crate::engine::records;
use crate::engine::records::Counters;
use crate::error::Error;
use crate::error::Result;
use crate::ids::Epoch;
use crate::ids::ObjectId;
use crate::ids::Portion;
use crate::sql::bound::Query;
use crate::state::Snapshot;
use crate::state::Space;
use crate::state::StateReader;
use crate::state::Store;
use crate::time::Micros;
use crate::types::Column;
use crate::types::SqlType;
use crate::types::schema_of;

/// The number of the part of an epoch's changelog that is not a worker's.
const COORDINATOR: u16 = u16::MAX;

/// How often changelogs are looked through for what has grown too old.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// So many chunks of a changelog are looked at each time.
const LOOK_CHUNKS: usize = 1024;

/// What is to be subscribed to.
pub enum Target {
    /// A table or materialized view.
    Object(ObjectId),
    /// What a named subscription follows; whether the rows as they are come first, if that is said.
    Named(ObjectId, Option<bool>),
    /// A query, for which a view is installed that nobody else sees.
    Query(Box<Query>),
}

/// A reader that was taken in.
pub struct Followed {
    /// What it reads. A transient view is in no catalog.
    pub object: Arc<Object>,
    /// What cannot go without ending it: the object, or what its transient view reads.
    pub lives_by: BTreeSet<ObjectId>,
    /// Tells what it no longer needs.
    pub cursor: Arc<Cursor>,
    /// The changelog is there after this epoch.
    pub from: Epoch,
    /// Where it goes on; `None`: it begins with the rows as they are.
    pub as_of: Option<Epoch>,
}

/// Changelogs as the coordinator keeps them.
pub struct Changelogs {
    /// Who needs which.
    pub needs: Needs,
    /// Named subscriptions, which hold needs of their own.
    pub named: BTreeMap<ObjectId, Named>,
    /// The last epoch that was sealed.
    pub sealed: Epoch,
    /// What the running epoch has brought of sources whose changes are needed.
    sources: BTreeMap<ObjectId, Vec<Delta>>,
    /// When they were last looked through.
    looked: Option<Instant>,
}

impl Changelogs {
    /// The changelogs of a database that has come to this epoch.
    pub fn new(sealed: Epoch) -> Changelogs {
        Changelogs { needs: Needs::default(), named: BTreeMap::new(), sealed, sources: BTreeMap::new(), looked: None }
    }

    /// Forgets an epoch that was not committed: this one is the last.
    pub fn return_to(&mut self, sealed: Epoch) {
        self.sealed = sealed;
        self.sources.clear();
    }

    /// Notes what a source has brought, if somebody needs it.
    pub fn note(&mut self, source: ObjectId, delta: &Delta) {
        if self.needs.is_needed(source) {
            self.sources.entry(source).or_default().push(delta.clone());
        }
    }
}

impl Coordinator {
    /// Takes in a reader of an object's changes: from now on, or after an epoch that is still kept.
    pub(super) fn follow(&mut self, id: ObjectId, as_of: Option<Epoch>) -> Result<Followed> {
        let object = self.catalog.get(id).cloned();
        let object = object.ok_or_else(|| Error::undefined_table("the relation was dropped meanwhile"))?;
        self.must_have_joined(&BTreeSet::from([id]))?;
        let now = self.changelogs.sealed;
        let (cursor, from) = match as_of {
            None => (self.changelogs.needs.follow(id, now), now),
            Some(from) => {
                self.must_have_been(from)?;
                let resumed = self.changelogs.needs.resume(id, from, now);
                (resumed.ok_or_else(|| no_longer_kept(&object, from))?, from)
            }
        };
        Ok(Followed { object, lives_by: BTreeSet::from([id]), cursor, from, as_of })
    }

    /// Refuses an epoch that was not committed: one that is to come, or one that did not survive.
    pub(super) fn must_have_been(&self, epoch: Epoch) -> Result<()> {
        let Counters { first_epoch, runs, .. } = &self.counters;
        if epoch > self.changelogs.sealed {
            let message = format!("epoch {epoch} is not committed yet");
            return Err(Error::invalid_parameter(message)
                .detail(format!("The last one is {}.", self.changelogs.sealed))
                .hint("SELECT max(epoch) FROM ms_catalog.epochs tells the last one."));
        }
        if epoch >= *first_epoch || runs.iter().any(|(first, last)| (*first..=*last).contains(&epoch)) {
            return Ok(());
        }
        Err(Error::invalid_parameter(format!("epoch {epoch} was never committed"))
            .detail("It is no epoch of this database, or was lost when the machine went down.")
            .hint("Subscribe without AS OF, and begin with the rows as they are."))
    }

    /// What the epoch about to be sealed is to record.
    pub(super) fn recording(&mut self, time: Micros) -> Recording {
        Recording { time, objects: self.changelogs.needs.objects() }
    }

    /// Records what the epoch has changed in tables. A row that goes carries the watermark of its change, as in the dataflow.
    pub(super) fn record_tables(&mut self, portion: Portion, recording: &Recording) -> Result<()> {
        for id in self.changes.tables().filter(|id| recording.objects.contains(id)) {
            let (Some(object), Some(shape)) = (self.catalog.get(id), self.shapes.get(&id)) else { continue };
            let (mut old, mut new) = (Vec::new(), Vec::new());
            for (key, change) in self.changes.of(id).filter(|(_, change)| change.before != change.after) {
                old.extend(change.before.as_ref().map(|value| (&key[..], &value[..])));
                new.extend(change.after.as_ref().map(|value| (&key[..], &value[..])));
            }
            let old = shape.stamped(&shape.codec.decode(&old)?, self.inputs.watermark(id))?;
            let old = Delta::inserts(old).negate();
            let delta = Delta::concat(&shape.codec.schema, &[old, Delta::inserts(shape.codec.decode(&new)?)])?;
            let codec = ChangelogCodec::new(&recorded_columns(object));
            for (key, value) in codec.encode(&delta, portion, COORDINATOR, recording.time)? {
                self.writes.put(Space::Changelog(id), &key, &value);
            }
        }
        Ok(())
    }

    /// Records what the epoch has brought of sources.
    pub(super) fn record_sources(&mut self, portion: Portion, recording: &Recording) -> Result<()> {
        for (id, deltas) in std::mem::take(&mut self.changelogs.sources) {
            let Some(object) = self.catalog.get(id).filter(|_| recording.objects.contains(&id)) else { continue };
            let columns = recorded_columns(object);
            let schema = schema_of(&columns);
            let deltas = deltas.iter().map(|delta| with_faults(delta, &schema)).collect::<Result<Vec<_>>>()?;
            let delta = Delta::concat(&schema, &deltas)?;
            for (key, value) in ChangelogCodec::new(&columns).encode(&delta, portion, COORDINATOR, recording.time)? {
                self.writes.put(Space::Changelog(id), &key, &value);
            }
        }
        Ok(())
    }

    /// What the committer may drop once this epoch is on disk.
    pub(super) fn trim_changelogs(&mut self, epoch: Epoch, base: &StateReader, time: Micros) -> Result<Vec<Trim>> {
        self.changelogs.sealed = epoch;
        let now = self.clock.instant();
        let look = self.changelogs.looked.is_none_or(|looked| now - looked >= LOOK_EVERY);
        let mut expired = look.then(Expired::new);
        if let Some(expired) = &mut expired {
            self.changelogs.looked = Some(now);
            for (object, since, retention_ms) in self.changelogs.needs.retained() {
                let limit = time.saturating_sub_unsigned(retention_ms.saturating_mul(1000));
                expired.insert((object, retention_ms), older_than(base, object, since, limit)?);
            }
        }
        let trims = self.changelogs.needs.trim(epoch, expired.as_ref());
        for trim in trims.iter().filter(|trim| trim.lasting) {
            records::put_kept(&mut self.writes, trim.object, trim.up_to);
        }
        Ok(trims)
    }
}

/// The columns that the changelog of an object has: the stored ones, and for a source the marks of values that could not be had.
pub fn recorded_columns(object: &Object) -> Vec<Column> {
    let mut columns = object.stored_columns();
    if let ObjectKind::Source(_) = object.kind {
        columns.push(Column { name: FAULTS_COLUMN.into(), ty: SqlType::Bytea, nullable: true });
    }
    columns
}

/// Rows of a source with a column of marks, whether they have one or not.
fn with_faults(delta: &Delta, schema: &SchemaRef) -> Result<Delta> {
    let mut columns = delta.batch().columns().to_vec();
    if let Some(missing) = schema.fields().get(columns.len()) {
        columns.push(new_null_array(missing.data_type(), delta.len()));
    }
    Ok(delta.with_batch(RecordBatch::try_new(schema.clone(), columns).map_err(arrow_error)?))
}

/// The last epoch of an object's changelog after `since` that is older than `limit`; `since` if there is none.
fn older_than(base: &StateReader, object: ObjectId, since: Epoch, limit: Micros) -> Result<Epoch> {
    let mut last = since;
    let from = changelog::key_of(since.next());
    let mut scan = base.scan(Space::Changelog(object), Some(&from), None);
    for _ in 0..LOOK_CHUNKS {
        let Some((key, value)) = scan.next_entry()? else { break };
        let (epoch, time) = changelog::head(key, value)?;
        if time >= limit {
            break;
        }
        last = epoch;
    }
    Ok(last)
}

fn no_longer_kept(object: &Object, epoch: Epoch) -> Error {
    let message =
        format!("the changes of {} \"{}\" after epoch {epoch} are no longer kept", object.noun(), object.name);
    let hint = match object.retain_history_ms {
        Some(_) => "Create it with a longer retain_history, and subscribe without AS OF for now.",
        None => "Create it WITH (retain_history = '1 hour'), say, and subscribe without AS OF for now.",
    };
    Error::snapshot_too_old(message).hint(hint)
}

/// Drops what the committed epochs do not need any more.
pub fn drop_trimmed(store: &Store, trims: &[Trim]) -> Result<()> {
    for trim in trims {
        let from = if trim.whole { records::KEPT.to_vec() } else { changelog::key_of(Epoch(0)).to_vec() };
        store.drop_changes(trim.object, &from, trim.up_to)?;
    }
    Ok(())
}

/// Since when the changelog of an object with `retain_history` is kept; `None` if it says none.
pub fn kept_since(snapshot: &Snapshot, object: &Object) -> Result<Option<(u64, Epoch)>> {
    let Some(retention_ms) = object.retain_history_ms else { return Ok(None) };
    let since = records::kept(snapshot, object.id)?;
    let missing = || Error::corrupted(format!("the changelog of \"{}\" has no beginning", object.name));
    Ok(Some((retention_ms, since.ok_or_else(missing)?)))
}
