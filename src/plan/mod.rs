//! Bound query to incremental plan: [`lower()`] makes it, [`stored`] keeps it, [`explain`] shows it.
//!
//! DataFusion's rules ([`rules`]) take subqueries apart and push work down; then each node of the logical plan becomes one
//! or some of the small set of operations of [`ir`], each with the properties that are proved of it ([`properties`]).

use crate::catalog::Catalog;
use crate::catalog::Storage;
use crate::error::Result;
use crate::ids::ObjectId;
use crate::ids::TableId;
use crate::sql::bound::Query;

pub mod ir;
pub mod scalar;
pub mod literal;
pub mod expr;
pub mod bind;
pub mod properties;
pub mod stored;
pub mod errors;
pub mod explain;
mod objects;
mod nullability;
mod refuse;
pub mod not_in;
mod rules;
mod builder;
mod lower;
#[cfg(test)]
mod tests;

/// A view's query as an incremental plan.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// The plan; its state tables are numbered from the `next_table` given.
    pub plan: ir::Plan,
    /// How the view's rows are stored.
    pub storage: Storage,
    /// The first state table id not used.
    pub next_table: TableId,
}

/// Optimizes a view's query with our list of rules and lowers it. What cannot be maintained is refused with 0A000.
pub fn lower(query: &Query, view: ObjectId, catalog: &Catalog, next_table: TableId) -> Result<Lowered> {
    lower::lower(query, view, catalog, next_table)
}
