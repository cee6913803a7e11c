//! What statements are bound to, and why others are refused.

use std::sync::Arc;

use crate::catalog::Feed;
use crate::catalog::{Catalog, MaterializedView, Object, ObjectKind, Source, Storage, Table, View, Watermark};
use crate::error::Error;
use crate::sql::bound::{Bound, Ddl, Dml, OnConflict, Query};
use crate::sql::{BindContext, bind, parse};
use crate::types::{Column, SqlType};

fn column(name: &str, ty: SqlType) -> Column {
    Column::new(name, ty)
}

/// `t(id int primary key, name varchar(5), price numeric(10,2), ts timestamptz default now(), flag bool)`, `log` (append
/// only, no key, a watermark), `src` (a source), `v` (a view of t), `mv`.
fn context() -> BindContext {
    let mut catalog = Catalog::new();
    let mut add = |name: &str, kind| {
        let id = catalog.next_object;
        let (schema, sql) = ("public".to_string(), String::new());
        let object = Object {
            id,
            schema,
            name: name.into(),
            sql,
            depends_on: Default::default(),
            created: 0,
            retain_history_ms: None,
            kind,
        };
        catalog.insert(object);
    };
    let columns = vec![
        Column { nullable: false, ..column("id", SqlType::Integer) },
        column("name", SqlType::Varchar(5)),
        column("price", SqlType::Numeric { precision: 10, scale: 2 }),
        column("ts", SqlType::Timestamptz),
        column("flag", SqlType::Boolean),
    ];
    let defaults = vec![None, None, None, Some("now()".into()), Some("true".into())];
    let table = |columns: &[Column], defaults, primary_key, append_only, watermark| {
        ObjectKind::Table(Table {
            columns: columns.to_vec(),
            defaults,
            primary_key,
            append_only,
            watermark,
            feed: None,
        })
    };
    add("t", table(&columns, defaults, vec![0], false, None));
    let events = [column("k", SqlType::Integer), column("at", SqlType::Timestamp)];
    let watermark = Watermark { column: 1, expression: "at".into(), idle_timeout_ms: 1 };
    add("log", table(&events, vec![None, None], vec![], true, Some(watermark)));
    add("plain", table(&events, vec![None, None], vec![], false, None));
    let source = Source {
        columns: events.to_vec(),
        watermark: None,
        feed: Feed {
            fills: Vec::new(),
            connector: "kafka".into(),
            options: Default::default(),
            format: None,
            start: Default::default(),
            identity: None,
        },
    };
    add("src", ObjectKind::Source(source));
    let view_columns = vec![column("id", SqlType::Integer), column("twice", SqlType::Integer)];
    add(
        "v",
        ObjectKind::View(View {
            columns: view_columns.clone(),
            query: "SELECT id, id * 2 FROM t".into(),
            search_path: vec!["public".into()],
        }),
    );
    let view = MaterializedView {
        columns: view_columns,
        query: "SELECT id, id * 2 FROM t".into(),
        storage: Storage::Hashed,
        plan: String::new(),
    };
    add("mv", ObjectKind::MaterializedView(view));
    BindContext {
        catalog: Arc::new(catalog),
        search_path: vec!["$user".into(), "public".into()],
        time_zone: "UTC".into(),
        user: "alice".into(),
        ..BindContext::default()
    }
}

fn bound(sql: &str) -> Result<Bound, Error> {
    bind(&parse(sql)?.remove(0), &context())
}

/// SQLSTATE, message and position, with the hint if there is one.
fn error(sql: &str) -> String {
    let error = bound(sql).expect_err(sql);
    let position = error.position.map_or(String::new(), |p| format!(" @{p}"));
    let hint = error.hint.map_or(String::new(), |hint| format!(" ({hint})"));
    format!("{} {}{position}{hint}", error.kind.sqlstate(), error.message)
}

fn query(sql: &str) -> Query {
    match bound(sql) {
        Ok(Bound::Query(query)) => query,
        Ok(other) => panic!("{sql}: {other:?}"),
        Err(error) => panic!("{sql}: {error:?}"),
    }
}

