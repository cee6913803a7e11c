//! The disk format, held by a fixture: every entry that these statements write, byte by byte, as text. The same statements
//! still write it, so no format changes unnoticed, and a directory made of it opens, has every row, and goes on.
//!
//! With `UPDATE=1` the fixture is written anew. Once a version is released, a format that differs needs a new version byte and a
//! fixture of its own, and this one stays.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use millstream::connectors::Environment;
use millstream::engine::Engine;
use millstream::engine::EngineOptions;
use millstream::session::Identity;
use millstream::session::Interrupt;
use millstream::session::Outcome;
use millstream::session::Session;
use millstream::time::ManualClock;
use rocksdb::DB;
use rocksdb::IteratorMode;
use rocksdb::Options;

use crate::support::Server;
use crate::support::execute;
use crate::support::rows;

/// The moment at which everything is written: 2026-01-02 03:04:05 UTC.
const NOW: i64 = 1_767_323_045_000_000;

/// Every way to store something: keys and rows of all types, hidden row ids, catalog, progress, changelog, and each state of
/// an operator.
const STATEMENTS: &[&str] = &[
    "CREATE SCHEMA warehouse",
    "CREATE TABLE every_type (k TEXT, n INTEGER, b BOOLEAN, s SMALLINT, l BIGINT, r REAL, d DOUBLE PRECISION,
       amount NUMERIC(12,2), v VARCHAR(10), raw BYTEA, day DATE, at TIME, ts TIMESTAMP, tz TIMESTAMPTZ, i INTERVAL,
       PRIMARY KEY (k, n))",
    "INSERT INTO every_type VALUES
       ('', -1, true, -32768, -9223372036854775808, -0.5, 'NaN', -1234567890.12, 'ä', '\\x00ff', '0044-03-15 BC',
        '23:59:59.999999', '1969-12-31 23:59:59.999999', '2026-01-02 03:04:05+00', '-1 mon 2 days -00:00:01.5'),
       ('a\u{1}b', 2147483647, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
       ('longer than eight bytes', 0, false, 1, 1, 1, '-Infinity', 0, 'x', '\\x', '2026-01-02', '00:00', '2026-01-02 00:00',
        '9999-12-31 23:59:59.999999+00', '1 year')",
    "CREATE TABLE warehouse.stock (item TEXT, size INTEGER, pieces INTEGER, price NUMERIC(8,2)) WITH (retain_history = '100000 days')",
    "CREATE MATERIALIZED VIEW grouped AS SELECT item, count(*) AS n, sum(pieces) AS pieces, sum(price) AS price,
       avg(price::float8) AS mean, min(price) AS low, max(price) AS high, count(DISTINCT size) AS sizes,
       bool_and(pieces > 0) AS there FROM warehouse.stock GROUP BY item",
    "CREATE MATERIALIZED VIEW joined AS SELECT a.item, a.size, b.n FROM warehouse.stock a LEFT JOIN grouped b ON a.pieces = b.n",
    "CREATE MATERIALIZED VIEW items AS SELECT item FROM warehouse.stock UNION SELECT k FROM every_type",
    "CREATE MATERIALIZED VIEW sizes AS SELECT size FROM warehouse.stock EXCEPT ALL SELECT n FROM every_type",
    "CREATE MATERIALIZED VIEW dear AS SELECT item, 100 / pieces AS share FROM warehouse.stock
       WHERE price > (SELECT avg(price) FROM warehouse.stock)",
    "CREATE VIEW cheap AS SELECT * FROM warehouse.stock WHERE price < 2",
    "INSERT INTO warehouse.stock VALUES ('bolt', 4, 100, 0.25), ('bolt', 5, 1, 0.30), ('nut', 4, 2, 0.05), ('saw', NULL, 0, 19.90)",
    "UPDATE warehouse.stock SET pieces = pieces - 1 WHERE item = 'bolt'",
    "INSERT INTO warehouse.stock VALUES ('axe', 1, 3, 30), ('axe', 1, 3, 30)",
    "DELETE FROM warehouse.stock WHERE item = 'nut'",
    "CREATE TABLE event (k TEXT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '1 minute') APPEND ONLY",
    "CREATE MATERIALIZED VIEW seen WITH (retain_history = '100000 days') AS SELECT k FROM event WHERE k <> 'c'",
    "CREATE MATERIALIZED VIEW per_hour AS SELECT k, window_start, count(*) AS n FROM TUMBLE(event, ts, INTERVAL '1 hour')
       GROUP BY k, window_start EMIT ON WINDOW CLOSE",
    "CREATE MATERIALIZED VIEW per_session AS SELECT k, window_start, window_end, count(*) AS n
       FROM SESSION(event PARTITION BY k, ts, INTERVAL '10 minutes') GROUP BY k, window_start, window_end",
    "INSERT INTO event VALUES ('a', '2026-01-01 00:10'), ('b', '2026-01-01 00:20'), ('a', '2026-01-01 00:15')",
    "INSERT INTO event VALUES ('a', '2026-01-01 01:30'), ('c', NULL)",
    "INSERT INTO event VALUES ('late', '2026-01-01 00:30'), ('a', '2026-01-01 01:35')",
    "CREATE TABLE account (id BIGINT PRIMARY KEY, owner TEXT, balance NUMERIC(10,2))
       WITH (connector = 'file', path = 'accounts.jsonl') FORMAT PLAIN ENCODE JSON",
    "CREATE SOURCE orders (id BIGINT, customer TEXT, at TIMESTAMP, WATERMARK FOR at AS at - INTERVAL '1 second')
       WITH (connector = 'file', path = 'orders.jsonl') FORMAT PLAIN ENCODE JSON",
    "CREATE MATERIALIZED VIEW customers AS SELECT customer, count(*) AS n, max(id) AS last FROM orders GROUP BY customer",
    "CREATE SINK owners AS SELECT owner, count(*) AS n FROM account GROUP BY owner WITH (connector = 'blackhole')",
    "CREATE SUBSCRIPTION groups FROM grouped",
    "CREATE SUBSCRIPTION stocked FROM warehouse.stock WITH (retention = '100000 days')",
    "ALTER SUBSCRIPTION stocked ADVANCE TO LATEST",
];

