//! OIDs that Postgres has and we derive.

use crate::catalog::Catalog;
use crate::ids::ObjectId;

/// The role that owns everything.
pub const OWNER: u32 = 10;
/// `pg_catalog`.
pub const PG_CATALOG: u32 = 11;
/// `public`.
pub const PUBLIC: u32 = 2200;
/// `information_schema`.
pub const INFORMATION_SCHEMA: u32 = 13000;
/// `ms_catalog`.
pub const MS_CATALOG: u32 = 13500;
/// The access method of tables.
pub const HEAP: u32 = 2;
/// The access method of indexes.
pub const BTREE: u32 = 403;
/// The database.
pub const DATABASE: u32 = 16383;
/// The tablespace.
pub const TABLESPACE: u32 = 1663;
/// The default collation.
pub const DEFAULT_COLLATION: u32 = 100;
/// The collation `C`.
pub const C_COLLATION: u32 = 950;

/// Object ids end here; indexes begin.
const INDEXES: u32 = 0x4000_0000;
/// Constraints begin.
const CONSTRAINTS: u32 = 0x5000_0000;

/// The index behind a table's PRIMARY KEY.
pub fn primary_key_index(table: ObjectId) -> u32 {
    INDEXES + table.0
}

/// A table's PRIMARY KEY constraint.
pub fn primary_key(table: ObjectId) -> u32 {
    CONSTRAINTS + table.0
}

/// The table whose PRIMARY KEY has this index.
pub fn table_of_index(oid: u32) -> Option<ObjectId> {
    (INDEXES..CONSTRAINTS).contains(&oid).then(|| ObjectId(oid - INDEXES))
}

/// The table that has this PRIMARY KEY constraint.
pub fn table_of_constraint(oid: u32) -> Option<ObjectId> {
    (oid >= CONSTRAINTS).then(|| ObjectId(oid - CONSTRAINTS))
}

/// The OID of a schema.
pub fn schema(catalog: &Catalog, name: &str) -> u32 {
    match name {
        "pg_catalog" => PG_CATALOG,
        "information_schema" => INFORMATION_SCHEMA,
        "ms_catalog" => MS_CATALOG,
        _ => catalog.schemas.get(name).map_or(PUBLIC, |id| id.0),
    }
}
