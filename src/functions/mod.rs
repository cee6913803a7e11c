//! SQL functions as Postgres defines them, where DataFusion lacks them or answers otherwise; one file for each family.

pub mod assign;
pub mod window;
