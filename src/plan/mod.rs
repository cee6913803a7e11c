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
use crate::sql::bound::ViewOptions;
use crate::types::Column;

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
#[derive(Clone)]
pub struct Lowered {
    /// The plan; its state tables are numbered from the `next_table` given.
    pub plan: ir::Plan,
    /// How the view's rows are stored.
    pub storage: Storage,
    /// The first state table id not used.
    pub next_table: TableId,
    /// What is to be in `<view>$late`, if anything can be late for the view.
    pub late: Option<Late>,
}

/// The rows that are late for a view, with each window that they are late for: a plan of its own, without state.
#[derive(Clone)]
pub struct Late {
    builder: builder::Builder,
    root: crate::ids::NodeId,
    /// The columns of the relation.
    pub columns: Vec<Column>,
}

impl Late {
    /// The plan that keeps these rows as the content of `object`.
    pub fn plan(self, object: ObjectId) -> ir::Plan {
        self.builder.finish(self.root, object, &self.columns, TableId(0)).0
    }
}

/// Optimizes a view's query with our list of rules and lowers it. What cannot be maintained is refused with 0A000.
pub fn lower(
    query: &Query,
    options: &ViewOptions,
    view: ObjectId,
    catalog: &Catalog,
    next_table: TableId,
) -> Result<Lowered> {
    lower::lower(query, options, view, catalog, next_table)
}
