//! Writes to tables, resolved: which rows are there, which come, which go. Everything that a client is told of its DML (row
//! counts, RETURNING, duplicate keys) is decided here, before the dataflow starts.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;

use arrow::array::Array;
use arrow::array::ArrayRef;
use arrow::array::BooleanArray;
use arrow::array::Int64Array;
use arrow::array::RecordBatch;
use arrow::array::TimestampMicrosecondArray;
use arrow::array::UInt32Array;
use arrow::compute::filter_record_batch;
use arrow::compute::take_record_batch;
use datafusion::physical_expr::PhysicalExpr;

use crate::delta::Delta;
use crate::delta::arrow_error;
use crate::engine::Written;
use crate::engine::table::Base;
use crate::engine::table::Changes;
use crate::engine::table::TableShape;
use crate::error::Error;
use crate::error::Result;
use crate::functions::from_datafusion;
use crate::ids::ObjectId;
use crate::state::codec::ByteRows;
use crate::time::Micros;
use crate::types;
use crate::types::Column;
use crate::types::UTC;
use crate::types::schema_of;
use crate::types::zone::Zone;

/// A write as a session hands it over: rows evaluated, expressions ready to run.
#[derive(Clone, Debug)]
pub enum TableWrite {
    /// These rows, of the declared columns.
    Insert { table: ObjectId, rows: RecordBatch, conflict: Conflict, returning: Option<Projection> },
    /// Rows of a connector: the last of each key counts, over what is there. `deleted` says which of them only take away the
    /// row of their key; empty: none does.
    Upsert { table: ObjectId, rows: RecordBatch, deleted: Vec<bool> },
    /// The stored rows that a scan found; `predicate` and `assignments` are evaluated on them as they stand now. With
    /// `computed` the new declared columns are there already, good only while the rows are as they were found.
    Update {
        table: ObjectId,
        found: RecordBatch,
        predicate: Option<Arc<dyn PhysicalExpr>>,
        assignments: Vec<(usize, Arc<dyn PhysicalExpr>)>,
        computed: Option<RecordBatch>,
        returning: Option<Projection>,
    },
    /// The stored rows that a scan found; with `fixed` good only while they are as they were found.
    Delete {
        table: ObjectId,
        found: RecordBatch,
        predicate: Option<Arc<dyn PhysicalExpr>>,
        fixed: bool,
        returning: Option<Projection>,
    },
    /// All rows.
    Truncate { tables: Vec<ObjectId> },
}

/// What an INSERT does with a key that exists.
#[derive(Clone, Debug)]
pub enum Conflict {
    Error,
    Nothing,
    /// Expressions over the declared columns of the old row, then of the new one.
    Update {
        assignments: Vec<(usize, Arc<dyn PhysicalExpr>)>,
        filter: Option<Arc<dyn PhysicalExpr>>,
    },
}

/// RETURNING over the declared columns.
#[derive(Clone, Debug)]
pub struct Projection {
    /// The expressions.
    pub expressions: Vec<Arc<dyn PhysicalExpr>>,
    /// The columns they give.
    pub columns: Vec<Column>,
}

/// What a write came to.
#[derive(Clone, Debug, Default)]
pub struct Resolved {
    /// The changes for the dataflow, of stored columns, by table.
    pub deltas: Vec<(ObjectId, Delta)>,
    /// What the client is told.
    pub written: Written,
    /// Rows that the statement had computed on have changed since: it must be tried again from its scan.
    pub stale: bool,
}

/// What resolving needs besides the write.
pub struct Resolver<'a> {
    /// The tables that are written.
    pub shapes: &'a HashMap<ObjectId, Arc<TableShape>>,
    /// Changes so far.
    pub changes: &'a mut Changes,
    /// What lies below them.
    pub base: &'a dyn Base,
    /// The last hidden row id given out.
    pub row_ids: &'a AtomicI64,
    /// The watermark of each table at the end of the epoch before.
    pub watermarks: &'a dyn Fn(ObjectId) -> Option<Micros>,
    /// How far the statement is, if it comes in pieces. Nobody else writes meanwhile: a row that is not as it was found, it has
    /// changed itself.
    pub sweep: Option<&'a mut Sweep>,
}

