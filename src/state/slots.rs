//! The in-memory key table of operators: keys as codec bytes, interned, each with a dense number.
//!
//! Values live outside, in columns indexed by slot, so that an operator looks up a whole batch of keys first and then works
//! on columns. When keys are taken out, the last ones get their slots, and the columns follow these [`Moves`].
//!
//! An epoch waits while a table grows or shrinks, so neither takes longer the more there is. The index is in parts: one that is full
//! splits by one more bit of its keys' hashes.

use hashbrown::HashTable;
use hashbrown::hash_table::OccupiedEntry;

use crate::allocator::LARGE;
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

/// Gives memory back that is no longer wanted: of what lies in a mapping of its own nearly all of it, since nothing is copied for it.
fn give_back<T>(column: &mut Vec<T>) {
    let (kept, spare) = match column.capacity() * size_of::<T>() >= LARGE {
        true => (column.len() / 8 * 9, column.len() / 4 * 5),
        false => (column.len() * 2, column.len() * 4),
    };
    if column.capacity() > spare {
        column.shrink_to(kept);
    }
}

/// Slots by the hashes of their keys, in parts.
struct Index {
    /// For each value of so many bits of a mark, the part that has its slots.
    directory: Vec<u32>,
    parts: Vec<Part>,
}

/// The slots whose marks agree in some bits.
#[derive(Default)]
struct Part {
    slots: HashTable<Marked>,
    /// In how many bits they agree.
    bits: u32,
}

/// A slot with what the index needs to know of its key's hash, so that a part can split without a look at the keys.
#[derive(Clone, Copy)]
struct Marked {
    slot: u32,
    mark: Mark,
}

/// The upper half of a hash. The lowest bits have chosen the shard, and so the worker: here they are partly the same.
type Mark = u32;

/// What the index takes for a key, about: its tables are from half full to full but for an eighth.
const INDEX_BYTES: usize = 14;

/// A part splits when it has so many slots: the capacity of a table of 32,768 places.
const PART_SLOTS: usize = 28_672;

/// So many bits of a mark choose the part, at most. The others tell apart what is in one.
const PART_BITS_MAX: u32 = 15;

impl Default for Index {
    fn default() -> Index {
        Index { directory: vec![0], parts: vec![Part::default()] }
    }
}

fn mark_of(hash: u64) -> Mark {
    (hash >> 32) as Mark
}

impl Marked {
    /// The hash for a part's table.
    fn hash(self) -> u64 {
        spread(self.mark)
    }
}

/// A table takes its places from the lowest and what it compares from the highest bits.
fn spread(mark: Mark) -> u64 {
    u64::from(mark).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Index {
    /// The number of the part for a mark: by its highest bits, the first of which is the last of the directory's.
    fn part_of(&self, mark: Mark) -> usize {
        self.directory[mark.reverse_bits() as usize & (self.directory.len() - 1)] as usize
    }

    /// Puts a slot in that is not there.
    fn insert(&mut self, number: usize, new: Marked) {
        let part = &mut self.parts[number].slots;
        part.insert_unique(new.hash(), new, |other| other.hash());
        if part.len().is_multiple_of(PART_SLOTS) {
            self.split(number);
        }
    }

    /// The entry of a slot that is there.
    fn entry(&mut self, mark: Mark, slot: u32) -> OccupiedEntry<'_, Marked> {
        let number = self.part_of(mark);
        let found = self.parts[number].slots.find_entry(spread(mark), |other| other.slot == slot);
        found.unwrap_or_else(|_| panic!("slot {slot} is in the index"))
    }

    /// Splits a part that is full, as long as there are bits to tell its slots apart.
    fn split(&mut self, number: usize) {
        let bits = self.parts[number].bits;
        if bits == PART_BITS_MAX {
            return;
        }
        if self.directory.len() == 1 << bits {
            self.directory.extend_from_within(..);
        }
        let goes = |value: usize| (value >> bits) & 1 == 1;
        let mut halves = [0, 1].map(|_| Part { slots: HashTable::with_capacity(PART_SLOTS), bits: bits + 1 });
        for &old in &self.parts[number].slots {
            let half = &mut halves[usize::from(goes(old.mark.reverse_bits() as usize))];
            half.slots.insert_unique(old.hash(), old, |other| other.hash());
        }
        let [stay, go] = halves;
        self.parts[number] = stay;
        self.parts.push(go);
        let new = self.parts.len() as u32 - 1;
        for (value, part) in self.directory.iter_mut().enumerate() {
            if *part as usize == number && goes(value) {
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
                    arena.rewrite(spans.iter_mut().map(|span| (&mut span.start, span.length)));
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
            let (key, mark) = (keys.get(row), mark_of(hash));
            let number = index.part_of(mark);
            let is_it = |other: &Marked| other.mark == mark && stored.get(other.slot) == key;
            if let Some(found) = index.parts[number].slots.find(spread(mark), is_it) {
                slots.push(found.slot);
                continue;
            }
            let slot = u32::try_from(stored.len()).expect("a worker holds fewer than 4 billion keys of a table");
            index.insert(number, Marked { slot, mark });
            stored.push(key);
            slots.push(slot);
            new.push(row as u32);
        }
    }

    /// The slot of a key.
    pub fn get(&self, key: &[u8]) -> Option<u32> {
        let mark = mark_of(codec::hash(key));
        let part = &self.index.parts[self.index.part_of(mark)];
        let found = part.slots.find(spread(mark), |other| other.mark == mark && self.key(other.slot) == key);
        found.map(|found| found.slot)
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
        let mark = |slot: u32| mark_of(codec::hash(keys.get(slot)));
        for &slot in &moves.gone {
            index.entry(mark(slot), slot).remove();
        }
        for &(from, to) in &moves.pairs {
            index.entry(mark(from), from).get_mut().slot = to;
        }
        keys.compact(&moves);
        if keys.len() < (index.parts.len() - 1) * PART_SLOTS / 8 {
            let old = std::mem::take(index);
            for new in old.parts.into_iter().flat_map(|part| part.slots) {
                index.insert(index.part_of(new.mark), new);
            }
        }
        moves
    }
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
            let number = index.part_of(7);
            index.insert(number, Marked { slot, mark: 7 });
        }
        assert_eq!(index.parts[index.part_of(7)].slots.len(), 2 * PART_SLOTS);
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
