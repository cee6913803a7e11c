//! Golden scripts: rows in, and after `----` what the epoch puts out.

use super::*;

use AggregateFunction::Avg;
use AggregateFunction::BoolAnd;
use AggregateFunction::BoolOr;
use AggregateFunction::Count;
use AggregateFunction::Max;
use AggregateFunction::Min;
use AggregateFunction::Sum;

/// Runs a script: paragraphs of rows, steps parted by `step`, with what is put out after `----`. A paragraph may begin with
/// `create`, `restart` or `evict`. An error of the operator is what its epoch puts out.
fn check(node: NodeBuilder, script: &str) {
    let mut world = World::new(node.node);
    for paragraph in script.trim().split("\n\n") {
        let (commands, expected) = paragraph.split_once("----").unwrap_or((paragraph, ""));
        let mut rows = String::new();
        let mut out = Ok(String::new());
        for line in commands.lines().map(str::trim) {
            match line {
                "create" => out = world.create(),
                "restart" => world = world.restart(),
                "evict" => world.operator.shrink(0),
                "step" => out = world.step(&std::mem::take(&mut rows)).map(|()| String::new()),
                row => rows.extend([row, "\n"]),
            }
        }
        let out = out.and_then(|out| {
            world.step(&rows)?;
            Ok(out + &world.end_epoch()?)
        });
        let out = out.unwrap_or_else(|error| format!("{error}\n"));
        let expected = expected.trim().lines().map(|line| format!("{}\n", line.trim())).collect::<String>();
        assert_eq!(out, expected, "\nafter\n{commands}");
    }
}

const BIG: SqlType = SqlType::BigInt;

fn numeric(precision: u8, scale: i8) -> SqlType {
    SqlType::Numeric { precision, scale }
}

#[test]
fn counts_and_sums_follow_retractions() {
    let input = [("g", SqlType::Text), ("x", SqlType::Integer)];
    let node = NodeBuilder::new(&input, &[0], true)
        .call(Count, None, None, false, BIG)
        .call(Count, Some(1), None, false, BIG)
        .call(Sum, Some(1), None, false, BIG)
        .call(Avg, Some(1), None, false, numeric(38, 16));
    check(
        node,
        "
        + a 1
        + a null
        + b 5
        +2 null 7
        ----
        + a 2 1 1 1.0000000000000000
        + b 1 1 5 5.0000000000000000
        + null 2 2 14 7.0000000000000000

        - a 1
        + a 2
        step
        + a 3
        - b 5
        step
        + b 5
        ----
        - a 2 1 1 1.0000000000000000
        + a 3 2 5 2.5000000000000000

        - a 2
        - a 3
        -2 null 7
        ----
        + a 1 0 null null
        - a 3 2 5 2.5000000000000000
        - null 2 2 14 7.0000000000000000

        restart
        - a null
        + b 6
        + b 5
        ----
        - a 1 0 null null
        - b 1 1 5 5.0000000000000000
        + b 3 3 16 5.3333333333333333

        evict
        + a 1
        - a 1
        ----
        ",
    );
}

#[test]
fn one_row_without_groups() {
    let node = NodeBuilder::new(&[("x", SqlType::Double)], &[], true)
        .call(Count, None, None, false, BIG)
        .call(Sum, Some(0), None, false, SqlType::Double)
        .call(Max, Some(0), None, false, SqlType::Double);
    check(
        node,
        "
        create
        ----
        + 0 null null

        + 1e300
        + 1
        ----
        - 0 null null
        + 2 1e300 1e300

        - 1e300
        ----
        + 1 1.0 1.0
        - 2 1e300 1e300

        restart
        - 1
        ----
        + 0 null null
        - 1 1.0 1.0

        restart
        + NaN
        + 3
        ----
        - 0 null null
        + 2 NaN NaN

        - NaN
        ----
        + 1 3.0 3.0
        - 2 NaN NaN
        ",
    );
}

