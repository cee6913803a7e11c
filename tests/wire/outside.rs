//! What is seen from outside: over HTTP, in `ms_catalog`, by EXPLAIN ANALYZE.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::net::Ipv4Addr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use crate::Raw;
use crate::server;
use crate::support::Server;

/// What the server answers to these bytes, until it closes the connection.
fn exchange(port: u16, request: &[u8]) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // It may have closed the connection before it has read all.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8(answer).unwrap()
}

/// Status and body of a GET.
fn get(port: u16, path: &str) -> (u16, String) {
    let answer = exchange(port, format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_string())
}

/// The samples of /metrics, each of which must belong to a metric that was declared before.
fn samples(port: u16) -> BTreeMap<String, f64> {
    let (status, text) = get(port, "/metrics");
    assert_eq!(status, 200);
    let mut declared = Vec::new();
    let mut samples = BTreeMap::new();
    for line in text.lines() {
        if let Some(metric) = line.strip_prefix("# TYPE ") {
            declared.push(metric.split(' ').next().unwrap().to_string());
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(declared.last().is_some_and(|metric| name.starts_with(metric)), "{line}");
            assert_eq!(samples.insert(name.to_string(), value.parse().unwrap()), None, "{line}");
        }
    }
    let names = declared.iter().collect::<BTreeSet<_>>();
    assert_eq!(names.len(), declared.len(), "a metric is declared once");
    samples
}

#[test]
fn metrics_count_what_happened() {
    let (server, _directory) = server(3);
    let mut raw = Raw::connect(server.port);
    for sql in [
        "CREATE MATERIALIZED VIEW v AS SELECT name, 6 / (id - 2) AS n FROM t",
        "INSERT INTO t VALUES (4, 'row 4'), (5, 'row 5')",
        "CREATE SINK s FROM t WITH (connector = 'blackhole')",
        "SELECT count(*) FROM v",
        "SELECT nosuch",
        "SELECT * FROM nosuch",
    ] {
        raw.query(sql);
    }
    // The connection that made the table is closed, but perhaps not gone yet.
    let samples = std::iter::repeat_with(|| samples(server.http)).find(|samples| samples["millstream_sessions"] == 1.0);
    let samples = samples.unwrap();
    for (name, expected) in [
        ("millstream_input_rows_total{object=\"public.t\"}", 5.0),
        // Those that filled it, and those that came since.
        ("millstream_view_rows_total{object=\"public.v\"}", 4.0),
        ("millstream_sink_rows_total{object=\"public.s\"}", 5.0),
        ("millstream_error_rows_total{object=\"public.v$errors\"}", 1.0),
        ("millstream_sessions_total", 2.0),
        ("millstream_statements_total{kind=\"insert\"}", 2.0),
        ("millstream_statements_total{kind=\"select\"}", 1.0),
        ("millstream_statements_total{kind=\"ddl\"}", 3.0),
        ("millstream_errors_total{sqlstate=\"42703\"}", 1.0),
        ("millstream_errors_total{sqlstate=\"42P01\"}", 1.0),
        ("millstream_queue_length{queue=\"requests\"}", 0.0),
        ("millstream_epochs_lost_total", 0.0),
    ] {
        assert_eq!(samples.get(name), Some(&expected), "{name}");
    }
    let epochs = samples["millstream_epochs_total"];
    assert!(epochs >= 4.0);
    assert_eq!(samples["millstream_epoch_seconds_count"], epochs);
    assert_eq!(samples["millstream_commit_seconds_bucket{le=\"+Inf\"}"], epochs);
    for name in ["process_resident_memory_bytes", "process_cpu_seconds_total", "millstream_store_memtable_bytes"] {
        assert!(samples[name] > 0.0, "{name}");
    }
}

#[test]
fn watermarks_are_told_in_seconds_behind_the_clock() {
    let (server, _directory) = server(0);
    let mut raw = Raw::connect(server.port);
    raw.query("CREATE TABLE e (ts timestamptz, WATERMARK FOR ts AS ts) APPEND ONLY");
    raw.query("CREATE MATERIALIZED VIEW w AS SELECT window_start, count(*) AS n FROM TUMBLE(e, ts, '1 minute') GROUP BY window_start");
    raw.query("INSERT INTO e VALUES (now() - interval '1 hour')");
    let samples = samples(server.http);
    for object in ["e", "w"] {
        let behind = samples[&format!("millstream_watermark_lag_seconds{{object=\"public.{object}\"}}")];
        assert!((3600.0..4000.0).contains(&behind), "{behind}");
    }
}

