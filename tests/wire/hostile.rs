//! Clients that mean harm, or are broken: lengths that lie, text that is no SQL, statements that ask for more than there is,
//! connections that say half a word. Each is told what is wrong, and nobody else notices.

use std::io::Read;
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;
use std::time::Instant;

use crate::raw::Message;
use crate::raw::Raw;
use crate::raw::message;
use crate::server;
use crate::support::Server;

/// A header with a length that is not its body's.
fn header(tag: u8, length: u32) -> Vec<u8> {
    [&[tag][..], &length.to_be_bytes()].concat()
}

/// The rows are as they were, and the server answers at once.
fn is_alive(server: &Server) {
    let begin = Instant::now();
    let answer = Raw::connect(server.port).query("SELECT count(*), min(name) FROM t");
    assert_eq!(answer, ["T:count|min", "D:3|row 1", "C:SELECT 1", "Z:I"]);
    assert!(begin.elapsed() < Duration::from_secs(30), "it takes {:?}", begin.elapsed());
}

/// How much memory the server takes, in bytes.
fn memory(server: &Server) -> u64 {
    let mut stream = TcpStream::connect(("127.0.0.1", server.http)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    let value = page.lines().find_map(|line| line.strip_prefix("process_resident_memory_bytes "));
    value.expect("the page has it").parse::<f64>().unwrap() as u64
}

/// What a statement is answered with: the state and the message of its error, or the tags of the answer.
fn answer(raw: &mut Raw, sql: &str) -> String {
    raw.send(&message('Q', &[sql.as_bytes(), b"\0"].concat()));
    let messages = raw.until_ready();
    messages.iter().for_each(assert_is_clear);
    let shown = messages.iter().map(Message::show).filter(|shown| !shown.starts_with("Z:"));
    shown.map(|shown| shown.chars().take(200).collect::<String>()).collect::<Vec<_>>().join(" ")
}

/// An error speaks of SQL, not of what lies underneath; what is beyond a limit comes with what to do about it.
fn assert_is_clear(message: &Message) {
    if message.tag != 'E' {
        return;
    }
    let (state, told, hint) = (message.field('C'), message.field('M'), message.field('H'));
    let foreign =
        ["DataFusion", "Arrow", "Utf8", "Int32", "Int64", "Decimal128", "Float64", "op_", "\u{1}", "xternal error"];
    assert!(!foreign.iter().any(|word| told.contains(word)), "{told}");
    assert!(!told.is_empty() && !told.ends_with('.') && !told.contains('\n') && state != "XX000", "{state} {told}");
    assert!(!state.starts_with("54") && !state.starts_with("53") || !hint.is_empty(), "{state} {told}: no hint");
}

#[test]
fn lengths_that_lie_are_refused_before_anything_is_allocated() {
    let (server, _directory) = server(3);
    let before = memory(&server);
    for length in [0, 3, 7, 10_001, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
        let mut raw = Raw::open(server.port);
        raw.send(&[&u32::to_be_bytes(length)[..], &[0, 3, 0, 0]].concat());
        let fatal = raw.read().expect("an error");
        assert_eq!((fatal.field('S').as_str(), fatal.field('C').as_str()), ("FATAL", "08P01"), "{length}");
        assert_eq!(fatal.field('M'), "invalid length of startup packet");
        assert!(fatal.field('H').starts_with("This port is for clients that speak Postgres' protocol"));
        assert!(raw.is_at_end());
    }
    for (tag, lengths) in [
        (b'Q', &[0, 3, 0x1000_0001, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff][..]),
        (b'B', &[0, 3, 0x7fff_ffff, 0xffff_fffc]),
        (b'S', &[0, 3, 10_001, 0xffff_ffff]),
        (b'E', &[2, 10_001, 0x8000_0004]),
        (b'p', &[4, 100]),
        (0, &[4]),
    ] {
        for &length in lengths {
            let mut raw = Raw::connect(server.port);
            raw.send(&header(tag, length));
            let fatal = raw.read().expect("an error");
            assert_eq!((fatal.field('S').as_str(), fatal.field('C').as_str()), ("FATAL", "08P01"), "{tag} {length}");
            let (told, detail) = (fatal.field('M'), fatal.field('D'));
            match tag {
                b'p' | 0 => assert_eq!(told, format!("invalid frontend message type {tag}")),
                _ => {
                    assert_eq!(told, format!("invalid length {length} of frontend message type \"{}\"", tag as char));
                    assert!(detail.starts_with("It may be 4 to ") && detail.ends_with(" bytes."), "{detail}");
                }
            }
            assert!(raw.is_at_end());
        }
    }
    // Lengths that are allowed, by clients that never send what they say.
    let mut promised = Vec::new();
    for _ in 0..20 {
        let mut raw = Raw::connect(server.port);
        raw.send(&header(b'Q', 200 << 20));
        raw.send(b"SELECT");
        promised.push(raw);
    }
    // Counts inside of a message that is much shorter.
    let mut raw = Raw::connect(server.port);
    for (tag, body) in [
        ('B', &b"\0\0\xff\xff"[..]),
        ('B', b"\0\0\0\0\xff\xff"),
        ('B', b"\0\0\0\0\0\x01\x7f\xff\xff\xff"),
        ('B', b"\0\0\0\0\0\x01\xff\xff\xff\xfe"),
        ('P', b"\0SELECT 1\0\xff\xff"),
        ('D', b"S"),
        ('C', b"X\0"),
        ('E', b"\0\x7f"),
    ] {
        raw.send(&[message(tag, body), message('S', b"")].concat());
        let answer = raw.until_ready().iter().map(Message::show).collect::<Vec<_>>();
        assert!(answer[0].starts_with("E:08P01") || answer[0].starts_with("E:26000"), "{tag} {body:?}: {answer:?}");
    }
    is_alive(&server);
    let grown = memory(&server).saturating_sub(before);
    assert!(grown < 150 << 20, "the memory has grown by {grown} bytes");
}

/// Level, state and message of what ends a connection that breaks the protocol.
fn fatal_of(told: &str) -> (String, String, String) {
    ("FATAL".to_string(), "08P01".to_string(), told.to_string())
}

#[test]
fn who_speaks_another_protocol_is_told_so() {
    let (server, _directory) = server(3);
    for (bytes, hint) in [
        (
            &b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
            "This port is for Postgres clients; HTTP is answered on that of --http.",
        ),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "This port is for clients that speak Postgres' protocol, version 3."),
    ] {
        let mut raw = Raw::open(server.port);
        raw.send(bytes);
        let fatal = raw.read().expect("an error");
        assert_eq!(
            (fatal.field('S'), fatal.field('C'), fatal.field('M')),
            fatal_of("invalid length of startup packet")
        );
        assert_eq!(fatal.field('H'), hint);
        assert!(raw.is_at_end());
    }
    // What is asked for before it is known whether the connection is encrypted.
    let mut raw = Raw::open(server.port);
    let mut bytes = b"\0\0\0\x08\x04\xd2\x16\x2f".to_vec();
    bytes.extend(b"\0\0\0\x12\0\x03\0\0user\0ann\0\0");
    raw.send(&bytes);
    let fatal = raw.read().expect("an error");
    let told = (fatal.field('S'), fatal.field('C'), fatal.field('M'));
    assert_eq!(told, fatal_of("received unencrypted data after an encryption request"));
    assert!(raw.is_at_end());
    // Who waits for the answer goes on in the clear.
    let mut raw = Raw::open(server.port);
    raw.send(&bytes[..8]);
    assert_eq!(raw.read_byte(), b'N');
    raw.startup(&[("user", "ann")]);
    assert_eq!(raw.until_ready().last().map(Message::show).as_deref(), Some("Z:I"));
    is_alive(&server);
}

