//! Incremental plans running on worker threads.
//!
//! [`graph`] says which node reads which and where rows change workers; [`build`] makes the [`operators`]; a
//! [`worker`] runs its share of all of them; [`runtime`] is the coordinator's side. [`relation`] is how the rows of views
//! and tables lie in the store, [`changelog`] how their changes do while somebody needs them;
//! [`meters`] count what each operator has done.

pub mod row_error;
pub mod relation;
pub mod changelog;
pub mod operator;
pub mod exchange;
pub mod operators;
pub mod build;
pub mod graph;
pub mod input;
pub mod meters;
pub mod materialize;
pub mod watermarks;
pub mod worker;
pub mod runtime;
#[cfg(test)]
mod cuts;
