//! Random histories: after each epoch the sum of all output equals the aggregates computed anew over the rows there are. What
//! can be told in few rows is in the golden scripts `tests/golden/operators/aggregate_*.txt`.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt::Display;

use arrow::datatypes::SchemaRef;
use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::dataflow::operators::golden::world::World;
use crate::delta::Delta;
use crate::delta::pretty;
use crate::types::Column;
use crate::types::SqlType;

/// A row: its group and one number, from which the columns of all types are made.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    group: [Option<i64>; 2],
    value: Option<i64>,
    chosen: Option<bool>,
}

impl Row {
    fn random(random: &mut StdRng) -> Row {
        Row {
            group: [maybe(random, 0.1, |random| random.random_range(0..3)), Some(random.random_range(0..4))],
            value: maybe(random, 0.2, |random| random.random_range(-40..40)),
            chosen: maybe(random, 0.2, |random| random.random_bool(0.5)),
        }
    }

    /// The input columns: group, group, bigint, numeric(10,2), double, text, timestamp, bool, FILTER.
    fn text(&self) -> String {
        let value = self.value;
        [
            text(self.group[0].map(|group| format!("g{group}"))),
            text(self.group[1]),
            text(value),
            text(value.map(|value| format!("{}", value as f64 / 4.0))),
            text(value.map(|value| format!("{:?}", value as f64 / 4.0))),
            text(value.map(name)),
            text(value.map(moment)),
            text(value.map(|value| value > 0)),
            text(self.chosen),
        ]
        .join(" ")
    }
}

fn maybe<T>(random: &mut StdRng, nothing: f64, value: impl FnOnce(&mut StdRng) -> T) -> Option<T> {
    match random.random_bool(nothing) {
        true => None,
        false => Some(value(random)),
    }
}

fn text(value: Option<impl Display>) -> String {
    value.map_or("null".to_string(), |value| value.to_string())
}

/// A text that orders as the number does.
fn name(value: i64) -> String {
    format!("n{:02}", value + 40)
}

fn moment(value: i64) -> String {
    format!("2024-01-01T00:{:02}:00", (value + 40) % 60)
}

