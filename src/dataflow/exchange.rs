//! The exchange: which worker each row belongs to.
//!
//! A row goes to the worker that owns the shard of its key, so that all rows of one key, from whatever input, meet where
//! that key's state lies.

use arrow::array::UInt32Array;

use crate::delta::Delta;
use crate::error::Result;
use crate::ids::Shard;
use crate::state::codec;
use crate::state::codec::KeyCodec;

/// Splits a delta by the owner of each row's key: one entry a worker, `None` where nothing goes. The rows for one worker
/// keep their order.
pub fn partition(delta: &Delta, keys: &[usize], workers: usize) -> Result<Vec<Option<Delta>>> {
    let mut parts = vec![None; workers];
    if delta.is_empty() {
        return Ok(parts);
    }
    if workers == 1 {
        parts[0] = Some(delta.clone());
        return Ok(parts);
    }
    let mut rows = vec![Vec::new(); workers];
    let columns = keys.iter().map(|&k| delta.batch().column(k).clone()).collect::<Vec<_>>();
    let codec = KeyCodec::new(columns.iter().map(|c| c.data_type().clone()).collect());
    for (row, key) in codec.encode(&columns, delta.len())?.iter().enumerate() {
        rows[Shard::of(codec::hash(key)).owner(workers).0 as usize].push(row as u32);
    }
    for (part, rows) in parts.iter_mut().zip(rows) {
        *part = match rows.len() {
            0 => None,
            all if all == delta.len() => Some(delta.clone()),
            _ => Some(delta.take(&UInt32Array::from(rows))?),
        };
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::pretty;
    use crate::types::{Column, SqlType};

    #[test]
    fn equal_keys_go_to_one_worker_and_nothing_is_lost() {
        let columns = [Column::new("k", SqlType::BigInt), Column::new("v", SqlType::Text)];
        let lines = (0..300).map(|i| format!("+ {} v{i}\n", i % 50)).collect::<String>();
        let delta = pretty::parse(&columns, &lines).unwrap();
        for workers in 1..5 {
            let parts = partition(&delta, &[0], workers).unwrap();
            let texts = parts.iter().flatten().map(|p| pretty::print(p).unwrap()).collect::<Vec<_>>();
            assert_eq!(texts.iter().map(|t| t.lines().count()).sum::<usize>(), 300);
            for key in 0..50 {
                let start = format!("+ {key} ");
                assert_eq!(texts.iter().filter(|t| t.lines().any(|l| l.starts_with(&start))).count(), 1);
            }
        }
        let parts = partition(&delta, &[], 3).unwrap();
        assert_eq!(parts.iter().flatten().count(), 1);
    }
}
