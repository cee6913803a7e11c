//! Millstream: a streaming SQL database.
//!
//! The order of the modules below is the dependency order: a module imports only from modules above it.

pub mod error;
pub mod time;
pub mod ids;
pub mod fault;
pub mod types;
pub mod delta;
pub mod functions;
pub mod formats;
pub mod connectors;
pub mod state;
pub mod catalog;
pub mod sql;
pub mod plan;
pub mod dataflow;
pub mod engine;
pub mod session;
pub mod server;
pub mod cli;
