//! Cursors and portals.

use crate::ENDLESS;
use crate::raw;
use crate::raw::Message;
use crate::raw::Raw;
use crate::raw::message;
use crate::server;

#[test]
fn a_cursor_gives_its_rows_in_pieces() {
    let (server, _directory) = server(5);
    let mut raw = Raw::connect(server.port);
    for (sql, expected) in [
        ("BEGIN", &["C:BEGIN", "Z:T"][..]),
        ("DECLARE c CURSOR FOR SELECT id FROM t ORDER BY id", &["C:DECLARE CURSOR", "Z:T"]),
        ("SELECT name, is_holdable FROM pg_cursors", &["T:name|is_holdable", "D:c|f", "C:SELECT 1", "Z:T"]),
        ("FETCH c", &["T:id", "D:1", "C:FETCH 1", "Z:T"]),
        ("FETCH 2 IN c", &["T:id", "D:2", "D:3", "C:FETCH 2", "Z:T"]),
        ("MOVE c", &["C:MOVE 1", "Z:T"]),
        ("FETCH FORWARD ALL FROM c", &["T:id", "D:5", "C:FETCH 1", "Z:T"]),
        ("FETCH NEXT FROM c", &["T:id", "C:FETCH 0", "Z:T"]),
        ("CLOSE c", &["C:CLOSE CURSOR", "Z:T"]),
        (
            "DECLARE c BINARY NO SCROLL CURSOR FOR SELECT 65::int; FETCH c",
            &["C:DECLARE CURSOR", "T:int4", "D:\0\0\0A", "C:FETCH 1", "Z:T"],
        ),
        ("CLOSE ALL", &["C:CLOSE CURSOR ALL", "Z:T"]),
        ("FETCH c", &["E:34000 cursor \"c\" does not exist", "Z:E"]),
        ("ROLLBACK", &["C:ROLLBACK", "Z:I"]),
    ] {
        assert_eq!(raw.query(sql), expected, "{sql}");
    }
}

#[test]
fn a_scroll_cursor_goes_back_too() {
    let (server, _directory) = server(5);
    let mut raw = Raw::connect(server.port);
    raw.query("BEGIN; DECLARE s SCROLL CURSOR FOR SELECT id FROM t ORDER BY id");
    for (sql, ids) in [
        ("FETCH PRIOR s", &[][..]),
        ("FETCH 2 s", &[1, 2]),
        ("FETCH BACKWARD s", &[1]),
        ("FETCH BACKWARD s", &[]),
        ("FETCH FIRST s", &[1]),
        ("FETCH RELATIVE 2 s", &[3]),
        ("FETCH RELATIVE 0 s", &[3]),
        ("FETCH 0 s", &[3]),
        ("FETCH BACKWARD ALL s", &[2, 1]),
        ("FETCH LAST s", &[5]),
        ("FETCH NEXT s", &[]),
        ("FETCH -2 s", &[5, 4]),
        ("FETCH ABSOLUTE -4 s", &[2]),
        ("FETCH ABSOLUTE 9 s", &[]),
        ("FETCH PRIOR s", &[5]),
        ("FETCH ABSOLUTE -9 s", &[]),
        ("FETCH FORWARD ALL s", &[1, 2, 3, 4, 5]),
        ("FETCH ABSOLUTE 0 s", &[]),
        ("FETCH s", &[1]),
    ] {
        let rows = ids.iter().map(|id| format!("D:{id}"));
        let expected = [vec!["T:id".to_string()], rows.collect()].concat();
        let answer = raw.query(sql);
        assert_eq!(answer[..answer.len() - 2], expected, "{sql}");
        assert_eq!(answer[answer.len() - 2], format!("C:FETCH {}", ids.len()), "{sql}");
    }
    for (sql, tag) in
        [("MOVE FORWARD ALL IN s", "C:MOVE 4"), ("MOVE -3 s", "C:MOVE 3"), ("MOVE ABSOLUTE 7 s", "C:MOVE 0")]
    {
        assert_eq!(raw.query(sql), [tag, "Z:T"], "{sql}");
    }
    assert_eq!(raw.query("SELECT is_scrollable FROM pg_cursors")[1], "D:t");
    // What goes forward only can still leave rows out.
    raw.query("DECLARE f CURSOR FOR SELECT id FROM t ORDER BY id");
    assert_eq!(raw.query("FETCH ABSOLUTE 2 f")[1], "D:2");
    assert_eq!(raw.query("FETCH RELATIVE 2 f")[1], "D:4");
    assert_eq!(raw.query("FETCH PRIOR f")[0], "E:55000 cursor can only scan forward");
    raw.query("ROLLBACK; BEGIN; DECLARE l SCROLL CURSOR FOR SELECT repeat('x', 200000) FROM t a, t b, t c, t d");
    assert!(raw.query("MOVE ALL l")[0].starts_with("E:53200"));
}

