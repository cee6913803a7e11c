//! DML from its bound form to a write: queries run, expressions compiled, rows in the table's types.

use std::sync::Arc;

use datafusion::common::ScalarValue;
use datafusion::execution::SessionState;
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::PhysicalExpr;

use crate::catalog::Object;
use crate::engine::Shared;
use crate::engine::errors;
use crate::engine::query;
use crate::engine::query::View;
use crate::engine::write::Conflict;
use crate::engine::write::Projection;
use crate::engine::write::TableWrite;
use crate::error::Error;
use crate::error::Result;
use crate::ids::ObjectId;
use crate::sql::bound::Dml;
use crate::sql::bound::OnConflict;
use crate::sql::bound::Query;
use crate::sql::bound::Returning;
use crate::types::Column;

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
    let e = Evaluation { view, state: &shared.state, parameters, bytes_max: shared.epoch_bytes };
    match dml {
        Dml::Insert { table, source, conflict, returning } => {
            let object = e.table(*table)?;
            let columns = object.columns().to_vec();
            let rows = query::with_columns(&e.rows(source).await?, &columns)?;
            let conflict = e.conflict(conflict, &columns)?;
            Ok(TableWrite::Insert { table: *table, rows, conflict, returning: e.returning(returning, &columns)? })
        }
        Dml::Update { table, scan, predicate, assignments, computed, returning } => {
            let object = e.table(*table)?;
            let (stored, columns) = (object.stored_columns(), object.columns().to_vec());
            let rows = e.rows(scan).await?;
            let found = query::with_columns(&rows, &stored)?;
            let computed = if *computed {
                let new = rows.project(&(stored.len()..rows.num_columns()).collect::<Vec<_>>());
                Some(query::with_columns(&new.map_err(crate::delta::arrow_error)?, &columns)?)
            } else {
                None
            };
            Ok(TableWrite::Update {
                table: *table,
                found,
                predicate: e.optional(predicate.as_ref(), &columns)?,
                assignments: e.assignments(assignments, &columns)?,
                computed,
                returning: e.returning(returning, &columns)?,
            })
        }
        Dml::Delete { table, scan, predicate, returning } => {
            let object = e.table(*table)?;
            let columns = object.columns().to_vec();
            let found = query::with_columns(&e.rows(scan).await?, &object.stored_columns())?;
            let fixed = predicate.is_none();
            let predicate = e.optional(predicate.as_ref(), &columns)?;
            Ok(TableWrite::Delete {
                table: *table,
                found,
                predicate,
                fixed,
                returning: e.returning(returning, &columns)?,
            })
        }
        Dml::Truncate { tables } => {
            tables.iter().try_for_each(|&table| e.table(table).map(drop))?;
            Ok(TableWrite::Truncate { tables: tables.clone() })
        }
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
        let gone = || Error::undefined_table("the table was dropped while the statement ran");
        let object = self.view.published.catalog.get(id).cloned().ok_or_else(gone)?;
        errors::refuse_write(&object)?;
        Ok(object)
    }

    async fn rows(&self, query: &Query) -> Result<arrow::array::RecordBatch> {
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
