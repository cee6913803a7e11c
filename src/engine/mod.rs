//! The engine: owner of catalog, store and runtime. Sessions call it; it knows no client.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::physical_plan::SendableRecordBatchStream;

use crate::catalog::Catalog;
use crate::error::{Error, Result};
use crate::ids::{Epoch, ObjectId};
use crate::sql::bound::{Ddl, Dml, Query};

/// How to open an engine.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Where everything is stored.
    pub data_dir: PathBuf,
    /// Worker threads.
    pub workers: usize,
    /// The memory that caches, state and the store may take together, in bytes.
    pub memory_limit_bytes: usize,
}

/// A running database. Cheap to clone.
#[derive(Clone)]
pub struct Engine;

/// What readers see: the last committed epoch.
pub struct Published {
    /// Its number.
    pub epoch: Epoch,
    /// Its catalog.
    pub catalog: Arc<Catalog>,
}

/// What a DDL statement did.
#[derive(Clone, Debug, Default)]
pub struct DdlOutcome {
    /// The command tag (`CREATE TABLE`).
    pub tag: String,
    /// NOTICEs for the client.
    pub notices: Vec<String>,
}

/// What a DML statement did.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// Rows inserted, updated or deleted.
    pub rows: u64,
    /// The rows of RETURNING.
    pub returning: Option<RecordBatch>,
}

/// A value of a parameter `$n`.
pub use datafusion::common::ScalarValue as Parameter;

/// The rows of a read, streamed. Dropping it cancels the read.
pub struct Rows {
    /// The Arrow schema of the batches.
    pub schema: SchemaRef,
    /// The batches.
    pub stream: SendableRecordBatchStream,
}

/// A transaction: one snapshot, and its own table writes over it.
pub struct Transaction;

impl Engine {
    /// Opens the database in its directory, creating or recovering it.
    pub fn open(_options: EngineOptions) -> Result<Engine> {
        Err(Error::internal(""))
    }

    /// What readers see now.
    pub fn published(&self) -> Arc<Published> {
        unreachable!()
    }

    /// Changes the catalog. Returns when the change is committed and, for a view, filled. Dropping the future cancels it.
    pub async fn ddl(&self, _ddl: Ddl) -> Result<DdlOutcome> {
        Err(Error::internal(""))
    }

    /// Reads at the last committed epoch.
    pub async fn read(&self, _query: &Query, _parameters: &[Parameter]) -> Result<Rows> {
        Err(Error::internal(""))
    }

    /// Writes and waits until the write is committed and visible.
    pub async fn write(&self, _dml: &Dml, _parameters: &[Parameter]) -> Result<Written> {
        Err(Error::internal(""))
    }

    /// Begins a transaction at the last committed epoch.
    pub fn begin(&self) -> Transaction {
        Transaction
    }

    /// Waits until all input that had arrived is visible.
    pub async fn flush(&self) -> Result<()> {
        Err(Error::internal(""))
    }

    /// The text rows of EXPLAIN.
    pub async fn explain(&self, _query: &Query) -> Result<Vec<String>> {
        Err(Error::internal(""))
    }

    /// The text rows of EXPLAIN MATERIALIZED VIEW.
    pub fn explain_view(&self, _view: ObjectId) -> Result<Vec<String>> {
        Err(Error::internal(""))
    }

    /// Stops cleanly: the running epoch is committed, waiting writes are answered.
    pub async fn shutdown(&self) -> Result<()> {
        Err(Error::internal(""))
    }
}

impl Transaction {
    /// What the transaction sees of the catalog and of views.
    pub fn published(&self) -> &Arc<Published> {
        unreachable!()
    }

    /// Reads on the transaction's snapshot with its own writes.
    pub async fn read(&self, _query: &Query, _parameters: &[Parameter]) -> Result<Rows> {
        Err(Error::internal(""))
    }

    /// Writes into the transaction; nobody else sees it before COMMIT.
    pub async fn write(&mut self, _dml: &Dml, _parameters: &[Parameter]) -> Result<Written> {
        Err(Error::internal(""))
    }

    /// Marks a place to go back to.
    pub fn savepoint(&mut self) -> Savepoint {
        Savepoint
    }

    /// Takes back what was written since.
    pub fn rollback_to(&mut self, _savepoint: &Savepoint) {}

    /// All of it in one epoch, or 40001.
    pub async fn commit(self) -> Result<()> {
        Err(Error::internal(""))
    }
}

/// A place in a transaction.
#[derive(Clone, Debug)]
pub struct Savepoint;