/// The columns as `name type`.
fn columns(query: &Query) -> String {
    query.columns.iter().map(|c| format!("{} {}", c.name, c.ty)).collect::<Vec<_>>().join(", ")
}

#[test]
fn columns_are_called_and_typed_as_in_postgres() {
    for (sql, expected) in [
        (
            "SELECT 1, 'a', NULL, 1.5, true",
            "?column? integer, ?column? text, ?column? text, ?column? numeric(2,1), bool boolean",
        ),
        ("SELECT id, id FROM t", "id integer, id integer"),
        (
            "SELECT id, t.* FROM t",
            "id integer, id integer, name character varying(5), price numeric(10,2), ts timestamp with time zone, flag boolean",
        ),
        ("SELECT count(*), count(*), max(id) FROM t", "count bigint, count bigint, max integer"),
        ("SELECT count FROM (SELECT count(*) FROM t) s", "count bigint"),
        ("SELECT id::text, 1::bigint, now() FROM t", "id text, int8 bigint, now timestamp with time zone"),
        ("SELECT a.id, b.id FROM t a JOIN t b ON a.id = b.id", "id integer, id integer"),
        ("SELECT * FROM v", "id integer, twice integer"),
        ("SELECT * FROM public.mv", "id integer, twice integer"),
        ("SELECT * FROM millstream.public.mv", "id integer, twice integer"),
        ("SELECT current_user, user", "current_user text, user text"),
        ("SELECT CASE WHEN flag THEN 1 ELSE 2 END, coalesce(id, 0) FROM t", "case integer, coalesce integer"),
        (
            "SELECT window_start, window_end, k FROM TUMBLE(log, at, INTERVAL '1 minute')",
            "window_start timestamp without time zone, window_end timestamp without time zone, k integer",
        ),
        ("SELECT name COLLATE \"C\" FROM t", "name character varying(5)"),
        ("SELECT id FROM t WHERE name OPERATOR(pg_catalog.~) 'a'", "id integer"),
        ("SELECT relname FROM pg_class", "relname name"),
        ("SELECT relname FROM pg_catalog.pg_class WHERE oid = '5'", "relname name"),
    ] {
        assert_eq!(columns(&query(sql)), expected, "{sql}");
    }
}

#[test]
fn queries_that_need_more_than_datafusion_gives() {
    for sql in [
        "SELECT id FROM t WHERE id = '5' AND flag = 't' AND id BETWEEN '1' AND '3' AND id IN ('1', '2')",
        "SELECT name, sum(price) FROM t GROUP BY name HAVING sum(price) > 1 ORDER BY sum(price) DESC, 1 LIMIT 5",
        "SELECT lower(name), count(*) FROM t GROUP BY lower(name) ORDER BY lower(name)",
        "SELECT id + 1 FROM t GROUP BY id + 1 ORDER BY id + 1",
        "SELECT DISTINCT id + 1 FROM t ORDER BY id + 1",
        "SELECT DISTINCT id + 1 AS n, flag FROM t ORDER BY flag, id + 1 DESC",
        "WITH t AS (SELECT 1 AS x) SELECT x FROM t",
        "SELECT s.* FROM (SELECT a.id, b.id FROM t a, t b) s",
        "SELECT id FROM t UNION ALL SELECT NULL",
        "SELECT id FROM t WHERE EXISTS (SELECT 1 FROM mv WHERE mv.id = t.id) AND id NOT IN (SELECT id FROM v)",
        "SELECT w.k FROM TUMBLE((SELECT k, at FROM log WHERE k > 1), at, INTERVAL '1 hour', INTERVAL '5 minutes') w",
        "SELECT (SELECT max(id) FROM mv), ts FROM t WHERE ts > now() - interval '1 hour'",
        "SELECT row_number() OVER (ORDER BY id), rank() OVER (PARTITION BY flag ORDER BY id) FROM t",
        "TABLE t",
        "VALUES (1, 'a'), (2, NULL)",
    ] {
        query(sql);
    }
}

