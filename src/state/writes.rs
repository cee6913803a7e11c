//! What an epoch writes: collected without order in [`Writes`], then sorted once into [`Sealed`].

use std::cmp::Ordering;
use std::ops::Range;

use crate::ids::Epoch;
use crate::state::space::Family;
use crate::state::space::Space;

/// What one worker (or the engine) writes in an epoch. Later entries for a key replace earlier ones.
#[derive(Default)]
pub struct Writes {
    /// The full key and the value of each entry, one after the other. Segments never grow beyond the capacity they were
    /// made with: what is written is not copied to make room, and memory is used again from epoch to epoch.
    segments: Vec<Vec<u8>>,
    /// One for each put or delete, in order of arrival until [`Writes::sort`].
    entries: Vec<Entry>,
}

/// All writes of one epoch: immutable, sorted, readable while its commit runs.
pub struct Sealed {
    /// The epoch.
    epoch: Epoch,
    /// The segments of all parts.
    segments: Vec<Vec<u8>>,
    /// Sorted by family and full key, each of which occurs once.
    entries: Vec<Entry>,
}

/// The size of a segment; only an entry that does not fit has a larger one.
const SEGMENT_BYTES: usize = 1 << 20;

/// One put or delete. Sorting looks at `head` first, which mostly decides without touching the arena.
#[derive(Clone, Copy)]
struct Entry {
    /// The first 16 bytes of the full key, big-endian, filled up with zeroes.
    head: [u64; 2],
    /// The segment in which it lies.
    segment: u32,
    /// Where the full key begins in it; the value follows.
    start: u32,
    /// Bytes of the full key.
    key_len: u32,
    /// Bytes of the value; `None` deletes.
    value_len: Option<u32>,
    /// Where it goes.
    family: Family,
}

impl Writes {
    /// Sets a key.
    pub fn put(&mut self, space: Space, key: &[u8], value: &[u8]) {
        self.push(space, key, Some(value));
    }

    /// Takes a key out.
    pub fn delete(&mut self, space: Space, key: &[u8]) {
        self.push(space, key, None);
    }

    /// The value of the `index`th put or delete, counted from the first; `None` deletes. Not after [`sort`](Self::sort).
    pub fn value(&self, index: usize) -> Option<&[u8]> {
        self.entries[index].value(&self.segments)
    }

    /// How many bytes are held.
    pub fn bytes(&self) -> usize {
        self.segments.iter().map(Vec::len).sum::<usize>() + self.entries.len() * size_of::<Entry>()
    }

    /// How many puts and deletes are held.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is written.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Brings the entries in order. Not needed, but a worker that does it spares the one thread that seals.
    pub fn sort(&mut self) {
        let all = &self.segments;
        self.entries.sort_by(|a, b| a.position().cmp(&b.position()).then_with(|| a.key(all).cmp(b.key(all))));
    }

    fn push(&mut self, space: Space, key: &[u8], value: Option<&[u8]>) {
        let prefix = space.prefix();
        let value_len = value.map(|value| u32::try_from(value.len()).expect("a value stays under 4 GiB"));
        let size = prefix.as_ref().len() + key.len() + value.map_or(0, <[u8]>::len);
        if self.segments.last().is_none_or(|segment| segment.capacity() - segment.len() < size) {
            self.segments.push(Vec::with_capacity(size.max(SEGMENT_BYTES)));
        }
        let number = self.segments.len() as u32 - 1;
        let segment = self.segments.last_mut().expect("just made");
        let start = segment.len();
        segment.extend_from_slice(prefix.as_ref());
        segment.extend_from_slice(key);
        let (head, key_len) = (head_of(&segment[start..]), (segment.len() - start) as u32);
        segment.extend_from_slice(value.unwrap_or_default());
        let start = start as u32;
        self.entries.push(Entry { head, segment: number, start, key_len, value_len, family: space.family() });
    }
}

