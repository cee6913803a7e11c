//! Drivers at work, each in a small program of its own language that asserts what it finds; and psql.
//!
//! `drivers.sh` fetches them. A registry that cannot be reached fails the test, and says so.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;

use crate::support::Server;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// Where the drivers of a language lie, fetched if need be.
fn drivers(language: &str) -> String {
    let script = folder().join("drivers.sh");
    let output = Command::new(&script).arg(language).output().unwrap();
    assert!(
        output.status.success(),
        "{} {language} failed; are the packages of `make test` installed, and is the registry within reach?\n{}",
        script.display(),
        text(&output.stderr)
    );
    text(&output.stdout).trim().to_string()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn server() -> (Server, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["--workers", "1"]);
    (server, directory)
}

/// Runs a program, whose last argument is the server's port, to its end; what it printed.
fn run(command: &mut Command) -> String {
    let (server, _directory) = server();
    let output = command.arg(server.port.to_string()).output();
    checked(output.unwrap_or_else(|error| panic!("{command:?}: {error}")), command)
}

fn checked(output: Output, command: &Command) -> String {
    let (said, complained) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?} failed\n{said}\n{complained}");
    said
}

fn python(program: &str) {
    let path = drivers("python");
    run(Command::new("python3").env("PYTHONPATH", path).arg(folder().join("python").join(program)));
}

#[test]
fn psycopg() {
    python("with_psycopg.py");
}

#[test]
fn asyncpg() {
    python("with_asyncpg.py");
}

#[test]
fn node_postgres() {
    run(Command::new("node").env("NODE_PATH", drivers("node")).arg(folder().join("node/with_pg.js")));
}

#[test]
fn pgjdbc() {
    run(Command::new("java").arg("-cp").arg(drivers("java")).arg(folder().join("java/WithJdbc.java")));
}

/// psql's commands about objects, and what it does by itself with cursors and COPY.
#[test]
fn psql() {
    let (server, _directory) = server();
    let script = folder().join("psql/commands.sql");
    let mut command = Command::new("psql");
    command.args([
        "-X",
        "-q",
        "-v",
        "ON_ERROR_STOP=1",
        "-h",
        "127.0.0.1",
        "-U",
        "millstream",
        "-d",
        "millstream",
        "-p",
    ]);
    let output = command.arg(server.port.to_string()).arg("-f").arg(&script).output().unwrap();
    let said = checked(output, &command);
    let expected = std::fs::read_to_string(folder().join("psql/expected.txt")).unwrap();
    assert_eq!(said, expected);
}
