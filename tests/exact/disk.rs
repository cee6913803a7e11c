//! Disks that fail: a full one stops epochs and not reads, and work goes on by itself when there is room; one that does not
//! write, or does not sync, stops epochs for good, and after a restart everything that was acknowledged is there.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use tokio_postgres::Client;

use crate::support::Server;
use crate::support::execute;
use crate::support::rows;
use crate::support::value;

/// How long the server may take to find out that there is room again. RocksDB looks every five seconds.
const PATIENCE: Duration = Duration::from_secs(120);

const OBJECTS: &str = "
    CREATE TABLE entry (id BIGINT PRIMARY KEY, note TEXT);
    CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS c, sum(id) AS s FROM entry;
    CREATE SOURCE seq (n BIGINT, ts TIMESTAMP)
      WITH (connector = 'generator', generator = 'sequence', rate = '2000', rows = '20000');
    CREATE MATERIALIZED VIEW generated AS SELECT count(*) AS c, sum(n) AS s FROM seq;
    INSERT INTO entry VALUES (1, 'one');";

/// The rows of the generated source, in all.
const ROWS: i64 = 20_000;

/// A server whose disk fails on demand.
struct Failing {
    server: Server,
    /// Where everything lies.
    _directory: TempDir,
    /// What the server is started with: the library, and the file that tells it what to do.
    environment: [(&'static str, String); 2],
}

impl Failing {
    fn start() -> Failing {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| directory.path().join(name).to_str().expect("a path").to_string();
        let (library, control) = (path("disk.so"), path("control"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/exact/disk.c");
        let made = Command::new("cc").args(["-shared", "-fPIC", "-o", &library]).arg(source).arg("-ldl").status();
        assert!(made.expect("a C compiler is there, as for RocksDB").success());
        fs::write(&control, "-").expect("written");
        let environment = [("LD_PRELOAD", library), ("DISK_CONTROL", control)];
        let mut server = Server::prepare(&directory.path().join("data"), &["--workers", "2"]);
        assert!(server.launch(&borrowed(&environment)), "the server does not start");
        Failing { server, _directory: directory, environment }
    }

    /// From now on the disk is full (`f`), does not sync (`s`), does not write (`w`), or works (`-`).
    fn becomes(&self, how: &str) {
        // In place: the server looks at this very file.
        let control = fs::OpenOptions::new().write(true).open(&self.environment[1].1).expect("the file");
        control.write_all_at(how.as_bytes(), 0).expect("written");
    }

    fn restart(&mut self) {
        assert!(self.server.launch(&borrowed(&self.environment)), "the server does not start again");
    }
}

fn borrowed<'a>(environment: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    environment.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

/// The statement fails with this SQLSTATE and says what to do.
async fn is_refused(client: &Client, sql: &str, state: &str) {
    let error = client.batch_execute(sql).await.expect_err(sql);
    let told = error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error:?}"));
    assert_eq!(told.code().code(), state, "{sql}: {told:?}");
    assert!(told.hint().is_some(), "{sql}: {told:?}");
}

/// All views agree with their queries, and the generated rows are a prefix without a gap.
async fn is_exact(client: &Client, ids: &[i64]) {
    let sum = ids.iter().sum::<i64>();
    assert_eq!(value(client, "SELECT * FROM counted").await, format!("{}|{sum}", ids.len()));
    let ids = ids.iter().map(i64::to_string).collect::<Vec<_>>();
    assert_eq!(rows(client, "SELECT id FROM entry ORDER BY id").await.expect("reads go on"), ids);
    let generated = value(client, "SELECT c, coalesce(s, 0) FROM generated").await;
    let (count, sum) = generated.split_once('|').expect("two columns");
    let (count, sum) = (count.parse::<i64>().expect("a number"), sum.parse::<i64>().expect("a number"));
    assert_eq!(sum, count * (count - 1) / 2, "{generated}");
}

/// Tries a write until it is taken.
async fn is_taken_again(client: &Client, sql: &str) {
    let taken = async {
        while let Err(error) = client.batch_execute(sql).await {
            let state = error.code().map(|code| code.code().to_string());
            assert_eq!(state.as_deref(), Some("53100"), "{sql}: {error:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, taken).await.expect("work goes on when there is room");
}

/// The source is read to its end.
async fn comes_to_the_end(client: &Client) {
    let all = async {
        while value(client, "SELECT c FROM generated").await != ROWS.to_string() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("the source is read on");
}

#[test]
fn a_full_disk_stops_epochs_and_not_reads_until_there_is_room() {
    crate::runtime().block_on(async {
        let mut failing = Failing::start();
        let client = failing.server.connect().await;
        execute(&client, OBJECTS).await;
        let mut ids = vec![1];
        for round in 0..2 {
            failing.becomes("f");
            is_refused(&client, &format!("INSERT INTO entry VALUES ({}, 'lost')", 100 + round), "53100").await;
            is_refused(&client, "UPDATE entry SET id = id + 1000", "53100").await;
            is_refused(&client, "BEGIN; DELETE FROM entry; COMMIT", "53100").await;
            execute(&client, "ROLLBACK").await;
            is_refused(&client, "CREATE TABLE lost (id INTEGER)", "53100").await;
            is_exact(&failing.server.connect().await, &ids).await;
            failing.becomes("-");
            is_taken_again(&client, &format!("INSERT INTO entry VALUES ({}, 'kept')", 10 + round)).await;
            ids.push(10 + round);
            is_exact(&client, &ids).await;
        }
        comes_to_the_end(&client).await;
        failing.restart();
        let client = failing.server.connect().await;
        is_exact(&client, &ids).await;
        assert_eq!(value(&client, "SELECT c FROM generated").await, ROWS.to_string());
    });
}

#[test]
fn what_a_creation_is_answered_is_true_when_the_disk_fills() {
    crate::runtime().block_on(async {
        let failing = Failing::start();
        let client = failing.server.connect().await;
        execute(&client, "CREATE TABLE entry (id BIGINT PRIMARY KEY, note TEXT); INSERT INTO entry VALUES (0, '')")
            .await;
        let named = |name: &str| format!("SELECT count(*) FROM ms_catalog.objects WHERE name = '{name}'");
        let mut refused = Vec::new();
        // The disk fills in the epoch that creates the view, in the one in which it joins the others, and behind that.
        for writes in 0..4 {
            let (creator, name) = (failing.server.connect().await, format!("made_{writes}"));
            let sql = format!("CREATE MATERIALIZED VIEW {name} AS SELECT count(*) AS c FROM entry");
            failing.becomes(&writes.to_string());
            let creation = tokio::spawn(async move { creator.batch_execute(&sql).await });
            // Somebody finds the disk full, if the creation has not.
            let full = async {
                while client.batch_execute(&format!("UPDATE entry SET note = note || '{writes}'")).await.is_ok() {}
            };
            tokio::time::timeout(PATIENCE, full).await.expect("the disk is full");
            failing.becomes("-");
            is_taken_again(&client, &format!("INSERT INTO entry VALUES ({}, 'after')", writes + 1)).await;
            let answer = tokio::time::timeout(PATIENCE, creation).await.expect("an answer comes").expect("no panic");
            match answer {
                Ok(()) => {
                    let counts = format!("SELECT c = (SELECT count(*) FROM entry) FROM {name}");
                    assert_eq!(value(&client, &counts).await, "t", "{name}");
                }
                Err(error) => {
                    assert_eq!(error.code().map(|code| code.code()), Some("53100"), "{name}: {error:?}");
                    refused.push(name);
                }
            }
        }
        for name in refused {
            assert_eq!(value(&client, &named(&name)).await, "0", "{name} was refused and is there");
        }
    });
}

#[test]
fn a_disk_that_does_not_sync_or_write_stops_epochs_until_a_restart() {
    crate::runtime().block_on(async {
        let mut failing = Failing::start();
        execute(&failing.server.connect().await, OBJECTS).await;
        let mut ids = vec![1];
        for (round, how) in ["s", "w"].into_iter().enumerate() {
            let id = 10 + round as i64;
            let client = failing.server.connect().await;
            failing.becomes(how);
            is_refused(&client, &format!("INSERT INTO entry VALUES ({id}, 'perhaps')"), "58030").await;
            is_exact(&client, &ids).await;
            // The disk works again, but what it did with what it had taken is not known.
            failing.becomes("-");
            for _ in 0..3 {
                is_refused(&client, "INSERT INTO entry VALUES (100, 'never')", "58030").await;
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            is_exact(&client, &ids).await;
            failing.restart();
            let client = failing.server.connect().await;
            // It was not acknowledged, and not refused either: it is there whole, or not.
            if value(&client, &format!("SELECT count(*) FROM entry WHERE id = {id}")).await == "1" {
                ids.push(id);
            }
            is_exact(&client, &ids).await;
            execute(&client, &format!("INSERT INTO entry VALUES ({}, 'more')", 20 + round)).await;
            ids.push(20 + round as i64);
            ids.sort();
            is_exact(&client, &ids).await;
        }
        comes_to_the_end(&failing.server.connect().await).await;
    });
}

/// A small file system of its own; unmounted when dropped.
struct Small(PathBuf);

impl Small {
    /// Mounts it, where that is permitted.
    fn mount(at: PathBuf) -> Option<Small> {
        fs::create_dir(&at).expect("a new directory");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=48m", "tmpfs"]).arg(&at).status();
        mounted.is_ok_and(|status| status.success()).then_some(Small(at))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_file_system_that_is_really_full_is_waited_out() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let Some(small) = Small::mount(directory.path().join("small")) else {
        return eprintln!("NOT TRIED: mounting a small file system is not permitted here");
    };
    crate::runtime().block_on(async {
        let mut server = Server::start(&small.0.join("data"), &["--workers", "2", "--memory-limit", "64MB"]);
        let client = server.connect().await;
        execute(&client, OBJECTS).await;
        // Somebody else fills the rest.
        let ballast = small.0.join("ballast");
        let filled =
            Command::new("dd").args(["if=/dev/zero", "bs=64k"]).arg(format!("of={}", ballast.display())).output();
        assert!(!filled.expect("dd is there").status.success(), "it is never full");
        let mut ids = vec![1];
        // What is allotted to the log already may still take some.
        let full = async {
            loop {
                let id = ids.len() as i64 + 1;
                let written = client.execute("INSERT INTO entry VALUES ($1, repeat('x', 300000))", &[&id]).await;
                match written {
                    Ok(_) => ids.push(id),
                    Err(error) => return assert_eq!(error.code().map(|code| code.code()), Some("53100"), "{error:?}"),
                }
            }
        };
        tokio::time::timeout(PATIENCE, full).await.expect("the disk is full at last");
        is_exact(&client, &ids).await;
        fs::remove_file(&ballast).expect("it was there");
        is_taken_again(&client, "INSERT INTO entry VALUES (1000, 'kept')").await;
        ids.push(1000);
        is_exact(&client, &ids).await;
        comes_to_the_end(&client).await;
        server.restart();
        is_exact(&server.connect().await, &ids).await;
        server.kill();
    });
}
