//! The values of one column in each group with their counts, one for each filter: state keyed by group and value.
//!
//! DISTINCT needs it to know when a value appears in a group and when it goes; min and max over retracting input need it
//! to find the next extreme. The key is the group's key bytes followed by the value's, so that the values of a group lie
//! side by side in the store, in their order; the shard is that of the group.

use std::ops::Range;

use arrow::array::Array;
use arrow::array::ArrayRef;
use arrow::buffer::NullBuffer;
use arrow::compute::interleave;

use crate::dataflow::operator::Context;
use crate::delta::Delta;
use crate::delta::arrow_error;
use crate::error::Error;
use crate::error::Result;
use crate::ids::Shard;
use crate::ids::TableId;
use crate::plan::ir;
use crate::state::Space;
use crate::state::StateReader;
use crate::state::Writes;
use crate::state::codec::ByteRows;
use crate::state::codec::KeyCodec;
use crate::state::codec::prefix_end;
use crate::types::Column;

use super::accumulators::mask;
use super::extremes::End;
use super::record::put_integer;
use super::record::put_version;
use super::record::take_long;
use super::record::take_version;
use super::table::SlotTable;

/// One multiset of the node.
pub(super) struct Multiset {
    /// The input column that is kept.
    column: usize,
    /// The input columns that choose the rows for each count; `None`: all count.
    filters: Vec<Option<usize>>,
    codec: KeyCodec,
    /// The (group, value) pairs in memory.
    entries: SlotTable,
    /// How often each pair occurs, by its slot: for each slot as many counts as there are filters.
    counts: Vec<i64>,
}

/// A part of a step's input, with the groups of its rows.
pub(super) struct Part {
    /// The rows.
    pub delta: Delta,
    /// The group key of each row.
    pub keys: ByteRows,
    /// The group's slot of each row.
    pub slots: Vec<u32>,
}

/// Values that a step made appear in their group (+1) or go from it (−1). Those that appear come first.
pub(super) struct Transitions {
    /// The slot of each one's group.
    pub slots: Vec<u32>,
    /// +1 or −1.
    pub weights: Vec<i64>,
    /// The values.
    pub values: ArrayRef,
}

/// Pairs that a step touched.
#[derive(Default)]
struct Touched {
    pairs: Vec<Pair>,
    /// The counts of each pair before.
    before: Vec<i64>,
}

/// A pair that a step touched: its slot, its group's, and a row with its value.
struct Pair {
    entry: u32,
    group: u32,
    place: (usize, usize),
}

impl Multiset {
    /// The multiset of this plan over this input; `fresh` when nothing is stored yet. Groups are closed as their node says.
    pub fn new(multiset: &ir::Multiset, input: &[Column], fresh: bool, closes_after_us: Option<i64>) -> Multiset {
        Multiset {
            column: multiset.column,
            filters: multiset.filters.clone(),
            codec: KeyCodec::new(vec![input[multiset.column].ty.arrow()]),
            entries: SlotTable::closing(multiset.table, fresh, closes_after_us),
            counts: Vec::new(),
        }
    }

    /// Which of the counts is that of this filter.
    pub fn count_of(&self, filter: Option<usize>) -> usize {
        self.filters.iter().position(|other| *other == filter).expect("a multiset counts what its calls need")
    }

