//! One byte string, or none, for each slot, in one buffer.

use super::accumulators::compact;

/// A column of optional byte strings. A longer value goes to the buffer's end; when half of the buffer is no longer in
/// use, it is written anew.
#[derive(Default)]
pub(in crate::dataflow::operators) struct ByteColumn {
    /// All values, and what is left of old ones.
    bytes: Vec<u8>,
    /// Where each slot's value lies.
    spans: Vec<Option<Span>>,
    /// How many bytes are in use.
    live: usize,
}

#[derive(Clone, Copy)]
struct Span {
    start: usize,
    length: u32,
}

/// Below this size the buffer is left as it is.
const REWRITE_BYTES_MIN: usize = 4096;

impl ByteColumn {
    /// Makes room for `slots` values; new ones are none.
    pub fn grow(&mut self, slots: usize) {
        self.spans.resize(slots, None);
    }

    /// Lets go of the slots for which `keep` is false; the others move up, in their order.
    pub fn retain(&mut self, keep: &[bool]) {
        compact(&mut self.spans, keep);
        self.rewrite();
    }

    /// The value of a slot.
    pub fn get(&self, slot: usize) -> Option<&[u8]> {
        self.spans[slot].map(|span| &self.bytes[span.start..span.start + span.length as usize])
    }

    /// Sets the value of a slot.
    pub fn set(&mut self, slot: usize, value: Option<&[u8]>) {
        let old = self.spans[slot];
        self.live -= old.map_or(0, |span| span.length as usize);
        let Some(value) = value else {
            self.spans[slot] = None;
            return;
        };
        self.live += value.len();
        let start = match old {
            Some(span) if value.len() <= span.length as usize => {
                self.bytes[span.start..span.start + value.len()].copy_from_slice(value);
                span.start
            }
            _ => {
                self.bytes.extend_from_slice(value);
                self.bytes.len() - value.len()
            }
        };
        self.spans[slot] = Some(Span { start, length: value.len() as u32 });
        if self.bytes.len() > REWRITE_BYTES_MIN.max(2 * self.live) {
            self.rewrite();
        }
    }

    fn rewrite(&mut self) {
        let mut bytes = Vec::with_capacity(self.live);
        for span in self.spans.iter_mut().flatten() {
            let start = bytes.len();
            bytes.extend_from_slice(&self.bytes[span.start..span.start + span.length as usize]);
            span.start = start;
        }
        self.live = bytes.len();
        self.bytes = bytes;
    }

    /// How much memory all this takes, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.spans.capacity() * size_of::<Option<Span>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_while_the_buffer_is_rewritten() {
        let mut column = ByteColumn::default();
        column.grow(3);
        column.set(1, Some(b"kept"));
        for round in 0..3000 {
            column.set(0, Some(round.to_string().repeat(round % 7).as_bytes()));
            column.set(2, None);
        }
        assert!(column.memory_bytes() < 4 * REWRITE_BYTES_MIN);
        assert_eq!(column.get(0), Some("2999".repeat(2999 % 7).as_bytes()));
        assert_eq!((column.get(1), column.get(2)), (Some(b"kept".as_slice()), None));
        column.retain(&[false, true, true]);
        assert_eq!((column.get(0), column.get(1)), (Some(b"kept".as_slice()), None));
    }
}
