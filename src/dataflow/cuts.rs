//! Event time under every cut: the same epochs, however they are cut into steps and among workers, through evictions and
//! restarts, give the same views; and these are what the definition says: the query over the changes that were not late.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::array::Int64Array;
use arrow::array::RecordBatch;
use arrow::array::TimestampMicrosecondArray;
use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tempfile::TempDir;

use crate::catalog::Catalog;
use crate::catalog::MaterializedView;
use crate::catalog::Object;
use crate::catalog::ObjectKind;
use crate::catalog::PUBLIC;
use crate::catalog::Storage;
use crate::catalog::Table;
use crate::dataflow::changelog::Recording;
use crate::dataflow::meters::Meters;
use crate::dataflow::relation::RelationCodec;
use crate::dataflow::runtime::Runtime;
use crate::dataflow::runtime::Start;
use crate::delta::Delta;
use crate::delta::consolidate;
use crate::delta::pretty;
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

/// Windows are in tens of microseconds, so that times are small numbers.
const VIEWS: [&str; 11] = [
    "v0 AS SELECT k, window_end, count(*) AS n, sum(v) AS s FROM TUMBLE(a, ts, INTERVAL '10 microseconds') GROUP BY k, window_end",
    "v1 AS SELECT k, window_end, count(*) AS n, sum(v) AS s FROM TUMBLE(a, ts, INTERVAL '10 microseconds') GROUP BY k, window_end EMIT FINAL",
    "v2 WITH (allowed_lateness = 1) AS SELECT window_start, min(v) AS l, max(v) AS h, count(DISTINCT k) AS d FROM TUMBLE(b, ts, INTERVAL '10 microseconds') GROUP BY window_start",
    "v3 AS SELECT x.id, y.id AS other, x.window_end FROM TUMBLE(a, ts, INTERVAL '10 microseconds') x JOIN TUMBLE(b, ts, INTERVAL '10 microseconds') y ON x.k = y.k AND x.window_end = y.window_end",
    "v4 AS SELECT x.id, y.id AS other, x.window_start FROM TUMBLE(a, ts, INTERVAL '10 microseconds') x LEFT JOIN TUMBLE(b, ts, INTERVAL '10 microseconds') y ON x.k = y.k AND x.window_start = y.window_start EMIT FINAL",
    "v5 AS SELECT window_end, sum(n) AS n FROM TUMBLE((SELECT window_end AS t, n FROM v0), t, INTERVAL '20 microseconds') GROUP BY window_end EMIT FINAL",
    "v6 AS SELECT window_start, window_end, count(*) AS n FROM HOP(a, ts, INTERVAL '4 microseconds', INTERVAL '10 microseconds') GROUP BY window_start, window_end EMIT FINAL",
    "v7 AS SELECT window_start, window_end, max(v) AS h FROM CUMULATE(a, ts, INTERVAL '5 microseconds', INTERVAL '15 microseconds') GROUP BY window_start, window_end",
    "v9 AS SELECT k, window_start, window_end, count(*) AS n FROM SESSION(a PARTITION BY k, ts, INTERVAL '3 microseconds') GROUP BY k, window_start, window_end EMIT FINAL",
    "v8 AS SELECT DISTINCT k, window_end FROM TUMBLE((SELECT k, ts FROM a UNION ALL SELECT k, ts FROM b), ts, INTERVAL '10 microseconds')",
    "v10 WITH (retention = 0) AS SELECT k, window_end, count(*) AS n, sum(v) AS s FROM TUMBLE(a, ts, INTERVAL '10 microseconds') GROUP BY k, window_end",
];

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
}

