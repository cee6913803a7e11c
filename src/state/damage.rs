//! Which table of a store is damaged, where RocksDB says only what it found: it does not name a table whose properties are broken.

use std::path::Path;
use std::path::PathBuf;

use rocksdb::DB;
use rocksdb::Options;

/// The table that cannot be opened with this complaint. Each is held out to an empty store, which opens it, complains the same way of
/// the damaged one, and takes none of the others either, since those were not made to be taken in.
pub(super) fn table_with(complaint: &str, store: &Path) -> Option<PathBuf> {
    let mut tables = std::fs::read_dir(store).ok()?.flatten().map(|entry| entry.path()).collect::<Vec<_>>();
    tables.retain(|path| path.extension().is_some_and(|extension| extension == "sst"));
    tables.sort();
    let empty = std::env::temp_dir().join(format!("millstream-damage-{}", std::process::id()));
    let mut options = Options::default();
    options.create_if_missing(true);
    let db = DB::open(&options, &empty).ok()?;
    let is_damaged = |table: &PathBuf| {
        let taken = db.ingest_external_file(vec![table]);
        taken.is_err_and(|error| error.as_ref().contains(complaint))
    };
    let damaged = tables.into_iter().find(is_damaged);
    drop(db);
    let _ = DB::destroy(&options, &empty);
    let _ = std::fs::remove_dir_all(&empty);
    damaged
}
