//! The same epochs under every cut: however they are cut into steps and among workers, through evictions, restarts and
//! spilled portions, they give the same views and, epoch by epoch, the same changelogs. [`event_time`] also holds them against
//! what the definition of event time says, [`every_operator`] has plans in which each operator occurs.

mod event_time;
mod every_operator;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::array::Int64Array;
use arrow::array::RecordBatch;
use arrow::array::TimestampMicrosecondArray;
use arrow::datatypes::SchemaRef;
use tempfile::TempDir;
use xxhash_rust::xxh3::xxh3_128;

use crate::catalog::Catalog;
use crate::catalog::MaterializedView;
use crate::catalog::Object;
use crate::catalog::ObjectKind;
use crate::catalog::PUBLIC;
use crate::catalog::Storage;
use crate::catalog::Table;
use crate::dataflow::changelog;
use crate::dataflow::changelog::ChangelogCodec;
use crate::dataflow::changelog::Recording;
use crate::dataflow::meters::Meters;
use crate::dataflow::operator::Room;
use crate::dataflow::relation::RelationCodec;
use crate::dataflow::runtime::Memory;
use crate::dataflow::runtime::Runtime;
use crate::dataflow::runtime::SealedShares;
use crate::dataflow::runtime::Start;
use crate::delta::Delta;
use crate::delta::consolidate;
use crate::delta::pretty;
use crate::error::Result;
use crate::ids::Epoch;
use crate::ids::ObjectId;
use crate::ids::Portion;
use crate::ids::TableId;
use crate::plan;
use crate::plan::ir::Plan;
use crate::plan::stored;
use crate::sql;
use crate::sql::BindContext;
use crate::sql::bound::Bound;
use crate::sql::bound::Ddl;
use crate::state::Sealed;
use crate::state::Space;
use crate::state::Store;
use crate::state::StoreOptions;
use crate::time::Micros;
use crate::time::SystemClock;
use crate::types::UTC;
use crate::types::schema_of;

const TABLES: [&str; 2] = [
    "CREATE TABLE a (id BIGINT PRIMARY KEY, k BIGINT, v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts)",
    "CREATE TABLE b (id BIGINT PRIMARY KEY, k BIGINT, v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts)",
];

/// Texts longer than this are not kept.
const TEXT_MAX: usize = 1 << 18;

/// One change: table, id, k, v, time, weight.
type Change = (usize, i64, i64, i64, Micros, i64);

/// The changes of an epoch.
type Changes = Vec<Change>;

/// How a history is run.
struct Cut {
    workers: usize,
    step_rows: usize,
    memory_bytes: usize,
    /// A restart after so many epochs.
    restart_every: usize,
    /// After so many steps a portion of the epoch is spilled.
    spill_every: usize,
    /// A join puts out so many rows at a time.
    rows_out: usize,
    /// A portion ends when so much is in memory and more is owed.
    portion_bytes: usize,
}

impl Cut {
    /// One that cuts nothing.
    fn plain() -> Cut {
        Cut {
            workers: 1,
            step_rows: usize::MAX,
            memory_bytes: 1 << 28,
            restart_every: usize::MAX,
            spill_every: usize::MAX,
            rows_out: usize::MAX,
            portion_bytes: usize::MAX,
        }
    }

    fn memory(&self) -> Memory {
        let room = Room { rows: self.rows_out, ..Room::ENDLESS };
        Memory { state_bytes: self.memory_bytes, portion_bytes: self.portion_bytes, room }
    }
}

/// A plan that runs: of a view, or of one of its relations of errors and late rows.
struct Running {
    /// The view's name, with `$errors` or `$late`.
    name: String,
    id: ObjectId,
    plan: Arc<Plan>,
    storage: Storage,
}

/// The catalog and the plans of all views.
struct Defined {
    catalog: Catalog,
    plans: Vec<Running>,
}