/// How far a statement has come that comes in pieces.
#[derive(Default)]
pub struct Sweep {
    /// The last key that it has found. Rows behind all of these are as they were found.
    last: Option<Vec<u8>>,
}

impl Sweep {
    /// Goes on to rows with these keys. Whether all of them lie behind those before, each once.
    fn advance(&mut self, keys: &ByteRows) -> bool {
        let behind = keys.iter().next().is_none_or(|first| self.last.as_deref().is_none_or(|last| first > last));
        let greatest = keys.iter().max().map(<[u8]>::to_vec);
        self.last = std::mem::take(&mut self.last).max(greatest);
        keys.is_ascending() && behind
    }
}

/// So many rows of a truncated table are taken out at once.
const TRUNCATED_ROWS: usize = 65_536;

impl Resolver<'_> {
    /// Resolves a write: all of it, or on an error nothing.
    pub fn resolve(&mut self, write: &TableWrite) -> Result<Resolved> {
        match write {
            TableWrite::Insert { table, rows, conflict, returning } => {
                let shape = self.shape(*table)?;
                self.insert(&shape, rows, conflict, returning.as_ref())
            }
            TableWrite::Upsert { table, rows, deleted } => {
                let shape = self.shape(*table)?;
                self.upsert(&shape, rows, deleted)
            }
            TableWrite::Update { table, found, predicate, assignments, computed, returning } => {
                let shape = self.shape(*table)?;
                let (old, stale, kept) = self.current(&shape, found, predicate.as_ref())?;
                if computed.is_some() && stale {
                    return Ok(Resolved { stale, ..Resolved::default() });
                }
                let new = match computed {
                    Some(rows) => take_record_batch(rows, &kept).map_err(arrow_error)?,
                    None => assign(&shape, &shape.declared_of(&old)?, &shape.declared_of(&old)?, assignments)?,
                };
                let stored = self.stored(&shape, &new, Some(&old))?;
                self.replace(&shape, &old, &stored, returning.as_ref(), stored.num_rows())
            }
            TableWrite::Delete { table, found, predicate, fixed, returning } => {
                let shape = self.shape(*table)?;
                let (old, stale, _) = self.current(&shape, found, predicate.as_ref())?;
                if *fixed && stale {
                    return Ok(Resolved { stale, ..Resolved::default() });
                }
                let none = RecordBatch::new_empty(old.schema());
                let mut resolved = self.replace(&shape, &old, &none, None, old.num_rows())?;
                resolved.written.returning = project(returning.as_ref(), &shape.declared_of(&old)?)?;
                Ok(resolved)
            }
            TableWrite::Truncate { tables } => self.truncate(tables),
        }
    }

    fn shape(&self, table: ObjectId) -> Result<Arc<TableShape>> {
        self.shapes.get(&table).cloned().ok_or_else(table_gone)
    }

    fn insert(
        &mut self,
        shape: &TableShape,
        rows: &RecordBatch,
        conflict: &Conflict,
        returning: Option<&Projection>,
    ) -> Result<Resolved> {
        check_not_null(shape, rows)?;
        let stored = self.stored(shape, rows, None)?;
        let none = RecordBatch::new_empty(stored.schema());
        let keys = shape.codec.keys(&stored)?;
        if shape.has_row_ids() {
            return self.change(shape, (&none, &ByteRows::default()), (&stored, &keys), returning, stored.num_rows());
        }
        let there = self.changes.get_many(self.base, shape.id, &keys.iter().collect::<Vec<_>>())?;
        let (ascending, mut seen) = (keys.is_ascending(), HashSet::new());
        let (mut fresh, mut clashing) = (Vec::new(), Vec::new());
        for (row, old) in there.iter().enumerate() {
            let again = !ascending && !seen.insert(keys.get(row));
            match conflict {
                Conflict::Error if again || old.is_some() => return Err(duplicate_key(shape, &stored, row)),
                Conflict::Update { .. } if again => {
                    return Err(Error::cardinality("ON CONFLICT DO UPDATE command cannot affect row a second time")
                        .hint(
                            "Ensure that no rows proposed for insertion within the same command have duplicate \
                               constrained values.",
                        ));
                }
                Conflict::Nothing if again || old.is_some() => {}
                Conflict::Update { .. } if old.is_some() => clashing.push(row as u32),
                Conflict::Error | Conflict::Nothing | Conflict::Update { .. } => fresh.push(row as u32),
            }
        }
        let all = fresh.len() == stored.num_rows();
        let fresh = match all {
            true => stored,
            false => take_record_batch(&stored, &UInt32Array::from(fresh)).map_err(arrow_error)?,
        };
        let Conflict::Update { assignments, filter } = conflict else {
            let keys = if all { keys } else { shape.codec.keys(&fresh)? };
            return self.change(shape, (&none, &ByteRows::default()), (&fresh, &keys), returning, fresh.num_rows());
        };
        let entries = clashing
            .iter()
            .map(|&row| (keys.get(row as usize), there[row as usize].as_deref().expect("clashing rows are there")));
        let old = shape.codec.decode(&entries.collect::<Vec<_>>())?;
        let excluded = take_record_batch(rows, &UInt32Array::from(clashing)).map_err(arrow_error)?;
        let (old, new) = self.update_clashing(shape, old, excluded, assignments, filter.as_ref())?;
        let all = arrow::compute::concat_batches(&fresh.schema(), [&fresh, &new]).map_err(arrow_error)?;
        self.replace(shape, &old, &all, returning, all.num_rows())
    }

    fn upsert(&mut self, shape: &TableShape, rows: &RecordBatch, deleted: &[bool]) -> Result<Resolved> {
        let stored = self.stored(shape, rows, None)?;
        let keys = shape.codec.keys(&stored)?;
        if shape.has_row_ids() {
            let none = RecordBatch::new_empty(stored.schema());
            check_not_null(shape, rows)?;
            return self.change(shape, (&none, &ByteRows::default()), (&stored, &keys), None, stored.num_rows());
        }
        let values = shape.codec.values(&stored)?;
        let last = (0..keys.len()).map(|row| (keys.get(row), row)).collect::<HashMap<_, _>>();
        let mut rows = last.into_values().collect::<Vec<_>>();
        rows.sort_unstable();
        let there =
            self.changes.get_many(self.base, shape.id, &rows.iter().map(|&r| keys.get(r)).collect::<Vec<_>>())?;
        let (mut leaving, mut coming) = (Vec::new(), Vec::new());
        for (row, before) in rows.into_iter().zip(there) {
            let after = (!deleted.get(row).copied().unwrap_or(false)).then(|| values.get(row).to_vec());
            coming.extend(after.is_some().then_some(row as u32));
            leaving.extend(before.clone().map(|value| (keys.get(row), value)));
            self.changes.set(shape.id, keys.get(row), before, after);
        }
        let coming = take_record_batch(&stored, &UInt32Array::from(coming)).map_err(arrow_error)?;
        let leaving = leaving.iter().map(|(key, value)| (*key, &value[..])).collect::<Vec<_>>();
        let leaving = Delta::inserts(shape.codec.decode(&leaving)?).negate();
        let delta = Delta::concat(&shape.codec.schema, &[leaving, Delta::inserts(coming)])?;
        Ok(Resolved { deltas: vec![(shape.id, delta)], ..Resolved::default() })
    }

    /// The old rows that DO UPDATE changes, and what they become.
    fn update_clashing(
        &mut self,
        shape: &TableShape,
        old: RecordBatch,
        excluded: RecordBatch,
        assignments: &[(usize, Arc<dyn PhysicalExpr>)],
        filter: Option<&Arc<dyn PhysicalExpr>>,
    ) -> Result<(RecordBatch, RecordBatch)> {
        let (mut old, mut both) = (old.clone(), side_by_side(shape, &shape.declared_of(&old)?, &excluded)?);
        if let Some(filter) = filter {
            let keep = evaluate_boolean(filter, &both)?;
            old = filter_record_batch(&old, &keep).map_err(arrow_error)?;
            both = filter_record_batch(&both, &keep).map_err(arrow_error)?;
        }
        let new = assign(shape, &shape.declared_of(&old)?, &both, assignments)?;
        let stored = self.stored(shape, &new, Some(&old))?;
        Ok((old, stored))
    }

    /// The rows found by a scan as they stand now: those still there for which the predicate still holds, whether any
    /// differs from what was found, and which of the found rows they are.
    fn current(
        &mut self,
        shape: &TableShape,
        found: &RecordBatch,
        predicate: Option<&Arc<dyn PhysicalExpr>>,
    ) -> Result<(RecordBatch, bool, UInt32Array)> {
        let keys = shape.codec.keys(found)?;
        let untouched = self.sweep.as_mut().is_some_and(|sweep| sweep.advance(&keys));
        let (rows, stale, there) = match untouched {
            true => (found.clone(), false, UInt32Array::from_iter_values(0..keys.len() as u32)),
            false => self.standing(shape, found, &keys)?,
        };
        let Some(predicate) = predicate else {
            return Ok((rows, stale, there));
        };
        let keep = evaluate_boolean(predicate, &shape.declared_of(&rows)?)?;
        let there = arrow::compute::filter(&there, &keep).map_err(arrow_error)?;
        let there = there.as_any().downcast_ref::<UInt32Array>().expect("filter keeps the type").clone();
        Ok((filter_record_batch(&rows, &keep).map_err(arrow_error)?, stale, there))
    }

    /// The rows found that are still there as they stand now, each once; whether any differs; which of the found ones they are.
    fn standing(
        &self,
        shape: &TableShape,
        found: &RecordBatch,
        keys: &ByteRows,
    ) -> Result<(RecordBatch, bool, UInt32Array)> {
        let then = shape.codec.values(found)?;
        let now = self.changes.get_many(self.base, shape.id, &keys.iter().collect::<Vec<_>>())?;
        let alone = self.sweep.is_some();
        let differs = |row: usize| now[row].as_deref() != Some(then.get(row));
        let any_differs = (0..keys.len()).any(differs);
        // A join in the statement may find a row more than once; it is changed once, as in Postgres.
        let (ascending, mut seen) = (keys.is_ascending(), HashSet::new());
        let stands = |row: &usize| {
            now[*row].is_some() && !(alone && differs(*row)) && (ascending || seen.insert(keys.get(*row)))
        };
        let there = (0..keys.len()).filter(stands).collect::<Vec<_>>();
        let rows = if any_differs || there.len() < keys.len() {
            let entries = there.iter().map(|&row| (keys.get(row), now[row].as_deref().expect("filtered")));
            shape.codec.decode(&entries.collect::<Vec<_>>())?
        } else {
            found.clone()
        };
        let there = UInt32Array::from(there.into_iter().map(|row| row as u32).collect::<Vec<_>>());
        Ok((rows, !alone && any_differs, there))
    }

    /// Declared columns with their hidden ones: those of the rows they replace, or new ones.
    fn stored(&self, shape: &TableShape, rows: &RecordBatch, old: Option<&RecordBatch>) -> Result<RecordBatch> {
        let mut columns = rows.columns().to_vec();
        let count = rows.num_rows();
        if shape.has_row_ids() {
            columns.push(match old {
                Some(old) => old.column(columns.len()).clone(),
                None => {
                    let first = self.row_ids.fetch_add(count as i64, Ordering::SeqCst);
                    Arc::new(Int64Array::from_iter_values(first + 1..=first + count as i64))
                }
            });
        }
        if shape.table.watermark.is_some() {
            let watermark = (self.watermarks)(shape.id);
            let column = TimestampMicrosecondArray::from(vec![watermark; count]).with_timezone(UTC);
            columns.push(Arc::new(column) as ArrayRef);
        }
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(count));
        RecordBatch::try_new_with_options(shape.codec.schema.clone(), columns, &options).map_err(arrow_error)
    }

    /// Takes `old` rows out and puts `new` ones in, where their keys are free.
    fn replace(
        &mut self,
        shape: &TableShape,
        old: &RecordBatch,
        new: &RecordBatch,
        returning: Option<&Projection>,
        rows: usize,
    ) -> Result<Resolved> {
        check_not_null(shape, &shape.declared_of(new)?)?;
        let (old_keys, new_keys) = (shape.codec.keys(old)?, shape.codec.keys(new)?);
        if old_keys != new_keys {
            self.check_unique(shape, &old_keys, new, &new_keys)?;
        }
        self.change(shape, (old, &old_keys), (new, &new_keys), returning, rows)
    }

    /// The same for rows with their keys, where none is NULL that may not be, and the keys are free.
    fn change(
        &mut self,
        shape: &TableShape,
        (old, old_keys): (&RecordBatch, &ByteRows),
        (new, new_keys): (&RecordBatch, &ByteRows),
        returning: Option<&Projection>,
        rows: usize,
    ) -> Result<Resolved> {
        let written = Written { rows: rows as u64, returning: project(returning, &shape.declared_of(new)?)? };
        let (old_values, new_values) = (shape.codec.values(old)?, shape.codec.values(new)?);
        let value = |values: &ByteRows, row| Some(values.get(row).to_vec());
        if old_keys == new_keys {
            for (row, key) in old_keys.iter().enumerate() {
                self.changes.set(shape.id, key, value(&old_values, row), value(&new_values, row));
            }
        } else {
            for (row, key) in old_keys.iter().enumerate() {
                self.changes.set(shape.id, key, value(&old_values, row), None);
            }
            for (row, key) in new_keys.iter().enumerate() {
                self.changes.set(shape.id, key, None, value(&new_values, row));
            }
        }
        let delta =
            Delta::concat(&shape.codec.schema, &[Delta::inserts(old.clone()).negate(), Delta::inserts(new.clone())])?;
        Ok(Resolved { deltas: vec![(shape.id, delta)], written, stale: false })
    }

    /// No two new rows have one key, and no row that stays has it.
    fn check_unique(&self, shape: &TableShape, old: &ByteRows, new: &RecordBatch, keys: &ByteRows) -> Result<()> {
        if shape.has_row_ids() {
            return Ok(());
        }
        let leaving = old.iter().collect::<HashSet<_>>();
        let (ascending, mut seen) = (keys.is_ascending(), HashSet::new());
        let mut wanted = Vec::new();
        for row in 0..keys.len() {
            if !ascending && !seen.insert(keys.get(row)) {
                return Err(duplicate_key(shape, new, row));
            }
            if !leaving.contains(keys.get(row)) {
                wanted.push(row);
            }
        }
        let there = wanted.iter().map(|&row| keys.get(row)).collect::<Vec<_>>();
        let there = self.changes.get_many(self.base, shape.id, &there)?;
        match wanted.iter().zip(there).find(|(_, value)| value.is_some()) {
            Some((&row, _)) => Err(duplicate_key(shape, new, row)),
            None => Ok(()),
        }
    }

    fn truncate(&mut self, tables: &[ObjectId]) -> Result<Resolved> {
        let mut all = Resolved::default();
        for &table in tables {
            let mut from = Some(Vec::new());
            while let Some(key) = from {
                let (some, next) = self.truncate_from(table, &key)?;
                all.deltas.extend(some.deltas);
                from = next;
            }
        }
        Ok(all)
    }

    /// Takes rows of a table out from a key on. Also returns the key from which on there may be more.
    pub fn truncate_from(&mut self, table: ObjectId, from: &[u8]) -> Result<(Resolved, Option<Vec<u8>>)> {
        let shape = self.shape(table)?;
        let (entries, next) = self.changes.entries(self.base, table, from, TRUNCATED_ROWS)?;
        let borrowed = entries.iter().map(|(key, value)| (&key[..], &value[..])).collect::<Vec<_>>();
        let delta = Delta::inserts(shape.codec.decode(&borrowed)?).negate();
        for (key, value) in entries {
            self.changes.set(table, &key, Some(value), None);
        }
        Ok((Resolved { deltas: vec![(table, delta)], ..Resolved::default() }, next))
    }
}