/// The catalog and the plans of all views.
fn define() -> (Catalog, Vec<(ObjectId, Arc<Plan>, Storage)>) {
    let (mut catalog, mut plans) = (Catalog::new(), Vec::new());
    let views = VIEWS.map(|view| format!("CREATE MATERIALIZED VIEW {view}"));
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
                plans.push((id, Arc::new(lowered.plan), lowered.storage));
                if let Some(late) = lowered.late {
                    let late_id = ObjectId(id.0 + 1000);
                    plans.push((late_id, Arc::new(late.plan(late_id)), Storage::Log));
                }
                (
                    name.name,
                    ObjectKind::MaterializedView(MaterializedView { columns: bound.columns, query, storage, plan }),
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
    (catalog, plans)
}

fn meters() -> Arc<Meters> {
    Arc::new(Meters::new(Arc::new(SystemClock)))
}

/// A running dataflow over a store of its own.
struct Database {
    catalog: Catalog,
    plans: Vec<(ObjectId, Arc<Plan>, Storage)>,
    runtime: Runtime,
    store: Arc<Store>,
    epoch: Epoch,
    /// The watermark of each table at the end of the epoch before.
    watermarks: [Option<Micros>; 2],
    _directory: TempDir,
}

impl Database {
    fn new(cut: &Cut) -> Database {
        let (catalog, plans) = define();
        let directory = TempDir::new().unwrap();
        let store = Store::open(directory.path(), StoreOptions::default()).unwrap();
        let runtime = Runtime::start(cut.workers, cut.memory_bytes, meters()).unwrap();
        let mut database =
            Database { catalog, plans, runtime, store, epoch: Epoch(0), watermarks: [None; 2], _directory: directory };
        database.install(Start::Fresh);
        database.create(cut);
        database
    }

    fn install(&mut self, start: Start) {
        for (view, plan, storage) in &self.plans {
            self.runtime.install(*view, plan.clone(), Some(storage.clone()), start);
        }
    }

    /// The first epoch, in which the views join.
    fn create(&mut self, cut: &Cut) {
        let views = self.plans.iter().map(|(view, _, _)| *view).collect::<Arc<[ObjectId]>>();
        self.epoch = self.epoch.next();
        self.runtime.begin(Portion::first(self.epoch), &self.store.reader(None));
        self.runtime.create(&views);
        self.runtime.join(&views);
        self.work(&[], cut);
    }

    fn restart(&mut self, cut: &Cut) {
        self.runtime = Runtime::start(cut.workers, cut.memory_bytes, meters()).unwrap();
        self.install(Start::Joined);
        self.runtime.recover(&self.inputs());
    }

    fn table(&self, table: usize) -> &Object {
        self.catalog.find(PUBLIC, ["a", "b"][table]).unwrap()
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
        self.epoch = self.epoch.next();
        self.runtime.begin(Portion::first(self.epoch), &self.store.reader(None));
        self.work(changes, cut);
    }

    /// The steps of the epoch, and its end.
    fn work(&mut self, changes: &[Change], cut: &Cut) {
        let mut portion = Portion::first(self.epoch);
        for (number, step) in changes.chunks(cut.step_rows).enumerate() {
            let of = |table: usize| step.iter().filter(|c| c.0 == table).copied().collect::<Vec<_>>();
            let deltas = (0..2).map(|table| (self.table(table).id, self.delta(table, &of(table)))).collect();
            self.runtime.step(deltas);
            if number % cut.spill_every == cut.spill_every - 1 {
                let shares = self.runtime.finish_portion(Recording::default()).unwrap();
                self.store.spill(&Sealed::new(self.epoch, shares.writes)).unwrap();
                portion = portion.next();
                self.runtime.begin(portion, &self.store.spilled_reader());
            }
        }
        for (table, _, _, _, time, _) in changes {
            self.watermarks[*table] = self.watermarks[*table].max(Some(time - 3));
        }
        let shares = self.runtime.finish(&self.inputs(), Recording::default()).unwrap();
        let sealed = Sealed::new(self.epoch, shares.writes);
        if portion.number == 0 {
            return self.store.commit(&sealed, false).unwrap();
        }
        self.store.spill(&sealed).unwrap();
        self.store.commit_spilled(self.epoch).unwrap();
    }

    /// The rows of every view and relation of late rows, as sorted text.
    fn contents(&self) -> Vec<String> {
        let content = |(view, plan, storage): &(ObjectId, Arc<Plan>, Storage)| {
            let columns = &plan.nodes.last().unwrap().columns;
            let codec = RelationCodec::new(columns, storage.clone());
            let mut scan = self.store.snapshot().scan(Space::Relation(*view), None, None);
            let mut rows = Vec::new();
            while let Some(delta) = codec.read_chunk(&mut scan, 100).unwrap() {
                rows.push(delta);
            }
            let all = consolidate(&Delta::concat(&codec.schema, &rows).unwrap()).unwrap();
            let mut lines = pretty::print(&all).unwrap().lines().map(str::to_string).collect::<Vec<_>>();
            lines.sort();
            format!("view {view}\n{}", lines.join("\n"))
        };
        self.plans.iter().map(content).collect()
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
        self.plans.iter().flat_map(|(_, plan, _)| plan.tables()).map(count).collect()
    }
}

/// A random history: rows come about in order of time, some much too late, and some are taken back.
fn history(seed: u64, epochs: usize) -> Vec<Changes> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut there: Vec<Change> = Vec::new();
    let (mut id, mut now) = (0, 100);
    let epoch = |_| {
        let mut changes = Vec::new();
        now += random.random_range(0..8);
        for _ in 0..random.random_range(0..8) {
            if !there.is_empty() && random.random_range(0..4) == 0 {
                let at = random.random_range(0..there.len());
                let (table, id, k, v, time, _) = there.swap_remove(at);
                changes.push((table, id, k, v, time, -1));
                continue;
            }
            id += 1;
            let behind = if random.random_range(0..6) == 0 { 40 } else { 6 };
            let time = now - random.random_range(0..behind);
            let row = (random.random_range(0..2), id, random.random_range(0..4), random.random_range(0..9), time, 1);
            changes.push(row);
            there.push(row);
        }
        changes
    };
    (0..epochs).map(epoch).collect()
}

fn run(history: &[Changes], cut: &Cut) -> Vec<Vec<String>> {
    let mut database = Database::new(cut);
    let mut seen = Vec::new();
    for (number, changes) in history.iter().enumerate() {
        database.epoch(changes, cut);
        if number % cut.restart_every == cut.restart_every - 1 {
            database.restart(cut);
        }
        seen.push(database.contents());
    }
    seen
}

