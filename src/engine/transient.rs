//! The views of subscriptions to queries: installed and filled as any view, but in no catalog. They go when nobody follows
//! them any more; what a crash leaves of them, recovery finds to belong to nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Weak;

use crate::catalog::MaterializedView;
use crate::catalog::ObjectKind;
use crate::engine::changes::Followed;
use crate::engine::coordinator::Coordinator;
use crate::engine::ddl::Head;
use crate::engine::needs::Cursor;
use crate::error::Result;
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
    /// What it reads.
    reads: BTreeSet<ObjectId>,
    /// The state that its operators use.
    tables: Vec<TableId>,
    /// Its only reader's.
    cursor: Weak<Cursor>,
}

impl Coordinator {
    /// Installs a view of a query for one reader, who follows it from the epoch in which it was filled.
    pub(super) fn follow_query(&mut self, bound: Query) -> Result<Followed> {
        self.close()?;
        self.settle()?;
        self.still_there(&bound.reads)?;
        let mut catalog = (*self.catalog).clone();
        let id = catalog.next_object;
        let lowered = plan::lower(&bound, &ViewOptions::default(), id, &catalog, catalog.next_table)?;
        catalog.next_object = ObjectId(id.0 + 1);
        catalog.next_table = lowered.next_table;
        let view = MaterializedView {
            columns: bound.columns,
            query: String::new(),
            storage: lowered.storage.clone(),
            plan: String::new(),
        };
        let name = Name { schema: String::new(), name: NAME.to_string() };
        let head = Head { name, if_not_exists: false, retain_history_ms: None, sql: String::new() };
        let object = self.object(id, head, bound.reads.clone(), ObjectKind::MaterializedView(view));
        let own = Arc::new(lowered.plan);
        let (inputs, unread) = self.install_and_fill(&[(id, own.clone(), lowered.storage)])?;
        let shared = Arc::new(self.runtime.shareable(id, &own));
        let tables = shared.tables();
        self.commit_catalog(catalog, &[])?;
        self.share(id, &own, &shared)?;
        self.keep_unread(unread.into_iter())?;
        inputs.into_iter().try_for_each(|input| self.start_if_source(input))?;
        let from = self.changelogs.sealed;
        let cursor = self.changelogs.needs.follow(id, from);
        let transient = Transient { reads: bound.reads.clone(), tables, cursor: Arc::downgrade(&cursor) };
        self.transients.insert(id, transient);
        Ok(Followed { object: Arc::new(object), lives_by: bound.reads, cursor, from })
    }

    /// Drops the views that nobody follows any more.
    pub(super) fn drop_transients(&mut self) -> Result<()> {
        if self.transients.values().all(|transient| transient.cursor.strong_count() > 0) {
            return Ok(());
        }
        self.close()?;
        self.settle()?;
        let gone = self.take_transients(|transient| transient.cursor.strong_count() == 0);
        self.stop_unread(&self.catalog.clone())?;
        self.drop_transient_spaces(&gone)
    }

    /// Everything in memory was lost with an epoch: these views too, since they are in no catalog. Who reads them is told.
    pub(super) fn lose_transients(&mut self) {
        let lost = std::mem::take(&mut self.transients).into_iter().collect::<Vec<_>>();
        for (id, transient) in &lost {
            self.changelogs.needs.forget(*id);
            if let Some(cursor) = transient.cursor.upgrade() {
                cursor.lose();
            }
        }
        if let Err(error) = self.drop_transient_spaces(&lost) {
            tracing::warn!(%error, "what a lost view stored could not be dropped; the next start will");
        }
    }

    /// Stops the views that read any of these.
    pub(super) fn take_transients_over(&mut self, doomed: &BTreeSet<ObjectId>) -> Vec<(ObjectId, Transient)> {
        self.take_transients(|transient| !transient.reads.is_disjoint(doomed))
    }

    fn take_transients(&mut self, mut which: impl FnMut(&Transient) -> bool) -> Vec<(ObjectId, Transient)> {
        let taken = self.transients.extract_if(.., |_, transient| which(transient)).collect::<Vec<_>>();
        for (id, _) in &taken {
            self.runtime.remove(*id);
            self.changelogs.needs.forget(*id);
        }
        taken
    }

    /// Drops what stopped views leave in the store; no commit is in flight.
    pub(super) fn drop_transient_spaces(&mut self, gone: &[(ObjectId, Transient)]) -> Result<()> {
        let tables = gone.iter().flat_map(|(_, transient)| transient.tables.iter().copied()).collect();
        let ids = gone.iter().map(|(id, _)| *id).collect::<Vec<_>>();
        self.drop_state(tables, &ids)
    }
}
