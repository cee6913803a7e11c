//! Incremental plans running on worker threads.

pub mod exchange;
pub mod operator;
pub mod operators;
