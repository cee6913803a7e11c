//! Incremental plans running on worker threads.

pub mod operator;
pub mod operators;
