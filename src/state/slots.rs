//! The in-memory key table of operators: keys as codec bytes, interned, each with a dense number.
//!
//! Values live outside, in columns indexed by slot, so that an operator looks up a whole batch of keys first and then works
//! on columns. Keys are never taken out one by one; [`KeySlots::retain`] rebuilds the table when memory is short.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::state::codec;
use crate::state::codec::ByteRows;

/// Interned keys: each distinct key has a slot, counted from 0 in order of arrival.
#[derive(Default)]
pub struct KeySlots {
    /// Slots by the hash of their keys.
    table: HashTable<u32>,
    /// The hash of each slot's key, as [`codec::hash`] gives it.
    hashes: Vec<u64>,
    /// All keys, one after the other.
    bytes: Vec<u8>,
    /// Where the key of each slot ends in `bytes`; empty while all keys have the same width.
    ends: Vec<usize>,
    /// The width of all keys while `ends` is empty.
    width: usize,
}

impl KeySlots {
    /// Finds the slot of each key, giving new ones to new keys. Appends a slot for each key to `slots`, and to `new`, for
    /// each new slot in order, the row of its first occurrence.
    pub fn lookup_or_insert(&mut self, keys: &ByteRows, slots: &mut Vec<u32>, new: &mut Vec<u32>) {
        let hashes = keys.iter().map(codec::hash).collect::<Vec<_>>();
        slots.reserve(keys.len());
        for (row, &hash) in hashes.iter().enumerate() {
            let key = keys.get(row);
            let KeySlots { table, hashes, bytes, ends, width } = self;
            let equal = |&slot: &u32| hashes[slot as usize] == hash && key_at(bytes, ends, *width, slot) == key;
            match table.entry(spread(hash), equal, |&slot| spread(hashes[slot as usize])) {
                Entry::Occupied(entry) => slots.push(*entry.get()),
                Entry::Vacant(entry) => {
                    let slot =
                        u32::try_from(hashes.len()).expect("a worker holds fewer than 4 billion keys of a table");
                    entry.insert(slot);
                    self.append(key, hash);
                    slots.push(slot);
                    new.push(row as u32);
                }
            }
        }
    }

    /// The slot of a key.
    pub fn get(&self, key: &[u8]) -> Option<u32> {
        let hash = codec::hash(key);
        self.table.find(spread(hash), |&slot| self.hash(slot) == hash && self.key(slot) == key).copied()
    }

    /// The key of a slot.
    pub fn key(&self, slot: u32) -> &[u8] {
        key_at(&self.bytes, &self.ends, self.width, slot)
    }

    /// The hash of a slot's key, as [`codec::hash`] gives it.
    pub fn hash(&self, slot: u32) -> u64 {
        self.hashes[slot as usize]
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// How much memory the table takes.
    pub fn memory_bytes(&self) -> usize {
        self.table.allocation_size()
            + self.hashes.capacity() * size_of::<u64>()
            + self.bytes.capacity()
            + self.ends.capacity() * size_of::<usize>()
    }

    /// Keeps the slots chosen and numbers them anew, in the same order. Says for each old slot its new one.
    pub fn retain(&mut self, mut keep: impl FnMut(u32) -> bool) -> Vec<Option<u32>> {
        let old = std::mem::take(self);
        let mapping = (0..old.len() as u32)
            .map(|slot| {
                keep(slot).then(|| {
                    self.append(old.key(slot), old.hash(slot));
                    self.len() as u32 - 1
                })
            })
            .collect();
        self.bytes.shrink_to_fit();
        self.hashes.shrink_to_fit();
        self.ends.shrink_to_fit();
        let hashes = &self.hashes;
        self.table.reserve(hashes.len(), |&slot| spread(hashes[slot as usize]));
        for (slot, &hash) in hashes.iter().enumerate() {
            self.table.insert_unique(spread(hash), slot as u32, |&slot| spread(hashes[slot as usize]));
        }
        mapping
    }

    /// Stores the key of the next slot.
    fn append(&mut self, key: &[u8], hash: u64) {
        if self.hashes.is_empty() {
            self.width = key.len();
        } else if self.ends.is_empty() && self.width != key.len() {
            self.ends = (1..=self.hashes.len()).map(|count| count * self.width).collect();
        }
        self.bytes.extend_from_slice(key);
        if !self.ends.is_empty() {
            self.ends.push(self.bytes.len());
        }
        self.hashes.push(hash);
    }
}

/// The key of a slot.
fn key_at<'a>(bytes: &'a [u8], ends: &[usize], width: usize, slot: u32) -> &'a [u8] {
    let slot = slot as usize;
    match slot.checked_sub(1) {
        _ if ends.is_empty() => &bytes[slot * width..][..width],
        Some(before) => &bytes[ends[before]..ends[slot]],
        None => &bytes[..ends[slot]],
    }
}

