//! How the standing behind of a view ends: it joins the others, with those answered who wait for it; or it is given up, because
//! its client has left or it cannot be filled.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::catalog::system::Job;
use crate::engine::behind::Filled;
use crate::engine::commit::Waiter;
use crate::engine::coordinator::Coordinator;
use crate::engine::filling::Filling;
use crate::engine::filling::Waiting;
use crate::engine::records;
use crate::engine::standstill::Standstill;
use crate::error::Error;
use crate::error::Result;
use crate::ids::Epoch;
use crate::ids::ObjectId;
use crate::plan;
use crate::plan::ir::Plan;

/// Epochs lost one after the other, after which the views that took part are held to be the cause.
const LOST_MAX: u32 = 2;

/// A view that will use state of others in place of its own.
pub(super) struct Sharing {
    view: ObjectId,
    own: Arc<Plan>,
    shared: Arc<Plan>,
}

impl Coordinator {
    /// An epoch has begun: views that were complete take in the changes of the one before, and join the others.
    pub(super) fn join_complete(&mut self) -> Result<()> {
        for view in self.behind.ids(Filled::is_complete) {
            self.catch_up(view)?;
            crate::fault::point("fill.before_join");
            self.join(view);
        }
        Ok(())
    }

    /// Ends the running epoch, and those in which views join that are complete: what changes the catalog comes after them.
    pub(super) fn end_epochs(&mut self) -> Result<()> {
        self.close()?;
        while !self.behind.ids(Filled::is_complete).is_empty() {
            self.open()?;
            self.close()?;
        }
        self.settle()
    }

    /// A view that holds all that its inputs did before the running epoch is one of the others from now on.
    pub(super) fn join(&mut self, view: ObjectId) {
        let open = self.open.as_mut().expect("views join inside epochs");
        if let Some(filling) = self.behind.remove(view) {
            self.runtime.join(&filling.views);
            open.fills = true;
            open.joined.push((view, filling));
        }
    }

    /// Writes that the views which have joined with the running epoch do not stand behind any more; and if one of them is to use
    /// state of others in place of its own, its new plan.
    pub(super) fn record_joined(&mut self) -> Result<Option<Sharing>> {
        let (Some(open), mut sharing) = (&mut self.open, None) else { return Ok(None) };
        for (view, filling) in &open.joined {
            open.sync = true;
            records::delete_filled(&mut self.writes, *view);
            // Two that join at once might each give up what the other is to use.
            let shared = sharing.is_none().then(|| self.runtime.shareable(*view, &filling.plan));
            if let Some(shared) = shared.map(Arc::new).filter(|shared| *shared != filling.plan) {
                if let Some(object) = self.catalog.get(*view) {
                    let object = object.with_plan(plan::stored::write(&shared));
                    records::put_object(&mut self.writes, &object)?;
                    Arc::make_mut(&mut self.catalog).insert(object);
                }
                sharing = Some(Sharing { view: *view, own: filling.plan.clone(), shared });
            }
            for id in filling.views.iter() {
                if self.catalog.get(*id).is_some_and(|object| object.retain_history_ms.is_some()) {
                    records::put_kept(&mut self.writes, *id, open.epoch);
                }
            }
        }
        Ok(sharing)
    }

    /// The epoch with which it has joined was just sealed: the view goes on with state of others. What it needs no more is
    /// dropped.
    pub(super) fn share_joined(&mut self, sharing: Option<Sharing>) -> Result<()> {
        let Some(Sharing { view, own, shared }) = sharing else { return Ok(()) };
        self.settle()?;
        self.retable_transient(view, shared.tables());
        self.runtime.share(view, &shared);
        self.drop_state(own.tables(), &[]);
        Ok(())
    }

    /// Those who wait for the views that have joined with an epoch that was just sealed. The views whose creation is waited for are
    /// returned: that is answered when the epoch is committed, and waited for on while it cannot be.
    pub(super) fn answers(
        &mut self,
        joined: Vec<(ObjectId, Filling)>,
        epoch: Epoch,
        waiters: &mut Vec<Waiter>,
    ) -> Vec<(ObjectId, Filling)> {
        let mut created = Vec::new();
        for (view, filling) in joined {
            for id in filling.views.iter() {
                // What a view begins with is not part of its history.
                if let Some(retention_ms) = self.catalog.get(*id).and_then(|object| object.retain_history_ms) {
                    self.changelogs.needs.retain(*id, Some(retention_ms), epoch);
                }
            }
            match filling.waiting {
                Waiting::Nobody => {}
                Waiting::Create { .. } => created.push((view, filling)),
                Waiting::Subscribe(reply) => {
                    let followed = self.follow_transient(view, epoch);
                    if !reply.is_closed() {
                        waiters.push(Box::new(move |committed| {
                            let _ = reply.send(committed.and(followed));
                        }));
                    }
                }
            }
        }
        created
    }