impl Sealed {
    /// Seals the writes of all workers as one epoch. Of entries for the same key the last one counts, those of a later part
    /// being later.
    pub fn new(epoch: Epoch, parts: Vec<Writes>) -> Sealed {
        let mut segments = Vec::with_capacity(parts.iter().map(|part| part.segments.len()).sum());
        let mut entries = Vec::with_capacity(parts.iter().map(|part| part.entries.len()).sum());
        for part in parts {
            let before = segments.len() as u32;
            segments.extend(part.segments);
            let moved = |entry: Entry| Entry { segment: before + entry.segment, ..entry };
            entries.extend(part.entries.into_iter().map(moved));
        }
        // A stable sort: it keeps the order of arrival, and is quick with parts that are sorted already.
        entries.sort_by(|a, b| a.position().cmp(&b.position()).then_with(|| a.key(&segments).cmp(b.key(&segments))));
        entries.dedup_by(|later, kept| {
            let same = later.position() == kept.position() && later.key(&segments) == kept.key(&segments);
            if same {
                *kept = *later;
            }
            same
        });
        Sealed { epoch, segments, entries }
    }

    /// The epoch.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// How many keys are written.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is written.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many bytes are held.
    pub fn bytes(&self) -> usize {
        self.segments.iter().map(Vec::len).sum::<usize>() + self.entries.len() * size_of::<Entry>()
    }

    /// All entries in order: family, full key, and value (`None` deletes).
    pub(super) fn iter(&self) -> impl Iterator<Item = (Family, &[u8], Option<&[u8]>)> {
        (0..self.len()).map(|index| (self.entries[index].family, self.key(index), self.value(index)))
    }

    /// The full key of an entry.
    pub(super) fn key(&self, index: usize) -> &[u8] {
        self.entries[index].key(&self.segments)
    }

    /// The value of an entry; `None` deletes.
    pub(super) fn value(&self, index: usize) -> Option<&[u8]> {
        self.entries[index].value(&self.segments)
    }

    /// The entries of a family with full keys `from <= key < to` (`None`: to the family's end).
    pub(super) fn range(&self, family: Family, from: &[u8], to: Option<&[u8]>) -> Range<usize> {
        let start = self.entries.partition_point(|entry| self.compare(entry, family, from).is_lt());
        let end = match to {
            Some(to) => self.entries.partition_point(|entry| self.compare(entry, family, to).is_lt()),
            None => self.entries.partition_point(|entry| entry.family <= family),
        };
        start..end.max(start)
    }

    /// The entry with this full key, looked for in `range` only. When it is not there, the place where it would be. Near the
    /// beginning of the range it is found at once, so that a caller with sorted keys can go through them in step.
    pub(super) fn find(&self, family: Family, key: &[u8], range: Range<usize>) -> Result<usize, usize> {
        let entries = &self.entries[range.clone()];
        let mut reach = 1;
        while reach < entries.len() && self.compare(&entries[reach], family, key).is_lt() {
            reach *= 2;
        }
        let near = &entries[reach / 2..entries.len().min(reach + 1)];
        let found = near.binary_search_by(|entry| self.compare(entry, family, key));
        let offset = range.start + reach / 2;
        found.map(|index| offset + index).map_err(|index| offset + index)
    }

    fn compare(&self, entry: &Entry, family: Family, key: &[u8]) -> Ordering {
        entry.position().cmp(&(family, head_of(key))).then_with(|| entry.key(&self.segments).cmp(key))
    }
}

impl Entry {
    /// What decides the order unless two keys begin alike.
    fn position(&self) -> (Family, [u64; 2]) {
        (self.family, self.head)
    }

    fn key<'a>(&self, segments: &'a [Vec<u8>]) -> &'a [u8] {
        &segments[self.segment as usize][self.start as usize..(self.start + self.key_len) as usize]
    }

    fn value<'a>(&self, segments: &'a [Vec<u8>]) -> Option<&'a [u8]> {
        let start = (self.start + self.key_len) as usize;
        Some(&segments[self.segment as usize][start..start + self.value_len? as usize])
    }
}

/// The first 16 bytes of a key as numbers that order as it does.
fn head_of(key: &[u8]) -> [u64; 2] {
    let mut head = [0; 16];
    let len = key.len().min(16);
    head[..len].copy_from_slice(&key[..len]);
    let head = u128::from_be_bytes(head);
    [(head >> 64) as u64, head as u64]
}
