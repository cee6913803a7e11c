//! The system relations: `pg_catalog`, `information_schema` and `ms_catalog`, computed from a catalog snapshot.
//!
//! [`shapes`] says which relations there are and which columns they have; every other file fills some of them. A relation
//! that nothing fills is empty with the right columns, which is the truth about us: there are no triggers, say.
//!
//! OIDs are persistent: an object's is its id. What Postgres numbers besides (the index of a primary key, its constraint)
//! is derived from the object's id in a range of its own, see [`numbers`].

use std::fmt;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::catalog::Catalog;
use crate::connectors::Ends;
use crate::error::Result;
use crate::ids::Epoch;
use crate::ids::ObjectId;
use crate::time::Micros;

pub mod describe;
mod fixed;
mod information_schema;
mod ms_catalog;
pub mod numbers;
mod relations;
mod rows;
pub mod session;
pub mod settings;
mod shapes;
mod types;

pub use describe::CatalogNames;
pub use session::SessionFacts;

/// The name of the one database.
pub const DATABASE: &str = "millstream";

/// The schemas that hold the system relations.
pub const SCHEMAS: &[&str] = &[PG_CATALOG, INFORMATION_SCHEMA, MS_CATALOG];

/// What Postgres' clients ask.
pub const PG_CATALOG: &str = "pg_catalog";
/// What the SQL standard asks for.
pub const INFORMATION_SCHEMA: &str = "information_schema";
/// What is ours alone.
pub const MS_CATALOG: &str = "ms_catalog";

/// A relation of a system schema.
#[derive(Clone, Debug)]
pub struct SystemRelation {
    /// Its schema.
    pub schema: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Its OID, fixed for ever.
    pub oid: u32,
    /// Its columns; each field says its SQL type.
    pub columns: SchemaRef,
}

/// What the rows of system relations depend on besides the catalog.
#[derive(Clone, Debug, Default)]
pub struct SystemContext {
    /// The database's name.
    pub database: String,
    /// The session that asks.
    pub session: Arc<SessionFacts>,
    /// The last committed epoch.
    pub epoch: u64,
    /// When it was.
    pub epoch_time: Option<Micros>,
    /// Every watermark.
    pub watermarks: Vec<WatermarkFacts>,
    /// The next offset to read of each partition of a source.
    pub offsets: Vec<(ObjectId, String, i64)>,
    /// Where the partitions of sources end, as they are seen now.
    pub ends: Vec<(ObjectId, Ends)>,
    /// Views that are being filled.
    pub jobs: Vec<Job>,
    /// Where named subscriptions stand.
    pub subscriptions: Vec<SubscriptionFacts>,
    /// What a source's connector complains about at the moment.
    pub troubles: Vec<(ObjectId, String)>,
    /// What is asked when a relation is read.
    pub live: Option<Arc<dyn Live>>,
}

/// A watermark, and who holds it back.
#[derive(Clone, Debug)]
pub struct WatermarkFacts {
    /// The source, table or view.
    pub object: ObjectId,
    /// One of its partitions; `None`: the object as a whole.
    pub partition: Option<String>,
    /// The watermark.
    pub watermark: Option<Micros>,
    /// What it waits for, to move on.
    pub held_by: Option<Holder>,
}

/// Who holds a watermark back: whoever is the furthest behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// An input of the view.
    Object(ObjectId),
    /// A partition of the source.
    Partition(String),
}

/// What changes without an epoch.
pub trait Live: fmt::Debug + Send + Sync {
    /// The last epochs that were committed, oldest first.
    fn epochs(&self) -> Vec<EpochFacts>;

    /// The operators of the views.
    fn operators(&self, catalog: &Catalog) -> Result<Vec<OperatorFacts>>;

    /// What is kept of an object's changes after an epoch.
    fn kept(&self, object: ObjectId, after: Epoch) -> Result<KeptFacts>;

    /// The changes that a view or sink has put out since it was installed in this process.
    fn rows_out(&self, object: ObjectId) -> Option<u64>;
}

