//! Damage on disk: the write-ahead log cut at every length of its last record, a byte changed in every kind of file, a file
//! gone. What opens then holds a whole epoch and nothing else; what does not says which file it is. Never another row, never
//! a panic.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use millstream::error::Error;
use millstream::error::Kind;
use millstream::state::Store;
use millstream::state::StoreOptions;
use rocksdb::DB;
use rocksdb::IteratorMode;
use rocksdb::Options;
use tempfile::TempDir;

use crate::support::Server;
use crate::support::execute;
use crate::support::rows;

/// A table with views of several shapes, and some epochs.
const OBJECTS: &[&str] = &[
    "CREATE TABLE entry (id BIGINT PRIMARY KEY, client INTEGER NOT NULL, note TEXT)",
    "CREATE MATERIALIZED VIEW per_client AS SELECT client, count(*) AS c, sum(id) AS s, max(note) AS m FROM entry GROUP BY client",
    "CREATE MATERIALIZED VIEW pairs AS SELECT a.id AS a, b.id AS b FROM entry a JOIN entry b ON a.id = b.id + 1",
    "INSERT INTO entry VALUES (1, 1, 'one'), (2, 2, 'two'), (3, 1, 'three')",
    "INSERT INTO entry SELECT id + 10, client, note || ' again' FROM entry",
    "UPDATE entry SET note = upper(note) WHERE id < 3",
    "DELETE FROM entry WHERE id = 12",
];

/// The last epoch, which is in the last record of the log.
const LAST: &str = "INSERT INTO entry VALUES (4, 2, 'four'), (5, 3, NULL), (14, 1, 'fourteen')";

/// What a client sees of it.
const QUERIES: &[&str] = &[
    "SELECT * FROM entry ORDER BY id",
    "SELECT * FROM per_client ORDER BY client",
    "SELECT * FROM pairs ORDER BY a, b",
];

/// How long a server may take to refuse a directory.
const PATIENCE: Duration = Duration::from_secs(60);

/// A data directory as a `kill -9` left it.
struct Wreck {
    directory: TempDir,
    /// Its write-ahead log, by its path below the directory.
    log: PathBuf,
    /// How long the log was before the last epoch.
    before: u64,
    /// How long it is.
    after: u64,
    /// What clients saw before the last epoch, and after it.
    seen: [Vec<Vec<String>>; 2],
}

/// A directory whose syncs cost nothing, where there is one.
fn directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a temporary directory")
}

/// The files of a RocksDB folder with this extension, by their path below the data directory.
fn files(data_dir: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(data_dir.join("store")).expect("a store").map(|entry| entry.expect("an entry"));
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| wanted(name));
    let mut files = names.map(|name| Path::new("store").join(name)).collect::<Vec<_>>();
    files.sort();
    files
}

async fn see(server: &Server) -> Vec<Vec<String>> {
    let client = server.connect().await;
    let mut seen = Vec::new();
    for query in QUERIES {
        seen.push(rows(&client, query).await.unwrap_or_else(|error| panic!("{query}: {error:?}")));
    }
    seen
}

impl Wreck {
    async fn make() -> Wreck {
        let directory = directory();
        let mut server = Server::start(directory.path(), &["--workers", "1"]);
        let client = server.connect().await;
        for sql in OBJECTS {
            execute(&client, sql).await;
        }
        let [log] = files(directory.path(), |name| name.ends_with(".log")).try_into().expect("one log");
        let length = || fs::metadata(directory.path().join(&log)).expect("the log").len();
        let (before, seen_before) = (length(), see(&server).await);
        execute(&client, LAST).await;
        let (after, seen_after) = (length(), see(&server).await);
        server.kill();
        assert_eq!(after, fs::metadata(directory.path().join(&log)).expect("the log").len());
        Wreck { directory, log, before, after, seen: [seen_before, seen_after] }
    }

    /// The same directory with everything in tables on disk, and what is in it.
    async fn flushed(&self) -> (TempDir, Vec<String>) {
        let copy = self.copy();
        let mut server = Server::start(copy.path(), &["--workers", "1"]);
        assert_eq!(see(&server).await, self.seen[1]);
        assert_eq!(server.terminate(), Some(0));
        let whole = content(copy.path()).expect("it is not damaged");
        (copy, whole)
    }

    fn copy(&self) -> TempDir {
        copy(self.directory.path())
    }

    /// The directory with its log cut to this length.
    fn cut(&self, length: u64) -> TempDir {
        let copy = self.copy();
        let log = fs::OpenOptions::new().write(true).open(copy.path().join(&self.log)).expect("the log");
        log.set_len(length).expect("it can be cut");
        copy
    }
}