/// What a statement is told whose table has gone while it ran.
pub fn table_gone() -> Error {
    Error::undefined_table("the table was dropped while the statement ran")
}

/// 23505 for this row of stored columns.
fn duplicate_key(shape: &TableShape, rows: &RecordBatch, row: usize) -> Error {
    let key = shape.table.primary_key.iter();
    let names = key.clone().map(|&c| shape.table.columns[c].name.as_str()).collect::<Vec<_>>().join(", ");
    let values = key.map(|&c| text_of(rows.column(c), &shape.table.columns[c], row)).collect::<Vec<_>>().join(", ");
    Error::unique_violation(format!("duplicate key value violates unique constraint \"{}_pkey\"", shape.name))
        .detail(format!("Key ({names})=({values}) already exists."))
}

/// A value as messages show it.
fn text_of(array: &ArrayRef, column: &Column, row: usize) -> String {
    if array.is_null(row) {
        return "null".to_string();
    }
    let mut text = String::new();
    match types::text::format(array, &column.ty, row, Zone::UTC, &mut text) {
        Ok(()) => text,
        Err(error) => format!("({error})"),
    }
}

/// 23502 where a declared column forbids NULL.
fn check_not_null(shape: &TableShape, rows: &RecordBatch) -> Result<()> {
    for (column, array) in shape.table.columns.iter().zip(rows.columns()) {
        if column.nullable || array.null_count() == 0 {
            continue;
        }
        let row = (0..array.len()).find(|&row| array.is_null(row)).expect("there is a NULL");
        let values = shape.table.columns.iter().zip(rows.columns()).map(|(c, a)| text_of(a, c, row));
        let message = format!(
            "null value in column \"{}\" of relation \"{}\" violates not-null constraint",
            column.name, shape.name
        );
        let failing = values.collect::<Vec<_>>().join(", ");
        return Err(Error::not_null_violation(message).detail(format!("Failing row contains ({failing}).")));
    }
    Ok(())
}

