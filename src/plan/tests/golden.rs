//! `tests/golden/planner/*.txt`: statements, `----`, the plans of the views among them or the error. `UPDATE=1` rewrites.

use std::path::Path;

use crate::plan::explain::explain;
use crate::plan::tests::world::World;

/// Runs one script and answers what it should look like.
fn play(script: &str) -> String {
    let mut world = World::new();
    let mut out = String::new();
    for block in script.split("\n\n").filter(|b| !b.trim().is_empty()) {
        let statements = block.split("----").next().unwrap().trim();
        out += &format!("{statements}\n");
        let mut answer = String::new();
        let code = statements.lines().filter(|l| !l.starts_with("--")).collect::<Vec<_>>().join(" ");
        for statement in code.split(';').filter(|s| !s.trim().is_empty()) {
            match world.run(statement) {
                Ok(None) => {}
                Ok(Some(plan)) => explain(&plan, &world.catalog).iter().for_each(|line| answer += &format!("{line}\n")),
                Err(e) => {
                    answer += &format!(
                        "{} {e}\n{}",
                        e.kind.sqlstate(),
                        e.hint.as_ref().map_or(String::new(), |h| format!("{h}\n"))
                    )
                }
            }
        }
        if !answer.is_empty() {
            out += &format!("----\n{answer}");
        }
        out.push('\n');
    }
    out
}

#[test]
fn scripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/planner");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    for path in files {
        let script = std::fs::read_to_string(&path).unwrap();
        let played = play(&script);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, played).unwrap();
        } else {
            assert_eq!(played, script, "{}; UPDATE=1 rewrites it", path.display());
        }
    }
}
