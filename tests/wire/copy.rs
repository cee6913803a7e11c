//! COPY, both ways.

use std::fmt::Write;

use crate::raw::Message;
use crate::raw::Raw;
use crate::raw::message;
use crate::raw::pipeline;
use crate::server;

#[test]
fn rows_are_copied_out_one_message_each() {
    let (server, _directory) = server(0);
    let mut raw = Raw::connect(server.port);
    raw.query("INSERT INTO t VALUES (1, 'a'), (2, NULL), (3, E'x\\ty, \"z\"')");
    let text = ["H", "d:1\ta\n", "d:2\t\\N\n", "d:3\tx\\ty, \"z\"\n", "c", "C:COPY 3", "Z:I"];
    assert_eq!(raw.query("COPY t TO STDOUT"), text);
    let csv = ["H", "d:id,name\n", "d:1,\"a\"\n", "d:2,\n", "d:3,\"x\ty, \"\"z\"\"\"\n", "c", "C:COPY 3", "Z:I"];
    assert_eq!(raw.query("COPY t TO STDOUT (FORMAT csv, HEADER, FORCE_QUOTE (name))"), csv);
    assert_eq!(raw.query("COPY t TO STDOUT CSV HEADER FORCE QUOTE name"), csv);
    assert_eq!(raw.query("COPY (SELECT name FROM t WHERE id = 1) TO STDOUT"), ["H", "d:a\n", "c", "C:COPY 1", "Z:I"]);
    assert_eq!(raw.query("COPY t (name) TO STDOUT WITH DELIMITER ';' NULL '-'")[1..3], ["d:a\n", "d:-\n"]);
    let returned = raw.query("COPY (DELETE FROM t WHERE id = 3 RETURNING id) TO STDOUT");
    assert_eq!(returned, ["H", "d:3\n", "c", "C:COPY 1", "Z:I"]);
    raw.send(&[pipeline("COPY t TO STDOUT", 0), message('S', b"")].concat());
    let answer: Vec<String> = raw.until_ready().iter().map(Message::show).collect();
    assert_eq!(answer, ["1", "2", "n", "H", "d:1\ta\n", "d:2\t\\N\n", "c", "C:COPY 2", "Z:I"]);
}

#[test]
fn rows_are_copied_in_as_one_transaction() {
    let (server, _directory) = server(1);
    let mut raw = Raw::connect(server.port);
    // Pieces end anywhere.
    assert_eq!(raw.copy_in("COPY t FROM STDIN", &["2\tb\n", "3\t\\", "N\n4", "\tx\n"]), ["G", "C:COPY 3", "Z:I"]);
    assert_eq!(raw.copy_in("COPY t (id) FROM STDIN (FORMAT csv, HEADER)", &["id\n5"]), ["G", "C:COPY 1", "Z:I"]);
    let rows = raw.query("SELECT * FROM t ORDER BY id");
    assert_eq!(rows[1..6], ["D:1|row 1", "D:2|b", "D:3|NULL", "D:4|x", "D:5|NULL"]);

    let clash = "E:23505 duplicate key value violates unique constraint \"t_pkey\"";
    assert_eq!(raw.copy_in("COPY t FROM STDIN", &["6\ta\n", "5\tb\n"]), ["G", clash, "Z:I"]);
    assert_eq!(raw.query("SELECT count(*) FROM t")[1], "D:5");
    raw.query("BEGIN");
    assert_eq!(raw.copy_in("COPY t FROM STDIN", &["6\ta\n"]), ["G", "C:COPY 1", "Z:T"]);
    assert_eq!(raw.query("SELECT count(*) FROM t; ROLLBACK")[1], "D:6");
    assert_eq!(raw.query("SELECT count(*) FROM t")[1], "D:5");

    let mut many = String::new();
    (10..20_010).for_each(|id| writeln!(many, "{id}\tname {id}").unwrap());
    let pieces: Vec<&str> = many.as_bytes().chunks(1000).map(|piece| std::str::from_utf8(piece).unwrap()).collect();
    assert_eq!(raw.copy_in("COPY t FROM STDIN", &pieces), ["G", "C:COPY 20000", "Z:I"]);
    assert_eq!(raw.query("SELECT count(*), max(id) FROM t")[1], "D:20005|20009");
}