/// What brings rows by itself, with how many rows are there when all of them are: the next statement waits for them, so that
/// they come in an epoch of their own.
const WAITED_FOR: &[(&str, &str, usize)] = &[
    ("CREATE TABLE account", "SELECT 1 FROM account UNION ALL SELECT 1 FROM account$errors", 6),
    ("CREATE MATERIALIZED VIEW customers", "SELECT 1 FROM customers", 3),
];

/// What is read from a directory made of the fixture.
const QUERIES: &[&str] = &[
    "SELECT * FROM every_type ORDER BY k, n",
    "SELECT * FROM warehouse.stock ORDER BY item, size, pieces",
    "SELECT * FROM grouped ORDER BY item",
    "SELECT * FROM joined ORDER BY item, size, n",
    "SELECT * FROM items ORDER BY item",
    "SELECT * FROM sizes ORDER BY size",
    "SELECT * FROM dear ORDER BY item",
    "SELECT * FROM dear$errors",
    "SELECT * FROM cheap",
    "SELECT * FROM event ORDER BY ts, k",
    "SELECT * FROM seen ORDER BY k",
    "SELECT * FROM per_hour ORDER BY window_start, k",
    "SELECT * FROM per_hour$late",
    "SELECT * FROM per_session ORDER BY window_start, k",
    "SELECT * FROM account ORDER BY id",
    "SELECT \"column\", reason FROM account$errors ORDER BY \"offset\"",
    "SELECT * FROM customers ORDER BY customer",
    "SELECT name, connector, options FROM ms_catalog.sinks",
    "SELECT name, relation, epoch, acknowledged, overtaken, retention_ms FROM ms_catalog.subscriptions ORDER BY name",
    "SELECT name, \"partition\", start_offset, next_offset FROM ms_catalog.offsets ORDER BY name",
    "SELECT name, \"partition\", watermark FROM ms_catalog.watermarks ORDER BY name, \"partition\"",
];

/// Whose changes are kept: after which epoch, and how many.
const KEPT: &[(&str, u64, usize)] = &[("warehouse.stock", 4, 10), ("seen", 16, 6)];

/// What happens then.
const FURTHER: &str = "
    INSERT INTO every_type (k, n) VALUES ('a', 4);
    UPDATE warehouse.stock SET price = price + 1, pieces = pieces + 1 WHERE item <> 'bolt';
    DELETE FROM warehouse.stock WHERE size = 5;
    INSERT INTO event VALUES ('b', '2026-01-01 00:59'), ('a', '2026-01-01 01:28'), ('b', '2026-01-01 03:00')";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/format")
}

/// Compares a text with a file, or writes it.
fn hold(name: &str, is: &str) {
    let file = folder().join(name);
    if std::env::var_os("UPDATE").is_some() {
        return std::fs::write(file, is).expect("the file can be written");
    }
    let should = std::fs::read_to_string(&file).expect("the fixture is there");
    if let Some((number, (is, should))) =
        is.lines().zip(should.lines()).enumerate().find(|(_, (is, should))| is != should)
    {
        panic!("{}:{} is not what it was:\n{should}\n{is}", file.display(), number + 1);
    }
    assert_eq!(is.lines().count(), should.lines().count(), "{}", file.display());
}

/// Runs a statement to its end. Returns how many rows it has.
async fn run(session: &mut Session, sql: &str) -> usize {
    let statement = session.parse(sql).expect(sql).pop().expect("a statement");
    let outcome = session.run(&statement, true).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let Outcome::Rows { mut rows, .. } = outcome else { return 0 };
    let mut count = 0;
    while let Some(batch) = rows.next().await {
        count += batch.expect(sql).num_rows();
    }
    count
}

