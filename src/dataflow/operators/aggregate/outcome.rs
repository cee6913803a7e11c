//! What the groups come to: their output rows before an epoch and after it, and the delta between the two.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::array::RecordBatch;
use arrow::array::RecordBatchOptions;
use arrow::array::make_comparator;
use arrow::array::new_empty_array;
use arrow::compute::SortOptions;
use arrow::compute::concat;
use arrow::compute::interleave;
use arrow::datatypes::SchemaRef;

use crate::dataflow::row_error;
use crate::dataflow::row_error::RowError;
use crate::delta::Delta;
use crate::delta::arrow_error;
use crate::error::Error;
use crate::error::Result;

/// The results of some groups.
#[derive(Default)]
pub(super) struct Outcome {
    /// One column for each call, one value for each group.
    pub columns: Vec<ArrayRef>,
    /// What became of each group.
    pub fates: Vec<Fate>,
}

/// What became of a group.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fate {
    /// It has no rows: it is not there.
    Absent,
    /// It has its values in the columns.
    Row,
    /// One of its results cannot be.
    Failed(Box<Error>),
}

impl Outcome {
    /// The outcome of no groups.
    pub fn none(schema: &SchemaRef, keys: usize) -> Outcome {
        let types = schema.fields().iter().skip(keys).map(|field| field.data_type());
        Outcome { columns: types.map(new_empty_array).collect(), fates: Vec::new() }
    }

    /// All of them, one after the other.
    pub fn concat(parts: Vec<Outcome>) -> Result<Outcome> {
        let columns = parts.first().map_or(0, |first| first.columns.len());
        let column = |index: usize| {
            let arrays = parts.iter().map(|part| part.columns[index].as_ref()).collect::<Vec<_>>();
            concat(&arrays).map_err(arrow_error)
        };
        let columns = (0..columns).map(column).collect::<Result<Vec<_>>>()?;
        Ok(Outcome { columns, fates: parts.into_iter().flat_map(|part| part.fates).collect() })
    }

    /// Whether each of the groups at the beginning has another row here than in `before`, which has no others.
    fn differ(&self, before: &Outcome) -> Result<Vec<bool>> {
        let mut differ = vec![false; before.fates.len()];
        for (old, new) in before.columns.iter().zip(&self.columns) {
            let compare = make_comparator(old, new, SortOptions::default()).map_err(arrow_error)?;
            differ
                .iter_mut()
                .enumerate()
                .for_each(|(index, differ)| *differ |= compare(index, index) != Ordering::Equal);
        }
        Ok(differ)
    }
}

/// The change from one outcome to a later one.
pub(super) struct Change {
    /// Groups, by their index in `after`, whose old row goes.
    old: Vec<usize>,
    /// Groups, by their index in `after`, whose new row comes.
    new: Vec<usize>,
    /// Errors of groups, by their index in `after`, that come or go.
    failed: Vec<(usize, Error, i64)>,
}

impl Change {
    /// The change to `after`, whose first groups are those of `before`; the others were absent.
    pub fn between(before: &Outcome, after: &Outcome) -> Result<Change> {
        let differ = after.differ(before)?;
        let mut change = Change { old: Vec::new(), new: Vec::new(), failed: Vec::new() };
        for (index, new) in after.fates.iter().enumerate() {
            let old = before.fates.get(index).unwrap_or(&Fate::Absent);
            if old == new && (*new != Fate::Row || !differ[index]) {
                continue;
            }
            match old {
                Fate::Absent => {}
                Fate::Row => change.old.push(index),
                Fate::Failed(error) => change.failed.push((index, (**error).clone(), -1)),
            }
            match new {
                Fate::Absent => {}
                Fate::Row => change.new.push(index),
                Fate::Failed(error) => change.failed.push((index, (**error).clone(), 1)),
            }
        }
        Ok(change)
    }

    /// The groups whose errors come or go, by their index in `after`.
    pub fn failed(&self) -> impl Iterator<Item = usize> {
        self.failed.iter().map(|(index, _, _)| *index)
    }

    /// Reports the errors that come or go. `keys` has the group columns of [`failed`](Change::failed), as columns of `schema`.
    pub fn report(&self, keys: Vec<ArrayRef>, schema: &SchemaRef, errors: &mut Vec<RowError>) -> Result<()> {
        if self.failed.is_empty() {
            return Ok(());
        }
        let fields = schema.project(&(0..keys.len()).collect::<Vec<_>>()).map_err(arrow_error)?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.failed.len()));
        let keys = RecordBatch::try_new_with_options(Arc::new(fields), keys, &options).map_err(arrow_error)?;
        for (row, (_, error, weight)) in self.failed.iter().enumerate() {
            let input = row_error::describe(&keys, row)?;
            errors.push(RowError { error: error.clone(), input, weight: *weight });
        }
        Ok(())
    }

    /// The groups that the rows of [`delta`](Change::delta) belong to, by their index in `after`.
    pub fn groups(&self) -> impl Iterator<Item = usize> {
        self.old.iter().chain(&self.new).copied()
    }

    /// The delta, `None` when nothing changes. `keys` has the group columns of [`groups`](Change::groups).
    pub fn delta(
        &self,
        keys: Vec<ArrayRef>,
        before: &Outcome,
        after: &Outcome,
        schema: &SchemaRef,
    ) -> Result<Option<Delta>> {
        let rows = self.old.len() + self.new.len();
        if rows == 0 {
            return Ok(None);
        }
        let old = self.old.iter().map(|index| (0, *index));
        let places = old.chain(self.new.iter().map(|index| (1, *index))).collect::<Vec<_>>();
        let mut columns = keys;
        for (old, new) in before.columns.iter().zip(&after.columns) {
            columns.push(interleave(&[old, new], &places).map_err(arrow_error)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(arrow_error)?;
        let weights = std::iter::repeat_n(-1, self.old.len()).chain(std::iter::repeat_n(1, self.new.len()));
        Ok(Some(Delta::new(batch, weights.collect::<Vec<i64>>().into())))
    }
}