/// Where a named subscription stands.
#[derive(Clone, Debug)]
pub struct SubscriptionFacts {
    /// The subscription.
    pub subscription: ObjectId,
    /// The changes after this epoch are kept for it.
    pub epoch: Epoch,
    /// Whether anything was acknowledged yet.
    pub acknowledged: bool,
    /// Whether its retention is over for some that were not acknowledged.
    pub overtaken: bool,
}

/// What is kept of an object's changes.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeptFacts {
    /// When the first of them was.
    pub since: Option<Micros>,
    /// About how much they take.
    pub bytes: u64,
}

/// What a committed epoch was.
#[derive(Clone, Debug)]
pub struct EpochFacts {
    /// Its number.
    pub epoch: u64,
    /// Its time.
    pub time: Micros,
    /// Changes of tables and sources that it took in.
    pub changes: u64,
    /// What its commit wrote, in bytes.
    pub bytes: u64,
    /// How long it was worked on, until it was sealed.
    pub work: Duration,
    /// How long its commit took.
    pub commit: Duration,
}

/// What an operator of a view is, and has done.
#[derive(Clone, Debug)]
pub struct OperatorFacts {
    /// The view.
    pub view: ObjectId,
    /// The number of its node in the view's plan.
    pub node: u32,
    /// The nodes that it reads.
    pub inputs: Vec<u32>,
    /// What it does, as EXPLAIN shows it.
    pub operator: String,
    /// For how many views it works.
    pub views: usize,
    /// Since when it is counted.
    pub since: Micros,
    /// Changes that it was given.
    pub rows_in: u64,
    /// Changes that it put out.
    pub rows_out: u64,
    /// How long it was at work, on all workers together.
    pub busy: Duration,
    /// What its state takes in memory.
    pub state_bytes: usize,
}

impl SystemContext {
    /// How many messages of each partition of a source are there and not yet taken in, where that is known.
    pub fn lags(&self) -> impl Iterator<Item = (ObjectId, &str, i64)> {
        self.offsets.iter().filter_map(|(id, partition, next)| {
            // What was seen of the end may be older than what was taken in.
            Some((*id, partition.as_str(), (self.end(*id, partition)? - next).max(0)))
        })
    }

    /// Where a partition ended when somebody last looked.
    fn end(&self, id: ObjectId, partition: &str) -> Option<i64> {
        let (_, ends) = self.ends.iter().find(|(source, _)| *source == id)?;
        ends.lock().get(partition).copied()
    }
}

/// A view that is being filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The view.
    pub object: ObjectId,
    /// It, and what is filled with it.
    pub objects: Vec<ObjectId>,
    /// When the work began.
    pub begun: Micros,
    /// Rows of its inputs taken in so far.
    pub rows: u64,
    /// About how many there are.
    pub rows_total: Option<u64>,
    /// What keeps it from going on, at the moment.
    pub trouble: Option<String>,
}

/// The relation of this name, if there is one.
pub fn find(schema: &str, name: &str) -> Option<SystemRelation> {
    relations().iter().find(|r| r.schema == schema && r.name == name).cloned()
}

/// Whether a relation has no rows whatever the catalog holds, since we lack what it describes.
pub fn is_always_empty(schema: &str, name: &str) -> bool {
    schema == PG_CATALOG && shapes::ALWAYS_EMPTY.contains(&name)
}

/// Every system relation.
pub fn relations() -> &'static [SystemRelation] {
    static RELATIONS: OnceLock<Vec<SystemRelation>> = OnceLock::new();
    RELATIONS.get_or_init(shapes::relations)
}

/// The rows of a relation for this catalog.
pub fn rows(relation: &SystemRelation, catalog: &Catalog, context: &SystemContext) -> Result<RecordBatch> {
    let mut rows = rows::Rows::new(relation.columns.clone());
    match relation.schema {
        PG_CATALOG => {
            relations::fill(relation.name, catalog, &mut rows);
            types::fill(relation.name, &mut rows);
            fixed::fill(relation.name, catalog, context, &mut rows);
        }
        INFORMATION_SCHEMA => information_schema::fill(relation.name, catalog, context, &mut rows),
        _ => ms_catalog::fill(relation.name, catalog, context, &mut rows)?,
    }
    rows.finish()
}

#[cfg(test)]
mod tests;