#[test]
fn distinct_rows() {
    let node = NodeBuilder::new(&[("a", SqlType::Integer), ("b", SqlType::Text)], &[0, 1], true);
    check(
        node,
        "
        + 1 x
        + 1 x
        + 2 null
        ----
        + 1 x
        + 2 null

        - 1 x
        ----

        evict
        - 1 x
        + 2 null
        ----
        - 1 x
        ",
    );
}

#[test]
fn distinct_and_filter() {
    let node = NodeBuilder::new(&[("x", SqlType::Integer), ("f", SqlType::Boolean)], &[], true)
        .call(Count, Some(0), None, true, BIG)
        .call(Sum, Some(0), Some(1), true, BIG)
        .call(Count, None, Some(1), false, BIG)
        .call(BoolAnd, Some(1), None, false, SqlType::Boolean)
        .call(BoolOr, Some(1), None, false, SqlType::Boolean);
    check(
        node,
        "
        create
        + 1 true
        + 1 false
        + 2 false
        + null true
        ----
        + 0 null 0 null null
        - 0 null 0 null null
        + 2 1 2 false true

        - 1 true
        + 3 null
        ----
        - 2 1 2 false true
        + 3 null 1 false true

        evict
        - 1 false
        - 2 false
        - null true
        ----
        + 1 null 0 null null
        - 3 null 1 false true
        ",
    );
}

#[test]
fn extremes_come_back() {
    let node = NodeBuilder::new(&[("g", SqlType::Integer), ("t", SqlType::Text)], &[0], true)
        .call(Min, Some(1), None, false, SqlType::Text)
        .call(Max, Some(1), None, false, SqlType::Text);
    check(
        node,
        "
        + 1 b
        + 1 b
        + 1 d
        + 2 z
        + 0 a
        ----
        + 0 a a
        + 1 b d
        + 2 z z

        - 1 d
        + 1 c
        step
        + 1 bb
        ----
        + 1 b c
        - 1 b d

        restart
        - 1 c
        - 1 b
        ----
        + 1 b bb
        - 1 b c

        - 1 b
        - 1 bb
        + 1 null
        ----
        - 1 b bb
        + 1 null null

        evict
        + 1 x
        - 2 z
        ----
        - 1 null null
        + 1 x x
        - 2 z z
        ",
    );
}

#[test]
fn a_sum_that_does_not_fit_is_an_error_of_its_group() {
    let node = NodeBuilder::new(&[("g", SqlType::Integer), ("x", numeric(38, 0))], &[0], true).call(
        Sum,
        Some(1),
        None,
        false,
        numeric(38, 0),
    );
    check(
        node,
        "
        + 1 60000000000000000000000000000000000000
        + 2 1
        ----
        + 1 60000000000000000000000000000000000000
        + 2 1

        + 1 60000000000000000000000000000000000000
        ----
        - 1 60000000000000000000000000000000000000
        +1 error: numeric field overflow (The result has more than 38 digits.)

        restart
        + 1 5
        ----

        - 1 60000000000000000000000000000000000000
        ----
        + 1 60000000000000000000000000000000000005
        -1 error: numeric field overflow (The result has more than 38 digits.)
        ",
    );
}

#[test]
fn taking_back_more_than_came_is_a_defect() {
    let node = || NodeBuilder::new(&[("g", SqlType::Integer), ("x", SqlType::Integer)], &[0], true);
    check(node(), "- 1 1\n----\nstate table 1: a group has -1 rows");
    let distinct = node().call(Count, Some(1), None, true, BIG);
    check(distinct, "+ 1 1\n- 1 2\n----\nstate table 2: a value of a group occurs -1 times");
    let mut appending = node();
    appending.retracts = false;
    let appending = appending.call(Min, Some(1), None, false, SqlType::Integer);
    check(
        appending,
        "+ 1 1\n- 1 1\n----\nstate table 1: a row was taken back from input that was proved to be append-only",
    );
}