/// A copy of a data directory.
fn copy(from: &Path) -> TempDir {
    fn copy_into(from: &Path, to: &Path) {
        for entry in fs::read_dir(from).expect("a directory") {
            let entry = entry.expect("an entry");
            let to = to.join(entry.file_name());
            if entry.path().is_dir() {
                fs::create_dir(&to).expect("a new directory");
                copy_into(&entry.path(), &to);
            } else {
                fs::copy(entry.path(), to).expect("copied");
            }
        }
    }
    let copy = directory();
    copy_into(from, copy.path());
    copy
}

/// Changes a byte of a file.
fn flip(data_dir: &Path, file: &Path, offset: usize, mask: u8) {
    let path = data_dir.join(file);
    let mut bytes = fs::read(&path).expect("the file");
    bytes[offset] ^= mask;
    fs::write(path, bytes).expect("written");
}

/// Opens the store as the server does, closes it, and reads every entry of it.
fn content(data_dir: &Path) -> Result<Vec<String>, Error> {
    drop(Store::open(data_dir, StoreOptions { cache_bytes: 8 << 20, write_buffer_bytes: 8 << 20 })?);
    let store = data_dir.join("store");
    let told = |error: rocksdb::Error| Error::corrupted(error.to_string());
    let families = DB::list_cf(&Options::default(), &store).map_err(told)?;
    let db = DB::open_cf_for_read_only(&Options::default(), &store, &families, false).map_err(told)?;
    let mut entries = Vec::new();
    for family in families {
        for entry in db.iterator_cf(&db.cf_handle(&family).expect("just listed"), IteratorMode::Start) {
            let (key, value) = entry.map_err(told)?;
            entries.push(format!("{family} {} {}", key.escape_ascii(), value.escape_ascii()));
        }
    }
    Ok(entries)
}

/// What is there, or an error that says which file is damaged.
fn right_or_refused(data_dir: &Path, file: &Path, right: &[String], moment: &str) -> bool {
    match content(data_dir) {
        Ok(content) => {
            assert!(content == right, "{moment}: {} holds something else, without an error", data_dir.display());
            false
        }
        Err(error) => {
            let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
            let text = error.to_string();
            let told = text.contains(name);
            assert!(told && error.kind == Kind::Corrupted, "{moment}: the error does not name {name}: {error:?}");
            true
        }
    }
}

/// Offsets through a file: all of a small one, about so many of a larger one.
fn offsets(length: usize, about: usize) -> impl Iterator<Item = (usize, u8)> {
    (0..length).step_by((length / about).max(1)).enumerate().map(|(n, offset)| (offset, 1 << (n % 8)))
}

#[test]
fn a_log_that_is_cut_holds_the_last_epoch_or_the_one_before() {
    let runtime = crate::runtime();
    let wreck = runtime.block_on(Wreck::make());
    let before = content(wreck.cut(wreck.before).path()).expect("it ends with a record");
    let after = content(wreck.copy().path()).expect("it is whole");
    assert_ne!(before, after);
    for length in wreck.before..wreck.after {
        let copy = wreck.cut(length);
        let content = content(copy.path()).unwrap_or_else(|error| panic!("cut at {length}: {error:?}"));
        assert!(content == before, "cut at {length} of {}: it is neither epoch", wreck.after);
    }
    // A real server serves it, and goes on.
    let step = (wreck.after - wreck.before) / 3;
    for length in (wreck.before..wreck.after).step_by(step as usize).chain([wreck.after]) {
        runtime.block_on(async {
            let copy = wreck.cut(length);
            let mut server = Server::start(copy.path(), &["--workers", "2"]);
            assert_eq!(see(&server).await, wreck.seen[usize::from(length == wreck.after)], "cut at {length}");
            if length < wreck.after {
                execute(&server.connect().await, LAST).await;
            }
            server.restart();
            assert_eq!(see(&server).await, wreck.seen[1], "cut at {length}, and written again");
        });
    }
}

#[test]
fn a_changed_byte_of_the_log_is_never_taken_for_its_end() {
    let runtime = crate::runtime();
    let wreck = runtime.block_on(Wreck::make());
    let right = content(wreck.copy().path()).expect("it is whole");
    let mut refused = 0;
    for (offset, mask) in offsets(wreck.after as usize, 200) {
        let copy = wreck.copy();
        flip(copy.path(), &wreck.log, offset, mask);
        refused += usize::from(right_or_refused(copy.path(), &wreck.log, &right, &format!("the log's byte {offset}")));
    }
    assert!(refused >= 200, "no byte of the log is without meaning");
    // All of the last block but its first records gone.
    let copy = wreck.copy();
    let mut bytes = fs::read(wreck.directory.path().join(&wreck.log)).expect("the log");
    bytes[(wreck.before / 2) as usize..wreck.before as usize].fill(0);
    fs::write(copy.path().join(&wreck.log), bytes).expect("written");
    assert!(right_or_refused(copy.path(), &wreck.log, &right, "a hole in the log"));
    // A server says it and ends.
    runtime.block_on(refuses_to_start(copy.path()));
}

