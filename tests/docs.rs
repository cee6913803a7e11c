//! The documentation is true: its examples run and answer what it says, its tables are those of the code. With `UPDATE=1`
//! answers and tables are written anew.
//!
//! A block of SQL runs statement by statement, on one server for each page; the block after it that begins with ```` ```text ````
//! is what psql shows for the last of them. A block that says `not run` is not run.

mod support;

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use millstream::connectors;
use millstream::connectors::options::Default;
use support::Server;
use tokio_postgres::Client;
use tokio_postgres::SimpleQueryMessage;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")
}

/// Compares a page with what it should be, or writes it.
fn hold(page: &Path, should: &str) {
    let is = std::fs::read_to_string(page).expect("the page is there");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(page, should).expect("the page can be written");
    } else if is != should {
        let differs = is.lines().zip(should.lines()).find(|(a, b)| a != b);
        panic!("{} is not up to date; run the test with UPDATE=1. First: {differs:?}", page.display());
    }
}

/// What psql shows for a statement: its rows as a table, or its error; nothing for one without rows.
async fn answer(client: &Client, sql: &str) -> String {
    let messages = match client.simple_query(sql).await {
        Ok(messages) => messages,
        Err(error) => {
            let error = error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error}"));
            let hint = error.hint().map(|hint| format!("\nHINT:  {hint}")).unwrap_or_default();
            return format!("ERROR:  {}{hint}\n", error.message());
        }
    };
    let mut table: Vec<Vec<String>> = Vec::new();
    for message in messages {
        match message {
            SimpleQueryMessage::RowDescription(columns) => {
                table.push(columns.iter().map(|column| column.name().to_string()).collect());
            }
            SimpleQueryMessage::Row(row) => {
                table.push((0..row.len()).map(|i| row.get(i).unwrap_or_default().to_string()).collect());
            }
            _ => {}
        }
    }
    if table.is_empty() {
        return String::new();
    }
    let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = (0..table[0].len()).map(width).collect::<Vec<_>>();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!(" {cell:<width$} "));
        format!("{}\n", cells.collect::<Vec<_>>().join("|").trim_end())
    };
    let rule = widths.iter().map(|width| "-".repeat(width + 2)).collect::<Vec<_>>().join("+");
    let rows = table[1..].iter().map(line).collect::<String>();
    let count = table.len() - 1;
    format!("{}{rule}\n{rows}({count} row{})\n", line(&table[0]), if count == 1 { "" } else { "s" })
}

/// A page with the answers that its SQL gets.
async fn answered(text: &str, client: &Client) -> String {
    let mut out = String::new();
    let mut rest = text;
    // What the last block of SQL answered, until the block that shows it.
    let mut last = String::new();
    while let Some(at) = rest.find("```") {
        let (before, block) = rest.split_at(at);
        let (language, body) = block[3..].split_once('\n').expect("a block has lines");
        let (body, after) = body.split_once("```").expect("a block ends");
        out.push_str(before);
        match language {
            "sql" => {
                for statement in body.split_inclusive(";\n").filter(|statement| !statement.trim().is_empty()) {
                    last = answer(client, statement).await;
                    assert!(!last.starts_with("ERROR") || after.starts_with("\n\n```text\nERROR"), "{statement}{last}");
                }
                out.push_str(&format!("```sql\n{body}```"));
            }
            "text" if !last.is_empty() => out.push_str(&format!("```text\n{}```", std::mem::take(&mut last))),
            _ => out.push_str(&format!("```{language}\n{body}```")),
        }
        rest = after;
    }
    out + rest
}

#[test]
fn examples_answer_what_the_pages_say() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/sql-tests/data");
    let mut pages = 0;
    for entry in std::fs::read_dir(folder()).expect("the folder is there") {
        let page = entry.expect("an entry").path();
        if page.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = std::fs::read_to_string(&page).expect("the page is there");
        if !text.contains("```sql\n") {
            continue;
        }
        let directory = tempfile::tempdir().expect("a temporary directory");
        let server = Server::start(directory.path(), &["--workers", "2", "--file-root", data]);
        let should = runtime.block_on(async { answered(&text, &server.connect().await).await });
        hold(&page, &should);
        pages += 1;
    }
    assert!(pages >= 4, "{pages} pages with SQL");
}

/// What lies between two comments in a page is replaced.
fn between(text: &str, name: &str, new: &str) -> String {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end of {name} -->"));
    let from = text.find(&begin).unwrap_or_else(|| panic!("the page has no {begin}")) + begin.len();
    let to = text.find(&end).unwrap_or_else(|| panic!("the page has no {end}"));
    format!("{}{new}{}", &text[..from], &text[to..])
}

