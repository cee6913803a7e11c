//! Every operator of the plan, and every way they are put together for outer joins, set operations and their kin: the same
//! input in steps of 1, 7, 1,000 and 64,000 rows and with 1, 2 and 4 workers gives the same views and, epoch by epoch, the same
//! changelogs.
//!
//! `DETERMINISM_ROWS=n`: a second history with so many rows in an epoch; with more than 64,000 every step size cuts one.

use std::collections::BTreeSet;

use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::dataflow::cuts::Change;
use crate::dataflow::cuts::Changes;
use crate::dataflow::cuts::Cut;
use crate::dataflow::cuts::Database;
use crate::dataflow::cuts::compare;
use crate::dataflow::cuts::define;
use crate::dataflow::cuts::run;
use crate::plan::ir::Op;

/// Rows of an epoch in the default run.
const ROWS: usize = 80;

/// An epoch is not cut into more steps than this.
const STEPS_MAX: usize = 1000;

/// How many epochs there are.
const EPOCHS: usize = 3;

const VIEWS: [&str; 27] = [
    "constants AS SELECT 1 AS n, 'one' AS name UNION ALL SELECT 2, 'two' UNION ALL SELECT k, v::text FROM a",
    "chosen AS SELECT id, v * 2 AS twice, NULLIF(k, 3) AS k FROM a WHERE v % 3 <> 1",
    "failing AS SELECT id, 12 / (v - 4) AS q FROM a WHERE 6 / (k - 2) IS NOT NULL",
    "grouped AS SELECT k, count(*) AS n, count(NULLIF(v, 2)) AS c, sum(v) AS s, avg(v) AS m, min(v) AS lo, max(ts) AS hi,
       bool_and(v > 1) AS every, bool_or(v > 7) AS some FROM a GROUP BY k",
    "exact AS SELECT k, sum(v::double precision / 7) AS s, avg(v::numeric / 3) AS m FROM a GROUP BY k",
    "distinct_calls AS SELECT k, count(DISTINCT v) AS c, sum(DISTINCT v) AS s, sum(v) FILTER (WHERE v > 3) AS f,
       count(DISTINCT v) FILTER (WHERE id % 2 = 0) AS d FROM a GROUP BY k",
    "whole AS SELECT count(*) AS n, sum(v) AS s, max(v) AS hi FROM a",
    "overflowing AS SELECT k, sum(v * 1000000000000000000) AS s, sum((v * 1000000000)::integer) AS i FROM b GROUP BY k",
    "values_of AS SELECT DISTINCT k, v FROM a",
    "inner_join AS SELECT a.id, b.id AS other, a.v + b.v AS s FROM a JOIN b ON a.k = b.k AND a.v > b.v",
    "left_join AS SELECT a.id, b.id AS other FROM a LEFT JOIN b ON a.k = b.k AND a.v = b.v",
    "full_join AS SELECT a.id, b.id AS other FROM a FULL JOIN b ON a.k = b.k AND a.v = b.v",
    "self_join AS SELECT x.id, y.id AS other FROM a x JOIN a y ON x.k = y.k AND x.v = y.v AND x.id < y.id",
    "null_safe AS SELECT x.id, y.id AS other FROM chosen x JOIN chosen y ON x.k IS NOT DISTINCT FROM y.k AND x.twice = y.twice",
    "semi_join AS SELECT id, v FROM a WHERE k IN (SELECT k FROM b WHERE v > 6)",
    "anti_join AS SELECT id, v FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE b.k = a.k AND b.v = a.v)",
    "not_in AS SELECT id, v FROM a WHERE k NOT IN (SELECT k + 1 FROM b WHERE v = 5)",
    "best AS SELECT id, v FROM a WHERE v = (SELECT max(v) FROM b)",
    "correlated AS SELECT id, (SELECT count(*) FROM b WHERE b.k = a.k) AS n FROM a",
    "except_all AS SELECT k, v FROM a EXCEPT ALL SELECT k, v FROM b",
    "intersect_all AS SELECT k, v FROM a INTERSECT ALL SELECT k, v FROM b",
    "over_a_view AS SELECT n, count(*) AS groups, sum(s) AS s FROM grouped GROUP BY n",
    "tumbled AS SELECT k, window_end, count(*) AS n, sum(v) AS s FROM TUMBLE(a, ts, INTERVAL '10 microseconds') GROUP BY k, window_end",
    "retained WITH (retention = 0) AS SELECT k, window_end, count(*) AS n, sum(v) AS s FROM TUMBLE(a, ts, INTERVAL '10 microseconds') GROUP BY k, window_end",
    "final_hop AS SELECT window_start, window_end, count(*) AS n FROM HOP(b, ts, INTERVAL '4 microseconds', INTERVAL '10 microseconds') GROUP BY window_start, window_end EMIT FINAL",
    "sessions AS SELECT k, window_start, window_end, count(*) AS n FROM SESSION(a PARTITION BY k, ts, INTERVAL '3 microseconds') GROUP BY k, window_start, window_end",
    "final_join AS SELECT x.id, y.id AS other, x.window_end FROM TUMBLE(a, ts, INTERVAL '10 microseconds') x LEFT JOIN TUMBLE(b, ts, INTERVAL '10 microseconds') y ON x.k = y.k AND x.v = y.v AND x.window_end = y.window_end EMIT FINAL",
];

