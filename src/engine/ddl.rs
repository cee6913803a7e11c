//! Changes of the catalog. They run alone, between two epochs, each as one synced epoch of its own.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::catalog::Catalog;
use crate::catalog::Feed;
use crate::catalog::MaterializedView;
use crate::catalog::Object;
use crate::catalog::ObjectKind;
use crate::catalog::Sink;
use crate::catalog::Source;
use crate::catalog::Storage;
use crate::catalog::Table;
use crate::catalog::View;
use crate::connectors::Beginning;
use crate::engine::DdlOutcome;
use crate::engine::coordinator::Coordinator;
use crate::engine::errors;
use crate::engine::late;
use crate::engine::records;
use crate::engine::records::Progress;
use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::ids::ObjectId;
use crate::ids::TableId;
use crate::plan;
use crate::plan::ir::Op;
use crate::plan::ir::Plan;
use crate::sql::bound::Ddl;
use crate::sql::bound::Name;
use crate::sql::bound::Query;
use crate::sql::bound::ViewOptions;
use crate::types::Column;

/// A bound DDL statement with what had to be asked of the outside world before its turn.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The statement.
    pub ddl: Ddl,
    /// Where a new source starts.
    pub start: Beginning,
}

/// What a statement came to.
pub enum Executed {
    /// It is done.
    Done(DdlOutcome),
    /// The view is there, and stands behind: the answer waits until it is filled.
    Filling(ObjectId, DdlOutcome),
}

/// What every CREATE says of its object.
pub struct Head {
    /// Its name.
    pub name: Name,
    /// Whether it may exist already.
    pub if_not_exists: bool,
    /// How long its changes are kept, in milliseconds.
    pub retain_history_ms: Option<u64>,
    /// The statement.
    pub sql: String,
}

/// What a query is maintained for.
enum Maintained {
    /// A materialized view of this text.
    View { query: String },
    /// A sink, by way of this connector.
    Sink { connector: String, options: BTreeMap<String, String> },
}

impl Maintained {
    /// The object, and the plan that makes it.
    fn of(self, columns: Vec<Column>, plan: Plan, storage: Storage) -> (ObjectKind, Plan) {
        match self {
            Maintained::View { query } => {
                let view = MaterializedView { columns, query, storage, plan: plan::stored::write(&plan) };
                (ObjectKind::MaterializedView(view), plan)
            }
            Maintained::Sink { connector, options } => {
                let plan = plan.into_sink();
                let sink = Sink { columns, connector, options, plan: plan::stored::write(&plan) };
                (ObjectKind::Sink(sink), plan)
            }
        }
    }
}

impl Coordinator {
    /// Executes a catalog change; no epoch is open and no commit in flight. On an error nothing has changed.
    pub(super) fn execute_ddl(&mut self, prepared: Prepared) -> Result<Executed> {
        let outcome = match prepared.ddl {
            Ddl::CreateTable {
                name,
                if_not_exists,
                columns,
                defaults,
                primary_key,
                append_only,
                watermark,
                retain_history_ms,
                feed,
                sql,
            } => {
                let feed = feed.map(|feed| begun(feed, prepared.start));
                let kind = ObjectKind::Table(Table { columns, defaults, primary_key, append_only, watermark, feed });
                let head = Head { name, if_not_exists, retain_history_ms, sql };
                self.create("CREATE TABLE", head, BTreeSet::new(), kind)
            }
            Ddl::CreateSource { name, if_not_exists, columns, feed, watermark, sql } => {
                let feed = begun(feed, prepared.start);
                let source = Source { columns, watermark, feed };
                let head = Head { name, if_not_exists, retain_history_ms: None, sql };
                self.create("CREATE SOURCE", head, BTreeSet::new(), ObjectKind::Source(source))
            }
            Ddl::CreateView { name, or_replace, if_not_exists, query, search_path, bound, sql } => {
                let view = View { columns: bound.columns.to_vec(), query, search_path };
                if or_replace && let Some(old) = self.catalog.find(&name.schema, &name.name).cloned() {
                    return self.replace_view(&old, view, bound.reads, sql).map(Executed::Done);
                }
                let head = Head { name, if_not_exists, retain_history_ms: None, sql };
                self.create("CREATE VIEW", head, bound.reads, ObjectKind::View(view))
            }
            Ddl::CreateMaterializedView { name, if_not_exists, query, bound, options, retain_history_ms, sql } => {
                let head = Head { name, if_not_exists, retain_history_ms, sql };
                return self.create_maintained(head, bound, options, Maintained::View { query });
            }
            Ddl::CreateSink { name, if_not_exists, bound, view_options, connector, options, sql } => {
                let head = Head { name, if_not_exists, retain_history_ms: None, sql };
                return self.create_maintained(head, bound, view_options, Maintained::Sink { connector, options });
            }
            Ddl::CreateSubscription { name, if_not_exists, subscription, sql } => {
                let head = Head { name, if_not_exists, retain_history_ms: None, sql };
                let reads = BTreeSet::from([subscription.of]);
                self.must_have_joined(&reads)?;
                self.create("CREATE SUBSCRIPTION", head, reads, ObjectKind::Subscription(subscription))
            }
            Ddl::Drop { objects, cascade, missing, tag } => self.drop_objects(&objects, cascade, &missing, tag),
            Ddl::CreateSchema { name, if_not_exists } => self.create_schema(name, if_not_exists),
            Ddl::DropSchema { names, cascade, missing } => self.drop_schemas(&names, cascade, &missing),
        };
        outcome.map(Executed::Done)
    }