#[test]
fn only_what_is_there_is_answered() {
    let (server, _directory) = server(0);
    assert_eq!(get(server.http, "/healthz"), (200, "ok\n".to_string()));
    assert_eq!(get(server.http, "/metrics?x=1").0, 200);
    assert_eq!(get(server.http, "/nosuch").0, 404);
    let head = exchange(server.http, b"HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
    let posted = exchange(server.http, b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    assert!(posted.starts_with("HTTP/1.1 405"), "{posted}");
}

#[test]
fn slow_and_broken_clients_harm_nobody() {
    let (server, _directory) = server(0);
    for request in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"GET /".iter().copied().chain(std::iter::repeat_n(b'a', 1 << 20)).collect(),
        [b"GET / HTTP/1.1\r\n".to_vec(), b"a: b\r\n".repeat(100_000)].concat(),
    ] {
        let answer = exchange(server.http, &request);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    // As many that say nothing as there may be, and then more: a place comes free when one's time is over.
    let silent = (0..80).map(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, server.http)).unwrap()).collect::<Vec<_>>();
    assert_eq!(Raw::connect(server.port).query("SELECT 1 AS one"), ["T:one", "D:1", "C:SELECT 1", "Z:I"]);
    let mut last = &silent[0];
    last.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    assert_eq!(last.read(&mut [0; 1]).unwrap_or(0), 0, "a silent connection is closed");
    drop(silent);
    assert_eq!(get(server.http, "/healthz").0, 200);
}

#[test]
fn the_port_is_chosen_and_a_busy_one_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--http", "none"]);
    assert_eq!(server.http, 0);
    drop(server);
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let refused = Command::new(env!("CARGO_BIN_EXE_millstream"))
        .args(["serve", "--listen", "127.0.0.1:0", "--http", &address, "--data-dir"])
        .arg(directory.path())
        .output()
        .unwrap();
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success());
    assert!(told.contains(&format!("cannot listen on {address}")) && told.contains("--http"), "{told}");
}

#[test]
fn operators_and_epochs_tell_what_was_done() {
    let (server, _directory) = server(3);
    let mut raw = Raw::connect(server.port);
    let mut query = |sql: &str| raw.query(sql).into_iter().filter(|line| line.starts_with("D:")).collect::<Vec<_>>();
    query("CREATE MATERIALIZED VIEW v AS SELECT name, count(*) AS n FROM t GROUP BY name");
    query("INSERT INTO t VALUES (4, 'row 4'), (5, 'row 4')");
    let counted = "SELECT node, rows_in, rows_out, views FROM ms_catalog.operators WHERE name = 'v' ORDER BY node";
    assert_eq!(query(counted), ["D:0|5|5|1", "D:1|5|4|1", "D:2|4|4|1"]);
    assert_eq!(query("SELECT sum(changes) FROM ms_catalog.epochs"), ["D:5"]);
    let last =
        "SELECT changes, bytes > 0, work_ms > 0, commit_ms > 0 FROM ms_catalog.epochs ORDER BY epoch DESC LIMIT 1";
    assert_eq!(query(last), ["D:2|t|t|t"]);
    let state = "SELECT state_bytes > 0, busy_ms > 0 FROM ms_catalog.operators WHERE operator LIKE 'aggregate%'";
    assert_eq!(query(state), ["D:t|t"]);
    let explained = query("EXPLAIN ANALYZE MATERIALIZED VIEW v");
    assert_eq!(explained.len(), 4, "{explained:?}");
    assert!(explained[0].starts_with("D:materialize public.v") && explained[0].contains("(in=4 out=4 time="));
    assert!(explained[1].contains("aggregate by (name)") && explained[1].contains(" bytes)"), "{explained:?}");
    assert!(explained[3].starts_with("D:counted since 2") && explained[3].ends_with("+00"), "{explained:?}");
    // What another view keeps already has been counted for longer.
    query("CREATE MATERIALIZED VIEW w AS SELECT name, count(*) AS n FROM t GROUP BY name HAVING count(*) > 1");
    assert_eq!(query(counted), ["D:0|5|5|2", "D:1|5|4|2", "D:2|4|4|1"]);
    let explained = query("EXPLAIN ANALYZE MATERIALIZED VIEW w");
    assert!(explained.iter().any(|line| line.contains(", for 2 views since 2")), "{explained:?}");
    let explained = query("EXPLAIN ANALYZE SELECT * FROM v WHERE n > 1");
    assert!(explained.iter().any(|line| line.contains("output_rows=1")), "{explained:?}");
    assert_eq!(explained.last().unwrap(), "D:rows: 1");
}

