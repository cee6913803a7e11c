//! The event time of each event, computed from its number in whole microseconds: it stays exact for ever.

use crate::connectors::options::Options;
use crate::time::Micros;

/// How event numbers map to event times.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    /// The time of event 0.
    start: Micros,
    /// Events per second of event time.
    rate: u64,
    /// Which of the possible runs this is.
    pub(super) seed: u64,
    /// Events whose hash is below come late.
    late_below: u64,
    /// How late at most.
    delay_us: u64,
}

impl Timeline {
    /// The timeline that these options ask for.
    pub(super) fn of(options: &Options<'_>) -> Timeline {
        Timeline {
            start: options.timestamp("start_time").expect("the option has a default"),
            rate: options.integer("event_rate").expect("the option has a default") as u64,
            seed: options.integer("seed").expect("the option has a default") as u64,
            late_below: (options.number("out_of_order.share").expect("the option has a default") * u64::MAX as f64)
                as u64,
            delay_us: options.integer("out_of_order.delay_ms").expect("the option has a default") as u64 * 1000,
        }
    }

    /// When the event is due.
    pub(super) fn due(&self, number: u64) -> Micros {
        let seconds = (number / self.rate) as i64;
        let rest_us = (number % self.rate * 1_000_000 / self.rate) as i64;
        self.start.saturating_add(seconds.saturating_mul(1_000_000)).saturating_add(rest_us)
    }

    /// What the event says its time is: a late one says a time before the one at which it comes.
    pub(super) fn event_time(&self, number: u64) -> Micros {
        let due = self.due(number);
        if self.late_below == 0 {
            return due;
        }
        let hash = mix(number ^ mix(self.seed));
        if hash >= self.late_below {
            return due;
        }
        due - (mix(hash) % self.delay_us) as i64 - 1
    }
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
pub(super) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