#[test]
fn a_changed_byte_of_a_table_gives_an_error_or_changes_nothing() {
    let wreck = crate::runtime().block_on(Wreck::make());
    let (flushed, right) = crate::runtime().block_on(wreck.flushed());
    let tables = files(flushed.path(), |name| name.ends_with(".sst"));
    assert!(tables.len() >= 3, "{tables:?}");
    let mut refused = 0;
    for table in &tables {
        let length = fs::metadata(flushed.path().join(table)).expect("the table").len() as usize;
        for (offset, mask) in offsets(length, 24) {
            let copy = copy(flushed.path());
            flip(copy.path(), table, offset, mask);
            let moment = format!("byte {offset} of {}", table.display());
            refused += usize::from(right_or_refused(copy.path(), table, &right, &moment));
        }
    }
    assert!(refused > 0);
    // Who reads what is damaged is told; the server goes on.
    for table in &tables {
        crate::runtime().block_on(async {
            let copy = copy(flushed.path());
            let length = fs::metadata(copy.path().join(table)).expect("the table").len() as usize;
            // The first block of data.
            flip(copy.path(), table, 20.min(length / 2), 0xff);
            let mut server = Server::start_quietly(copy.path(), &["--workers", "2"]);
            if server.port == 0 {
                return assert!(server.wait_for(PATIENCE).await, "it neither starts nor ends");
            }
            let client = server.connect().await;
            for (query, right) in QUERIES.iter().zip(&wreck.seen[1]) {
                match rows(&client, query).await {
                    Ok(rows) => assert_eq!(&rows, right, "{query} with {} damaged", table.display()),
                    Err(error) => is_told(&error, table, query),
                }
            }
            assert_eq!(rows(&client, "SELECT 1").await.expect("the server lives"), ["1"]);
        });
    }
}

/// The error says that the file is damaged.
fn is_told(error: &tokio_postgres::Error, file: &Path, moment: &str) {
    let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
    let told =
        error.as_db_error().is_some_and(|error| error.code().code() == "XX001" && error.message().contains(name));
    assert!(told, "{moment}: {error:?} does not name {name}");
}

#[test]
fn a_changed_byte_of_what_names_the_files_is_told() {
    let wreck = crate::runtime().block_on(Wreck::make());
    let (flushed, right) = crate::runtime().block_on(wreck.flushed());
    let mut names = files(flushed.path(), |name| name.starts_with("MANIFEST"));
    names.extend([PathBuf::from("store/CURRENT"), PathBuf::from("FORMAT")]);
    for name in names {
        let length = fs::metadata(flushed.path().join(&name)).expect("the file").len() as usize;
        for (offset, mask) in offsets(length, 150) {
            let copy = copy(flushed.path());
            flip(copy.path(), &name, offset, mask);
            right_or_refused(copy.path(), &name, &right, &format!("byte {offset} of {}", name.display()));
        }
    }
}

#[test]
fn a_file_that_is_gone_is_told() {
    let runtime = crate::runtime();
    let wreck = runtime.block_on(Wreck::make());
    let (flushed, right) = runtime.block_on(wreck.flushed());
    for (from, file) in [
        (flushed.path(), files(flushed.path(), |name| name.ends_with(".sst")).remove(0)),
        (flushed.path(), files(flushed.path(), |name| name.starts_with("MANIFEST")).remove(0)),
        (flushed.path(), PathBuf::from("store/CURRENT")),
        (wreck.directory.path(), PathBuf::from("store/CURRENT")),
        (flushed.path(), PathBuf::from("FORMAT")),
    ] {
        let copy = copy(from);
        fs::remove_file(copy.path().join(&file)).expect("it was there");
        let kept = files(copy.path(), |name| [".sst", ".log"].iter().any(|kind| name.ends_with(kind)));
        assert!(right_or_refused(copy.path(), &file, &right, &format!("without {}", file.display())));
        // Nothing of the rest was touched.
        let gone = kept.into_iter().filter(|file| !copy.path().join(file).exists()).collect::<Vec<_>>();
        assert!(gone.is_empty(), "without {}, these went too: {gone:?}", file.display());
        runtime.block_on(refuses_to_start(copy.path()));
    }
}

/// The server does not come to listen on this directory, and ends.
async fn refuses_to_start(data_dir: &Path) {
    let mut server = Server::start_quietly(data_dir, &[]);
    assert_eq!(server.port, 0, "it starts on what is damaged");
    assert!(server.wait_for(PATIENCE).await, "it does not end");
}