/// The hash for our table. The low bits chose the worker, so here they are all alike, and a table wants them to differ.
fn spread(hash: u64) -> u64 {
    hash.rotate_left(32)
}

/// Whether all of a state table's keys are in memory.
///
/// It is so from the table's creation until something is evicted; after a restart it is not. While it is so, a key that is
/// not in memory does not exist, and the store need not be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Residency {
    /// Everything is in memory: a miss is a miss.
    Complete,
    /// Some of it may only be in the store.
    #[default]
    Partial,
}

impl Residency {
    /// Whether a miss in memory is a miss.
    pub fn is_complete(self) -> bool {
        self == Residency::Complete
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use rand::Rng;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn keys(keys: &[&[u8]]) -> ByteRows {
        let mut rows = ByteRows::default();
        keys.iter().for_each(|key| rows.push(key));
        rows
    }

    #[test]
    fn slots_are_dense_and_stay() {
        let mut table = KeySlots::default();
        let (mut slots, mut new) = (vec![], vec![]);
        table.lookup_or_insert(&keys(&[b"aa", b"bb", b"aa"]), &mut slots, &mut new);
        assert_eq!((slots.as_slice(), new.as_slice()), (&[0, 1, 0][..], &[0, 1][..]));
        slots.clear();
        new.clear();
        table.lookup_or_insert(&keys(&[b"", b"bb", b"ccc", b""]), &mut slots, &mut new);
        assert_eq!((slots.as_slice(), new.as_slice()), (&[2, 1, 3, 2][..], &[0, 2][..]));
        assert_eq!((0..4).map(|slot| table.key(slot)).collect::<Vec<_>>(), [&b"aa"[..], b"bb", b"", b"ccc"]);
        assert_eq!(table.get(b"ccc"), Some(3));
        assert_eq!(table.get(b"c"), None);
        assert_eq!(table.hash(0), codec::hash(b"aa"));
        assert!(table.memory_bytes() > 0);
    }

    #[test]
    fn keys_without_bytes_are_one_key() {
        let mut table = KeySlots::default();
        let (mut slots, mut new) = (vec![], vec![]);
        table.lookup_or_insert(&keys(&[b"", b""]), &mut slots, &mut new);
        assert_eq!((slots, new, table.len()), (vec![0, 0], vec![0], 1));
    }

    #[test]
    fn it_is_a_map_also_after_eviction() {
        let mut rng = StdRng::seed_from_u64(1);
        for widths in [9..10, 0..12] {
            let mut table = KeySlots::default();
            let mut model = HashMap::new();
            for round in 0..20 {
                let batch = (0..300)
                    .map(|_| vec![rng.random_range(0..40); rng.random_range(widths.clone())])
                    .collect::<Vec<Vec<u8>>>();
                let (mut slots, mut new) = (vec![], vec![]);
                table.lookup_or_insert(
                    &keys(&batch.iter().map(Vec::as_slice).collect::<Vec<_>>()),
                    &mut slots,
                    &mut new,
                );
                for (key, slot) in batch.iter().zip(&slots) {
                    let expected = model.len() as u32;
                    assert_eq!(model.entry(key.clone()).or_insert(expected), slot);
                }
                assert_eq!(table.len(), model.len());
                if round % 5 == 4 {
                    let mapping = table.retain(|slot| slot % 3 != 0);
                    model.retain(|_, slot| mapping[*slot as usize].inspect(|&new| *slot = new).is_some());
                }
                for (key, &slot) in &model {
                    assert_eq!((table.get(key), table.key(slot)), (Some(slot), key.as_slice()));
                }
            }
        }
    }
}