fn define(views: &[&str]) -> Arc<Defined> {
    let (mut catalog, mut plans) = (Catalog::new(), Vec::new());
    let mut running = |name: String, id, plan, storage| plans.push(Running { name, id, plan: Arc::new(plan), storage });
    let views = views.iter().map(|view| format!("CREATE MATERIALIZED VIEW {view}"));
    for statement in TABLES.iter().map(ToString::to_string).chain(views) {
        let context = BindContext {
            catalog: Arc::new(catalog.clone()),
            search_path: vec![PUBLIC.into()],
            time_zone: UTC.into(),
            ..BindContext::default()
        };
        let parsed = sql::parse(&statement).unwrap().pop().unwrap();
        let id = catalog.next_object;
        let (name, kind) = match sql::bind(&parsed, &context).unwrap() {
            Bound::Ddl(Ddl::CreateTable { name, columns, defaults, primary_key, append_only, watermark, .. }) => {
                let feed = None;
                (name.name, ObjectKind::Table(Table { columns, defaults, primary_key, append_only, watermark, feed }))
            }
            Bound::Ddl(Ddl::CreateMaterializedView { name, query, bound, options, .. }) => {
                let lowered = plan::lower(&bound, &options, id, &catalog, catalog.next_table).unwrap();
                catalog.next_table = lowered.next_table;
                let (storage, plan) = (lowered.storage.clone(), stored::write(&lowered.plan));
                let can_fail = lowered.plan.nodes.iter().any(|node| node.op.can_fail());
                running(name.name.clone(), id, lowered.plan, lowered.storage);
                if let Some(late) = lowered.late {
                    let late_id = ObjectId(id.0 + 1000);
                    running(format!("{}$late", name.name), late_id, late.plan(late_id), Storage::Log);
                }
                if can_fail {
                    let errors = ObjectId(id.0 + 2000);
                    let plan = plan::errors::plan(id, errors);
                    running(format!("{}$errors", name.name), errors, plan, Storage::Hashed);
                }
                (
                    name.name,
                    ObjectKind::MaterializedView(MaterializedView {
                        columns: bound.columns.to_vec(),
                        query,
                        storage,
                        plan,
                    }),
                )
            }
            other => panic!("{other:?}"),
        };
        let (sql, depends_on) = (String::new(), BTreeSet::new());
        catalog.insert(Object {
            id,
            schema: PUBLIC.into(),
            name,
            sql,
            depends_on,
            created: 0,
            retain_history_ms: None,
            kind,
        });
    }
    Arc::new(Defined { catalog, plans })
}

fn meters() -> Arc<Meters> {
    Arc::new(Meters::new(Arc::new(SystemClock)))
}

/// A running dataflow over a store of its own.
struct Database {
    defined: Arc<Defined>,
    runtime: Runtime,
    store: Arc<Store>,
    epoch: Epoch,
    /// The watermark of each table at the end of the epoch before.
    watermarks: [Option<Micros>; 2],
    _directory: TempDir,
}

impl Database {
    fn new(defined: &Arc<Defined>, cut: &Cut) -> Database {
        let directory = TempDir::new().unwrap();
        let store = Store::open(directory.path(), StoreOptions::default()).unwrap();
        let runtime = Runtime::start(cut.workers, cut.memory(), meters()).unwrap();
        let mut database = Database {
            defined: defined.clone(),
            runtime,
            store,
            epoch: Epoch(0),
            watermarks: [None; 2],
            _directory: directory,
        };
        database.install(Start::Fresh);
        database.create(cut);
        database
    }

    fn install(&mut self, start: Start) {
        for Running { id, plan, storage, .. } in &self.defined.plans {
            self.runtime.install(*id, plan.clone(), Some(storage.clone()), start);
        }
    }

    /// The first epoch, in which the views join.
    fn create(&mut self, cut: &Cut) {
        let views = self.defined.plans.iter().map(|running| running.id).collect::<Arc<[ObjectId]>>();
        self.epoch = self.epoch.next();
        self.runtime.begin(Portion::first(self.epoch), &self.store.reader(None));
        self.runtime.create(&views);
        self.runtime.join(&views);
        self.work(&[], cut).unwrap();
    }

