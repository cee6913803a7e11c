//! How the watermark of a source came to where it is: what is needed to read its rows again, each with the watermark that
//! its shared reader gave it.
//!
//! At the end of each epoch that moved the watermark, the offsets that had been read until then are kept with it. A row
//! carries the watermark at the end of the epoch before its own: that of the last moment at or before its offset. So two views
//! over one source agree on what is late, whenever they were created.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;

use crate::connectors::Positions;
use crate::time::Micros;

/// An end of an epoch that moved the watermark.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// The next offset of each partition.
    #[serde(rename = "o")]
    pub offsets: Positions,
    /// The watermark from here on.
    #[serde(rename = "w")]
    pub watermark: Option<Micros>,
}

/// All moments of a source, by partition.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Ascending offsets with the watermark that rows from there on carry.
    partitions: BTreeMap<String, Vec<(i64, Option<Micros>)>>,
    /// What rows of a partition carry that no moment knows.
    last: Option<Micros>,
}

impl History {
    /// Adds the next moment.
    pub fn push(&mut self, moment: &Moment) {
        for (partition, &offset) in &moment.offsets {
            let steps = self.partitions.entry(partition.clone()).or_insert_with(|| vec![(i64::MIN, self.last)]);
            steps.pop_if(|(last, _)| *last == offset);
            steps.push((offset, moment.watermark));
        }
        self.last = moment.watermark;
    }

    /// The watermarks that the rows of these offsets carry.
    pub fn watermarks(&self, partition: &str, offsets: &[i64]) -> Vec<Option<Micros>> {
        let Some(steps) = self.partitions.get(partition) else { return vec![self.last; offsets.len()] };
        let of = |offset: &i64| match steps.partition_point(|(from, _)| from <= offset) {
            0 => None,
            after => steps[after - 1].1,
        };
        offsets.iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(watermark: Micros, offsets: &[(&str, i64)]) -> Moment {
        let offsets = offsets.iter().map(|(partition, offset)| (partition.to_string(), *offset)).collect();
        Moment { offsets, watermark: Some(watermark) }
    }

    #[test]
    fn a_row_carries_the_watermark_before_its_epoch() {
        let mut history = History::default();
        assert_eq!(history.watermarks("0", &[0]), [None]);
        history.push(&moment(10, &[("0", 3)]));
        history.push(&moment(20, &[("0", 3)]));
        history.push(&moment(30, &[("0", 5), ("1", 2)]));
        history.push(&moment(40, &[("0", 5), ("1", 4)]));
        assert_eq!(history.watermarks("0", &[0, 2, 3, 4, 5, 9]), [None, None, Some(20), Some(20), Some(40), Some(40)]);
        assert_eq!(history.watermarks("1", &[0, 1, 2, 4]), [Some(20), Some(20), Some(30), Some(40)]);
        assert_eq!(history.watermarks("2", &[0]), [Some(40)]);
    }
}
