//! The delta: the one shape that flows. An Arrow batch and a signed weight for each of its rows: +1 inserts, −1 retracts.

mod consolidate;
pub mod pretty;

use arrow::array::{Array, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{filter_record_batch, take};
use arrow::datatypes::SchemaRef;

use crate::error::{Error, Result};

pub use consolidate::consolidate;

/// Changes to a collection: rows with weights. Rows of weight 0 do not occur; equal rows may occur more than once.
#[derive(Clone, Debug)]
pub struct Delta {
    /// The rows.
    batch: RecordBatch,
    /// One weight a row, never NULL.
    weights: Int64Array,
}

impl Delta {
    /// A delta of these rows; `weights` has one for each.
    pub fn new(batch: RecordBatch, weights: Int64Array) -> Delta {
        debug_assert_eq!(batch.num_rows(), weights.len());
        debug_assert_eq!(weights.null_count(), 0);
        Delta { batch, weights }
    }

    /// Inserts of all these rows.
    pub fn inserts(batch: RecordBatch) -> Delta {
        let weights = Int64Array::from_value(1, batch.num_rows());
        Delta { batch, weights }
    }

    /// No rows.
    pub fn empty(schema: SchemaRef) -> Delta {
        Delta::inserts(RecordBatch::new_empty(schema))
    }

    /// The rows.
    pub fn batch(&self) -> &RecordBatch {
        &self.batch
    }

    /// The weights, one a row.
    pub fn weights(&self) -> &[i64] {
        self.weights.values()
    }

    /// The weights as an array, for Arrow's kernels.
    pub fn weights_array(&self) -> &Int64Array {
        &self.weights
    }

    /// How many rows, not counting weights.
    pub fn len(&self) -> usize {
        self.batch.num_rows()
    }

    /// About how much memory the rows take, in bytes.
    pub fn memory_bytes(&self) -> usize {
        let column = |column: &arrow::array::ArrayRef| column.to_data().get_slice_memory_size().unwrap_or(0);
        8 * self.len() + self.batch.columns().iter().map(column).sum::<usize>()
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same weights over other columns of the same rows.
    pub fn with_batch(&self, batch: RecordBatch) -> Delta {
        Delta::new(batch, self.weights.clone())
    }

    /// The same rows under other column names.
    pub fn with_schema(&self, schema: SchemaRef) -> Result<Delta> {
        let options = RecordBatchOptions::new().with_row_count(Some(self.len()));
        let batch = RecordBatch::try_new_with_options(schema, self.batch.columns().to_vec(), &options);
        Ok(self.with_batch(batch.map_err(arrow_error)?))
    }

    /// The first columns of the rows, those of this schema.
    pub fn first_columns(&self, schema: &SchemaRef) -> Result<Delta> {
        let columns = self.batch.columns()[..schema.fields().len()].to_vec();
        let options = RecordBatchOptions::new().with_row_count(Some(self.len()));
        let batch = RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(arrow_error)?;
        Ok(self.with_batch(batch))
    }

    /// The rows where `keep` is true; NULL counts as false.
    pub fn filter(&self, keep: &BooleanArray) -> Result<Delta> {
        let weights = arrow::compute::filter(&self.weights, keep).map_err(arrow_error)?;
        let weights = weights.as_any().downcast_ref::<Int64Array>().expect("filter keeps the type").clone();
        Ok(Delta::new(filter_record_batch(&self.batch, keep).map_err(arrow_error)?, weights))
    }

    /// The rows at these indices, in this order.
    pub fn take(&self, indices: &UInt32Array) -> Result<Delta> {
        let weights = indices.values().iter().map(|&i| self.weights.value(i as usize)).collect::<Vec<_>>();
        let columns = self.batch.columns().iter().map(|column| take(column, indices, None));
        let columns = columns.collect::<Result<Vec<_>, _>>().map_err(arrow_error)?;
        let options = RecordBatchOptions::new().with_row_count(Some(indices.len()));
        let batch = RecordBatch::try_new_with_options(self.batch.schema(), columns, &options);
        Ok(Delta::new(batch.map_err(arrow_error)?, weights.into()))
    }

    /// A range of the rows, without copying.
    pub fn slice(&self, offset: usize, length: usize) -> Delta {
        Delta { batch: self.batch.slice(offset, length), weights: self.weights.slice(offset, length) }
    }

    /// Every weight turned around: what takes this delta back.
    pub fn negate(&self) -> Delta {
        let weights = self.weights.values().iter().map(|w| -w).collect::<Vec<_>>();
        Delta { batch: self.batch.clone(), weights: weights.into() }
    }

    /// The rows of a delta without retractions, each as often as its weight says.
    pub fn expanded(&self) -> Result<RecordBatch> {
        if self.weights().iter().all(|&w| w == 1) {
            return Ok(self.batch.clone());
        }
        let repeated = |(row, &weight): (usize, &i64)| std::iter::repeat_n(row as u32, weight.max(0) as usize);
        let indices = self.weights().iter().enumerate().flat_map(repeated).collect::<Vec<_>>();
        Ok(self.take(&UInt32Array::from(indices))?.batch)
    }

    /// All of these deltas as one. `schema` is that of the rows, for when there is none.
    pub fn concat(schema: &SchemaRef, deltas: &[Delta]) -> Result<Delta> {
        if let [one] = deltas {
            return Ok(one.clone());
        }
        let batch = arrow::compute::concat_batches(schema, deltas.iter().map(|d| &d.batch)).map_err(arrow_error)?;
        let weights = deltas.iter().flat_map(|d| d.weights()).copied().collect::<Vec<_>>();
        Ok(Delta::new(batch, weights.into()))
    }
}

/// An error of one of Arrow's kernels, which nothing in the input can cause.
pub(crate) fn arrow_error(error: arrow::error::ArrowError) -> Error {
    Error::internal(format!("arrow: {error}"))
}