#[test]
fn a_join_with_few_rows_looks_them_up() {
    let (server, _directory) = server(1000);
    let mut raw = Raw::connect(server.port);
    let mut query = |sql: &str| raw.query(sql).into_iter().filter(|line| line.starts_with("D:")).collect::<Vec<_>>();
    query("CREATE TABLE few (k INTEGER)");
    query("INSERT INTO few VALUES (5), (77), (NULL), (77), (5000)");
    for sql in [
        "SELECT * FROM few JOIN t ON t.id = few.k",
        "SELECT few.k, t.name FROM few LEFT JOIN t ON t.id = few.k AND t.name <> 'none'",
        "SELECT * FROM t WHERE id IN (SELECT k FROM few)",
        "SELECT * FROM (SELECT k AS id FROM few) f JOIN t USING (id)",
        "SELECT name FROM t WHERE id = ANY (ARRAY[5, 77, 78, 5000])",
    ] {
        let explained = query(&format!("EXPLAIN ANALYZE {sql}"));
        let read = explained.iter().find(|line| line.contains(" on public.t")).expect("t is read");
        assert!(read.contains("Key Lookup on public.t (id IN ("), "{sql}: {explained:#?}");
    }
    let explained = query("EXPLAIN ANALYZE SELECT * FROM t ORDER BY id DESC LIMIT 3");
    assert!(
        explained[0].contains("Scan Backward on public.t") && explained[0].contains("output_rows=3,"),
        "{explained:?}"
    );
}

#[test]
fn the_log_is_json_where_asked_and_holds_no_secrets() {
    let directory = tempfile::tempdir().unwrap();
    let mut process = Command::new(env!("CARGO_BIN_EXE_millstream"))
        .args(["serve", "--listen", "127.0.0.1:0", "--log", "debug", "--log-format", "json", "--data-dir"])
        .arg(directory.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = process.stderr.take().unwrap();
    let log = std::thread::spawn(move || {
        let mut text = String::new();
        log.read_to_string(&mut text).unwrap();
        text
    });
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let port = lines.find_map(|line| line.unwrap().strip_prefix("listening on 127.0.0.1:")?.parse().ok()).unwrap();
    let mut raw = Raw::connect(port);
    raw.query("CREATE TABLE t (id integer)");
    let refused = raw.query(
        "CREATE SOURCE s (n integer) WITH (connector = 'kafka', topic = 't', properties.bootstrap.server = '127.0.0.1:1',
             properties.security.protocol = 'PLAINTEXT', properties.sasl.password = 'hunter2') FORMAT PLAIN ENCODE JSON",
    );
    assert!(refused[0].starts_with("E:"), "{refused:?}");
    process.kill().unwrap();
    process.wait().unwrap();
    let log = log.join().unwrap();
    assert!(!log.contains("hunter2"), "{log}");
    let events = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()).collect::<Vec<_>>();
    let said =
        |message: &str, field: &str| events.iter().any(|event| event["message"] == message && !event[field].is_null());
    assert!(said("the database is open", "data_dir"), "{log}");
    assert!(said("a client has connected", "session"), "{log}");
    assert!(said("the catalog has changed", "epoch"), "{log}");
    assert!(said("an epoch is committed", "commit"), "{log}");
    assert!(said("a client is told an error", "sqlstate"), "{log}");
}
