//! The in-memory key table of operators: keys as codec bytes, interned, each with a dense number.
//!
//! Values live outside, in columns indexed by slot, so that an operator looks up a whole batch of keys first and then works
//! on columns. When keys are taken out, the last ones get their slots, and the columns follow these [`Moves`].
//!
//! An epoch waits while a table grows or shrinks, so neither takes longer the more there is. The index is in parts: one that is full
//! splits by one more bit of its keys' hashes.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use hashbrown::hash_table::OccupiedEntry;

use crate::state::arena::Arena;
use crate::state::codec;
use crate::state::codec::ByteRows;

/// Interned keys: each distinct key has a slot. Slots are counted from 0, without gaps.
#[derive(Default)]
pub struct KeySlots {
    index: Index,
    keys: Keys,
}

/// The bytes of keys, by slot.
enum Keys {
    /// All are of the same width.
    Fixed { width: usize, len: usize, bytes: Vec<u8> },
    /// They are not.
    Varying { spans: Vec<Span>, arena: Arena },
}

/// Where a string lies in an arena.
#[derive(Clone, Copy)]
struct Span {
    start: usize,
    length: usize,
}

/// Slots that change their number, because others were taken out: each is the last there was, and gets the place of one that went.
pub struct Moves {
    /// The slots that went, in their order.
    gone: Vec<u32>,
    /// From where to where.
    pairs: Vec<(u32, u32)>,
    /// How many slots are left.
    len: usize,
}

impl Moves {
    /// The moves when these slots go, given in their order, of so many.
    fn new(gone: Vec<u32>, len: usize) -> Moves {
        let left = len - gone.len();
        let (gaps, tail) = gone.split_at(gone.partition_point(|slot| (*slot as usize) < left));
        let mut tail = tail.iter().peekable();
        let stay = (left as u32..len as u32).filter(|slot| tail.next_if_eq(&slot).is_none());
        let pairs = stay.zip(gaps.iter().copied()).collect();
        Moves { gone, pairs, len: left }
    }

    /// The slots that went.
    pub fn gone(&self) -> &[u32] {
        &self.gone
    }

    /// Slots before and after, of those that have moved.
    pub fn pairs(&self) -> &[(u32, u32)] {
        &self.pairs
    }

    /// Has a column follow.
    pub fn apply<T>(&self, column: &mut Vec<T>) {
        self.apply_wide(column, 1);
    }

    /// Has a column follow that has so many values for each slot.
    pub fn apply_wide<T>(&self, column: &mut Vec<T>, width: usize) {
        for &(from, to) in &self.pairs {
            for value in 0..width {
                column.swap(from as usize * width + value, to as usize * width + value);
            }
        }
        column.truncate(self.len * width);
        give_back(column);
    }
}

/// Gives memory back that is no longer wanted.
fn give_back<T>(column: &mut Vec<T>) {
    if column.len() < column.capacity() / 4 {
        column.shrink_to(2 * column.len());
    }
}

/// Slots by the hashes of their keys, in parts.
struct Index {
    /// For each value of so many bits of a hash, the part that has its slots.
    directory: Vec<u32>,
    parts: Vec<Part>,
}

/// The slots whose hashes agree in some bits.
#[derive(Default)]
struct Part {
    slots: HashTable<u32>,
    /// In how many bits they agree.
    bits: u32,
}

/// What the index takes for a key, about: its tables are from half full to full but for an eighth.
const INDEX_BYTES: usize = 8;

/// A part splits when it has so many slots: the capacity of a table of 32,768 places.
const PART_SLOTS: usize = 28_672;

/// The bits of a hash that choose the part: between those of the shard, which are partly the same on one worker, and those that a
/// part's own table uses.
const PART_BITS: std::ops::Range<u32> = 10..25;

impl Default for Index {
    fn default() -> Index {
        Index { directory: vec![0], parts: vec![Part::default()] }
    }
}

impl Index {
    /// The number of the part for a hash.
    fn part_of(&self, hash: u64) -> usize {
        self.directory[(hash >> PART_BITS.start) as usize & (self.directory.len() - 1)] as usize
    }

    /// Puts a slot in that is not there.
    fn insert(&mut self, slot: u32, hash: impl Fn(u32) -> u64) {
        let number = self.part_of(hash(slot));
        let part = &mut self.parts[number].slots;
        part.insert_unique(spread(hash(slot)), slot, |slot| spread(hash(*slot)));
        if part.len().is_multiple_of(PART_SLOTS) {
            self.split(number, hash);
        }
    }

