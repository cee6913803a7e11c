//! One byte string, or none, for each slot, in one buffer.

use crate::state::Moves;
use crate::state::arena::Arena;
use crate::state::arena::rounded;

/// A column of optional byte strings.
#[derive(Default)]
pub(in crate::dataflow::operators) struct ByteColumn {
    arena: Arena,
    /// Where each slot's value lies.
    spans: Vec<Option<Span>>,
}

#[derive(Clone, Copy)]
struct Span {
    start: usize,
    length: u32,
}

impl ByteColumn {
    /// Makes room for `slots` values; new ones are none.
    pub fn grow(&mut self, slots: usize) {
        self.spans.resize(slots, None);
    }

    /// Follows the table of the slots when some have gone.
    pub fn compact(&mut self, moves: &Moves) {
        moves.gone().iter().for_each(|slot| self.set(*slot as usize, None));
        moves.apply(&mut self.spans);
    }

    /// The value of a slot.
    pub fn get(&self, slot: usize) -> Option<&[u8]> {
        self.spans[slot].map(|span| self.arena.get(span.start, span.length as usize))
    }

    /// Sets the value of a slot.
    pub fn set(&mut self, slot: usize, value: Option<&[u8]>) {
        if let (Some(span), Some(value)) = (&mut self.spans[slot], value)
            && rounded(span.length as usize) == rounded(value.len())
        {
            span.length = value.len() as u32;
            self.arena.get_mut(span.start, value.len()).copy_from_slice(value);
            return;
        }
        if let Some(old) = self.spans[slot].take() {
            self.arena.release(old.start, old.length as usize);
        }
        self.spans[slot] = value.map(|value| Span { start: self.arena.put(&[value]), length: value.len() as u32 });
        if self.arena.is_mostly_free() {
            let spans = self.spans.iter_mut().flatten();
            self.arena.rewrite(spans.map(|span| (&mut span.start, span.length as usize)));
        }
    }

    /// How much memory all this takes, in bytes. What is free for values to come does not count.
    pub fn memory_bytes(&self) -> usize {
        self.arena.used_bytes() + self.spans.len() * size_of::<Option<Span>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::KeySlots;
    use crate::state::codec::ByteRows;

    #[test]
    fn values_stay_while_others_come_and_go() {
        let mut column = ByteColumn::default();
        column.grow(3);
        column.set(1, Some(b"kept"));
        for round in 0..3000 {
            column.set(0, Some(round.to_string().repeat(round % 7).as_bytes()));
            column.set(2, None);
        }
        assert!(column.memory_bytes() < 1024);
        assert_eq!(column.get(0), Some("2999".repeat(2999 % 7).as_bytes()));
        assert_eq!((column.get(1), column.get(2)), (Some(b"kept".as_slice()), None));
        let (mut keys, mut slots) = (ByteRows::default(), KeySlots::default());
        ["a", "b", "c"].iter().for_each(|key| keys.push(key.as_bytes()));
        slots.lookup_or_insert(&keys, &mut Vec::new(), &mut Vec::new());
        column.set(2, Some(b"last"));
        column.compact(&slots.remove(vec![0]));
        assert_eq!((column.get(0), column.get(1)), (Some(b"last".as_slice()), Some(b"kept".as_slice())));
    }
}
