//! Incremental plans running on worker threads.

pub mod operator;