/// The plan: an input, and all kinds of aggregates over it.
fn plan(group: &str, retracts: bool) -> String {
    let multiset = |number: usize| if retracts { format!(" multiset {number}") } else { String::new() };
    let (longs, moments, doubles) = (multiset(2), multiset(3), multiset(4));
    format!(
        "i: input g text, h integer, i bigint, n numeric(10;2), d double, t text, m timestamp, b boolean, f boolean
         a: aggregate i [{group}] count(*) c bigint, count(#2) c bigint filter #8, \
         count(#5) c bigint distinct multiset 0, count(#5) c bigint distinct filter #8 multiset 0, \
         sum(#2) s numeric(38;0), sum(#3) s numeric(38;2) distinct filter #8 multiset 1, sum(#4) s double, avg(#2) a numeric(38;16), \
         min(#2) l bigint{longs}, max(#5) h text distinct filter #8 multiset 5, min(#6) l timestamp{moments}, \
         max(#4) h double{doubles}, bool_and(#7) q boolean, bool_or(#7) q boolean filter #8 \
         | #5 filter all #8, #3 filter #8, #2, #6, #4, #5 filter #8"
    )
}

/// The output row of a group, from its rows.
fn recompute(group: &str, rows: &[&Row]) -> String {
    let all = rows.iter().filter_map(|row| row.value).collect::<Vec<_>>();
    let chosen = rows.iter().filter(|row| row.chosen == Some(true)).filter_map(|row| row.value).collect::<Vec<_>>();
    let some = |values: &[i64], text: String| if values.is_empty() { "null".to_string() } else { text };
    let quarters = |sum: i64| format!("{}", sum as f64 / 4.0);
    let distinct = |values: &[i64]| values.iter().copied().collect::<BTreeSet<_>>();
    let total = all.iter().sum::<i64>();
    // Half a hundredth is rounded away from zero when the text is read, as it is for the input.
    let hundredths = |value: i64| (value as f64 / 4.0 * 100.0).round() as i64;
    let distinct_hundredths = distinct(&chosen).into_iter().map(hundredths).collect::<BTreeSet<_>>();
    [
        group.to_string(),
        rows.len().to_string(),
        chosen.len().to_string(),
        distinct(&all).len().to_string(),
        distinct(&chosen).len().to_string(),
        some(&all, total.to_string()),
        some(&chosen, format!("{}", distinct_hundredths.iter().sum::<i64>() as f64 / 100.0)),
        some(&all, quarters(total)),
        some(&all, average(total, all.len() as i64)),
        text(all.iter().min()),
        text(chosen.iter().max().map(|value| name(*value))),
        text(all.iter().map(|value| moment(*value)).min()),
        text(all.iter().max().map(|value| quarters(*value))),
        text((!all.is_empty()).then(|| all.iter().all(|value| *value > 0))),
        text((!chosen.is_empty()).then(|| chosen.iter().any(|value| *value > 0))),
    ]
    .join(" ")
}

/// `total / count` with 16 digits after the point, rounded half away from zero.
fn average(total: i64, count: i64) -> String {
    if count == 0 {
        return "null".to_string();
    }
    let unit = 10i128.pow(16);
    let scaled = total.unsigned_abs() as i128 * unit;
    let rounded = (2 * scaled + count as i128) / (2 * count as i128);
    let sign = if total < 0 && rounded != 0 { "-" } else { "" };
    format!("{sign}{}.{:016}", rounded / unit, rounded % unit)
}

/// What is there now: of the output columns, as text that the printer wrote.
fn expected(group: &[usize], schema: &SchemaRef, rows: &[Row]) -> BTreeMap<String, i64> {
    let mut groups: BTreeMap<String, Vec<&Row>> = BTreeMap::new();
    if group.is_empty() {
        groups.insert(String::new(), Vec::new());
    }
    for row in rows {
        let columns = row.text();
        let columns = columns.split(' ').collect::<Vec<_>>();
        let key = group.iter().map(|column| columns[*column]).collect::<Vec<_>>().join(" ");
        groups.entry(key).or_default().push(row);
    }
    let lines = groups.iter().map(|(group, rows)| format!("+ {}\n", recompute(group, rows))).collect::<String>();
    let column = |field: &arrow::datatypes::FieldRef| Column::new(field.name(), SqlType::of_field(field).unwrap());
    let columns = schema.fields().iter().map(column).collect::<Vec<_>>();
    let mut view = BTreeMap::new();
    apply(&mut view, &pretty::parse(&columns, &lines).unwrap());
    view
}

/// Adds what was put out to the content of the view.
fn apply(view: &mut BTreeMap<String, i64>, out: &Delta) {
    let rows = pretty::print(&Delta::inserts(out.batch().clone())).unwrap();
    for (row, weight) in rows.lines().zip(out.weights()) {
        *view.entry(row.to_string()).or_default() += weight;
    }
    view.retain(|_, weight| *weight != 0);
}

/// Lines of one epoch, step by step; `rows` becomes what is there after it.
fn steps(random: &mut StdRng, rows: &mut Vec<Row>, retracts: bool) -> Vec<String> {
    let mut steps = vec![String::new(); random.random_range(1..4)];
    let empties = retracts && random.random_bool(0.1);
    if empties {
        rows.drain(..).for_each(|row| steps[0] += &format!("- {}\n", row.text()));
    }
    for step in &mut steps {
        for _ in 0..random.random_range(0..30) {
            if retracts && !rows.is_empty() && random.random_bool(0.5) {
                let row = rows.swap_remove(random.random_range(0..rows.len()));
                *step += &format!("- {}\n", row.text());
            } else {
                let row = Row::random(random);
                let weight = random.random_range(1..3);
                *step += &format!("{weight:+} {}\n", row.text());
                rows.extend(std::iter::repeat_n(row, weight));
            }
        }
    }
    if retracts && random.random_bool(0.3) {
        steps.reverse();
    }
    steps
}

fn check(seed: u64, group: &[usize], retracts: bool) {
    let mut random = StdRng::seed_from_u64(seed);
    let list = group.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let mut world = World::of(&plan(&list, retracts));
    let (mut rows, mut view) = (Vec::new(), BTreeMap::new());
    for epoch in 0..30 {
        for step in steps(&mut random, &mut rows, retracts) {
            world.step();
            world.bring("i", &step);
        }
        world.epoch().unwrap();
        let out = world.output();
        apply(&mut view, &out);
        let expected = expected(group, &out.batch().schema(), &rows);
        assert_eq!(view, expected, "seed {seed}, group {group:?}, epoch {epoch}");
        match random.random_range(0..8) {
            0 => world.restart(),
            1 | 2 => world.shrink(0),
            3 => world.shrink(world.memory_bytes() / 2),
            4..7 => world.warm(),
            _ => {}
        }
    }
    world.shrink(0);
    assert!(world.memory_bytes() < 1000, "empty tables take {} bytes", world.memory_bytes());
}

#[test]
fn histories_with_retractions() {
    for seed in 0..4 {
        check(seed, &[0, 1], true);
        check(seed, &[], true);
    }
}

#[test]
fn histories_of_inserts() {
    for seed in 0..2 {
        check(seed, &[1], false);
        check(seed, &[], false);
    }
}

#[test]
fn groups_that_came_and_went_take_no_memory() {
    let mut world = World::of(
        "i: input g integer, x integer
         a: aggregate i [0] count(#1) n bigint distinct multiset 0, min(#1) m integer multiset 0 | #1",
    );
    let rows = |sign: char, groups: std::ops::Range<i32>| {
        groups.map(|group| format!("{sign} {group} {}\n", group % 7)).collect::<String>()
    };
    let mut most = 0;
    for from in (0..30_000).step_by(3000) {
        world.bring("i", &rows('+', from..from + 3000));
        world.epoch().unwrap();
        assert_eq!(world.output().len(), 3000 + if from > 0 { 2900 } else { 0 });
        most = most.max(world.memory_bytes());
        world.bring("i", &rows('-', from + 100..from + 3000));
    }
    world.epoch().unwrap();
    assert_eq!(world.output().len(), 2900);
    assert!(world.memory_bytes() < most, "{} bytes, and once {most}", world.memory_bytes());
    assert!(most < 3_000_000, "{most} bytes for 6,000 groups");
    world.bring("i", "- 27014 1");
    world.epoch().unwrap();
    assert_eq!(pretty::print(&world.output()).unwrap(), "- 27014 1 1\n");
}

#[test]
fn taking_back_more_than_came_is_a_defect() {
    let check = |plan: &str, rows: &str, message: &str| {
        let mut world = World::of(&format!("i: input g integer, x integer\na: aggregate i [0] {plan}"));
        world.bring("i", rows);
        assert_eq!(world.epoch().unwrap_err().message, message);
    };
    check("", "- 1 1", "state table 10: a group has -1 rows");
    let distinct = "count(#1) n bigint distinct multiset 0 | #1";
    check(distinct, "+ 1 1\n- 1 2", "state table 11: a value of a group occurs -1 times");
    let message = "state table 10: a row was taken back from input that was proved to be append-only";
    check("min(#1) l integer", "+ 1 1\n- 1 1", message);
}