#[test]
fn bytes_that_are_no_text_are_named() {
    let (server, _directory) = server(3);
    let mut raw = Raw::connect(server.port);
    raw.send(&message('Q', b"SELECT 'a\xe2\x82 b'\0"));
    let told = raw.until_ready().iter().map(Message::show).collect::<Vec<_>>();
    assert_eq!(told, ["E:22021 invalid byte sequence for encoding \"UTF8\": 0xe2 0x82 0x20", "Z:I"]);
    raw.send(&message('P', b"\0SELECT $1::text\0\0\0"));
    raw.send(&message('B', b"\0\0\0\0\0\x01\0\0\0\x02a\xff\0\0"));
    raw.send(&message('S', b""));
    let told = raw.until_ready().iter().map(Message::show).collect::<Vec<_>>();
    assert_eq!(told, ["1", "E:22021 invalid byte sequence for encoding \"UTF8\": 0xff", "Z:I"]);
    is_alive(&server);
}

#[test]
fn half_a_word_keeps_nobody_waiting() {
    let (server, _directory) = server(3);
    let mut silent = Vec::new();
    for half in [
        &b""[..],
        b"\0",
        b"\0\0\0\x20\0\x03\0\0user\0an",
        // A TLS handshake without asking, and one that does not wait for the answer.
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        b"\0\0\0\x08\x04\xd2\x16\x2f\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
    ] {
        for _ in 0..10 {
            let mut raw = Raw::open(server.port);
            raw.send(half);
            silent.push((half, raw));
        }
    }
    for _ in 0..10 {
        let mut raw = Raw::connect(server.port);
        raw.send(&message('Q', b"SELECT 1\0")[..9]);
        silent.push((b"", raw));
    }
    is_alive(&server);
    // What was sent as if it were encrypted is refused, and not taken for anything else.
    for (half, raw) in &mut silent {
        let handshake = half.windows(3).position(|bytes| bytes == b"\x16\x03\x01");
        if let Some(place) = handshake {
            let fatal = raw.read().expect("an error");
            let told = (fatal.field('S'), fatal.field('C'), fatal.field('M'));
            match place {
                0 => {
                    assert_eq!(told, fatal_of("invalid length of startup packet"));
                    assert!(fatal.field('H').starts_with("There is no TLS here"), "{}", fatal.field('H'));
                }
                _ => assert_eq!(told, fatal_of("received unencrypted data after an encryption request")),
            }
            assert!(raw.is_at_end());
        }
    }
    silent.into_iter().for_each(|(_, raw)| raw.vanish());
    is_alive(&server);
}

