//! Bound query to incremental plan: [`lower`] makes it, [`stored`] keeps it, [`explain`] shows it.

use crate::catalog::{Catalog, Storage};
use crate::error::{Error, Result};
use crate::ids::{ObjectId, TableId};
use crate::sql::bound::Query;

pub mod ir;
pub mod scalar;
pub mod literal;
pub mod expr;
pub mod bind;

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
pub fn lower(_query: &Query, _view: ObjectId, _catalog: &Catalog, _next_table: TableId) -> Result<Lowered> {
    Err(Error::internal(""))
}
