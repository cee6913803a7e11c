//! What parses to what, and where what does not goes wrong.

use crate::error::Kind;
use crate::sql::bound::SettingStatement;
use crate::sql::bound::TransactionStatement;
use crate::sql::parse::ast::Statement;
use crate::sql::parse::parse;

/// The message of the error that a text gives, with its position.
fn error(text: &str) -> String {
    let error = parse(text).expect_err(text);
    let position = error.position.map_or("-".to_string(), |p| p.to_string());
    format!("{} {} @{position}", error.kind.sqlstate(), error.message)
}

#[test]
fn errors_have_places() {
    for (text, expected) in [
        ("SELEC 1", "42601 syntax error at or near \"SELEC\" @1"),
        ("SELECT 1;\n  FROM t", "42601 syntax error at or near \"FROM\" @13"),
        ("SELECT é, FROM t", "42601 syntax error at or near \"FROM\" @11"),
        ("SELECT (1", "42601 syntax error at end of input @-"),
        ("SELECT 'abc", "42601 unterminated quoted string @8"),
        ("SELECT 1 /* a", "42601 unterminated /* comment"),
        ("CREATE TABLE t (a int,)", "42601 syntax error at or near \")\" @23"),
        ("CREATE TABLE t (a int) WITH (a = 1, a = 2)", "42601 option \"a\" is given more than once @37"),
        ("CREATE TABLE t (a int UNIQUE)", "0A000 UNIQUE is not supported in a column list @23"),
        ("CREATE INDEX i ON t (a)", "0A000 CREATE INDEX is not supported @8"),
        ("ALTER TABLE t ADD c int", "0A000 ALTER is not supported @1"),
        ("SELECT 1 FROM t EMIT CHANGES", "42601 syntax error at or near \"EMIT\" @17"),
        ("BEGIN; COMMIT AND CHAIN", "0A000 AND CHAIN is not supported @15"),
        ("DROP INDEX i", "0A000 DROP INDEX is not supported @6"),
        ("EXPLAIN INSERT INTO t VALUES (1)", "0A000 EXPLAIN of this statement is not supported @9"),
    ] {
        assert!(error(text).starts_with(expected), "{text}: {}", error(text));
    }
}

#[test]
fn a_text_is_split_at_its_semicolons() {
    let parsed = parse("SELECT ';' ; -- no; comment\n\tSELECT $$;$$ /* ; */;;").unwrap();
    let texts: Vec<_> = parsed.iter().map(|p| (p.text.as_str(), p.offset)).collect();
    assert_eq!(texts, [("SELECT ';'", 0), ("SELECT $$;$$", 29)]);
    for nothing in ["", " ;; ", "-- ping"] {
        let parsed = parse(nothing).unwrap();
        assert!(matches!(parsed.as_slice(), [p] if matches!(p.ast, Statement::Empty)), "{nothing:?}");
    }
}

#[test]
fn depth_is_limited_and_never_overflows() {
    let nested = |n: usize| format!("SELECT {}1{}", "(".repeat(n), ")".repeat(n));
    assert_eq!(parse(&nested(10_000)).unwrap_err().kind, Kind::TooComplex);
    assert_eq!(parse(&nested(100_000)).unwrap_err().kind, Kind::TooComplex);
    parse(&nested(50)).unwrap();
    let chain = |op: &str, n: usize| format!("SELECT 1 WHERE {}", vec!["a = 1"; n].join(op));
    parse(&chain(" OR ", 20_000)).unwrap();
    assert_eq!(parse(&format!("SELECT {}", vec!["1"; 20_000].join(" + "))).unwrap_err().kind, Kind::TooComplex);
    assert_eq!(parse(&vec!["SELECT 1"; 5_000].join(" UNION ")).unwrap_err().kind, Kind::TooComplex);
    assert_eq!(parse(&format!("SELECT {}1", "- ".repeat(5_000))).unwrap_err().kind, Kind::TooComplex);
    parse(&format!("INSERT INTO t VALUES {}", vec!["(1, 'a')"; 5_000].join(", "))).unwrap();
}