#[test]
fn a_cursor_lives_as_long_as_its_transaction_unless_it_is_held() {
    let (server, _directory) = server(3);
    let mut raw = Raw::connect(server.port);
    let alone = "E:25P01 DECLARE CURSOR can only be used in transaction blocks";
    assert_eq!(raw.query("DECLARE c CURSOR FOR SELECT 1"), [alone, "Z:I"]);
    raw.query("BEGIN; DECLARE c CURSOR FOR SELECT 1; DECLARE h CURSOR WITH HOLD FOR SELECT id FROM t ORDER BY id");
    assert_eq!(raw.query("FETCH h; COMMIT")[1..], ["D:1", "C:FETCH 1", "C:COMMIT", "Z:I"]);
    // What is written later is not the cursor's.
    raw.query("DELETE FROM t");
    assert_eq!(raw.query("FETCH 1 FROM h")[1..], ["D:2", "C:FETCH 1", "Z:I"]);
    assert!(raw.query("FETCH c")[0].starts_with("E:34000"));
    // A failed transaction takes its own cursors with it, and no others.
    raw.query("BEGIN; DECLARE k CURSOR WITH HOLD FOR SELECT 1; ROLLBACK");
    assert!(raw.query("FETCH k")[0].starts_with("E:34000"));
    assert_eq!(raw.query("FETCH ALL h")[1..], ["D:3", "C:FETCH 1", "Z:I"]);

    raw.query("BEGIN; DECLARE a CURSOR FOR SELECT 1; SAVEPOINT s; DECLARE b CURSOR FOR SELECT 2");
    assert_eq!(raw.query("ROLLBACK TO s; FETCH a")[2], "D:1");
    assert!(raw.query("FETCH b")[0].starts_with("E:34000"));
}

#[test]
fn what_a_cursor_cannot_do_is_refused() {
    let (server, _directory) = server(0);
    let mut raw = Raw::connect(server.port);
    for (sql, error) in [
        ("DECLARE c SCROLL CURSOR FOR SUBSCRIBE t", "E:0A000 a subscription cannot have a SCROLL cursor"),
        ("FETCH ABSOLUTE FROM c", "E:42601 syntax error at or near \"FROM\""),
        ("DECLARE c CURSOR FOR DELETE FROM t", "E:42601 syntax error at or near \"DELETE\""),
        ("FETCH 1 c WITH (timeot = '1s')", "E:22023 unrecognized option \"timeot\""),
    ] {
        assert_eq!(raw.query(sql)[0], error, "{sql}");
    }
}

#[test]
fn a_fetch_with_a_timeout_gives_what_there_is() {
    let (server, _directory) = server(300);
    let mut raw = Raw::connect(server.port);
    raw.query(&format!("BEGIN; DECLARE none CURSOR FOR {ENDLESS} WHERE a.id + b.id + c.id + d.id < 0"));
    assert_eq!(raw.query("FETCH ALL none WITH (timeout = '100ms')"), ["T:id", "C:FETCH 0", "Z:T"]);
    raw.query("DECLARE e CURSOR FOR SELECT a.id FROM t a, t b, t c");
    let some = raw.query("FETCH 10 e WITH (timeout = '1 minute')");
    assert_eq!(some[some.len() - 2], "C:FETCH 10");
    let all = raw.query("FETCH ALL e WITH (timeout = '50ms')");
    assert!(all[all.len() - 2].starts_with("C:FETCH "), "it ends");
    raw.send(&message('Q', b"FETCH ALL none\0"));
    let last = raw.until_cancelled(server.port);
    assert_eq!(last[last.len() - 2].show(), "E:57014 canceling statement due to user request");
}

#[test]
fn a_cursor_is_declared_with_parameters_and_described_as_a_portal() {
    let (server, _directory) = server(4);
    let mut raw = Raw::connect(server.port);
    raw.query("BEGIN");
    let sql = b"DECLARE \"srv\" CURSOR FOR SELECT id, name FROM t WHERE id > $1 ORDER BY id";
    raw.send(
        &[
            message('P', &[b"\0", &sql[..], b"\0\0\0"].concat()),
            message('B', b"\0\0\0\0\0\x01\0\0\0\x012\0\0"),
            message('E', b"\0\0\0\0\0"),
            message('D', b"Psrv\0"),
            message('S', b""),
        ]
        .concat(),
    );
    let answer: Vec<String> = raw.until_ready().iter().map(Message::show).collect();
    assert_eq!(answer, ["1", "2", "C:DECLARE CURSOR", "T:id|name", "Z:T"]);
    raw.send(&[raw::pipeline("FETCH FORWARD 1 FROM srv", 0), message('S', b"")].concat());
    let answer: Vec<String> = raw.until_ready().iter().map(Message::show).collect();
    assert_eq!(answer, ["1", "2", "T:id|name", "D:3|row 3", "C:FETCH 1", "Z:T"]);
    raw.send(&[message('C', b"Psrv\0"), message('S', b"")].concat());
    assert_eq!(raw.until_ready()[0].show(), "3");
    assert!(raw.query("FETCH srv")[0].starts_with("E:34000"));
}