    /// Everything has returned to the last commit, or will when there is room on the disk again: those who waited for views wait
    /// on, as far as these are there.
    pub(super) fn wait_again(&mut self, before: impl IntoIterator<Item = (ObjectId, Filling)>) {
        for (view, lost) in before {
            match self.behind.get_mut(view) {
                _ if let Some(standstill) = &self.failed => match standstill.passes() {
                    true => drop(self.behind.views.insert(view, lost)),
                    false => lost.waiting.refuse(standstill.error.clone()),
                },
                Some(filling) => {
                    (filling.waiting, filling.halted) = (lost.waiting, lost.halted);
                    filling.trouble = lost.trouble.filter(|_| lost.halted);
                }
                None => {
                    lost.waiting.refuse(Error::out_of_memory("the view was lost with an epoch too large for memory"))
                }
            }
        }
    }

    /// An epoch is lost. Views that took part in it, and in one lost before, are held to be the cause: they are to be stopped.
    pub(super) fn suspects(&mut self) -> Vec<ObjectId> {
        if !self.open.as_ref().is_some_and(|open| open.fills) {
            return Vec::new();
        }
        self.behind.lost += 1;
        let joined = self.open.iter().flat_map(|open| &open.joined).map(|(view, _)| *view);
        if self.behind.lost < LOST_MAX {
            Vec::new()
        } else {
            self.behind.ids(|_| true).into_iter().chain(joined).collect()
        }
    }

    /// An epoch was sealed in which these views took part.
    pub(super) fn not_lost(&mut self) {
        self.behind.lost = 0;
    }

    /// Stops views that cannot be filled. Those whose creation is waited for are dropped; others show why.
    pub(super) fn halt(&mut self, views: Vec<ObjectId>, error: &Error) -> Result<()> {
        for view in views {
            let Some(filling) = self.behind.get_mut(view) else { continue };
            filling.halted = true;
            filling.trouble = Some(error.clone());
            self.refuse_creation(view, error)?;
        }
        // An epoch of its own shows what still stands there.
        if self.behind.views.values().any(|filling| filling.halted) && self.failed.is_none() {
            self.open()?;
        }
        Ok(())
    }

    /// Drops a view that cannot be filled, and tells whoever waits for it; one that nobody waits for stays.
    pub(super) fn refuse_creation(&mut self, view: ObjectId, error: &Error) -> Result<()> {
        let Some(filling) = self.behind.get_mut(view) else { return Ok(()) };
        let waiting = std::mem::replace(&mut filling.waiting, Waiting::Nobody);
        if let Waiting::Nobody = waiting {
            return Ok(());
        }
        let dropped = self.give_up(view);
        let may_pass = self.failed.as_ref().is_none_or(Standstill::passes);
        match self.behind.get_mut(view).filter(|_| dropped.is_err() && may_pass) {
            // It is still there, and so is the question.
            Some(filling) => filling.waiting = waiting,
            None => waiting.refuse(error.clone()),
        }
        dropped
    }

    /// Nobody will be told any more that a view is filled.
    pub(super) fn refuse_waiting(&mut self, error: &Error) {
        for filling in self.behind.views.values_mut() {
            std::mem::replace(&mut filling.waiting, Waiting::Nobody).refuse(error.clone());
        }
    }

    /// Drops the views that are not wanted any more: those being created, and those of subscriptions.
    pub(super) fn drop_abandoned(&mut self) -> Result<()> {
        if self.open.as_ref().is_some_and(|open| !open.joined.is_empty()) {
            self.close()?;
        }
        let abandoned = self.behind.views.iter().filter(|(_, filling)| filling.waiting.is_abandoned());
        for view in abandoned.map(|(view, _)| *view).collect::<Vec<_>>() {
            self.give_up(view)?;
        }
        self.drop_transients()
    }

    /// Drops a view that nobody reads yet.
    pub(super) fn give_up(&mut self, view: ObjectId) -> Result<()> {
        self.close()?;
        self.settle()?;
        match self.behind.has(view) {
            // It was finished just now: then its client has missed the answer, and it stays, as in Postgres.
            false => Ok(()),
            true if self.transients.contains_key(&view) => self.drop_transients_of(&BTreeSet::from([view])),
            true => self.drop_objects(&[view], false, &[], "DROP").map(drop),
        }
    }

    /// Views that stand behind cannot be read, nor read by others.
    pub(super) fn must_have_joined(&self, reads: &BTreeSet<ObjectId>) -> Result<()> {
        match reads.iter().find(|id| self.behind.has(**id)) {
            Some(id) => {
                let name = self.catalog.get(*id).map_or("", |object| &object.name);
                let jobs = self.jobs();
                Err(still_behind(name, jobs.iter().find(|job| job.objects.contains(id))))
            }
            None => Ok(()),
        }
    }
}

/// Why a view cannot be read yet.
pub fn still_behind(name: &str, job: Option<&Job>) -> Error {
    let error = Error::not_ready(format!("materialized view \"{name}\" is still being filled"))
        .hint("Try again later; SELECT * FROM ms_catalog.jobs shows how far it is.");
    match job {
        Some(Job { rows, rows_total: Some(total), .. }) => {
            error.detail(format!("{rows} of about {total} rows are in it."))
        }
        Some(Job { rows, rows_total: None, .. }) => error.detail(format!("{rows} rows are in it so far.")),
        None => error,
    }
}
