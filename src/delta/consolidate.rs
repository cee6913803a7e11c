//! Consolidation: equal rows become one row with the sum of their weights, and rows of weight 0 vanish.

use arrow::array::{Array, RecordBatch, UInt32Array};
use arrow_row::{RowConverter, Rows, SortField};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use xxhash_rust::xxh3::xxh3_64;

use crate::delta::{Delta, arrow_error};
use crate::error::Result;

/// The same change with each distinct row once, in the order of first occurrence, and no row of weight 0.
///
/// Rows are equal when their bytes are: unlike in SQL, NULL equals NULL and −0.0 differs from 0.0.
pub fn consolidate(delta: &Delta) -> Result<Delta> {
    if delta.len() <= 1 && delta.weights().iter().all(|w| *w != 0) {
        return Ok(delta.clone());
    }
    let distinct = match delta.batch().num_columns() {
        0 => without_columns(delta),
        _ => distinct(&rows_of(delta.batch())?, delta.weights()),
    };
    if distinct.len() == delta.len() {
        return Ok(delta.clone());
    }
    let indices = UInt32Array::from_iter_values(distinct.iter().map(|(index, _)| *index));
    let weights = distinct.iter().map(|(_, weight)| *weight).collect::<Vec<_>>();
    Ok(Delta::new(delta.take(&indices)?.batch().clone(), weights.into()))
}

/// The rows as comparable bytes. They live no longer than this process: the format belongs to `arrow-row`.
fn rows_of(batch: &RecordBatch) -> Result<Rows> {
    let fields = batch.columns().iter().map(|c| SortField::new(c.data_type().clone())).collect();
    let converter = RowConverter::new(fields).map_err(arrow_error)?;
    converter.convert_columns(batch.columns()).map_err(arrow_error)
}

/// Index and weight of each row that remains.
fn distinct(rows: &Rows, weights: &[i64]) -> Vec<(u32, i64)> {
    let mut table = HashTable::<u32>::with_capacity(weights.len());
    let mut sums = Vec::<(u32, i64)>::with_capacity(weights.len());
    let bytes = |row: u32| rows.row(row as usize).data();
    for (row, weight) in weights.iter().enumerate() {
        let row = row as u32;
        let hash = xxh3_64(bytes(row));
        let same = |at: &u32| bytes(sums[*at as usize].0) == bytes(row);
        match table.entry(hash, same, |at| xxh3_64(bytes(sums[*at as usize].0))) {
            Entry::Occupied(entry) => sums[*entry.get() as usize].1 += weight,
            Entry::Vacant(entry) => {
                entry.insert(sums.len() as u32);
                sums.push((row, *weight));
            }
        }
    }
    sums.retain(|(_, weight)| *weight != 0);
    sums
}

/// Without columns all rows are equal.
fn without_columns(delta: &Delta) -> Vec<(u32, i64)> {
    match delta.weights().iter().sum() {
        0 => Vec::new(),
        sum => vec![(0, sum)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::pretty;
    use crate::types::{Column, SqlType};

    fn check(input: &str, expected: &str) {
        let columns = [Column::new("a", SqlType::BigInt), Column::new("b", SqlType::Text)];
        let delta = pretty::parse(&columns, input).unwrap();
        assert_eq!(pretty::print(&consolidate(&delta).unwrap()).unwrap(), expected);
    }

    #[test]
    fn sums_weights_of_equal_rows() {
        check("", "");
        check("+ 1 a", "+ 1 a\n");
        check("+ 1 a\n+ 2 b\n- 1 a", "+ 2 b\n");
        check("+ 1 a\n+ 1 a\n+ null null\n+2 null null", "+2 1 a\n+3 null null\n");
        check("- 1 a\n-2 1 a\n+ 1 b", "-3 1 a\n+ 1 b\n");
    }

    #[test]
    fn rows_without_columns_are_all_equal() {
        let delta = pretty::parse(&[], "+\n+\n-3").unwrap();
        assert_eq!(pretty::print(&consolidate(&delta).unwrap()).unwrap(), "-\n");
        let delta = pretty::parse(&[], "+\n-").unwrap();
        assert!(consolidate(&delta).unwrap().is_empty());
    }
}