/// The name of what a node does. A new operator belongs into one of the views.
fn name(op: &Op) -> &'static str {
    match op {
        Op::Input { .. } => "input",
        Op::Errors { .. } => "errors",
        Op::Values { .. } => "values",
        Op::Project { .. } => "project",
        Op::Filter { .. } => "filter",
        Op::Union => "union",
        Op::Negate => "negate",
        Op::Repeat { .. } => "repeat",
        Op::Window { .. } => "window",
        Op::Session { .. } => "session",
        Op::Final { .. } => "final",
        Op::Changes => "changes",
        Op::Arrange { .. } => "arrange",
        Op::Join => "join",
        Op::Anti => "anti",
        Op::Aggregate { .. } => "aggregate",
        Op::Materialize { .. } => "materialize",
        Op::Sink { .. } => "sink",
    }
}

/// All of them, but for the sink, which keeps nothing that could be compared.
const NAMES: [&str; 17] = [
    "aggregate",
    "anti",
    "arrange",
    "changes",
    "errors",
    "filter",
    "final",
    "input",
    "join",
    "materialize",
    "negate",
    "project",
    "repeat",
    "session",
    "union",
    "values",
    "window",
];

/// A random history: keys and values of which a few rows each are alike, a quarter of the changes takes rows back, every fifth row
/// comes late.
fn history(seed: u64, rows: usize) -> Vec<Changes> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut there: Vec<Change> = Vec::new();
    let keys = (rows / 6).max(4) as i64;
    let mut id = 0;
    let epoch = |number: usize| {
        let change = |_| {
            if !there.is_empty() && random.random_range(0..4) == 0 {
                let at = random.random_range(0..there.len());
                let (table, id, k, v, time, _) = there.swap_remove(at);
                return (table, id, k, v, time, -1);
            }
            id += 1;
            let behind = if random.random_range(0..5) == 0 { 200 } else { 20 };
            let time = 1000 + number as i64 * 60 - random.random_range(0..behind);
            let table = random.random_range(0..2);
            let row = (table, id, random.random_range(0..keys), random.random_range(0..12), time, 1);
            there.push(row);
            row
        };
        (0..rows).map(change).collect()
    };
    (0..EPOCHS).map(epoch).collect()
}

#[test]
fn every_operator_is_in_some_view() {
    let defined = define(&VIEWS);
    let names = defined.plans.iter().flat_map(|running| running.plan.nodes.iter().map(|node| name(&node.op)));
    assert_eq!(names.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>(), NAMES);
}

#[test]
fn step_sizes_and_workers_change_nothing() {
    let more = std::env::var("DETERMINISM_ROWS").ok().map(|rows| rows.parse().expect("a number"));
    let defined = define(&VIEWS);
    for rows in [ROWS].into_iter().chain(more) {
        let history = history(5, rows);
        let cut = |workers, step_rows| Cut { workers, step_rows, ..Cut::plain() };
        let plain = run(&defined, &history, &cut(1, 64_000));
        assert_much_happens(&plain);
        for step_rows in [1, 7, 1000, 64_000].into_iter().filter(|step_rows| rows / step_rows <= STEPS_MAX) {
            for workers in [1, 2, 4] {
                compare(&defined, &history, &plain, &cut(workers, step_rows));
            }
        }
        // The same with a memory that holds nothing, restarts, and epochs in portions.
        compare(&defined, &history, &plain, &Cut { memory_bytes: 1, restart_every: 1, ..cut(2, 1000) });
        compare(&defined, &history, &plain, &Cut { spill_every: 2, ..cut(2, rows.div_ceil(5)) });
    }
}

