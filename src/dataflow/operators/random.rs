//! Joins against the naive one: random changes on both sides, random steps and epochs, with evictions and restarts in
//! between. A failure prints its seed.

use std::collections::BTreeMap;

use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::dataflow::operator::Room;
use crate::dataflow::operators::golden::world::World;
use crate::delta::pretty;

/// A collection: rows as text with their weights.
type Rows = BTreeMap<String, i64>;

/// What a run is like.
struct Plan {
    /// The nodes; inputs are `l` and `r`, or only `l` where it is joined with itself.
    nodes: &'static str,
    /// Whether `l` stands on both sides.
    alone: bool,
    /// So many different keys.
    keys: u32,
    /// So many different rows of a key.
    rows: u32,
    /// Changes in a step.
    changes: usize,
    /// How many of ten changes take a row back.
    retractions: u32,
    epochs: usize,
}

/// What is so small takes no less, however little is in it.
const SMALL: usize = 32 << 10;

const TWO: &str =
    "l: input k bigint, v text\nr: input k bigint, v text\na: arrange l [0]\nb: arrange r [0]\nj: join a b\n";
const ONE: &str = "l: input k bigint, v text\na: arrange l [0]\nj: join a a\n";

fn run(plan: &Plan, seed: u64) {
    run_in(plan, seed, Room::ENDLESS);
    run_in(plan, seed, Room { rows: 1 + seed as usize % 4 * 20, bytes: 1 << (4 + 3 * (seed % 3)), turn: true });
}

fn run_in(plan: &Plan, seed: u64, room: Room) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = World::of(plan.nodes);
    world.room = room;
    let (mut left, mut right, mut answer) = (Rows::new(), Rows::new(), Rows::new());
    for epoch in 0..plan.epochs {
        for _ in 0..random.random_range(1..4) {
            world.bring("l", &changes(plan, &mut left, &mut random));
            if !plan.alone {
                world.bring("r", &changes(plan, &mut right, &mut random));
            }
            world.step();
        }
        world.epoch().unwrap_or_else(|error| panic!("{error} in epoch {epoch} of seed {seed}"));
        for line in pretty::print(&world.output()).unwrap().lines() {
            let (weight, row) = weighed(line);
            add(&mut answer, row, weight);
        }
        assert_eq!(answer, join(&left, if plan.alone { &left } else { &right }), "epoch {epoch} of seed {seed}");
        match random.random_range(0..8) {
            0 => world.restart(),
            1 => world.shrink(0),
            3..6 => world.warm(),
            2 => {
                let half = world.memory_bytes() / 2;
                world.shrink(half / 2);
                assert!(world.memory_bytes() <= half.max(SMALL), "epoch {epoch} of seed {seed}");
            }
            _ => (),
        }
    }
}

/// Some changes of a collection, as text. Only rows that are there are taken out.
fn changes(plan: &Plan, rows: &mut Rows, random: &mut StdRng) -> String {
    let mut text = String::new();
    for _ in 0..random.random_range(0..=plan.changes) {
        let out = random.random_range(0..10) < plan.retractions && !rows.is_empty();
        let row = match out {
            true => rows.keys().nth(random.random_range(0..rows.len())).unwrap().clone(),
            false => {
                let (key, row) = (random.random_range(0..plan.keys), random.random_range(0..plan.rows));
                let key = if key == 0 { "null".to_string() } else { key.to_string() };
                format!("{key} {}", "v".repeat(row as usize % 7) + &row.to_string())
            }
        };
        let weight = if out { -random.random_range(1..=rows[&row]) } else { random.random_range(1..3) };
        text.push_str(&format!("{weight:+} {row}\n"));
        add(rows, &row, weight);
    }
    text
}

fn add(rows: &mut Rows, row: &str, weight: i64) {
    let sum = rows.entry(row.to_string()).or_default();
    *sum += weight;
    if *sum == 0 {
        rows.remove(row);
    }
}

fn weighed(line: &str) -> (i64, &str) {
    let (weight, row) = line.split_once(' ').unwrap();
    (
        match weight {
            "+" => 1,
            "-" => -1,
            number => number.parse().unwrap(),
        },
        row,
    )
}

fn join(left: &Rows, right: &Rows) -> Rows {
    let key = |row: &str| row.split_once(' ').unwrap().0.to_string();
    let mut by_key = BTreeMap::<String, Vec<(&String, i64)>>::new();
    right.iter().for_each(|(row, weight)| by_key.entry(key(row)).or_default().push((row, *weight)));
    let mut answer = Rows::new();
    for (l, weight) in left.iter().filter(|(l, _)| key(l) != "null") {
        for (r, other) in by_key.get(&key(l)).into_iter().flatten() {
            add(&mut answer, &format!("{l} {r}"), weight * other);
        }
    }
    answer
}

#[test]
fn many_keys() {
    let plan = Plan { nodes: TWO, alone: false, keys: 40, rows: 20, changes: 30, retractions: 4, epochs: 40 };
    (0..6).for_each(|seed| run(&plan, seed));
}

#[test]
fn few_keys_that_come_and_go() {
    let plan = Plan { nodes: TWO, alone: false, keys: 4, rows: 3, changes: 3, retractions: 5, epochs: 150 };
    (10..14).for_each(|seed| run(&plan, seed));
}

#[test]
fn a_collection_with_itself() {
    let plan = Plan { nodes: ONE, alone: true, keys: 8, rows: 10, changes: 8, retractions: 4, epochs: 80 };
    (20..24).for_each(|seed| run(&plan, seed));
}

#[test]
fn memory_can_be_taken_back() {
    let plan = Plan { nodes: TWO, alone: false, keys: 5000, rows: 2, changes: 1500, retractions: 2, epochs: 6 };
    (30..32).for_each(|seed| run(&plan, seed));
}

/// One key that grows far beyond what is folded whole, mostly while its rows are not in memory.
#[test]
fn a_large_key() {
    let mut random = StdRng::seed_from_u64(40);
    let mut world = World::of(TWO);
    let mut left = Rows::new();
    for epoch in 0..60 {
        let mut text = String::new();
        for _ in 0..random.random_range(1..400) {
            let out = random.random_range(0..10) < 2 && !left.is_empty();
            let row = match out {
                true => left.keys().nth(random.random_range(0..left.len().min(500))).unwrap().clone(),
                false => format!("1 {}", random.random_range(0..1_000_000)),
            };
            let weight = if out { -left[&row] } else { 1 };
            text.push_str(&format!("{weight:+} {row}\n"));
            add(&mut left, &row, weight);
        }
        world.bring("l", &text);
        world.epoch().unwrap();
        world.output();
        match random.random_range(0..4) {
            0 => world.restart(),
            1 => world.shrink(0),
            2 => world.warm(),
            _ => (),
        }
        if epoch % 10 == 9 {
            world.bring("r", "+ 1 x");
            world.epoch().unwrap();
            let mut answer = Rows::new();
            for line in pretty::print(&world.output()).unwrap().lines() {
                let (weight, row) = weighed(line);
                add(&mut answer, row.strip_suffix(" 1 x").unwrap(), weight);
            }
            assert_eq!(answer, left, "epoch {epoch}");
            world.bring("r", "- 1 x");
            world.epoch().unwrap();
            world.output();
        }
    }
    assert!(left.len() > 6000, "{}", left.len());
}