#[test]
fn settings_and_transactions() {
    let setting = |text: &str| match parse(text).expect(text).remove(0).ast {
        Statement::Setting(setting) => setting,
        other => panic!("{text}: {other:?}"),
    };
    let set = |name: &str, value: Option<&str>, local| SettingStatement::Set {
        name: name.into(),
        value: value.map(Into::into),
        local,
    };
    assert_eq!(setting("SET search_path TO a, \"B\""), set("search_path", Some("a, B"), false));
    assert_eq!(setting("SET LOCAL x.y = 'z'"), set("x.y", Some("z"), true));
    assert_eq!(setting("SET SESSION DateStyle = ISO"), set("datestyle", Some("iso"), false));
    assert_eq!(setting("SET TIME ZONE 'UTC'"), set("timezone", Some("UTC"), false));
    assert_eq!(setting("SET TimeZone TO DEFAULT"), set("timezone", None, false));
    assert_eq!(setting("SET NAMES 'UTF8'"), set("client_encoding", Some("UTF8"), false));
    assert_eq!(setting("set extra_float_digits = -3"), set("extra_float_digits", Some("-3"), false));
    let isolation = set("default_transaction_isolation", Some("read committed"), false);
    assert_eq!(setting("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED"), isolation);
    assert_eq!(setting("SET TRANSACTION READ ONLY"), set("transaction_read_only", Some("on"), true));
    assert_eq!(setting("SHOW ALL"), SettingStatement::ShowAll);
    assert_eq!(setting("SHOW TRANSACTION ISOLATION LEVEL"), SettingStatement::Show("transaction_isolation".into()));
    assert_eq!(setting("RESET ALL"), SettingStatement::Reset(None));
    let transaction = |text: &str| match parse(text).expect(text).remove(0).ast {
        Statement::Transaction(transaction) => transaction,
        other => panic!("{text}: {other:?}"),
    };
    let begin = |read_only, tag| TransactionStatement::Begin { read_only, tag };
    assert_eq!(transaction("BEGIN"), begin(false, "BEGIN"));
    assert_eq!(
        transaction("START TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY"),
        begin(true, "START TRANSACTION")
    );
    assert_eq!(transaction("END WORK"), TransactionStatement::Commit);
    assert_eq!(transaction("ABORT"), TransactionStatement::Rollback);
    assert_eq!(transaction("ROLLBACK TO SAVEPOINT A"), TransactionStatement::RollbackTo("a".into()));
    assert_eq!(transaction("RELEASE \"A\""), TransactionStatement::Release("A".into()));
}

#[test]
fn our_own_statements() {
    let Statement::CreateSource(source) = parse(
        "CREATE SOURCE IF NOT EXISTS o (id BIGINT, ts TIMESTAMPTZ, day DATE AS ts::date,
           WATERMARK FOR ts AS ts - INTERVAL '5 seconds')
         INCLUDE KEY AS k, PARTITION INCLUDE OFFSET AS o
         WITH (connector = 'kafka', properties.bootstrap.server = 'x:1', 'a b' = 7, flag = true)
         FORMAT PLAIN ENCODE JSON",
    )
    .unwrap()
    .remove(0)
    .ast
    else {
        panic!("no source")
    };
    assert_eq!(source.columns[2].computed.as_ref().unwrap().text, "ts::date");
    assert_eq!(source.watermarks[0].expression.text, "ts - INTERVAL '5 seconds'");
    assert_eq!(source.includes.iter().map(|i| i.what).collect::<Vec<_>>(), ["key", "partition", "offset"]);
    let options: Vec<_> = source.options.iter().map(|o| (o.key.as_str(), o.value.as_str())).collect();
    let expected = [("connector", "kafka"), ("properties.bootstrap.server", "x:1"), ("a b", "7"), ("flag", "true")];
    assert_eq!(options, expected);
    let Statement::CreateTable(table) =
        parse("CREATE TABLE t (a int DEFAULT 1 + 1 NOT NULL PRIMARY KEY, watermark text) APPEND ONLY WITH (x = 1)")
            .unwrap()
            .remove(0)
            .ast
    else {
        panic!("no table")
    };
    assert!(table.append_only && table.columns[0].not_null && table.primary_keys.len() == 1);
    assert_eq!(table.columns[0].default.as_ref().unwrap().text, "1 + 1");
    let Statement::CreateMaterializedView(view) = parse(
        "CREATE MATERIALIZED VIEW v AS SELECT * FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) EMIT CHANGES",
    )
    .unwrap()
    .remove(0)
    .ast
    else {
        panic!("no view")
    };
    assert_eq!(view.query.to_string(), "SELECT * FROM TUMBLE(t, ts, INTERVAL '1' MINUTE)");
    assert!(view.text.text.ends_with("MINUTE))"));
}