    /// Folds a step in and says for each filter what appeared and what went. Inside of an epoch a count may be negative for a
    /// while.
    pub fn fold(&mut self, parts: &[Part], groups: &SlotTable, state: &StateReader) -> Result<Vec<Transitions>> {
        let mut keys = ByteRows::default();
        let (mut places, mut masks) = (Vec::new(), Vec::new());
        for (index, part) in parts.iter().enumerate() {
            let values = part.delta.batch().column(self.column);
            let filter =
                |filter: &Option<usize>| mask(Some(values), filter.map(|filter| part.delta.batch().column(filter)));
            let chosen = self.filters.iter().map(filter).collect::<Vec<_>>();
            let counts = |mask: &Option<NullBuffer>, row: usize| mask.as_ref().is_none_or(|mask| mask.is_valid(row));
            let encoded = self.codec.encode(std::slice::from_ref(values), values.len())?;
            for row in (0..values.len()).filter(|row| chosen.iter().any(|mask| counts(mask, *row))) {
                keys.bytes.extend_from_slice(part.keys.get(row));
                keys.push(encoded.get(row));
                places.push((index, row));
            }
            masks.push(chosen);
        }
        let group = |place: usize| {
            let (part, row) = places[place];
            parts[part].slots[row]
        };
        let mut slots = Vec::with_capacity(places.len());
        self.entries.intern(&keys, &mut slots, |row| groups.shard(group(row)));
        let width = self.filters.len();
        self.counts.resize(self.entries.len() * width, 0);
        let counts = &mut self.counts;
        self.entries.load(state, |entry, record| read_counts(&mut counts[of(entry, width)], record))?;
        let mut touched = Touched::default();
        for (at, (entry, (part, row))) in slots.iter().zip(&places).enumerate() {
            let counts = &mut self.counts[of(*entry, width)];
            if self.entries.mark(*entry) {
                touched.pairs.push(Pair { entry: *entry, group: group(at), place: (*part, *row) });
                touched.before.extend_from_slice(counts);
            }
            let weight = parts[*part].delta.weights()[*row];
            for (count, mask) in counts.iter_mut().zip(&masks[*part]) {
                if mask.as_ref().is_none_or(|mask| mask.is_valid(*row)) {
                    *count += weight;
                }
            }
        }
        touched.pairs.iter().for_each(|pair| self.entries.unmark(pair.entry));
        (0..width).map(|filter| self.transitions(filter, &touched, parts)).collect()
    }

    fn transitions(&self, filter: usize, touched: &Touched, parts: &[Part]) -> Result<Transitions> {
        let width = self.filters.len();
        let (mut slots, mut weights, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for weight in [1, -1] {
            for (pair, before) in touched.pairs.iter().zip(touched.before.chunks_exact(width)) {
                let now = self.counts[of(pair.entry, width)][filter] > 0;
                if now != (before[filter] > 0) && now == (weight > 0) {
                    slots.push(pair.group);
                    weights.push(weight);
                    places.push(pair.place);
                }
            }
        }
        let columns = parts.iter().map(|part| part.delta.batch().column(self.column).as_ref()).collect::<Vec<_>>();
        let values = interleave(&columns, &places).map_err(arrow_error)?;
        Ok(Transitions { slots, weights, values })
    }

    /// The state table, to be named in errors.
    pub fn table(&self) -> TableId {
        self.entries.id()
    }

    /// Fails if a value was taken back more often than it came. Holds at the end of every epoch.
    pub fn check(&self) -> Result<()> {
        let counts = self.entries.dirty().iter().flat_map(|entry| &self.counts[of(*entry, self.filters.len())]);
        match counts.copied().find(|count| *count < 0) {
            None => Ok(()),
            Some(count) => Err(Error::internal(format!(
                "state table {}: a value of a group occurs {count} times",
                self.entries.id()
            ))),
        }
    }

    /// What this epoch changed, sorted by key, to be laid over the store in searches of the only filter.
    pub fn overlay(&self) -> Overlay<'_> {
        let key = |entry: &u32| (self.entries.key(*entry), self.counts[of(*entry, self.filters.len())][0] > 0);
        let mut entries = self.entries.dirty().iter().map(key).collect::<Vec<_>>();
        entries.sort_unstable();
        Overlay { entries }
    }