#[test]
fn option_tables_are_those_of_the_connectors() {
    let page = folder().join("connectors.md");
    let mut text = std::fs::read_to_string(&page).expect("the page is there");
    for (connector, options) in connectors::all().filter(|(_, options)| !options.is_empty()) {
        let mut table = String::from("| option | value | default | |\n|---|---|---|---|\n");
        for option in options {
            let default = match option.default {
                Default::Required => "required".to_string(),
                Default::None => String::new(),
                Default::Value(value) => format!("`{value}`"),
            };
            let (name, kind, doc) = (option.name, option.kind, option.doc);
            table.push_str(&format!("| `{name}` | {kind} | {default} | {doc} |\n"));
        }
        text = between(&text, &format!("options of {connector}"), &table);
    }
    hold(&page, &text);
}

#[test]
fn flags_are_those_of_the_program() {
    let help = Command::new(env!("CARGO_BIN_EXE_millstream")).args(["serve", "--help"]).env_clear().output();
    let help = String::from_utf8(help.expect("the program is there").stdout).expect("the help is text");
    let page = folder().join("operations.md");
    let text = std::fs::read_to_string(&page).expect("the page is there");
    hold(&page, &between(&text, "millstream serve --help", &format!("```text\n{help}```\n")));
}

/// What the program says on standard error when it cannot start.
fn refusal(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_millstream"))
        .arg("serve")
        .args(arguments)
        .envs(environment.iter().copied())
        .output()
        .expect("the program is there");
    assert!(!output.status.success());
    String::from_utf8(output.stderr).expect("text")
}

#[test]
fn data_of_a_newer_version_is_refused_by_name() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut server = Server::start(directory.path(), &[]);
    server.terminate();
    let path = directory.path().join("FORMAT");
    let text = std::fs::read_to_string(&path).expect("the version is there");
    let newer = text.trim_end().trim_end_matches(|c: char| c.is_ascii_digit()).to_string() + "4000\n";
    std::fs::write(&path, newer).expect("written");
    let told = refusal(&["--listen", "127.0.0.1:0", "--data-dir", directory.path().to_str().expect("UTF-8")], &[]);
    assert!(told.contains("was written by a newer version of Millstream") && told.contains("4000"), "{told}");
}

#[test]
fn a_flag_goes_before_the_environment_and_that_before_the_settings_file() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("millstream.toml");
    let path = file.to_str().expect("UTF-8");
    let write = |text: &str| std::fs::write(&file, text).expect("written");
    // Nobody can listen on any of these; the message tells which was tried.
    write("listen = \"file:nowhere\"\nworkers = 1\nfile_root = [\"/tmp\"]\n");
    assert!(refusal(&["--config", path], &[]).contains("\"file:nowhere\""));
    let environment = [("MILLSTREAM_LISTEN", "environment:nowhere"), ("MILLSTREAM_CONFIG", path)];
    assert!(refusal(&[], &environment).contains("\"environment:nowhere\""));
    assert!(refusal(&["--listen", "flag:nowhere"], &environment).contains("\"flag:nowhere\""));
}

#[test]
fn a_wrong_settings_file_is_refused_with_file_and_line() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("millstream.toml");
    let path = file.to_str().expect("UTF-8");
    for (text, line, told) in [
        ("# where\nlisen = \"x\"\n", 2, "unknown setting \"lisen\"\n  Perhaps you meant \"listen\"."),
        ("\nconfig = \"x\"\n", 2, "unknown setting \"config\""),
        ("[serve]\nworkers = 1\n", 1, "unknown setting \"serve\""),
        ("log = \"warn\"\nworkers = \"many\"\n", 2, "invalid value for setting \"workers\"\n  invalid digit"),
        ("workers = 0\n", 1, "invalid value for setting \"workers\"\n  0 is not in 1..=1024"),
        ("memory_limit = \"1 parsec\"\n", 1, "invalid value for setting \"memory_limit\"\n  unknown unit \"parsec\""),
        ("listen = [\"a:1\", \"b:2\"]\n", 1, "invalid value for setting \"listen\"\n  the argument"),
        ("listen = 1979-05-27\n", 1, "setting \"listen\" is neither a text nor a number"),
        ("\n\nworkers = [\n", 3, "array"),
    ] {
        std::fs::write(&file, text).expect("written");
        // A wrong value is told even where a flag goes before it.
        let refused = refusal(&["--config", path, "--workers", "2", "--listen", "nowhere"], &[]);
        let begins = format!("millstream: {path}:{line}: ");
        assert!(refused.starts_with(&begins) && refused.contains(told), "{text}: {refused}");
    }
    let refused = refusal(&["--config", "/nowhere.toml"], &[]);
    assert!(refused.starts_with("millstream: cannot read the settings file /nowhere.toml"), "{refused}");
}