#[test]
fn parameters_are_inferred() {
    for (sql, expected) in [
        ("SELECT * FROM t WHERE id = $1 AND name = $2", "integer, text"),
        ("SELECT id + $1 FROM t LIMIT $2", "integer, bigint"),
        ("SELECT $1", "text"),
        ("SELECT $1::numeric(5,1), $1", "numeric(5,1)"),
        (
            "SELECT id FROM t WHERE price > $2 AND ts BETWEEN $1 AND $3",
            // As many digits as it comes with.
            "timestamp with time zone, numeric(38,9), timestamp with time zone",
        ),
        ("SELECT id FROM t WHERE id IN ($1, $2)", "integer, integer"),
    ] {
        let types: Vec<_> = query(sql).parameters.iter().map(ToString::to_string).collect();
        assert_eq!(types.join(", "), expected, "{sql}");
    }
}

/// Each statement is refused, with an error that begins so.
fn refused(cases: &[(&str, &str)]) {
    for (sql, expected) in cases {
        let error = error(sql);
        assert!(error.starts_with(expected), "{sql}\n  {error}\n  {expected}");
    }
}

#[test]
fn refused_queries_say_where_and_what_to_do() {
    refused(&[
        ("SELECT * FROM tt", "42P01 relation \"tt\" does not exist @15 (Perhaps you meant \"t\".)"),
        (
            "SELECT nmae FROM t",
            "42703 column \"nmae\" does not exist @8 (Perhaps you meant to reference the column \"name\".)",
        ),
        (
            "SELECT x.nmae FROM t x",
            "42703 column x.nmae does not exist @8 (Perhaps you meant to reference the column \"x.name\".)",
        ),
        ("SELECT * FROM t a JOIN t b", "42601 a join lacks its condition @24 (Write ON"),
        ("SELECT z.id FROM t", "42P01 missing FROM-clause entry for table \"z\" @8"),
        ("SELECT id FROM t a, t b", "42702 column reference \"id\" is ambiguous @8"),
        ("SELECT lowr(name) FROM t", "42883 function lowr does not exist @8 (Perhaps you meant lower().)"),
        (
            "SELECT name, count(*) FROM t",
            "42803 column \"t.name\" must appear in the GROUP BY clause or be used in an aggregate function @8",
        ),
        ("SELECT * FROM src", "0A000 source \"src\" cannot be read directly @15 (Its rows"),
        ("SELECT * FROM other.t", "42P01 relation \"other.t\" does not exist @15"),
        ("SELECT * FROM db.public.t", "0A000 cross-database references are not implemented: \"db.public.t\""),
        (
            "SELECT * FROM t FULL JOIN mv USING (id)",
            "0A000 USING and NATURAL are not supported with RIGHT and FULL joins @27",
        ),
        (
            "SELECT abs(id) IN (SELECT id FROM mv) FROM t",
            "0A000 an expression IN (subquery) is supported as a condition",
        ),
        ("SELECT count(id IN (SELECT id FROM mv)) FROM t", "0A000 EXISTS and IN (subquery) are supported in WHERE"),
        ("SELECT id::foo FROM t", "42704 type \"foo\" does not exist"),
        ("SELECT id::integr FROM t", "42704 type \"integr\" does not exist (Perhaps you meant \"integer\".)"),
        ("SELECT $2", "42P18 could not determine data type of parameter $1"),
        ("SELECT * FROM TUMBLE(t, name, INTERVAL '1 minute')", "42804 column \"name\" of TUMBLE must be a timestamp"),
        ("SELECT * FROM TUMBLE(t, ts, INTERVAL '1 month')", "0A000 a window cannot be measured in months or years"),
        (
            "CREATE MATERIALIZED VIEW w AS SELECT now() FROM t",
            "0A000 function now() is not supported in a materialized view",
        ),
        (
            "CREATE MATERIALIZED VIEW w AS SELECT random() FROM t",
            "0A000 function random() is not supported in a materialized view",
        ),
        ("CREATE VIEW w AS SELECT $1", "42P02 there is no parameter $1"),
        ("CREATE VIEW w AS SELECT id, id FROM t", "42701 column \"id\" specified more than once"),
    ]);
}

