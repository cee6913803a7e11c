//! The views of subscriptions to queries: installed and filled as any view, but in no catalog. They go when nobody follows
//! them any more; what a crash leaves of them, recovery finds to belong to nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Weak;

use tokio::sync::oneshot;

use crate::catalog::MaterializedView;
use crate::catalog::Object;
use crate::catalog::ObjectKind;
use crate::engine::changes::Followed;
use crate::engine::coordinator::Coordinator;
use crate::engine::ddl::Head;
use crate::engine::ddl::inputs_of;
use crate::engine::filling::Waiting;
use crate::engine::needs::Cursor;
use crate::error::Error;
use crate::error::Result;
use crate::ids::Epoch;
use crate::ids::ObjectId;
use crate::ids::TableId;
use crate::plan;
use crate::sql::bound::Name;
use crate::sql::bound::Query;
use crate::sql::bound::ViewOptions;

/// What errors call a query that is subscribed to.
const NAME: &str = "(query)";

/// A view that only a subscription knows.
pub struct Transient {
    /// What the subscriber sees of it.
    object: Arc<Object>,
    /// The state that its operators use.
    tables: Vec<TableId>,
    /// Its only reader's; `None` while it is being filled.
    cursor: Option<Weak<Cursor>>,
}

impl Transient {
    /// Whether its reader has gone.
    fn is_left(&self) -> bool {
        self.cursor.as_ref().is_some_and(|cursor| cursor.strong_count() == 0)
    }
}

impl Coordinator {
    /// Installs a view of a query for one reader, who follows it from the epoch in which it joins the others.
    pub(super) fn follow_query(&mut self, bound: Query, reply: oneshot::Sender<Result<Followed>>) -> Result<()> {
        self.end_epochs()?;
        match self.install_transient(bound) {
            Ok((id, true)) => drop(reply.send(self.follow_transient(id, self.changelogs.sealed))),
            Ok((id, false)) => self.wait_for_view(id, Waiting::Subscribe(reply)),
            Err(error) => drop(reply.send(Err(error))),
        }
        Ok(())
    }

    /// The new view, and whether it is filled.
    fn install_transient(&mut self, bound: Query) -> Result<(ObjectId, bool)> {
        self.still_there(&bound.reads)?;
        self.must_have_joined(&bound.reads)?;
        let mut catalog = (*self.catalog).clone();
        let id = catalog.next_object;
        let lowered = plan::lower(&bound, &ViewOptions::default(), id, &catalog, catalog.next_table)?;
        catalog.next_object = ObjectId(id.0 + 1);
        catalog.next_table = lowered.next_table;
        let view = MaterializedView {
            columns: bound.columns.to_vec(),
            query: String::new(),
            storage: lowered.storage.clone(),
            plan: String::new(),
        };
        let name = Name { schema: String::new(), name: NAME.to_string() };
        let head = Head { name, if_not_exists: false, retain_history_ms: None, sql: String::new() };
        let object = Arc::new(self.object(id, head, bound.reads, ObjectKind::MaterializedView(view)));
        let own = Arc::new(lowered.plan);
        let inputs = inputs_of(&own);
        let complete = self.begin_filling(&[(id, own.clone(), Some(lowered.storage))])?;
        self.transients.insert(id, Transient { object, tables: own.tables(), cursor: None });
        self.commit_catalog(catalog, &[])?;
        inputs.into_iter().try_for_each(|input| self.start_if_source(input))?;
        match self.start_replays(id) {
            Ok(()) => Ok((id, complete)),
            Err(error) => self.give_up(id).and(Err(error)),
        }
    }

    /// A view uses these state tables from now on.
    pub(super) fn retable_transient(&mut self, id: ObjectId, tables: Vec<TableId>) {
        if let Some(transient) = self.transients.get_mut(&id) {
            transient.tables = tables;
        }
    }

    /// Takes in the reader of a view that was filled with this epoch.
    pub(super) fn follow_transient(&mut self, id: ObjectId, epoch: Epoch) -> Result<Followed> {
        let gone = || Error::internal("a query is followed that nobody installed");
        let transient = self.transients.get_mut(&id).ok_or_else(gone)?;
        let cursor = self.changelogs.needs.follow(id, epoch);
        transient.cursor = Some(Arc::downgrade(&cursor));
        let object = transient.object.clone();
        Ok(Followed { lives_by: object.depends_on.clone(), object, cursor, from: epoch, as_of: None })
    }

    /// Drops the views that nobody follows any more.
    pub(super) fn drop_transients(&mut self) -> Result<()> {
        let left = self.transients.iter().filter(|(_, transient)| transient.is_left()).map(|(id, _)| *id);
        self.drop_transients_of(&left.collect())
    }

    /// Drops these views.
    pub(super) fn drop_transients_of(&mut self, ids: &BTreeSet<ObjectId>) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        self.close()?;
        self.settle()?;
        let gone = self.take_transients(|id, _| ids.contains(&id));
        self.stop_unread(&self.catalog.clone())?;
        self.drop_transient_spaces(&gone);
        Ok(())
    }

    /// Everything in memory was lost with an epoch: these views too, since they are in no catalog. Who reads them is told.
    pub(super) fn lose_transients(&mut self) {
        let lost = std::mem::take(&mut self.transients).into_iter().collect::<Vec<_>>();
        for (id, transient) in &lost {
            self.changelogs.needs.forget(*id);
            if let Some(cursor) = transient.cursor.as_ref().and_then(Weak::upgrade) {
                cursor.lose();
            }
        }
        self.drop_transient_spaces(&lost);
    }

    /// Stops the views that read any of these.
    pub(super) fn take_transients_over(&mut self, doomed: &BTreeSet<ObjectId>) -> Vec<(ObjectId, Transient)> {
        self.take_transients(|_, transient| !transient.object.depends_on.is_disjoint(doomed))
    }

    fn take_transients(&mut self, which: impl Fn(ObjectId, &Transient) -> bool) -> Vec<(ObjectId, Transient)> {
        let taken = self.transients.extract_if(.., |id, transient| which(*id, transient)).collect::<Vec<_>>();
        for (id, _) in &taken {
            self.runtime.remove(*id);
            self.changelogs.needs.forget(*id);
            if let Some(filling) = self.behind.remove(*id) {
                filling.waiting.refuse(Error::undefined_table("a relation that is subscribed to was dropped"));
            }
        }
        taken
    }

    /// Drops what stopped views leave in the store; no commit is in flight.
    pub(super) fn drop_transient_spaces(&self, gone: &[(ObjectId, Transient)]) {
        let tables = gone.iter().flat_map(|(_, transient)| transient.tables.iter().copied()).collect();
        let ids = gone.iter().map(|(id, _)| *id).collect::<Vec<_>>();
        self.drop_state(tables, &ids);
    }
}