/// Keys of which many rows meet many, so that joins owe most of what they answer: over views that join what joins put out.
#[test]
fn what_joins_owe_changes_nothing() {
    let views = [
        "left_join AS SELECT a.id, b.id AS other FROM a LEFT JOIN b ON a.k = b.k AND a.v = b.v",
        "full_join AS SELECT a.id, b.id AS other FROM a FULL JOIN b ON a.k = b.k",
        "semi_join AS SELECT id, v FROM a WHERE k IN (SELECT k FROM b WHERE v > 6)",
        "owing AS SELECT a.id, b.id AS other, a.v, b.v AS w FROM a JOIN b ON a.k = b.k",
        "owing_twice AS SELECT x.id, x.other, y.id AS third FROM owing x JOIN a y ON x.w = y.k",
        "owing_itself AS SELECT x.id, x.other, y.other AS third FROM owing x JOIN owing y ON x.w = y.v",
        "alone AS SELECT x.id, x.v FROM a x WHERE NOT EXISTS (SELECT 1 FROM b WHERE b.k = x.k)",
        "alone_twice AS SELECT id, other FROM owing WHERE w NOT IN (SELECT k FROM alone JOIN a USING (id))",
        "counted AS SELECT v, count(*) AS n FROM owing GROUP BY v",
        "counts_owing AS SELECT a.id, counted.n FROM a JOIN counted ON a.v = counted.v",
        "one_of_each AS SELECT a.id, o.n FROM a LEFT JOIN (SELECT k, count(*) AS n FROM b GROUP BY k) o ON a.k = o.k",
        "over_one_of_each AS SELECT b.id, b.v FROM b WHERE id NOT IN (SELECT n FROM one_of_each WHERE n IS NOT NULL)",
        "keyed_by_one AS SELECT x.id, y.v, z.n FROM a x JOIN a y ON x.v = y.id JOIN counted z ON y.v = z.v",
        "alone_of_keyed AS SELECT b.id FROM b LEFT JOIN keyed_by_one x ON b.id = x.id WHERE x.id IS NULL",
    ];
    let defined = define(&views);
    let history = updates(11, 24);
    let plain = run(&defined, &history, &Cut::plain());
    let cuts = [(1, 1, usize::MAX), (2, 25, 0), (3, 4, 50_000), (4, 3, usize::MAX)];
    for (workers, rows_out, portion_bytes) in cuts {
        compare(&defined, &history, &plain, &Cut { workers, rows_out, portion_bytes, ..Cut::plain() });
    }
    let small = Cut { memory_bytes: 1, restart_every: 1, rows_out: 40, portion_bytes: 0, ..Cut::plain() };
    compare(&defined, &history, &plain, &Cut { workers: 2, step_rows: 11, ..small });
    compare(&defined, &history, &plain, &Cut { workers: 3, step_rows: 7, spill_every: 3, ..small });
}

/// A random history of few keys, in which rows change in place: the old row goes and the new one comes in the same step.
fn updates(seed: u64, ids: i64) -> Vec<Changes> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut there: Vec<Change> = Vec::new();
    let mut epoch = |number: usize| {
        let mut changes = Vec::new();
        for id in 0..ids {
            let table = random.random_range(0..2);
            let old = there.iter().position(|row| (row.0, row.1) == (table, id));
            if let Some(at) = old {
                let (table, id, k, v, time, _) = there.swap_remove(at);
                changes.push((table, id, k, v, time, -1));
            }
            if old.is_none() || random.random_range(0..4) > 0 {
                let (k, v) = (random.random_range(0..4), random.random_range(0..12));
                there.push((table, id, k, v, 1000 + number as i64, 1));
                changes.push((table, id, k, v, 1000 + number as i64, 1));
            }
        }
        changes
    };
    (0..EPOCHS).map(&mut epoch).collect()
}

/// What nothing ever happens in is not tested: of the relations of errors that is so, but for two.
fn assert_much_happens(shown: &[Vec<String>]) {
    let is_quiet = |index: &usize| shown.iter().all(|shown| shown[*index].lines().count() == 1);
    for index in (0..shown[0].len()).filter(is_quiet) {
        let name = shown[0][index].trim();
        assert!(name.ends_with("$errors") && !name.contains("failing") && !name.contains("overflowing"), "{name}");
    }
}

#[test]
#[cfg_attr(not(debug_assertions), ignore = "keyed views look at what they hold in debug builds only")]
fn a_row_taken_out_that_is_not_there_stops_the_epoch() {
    let cut = Cut { workers: 2, step_rows: 10, ..Cut::plain() };
    let row = |table: usize, id: i64| (table, id, id % 3, id % 5, 1000 + id, 1);
    let rows = (0..20).map(|id| row(id as usize % 2, id)).collect::<Vec<_>>();
    let gone = [(0, 99, 99, 99, 5000, -1), (1, 99, 99, 99, 5000, -1)];
    // Without those over other views: their plans are those of the views below as well.
    for view in VIEWS.iter().filter(|view| !view.contains("FROM chosen") && !view.contains("FROM grouped")) {
        let mut database = Database::new(&define(&[view]), &cut);
        database.epoch(&rows, &cut);
        let before = database.contents();
        let error = database.try_epoch(&gone, &cut).expect_err(view);
        let is_told = ["was told to take out a row", "a group has -", "occurs -1 times"];
        assert!(is_told.iter().any(|told| error.message.contains(told)), "{view}: {error}");
        // The workers' state is not to be trusted: nothing is taken in any more, and what was there is read as it was.
        assert_eq!(database.try_epoch(&[row(0, 30)], &cut), Err(error), "{view}");
        assert_eq!(database.contents(), before, "{view}");
    }
}
