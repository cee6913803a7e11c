//! The operators of incremental plans, one file or folder each.

pub mod aggregate;