/// What `v0`, `v1` and `v10` are by definition, from the changes of each epoch and the watermarks before and after.
fn model(history: &[Changes]) -> Vec<[String; 3]> {
    let mut groups: BTreeMap<(i64, Micros), (i64, i64)> = BTreeMap::new();
    let mut watermark: Option<Micros> = None;
    let shown = |name: usize, groups: &BTreeMap<(i64, Micros), (i64, i64)>, has: &dyn Fn(Micros) -> bool| {
        let there = groups.iter().filter(|((_, end), (n, _))| *n > 0 && has(*end));
        let line =
            |((k, end), (n, s)): (&(i64, Micros), &(i64, i64))| format!("+ {k} 1970-01-01T00:00:00.{end:06} {n} {s}");
        let mut lines = there.map(line).collect::<Vec<_>>();
        lines.sort();
        format!("view {name}\n{}", lines.join("\n"))
    };
    let mut seen = Vec::new();
    for changes in history {
        let before = watermark;
        for (_, _, k, v, time, weight) in changes.iter().filter(|c| c.0 == 0) {
            watermark = watermark.max(Some(time - 3));
            let end = time - time.rem_euclid(10) + 10;
            if before.is_none_or(|before| end > before) {
                let group = groups.entry((*k, end)).or_default();
                *group = (group.0 + weight, group.1 + v * weight);
            }
        }
        let closed = |end: Micros| watermark.is_some_and(|watermark| end <= watermark);
        seen.push([shown(0, &groups, &|_| true), shown(1, &groups, &closed), shown(10, &groups, &|end| !closed(end))]);
    }
    seen
}

/// The text below the first line.
fn rows(content: &str) -> Vec<String> {
    content.lines().skip(1).map(str::to_string).collect()
}

#[test]
fn every_cut_gives_the_views_that_the_definition_says() {
    for seed in 0..6 {
        let history = history(seed, 40);
        let plain = Cut { workers: 1, step_rows: 1000, memory_bytes: 1 << 26, restart_every: 1000, spill_every: 1000 };
        let seen = run(&history, &plain);
        for (epoch, (seen, wanted)) in seen.iter().zip(model(&history)).enumerate() {
            assert_eq!(rows(&seen[0]), rows(&wanted[0]), "seed {seed}, epoch {epoch}, as it stands");
            let of = |number: u32| {
                let begins = format!("view {}\n", ObjectId::FIRST.0 + 2 + number);
                rows(seen.iter().find(|content| content.starts_with(&begins)).unwrap())
            };
            assert_eq!(of(1), rows(&wanted[1]), "seed {seed}, epoch {epoch}, final");
            assert_eq!(of(10), rows(&wanted[2]), "seed {seed}, epoch {epoch}, retained");
        }
        let cuts = [
            Cut { workers: 1, step_rows: 1, memory_bytes: 1, restart_every: 7, spill_every: 1000 },
            Cut { workers: 3, step_rows: 2, memory_bytes: 1 << 26, restart_every: 1000, spill_every: 1000 },
            Cut { workers: 4, step_rows: 3, memory_bytes: 1, restart_every: 3, spill_every: 1000 },
            Cut { workers: 2, step_rows: 1, memory_bytes: 1 << 26, restart_every: 1000, spill_every: 2 },
            Cut { workers: 2, step_rows: 1, memory_bytes: 1, restart_every: 5, spill_every: 1 },
        ];
        for cut in &cuts {
            for (epoch, (other, seen)) in run(&history, cut).iter().zip(&seen).enumerate() {
                assert_eq!(
                    other, seen,
                    "seed {seed}, epoch {epoch}: {} workers, steps of {}, spilled after {}",
                    cut.workers, cut.step_rows, cut.spill_every
                );
            }
        }
    }
}

#[test]
fn closed_windows_leave_no_state_behind() {
    for (workers, memory_bytes, restart_every) in [(2, 1 << 26, 1000), (2, 1, 1000), (1, 1 << 26, 25)] {
        let cut = Cut { workers, step_rows: 100, memory_bytes, restart_every, spill_every: 1000 };
        let mut database = Database::new(&cut);
        let mut sizes = Vec::new();
        for round in 0..100_i64 {
            let row = |n: i64| ((n % 2) as usize, round * 40 + n, n % 5, n, 1000 + round * 20 + n / 2, 1);
            database.epoch(&(0..40).map(row).collect::<Vec<_>>(), &cut);
            if round as usize % restart_every == restart_every - 1 {
                database.restart(&cut);
            }
            sizes.push(database.state_entries());
        }
        for table in sizes[0].keys() {
            let most = |rounds: &[BTreeMap<TableId, usize>]| rounds.iter().map(|round| round[table]).max();
            let (early, last) = (most(&sizes[52..76]), most(&sizes[76..]));
            assert!(last <= early, "table {table}: {early:?} entries after 76 epochs, {last:?} after 100");
        }
    }
}
