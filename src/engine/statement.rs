//! DML from its bound form to a write: queries run, expressions compiled, rows in the table's types.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::Schema;
use datafusion::common::ScalarValue;
use datafusion::execution::SessionState;
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::PhysicalExpr;
use futures::TryStreamExt;
use tokio::sync::mpsc;

use crate::catalog::Object;
use crate::delta::arrow_error;
use crate::engine::Shared;
use crate::engine::errors;
use crate::engine::query;
use crate::engine::query::View;
use crate::engine::spill::Piece;
use crate::engine::write::Conflict;
use crate::engine::write::Projection;
use crate::engine::write::TableWrite;
use crate::engine::write::table_gone;
use crate::error::Result;
use crate::functions::from_datafusion;
use crate::ids::ObjectId;
use crate::sql::bound::Dml;
use crate::sql::bound::OnConflict;
use crate::sql::bound::Query;
use crate::sql::bound::Returning;
use crate::types::Column;

/// A statement whose rows take more than this part of an epoch's memory comes in pieces.
const WHOLE_PART: usize = 8;

/// A piece takes about this part of it: what is made of its rows on their way takes many times their room.
const PIECE_PART: usize = 32;

/// What evaluating a statement needs.
struct Evaluation<'a> {
    view: &'a View,
    state: &'a SessionState,
    parameters: &'a [ScalarValue],
    /// What the rows may take in memory.
    bytes_max: usize,
}

/// The write that a statement comes to on what it sees.
pub(super) async fn evaluate(
    view: &View,
    shared: &Shared,
    dml: &Dml,
    parameters: &[ScalarValue],
) -> Result<TableWrite> {
    let bytes_max = if comes_in_pieces(dml) { shared.epoch_bytes / WHOLE_PART } else { shared.epoch_bytes };
    let e = Evaluation { view, state: &shared.state, parameters, bytes_max };
    match source(dml) {
        Some(query) => e.write(dml, &e.rows(query).await?),
        None => e.write(dml, &RecordBatch::new_empty(Arc::new(Schema::empty()))),
    }
}

/// Whether a statement may be taken in piece by piece. What it returns would have to be kept in one, and DO UPDATE has to see
/// all proposed rows.
pub(super) fn comes_in_pieces(dml: &Dml) -> bool {
    match dml {
        Dml::Insert { conflict, returning, .. } => {
            returning.is_none() && matches!(conflict, OnConflict::Error | OnConflict::Nothing)
        }
        Dml::Update { returning, .. } | Dml::Delete { returning, .. } => returning.is_none(),
        Dml::Truncate { .. } => false,
    }
}

/// Sends what a statement comes to on what it sees, piece by piece.
pub(super) async fn send_pieces(
    view: &View,
    shared: &Shared,
    dml: &Dml,
    parameters: &[ScalarValue],
    pieces: &mpsc::Sender<Piece>,
) -> Result<()> {
    let e = Evaluation { view, state: &shared.state, parameters, bytes_max: shared.epoch_bytes / PIECE_PART };
    let Some(query) = source(dml) else { return Ok(()) };
    let mut rows = e.view.read(e.state, query, e.parameters).await?;
    let (mut waiting, mut bytes) = (Vec::new(), 0);
    loop {
        let batch = rows.stream.try_next().await.map_err(from_datafusion)?;
        let last = batch.is_none();
        waiting.extend(batch.inspect(|batch| bytes += batch.get_array_memory_size()));
        if last || bytes > e.bytes_max {
            let piece = concat_batches(&rows.schema, &waiting).map_err(arrow_error)?;
            (waiting, bytes) = (Vec::new(), 0);
            if pieces.send(Piece::Write(e.write(dml, &piece)?)).await.is_err() {
                return Ok(());
            }
        }
        if last {
            return Ok(());
        }
    }
}

/// What a statement reads: the rows to insert, or those that it changes.
fn source(dml: &Dml) -> Option<&Query> {
    match dml {
        Dml::Insert { source, .. } => Some(source),
        Dml::Update { scan, .. } | Dml::Delete { scan, .. } => Some(scan),
        Dml::Truncate { .. } => None,
    }
}

/// The tables that a write changes.
pub fn tables(write: &TableWrite) -> Vec<ObjectId> {
    match write {
        TableWrite::Insert { table, .. }
        | TableWrite::Upsert { table, .. }
        | TableWrite::Update { table, .. }
        | TableWrite::Delete { table, .. } => {
            vec![*table]
        }
        TableWrite::Truncate { tables } => tables.clone(),
    }
}