#[test]
fn a_client_that_stops_reading_waits_alone() {
    let (server, _directory) = server(3);
    let before = memory(&server);
    let mut slow = Vec::new();
    for _ in 0..5 {
        let mut raw = Raw::connect(server.port);
        raw.send(&message('Q', b"SELECT repeat(a.name, 1000) FROM t a, t b, t c, t d, t e, t f, t g, t h, t i, t j, t k, t l, t m, t n, t o, t p\0"));
        assert_eq!(raw.read().expect("it begins").tag, 'T');
        slow.push(raw);
    }
    let mut writer = Raw::connect(server.port);
    for id in 4..54 {
        assert_eq!(writer.query(&format!("INSERT INTO t VALUES ({id}, 'row')")), ["C:INSERT 0 1", "Z:I"]);
        assert_eq!(writer.query(&format!("DELETE FROM t WHERE id = {id}")), ["C:DELETE 1", "Z:I"]);
    }
    is_alive(&server);
    let grown = memory(&server).saturating_sub(before);
    assert!(grown < 200 << 20, "the memory has grown by {grown} bytes");
    // It can still be cancelled, and goes on.
    let mut raw = slow.pop().expect("one of them");
    let last = raw.until_cancelled(server.port);
    assert!(last[last.len() - 2].show().starts_with("E:57014"));
    assert_eq!(raw.query("SELECT 1 AS one"), ["T:one", "D:1", "C:SELECT 1", "Z:I"]);
}