/// Executes the statements in a new directory, at a moment that does not pass.
async fn write_all(data_dir: &Path) {
    let environment = Environment { file_roots: vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("sql-tests/data")] };
    let options = EngineOptions {
        data_dir: data_dir.to_path_buf(),
        workers: 1,
        fill_rows: 8192,
        memory_limit_bytes: 256 << 20,
        clock: ManualClock::at(NOW),
        environment,
    };
    let engine = tokio::task::spawn_blocking(|| Engine::open(options)).await.expect("no panic").expect("it opens");
    let identity = Identity { user: "millstream".into(), pid: 1 };
    let mut session =
        Session::new(engine.clone(), identity, "millstream", &[], Arc::new(Interrupt::default()), Arc::default())
            .expect("a session");
    for statement in STATEMENTS {
        run(&mut session, statement).await;
        for (_, query, count) in WAITED_FOR.iter().filter(|(prefix, _, _)| statement.starts_with(prefix)) {
            while run(&mut session, query).await < *count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
    engine.shutdown().await.expect("it ends");
}

/// Bytes as text: what is printable stands for itself.
fn shown(bytes: &[u8]) -> String {
    let mut text = String::new();
    for &byte in bytes {
        match byte {
            b' '..=b'~' if byte != b'\\' => text.push(byte.into()),
            _ => write!(text, "\\{byte:02x}").expect("a string takes all"),
        }
    }
    text
}

/// The bytes of a text as [`shown`] makes it.
fn bytes(text: &str) -> Vec<u8> {
    let mut parts = text.split('\\');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).expect("two digits"));
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    bytes
}

/// A data directory as text: its version, then for each column family its entries, in order.
fn dump(data_dir: &Path) -> String {
    let mut text = std::fs::read_to_string(data_dir.join("FORMAT")).expect("the version is there");
    let store = data_dir.join("store");
    let families = DB::list_cf(&Options::default(), &store).expect("a store");
    let db = DB::open_cf_for_read_only(&Options::default(), &store, &families, false).expect("a store");
    for family in families {
        writeln!(text, "\n[{family}]").expect("a string takes all");
        for entry in db.iterator_cf(&db.cf_handle(&family).expect("just listed"), IteratorMode::Start) {
            let (key, value) = entry.expect("an entry");
            writeln!(text, "{}\t{}", shown(&key), shown(&value)).expect("a string takes all");
        }
    }
    text
}

/// Makes a data directory of its text.
fn restore(text: &str, data_dir: &Path) {
    let (version, entries) = text.split_once('\n').expect("a line");
    std::fs::write(data_dir.join("FORMAT"), format!("{version}\n")).expect("written");
    let mut families: BTreeMap<&str, Vec<(&str, &str)>> = BTreeMap::new();
    let mut current = None;
    for line in entries.lines().filter(|line| !line.is_empty()) {
        match line.split_once('\t') {
            Some(entry) => families.entry(current.expect("a family comes first")).or_default().push(entry),
            None => {
                let name = line.trim_start_matches('[').trim_end_matches(']');
                families.entry(name).or_default();
                current = Some(name);
            }
        }
    }
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    let db = DB::open_cf(&options, data_dir.join("store"), families.keys()).expect("a new store");
    for (family, entries) in families {
        for (key, value) in entries {
            db.put_cf(&db.cf_handle(family).expect("just made"), bytes(key), bytes(value)).expect("written");
        }
    }
}

/// What these statements write today.
fn written() -> String {
    let directory = tempfile::tempdir().expect("a temporary directory");
    crate::runtime().block_on(write_all(directory.path()));
    dump(directory.path())
}

#[test]
fn the_same_statements_write_the_same_bytes() {
    hold("version1.txt", &written());
}

#[test]
fn a_directory_of_this_format_has_every_row_and_goes_on() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let fixture = match std::env::var_os("UPDATE") {
        Some(_) => written(),
        None => std::fs::read_to_string(folder().join("version1.txt")).expect("the fixture is there"),
    };
    restore(&fixture, directory.path());
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/sql-tests/data");
    let server = Server::start(directory.path(), &["--workers", "2", "--file-root", data]);
    let mut answers = String::new();
    let mut ask = async |client: &tokio_postgres::Client, queries: &[&str]| {
        for query in queries {
            let rows = rows(client, query).await.unwrap_or_else(|error| panic!("{query}: {error:?}"));
            writeln!(answers, "{query}\n----\n{}\n", rows.join("\n")).expect("a string takes all");
        }
    };
    crate::runtime().block_on(async {
        let client = server.connect().await;
        ask(&client, QUERIES).await;
        // The changes that were kept are read from the first on.
        for (name, epoch, changes) in KEPT {
            let begin = format!("BEGIN; DECLARE c CURSOR FOR SUBSCRIBE {name} AS OF {epoch}");
            execute(&client, &begin).await;
            ask(&client, &[&format!("FETCH {changes} c")]).await;
            execute(&client, "ROLLBACK").await;
        }
        execute(&client, FURTHER).await;
        ask(&client, &QUERIES[..14]).await;
    });
    hold("version1_rows.txt", &answers);
}
