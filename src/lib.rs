//! Millstream: a streaming SQL database. Inputs and questions are declared in SQL over the Postgres protocol; the answers,
//! materialized views, are kept up to date with every change, consistent with each other, and exact after a crash.
//!
//! # The life of a statement
//!
//! 1. [`server`] takes bytes off a socket, and hands statements to the client's [`session`].
//! 2. [`sql::parse()`](fn@sql::parse) splits the text and makes a syntax tree; [`sql::bind()`](fn@sql::bind) resolves names against a
//!    [`catalog::Catalog`] snapshot and gives a [`sql::bound::Bound`] statement, whose queries are DataFusion's logical plans
//!    under our rules ([`sql::semantics`]).
//! 3. A SELECT goes to [`engine::Engine::read`]: DataFusion runs it over the [`state::Snapshot`] of the last committed epoch.
//! 4. An INSERT, UPDATE or DELETE goes to [`engine::Engine::write`] and becomes an [`engine::write::TableWrite`], which the
//!    [`engine::coordinator`] resolves into rows that come and rows that go, and answers once their epoch is committed.
//! 5. A CREATE MATERIALIZED VIEW goes to [`engine::Engine::ddl`]: [`plan::lower()`](fn@plan::lower) makes the incremental
//!    plan, every worker installs it ([`dataflow::build`]), it is committed with the catalog, and filled with the rows that are
//!    there until it joins the others ([`engine::behind`]).
//!
//! # The life of a record
//!
//! 1. A [`connectors::Reader`] takes a message off a topic; [`formats`] decodes it straight into Arrow columns; a
//!    [`connectors::SourceBatch`] waits in a bounded queue. (A row of an INSERT begins at step 2.)
//! 2. The [`engine::coordinator`] takes it into the running epoch as part of a [`delta::Delta`]: rows with weights.
//! 3. [`dataflow::runtime`] cuts the step's deltas among the workers; each [`dataflow::worker`] passes its share through the
//!    [`dataflow::operator::Operator`]s that it reaches, rows changing workers by the hash of a key ([`dataflow::exchange`]).
//! 4. At the epoch's end each operator seals what changed in its state, and [`dataflow::materialize`] the rows of the view,
//!    into [`state::Writes`].
//! 5. [`engine::commit`] writes all of it with offsets and watermarks in one atomic write ([`state::Store::commit`]), and
//!    publishes the epoch: the next SELECT sees the record in every view.
//!
//! The order of the modules below is the dependency order: a module imports only from modules above it.

pub mod allocator;
pub mod error;
pub mod time;
pub mod ids;
pub mod telemetry;
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
