//! What goes over the wire, byte by byte and through a real driver.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)] // a test fails by panicking, and lives in real time

mod support;
#[path = "wire/copy.rs"]
mod copy;
#[path = "wire/cursors.rs"]
mod cursors;
#[path = "wire/hostile.rs"]
mod hostile;
#[path = "wire/outside.rs"]
mod outside;
#[path = "wire/raw.rs"]
mod raw;

use std::time::Duration;
use std::time::Instant;

use raw::Raw;
use raw::message;
use raw::pipeline;
use support::Server;
use tokio_postgres::types::Type;

/// A server with a table of so many rows.
fn server(rows: usize) -> (Server, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--workers", "1"]);
    let values: Vec<String> = (1..=rows).map(|i| format!("({i}, 'row {i}')")).collect();
    let mut raw = Raw::connect(server.port);
    let made = raw.query("CREATE TABLE t (id integer PRIMARY KEY, name text)");
    assert_eq!(made, ["C:CREATE TABLE", "Z:I"]);
    if rows > 0 {
        let filled = raw.query(&format!("INSERT INTO t VALUES {}", values.join(", ")));
        assert_eq!(filled, [format!("C:INSERT 0 {rows}"), "Z:I".to_string()]);
    }
    (server, directory)
}

/// A query whose answer takes ages, and whose rows come all the while.
const ENDLESS: &str = "SELECT a.id FROM t a, t b, t c, t d";

#[test]
fn simple_queries_are_answered_as_postgres_answers_them() {
    let (server, _directory) = server(0);
    let mut raw = Raw::connect(server.port);
    for (sql, expected) in [
        ("", &["I", "Z:I"][..]),
        (";;", &["I", "Z:I"]),
        ("-- ping", &["I", "Z:I"]),
        ("/* a */ SELECT 1 AS one", &["T:one", "D:1", "C:SELECT 1", "Z:I"]),
        ("INSERT INTO t VALUES (1, 'a'), (2, NULL)", &["C:INSERT 0 2", "Z:I"]),
        ("SELECT * FROM t ORDER BY id", &["T:id|name", "D:1|a", "D:2|NULL", "C:SELECT 2", "Z:I"]),
        ("UPDATE t SET name = 'b' WHERE id = 2", &["C:UPDATE 1", "Z:I"]),
        ("INSERT INTO t VALUES (3, 'c') RETURNING id", &["T:id", "D:3", "C:INSERT 0 1", "Z:I"]),
        ("DELETE FROM t WHERE id > 1", &["C:DELETE 2", "Z:I"]),
        ("SELECT 1; SELECT 2", &["T:?column?", "D:1", "C:SELECT 1", "T:?column?", "D:2", "C:SELECT 1", "Z:I"]),
        ("SET application_name = 'x'", &["S:application_name=x", "C:SET", "Z:I"]),
        ("SHOW application_name", &["T:application_name", "D:x", "C:SHOW", "Z:I"]),
        ("COMMIT", &["N:25P01 there is no transaction in progress", "C:COMMIT", "Z:I"]),
    ] {
        assert_eq!(raw.query(sql), expected, "{sql}");
    }
}

#[test]
fn errors_carry_sqlstate_and_position() {
    let (server, _directory) = server(0);
    let mut raw = Raw::connect(server.port);
    for (sql, sqlstate, position) in [
        ("SELEKT 1", "42601", "1"),
        ("SELECT * FROM missing", "42P01", "15"),
        ("SELECT 1; SELECT nope FROM t", "42703", "18"),
        ("SHOW nope", "42704", ""),
    ] {
        raw.send(&message('Q', &[sql.as_bytes(), b"\0"].concat()));
        let messages = raw.until_ready();
        let error = messages.iter().find(|m| m.tag == 'E').unwrap_or_else(|| panic!("{sql} fails"));
        assert_eq!((error.field('C').as_str(), error.field('P').as_str()), (sqlstate, position), "{sql}");
    }
}