#[test]
fn refused_definitions_and_changes_say_where_and_what_to_do() {
    refused(&[
        ("CREATE TABLE a (x int, x text)", "42701 column \"x\" specified more than once @24"),
        ("CREATE TABLE a (x int, PRIMARY KEY (y))", "42703 column \"y\" named in key does not exist @37"),
        (
            "CREATE TABLE a (x int PRIMARY KEY, PRIMARY KEY (x))",
            "42P16 multiple primary keys for table \"a\" are not allowed",
        ),
        (
            "CREATE TABLE a (x text, WATERMARK FOR x AS x)",
            "42804 column \"x\" of a watermark must be a timestamp, not text @39",
        ),
        (
            "CREATE TABLE a (x timestamp, WATERMARK FOR x AS x::date)",
            "42804 the expression of a watermark must be of type",
        ),
        ("CREATE TABLE a (x int DEFAULT 'a')", "22P02 invalid input syntax for type integer: \"a\" @31"),
        ("CREATE TABLE a (x int DEFAULT y)", "42703 column \"y\" does not exist @31"),
        ("CREATE TABLE a (ms_x int)", "42P17 column name \"ms_x\" is reserved @17"),
        (
            "CREATE TABLE a (x int) WITH (idle_timeuot = '1s')",
            "22023 unrecognized option \"idle_timeuot\" @30 (Perhaps you meant \"idle_timeout\".)",
        ),
        ("CREATE TABLE pg_catalog.a (x int)", "0A000 schema \"pg_catalog\" belongs to the system"),
        ("CREATE SOURCE s (x int)", "22023 option \"connector\" is missing (Write WITH"),
        (
            "CREATE SOURCE s (x int) WITH (conector = 'kafka')",
            "22023 option \"connector\" is missing @31 (Perhaps you meant \"connector\".)",
        ),
        (
            "CREATE SOURCE s (x int) WITH (connector = 'kafak')",
            "42704 connector \"kafak\" does not exist @31 (Perhaps you meant \"kafka\".)",
        ),
        (
            "CREATE SOURCE s (x int) WITH (connector = 'kafka', topik = 't')",
            "42704 option \"topik\" does not exist for connector \"kafka\" @52 (Perhaps you meant \"topic\".)",
        ),
        (
            "CREATE TABLE s (x int) WITH (connector = 'datagen', rate = 'many')",
            "22023 invalid value for option \"rate\": \"many\" @53",
        ),
        (
            "CREATE SOURCE s (x int) WITH (connector = 'kafka') FORMAT UPSERT ENCODE JSON",
            "0A000 FORMAT UPSERT changes rows, which a source does not keep @52",
        ),
        ("DROP TABLE v", "42809 \"v\" is not a table @12 (Use DROP VIEW to remove a view.)"),
        ("DROP TABLE nope", "42P01 table \"nope\" does not exist @12"),
        ("INSERT INTO mv VALUES (1)", "42809 cannot insert into materialized view \"mv\" @13"),
        ("INSERT INTO t (idd) VALUES (1)", "42703 column \"idd\" of relation \"t\" does not exist @16"),
        ("INSERT INTO t (id, id) VALUES (1, 2)", "42701 column \"id\" specified more than once @20"),
        ("INSERT INTO t (id) VALUES (1, 2)", "42601 INSERT has more expressions than target columns"),
        ("INSERT INTO t (id, name) VALUES (1)", "42601 INSERT has more target columns than expressions"),
        ("INSERT INTO t (id) VALUES ('x')", "22P02 invalid input syntax for type integer: \"x\""),
        (
            "INSERT INTO t (id) SELECT name FROM t",
            "42804 column \"id\" is of type integer but expression is of type character varying(5) (You will need",
        ),
        (
            "INSERT INTO t (flag) VALUES (1)",
            "42804 column \"flag\" is of type boolean but expression is of type integer",
        ),
        ("INSERT INTO t VALUES (1) ON CONFLICT (name) DO NOTHING", "42P10 there is no unique or exclusion constraint"),
        ("INSERT INTO t (id) SELECT k FROM src", "0A000 source \"src\" cannot be read directly"),
        ("UPDATE log SET k = 1", "0A000 cannot update append-only table \"log\" @8"),
        ("DELETE FROM log", "0A000 cannot delete from append-only table \"log\" @13"),
        ("TRUNCATE t, log", "0A000 cannot truncate append-only table \"log\" @13"),
        ("UPDATE t SET id = 1, id = 2", "42601 multiple assignments to same column \"id\" @22"),
        ("UPDATE t SET flag = 1", "42804 column \"flag\" is of type boolean but expression is of type integer"),
    ]);
}

