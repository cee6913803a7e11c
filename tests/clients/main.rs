//! Real clients: the statements that they send by themselves, replayed beside a real PostgreSQL, and their drivers at work.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)] // a test fails by panicking, and lives in real time

mod drivers;
#[path = "../wire/raw.rs"]
#[allow(dead_code)] // shared with the tests of the wire
mod raw;
mod replay;
#[path = "../support/mod.rs"]
mod support;