impl Evaluation<'_> {
    fn table(&self, id: ObjectId) -> Result<Arc<Object>> {
        let object = self.view.published.catalog.get(id).cloned().ok_or_else(table_gone)?;
        errors::refuse_write(&object)?;
        Ok(object)
    }

    /// The write that a statement comes to on these rows of its [`source`].
    fn write(&self, dml: &Dml, rows: &RecordBatch) -> Result<TableWrite> {
        match dml {
            Dml::Insert { table, conflict, returning, .. } => {
                let object = self.table(*table)?;
                let columns = object.columns().to_vec();
                let (rows, conflict) = (query::with_columns(rows, &columns)?, self.conflict(conflict, &columns)?);
                Ok(TableWrite::Insert {
                    table: *table,
                    rows,
                    conflict,
                    returning: self.returning(returning, &columns)?,
                })
            }
            Dml::Update { table, predicate, assignments, computed, returning, .. } => {
                let object = self.table(*table)?;
                let (stored, columns) = (object.stored_columns(), object.columns().to_vec());
                let found = query::with_columns(rows, &stored)?;
                let computed = if *computed {
                    let new = rows.project(&(stored.len()..rows.num_columns()).collect::<Vec<_>>());
                    Some(query::with_columns(&new.map_err(arrow_error)?, &columns)?)
                } else {
                    None
                };
                Ok(TableWrite::Update {
                    table: *table,
                    found,
                    predicate: self.optional(predicate.as_ref(), &columns)?,
                    assignments: self.assignments(assignments, &columns)?,
                    computed,
                    returning: self.returning(returning, &columns)?,
                })
            }
            Dml::Delete { table, predicate, returning, .. } => {
                let object = self.table(*table)?;
                let columns = object.columns().to_vec();
                Ok(TableWrite::Delete {
                    table: *table,
                    found: query::with_columns(rows, &object.stored_columns())?,
                    fixed: predicate.is_none(),
                    predicate: self.optional(predicate.as_ref(), &columns)?,
                    returning: self.returning(returning, &columns)?,
                })
            }
            Dml::Truncate { tables } => {
                tables.iter().try_for_each(|&table| self.table(table).map(drop))?;
                Ok(TableWrite::Truncate { tables: tables.clone() })
            }
        }
    }

    async fn rows(&self, query: &Query) -> Result<RecordBatch> {
        query::collect(self.view.read(self.state, query, self.parameters).await?, self.bytes_max).await
    }

    fn compile(&self, expressions: &[Expr], columns: &[Column]) -> Result<Vec<Arc<dyn PhysicalExpr>>> {
        let plain = expressions.iter().map(|e| query::unqualified(e, self.parameters)).collect::<Result<Vec<_>>>()?;
        query::compile(self.state, plain, columns)
    }

    fn optional(&self, expression: Option<&Expr>, columns: &[Column]) -> Result<Option<Arc<dyn PhysicalExpr>>> {
        let Some(expression) = expression else { return Ok(None) };
        Ok(self.compile(std::slice::from_ref(expression), columns)?.pop())
    }

    fn assignments(
        &self,
        assignments: &[(usize, Expr)],
        columns: &[Column],
    ) -> Result<Vec<(usize, Arc<dyn PhysicalExpr>)>> {
        let (places, expressions): (Vec<_>, Vec<_>) = assignments.iter().cloned().unzip();
        Ok(places.into_iter().zip(self.compile(&expressions, columns)?).collect())
    }

    fn conflict(&self, conflict: &OnConflict, columns: &[Column]) -> Result<Conflict> {
        Ok(match conflict {
            OnConflict::Error => Conflict::Error,
            OnConflict::Nothing => Conflict::Nothing,
            OnConflict::Update { assignments, filter } => {
                let excluded = columns.iter().map(|c| Column { name: format!("excluded.{}", c.name), ..c.clone() });
                let both = columns.iter().cloned().chain(excluded).collect::<Vec<_>>();
                let assignments = self.assignments(assignments, &both)?;
                Conflict::Update { assignments, filter: self.optional(filter.as_ref(), &both)? }
            }
        })
    }

    fn returning(&self, returning: &Option<Returning>, columns: &[Column]) -> Result<Option<Projection>> {
        let Some(returning) = returning else { return Ok(None) };
        let expressions = self.compile(&returning.expressions, columns)?;
        Ok(Some(Projection { expressions, columns: returning.columns.clone() }))
    }
}
