//! Random histories: after each epoch the sum of all output equals the aggregates computed anew over the rows there are.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt::Display;

use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;

use AggregateFunction::Avg;
use AggregateFunction::BoolAnd;
use AggregateFunction::BoolOr;
use AggregateFunction::Count;
use AggregateFunction::Max;
use AggregateFunction::Min;
use AggregateFunction::Sum;

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

fn node(group: &[usize], retracts: bool) -> Node {
    let numeric = |precision, scale| SqlType::Numeric { precision, scale };
    let input = [
        ("g", SqlType::Text),
        ("h", SqlType::Integer),
        ("i", SqlType::BigInt),
        ("n", numeric(10, 2)),
        ("d", SqlType::Double),
        ("t", SqlType::Text),
        ("m", SqlType::Timestamp),
        ("b", SqlType::Boolean),
        ("f", SqlType::Boolean),
    ];
    let builder = NodeBuilder::new(&input, group, retracts)
        .call(Count, None, None, false, SqlType::BigInt)
        .call(Count, Some(2), Some(8), false, SqlType::BigInt)
        .call(Count, Some(5), None, true, SqlType::BigInt)
        .call(Sum, Some(2), None, false, numeric(38, 0))
        .call(Sum, Some(3), Some(8), true, numeric(38, 2))
        .call(Sum, Some(4), None, false, SqlType::Double)
        .call(Avg, Some(2), None, false, numeric(38, 16))
        .call(Min, Some(2), None, false, SqlType::BigInt)
        .call(Max, Some(5), Some(8), false, SqlType::Text)
        .call(Min, Some(6), None, false, SqlType::Timestamp)
        .call(Max, Some(4), None, false, SqlType::Double)
        .call(BoolAnd, Some(7), None, false, SqlType::Boolean)
        .call(BoolOr, Some(7), Some(8), false, SqlType::Boolean);
    builder.node
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
fn expected(world: &World, rows: &[Row]) -> BTreeMap<String, i64> {
    let mut groups: BTreeMap<String, Vec<&Row>> = BTreeMap::new();
    if world.node.group.is_empty() {
        groups.insert(String::new(), Vec::new());
    }
    for row in rows {
        let columns = row.text();
        let columns = columns.split(' ').collect::<Vec<_>>();
        let key = world.node.group.iter().map(|column| columns[*column]).collect::<Vec<_>>().join(" ");
        groups.entry(key).or_default().push(row);
    }
    let lines = groups.iter().map(|(group, rows)| format!("+ {}\n", recompute(group, rows))).collect::<String>();
    let printed = pretty::print(&pretty::parse(&world.node.output, &lines).unwrap()).unwrap();
    printed.lines().map(|line| (line[2..].to_string(), 1)).collect()
}

/// Adds what was put out to the content of the view.
fn apply(view: &mut BTreeMap<String, i64>, out: &str) {
    for line in out.lines() {
        let (weight, row) = line.split_once(' ').unwrap();
        let weight = if weight == "+" { 1 } else { -1 };
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
    let mut world = World::new(node(group, retracts));
    let (mut rows, mut view) = (Vec::new(), BTreeMap::new());
    apply(&mut view, &world.create().unwrap());
    for epoch in 0..30 {
        for step in steps(&mut random, &mut rows, retracts) {
            world.step(&step).unwrap();
        }
        apply(&mut view, &world.end_epoch().unwrap());
        assert_eq!(view, expected(&world, &rows), "seed {seed}, group {group:?}, epoch {epoch}");
        match random.random_range(0..8) {
            0 => world = world.restart(),
            1 | 2 => world.operator.shrink(0),
            3 => world.operator.shrink(world.operator.memory_bytes() / 2),
            _ => {}
        }
    }
}

#[test]
fn histories_with_retractions() {
    for seed in 0..6 {
        check(seed, &[0, 1], true);
        check(seed, &[1], true);
        check(seed, &[], true);
    }
}

#[test]
fn histories_of_inserts() {
    for seed in 0..4 {
        check(seed, &[0, 1], false);
        check(seed, &[], false);
    }
}