#[test]
fn dml_is_taken_apart() {
    let dml = |sql: &str| match bound(sql) {
        Ok(Bound::Dml(dml)) => dml,
        other => panic!("{sql}: {other:?}"),
    };
    let Dml::Insert { source, conflict, returning, .. } =
        dml("INSERT INTO t AS x (id, name, price) VALUES ($1, 'abc', '1.5'), (2, DEFAULT, $2)
         ON CONFLICT (id) DO UPDATE SET price = x.price + excluded.price, name = $3 WHERE x.flag
         RETURNING *, id + 1 AS next")
    else {
        panic!("no insert")
    };
    assert_eq!(
        columns(&source),
        "id integer, name character varying(5), price numeric(10,2), ts timestamp with time zone, flag boolean"
    );
    assert_eq!(source.parameters.len(), 3);
    let OnConflict::Update { assignments, filter } = conflict else { panic!("no update") };
    assert_eq!(assignments.iter().map(|(i, _)| *i).collect::<Vec<_>>(), [2, 1]);
    assert!(assignments[0].1.to_string().contains("old.price"), "{}", assignments[0].1);
    assert!(assignments[0].1.to_string().contains("excluded.price"));
    assert_eq!(filter.unwrap().to_string(), "old.flag");
    assert_eq!(returning.unwrap().columns.last().unwrap().name, "next");

    let Dml::Update { scan, predicate, assignments, computed, .. } =
        dml("UPDATE t x SET price = x.price * 2, (flag, name) = (DEFAULT, 'q') WHERE x.id = $1")
    else {
        panic!("no update")
    };
    assert!(!computed);
    assert_eq!(scan.parameters, [SqlType::Integer]);
    assert_eq!(scan.columns.len(), 5);
    assert!(predicate.unwrap().to_string().starts_with("id = $1"));
    assert_eq!(assignments.iter().map(|(i, _)| *i).collect::<Vec<_>>(), [2, 4, 1]);

    let Dml::Update { scan, predicate, computed: true, .. } = dml("UPDATE t SET id = mv.id FROM mv WHERE mv.id = t.id")
    else {
        panic!("not computed")
    };
    assert_eq!((scan.columns.len(), predicate), (10, None));
    let Dml::Delete { scan, predicate, .. } = dml("DELETE FROM plain WHERE k = (SELECT max(id) FROM t)") else {
        panic!("no delete")
    };
    assert_eq!((scan.columns.len(), predicate), (3, None));
    let Dml::Delete { predicate, .. } = dml("DELETE FROM plain p WHERE p.k > 3 AND p.at < '2024-01-01'") else {
        panic!("no delete")
    };
    assert!(predicate.unwrap().to_string().starts_with("k > Int32(3) AND at <"));
    for sql in ["INSERT INTO t DEFAULT VALUES", "INSERT INTO t SELECT * FROM t", "INSERT INTO plain SELECT '1', now()"]
    {
        dml(sql);
    }
}

#[test]
fn ddl_is_checked_and_completed() {
    let ddl = |sql: &str| match bound(sql) {
        Ok(Bound::Ddl(ddl)) => ddl,
        other => panic!("{sql}: {other:?}"),
    };
    let Ddl::CreateTable { columns, primary_key, defaults, watermark, append_only, .. } =
        ddl("CREATE TABLE a (x int, y text DEFAULT 'q', ts timestamptz, PRIMARY KEY (x, y),
         WATERMARK FOR ts AS ts - INTERVAL '5 seconds') APPEND ONLY WITH (idle_timeout = '30s')")
    else {
        panic!("no table")
    };
    assert!(append_only && !columns[0].nullable && !columns[1].nullable && columns[2].nullable);
    assert_eq!((primary_key, defaults[1].as_deref()), (vec![0, 1], Some("'q'")));
    assert_eq!(watermark.unwrap().idle_timeout_ms, 30_000);
    let Ddl::CreateSource { columns, feed: Feed { fills, options, .. }, .. } =
        ddl("CREATE SOURCE s (x int, d date AS at::date, at timestamp, WATERMARK FOR at AS at)
         INCLUDE OFFSET INCLUDE HEADERS AS h WITH (connector = 'kafka', topic = 'x') FORMAT PLAIN ENCODE JSON")
    else {
        panic!("no source")
    };
    let names: Vec<_> = columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["x", "d", "at", "offset", "h"]);
    assert_eq!((fills.len(), options.len()), (5, 1));
    let Ddl::CreateMaterializedView { query, bound, .. } =
        ddl("CREATE MATERIALIZED VIEW w (a, b) AS SELECT k, count(*) FROM src GROUP BY k ORDER BY 2 EMIT CHANGES")
    else {
        panic!("no view")
    };
    assert_eq!(query, "SELECT k, count(*) FROM src GROUP BY k ORDER BY 2");
    assert_eq!(bound.columns[1].name, "b");
    let Ddl::CreateView { bound, .. } = ddl("CREATE OR REPLACE VIEW w AS SELECT * FROM v") else { panic!("no view") };
    assert_eq!(bound.reads.len(), 2);
    let Ddl::Drop { objects, missing, .. } = ddl("DROP TABLE IF EXISTS t, nope CASCADE") else { panic!("no drop") };
    assert_eq!((objects.len(), missing), (1, vec!["nope".to_string()]));
}

#[test]
fn a_secret_is_no_part_of_what_is_kept_of_a_statement() {
    let kept = |sql: &str| match bound(sql) {
        Ok(Bound::Ddl(Ddl::CreateSource { sql, feed, .. })) => (sql, feed.options),
        Ok(Bound::Ddl(Ddl::CreateTable { sql, feed, .. })) => (sql, feed.expect("a feed").options),
        other => panic!("{sql}: {other:?}"),
    };
    let format = "FORMAT PLAIN ENCODE JSON";
    let with = |password: &str| {
        format!("(é int) WITH (connector = 'kafka', \"properties.sasl.password\" = {password}, topic = 'x') {format}")
    };
    for (create, password) in [
        ("CREATE SOURCE s", "'hu''sh'"),
        ("CREATE SOURCE s", "E'\\'h'"),
        ("CREATE TABLE s", "$$hush$$"),
        ("CREATE SOURCE s", "-7"),
    ] {
        let (sql, options) = kept(&format!("{create} {}", with(password)));
        assert_eq!(sql, format!("{create} {}", with("'***'")));
        assert_ne!(options["properties.sasl.password"], "***");
    }
    let open = format!("CREATE SOURCE s (x int) WITH (connector = 'kafka', topic = 'x') {format}");
    assert_eq!(kept(&open).0, open);
}

#[test]
fn deep_expressions_are_bound_on_a_small_stack() {
    let wrapped = |open: &str, core: &str, close: &str| format!("SELECT {}{core}{}", open.repeat(60), close.repeat(60));
    query(&wrapped("abs(", "1", ")"));
    query(&wrapped("(", "1", ")"));
    query(&wrapped("CASE WHEN true THEN ", "1", " END"));
    query(&wrapped("* FROM (SELECT ", "1", ") x"));
    assert!(parse(&wrapped("(SELECT ", "1", ")")).is_err());
    query(&format!("SELECT id FROM t WHERE {}", vec!["id = 1"; 3_000].join(" OR ")));
}