#[test]
fn statements_of_one_text_share_a_transaction() {
    let (server, _directory) = server(0);
    let mut raw = Raw::connect(server.port);
    let answer = raw.query("INSERT INTO t VALUES (1, 'a'); INSERT INTO t VALUES (1, 'b')");
    assert!(answer.iter().any(|m| m.starts_with("E:23505")), "{answer:?}");
    assert_eq!(raw.query("SELECT * FROM t")[1..], ["C:SELECT 0", "Z:I"]);

    assert_eq!(raw.query("BEGIN; INSERT INTO t VALUES (1, 'a')"), ["C:BEGIN", "C:INSERT 0 1", "Z:T"]);
    assert!(raw.query("SELECT nope")[0].starts_with("E:42703"));
    let aborted = "E:25P02 current transaction is aborted, commands ignored until end of transaction block";
    assert_eq!(raw.query("SELECT 1"), [aborted, "Z:E"]);
    assert_eq!(raw.query("COMMIT"), ["C:ROLLBACK", "Z:I"]);

    assert_eq!(raw.query("BEGIN; INSERT INTO t VALUES (1, 'a')").last().unwrap(), "Z:T");
    assert_eq!(raw.query("SAVEPOINT s; INSERT INTO t VALUES (2, 'b')").last().unwrap(), "Z:T");
    assert_eq!(raw.query("ROLLBACK TO s; SELECT id FROM t"), ["C:ROLLBACK", "T:id", "D:1", "C:SELECT 1", "Z:T"]);
    assert!(raw.query("CREATE TABLE u (a int)")[0].starts_with("E:25001"));
    assert_eq!(raw.query("ROLLBACK"), ["C:ROLLBACK", "Z:I"]);
}

#[test]
fn the_extended_protocol_skips_to_sync_after_an_error() {
    let (server, _directory) = server(5);
    let mut raw = Raw::connect(server.port);
    raw.send(&[pipeline("SELECT nope", 0), pipeline("SELECT 1", 0), message('S', b"")].concat());
    let answer: Vec<String> = raw.until_ready().iter().map(raw::Message::show).collect();
    assert_eq!(answer.len(), 2, "{answer:?}");
    assert!(answer[0].starts_with("E:42703"));

    raw.send(&[pipeline("SELECT id FROM t ORDER BY id", 2), message('E', b"\0\0\0\0\0"), message('S', b"")].concat());
    let answer: Vec<String> = raw.until_ready().iter().map(raw::Message::show).collect();
    assert_eq!(answer, ["1", "2", "T:id", "D:1", "D:2", "s", "D:3", "D:4", "D:5", "C:SELECT 3", "Z:I"]);

    // An error is told at once, not only at Sync.
    raw.send(&[message('P', b"\0SELECT nope\0\0\0"), message('H', b"")].concat());
    assert!(raw.read().unwrap().show().starts_with("E:42703"));
    raw.send(&message('S', b""));
    assert_eq!(raw.until_ready().len(), 1);

    raw.send(&[pipeline("-- nothing", 0), message('S', b"")].concat());
    let answer: Vec<String> = raw.until_ready().iter().map(raw::Message::show).collect();
    assert_eq!(answer, ["1", "2", "n", "I", "Z:I"]);
}

#[test]
fn a_pipeline_is_one_transaction() {
    let (server, _directory) = server(0);
    let mut raw = Raw::connect(server.port);
    let insert = pipeline("INSERT INTO t VALUES (7, 'x')", 0);
    raw.send(&[insert.clone(), insert, message('S', b"")].concat());
    let answer: Vec<String> = raw.until_ready().iter().map(raw::Message::show).collect();
    assert!(answer.iter().any(|m| m.starts_with("E:23505")), "{answer:?}");
    assert_eq!(raw.query("SELECT * FROM t")[1..], ["C:SELECT 0", "Z:I"]);
}

#[test]
fn garbage_harms_nobody_else() {
    let (server, _directory) = server(1);
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xff; 64],
        &[0, 0, 0, 4],
        &[0, 0, 0, 9, 0, 3, 0, 0, b'x'],
        &[0, 0, 0, 8, 0, 2, 0, 0],
    ] {
        let mut raw = Raw::open(server.port);
        raw.send(bytes);
        let fatal = raw.read().expect("an error");
        assert_eq!(fatal.field('S'), "FATAL", "{bytes:?}");
        assert!(raw.is_at_end());
    }
    let mut raw = Raw::connect(server.port);
    raw.send(&[b'Q', 0x7f, 0xff, 0xff, 0xff]);
    assert_eq!(raw.read().unwrap().field('C'), "08P01");
    assert!(raw.is_at_end());
    let mut raw = Raw::connect(server.port);
    raw.send(&message('Q', b"SELECT '\xff'\0"));
    assert!(raw.until_ready()[0].show().starts_with("E:22021"));
    assert_eq!(raw.query("SELECT count(*) FROM t")[1], "D:1");
}

#[test]
fn startup_refuses_encryption_and_unknown_databases_and_applies_options() {
    let (server, _directory) = server(0);
    let mut raw = Raw::open(server.port);
    raw.send(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]);
    assert_eq!(raw.read_byte(), b'N');
    raw.startup(&[("user", "ann"), ("database", "millstream"), ("options", "-c TimeZone=Europe/Berlin")]);
    let greeting: Vec<String> = raw.until_ready().iter().map(raw::Message::show).collect();
    for status in ["S:server_version=13.14", "S:TimeZone=Europe/Berlin", "S:integer_datetimes=on"] {
        assert!(greeting.iter().any(|m| m == status), "{status} in {greeting:?}");
    }
    let mut raw = Raw::open(server.port);
    raw.startup(&[("user", "ann"), ("database", "other")]);
    let error = raw.read().unwrap();
    assert_eq!((error.field('S').as_str(), error.field('C').as_str()), ("FATAL", "3D000"));
    assert_eq!(error.field('M'), "database \"other\" does not exist");
}