    /// What to answer if the name is taken: an error, or a notice under IF NOT EXISTS.
    fn taken(&self, tag: &str, name: &Name, if_not_exists: bool) -> Option<Result<DdlOutcome>> {
        self.catalog.find(&name.schema, &name.name)?;
        let message = format!("relation \"{}\" already exists", name.name);
        if !if_not_exists {
            return Some(Err(Error::duplicate_table(message)));
        }
        Some(Ok(DdlOutcome { tag: tag.to_string(), notices: vec![format!("{message}, skipping")] }))
    }

    /// A new object of the catalog.
    pub(super) fn object(&self, id: ObjectId, head: Head, reads: BTreeSet<ObjectId>, kind: ObjectKind) -> Object {
        let Head { name, retain_history_ms, sql, .. } = head;
        let created = self.clock.now();
        Object { id, schema: name.schema, name: name.name, sql, depends_on: reads, created, retain_history_ms, kind }
    }

    /// What a statement was bound to must still be there when its turn comes.
    pub(super) fn still_there(&self, reads: &BTreeSet<ObjectId>) -> Result<()> {
        match reads.iter().find(|id| self.catalog.get(**id).is_none()) {
            Some(_) => Err(Error::undefined_table("a relation that the statement reads was dropped meanwhile")),
            None => Ok(()),
        }
    }

    /// Creates an object that needs no dataflow.
    fn create(&mut self, tag: &str, head: Head, reads: BTreeSet<ObjectId>, kind: ObjectKind) -> Result<DdlOutcome> {
        if let Some(answer) = self.taken(tag, &head.name, head.if_not_exists) {
            return answer;
        }
        self.still_there(&reads)?;
        let mut catalog = (*self.catalog).clone();
        let object = self.object(catalog.next_object, head, reads, kind);
        let mut created = vec![object.id];
        let errors = object.feed().map(|_| errors::of_source(&object));
        catalog.insert(object);
        if let Some(errors) = errors {
            created.push(catalog.next_object);
            catalog.insert(Object { id: catalog.next_object, ..errors });
        }
        self.commit_catalog(catalog, &created)?;
        for id in created {
            self.adopt(id, None)?;
            if let Some(ObjectKind::Table(_)) = self.catalog.get(id).map(|object| &object.kind) {
                self.start_if_source(id)?;
            }
        }
        Ok(DdlOutcome { tag: tag.to_string(), notices: Vec::new() })
    }

    /// Makes a changed catalog the one that counts, with the records of these objects written.
    pub(super) fn commit_catalog(&mut self, catalog: Catalog, changed: &[ObjectId]) -> Result<()> {
        self.open_epoch()?;
        for &id in changed {
            match catalog.get(id) {
                Some(object) => records::put_object(&mut self.writes, object)?,
                None => records::delete_object(&mut self.writes, id),
            }
        }
        if catalog.schemas != self.catalog.schemas {
            records::put_schemas(&mut self.writes, &catalog.schemas)?;
        }
        self.counters.next_object = catalog.next_object;
        self.counters.next_table = catalog.next_table;
        self.catalog = Arc::new(catalog);
        self.must_sync();
        let changed = changed.iter().filter_map(|id| self.catalog.get(*id).cloned()).collect::<Vec<_>>();
        self.begin_named(&changed)?;
        // A view's begins when it is filled.
        let tables = changed.iter().filter(|object| matches!(object.kind, ObjectKind::Table(_)));
        let kept = tables.filter_map(|object| Some((object.id, object.retain_history_ms?))).collect::<Vec<_>>();
        let epoch = self.epoch;
        kept.iter().for_each(|(id, _)| records::put_kept(&mut self.writes, *id, epoch));
        crate::fault::point("ddl.before_commit");
        if let Err(error) = self.close().and_then(|()| self.settle()) {
            self.return_to_commit();
            return Err(error);
        }
        crate::fault::point("ddl.after_commit");
        // What an object begins with is not part of its history.
        kept.iter().for_each(|(id, retention_ms)| self.changelogs.needs.retain(*id, Some(*retention_ms), epoch));
        Ok(())
    }

