//! SQL text to bound statements.

pub mod bound;
