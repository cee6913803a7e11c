//! A connector's batches to rows of their source: computed columns, the watermark, and which values could not be had.
//!
//! A value that could not be read or computed is NULL, and marked: a view that reads its column leaves the row out, others do
//! not care. The marks travel as one more column behind the stored ones, [`FAULTS_COLUMN`], in those batches that have any.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::Array;
use arrow::array::ArrayRef;
use arrow::array::BinaryArray;
use arrow::array::BooleanArray;
use arrow::array::RecordBatch;
use arrow::array::RecordBatchOptions;
use arrow::array::TimestampMicrosecondArray;
use arrow::array::new_null_array;
use arrow::compute::concat;
use arrow::compute::filter_record_batch;
use arrow::compute::max;
use arrow::datatypes::DataType;
use arrow::datatypes::Field;
use arrow::datatypes::Schema;
use datafusion::execution::SessionState;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::collect_columns;

use crate::catalog::Feed;
use crate::catalog::Fill;
use crate::catalog::Object;
use crate::catalog::ObjectKind;
use crate::catalog::Watermark;
use crate::catalog::system::DATABASE;
use crate::connectors::MessageError;
use crate::connectors::Part;
use crate::connectors::SourceBatch;
use crate::dataflow::input::FAULTS_COLUMN;
use crate::delta::arrow_error;
use crate::engine::query::compile;
use crate::engine::write::evaluate;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::sql::BindContext;
use crate::sql::bind::expression::expression;
use crate::sql::bind::expression::expression_for;
use crate::time::Micros;
use crate::types::Column;
use crate::types::UTC;
use crate::types::schema_of;

/// Unread columns of a batch no longer than this share their NULLs.
const SHARED_NULLS: usize = 4096;

/// What turns a connector's rows into those of the source.
pub struct RowMaker {
    /// For each declared column, where it comes from.
    columns: Vec<Origin>,
    /// What the connector is asked for: no more than the wanted columns need.
    carried: Vec<(Column, Part)>,
    /// The declared columns.
    declared: Vec<Column>,
    /// The watermark expression over the declared columns, and the number of its column.
    watermark: Option<(Arc<dyn PhysicalExpr>, usize)>,
    /// Whether rows are stored: then each must be whole.
    stored: bool,
}

/// What a batch of a connector came to.
pub struct Made {
    /// The declared columns.
    pub rows: RecordBatch,
    /// Which rows say that the row of their key is to go; empty: none does.
    pub deleted: Vec<bool>,
    /// For rows with values that could not be had, a bit for each declared column; `None` when there is no such row.
    faults: Option<BinaryArray>,
    /// The highest value of the watermark expression among the rows.
    pub highest: Option<Micros>,
    /// What could not be computed, or may not be stored.
    pub errors: Vec<MessageError>,
}

enum Origin {
    /// The connector's column of this number.
    Carried(usize),
    /// An expression over the carried columns.
    Computed(Arc<dyn PhysicalExpr>),
    /// Nobody reads it: these NULLs.
    Unread(ArrayRef),
}

/// The columns of each row whose value could not be had.
type Faults = BTreeMap<usize, BTreeSet<usize>>;

impl RowMaker {
    /// The row maker of an input of which these columns are wanted, besides what its watermark needs.
    pub fn new(object: &Object, feed: &Feed, wanted: &BTreeSet<usize>, state: &SessionState) -> Result<RowMaker> {
        let declared = object.columns();
        let watermark = watermark_expression(object, state)?.zip(object.watermark().map(|w| w.column));
        let mut wanted = wanted.clone();
        wanted.extend(watermark.iter().flat_map(|(expression, _)| columns_of(expression)));
        let carried = carried_columns(declared, feed, &wanted, state)?;
        let names = carried.iter().map(|(column, _)| column.clone()).collect::<Vec<_>>();
        let mut columns = Vec::new();
        for (index, (column, fill)) in declared.iter().zip(&feed.fills).enumerate() {
            let place = || names.iter().position(|c| c.name == column.name);
            columns.push(match computed(fill) {
                _ if !wanted.contains(&index) => Origin::Unread(new_null_array(&column.ty.arrow(), SHARED_NULLS)),
                Some(sql) => Origin::Computed(compiled(sql, &names, Some(column), state)?),
                None => Origin::Carried(place().expect("every wanted column that is not computed is carried")),
            });
        }
        let stored = matches!(object.kind, ObjectKind::Table(_));
        Ok(RowMaker { columns, carried, declared: declared.to_vec(), watermark, stored })
    }