    fn replace_view(
        &mut self,
        old: &Arc<Object>,
        new: View,
        reads: BTreeSet<ObjectId>,
        sql: String,
    ) -> Result<DdlOutcome> {
        let ObjectKind::View(view) = &old.kind else {
            return Err(Error::new(Kind::WrongObjectType, format!("\"{}\" is not a view", old.name)));
        };
        let kept = view.columns.iter().zip(&new.columns).all(|(a, b)| a.name == b.name && a.ty == b.ty);
        if !kept || view.columns.len() > new.columns.len() {
            let message = format!("cannot change the columns of view \"{}\"", old.name);
            return Err(Error::new(Kind::InvalidDefinition, message).hint("Drop the view and create it anew."));
        }
        let mut object = (**old).clone();
        object.kind = ObjectKind::View(new);
        object.depends_on = reads;
        object.sql = sql;
        let mut catalog = (*self.catalog).clone();
        let id = object.id;
        catalog.insert(object);
        self.commit_catalog(catalog, &[id])?;
        Ok(DdlOutcome { tag: "CREATE VIEW".to_string(), notices: Vec::new() })
    }

    /// Creates a materialized view or a sink, with its relations of errors and of late rows.
    fn create_maintained(
        &mut self,
        head: Head,
        bound: Query,
        options: ViewOptions,
        maintained: Maintained,
    ) -> Result<Executed> {
        let tag = match maintained {
            Maintained::View { .. } => "CREATE MATERIALIZED VIEW",
            Maintained::Sink { .. } => "CREATE SINK",
        };
        if let Some(answer) = self.taken(tag, &head.name, head.if_not_exists) {
            return answer.map(Executed::Done);
        }
        self.still_there(&bound.reads)?;
        self.must_have_joined(&bound.reads)?;
        let mut catalog = (*self.catalog).clone();
        let id = catalog.next_object;
        let lowered = plan::lower(&bound, &options, id, &catalog, catalog.next_table)?;
        catalog.next_table = lowered.next_table;
        let (kind, plan) = maintained.of(bound.columns.to_vec(), lowered.plan, lowered.storage);
        let object = self.object(id, head, bound.reads, kind);
        let (errors, errors_plan) = errors::of_view(&object, ObjectId(id.0 + 1));
        let mut created = vec![id, errors.id];
        let late = lowered.late.map(|late| late::of_view(&object, ObjectId(id.0 + 2), late));
        let mut plans =
            vec![(id, Arc::new(plan), object.storage()), (errors.id, Arc::new(errors_plan), errors.storage())];
        catalog.insert(object);
        catalog.insert(errors);
        if let Some((late, plan)) = late {
            plans.push((late.id, Arc::new(plan), late.storage()));
            created.push(late.id);
            catalog.insert(late);
        }
        let complete = self.begin_filling(&plans)?;
        self.commit_catalog(catalog, &created)?;
        for input in plans.iter().flat_map(|(_, plan, _)| inputs_of(plan)) {
            self.start_if_source(input)?;
        }
        let outcome = DdlOutcome { tag: tag.to_string(), notices: Vec::new() };
        if complete {
            return Ok(Executed::Done(outcome));
        }
        match self.start_replays(id) {
            Ok(()) => Ok(Executed::Filling(id, outcome)),
            Err(error) => self.give_up(id).and(Err(error)),
        }
    }

    /// Drops the state tables that no plan uses, and everything of these objects. The commit that no longer has them counts whether
    /// this works or not, and so does what is answered.
    pub(super) fn drop_state(&self, mut tables: Vec<TableId>, objects: &[ObjectId]) {
        tables.retain(|table| !self.runtime.uses(*table));
        if let Err(error) = self.store.drop_spaces(&tables, objects) {
            tracing::warn!(%error, "what nobody uses any more could not be dropped; the next start will");
        }
    }

