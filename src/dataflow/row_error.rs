//! A row that could not be computed, and its form in `<view>$errors`.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::array::RecordBatch;
use arrow::array::StringArray;

use crate::delta::Delta;
use crate::delta::arrow_error;
use crate::error::Error;
use crate::error::Result;
use crate::plan::errors;
use crate::types::SqlType;
use crate::types::schema_of;
use crate::types::text::TextColumn;
use crate::types::zone::Zone;

/// A row whose expression failed, or a group whose result cannot be.
#[derive(Clone, Debug)]
pub struct RowError {
    /// Why.
    pub error: Error,
    /// The row as the operator saw it, or the columns that the group is grouped by.
    pub input: String,
    /// +1 when the row came, −1 when it was taken back.
    pub weight: i64,
}

/// A row as text: `id = 7, name = ann`.
pub fn describe(batch: &RecordBatch, row: usize) -> Result<String> {
    let mut text = String::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let Some(ty) = SqlType::of_field(field) else { continue };
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(field.name());
        text.push_str(" = ");
        let values = TextColumn::new(column, &ty, Zone::UTC)?;
        if values.is_null(row) { text.push_str("NULL") } else { values.write(row, &mut text) }
    }
    Ok(text)
}

/// Failed rows as rows of [`errors::columns`].
pub fn delta(failed: &[RowError]) -> Result<Delta> {
    let column =
        |text: fn(&RowError) -> &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(failed.iter().map(text))) };
    let columns =
        vec![column(|row| row.error.kind.sqlstate()), column(|row| &row.error.message), column(|row| &row.input)];
    let batch = RecordBatch::try_new(schema_of(&errors::columns()), columns).map_err(arrow_error)?;
    Ok(Delta::new(batch, failed.iter().map(|row| row.weight).collect::<Vec<_>>().into()))
}