    /// The entry of a slot that is there.
    fn entry(&mut self, hash: u64, slot: u32) -> OccupiedEntry<'_, u32> {
        let number = self.part_of(hash);
        self.parts[number].slots.find_entry(spread(hash), |other| *other == slot).expect("every slot is in the index")
    }

    /// Splits a part that is full, as long as there are bits to tell its slots apart.
    fn split(&mut self, number: usize, hash: impl Fn(u32) -> u64) {
        let bits = self.parts[number].bits;
        if bits == PART_BITS.end - PART_BITS.start {
            return;
        }
        if self.directory.len() == 1 << bits {
            self.directory.extend_from_within(..);
        }
        let apart = |hash: u64| (hash >> PART_BITS.start >> bits) & 1 == 1;
        let mut halves = [0, 1].map(|_| Part { slots: HashTable::with_capacity(PART_SLOTS), bits: bits + 1 });
        for &slot in &self.parts[number].slots {
            let half = &mut halves[usize::from(apart(hash(slot)))];
            half.slots.insert_unique(spread(hash(slot)), slot, |&slot| spread(hash(slot)));
        }
        let [stay, go] = halves;
        self.parts[number] = stay;
        self.parts.push(go);
        let new = self.parts.len() as u32 - 1;
        for (value, part) in self.directory.iter_mut().enumerate() {
            if *part as usize == number && (value >> bits) & 1 == 1 {
                *part = new;
            }
        }
    }
}

impl Keys {
    fn len(&self) -> usize {
        match self {
            Keys::Fixed { len, .. } => *len,
            Keys::Varying { spans, .. } => spans.len(),
        }
    }

    /// The key of a slot.
    #[inline]
    fn get(&self, slot: u32) -> &[u8] {
        let slot = slot as usize;
        match self {
            Keys::Fixed { width, bytes, .. } => &bytes[slot * width..][..*width],
            Keys::Varying { spans, arena } => arena.get(spans[slot].start, spans[slot].length),
        }
    }

    /// Stores the key of the next slot.
    fn push(&mut self, key: &[u8]) {
        match self {
            Keys::Fixed { width, len, bytes } if *len == 0 || *width == key.len() => {
                *width = key.len();
                *len += 1;
                bytes.extend_from_slice(key);
            }
            Keys::Fixed { .. } => {
                let mut varying = Keys::Varying { spans: Vec::new(), arena: Arena::default() };
                (0..self.len() as u32).for_each(|slot| varying.push(self.get(slot)));
                varying.push(key);
                *self = varying;
            }
            Keys::Varying { spans, arena } => spans.push(Span { start: arena.put(&[key]), length: key.len() }),
        }
    }

    fn compact(&mut self, moves: &Moves) {
        match self {
            Keys::Fixed { width, len, bytes } => {
                *len = moves.len;
                for (from, to) in moves.pairs.iter().map(|(from, to)| (*from as usize, *to as usize)) {
                    bytes.copy_within(from * *width..(from + 1) * *width, to * *width);
                }
                bytes.truncate(*len * *width);
                give_back(bytes);
            }
            Keys::Varying { spans, arena } => {
                for slot in &moves.gone {
                    let Span { start, length } = spans[*slot as usize];
                    arena.release(start, length);
                }
                moves.apply(spans);
                if arena.is_mostly_free() {
                    let old = std::mem::take(arena);
                    for Span { start, length } in spans {
                        *start = arena.put(&[old.get(*start, *length)]);
                    }
                }
            }
        }
    }

    fn memory_bytes(&self) -> usize {
        match self {
            Keys::Fixed { bytes, .. } => bytes.len(),
            Keys::Varying { spans, arena } => spans.len() * size_of::<Span>() + arena.used_bytes(),
        }
    }
}

impl Default for Keys {
    fn default() -> Keys {
        Keys::Fixed { width: 0, len: 0, bytes: Vec::new() }
    }
}