#[test]
fn an_error_names_the_line_while_data_still_flow() {
    let (server, _directory) = server(1);
    let mut raw = Raw::connect(server.port);
    let mut good = String::new();
    (2..9000).for_each(|id| writeln!(good, "{id}\tx").unwrap());
    for (bad, sqlstate, context) in [
        ("9000\n", "22P04", "COPY t, line 8999: \"9000\""),
        ("x\ty\n", "22P02", "COPY t, line 8999, column id: \"x\""),
        ("7777\ty\n", "23505", "COPY t, line 8999"),
        ("\\N\ty\n", "23502", "COPY t, line 8999"),
    ] {
        let data = [good.as_str(), bad, good.as_str()];
        raw.send(&message('Q', b"COPY t FROM STDIN\0"));
        data.iter().for_each(|piece| raw.send(&message('d', piece.as_bytes())));
        raw.send(&message('c', b""));
        let messages = raw.until_ready();
        let error = messages.iter().find(|message| message.tag == 'E').expect("an error");
        assert_eq!((error.field('C').as_str(), error.field('W').as_str()), (sqlstate, context));
        assert_eq!(raw.query("SELECT count(*) FROM t")[1], "D:1");
    }
    raw.send(&[message('Q', b"COPY t FROM STDIN\0"), message('d', b"2\ta\n"), message('f', b"no more\0")].concat());
    assert_eq!(raw.until_ready()[1].show(), "E:57014 COPY from stdin failed: no more");
    // In the extended protocol all is skipped up to Sync.
    raw.send(&pipeline("COPY t FROM STDIN", 0));
    raw.send(&[message('d', b"x\n"), message('d', b"y\n"), message('c', b""), message('S', b"")].concat());
    let answer: Vec<String> = raw.until_ready().iter().map(Message::show).collect();
    assert_eq!(answer[..4], ["1", "2", "n", "G"]);
    assert_eq!(answer[4..], ["E:22P04 missing data for column \"name\"", "Z:I"]);
    assert_eq!(raw.query("SELECT count(*) FROM t")[1], "D:1");
}

#[test]
fn a_copy_that_waits_can_be_cancelled() {
    let (server, _directory) = server(1);
    let mut raw = Raw::connect(server.port);
    raw.send(&message('Q', b"COPY t FROM STDIN\0"));
    assert_eq!(raw.read().unwrap().tag, 'G');
    raw.cancel(server.port);
    let last = raw.until_ready();
    assert_eq!(last[last.len() - 2].show(), "E:57014 canceling statement due to user request");
    raw.send(&message('d', b"2\ta\n"));
    assert_eq!(raw.query("SELECT count(*) FROM t")[1], "D:1");
}

#[test]
fn what_copy_cannot_do_is_refused() {
    let (server, _directory) = server(1);
    let mut raw = Raw::connect(server.port);
    raw.query("CREATE VIEW v AS SELECT 1 AS one");
    for (sql, error) in [
        ("COPY t FROM '/etc/passwd'", "E:0A000 COPY with files of the server or programs is not supported"),
        ("COPY v FROM STDIN", "E:42809 cannot copy to view \"v\""),
        ("COPY nope TO STDOUT", "E:42P01 relation \"nope\" does not exist"),
        ("COPY t (nope) FROM STDIN", "E:42703 column \"nope\" of relation \"t\" does not exist"),
        ("COPY t TO STDOUT (FORMAT csv, DELIMITER 'ab')", "E:0A000 COPY delimiter must be a single one-byte character"),
        ("COPY t TO STDOUT (QUOTE '''')", "E:0A000 COPY QUOTE available only in CSV mode"),
        ("COPY t TO STDOUT (FORMAT xml)", "E:22023 COPY format \"xml\" not recognized"),
        ("COPY (DELETE FROM t) TO STDOUT", "E:0A000 COPY query must have a RETURNING clause"),
        ("SET transaction_read_only = on", "N:25P01 SET LOCAL can only be used in transaction blocks"),
    ] {
        assert_eq!(raw.query(sql)[0], error, "{sql}");
    }
    assert!(raw.query("BEGIN READ ONLY; COPY t FROM STDIN")[1].starts_with("E:25006"));
}