    /// Starts the shared reader of a source that a view reads, unless it runs.
    pub(super) fn start_if_source(&mut self, id: ObjectId) -> Result<()> {
        let Some(object) = self.catalog.get(id).cloned() else { return Ok(()) };
        if self.inputs.is_running(id) {
            return Ok(());
        }
        let (wanted, state) = (self.columns_read(&object), self.state.clone());
        self.inputs.start(&object, wanted, &state)
    }

    /// The declared columns of a source that any plan reads; a stored one keeps all.
    pub(super) fn columns_read(&self, source: &Object) -> BTreeSet<usize> {
        if let ObjectKind::Table(_) = source.kind {
            return (0..source.columns().len()).collect();
        }
        let mut read = self.runtime.columns_read(source.id);
        read.retain(|column| *column < source.columns().len());
        read
    }

    /// Readers decode what is read. Those of sources of which a new plan reads more go on from where they are with more.
    pub(super) fn widen_readers(&mut self, plan: &Plan, inputs: &BTreeSet<ObjectId>) -> Result<()> {
        let mut widened = Vec::new();
        for object in inputs.iter().filter_map(|id| self.catalog.get(*id)) {
            let read = plan.nodes.iter().flat_map(|node| node.op.columns_of(object.id)).copied();
            let declared = read.filter(|column| *column < object.columns().len()).collect();
            widened.extend(self.inputs.stop_narrower(object.id, &declared).map(|wanted| (object.clone(), wanted)));
        }
        if widened.is_empty() {
            return Ok(());
        }
        // No batch of the old readers may be left for the new ones.
        self.take_waiting_events()?;
        self.close()?;
        self.settle()?;
        let state = self.state.clone();
        widened.into_iter().try_for_each(|(object, wanted)| self.inputs.start(&object, wanted, &state))
    }

    pub(super) fn drop_objects(
        &mut self,
        objects: &[ObjectId],
        cascade: bool,
        missing: &[String],
        tag: &str,
    ) -> Result<DdlOutcome> {
        let mut notices = missing.iter().map(|name| format!("{name}, skipping")).collect::<Vec<_>>();
        self.refuse_drop_of_parts(objects)?;
        let doomed = self.doomed(objects);
        let named = |id: &ObjectId| {
            let part = self.catalog.get(*id).filter(|object| is_part(object));
            objects.contains(id) || part.is_some_and(|part| part.depends_on.iter().all(|of| objects.contains(of)))
        };
        let others = doomed.iter().filter(|id| !named(id)).collect::<Vec<_>>();
        if !others.is_empty() && !cascade {
            return Err(self.refuse_drop(objects, &others));
        }
        for id in &others {
            if let Some(object) = self.catalog.get(**id).filter(|object| !is_part(object)) {
                notices.push(format!("drop cascades to {} {}", object.noun(), object.name));
            }
        }
        self.remove(doomed, (*self.catalog).clone())?;
        Ok(DdlOutcome { tag: tag.to_string(), notices })
    }

    /// Takes these objects, and everything of them, out of what is to be the catalog.
    pub(super) fn remove(&mut self, doomed: BTreeSet<ObjectId>, mut catalog: Catalog) -> Result<()> {
        let (mut tables, mut unfilled) = (Vec::new(), Vec::new());
        for id in doomed.iter().rev() {
            let Some(object) = catalog.remove(*id) else { continue };
            if let Some(plan) = object.plan() {
                self.runtime.remove(*id);
                tables.extend(plan::stored::read(plan)?.tables());
            }
            self.shapes.remove(id);
            self.watermarks.remove(id);
            self.inputs.forget(*id);
            records::delete_history(&mut self.writes, &self.store.snapshot(), *id)?;
            self.changelogs.needs.forget(*id);
            if let Some(filling) = self.behind.remove(*id) {
                unfilled.push((object, filling));
            }
        }
        self.forget_named(&doomed);
        let transients = self.take_transients_over(&doomed);
        self.stop_unread(&catalog)?;
        let doomed = doomed.into_iter().collect::<Vec<_>>();
        if let Err(error) = self.commit_catalog(catalog, &doomed) {
            self.wait_again(unfilled.into_iter().map(|(view, filling)| (view.id, filling)));
            return Err(error);
        }
        self.drop_transient_spaces(&transients);
        self.drop_state(tables, &doomed);
        // Whoever is told that there is no view finds nothing of it.
        for (view, filling) in unfilled {
            filling.waiting.refuse(dropped_meanwhile(&view));
        }
        Ok(())
    }

