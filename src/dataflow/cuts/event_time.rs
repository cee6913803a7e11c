//! Event time under every cut, and against what the definition says: the query over the changes that were not late.

use std::collections::BTreeMap;

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
use crate::ids::TableId;
use crate::time::Micros;

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

/// What `v0`, `v1` and `v10` are by definition, from the changes of each epoch and the watermarks before and after.
fn model(history: &[Changes]) -> Vec<[String; 3]> {
    let mut groups: BTreeMap<(i64, Micros), (i64, i64)> = BTreeMap::new();
    let mut watermark: Option<Micros> = None;
    let shown = |name: &str, groups: &BTreeMap<(i64, Micros), (i64, i64)>, has: &dyn Fn(Micros) -> bool| {
        let there = groups.iter().filter(|((_, end), (n, _))| *n > 0 && has(*end));
        let line =
            |((k, end), (n, s)): (&(i64, Micros), &(i64, i64))| format!("+ {k} 1970-01-01T00:00:00.{end:06} {n} {s}");
        let mut lines = there.map(line).collect::<Vec<_>>();
        lines.sort();
        format!("{name}\n{}", lines.join("\n"))
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
        seen.push([
            shown("v0", &groups, &|_| true),
            shown("v1", &groups, &closed),
            shown("v10", &groups, &|end| !closed(end)),
        ]);
    }
    seen
}

#[test]
fn every_cut_gives_the_views_that_the_definition_says() {
    let defined = define(&VIEWS);
    for seed in 0..6 {
        let history = history(seed, 40);
        let seen = run(&defined, &history, &Cut::plain());
        for (epoch, (seen, wanted)) in seen.iter().zip(model(&history)).enumerate() {
            for wanted in wanted {
                let name = wanted.lines().next().unwrap();
                let seen = seen.iter().find(|content| content.lines().next() == Some(name)).unwrap();
                assert_eq!(*seen, wanted, "seed {seed}, epoch {epoch}");
            }
        }
        let cuts = [
            Cut { step_rows: 1, memory_bytes: 1, restart_every: 7, ..Cut::plain() },
            Cut { workers: 3, step_rows: 2, ..Cut::plain() },
            Cut { workers: 4, step_rows: 3, memory_bytes: 1, restart_every: 3, ..Cut::plain() },
            Cut { workers: 2, step_rows: 1, spill_every: 2, ..Cut::plain() },
            Cut { workers: 2, step_rows: 1, memory_bytes: 1, restart_every: 5, spill_every: 1, ..Cut::plain() },
            Cut { workers: 3, step_rows: 7, rows_out: 2, ..Cut::plain() },
        ];
        cuts.iter().for_each(|cut| compare(&defined, &history, &seen, cut));
    }
}

#[test]
fn closed_windows_leave_no_state_behind() {
    let defined = define(&VIEWS);
    for (workers, memory_bytes, restart_every) in [(2, 1 << 26, 1000), (2, 1, 1000), (1, 1 << 26, 25)] {
        let cut = Cut { workers, memory_bytes, restart_every, ..Cut::plain() };
        let mut database = Database::new(&defined, &cut);
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
