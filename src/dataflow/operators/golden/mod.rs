//! Golden scripts for operators: `tests/golden/operators/*.txt`. With `UPDATE=1` in the environment the answers are
//! written anew.
//!
//! A script begins with the nodes of a small plan, each by its name (see [`plan`]), and goes on like a conversation:
//!
//! ```text
//! l: input k bigint, name text
//! r: input k bigint, city text
//! a: arrange l [0]
//! b: arrange r [0]
//! j: join a b
//!
//! l + 1 ann
//! r + 1 rome
//! epoch
//! ----
//! + 1 ann 1 rome
//! ```
//!
//! `l + 1 ann` brings a row into an input, `step` and `epoch` end what they are named after, `shrink` drops all clean state
//! from memory, `restart` goes on from what is on disk. Below `----` stands, up to a blank line, all that the last node put
//! out since, consolidated and sorted, then errors of rows behind `!` and those that stopped an epoch behind `!!`. Every script is also run with `shrink`, and with
//! `restart`, after each epoch; the answers must not change.

mod plan;
pub(super) mod world;

use std::fmt::Write;
use std::path::Path;

use crate::dataflow::operators::golden::world::World;

/// What happens after each epoch besides what the script says.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Between {
    Nothing,
    Shrink,
    Restart,
}

/// Runs a script and writes it anew with the answers there are.
fn run(script: &str, between: Between) -> String {
    let split = script.find("\n\n").map_or(script.len(), |at| at + 1);
    let (header, body) = script.split_at(split);
    let mut world = World::new(plan::parse(header));
    let mut text = header.to_string();
    let mut failures = String::new();
    let mut skipping = false;
    for line in body.lines() {
        if line.is_empty() {
            skipping = false;
        }
        if skipping {
            continue;
        }
        writeln!(text, "{line}").unwrap();
        match line.trim() {
            "----" => {
                skipping = true;
                text.push_str(&world.answers());
                text.push_str(&std::mem::take(&mut failures));
            }
            line if line.is_empty() || line.starts_with('#') => (),
            "step" => world.step(),
            "shrink" => world.shrink(0),
            "restart" => world.restart(),
            "epoch" => match world.epoch() {
                Err(error) => writeln!(failures, "!! {error}").unwrap(),
                Ok(()) if between == Between::Shrink => world.shrink(0),
                Ok(()) if between == Between::Restart => world.restart(),
                Ok(()) => (),
            },
            line => {
                let (input, row) = line.split_once(' ').unwrap_or_else(|| panic!("no command: {line}"));
                world.bring(input, row);
            }
        }
    }
    text
}

fn check(path: &Path) {
    let script = std::fs::read_to_string(path).unwrap();
    let answer = run(&script, Between::Nothing);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &answer).unwrap();
    } else {
        assert_eq!(answer, script, "{}", path.display());
    }
    for between in [Between::Shrink, Between::Restart] {
        assert_eq!(run(&answer, between), answer, "{} with {between:?} after each epoch", path.display());
    }
}

#[test]
fn scripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/operators");
    let mut paths = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>();
    paths.sort();
    assert!(!paths.is_empty());
    paths.iter().for_each(|path| check(path));
}
