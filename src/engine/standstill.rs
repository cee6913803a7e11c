//! A standstill: nothing can be committed. Reads go on from the last committed epoch; whoever waits, and whoever writes, is told
//! why. A full disk is waited out: as soon as the store takes writes again, everything goes on from the last commit. Whatever
//! else fails under a commit, a sync above all, has left the disk in a state that only a new start can find out.

use std::time::Duration;
use std::time::Instant;

use crate::engine::coordinator::Coordinator;
use crate::error::Error;
use crate::error::Kind;

/// How often the store is tried while the disk is full.
const TRY_EVERY: Duration = Duration::from_millis(500);
/// How long the coordinator sleeps when nothing will pass by itself.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// Why nothing can be committed.
pub(super) struct Standstill {
    /// What whoever writes is told.
    pub(super) error: Error,
    /// When the store was last tried; `None` if only a restart helps.
    tried: Option<Instant>,
}

impl Standstill {
    /// Whether this is over some day without a restart.
    pub(super) fn passes(&self) -> bool {
        self.tried.is_some()
    }

    /// How long to wait for news before the store is tried again.
    pub(super) fn wait(&self) -> Duration {
        self.tried.map_or(WAIT_MAX, |_| TRY_EVERY)
    }
}

/// Whether a standstill for this reason passes.
fn passes(error: &Error) -> bool {
    error.kind == Kind::DiskFull
}

/// The error of a commit with what to do about it.
pub(super) fn hinted(error: Error) -> Error {
    match passes(&error) {
        true => error
            .hint("Make room on the device of the data directory, 256 MB or more: writes are taken again as soon as there is."),
        false => error.hint("Restart the server; it goes on from the last committed epoch."),
    }
}

impl Coordinator {
    /// Stops epochs, not reads: whoever waits, and whoever writes from now on, is told why. Who waits for a view to be filled
    /// waits on, if this can pass.
    pub(super) fn stop(&mut self, error: Error) {
        let (passes, error) = (passes(&error), hinted(error));
        tracing::error!(%error, passes, "no epoch can be committed: reads go on, writes are refused");
        if let Some(open) = self.open.take() {
            open.work.into_iter().for_each(|work| work.tell(Err(error.clone())));
            self.behind.views.extend(open.joined);
        }
        for flush in self.flushes.drain(..) {
            let _ = flush.reply.send(Err(error.clone()));
        }
        if !passes {
            self.refuse_waiting(&error);
        }
        self.metrics.stopped(Some(&error));
        self.failed = Some(Standstill { error, tried: passes.then(|| self.clock.instant()) });
    }

    /// Goes on if there is room on the disk again.
    pub(super) fn end_standstill(&mut self) {
        let now = self.clock.instant();
        let Some(Standstill { tried: Some(tried), .. }) = &mut self.failed else { return };
        if now - *tried < TRY_EVERY {
            return;
        }
        *tried = now;
        match self.store.try_write() {
            Ok(()) => {
                tracing::warn!("there is room on the disk again: epochs go on from the last that was committed");
                self.failed = None;
                self.metrics.stopped(None);
                // The epoch that was running, and what it took in, was given up when the disk was full.
                let _ = self.return_to_commit();
            }
            Err(error) if passes(&error) => {}
            Err(error) => self.stop(error),
        }
    }
}
