//! Which slots of a table in memory are let go of: a clock, whose hand goes on from where it stood.

/// So many slots in a row at most are spared: to go through more takes long.
const SPARED_MOST: u32 = 16;

/// Where the hand stands.
#[derive(Default)]
pub struct Clock {
    hand: usize,
}

/// A way of the hand along the slots of a table.
pub struct Way {
    /// Where it began.
    start: usize,
    /// How many slots there are.
    len: usize,
    /// How many the hand has passed, and how many it passes at most.
    passed: usize,
    most: usize,
    /// The slots taken, in the order in which they were.
    taken: Vec<u32>,
    /// How many of those have been passed once more.
    again: usize,
    /// How many were spared since the last that was not.
    spared: u32,
}

impl Clock {
    /// The way along so many slots, so many times round at most.
    pub fn way(&self, len: usize, rounds: usize) -> Way {
        let start = if self.hand < len { self.hand } else { 0 };
        Way { start, len, passed: 0, most: rounds * len, taken: Vec::new(), again: 0, spared: 0 }
    }

    /// The way ends where it has come to: the slots that were taken on it, in the order of their numbers.
    pub fn end(&mut self, mut way: Way) -> Vec<u32> {
        self.hand = way.at();
        way.taken.sort_unstable();
        way.taken
    }
}

impl Way {
    /// The next slot. One that was taken does not come again.
    pub fn next(&mut self) -> Option<u32> {
        while self.passed < self.most {
            let slot = self.at() as u32;
            self.passed += 1;
            if self.passed > self.len && self.taken.get(self.again) == Some(&slot) {
                self.again += 1;
                continue;
            }
            return Some(slot);
        }
        None
    }

    /// Whether a slot is spared that was used, or was not, since the hand came by before.
    pub fn spares(&mut self, used: bool) -> bool {
        let spares = used && self.spared < SPARED_MOST;
        self.spared = if spares { self.spared + 1 } else { 0 };
        spares
    }

    /// The slot that came last is let go of.
    pub fn take(&mut self, slot: u32) {
        self.taken.push(slot);
    }

    /// How many were taken.
    pub fn taken(&self) -> usize {
        self.taken.len()
    }

    fn at(&self) -> usize {
        (self.start + self.passed) % self.len.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many slots that are not used.
    fn evict(clock: &mut Clock, used: &mut [bool], most: usize) -> Vec<u32> {
        let mut way = clock.way(used.len(), 2);
        while way.taken() < most
            && let Some(slot) = way.next()
        {
            if !way.spares(std::mem::take(&mut used[slot as usize])) {
                way.take(slot);
            }
        }
        clock.end(way)
    }

    #[test]
    fn it_goes_on_where_it_stood_and_spares_what_was_used() {
        let (mut clock, mut used) = (Clock::default(), [true, false, false, true, false]);
        assert_eq!(evict(&mut clock, &mut used, 2), [1, 2]);
        assert_eq!(evict(&mut clock, &mut used, 2), [0, 4]);
        assert_eq!(used, [false; 5]);
    }

    #[test]
    fn no_slot_is_taken_twice() {
        let mut clock = Clock::default();
        assert_eq!(evict(&mut clock, &mut [true, false, true], 9), [0, 1, 2]);
        assert!(evict(&mut clock, &mut [], 9).is_empty());
        assert_eq!(evict(&mut clock, &mut [true, true], 1), [0]);
        assert_eq!(evict(&mut clock, &mut [true, true], 1), [1]);
    }

    #[test]
    fn where_all_were_used_some_go_soon() {
        let mut used = [true; 1000];
        assert_eq!(evict(&mut Clock::default(), &mut used, 2), [16, 33]);
        assert_eq!(used.iter().filter(|used| !**used).count(), 34);
    }
}
