//! `tests/golden/plans/*.json`: plans that older servers wrote. They are read for ever; new ones may be added, none changed.

use std::path::Path;

use crate::error::Kind;
use crate::plan::stored;
use crate::plan::tests::world::World;

/// A plan with every operation and every form of expression.
fn sample() -> crate::plan::ir::Plan {
    let mut world = World::new();
    world.run("CREATE TABLE a (id bigint PRIMARY KEY, k integer, t text)").unwrap();
    world.run("CREATE TABLE b (id bigint PRIMARY KEY, w integer, d double precision)").unwrap();
    let sql = "CREATE MATERIALIZED VIEW v AS \
        SELECT a.k, count(DISTINCT b.w) AS n, sum(b.d) FILTER (WHERE a.id > 3) AS s, \
               max(CASE WHEN a.t LIKE 'x%' THEN upper(a.t) ELSE 'none' END) AS m \
        FROM a LEFT JOIN b ON a.id = b.id AND b.w > a.k GROUP BY a.k \
        UNION ALL VALUES (1, 2, CAST(0.5 AS double precision), NULL)";
    world.run(sql).unwrap().expect("a view has a plan")
}

#[test]
fn fixtures_are_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/plans");
    let first = folder.join("version1.json");
    if std::env::var_os("UPDATE").is_some() && !first.exists() {
        std::fs::write(&first, stored::write(&sample()) + "\n").unwrap();
    }
    let mut count = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        let plan = stored::read(&text).unwrap();
        assert_eq!(stored::write(&plan), text.trim_end());
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn damage_is_told() {
    let good = stored::write(&sample());
    for (text, says) in [
        (String::from("rubbish"), "cannot be read"),
        (good[..good.len() / 2].to_string(), "cannot be read"),
        (good.replace("\"version\":1", "\"version\":2"), "version 2"),
        (good.replacen("\"id\":1,", "\"id\":7,", 1), "out of order"),
        (String::from("{\"version\":1,\"nodes\":[]}"), "ends in nothing"),
    ] {
        let error = stored::read(&text).unwrap_err();
        assert_eq!(error.kind, Kind::Corrupted);
        assert!(error.message.contains(says), "{error}");
    }
}
