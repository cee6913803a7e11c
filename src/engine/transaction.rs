//! A transaction: statements run at once, on one snapshot with the transaction's own table writes over it. At COMMIT all of
//! them enter one epoch, or none.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::ScalarValue;

use crate::catalog::system::SessionFacts;
use crate::engine::Engine;
use crate::engine::Published;
use crate::engine::Rows;
use crate::engine::Written;
use crate::engine::coordinator::Request;
use crate::engine::query;
use crate::engine::query::View;
use crate::engine::statement;
use crate::engine::table::Changes;
use crate::engine::table::TableShape;
use crate::engine::write::Resolver;
use crate::engine::write::TableWrite;
use crate::error::Result;
use crate::ids::ObjectId;
use crate::sql::bound::Dml;
use crate::sql::bound::Query;
use crate::time::Micros;

/// A transaction in progress.
pub struct Transaction {
    engine: Engine,
    published: Arc<Published>,
    changes: Arc<Changes>,
    /// When it began.
    now: Micros,
}

/// A place in a transaction to go back to.
#[derive(Clone, Debug)]
pub struct Savepoint(Arc<Changes>);

impl Transaction {
    /// A transaction that sees what is published now.
    pub fn new(engine: Engine) -> Transaction {
        let published = engine.published();
        let now = engine.shared.clock.now();
        Transaction { engine, published, changes: Arc::default(), now }
    }

    /// What the transaction sees of the catalog and of views.
    pub fn published(&self) -> &Arc<Published> {
        &self.published
    }

    fn view(&self) -> View {
        let changes = Some(self.changes.clone());
        View { published: self.published.clone(), changes, given: None, session: None, now: self.now }
    }

    /// Reads on the transaction's snapshot with its own writes.
    pub async fn read(
        &self,
        query: &Query,
        parameters: &[ScalarValue],
        session: Option<Arc<SessionFacts>>,
    ) -> Result<Rows> {
        View { session, ..self.view() }.read(&self.engine.shared.state, query, parameters).await
    }

    /// The text rows of EXPLAIN; with `analyze` the query is run, and each line says what it took.
    pub async fn explain(
        &self,
        query: &Query,
        parameters: &[ScalarValue],
        session: Option<Arc<SessionFacts>>,
        analyze: bool,
    ) -> Result<Vec<String>> {
        View { session, ..self.view() }.explain(&self.engine.shared.state, query, parameters, analyze).await
    }

    /// Writes into the transaction; nobody else sees it before COMMIT.
    pub async fn write(&mut self, dml: &Dml, parameters: &[ScalarValue]) -> Result<Written> {
        let write = statement::evaluate(&self.view(), &self.engine.shared, dml, parameters).await?;
        self.resolve(&write)
    }

    /// Writes rows that came with the statement (see [`crate::sql::bound::RelationRef::Given`]).
    pub async fn write_given(&mut self, dml: &Dml, rows: RecordBatch) -> Result<Written> {
        let view = View { given: Some(rows), ..self.view() };
        let write = statement::evaluate(&view, &self.engine.shared, dml, &[]).await?;
        drop(view);
        self.resolve(&write)
    }

    fn resolve(&mut self, write: &TableWrite) -> Result<Written> {
        let shared = &self.engine.shared;
        let mut shapes: HashMap<ObjectId, Arc<TableShape>> = HashMap::new();
        for id in statement::tables(write) {
            if let Some(object) = self.published.catalog.get(id) {
                shapes.insert(id, Arc::new(TableShape::of(object)?));
            }
        }
        let watermarks = |id: ObjectId| self.published.watermark(id);
        // Copied only while a cursor or a savepoint still wants them as they are. On an error nothing was changed.
        let changes = Arc::make_mut(&mut self.changes);
        let mut resolver = Resolver {
            shapes: &shapes,
            changes,
            base: &self.published.snapshot,
            row_ids: &shared.row_ids,
            watermarks: &watermarks,
            sweep: None,
        };
        let resolved = resolver.resolve(write)?;
        if changes.memory_bytes() > shared.epoch_bytes {
            return Err(query::too_large(shared.epoch_bytes));
        }
        Ok(resolved.written)
    }

    /// Marks a place to go back to.
    pub fn savepoint(&mut self) -> Savepoint {
        Savepoint(self.changes.clone())
    }

    /// Takes back what was written since.
    pub fn rollback_to(&mut self, savepoint: &Savepoint) {
        self.changes = savepoint.0.clone();
    }

    /// All of it in one epoch, or 40001.
    pub async fn commit(self) -> Result<()> {
        if self.changes.is_empty() {
            return Ok(());
        }
        let changes = Arc::unwrap_or_clone(self.changes);
        self.engine.ask(|reply| Request::Commit { changes, reply }).await
    }
}
