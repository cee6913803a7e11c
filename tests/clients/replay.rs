//! The statements that clients send by themselves (to read the catalogs, above all), recorded from their conversations with
//! PostgreSQL 15: each must be answered with columns of the same names and like types as PostgreSQL answers it.

use std::path::Path;

use crate::raw::Message;
use crate::raw::Raw;
use crate::raw::message;
use crate::support::Server;
use crate::support::postgres::Postgres;

/// What the recorded statements are about.
const OBJECTS: [&str; 4] = [
    "CREATE TABLE t (id int PRIMARY KEY, name varchar(20) NOT NULL, price numeric(10,2), ts timestamptz DEFAULT now(), \
     tags text, j text)",
    "CREATE TABLE child (id int PRIMARY KEY, t_id int, note text)",
    "CREATE VIEW v AS SELECT id, name FROM t",
    "CREATE MATERIALIZED VIEW mv AS SELECT name, count(*) AS n FROM t GROUP BY name",
];

/// The OID of `t` where the statements were recorded.
const RECORDED_OID: &str = "16397";

/// Statements that nobody needs an answer to, by what they contain: types that are not there yet, and what a driver asks
/// about types that are not built in.
const NOT_ANSWERED: [&str; 4] = ["'{}'::jsonb", "$1::t[]", "coalesce(a.fnames, '{}')", "copy t from stdin"];

/// A recorded statement.
struct Statement {
    sql: String,
    extended: bool,
}

fn statements(text: &str) -> Vec<Statement> {
    let mut statements = Vec::new();
    for part in text.split(";\n") {
        let is_comment = |line: &&str| line.starts_with("-- ");
        let extended = part.lines().filter(is_comment).any(|line| line.contains("extended protocol"));
        let sql = part.lines().filter(|line| !is_comment(line)).collect::<Vec<_>>().join("\n").trim().to_string();
        if !sql.is_empty() {
            let extended = extended || sql.contains("$1");
            statements.push(Statement { sql, extended });
        }
    }
    statements
}

/// What a server answered: its columns, or its error.
type Answer = Result<Vec<(String, u32)>, String>;

fn ask(raw: &mut Raw, statement: &Statement, table: &str) -> Answer {
    let sql = statement.sql.replace(RECORDED_OID, table);
    if statement.extended {
        let parse = message('P', &[b"\0", sql.as_bytes(), b"\0\0\0"].concat());
        raw.send(&[parse, message('D', b"S\0"), message('S', b"")].concat());
    } else {
        raw.send(&message('Q', &[sql.as_bytes(), b"\0"].concat()));
    }
    let messages = raw.until_ready();
    match messages.iter().find(|message| message.tag == 'E') {
        Some(error) => Err(error.show()),
        None => Ok(messages.iter().filter(|message| message.tag == 'T').flat_map(Message::column_types).collect()),
    }
}

/// Types that a client treats alike: here texts are text, and numbers of the catalogs may be wider.
fn class(oid: u32) -> &'static str {
    match oid {
        16 => "boolean",
        18 | 19 | 25 | 2278 | 114 | 194 | 705 | 1042 | 1043 | 2205 | 2206 | 24 | 4089 => "text",
        20 | 21 | 23 | 26 | 28 => "integer",
        700 | 701 | 1700 => "number",
        22 | 30 | 1005 | 1007 | 1016 | 1028 => "integers",
        1002 | 1003 | 1009 | 1015 | 1034 | 2277 => "texts",
        1114 | 1184 => "time",
        _ => "other",
    }
}

/// How two answers differ.
fn difference(ours: &Answer, theirs: &Answer) -> Option<String> {
    let theirs = theirs.as_ref().ok()?;
    let ours = match ours {
        Ok(ours) => ours,
        Err(error) => return Some(error.clone()),
    };
    let names = |columns: &[(String, u32)]| columns.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    if names(ours) != names(theirs) {
        return Some(format!("columns {:?} instead of {:?}", names(ours), names(theirs)));
    }
    let unlike = ours.iter().zip(theirs).find(|((_, ours), (_, theirs))| class(*ours) != class(*theirs));
    unlike.map(|((name, ours), (_, theirs))| format!("column {name} is of type {ours} instead of {theirs}"))
}

/// A session, and the OID of `t` as text.
fn session(port: u16) -> (Raw, String) {
    let mut raw = Raw::open(port);
    raw.startup(&[("user", "millstream"), ("database", "millstream")]);
    raw.until_ready();
    let oid = raw.query("SELECT oid FROM pg_class WHERE relname = 't'")[1].replace("D:", "");
    (raw, oid)
}

#[test]
fn what_clients_ask_is_answered_as_postgres_answers_it() {
    let postgres = Postgres::start();
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--workers", "1"]);
    for port in [postgres.port, server.port] {
        let mut raw = Raw::open(port);
        raw.startup(&[("user", "millstream"), ("database", "millstream")]);
        raw.until_ready();
        for sql in OBJECTS {
            assert!(raw.query(sql)[0].starts_with("C:"), "{sql}");
        }
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/statements");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let (mut answered, mut failures) = (0, Vec::new());
    for file in files {
        let client = file.file_stem().unwrap().to_string_lossy().into_owned();
        let (mut ours, our_table) = session(server.port);
        let (mut theirs, their_table) = session(postgres.port);
        for statement in statements(&std::fs::read_to_string(&file).unwrap()) {
            if NOT_ANSWERED.iter().any(|part| statement.sql.contains(part)) {
                continue;
            }
            let (our, their) = (ask(&mut ours, &statement, &our_table), ask(&mut theirs, &statement, &their_table));
            if let Some(difference) = difference(&our, &their) {
                failures.push(format!("{client}: {difference}\n{}\n", statement.sql));
            } else {
                answered += 1;
            }
            if our.is_err() || their.is_err() {
                ours.query("ROLLBACK");
                theirs.query("ROLLBACK");
            }
        }
    }
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), failures.len() + answered, failures.join("\n"));
    assert!(answered > 200, "{answered} statements were replayed");
}