/// The declared columns with the assigned ones replaced; expressions see `input`.
fn assign(
    shape: &TableShape,
    declared: &RecordBatch,
    input: &RecordBatch,
    assignments: &[(usize, Arc<dyn PhysicalExpr>)],
) -> Result<RecordBatch> {
    let mut columns = declared.columns().to_vec();
    for (column, expression) in assignments {
        columns[*column] = evaluate(expression, input)?;
    }
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(declared.num_rows()));
    RecordBatch::try_new_with_options(shape.declared.clone(), columns, &options).map_err(arrow_error)
}

/// The declared columns of old rows, then those of the rows proposed.
fn side_by_side(shape: &TableShape, old: &RecordBatch, excluded: &RecordBatch) -> Result<RecordBatch> {
    let fields = [&shape.table.columns[..], &shape.table.columns[..]].concat();
    let columns = old.columns().iter().chain(excluded.columns()).cloned().collect();
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(old.num_rows()));
    RecordBatch::try_new_with_options(schema_of(&fields), columns, &options).map_err(arrow_error)
}

/// The rows of RETURNING.
fn project(returning: Option<&Projection>, rows: &RecordBatch) -> Result<Option<RecordBatch>> {
    let Some(projection) = returning else { return Ok(None) };
    let columns = projection.expressions.iter().map(|e| evaluate(e, rows)).collect::<Result<Vec<_>>>()?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(schema_of(&projection.columns), columns, &options).map(Some).map_err(arrow_error)
}

/// An expression's value for each row.
pub fn evaluate(expression: &Arc<dyn PhysicalExpr>, rows: &RecordBatch) -> Result<ArrayRef> {
    let value = expression.evaluate(rows).map_err(from_datafusion)?;
    value.into_array(rows.num_rows()).map_err(from_datafusion)
}

fn evaluate_boolean(expression: &Arc<dyn PhysicalExpr>, rows: &RecordBatch) -> Result<BooleanArray> {
    let value = evaluate(expression, rows)?;
    let boolean = value.as_any().downcast_ref::<BooleanArray>();
    boolean.cloned().ok_or_else(|| Error::internal("a predicate is not boolean"))
}