impl KeySlots {
    /// Finds the slot of each key, giving new ones to new keys. Appends a slot for each key to `slots`, and to `new`, for
    /// each new slot in order, the row of its first occurrence.
    pub fn lookup_or_insert(&mut self, keys: &ByteRows, slots: &mut Vec<u32>, new: &mut Vec<u32>) {
        let hashes = keys.iter().map(codec::hash).collect::<Vec<_>>();
        slots.reserve(keys.len());
        let KeySlots { index, keys: stored } = self;
        for (row, &hash) in hashes.iter().enumerate() {
            let key = keys.get(row);
            let number = index.part_of(hash);
            let part = &mut index.parts[number].slots;
            let rehash = |slot: &u32| spread(codec::hash(stored.get(*slot)));
            match part.entry(spread(hash), |&slot| stored.get(slot) == key, rehash) {
                Entry::Occupied(entry) => slots.push(*entry.get()),
                Entry::Vacant(entry) => {
                    let slot =
                        u32::try_from(stored.len()).expect("a worker holds fewer than 4 billion keys of a table");
                    entry.insert(slot);
                    let full = part.len().is_multiple_of(PART_SLOTS);
                    stored.push(key);
                    slots.push(slot);
                    new.push(row as u32);
                    if full {
                        index.split(number, |slot| codec::hash(stored.get(slot)));
                    }
                }
            }
        }
    }

    /// The slot of a key.
    pub fn get(&self, key: &[u8]) -> Option<u32> {
        let hash = codec::hash(key);
        let part = &self.index.parts[self.index.part_of(hash)];
        part.slots.find(spread(hash), |&slot| self.key(slot) == key).copied()
    }

    /// The key of a slot.
    pub fn key(&self, slot: u32) -> &[u8] {
        self.keys.get(slot)
    }

    /// The hash of a slot's key, as [`codec::hash`] gives it.
    pub fn hash(&self, slot: u32) -> u64 {
        codec::hash(self.key(slot))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How much memory its keys take. What is free for others to come does not count.
    pub fn memory_bytes(&self) -> usize {
        self.keys.memory_bytes() + self.len() * INDEX_BYTES
    }

    /// Takes out the keys of these slots, given in their order, and says which of the others have moved.
    pub fn remove(&mut self, gone: Vec<u32>) -> Moves {
        let KeySlots { index, keys } = self;
        let moves = Moves::new(gone, keys.len());
        for &slot in &moves.gone {
            index.entry(codec::hash(keys.get(slot)), slot).remove();
        }
        for &(from, to) in &moves.pairs {
            *index.entry(codec::hash(keys.get(from)), from).get_mut() = to;
        }
        keys.compact(&moves);
        if keys.len() < (index.parts.len() - 1) * PART_SLOTS / 8 {
            *index = Index::default();
            (0..keys.len() as u32).for_each(|slot| index.insert(slot, |slot| codec::hash(keys.get(slot))));
        }
        moves
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
    fn parts_split_and_every_key_is_found_again() {
        let mut table = KeySlots::default();
        let all = (0..4 * PART_SLOTS as u64).map(u64::to_be_bytes).collect::<Vec<_>>();
        for some in all.chunks(1000) {
            let (mut slots, mut new) = (vec![], vec![]);
            table.lookup_or_insert(&keys(&some.iter().map(|key| &key[..]).collect::<Vec<_>>()), &mut slots, &mut new);
            assert_eq!(new.len(), some.len());
        }
        assert!(table.index.parts.len() > 4);
        assert!(table.index.parts.iter().all(|part| part.slots.len() < PART_SLOTS));
        let gone = (0..all.len() as u32).filter(|slot| slot % 10 != 7).collect();
        let moves = table.remove(gone);
        let mut kept = all.clone();
        moves.apply(&mut kept);
        for (slot, key) in kept.iter().enumerate() {
            assert_eq!((table.get(key), table.key(slot as u32)), (Some(slot as u32), &key[..]));
        }
        assert_eq!(all.iter().filter(|key| table.get(&key[..]).is_some()).count(), kept.len());
        assert_eq!(table.len(), kept.len());
    }

    #[test]
    fn keys_of_one_hash_do_not_split() {
        let mut index = Index::default();
        for slot in 0..2 * PART_SLOTS as u32 {
            index.parts[0].slots.insert_unique(0, slot, |_| 0);
        }
        index.split(0, |_| 0);
        assert_eq!(index.parts[index.part_of(0)].slots.len(), 2 * PART_SLOTS);
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
                    let gone = (0..table.len() as u32).filter(|slot| slot % 3 == 0 || slot % 7 == 1).collect();
                    let moves = table.remove(gone);
                    model.retain(|_, slot| moves.gone().binary_search(slot).is_err());
                    for slot in model.values_mut() {
                        *slot = moves.pairs().iter().find(|(from, _)| from == slot).map_or(*slot, |(_, to)| *to);
                    }
                }
                for (key, &slot) in &model {
                    assert_eq!((table.get(key), table.key(slot)), (Some(slot), key.as_slice()));
                }
            }
        }
    }
}
