//! SQL functions as Postgres defines them, where DataFusion lacks them or answers otherwise; one file for each family.

pub mod accumulators;
pub mod arithmetic;
pub mod cast;
pub mod catalog;
pub mod columns;
pub mod operator;
pub mod patterns;
pub mod raise;
pub mod temporal;

pub use raise::from_datafusion;