    /// The columns that its batches must have.
    pub fn carried(&self) -> Vec<(Column, Part)> {
        self.carried.clone()
    }

    /// The source's rows of a batch.
    pub fn make(&self, batch: &SourceBatch) -> Result<Made> {
        let carried = &batch.batch;
        let count = carried.num_rows();
        let mut errors = Vec::new();
        let mut faults = self.faults_of(batch);
        let mut columns = Vec::with_capacity(self.columns.len());
        for (index, origin) in self.columns.iter().enumerate() {
            columns.push(match origin {
                Origin::Carried(place) => carried.column(*place).clone(),
                Origin::Unread(nulls) if count <= SHARED_NULLS => nulls.slice(0, count),
                Origin::Unread(nulls) => new_null_array(nulls.data_type(), count),
                Origin::Computed(expression) => {
                    self.spread(index, expression, &mut faults);
                    let (values, failed) = evaluate_each(expression, carried, &self.declared[index])?;
                    self.blame(index, failed, batch, &mut faults, &mut errors);
                    values
                }
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let rows = RecordBatch::try_new_with_options(schema_of(&nullable(&self.declared)), columns, &options);
        let rows = rows.map_err(arrow_error)?;
        let mut highest = None;
        if let Some((expression, column)) = &self.watermark {
            let (values, failed) = evaluate_each(expression, &rows, &self.declared[*column])?;
            self.blame(*column, failed, batch, &mut faults, &mut errors);
            highest = max(timestamps(&values)?);
        }
        let deleted = batch.deleted.clone();
        if self.stored {
            return self.whole(batch, Made { rows, deleted, faults: None, highest, errors }, &faults);
        }
        let faults = (!faults.is_empty()).then(|| marks(&faults, count, self.declared.len()));
        Ok(Made { rows, deleted, faults, highest, errors })
    }

    /// The values of a batch that its connector could not read.
    fn faults_of(&self, batch: &SourceBatch) -> Faults {
        let mut faults = Faults::new();
        for error in &batch.errors {
            let Some(name) = &error.column else { continue };
            let row = batch.offsets.binary_search(&error.offset);
            let column = self.declared.iter().position(|column| column.name == *name);
            if let (Ok(row), Some(column)) = (row, column) {
                faults.entry(row).or_default().insert(column);
            }
        }
        faults
    }

    /// A column computed from a value that could not be had cannot be had either.
    fn spread(&self, column: usize, expression: &Arc<dyn PhysicalExpr>, faults: &mut Faults) {
        let reads = columns_of(expression);
        let reads = reads.iter().map(|&carried| &self.carried[carried].0.name).collect::<Vec<_>>();
        for bad in faults.values_mut() {
            if bad.iter().any(|&fault| reads.contains(&&self.declared[fault].name)) {
                bad.insert(column);
            }
        }
    }

    /// Notes rows for which a column failed; a value that failed before was told then.
    fn blame(
        &self,
        column: usize,
        failed: Vec<(usize, Error)>,
        batch: &SourceBatch,
        faults: &mut Faults,
        errors: &mut Vec<MessageError>,
    ) {
        for (row, error) in failed {
            if faults.entry(row).or_default().insert(column) {
                let (offset, column) = (batch.offsets[row], Some(self.declared[column].name.clone()));
                errors.push(MessageError { offset, payload: None, reason: error.message, column });
            }
        }
    }

    /// Leaves out the rows that cannot be stored: those with a fault, and with NULL where there must be none.
    fn whole(&self, batch: &SourceBatch, mut made: Made, faults: &Faults) -> Result<Made> {
        let count = made.rows.num_rows();
        let mut keep = (0..count).map(|row| !faults.contains_key(&row)).collect::<Vec<_>>();
        for (column, values) in self.declared.iter().zip(made.rows.columns()) {
            if column.nullable || values.null_count() == 0 {
                continue;
            }
            let deleted = |row| made.deleted.get(row).copied().unwrap_or(false);
            // What takes a row away has nothing but its key.
            let carried = self.carried.iter().find(|(c, _)| c.name == column.name);
            let is_key = carried.is_some_and(|(_, part)| *part == Part::Key);
            for row in (0..count).filter(|&row| values.is_null(row) && (is_key || !deleted(row))) {
                if std::mem::replace(&mut keep[row], false) {
                    let reason = format!("null value in column \"{}\" violates not-null constraint", column.name);
                    let (offset, column) = (batch.offsets[row], Some(column.name.clone()));
                    made.errors.push(MessageError { offset, payload: None, reason, column });
                }
            }
        }
        let mut rows = made.rows;
        if keep.contains(&false) {
            made.deleted = made.deleted.iter().zip(&keep).filter(|(_, keep)| **keep).map(|(d, _)| *d).collect();
            rows = filter_record_batch(&rows, &BooleanArray::from(keep)).map_err(arrow_error)?;
        }
        Ok(Made { rows, ..made })
    }
}

impl Made {
    /// The rows as the views of a source take them: each with the watermark at the end of the epoch before it came, and the
    /// marks.
    pub fn stored(self, source: &Object, watermarks: Vec<Option<Micros>>) -> Result<RecordBatch> {
        let mut fields = schema_of(&source.stored_columns()).fields().to_vec();
        let mut columns = self.rows.columns().to_vec();
        if source.watermark().is_some() {
            let column = TimestampMicrosecondArray::from(watermarks).with_timezone(UTC);
            columns.push(Arc::new(column));
        }
        if let Some(faults) = self.faults {
            fields.push(Arc::new(Field::new(FAULTS_COLUMN, DataType::Binary, true)));
            columns.push(Arc::new(faults));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows.num_rows()));
        RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options).map_err(arrow_error)
    }
}

/// The marks of each row: NULL, or a bit for each column, the lowest of the first byte for the first.
fn marks(faults: &Faults, rows: usize, columns: usize) -> BinaryArray {
    let bits = |bad: &BTreeSet<usize>| {
        let mut bytes = vec![0u8; columns.div_ceil(8)];
        bad.iter().for_each(|column| bytes[column / 8] |= 1 << (column % 8));
        bytes
    };
    (0..rows).map(|row| faults.get(&row).map(bits)).collect()
}

/// The value of an expression for each row; NULL for those rows, with the reason, where there is none.
fn evaluate_each(
    expression: &Arc<dyn PhysicalExpr>,
    rows: &RecordBatch,
    column: &Column,
) -> Result<(ArrayRef, Vec<(usize, Error)>)> {
    match evaluate(expression, rows) {
        Ok(values) => return Ok((values, Vec::new())),
        Err(error) if error.kind == Kind::Internal => return Err(error),
        Err(_) => {}
    }
    let (mut values, mut failed) = (Vec::new(), Vec::new());
    for row in 0..rows.num_rows() {
        values.push(match evaluate(expression, &rows.slice(row, 1)) {
            Ok(value) => value,
            Err(error) if error.kind == Kind::Internal => return Err(error),
            Err(error) => {
                failed.push((row, error));
                new_null_array(&column.ty.arrow(), 1)
            }
        });
    }
    let values = concat(&values.iter().map(AsRef::as_ref).collect::<Vec<_>>()).map_err(arrow_error)?;
    Ok((values, failed))
}

/// The highest value of a watermark expression over these rows.
pub fn highest(expression: &Arc<dyn PhysicalExpr>, rows: &RecordBatch) -> Result<Option<Micros>> {
    Ok(max(timestamps(&evaluate(expression, rows)?)?))
}

fn timestamps(values: &ArrayRef) -> Result<&TimestampMicrosecondArray> {
    let values = values.as_any().downcast_ref::<TimestampMicrosecondArray>();
    values.ok_or_else(|| Error::internal("a watermark is not a timestamp"))
}

/// Columns as they are before it was looked whether a value may be NULL.
fn nullable(columns: &[Column]) -> Vec<Column> {
    columns.iter().map(|column| Column { nullable: true, ..column.clone() }).collect()
}

/// The compiled watermark expression of a table or source over its declared columns.
pub fn watermark_expression(object: &Object, state: &SessionState) -> Result<Option<Arc<dyn PhysicalExpr>>> {
    let compile = |w: &Watermark| compiled(&w.expression, object.columns(), None, state);
    object.watermark().map(compile).transpose()
}

/// A stored scalar expression over these columns, cast to the type of `target`.
fn compiled(
    sql: &str,
    columns: &[Column],
    target: Option<&Column>,
    state: &SessionState,
) -> Result<Arc<dyn PhysicalExpr>> {
    let context = BindContext { time_zone: UTC.to_string(), user: DATABASE.to_string(), ..BindContext::default() };
    let expr = match target {
        Some(column) => expression_for(sql, columns, column, &context)?,
        None => expression(sql, columns, &context)?,
    };
    let expr = crate::engine::query::unqualified(&expr, &[])?;
    compile(state, vec![expr], columns)?.pop().ok_or_else(|| Error::internal("no expression was compiled"))
}

/// The columns that an expression reads.
fn columns_of(expression: &Arc<dyn PhysicalExpr>) -> Vec<usize> {
    collect_columns(expression).iter().map(|column| column.index()).collect()
}

/// The expression of a computed column.
fn computed(fill: &Fill) -> Option<&String> {
    match fill {
        Fill::Computed(sql) => Some(sql),
        Fill::Payload(_) | Fill::Key | Fill::Partition | Fill::Offset => None,
        Fill::Timestamp | Fill::Headers | Fill::File => None,
    }
}

/// The columns that a connector must fill for these to be had.
fn carried_columns(
    declared: &[Column],
    feed: &Feed,
    wanted: &BTreeSet<usize>,
    state: &SessionState,
) -> Result<Vec<(Column, Part)>> {
    let all = all_carried(declared, feed);
    let names = all.iter().map(|(column, _)| column.clone()).collect::<Vec<_>>();
    let mut needed = BTreeSet::new();
    for &index in wanted {
        let column = &declared[index];
        match computed(&feed.fills[index]) {
            Some(sql) => needed.extend(columns_of(&compiled(sql, &names, Some(column), state)?)),
            None => needed.extend(names.iter().position(|c| c.name == column.name)),
        }
    }
    Ok(needed.into_iter().map(|index| all[index].clone()).collect())
}

/// The columns that a connector can fill. What must not be NULL is looked at when a row is whole.
pub fn all_carried(declared: &[Column], feed: &Feed) -> Vec<(Column, Part)> {
    let part = |fill: &Fill| match fill {
        Fill::Payload(field) => Some(Part::Field(field.clone())),
        Fill::Key => Some(Part::Key),
        Fill::Partition => Some(Part::Partition),
        Fill::Offset => Some(Part::Offset),
        Fill::Timestamp => Some(Part::Timestamp),
        Fill::Headers => Some(Part::Headers),
        Fill::File => Some(Part::File),
        Fill::Computed(_) => None,
    };
    let columns = nullable(declared).into_iter().zip(&feed.fills);
    columns.filter_map(|(column, fill)| Some((column, part(fill)?))).collect()
}
