//! Named fault points: places where a test makes the process die, so that recovery is tried at each of them, or a worker fail.
//!
//! `MILLSTREAM_FAULT=commit.after_write:3` kills the process, as `kill -9` would, the third time that the point
//! `commit.after_write` is reached. At a point of [`WORKER_POINTS`] it is the worker that panics, the third time and every time
//! after. Without the variable a point costs one atomic load.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The fault asked for: which point, and how many times it may still be passed.
struct Fault {
    point: String,
    left: AtomicU64,
}

/// The points that an epoch larger than memory comes to.
pub const SPILL_POINTS: &[&str] =
    &["spill.after_portion", "spill.before_commit", "spill.after_commit", "spill.mid_fold"];

/// The points at which a worker panics.
pub const WORKER_POINTS: &[&str] = &["worker.fill"];

/// Every other point there is, for the crash driver to go through.
pub const POINTS: &[&str] = &[
    "source.after_read",
    "epoch.mid_step",
    "epoch.before_seal",
    "commit.before_write",
    "commit.after_write",
    "commit.after_sync",
    "ddl.before_commit",
    "ddl.after_commit",
    "fill.after_chunk",
    "fill.before_join",
    "recovery.after_open",
    "recovery.after_load",
];

static FAULT: OnceLock<Option<Fault>> = OnceLock::new();

/// Dies here if the environment asked for it.
pub fn point(name: &str) {
    if left(name) == Some(1) {
        std::process::abort();
    }
}

/// Panics here if the environment asked for it, and whenever it is reached again.
pub fn worker_point(name: &str) {
    assert!(left(name).is_none_or(|left| left > 1), "the fault {name} was asked for");
}

/// How many times this point is still to be passed, this time included, until the fault; `None`: it was not asked for.
fn left(name: &str) -> Option<u64> {
    let fault = FAULT.get_or_init(|| {
        let value = std::env::var("MILLSTREAM_FAULT").ok()?;
        let (point, count) = value.rsplit_once(':').unwrap_or((&value, "1"));
        Some(Fault { point: point.to_string(), left: AtomicU64::new(count.parse().unwrap_or(1)) })
    });
    let fault = fault.as_ref().filter(|fault| fault.point == name)?;
    Some(fault.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| Some(left.saturating_sub(1))).unwrap_or(0))
}
