//! SQL text: parsed, bound to a few tables, and where it is a view, planned. Whatever it is, it is answered.

#![no_main]

use std::sync::Arc;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use millstream::catalog::Catalog;
use millstream::catalog::Object;
use millstream::catalog::ObjectKind;
use millstream::catalog::Table;
use millstream::plan;
use millstream::sql;
use millstream::sql::BindContext;
use millstream::sql::bound::Bound;
use millstream::sql::bound::Ddl;

/// What statements may name.
const TABLES: &[&str] = &[
    "CREATE TABLE t (id INTEGER PRIMARY KEY, k BIGINT, s TEXT, f FLOAT8, n NUMERIC(10,2), b BOOLEAN, ts TIMESTAMP, tz TIMESTAMPTZ)",
    "CREATE TABLE u (id INTEGER PRIMARY KEY, t_id INTEGER NOT NULL, d DATE, i INTERVAL, by BYTEA)",
    "CREATE TABLE e (k TEXT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '1 minute')",
];

static CONTEXT: LazyLock<BindContext> = LazyLock::new(|| {
    let mut context = BindContext { search_path: vec!["public".into()], time_zone: "UTC".into(), ..BindContext::default() };
    for statement in TABLES {
        let parsed = sql::parse(statement).expect("it parses").pop().expect("a statement");
        let Ok(Bound::Ddl(Ddl::CreateTable { name, columns, defaults, primary_key, append_only, watermark, .. })) =
            sql::bind(&parsed, &context)
        else {
            panic!("{statement} creates no table");
        };
        let mut catalog = Catalog::clone(&context.catalog);
        catalog.insert(Object {
            id: catalog.next_object,
            schema: "public".into(),
            name: name.name,
            sql: statement.to_string(),
            depends_on: Default::default(),
            created: 0,
            retain_history_ms: None,
            kind: ObjectKind::Table(Table { columns, defaults, primary_key, append_only, watermark, feed: None }),
        });
        context.catalog = Arc::new(catalog);
    }
    context
});

fuzz_target!(|text: &str| {
    let Ok(statements) = sql::parse(text) else { return };
    for statement in &statements {
        let Ok(bound) = sql::bind(statement, &CONTEXT) else { continue };
        if let Bound::Ddl(Ddl::CreateMaterializedView { bound, options, .. }) = bound {
            let catalog = &CONTEXT.catalog;
            let Ok(lowered) = plan::lower(&bound, &options, catalog.next_object, catalog, catalog.next_table) else {
                continue;
            };
            let stored = plan::stored::write(&lowered.plan);
            assert_eq!(plan::stored::read(&stored).expect("what was written is read"), lowered.plan);
        }
    }
});