    /// Stops the readers of sources that no view reads any more.
    pub(super) fn stop_unread(&mut self, catalog: &Catalog) -> Result<()> {
        let unread =
            catalog.objects().filter(|o| matches!(o.kind, ObjectKind::Source(_)) && !self.runtime.is_read(o.id));
        for id in unread.map(|o| o.id).collect::<Vec<_>>() {
            if self.inputs.stop(id) {
                records::delete_progress(&mut self.writes, id);
                records::delete_history(&mut self.writes, &self.store.snapshot(), id)?;
            }
        }
        self.take_waiting_events()
    }

    /// What is part of an object goes with it, and not alone.
    fn refuse_drop_of_parts(&self, objects: &[ObjectId]) -> Result<()> {
        let alone = |object: &&Arc<Object>| is_part(object) && !object.depends_on.iter().all(|of| objects.contains(of));
        match objects.iter().filter_map(|id| self.catalog.get(*id)).find(alone) {
            Some(part) => Err(Error::wrong_object_type(format!("cannot drop relation \"{}\"", part.name))
                .hint("It is kept by the system and goes with what it belongs to.")),
            None => Ok(()),
        }
    }

    /// These objects and everything that reads them, oldest first.
    pub(super) fn doomed(&self, objects: &[ObjectId]) -> BTreeSet<ObjectId> {
        let mut doomed = BTreeSet::new();
        let mut open = objects.to_vec();
        while let Some(id) = open.pop() {
            if doomed.insert(id) {
                open.extend(self.catalog.dependents(id).map(|o| o.id));
            }
        }
        doomed
    }

    fn refuse_drop(&self, objects: &[ObjectId], others: &[&ObjectId]) -> Error {
        let called = |id: &ObjectId| {
            self.catalog.get(*id).map_or_else(String::new, |object| format!("{} {}", object.noun(), object.name))
        };
        let reads = |id: &ObjectId| {
            let read = self.catalog.get(*id).and_then(|o| o.depends_on.iter().next().copied());
            read.map_or_else(String::new, |read| called(&read))
        };
        let apart = |id: &&&ObjectId| !self.catalog.get(***id).is_some_and(|object| is_part(object));
        let detail = others.iter().filter(apart).map(|id| format!("{} depends on {}", called(id), reads(id)));
        let named = objects.iter().map(called).collect::<Vec<_>>().join(", ");
        Error::new(Kind::DependentObjects, format!("cannot drop {named} because other objects depend on it"))
            .detail(detail.collect::<Vec<_>>().join("\n"))
            .hint("Use DROP ... CASCADE to drop the dependent objects too.")
    }
}

fn dropped_meanwhile(view: &Object) -> Error {
    Error::cancelled(format!("{} \"{}\" was dropped while it was being filled", view.noun(), view.name))
}

/// Whether an object is part of another: it comes and goes with it.
pub(super) fn is_part(object: &Object) -> bool {
    errors::is_errors(object) || late::is_late(object)
}

/// The objects that a plan reads.
pub fn inputs_of(plan: &Plan) -> BTreeSet<ObjectId> {
    let input = |op: &Op| match op {
        Op::Input { object, .. } => Some(*object),
        Op::Errors { .. } | Op::Values { .. } | Op::Project { .. } | Op::Filter { .. } | Op::Union | Op::Negate => None,
        Op::Repeat { .. } | Op::Arrange { .. } | Op::Join | Op::Aggregate { .. } | Op::Materialize { .. } => None,
        Op::Window { .. } | Op::Changes | Op::Final { .. } | Op::Session { .. } | Op::Sink { .. } | Op::Anti => None,
    };
    plan.nodes.iter().filter_map(|node| input(&node.op)).collect()
}

/// The progress of every input, as stored.
pub fn all_progress(catalog: &Catalog, snapshot: &crate::state::Snapshot) -> Result<BTreeMap<ObjectId, Progress>> {
    let mut all = BTreeMap::new();
    for object in catalog.objects() {
        if let Some(progress) = records::progress(snapshot, object.id)? {
            all.insert(object.id, progress);
        }
    }
    Ok(all)
}

/// What brings the rows of a source, with where that begins.
fn begun(feed: Feed, Beginning { positions, identity }: Beginning) -> Feed {
    Feed { start: positions, identity, ..feed }
}
