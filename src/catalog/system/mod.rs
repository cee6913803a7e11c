//! The system relations: `pg_catalog`, `information_schema` and `ms_catalog`, computed from a catalog snapshot.
//!
//! [`shapes`] says which relations there are and which columns they have; every other file fills some of them. A relation
//! that nothing fills is empty with the right columns, which is the truth about us: there are no triggers, say.
//!
//! OIDs are persistent: an object's is its id. What Postgres numbers besides (the index of a primary key, its constraint)
//! is derived from the object's id in a range of its own, see [`numbers`].

use std::sync::Arc;
use std::sync::OnceLock;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::catalog::Catalog;
use crate::error::Result;
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
    /// Watermarks by source or table; with a partition that partition's, without the object's.
    pub watermarks: Vec<(ObjectId, Option<String>, Option<Micros>)>,
    /// The next offset to read of each partition of a source.
    pub offsets: Vec<(ObjectId, String, i64)>,
    /// Views that are being filled.
    pub jobs: Vec<Job>,
    /// What a source's connector complains about at the moment.
    pub troubles: Vec<(ObjectId, String)>,
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
        _ => ms_catalog::fill(relation.name, catalog, context, &mut rows),
    }
    rows.finish()
}

#[cfg(test)]
mod tests;
