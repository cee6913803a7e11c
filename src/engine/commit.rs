//! The committer: one thread that writes sealed epochs, publishes them to readers, and answers those who waited.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;
use crossbeam_channel::Sender;
use tokio::sync::watch;

use crate::catalog::Catalog;
use crate::catalog::system::EpochFacts;
use crate::catalog::system::SystemContext;
use crate::engine::Published;
use crate::engine::changes;
use crate::engine::metrics::Metrics;
use crate::engine::needs::Trim;
use crate::engine::standstill;
use crate::error::Result;
use crate::ids::Epoch;
use crate::state::Sealed;
use crate::state::Store;

/// Somebody who waits for an epoch to be committed; told the error if it was not.
pub type Waiter = Box<dyn FnOnce(Result<()>) + Send>;

/// A sealed epoch on its way to disk.
pub struct Commit {
    /// Its number.
    pub epoch: Epoch,
    /// Its writes, or the last portion of them.
    pub sealed: Arc<Sealed>,
    /// Whether all of them are spilled already.
    pub spilled: bool,
    /// Whether it must be on disk before anybody is told.
    pub sync: bool,
    /// The catalog as of it.
    pub catalog: Arc<Catalog>,
    /// What system relations show as of it.
    pub system: SystemContext,
    /// What of changelogs nobody needs once it is there.
    pub trims: Vec<Trim>,
    /// What it was.
    pub facts: EpochFacts,
    /// Who waits for it.
    pub waiters: Vec<Waiter>,
}

/// Commits until the coordinator goes away; tells it the outcome of each, and how long it took.
pub fn run(
    store: Arc<Store>,
    published: Arc<watch::Sender<Arc<Published>>>,
    commits: Receiver<Commit>,
    done: Sender<Result<Duration>>,
    metrics: &Metrics,
) {
    for commit in commits {
        let begun = metrics.clock.instant();
        let outcome = match commit.spilled {
            true => store.commit_spilled(commit.epoch),
            false => store.commit(&commit.sealed, commit.sync),
        };
        let outcome = outcome.map_err(standstill::hinted);
        let took = metrics.clock.instant() - begun;
        match &outcome {
            Ok(()) => {
                let EpochFacts { changes, bytes, work, .. } = commit.facts;
                tracing::debug!(epoch = commit.epoch.0, changes, bytes, ?work, commit = ?took, "an epoch is committed");
                metrics.committed(EpochFacts { commit: took, ..commit.facts });
                let (catalog, system) = (commit.catalog, commit.system);
                let snapshot = store.snapshot();
                published.send_replace(Arc::new(Published::new(commit.epoch, catalog, snapshot, system)));
            }
            Err(error) => tracing::error!(epoch = commit.epoch.0, %error, "an epoch could not be committed"),
        }
        // Those who wait need only the epoch itself.
        let trimmed = outcome.clone().and_then(|()| changes::drop_trimmed(&store, &commit.trims));
        let told = done.send(trimmed.map(|()| took));
        for waiter in commit.waiters {
            waiter(outcome.clone());
        }
        if told.is_err() {
            return;
        }
    }
}