#[test]
fn there_are_places_for_five_hundred() {
    let (server, _directory) = server(3);
    let mut clients = (0..500).map(|_| Raw::connect(server.port)).collect::<Vec<_>>();
    let mut one_more = Raw::open(server.port);
    one_more.startup(&[("user", "ann"), ("database", "millstream")]);
    let fatal = one_more.read().expect("an answer");
    assert_eq!((fatal.field('S').as_str(), fatal.field('C').as_str()), ("FATAL", "53300"));
    assert_eq!(fatal.field('M'), "sorry, too many clients already");
    assert!(fatal.field('H').starts_with("The server takes 500 connections at once: "), "{}", fatal.field('H'));
    for client in &mut clients {
        assert_eq!(client.query("SELECT count(*) FROM t")[1], "D:3");
    }
    clients.pop().expect("the last").vanish();
    // Its place is free as soon as the server has seen that it is gone.
    loop {
        let mut next = Raw::open(server.port);
        next.startup(&[("user", "ann"), ("database", "millstream")]);
        match next.read().expect("an answer").tag {
            'R' => break,
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
    }
    drop(clients);
}

#[test]
fn a_wrong_key_cancels_nothing() {
    let (server, _directory) = server(3);
    let mut raw = Raw::connect(server.port);
    let (pid, secret) = (raw.pid, raw.secret);
    raw.send(&message('Q', b"SELECT count(*) FROM generate_series(1, 1000000)\0"));
    for (pid, secret) in [(pid, secret ^ 1), (pid, !secret), (pid + 1, secret), (0, 0), (-1, -1)] {
        (raw.pid, raw.secret) = (pid, secret);
        raw.cancel(server.port);
    }
    // A key of another length.
    let mut other = Raw::open(server.port);
    other.send(&[&14u32.to_be_bytes()[..], &80_877_102u32.to_be_bytes(), &pid.to_be_bytes(), b"ab"].concat());
    assert!(other.is_at_end());
    let answer = raw.until_ready().iter().map(Message::show).collect::<Vec<_>>();
    assert_eq!(answer, ["T:count", "D:1000000", "C:SELECT 1", "Z:I"]);
}

#[test]
fn text_that_is_no_statement_is_told_from_one() {
    let (server, _directory) = server(3);
    let mut raw = Raw::connect(server.port);
    let nested = |n: usize| format!("SELECT {}1{}", "(".repeat(n), ")".repeat(n));
    let many = |word: &str, n: usize| (0..n).map(|i| format!("{word}{i}")).collect::<Vec<_>>();
    for (sql, states) in [
        ("SELECT ".to_string() + &"* FROM FROM ".repeat(90_000), &["42601"][..]),
        ("'".repeat(1_000_001), &["42601"]),
        ("/*".repeat(500_000), &["42601", "54001"]),
        ("$a$".to_string() + &"x".repeat(1_000_000), &["42601"]),
        ("SELECT ".repeat(140_000), &["42601", "54001"]),
        (format!("SELECT {}", "a.".repeat(500_000)), &["42601", "54001"]),
        (nested(10_000), &["54001"]),
        (format!("SELECT {}", "(".repeat(1_000_000)), &["54001"]),
        (format!("SELECT {}1{}", "abs(".repeat(10_000), ")".repeat(10_000)), &["54001"]),
        (format!("SELECT {}1", "-(".repeat(10_000)), &["54001", "42601"]),
        (format!("SELECT {}1", "- ".repeat(100_000)), &["54001"]),
        (format!("SELECT {}true", "NOT ".repeat(100_000)), &["54001", "42601"]),
        (format!("SELECT 1{}", "::integer".repeat(50_000)), &["54001", "T"]),
        (format!("SELECT {}1{}", "CASE WHEN true THEN ".repeat(10_000), " END".repeat(10_000)), &["54001"]),
        (format!("SELECT 1{}", " + 1".repeat(100_000)), &["54001", "T"]),
        (format!("SELECT 'a'{}", " || 'b'".repeat(20_000)), &["54001", "T"]),
        (format!("SELECT count(*) FROM t WHERE {}", many("id = ", 10_000).join(" OR ")), &["T"]),
        (format!("SELECT count(*) FROM t WHERE id IN ({})", many("", 100_000).join(", ")), &["54001", "T"]),
        (format!("SELECT {}", many("1 AS c", 5_000).join(", ")), &["T", "54000", "54001"]),
        ("SELECT 1 ".to_string() + &"UNION ALL SELECT 1 ".repeat(20_000), &["54001"]),
        (format!("SELECT * FROM {}1{}", "(SELECT ".repeat(5_000), ") x".repeat(5_000)), &["54001"]),
        (format!("SELECT * FROM t {}", "CROSS JOIN t ".repeat(10_000)), &["42712"]),
        (format!("WITH {} SELECT 1", many("a AS (SELECT 1), b", 5_000).join(", ")), &["42601", "42712", "54001"]),
        (format!("SELECT * FROM {}", "x".repeat(1_000_000)), &["42P01", "42622"]),
        (format!("SELECT 1e{}", "9".repeat(100_000)), &["22003", "42601"]),
        (format!("SELECT {}", "9".repeat(1_000_000)), &["22003"]),
        (";".repeat(1_000_000), &["I"]),
        ("SELECT 1;".repeat(3_000) + "SELECT", &["42601"]),
        ("\u{0}".to_string(), &["I", "08P01"]),
        ("SELECT '\u{feff}\u{202e}🦀".to_string() + &"\u{301}".repeat(100_000), &["42601"]),
    ] {
        let begin = Instant::now();
        let answer = answer(&mut raw, &sql);
        let shown = sql.chars().take(40).collect::<String>();
        let is = |state: &&&str| match state.len() {
            1 => answer.starts_with(**state),
            _ => answer.starts_with(&format!("E:{state} ")),
        };
        assert!(states.iter().any(|state| is(&state)), "{shown}...: {answer}");
        assert!(begin.elapsed() < Duration::from_secs(60), "{shown}... takes {:?}", begin.elapsed());
    }
    is_alive(&server);
}

#[test]
fn statements_that_ask_for_too_much_fail_alone() {
    let (server, _directory) = server(3);
    let before = memory(&server);
    let mut raw = Raw::connect(server.port);
    assert_eq!(raw.query("SET statement_timeout = '3s'")[0], "C:SET");
    for (sql, states) in [
        ("SELECT count(*) FROM generate_series(1, 1000000000000)", &["54000"][..]),
        ("SELECT * FROM generate_series(1, 1e12)", &["57014", "53200", "54000", "22023", "42883", "0A000", "42804"]),
        ("SELECT generate_series(1, 1000000000000) ORDER BY 1 DESC", &["54000"]),
        ("CREATE MATERIALIZED VIEW m AS SELECT n FROM generate_series(1, 1000000000000) AS g (n)", &["0A000"]),
        ("INSERT INTO t SELECT n, 'x' FROM generate_series(10, 1000000000) AS g (n)", &["54000"]),
        ("SELECT length(repeat('x', 1000000000))", &["54000"]),
        ("SELECT repeat(repeat('x', 1000000), 1000000)", &["54000"]),
        ("SELECT length(repeat(name, 500000000)) FROM t", &["54000"]),
        ("SELECT lpad('x', 2000000000, 'y')", &["54000"]),
        ("SELECT length(rpad(name, 1000000000)) FROM t, generate_series(1, 100)", &["54000"]),
        ("SELECT 1e131071", &["22003", "T"]),
        ("SELECT '1e131071'::numeric", &["22003", "T"]),
        ("SELECT '1e131073'::numeric * 10", &["22003"]),
        ("SELECT '1e2147483647'::numeric", &["22003", "22P02"]),
        ("SELECT 10::numeric ^ 1000000", &["22003"]),
        ("SELECT 1e308::float8 * 10", &["22003"]),
        ("SELECT regexp_replace(repeat('a', 100000), '(a*)*b', 'x')", &["T", "2201B", "57014"]),
        ("SELECT 'x' ~ '((((a{100}){100}){100}){100})'", &["2201B", "57014"]),
        (
            "SELECT count(*) FROM t a, t b, t c, t d, t e, t f, t g, t h, t i, t j, t k, t l, t m, t n, t o, t p, t q, t r",
            &["57014", "53200", "T"],
        ),
        ("SELECT array_agg(a.id) FROM generate_series(1, 100000000) AS a (id)", &["54000"]),
    ] {
        let begin = Instant::now();
        let answer = answer(&mut raw, sql);
        let is = |state: &&str| match state.len() {
            1 => answer.starts_with(state),
            _ => answer.contains(&format!("E:{state} ")),
        };
        assert!(states.iter().any(is), "{sql}: {answer}");
        assert!(begin.elapsed() < Duration::from_secs(60), "{sql} takes {:?}", begin.elapsed());
        is_alive(&server);
    }
    let grown = memory(&server).saturating_sub(before);
    assert!(grown < 2 << 30, "the memory has grown by {grown} bytes");
}

#[test]
fn planning_ends_with_the_time_limit() {
    let (server, _directory) = server(3);
    let mut raw = Raw::connect(server.port);
    assert_eq!(raw.query("SET statement_timeout = '1s'")[0], "C:SET");
    // To plan it takes minutes.
    let condition = (0..20_000).map(|i| format!("id = {i}")).collect::<Vec<_>>().join(" OR ");
    for what in ["SELECT count(*) FROM t", "CREATE MATERIALIZED VIEW m AS SELECT count(*) FROM t", "DELETE FROM t"] {
        let begin = Instant::now();
        let answer = answer(&mut raw, &format!("{what} WHERE {condition}"));
        assert!(answer.starts_with("E:57014 "), "{what}: {answer}");
        assert!(begin.elapsed() < Duration::from_secs(40), "{what} takes {:?}", begin.elapsed());
        is_alive(&server);
    }
}

#[test]
fn records_that_are_none_are_kept_apart_and_stop_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let nested = |depth: usize| {
        [b"{\"id\": 3, \"x\": ".to_vec(), b"[".repeat(depth), b"]".repeat(depth), b"}".to_vec()].concat()
    };
    let long = [b"{\"id\": 4, \"name\": \"".to_vec(), vec![b'x'; 50 << 20], b"\"}".to_vec()].concat();
    // Each with whether it is a row all the same.
    let strange: Vec<(Vec<u8>, bool)> = vec![
        (b"no JSON".to_vec(), false),
        (b"{\"id\": 1, \"name\": \"\xff\xfe\"}".to_vec(), false),
        (b"{\"id\": 1".to_vec(), false),
        (b"[1, 2]".to_vec(), false),
        (b"\0\0\0".to_vec(), false),
        (nested(100), true),
        (nested(100_000), false),
        (b"[".repeat(1_000_000), false),
        (long, false),
        (b"{\"name\": \"without id\"}".to_vec(), true),
        (b"{\"id\": 5, \"name\": \"\\ud800\"}".to_vec(), false),
    ];
    let (mut file, mut rows) = (Vec::new(), 0);
    for (line, is_row) in &strange {
        file.extend([line.as_slice(), b"\n{\"id\": 7, \"name\": \"good\"}\n"].concat());
        rows += 1 + usize::from(*is_row);
    }
    std::fs::write(directory.path().join("strange.jsonl"), file).unwrap();
    let root = directory.path().to_str().unwrap();
    let server = Server::start(&directory.path().join("data"), &["--workers", "1", "--file-root", root]);
    let mut raw = Raw::connect(server.port);
    for sql in [
        "CREATE SOURCE strange (id BIGINT, name TEXT) WITH (connector = 'file', path = 'strange.jsonl') FORMAT PLAIN ENCODE JSON",
        "CREATE MATERIALIZED VIEW seen AS SELECT id, name, count(*) AS n FROM strange GROUP BY id, name",
        "FLUSH",
    ] {
        let answer = raw.query(sql);
        assert!(answer[0].starts_with("C:"), "{sql}: {answer:?}");
    }
    let begin = Instant::now();
    let expected = format!("D:{rows}|{}", strange.len());
    let counts = "SELECT (SELECT sum(n) FROM seen), (SELECT n FROM seen WHERE id = 7)";
    while !raw.query(counts).contains(&expected) {
        assert!(begin.elapsed() < Duration::from_secs(120), "{:?}, not {expected}", raw.query(counts));
        std::thread::sleep(Duration::from_millis(50));
    }
    let told = raw.query("SELECT count(*), count(reason) FROM strange$errors");
    assert_eq!(told[1], format!("D:{0}|{0}", strange.iter().filter(|(_, is_row)| !is_row).count()));
}