    fn restart(&mut self, cut: &Cut) {
        self.runtime = Runtime::start(cut.workers, cut.memory(), meters()).unwrap();
        self.install(Start::Joined);
        self.runtime.recover(&self.inputs());
    }

    fn table(&self, table: usize) -> &Object {
        self.defined.catalog.find(PUBLIC, ["a", "b"][table]).unwrap()
    }

    fn inputs(&self) -> Vec<(ObjectId, Option<Micros>)> {
        (0..2).map(|table| (self.table(table).id, self.watermarks[table])).collect()
    }

    /// Rows of a table, which carry the watermark of the epoch before.
    fn delta(&self, table: usize, changes: &[Change]) -> Delta {
        let numbers = |pick: fn(&Change) -> i64| Arc::new(Int64Array::from_iter_values(changes.iter().map(pick)));
        let times = TimestampMicrosecondArray::from_iter_values(changes.iter().map(|c| c.4));
        let stamps = TimestampMicrosecondArray::from(vec![self.watermarks[table]; changes.len()]).with_timezone(UTC);
        let columns: Vec<ArrayRef> =
            vec![numbers(|c| c.1), numbers(|c| c.2), numbers(|c| c.3), Arc::new(times), Arc::new(stamps)];
        let rows = RecordBatch::try_new(schema_of(&self.table(table).stored_columns()), columns).unwrap();
        Delta::new(rows, changes.iter().map(|c| c.5).collect::<Vec<_>>().into())
    }

    fn epoch(&mut self, changes: &[Change], cut: &Cut) {
        self.try_epoch(changes, cut).unwrap();
    }

    fn try_epoch(&mut self, changes: &[Change], cut: &Cut) -> Result<()> {
        self.epoch = self.epoch.next();
        self.runtime.begin(Portion::first(self.epoch), &self.store.reader(None));
        self.work(changes, cut)
    }

    /// The steps of the epoch, and its end.
    fn work(&mut self, changes: &[Change], cut: &Cut) -> Result<()> {
        let mut portion = Portion::first(self.epoch);
        for (number, step) in changes.chunks(cut.step_rows).enumerate() {
            let of = |table: usize| step.iter().filter(|c| c.0 == table).copied().collect::<Vec<_>>();
            let deltas = (0..2).map(|table| (self.table(table).id, self.delta(table, &of(table)))).collect();
            self.runtime.step(deltas);
            if number % cut.spill_every == cut.spill_every - 1 {
                let shares = self.runtime.finish_portion(self.recording())?;
                self.spill(shares, &mut portion);
            }
        }
        for (table, _, _, _, time, _) in changes {
            self.watermarks[*table] = self.watermarks[*table].max(Some(time - 3));
        }
        let shares = loop {
            let shares = self.runtime.finish(&self.inputs(), self.recording())?;
            if !shares.more {
                break shares;
            }
            self.spill(shares, &mut portion);
        };
        let sealed = Sealed::new(self.epoch, shares.writes);
        if portion.number == 0 {
            return self.store.commit(&sealed, false);
        }
        self.store.spill(&sealed)?;
        self.store.commit_spilled(self.epoch)
    }

    fn spill(&mut self, shares: SealedShares, portion: &mut Portion) {
        self.store.spill(&Sealed::new(self.epoch, shares.writes)).unwrap();
        *portion = portion.next();
        self.runtime.begin(*portion, &self.store.spilled_reader());
    }

    /// Every view's changes are recorded.
    fn recording(&self) -> Recording {
        Recording {
            time: self.epoch.0 as Micros,
            objects: self.defined.plans.iter().map(|running| running.id).collect(),
        }
    }

    /// The rows of every view and its relations, as sorted text.
    fn contents(&self) -> Vec<String> {
        let content = |Running { name, id, plan, storage }: &Running| {
            let codec = RelationCodec::new(&plan.nodes.last().unwrap().columns, storage.clone());
            let mut scan = self.store.snapshot().scan(Space::Relation(*id), None, None);
            let mut rows = Vec::new();
            while let Some(delta) = codec.read_chunk(&mut scan, 1000).unwrap() {
                rows.push(delta);
            }
            format!("{name}\n{}", sorted(&codec.schema, &rows))
        };
        self.defined.plans.iter().map(content).collect()
    }