    /// Up to `count` values of a group, as key bytes, beginning at one end of the order.
    pub fn search(
        &self,
        overlay: &Overlay<'_>,
        group: (&[u8], Shard),
        end: End,
        count: usize,
        state: &StateReader,
    ) -> Result<Vec<Box<[u8]>>> {
        let (prefix, shard) = group;
        let space = Space::State(self.entries.id(), shard);
        let to = prefix_end(prefix);
        let mut stored = match end {
            End::Least => state.scan(space, Some(prefix), to.as_deref()),
            End::Greatest => state.scan_reverse(space, Some(prefix), to.as_deref()),
        };
        let mut changed: Box<dyn Iterator<Item = &(&[u8], bool)>> = match end {
            End::Least => Box::new(overlay.of(prefix).iter()),
            End::Greatest => Box::new(overlay.of(prefix).iter().rev()),
        };
        let mut change = changed.next();
        let mut found: Vec<Box<[u8]>> = Vec::new();
        let mut entry = stored.next_entry()?;
        while found.len() < count {
            let changed_first = match (change, entry) {
                (None, None) => break,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (Some((changed, _)), Some((stored, _))) => *changed == stored || end.prefers(*changed, stored),
            };
            if !changed_first {
                found.extend(entry.map(|(key, _)| Box::from(&key[prefix.len()..])));
                entry = stored.next_entry()?;
                continue;
            }
            let (key, present) = change.expect("it comes first");
            if *present {
                found.push(Box::from(&key[prefix.len()..]));
            }
            if entry.is_some_and(|(stored, _)| stored == *key) {
                entry = stored.next_entry()?;
            }
            change = changed.next();
        }
        Ok(found)
    }

    /// Lets go of the values of groups that the watermark closes.
    pub fn close(&mut self, cx: &Context<'_>) -> Result<()> {
        for entry in self.entries.close(cx, |_, _| Ok(()))? {
            self.counts[of(entry, self.filters.len())].fill(0);
        }
        Ok(())
    }

    /// Hands over what this epoch changed.
    pub fn seal(&mut self, writes: &mut Writes) {
        let width = self.filters.len();
        self.entries.seal(writes, |entry, record| {
            let counts = &self.counts[of(entry, width)];
            put_version(record);
            counts.iter().for_each(|count| put_integer(record, *count as i128));
            counts.iter().any(|count| *count != 0)
        });
        if let Some(moves) = self.entries.without_empty() {
            moves.apply_wide(&mut self.counts, width);
        }
    }

    /// Brings a shard of what is stored into memory.
    pub fn warm(&mut self, shard: Shard, last: bool, state: &StateReader) -> Result<()> {
        let (counts, width) = (&mut self.counts, self.filters.len());
        self.entries.warm(shard, last, state, |entry, record| {
            counts.resize(counts.len().max((entry as usize + 1) * width), 0);
            read_counts(&mut counts[of(entry, width)], record)
        })
    }

    /// How much memory this takes, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.entries.memory_bytes() + self.counts.len() * size_of::<i64>()
    }

    /// Lets go of clean entries until `target` bytes are left.
    pub fn shrink(&mut self, target: usize) {
        if let Some(moves) = self.entries.evict(self.memory_bytes(), target) {
            moves.apply_wide(&mut self.counts, self.filters.len());
        }
    }
}

/// Where the counts of an entry lie.
fn of(entry: u32, width: usize) -> Range<usize> {
    entry as usize * width..(entry as usize + 1) * width
}

/// The counts of a stored record.
fn read_counts(counts: &mut [i64], record: &mut &[u8]) -> Result<()> {
    take_version(record)?;
    counts.iter_mut().try_for_each(|count| {
        *count = take_long(record)?;
        Ok(())
    })
}

/// The pairs that an epoch changed, in key order, and whether each is present now.
pub(super) struct Overlay<'a> {
    entries: Vec<(&'a [u8], bool)>,
}

impl Overlay<'_> {
    /// Those of one group.
    fn of(&self, prefix: &[u8]) -> &[(&[u8], bool)] {
        let start = self.entries.partition_point(|(key, _)| *key < prefix);
        let length = self.entries[start..].partition_point(|(key, _)| key.starts_with(prefix));
        &self.entries[start..start + length]
    }
}
