//! Incremental plans running on worker threads.

pub mod build;
pub mod exchange;
pub mod operator;
pub mod operators;
