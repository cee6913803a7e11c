//! The clock handle: the only way that Millstream learns what time it is, so that a test can say it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// Microseconds since 1970-01-01 UTC, as `timestamp` and `timestamptz` hold them.
pub type Micros = i64;

/// Where the time comes from.
pub trait Clock: Send + Sync {
    /// The wall clock. May jump; whoever needs a time that never goes back keeps the greatest seen.
    fn now(&self) -> Micros;

    /// The monotonic clock, for intervals.
    fn instant(&self) -> Instant;

    /// Blocks this thread.
    fn sleep(&self, duration: Duration);
}

/// The machine's clock.
pub struct SystemClock;

#[allow(clippy::disallowed_methods)] // the one place that may ask the machine
impl Clock for SystemClock {
    fn now(&self) -> Micros {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or_else(|before| -(before.duration().as_micros() as i64), |after| after.as_micros() as i64)
    }

    fn instant(&self) -> Instant {
        Instant::now()
    }

    fn sleep(&self, duration: Duration) {
        std::thread::sleep(duration)
    }
}

/// A clock that stands still until a test moves it.
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock standing at `now`.
    pub fn at(now: Micros) -> Arc<ManualClock> {
        Arc::new(ManualClock(AtomicI64::new(now)))
    }

    /// Moves the clock to `now`, also backwards.
    pub fn set(&self, now: Micros) {
        self.0.store(now, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Micros {
        self.0.load(Ordering::SeqCst)
    }

    fn instant(&self) -> Instant {
        SystemClock.instant()
    }

    fn sleep(&self, duration: Duration) {
        SystemClock.sleep(duration)
    }
}