    /// What the last epoch changed in each of them, from its changelog, as sorted text.
    fn changes(&self) -> Vec<String> {
        let changes = |Running { name, id, plan, .. }: &Running| {
            let columns = &plan.nodes.last().unwrap().columns;
            let codec = ChangelogCodec::new(columns);
            let mut scan = self.store.snapshot().scan(
                Space::Changelog(*id),
                Some(&changelog::key_of(self.epoch)),
                Some(&changelog::key_of(self.epoch.next())),
            );
            let mut deltas = Vec::new();
            while let Some((key, value)) = scan.next_entry().unwrap() {
                deltas.push(codec.decode(key, value).unwrap().delta);
            }
            format!("changes of {name}\n{}", sorted(&schema_of(columns), &deltas))
        };
        self.defined.plans.iter().map(changes).collect()
    }

    /// How many entries each state table has in the store.
    fn state_entries(&self) -> BTreeMap<TableId, usize> {
        let count = |table: TableId| {
            let mut scan = self.store.snapshot().scan(Space::Table(table), None, None);
            let mut entries = 0;
            while scan.next_entry().unwrap().is_some() {
                entries += 1;
            }
            (table, entries)
        };
        self.defined.plans.iter().flat_map(|running| running.plan.tables()).map(count).collect()
    }
}

/// The sum of some deltas as text, a line a row, sorted; of a very long one, its hash.
fn sorted(schema: &SchemaRef, deltas: &[Delta]) -> String {
    let sum = consolidate(&Delta::concat(schema, deltas).unwrap()).unwrap();
    let text = pretty::print(&sum).unwrap();
    let mut lines = text.lines().collect::<Vec<_>>();
    lines.sort_unstable();
    let text = lines.join("\n");
    if text.len() > TEXT_MAX { format!("{} rows, {:x}", lines.len(), xxh3_128(text.as_bytes())) } else { text }
}

/// What every view holds after each epoch of a history, and what the epoch changed in it.
fn run(defined: &Arc<Defined>, history: &[Changes], cut: &Cut) -> Vec<Vec<String>> {
    let mut database = Database::new(defined, cut);
    let mut seen = Vec::new();
    for (number, changes) in history.iter().enumerate() {
        database.epoch(changes, cut);
        let mut shown = database.contents();
        shown.extend(database.changes());
        if number % cut.restart_every == cut.restart_every - 1 {
            database.restart(cut);
        }
        seen.push(shown);
    }
    seen
}

/// Fails if this cut shows anything else than the plain one did.
fn compare(defined: &Arc<Defined>, history: &[Changes], plain: &[Vec<String>], cut: &Cut) {
    for (epoch, (other, seen)) in run(defined, history, cut).iter().zip(plain).enumerate() {
        for (other, seen) in other.iter().zip(seen) {
            let Cut { workers, step_rows, restart_every, spill_every, rows_out, portion_bytes, .. } = cut;
            let cut = format!(
                "{workers} workers, steps of {step_rows}, restarts {restart_every}, portions {spill_every}, \
                 {rows_out} rows out, {portion_bytes} bytes in a portion"
            );
            assert!(other == seen, "epoch {epoch} under {cut}: {}", difference(seen, other));
        }
    }
}

/// The first lines of two sorted texts that are only in one of them.
fn difference(wanted: &str, found: &str) -> String {
    let (of_wanted, of_found) = (wanted.lines().collect::<BTreeSet<_>>(), found.lines().collect::<BTreeSet<_>>());
    let only = |a: &BTreeSet<&str>, b: &BTreeSet<&str>| a.difference(b).take(5).copied().collect::<Vec<_>>().join("; ");
    let name = wanted.lines().next().unwrap_or_default();
    format!("{name}: wanted {}, found {}", only(&of_wanted, &of_found), only(&of_found, &of_wanted))
}
