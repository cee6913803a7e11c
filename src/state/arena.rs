//! Byte strings of any length in one buffer, whose places are used again.

/// Byte strings. Each takes a place of its size, rounded up by an eighth at most; the place of one that is let go of is for the next
/// of that size.
#[derive(Default)]
pub struct Arena {
    bytes: Vec<u8>,
    /// The free places of each size, by [`class_of`].
    free: Vec<Vec<usize>>,
    /// The bytes of all free places.
    free_bytes: usize,
}

/// Below this it does not matter what is free.
const FREE_BYTES_MIN: usize = 1 << 20;

impl Arena {
    /// Stores a string that is put together from these; says where it begins.
    pub fn put(&mut self, parts: &[&[u8]]) -> usize {
        let size = rounded(parts.iter().map(|part| part.len()).sum());
        let start = match self.free.get_mut(class_of(size)).and_then(Vec::pop) {
            Some(start) => {
                self.free_bytes -= size;
                start
            }
            None => {
                let start = self.bytes.len();
                parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
                self.bytes.resize(start + size, 0);
                return start;
            }
        };
        let mut at = start;
        for part in parts {
            self.bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        start
    }

    /// Lets go of a string of this length.
    pub fn release(&mut self, start: usize, length: usize) {
        let (size, class) = (rounded(length), class_of(rounded(length)));
        if size == 0 {
            return;
        }
        if self.free.len() <= class {
            self.free.resize_with(class + 1, Vec::new);
        }
        self.free[class].push(start);
        self.free_bytes += size;
    }

    /// So many bytes from there on.
    #[inline]
    pub fn get(&self, start: usize, length: usize) -> &[u8] {
        &self.bytes[start..][..length]
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, start: usize, length: usize) -> &mut [u8] {
        &mut self.bytes[start..][..length]
    }

    /// All from there on.
    #[inline]
    pub fn from(&self, start: usize) -> &[u8] {
        &self.bytes[start..]
    }

    /// How many bytes are in use.
    pub fn used_bytes(&self) -> usize {
        self.bytes.len() - self.free_bytes
    }

    /// Writes all strings anew, side by side: for each where it begins, which changes, and its length.
    pub fn rewrite<'a>(&mut self, strings: impl Iterator<Item = (&'a mut usize, usize)>) {
        let old = std::mem::take(self);
        for (start, length) in strings {
            *start = self.put(&[old.get(*start, length)]);
        }
    }

    /// Whether more is free than in use, so that it should be written anew.
    pub fn is_mostly_free(&self) -> bool {
        self.free_bytes > FREE_BYTES_MIN && self.free_bytes > self.used_bytes()
    }
}

/// What a string of so many bytes takes.
pub fn rounded(length: usize) -> usize {
    let step = length.checked_ilog2().map_or(1, |bits| 1 << bits.saturating_sub(3).max(3));
    length.next_multiple_of(step)
}

/// The number of a rounded size.
fn class_of(size: usize) -> usize {
    let Some(bits) = size.checked_ilog2() else { return 0 };
    let eighth = (size >> bits.saturating_sub(3)) & 7;
    bits as usize * 8 + eighth
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn sizes_have_classes_of_their_own() {
        let mut classes = HashMap::new();
        for length in 0..100_000 {
            let size = rounded(length);
            assert!(size >= length && size - length <= 7.max(length / 8), "{length}");
            assert_eq!(rounded(size), size);
            assert_eq!(*classes.entry(class_of(size)).or_insert(size), size);
        }
    }

    #[test]
    fn places_are_used_again() {
        let mut arena = Arena::default();
        let text = |number: usize| number.to_string().repeat(number % 50);
        let mut places = HashMap::new();
        for number in 0..20_000_usize {
            places.insert(number, arena.put(&[b"<", text(number).as_bytes()]));
            if let Some(gone) = number.checked_sub(100) {
                arena.release(places.remove(&gone).expect("it is there"), text(gone).len() + 1);
            }
        }
        for (number, start) in &places {
            assert_eq!(arena.get(*start, text(*number).len() + 1), format!("<{}", text(*number)).as_bytes());
        }
        assert!(arena.bytes.len() < 100 * 260 * 2, "{}", arena.bytes.len());
        assert!(arena.used_bytes() >= places.keys().map(|number| text(*number).len() + 1).sum());
        arena.rewrite(places.iter_mut().map(|(number, start)| (start, text(*number).len() + 1)));
        for (number, start) in &places {
            assert_eq!(arena.get(*start, text(*number).len() + 1), format!("<{}", text(*number)).as_bytes());
        }
        for (number, start) in places {
            arena.release(start, text(number).len() + 1);
        }
        assert_eq!(arena.used_bytes(), 0);
    }
}