#[test]
fn a_cancel_request_ends_a_streaming_query() {
    let (server, _directory) = server(300);
    let mut raw = Raw::connect(server.port);
    raw.send(&message('Q', &[ENDLESS.as_bytes(), b"\0"].concat()));
    while raw.read().unwrap().tag != 'D' {}
    raw.cancel(server.port);
    let last = raw.until_ready();
    assert_eq!(last[last.len() - 2].show(), "E:57014 canceling statement due to user request");
    assert_eq!(raw.query("SELECT 1")[1], "D:1");
}

#[test]
fn a_time_limit_ends_a_query_whose_rows_nobody_reads() {
    let (server, _directory) = server(300);
    let mut raw = Raw::connect(server.port);
    raw.query("SET statement_timeout = '300ms'");
    raw.send(&message('Q', &[ENDLESS.as_bytes(), b"\0"].concat()));
    std::thread::sleep(Duration::from_secs(1));
    let last = raw.until_ready();
    assert_eq!(last[last.len() - 2].show(), "E:57014 canceling statement due to statement timeout");
}

#[test]
fn a_client_that_vanishes_leaves_nothing_behind() {
    let (mut server, _directory) = server(300);
    let mut raw = Raw::connect(server.port);
    raw.send(&message('Q', b"SELECT count(*) FROM t a, t b, t c, t d\0"));
    std::thread::sleep(Duration::from_millis(200));
    raw.vanish();
    // The server ends at once, since nothing runs any more.
    std::thread::sleep(Duration::from_millis(2500));
    let begin = Instant::now();
    assert_eq!(server.terminate(), Some(0));
    assert!(begin.elapsed() < Duration::from_secs(3));
}

#[test]
fn idle_clients_are_told_when_the_server_ends() {
    let (mut server, _directory) = server(0);
    let mut raw = Raw::connect(server.port);
    assert_eq!(server.terminate(), Some(0));
    let error = raw.read().unwrap();
    assert_eq!((error.field('S').as_str(), error.field('C').as_str()), ("FATAL", "57P01"));
    assert!(raw.is_at_end());
}

#[tokio::test]
async fn a_driver_sends_and_gets_values_in_binary() {
    let (server, _directory) = server(0);
    let client = server.connect().await;
    client
        .batch_execute(
            "CREATE TABLE v (a boolean, b smallint, c integer, d bigint, e real, f double precision, g text,
                             h varchar(5), i bytea, j bigint PRIMARY KEY)",
        )
        .await
        .unwrap();
    let insert = client.prepare("INSERT INTO v VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)").await.unwrap();
    assert_eq!(insert.params()[0], Type::BOOL);
    let written = client
        .execute(
            &insert,
            &[&true, &-2i16, &3i32, &None::<i64>, &1.5f32, &2.5f64, &"straße", &"abc", &&b"\x00\xff"[..], &10i64],
        )
        .await
        .unwrap();
    assert_eq!(written, 1);
    let row = client.query_one("SELECT * FROM v WHERE j = $1", &[&10i64]).await.unwrap();
    assert!(row.get::<_, bool>("a"));
    assert_eq!((row.get::<_, i16>(1), row.get::<_, i32>(2), row.get::<_, Option<i64>>(3)), (-2, 3, None));
    assert_eq!((row.get::<_, f32>(4), row.get::<_, f64>(5)), (1.5, 2.5));
    assert_eq!(
        (row.get::<_, &str>(6), row.get::<_, &str>(7), row.get::<_, &[u8]>(8)),
        ("straße", "abc", &[0, 0xff][..])
    );

    let error = client.execute(&insert, &[&true, &1i16, &1i32, &1i64, &1f32, &1f64, &"", &"", &&b""[..], &10i64]).await;
    assert_eq!(error.unwrap_err().code().unwrap().code(), "23505");
    let cancelled = client.cancel_token();
    let (answer, _) = tokio::join!(
        client.query_one("SELECT count(*) FROM pg_attribute a, pg_attribute b, pg_attribute c", &[]),
        async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            cancelled.cancel_query(tokio_postgres::NoTls).await.unwrap();
        }
    );
    assert_eq!(answer.unwrap_err().code().unwrap().code(), "57014");
}
