//! The store: one RocksDB, one atomic write an epoch.

use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use rocksdb::Cache;
use rocksdb::ColumnFamily;
use rocksdb::DBWithThreadMode;
use rocksdb::ErrorKind;
use rocksdb::FlushOptions;
use rocksdb::Range;
use rocksdb::ReadOptions;
use rocksdb::SingleThreaded;
use rocksdb::WriteBatch;
use rocksdb::WriteOptions;
use rocksdb::properties;
use rocksdb::properties::PropName;

use crate::error::Error;
use crate::error::Kind;
use crate::error::Result;
use crate::fault;
use crate::ids::Epoch;
use crate::ids::ObjectId;
use crate::ids::TableId;
use crate::state::codec::prefix_end;
use crate::state::damage;
use crate::state::logs;
use crate::state::reader::Over;
use crate::state::reader::StateReader;
use crate::state::snapshot::Snapshot;
use crate::state::space::Family;
use crate::state::space::Space;
use crate::state::spilled;
use crate::state::tuning;
use crate::state::writes::Sealed;

/// RocksDB with column families that are there from the beginning.
pub(super) type Rocks = DBWithThreadMode<SingleThreaded>;

/// The version of everything in a data directory. A newer one is refused; an older one would be brought up to date.
const FORMAT: u32 = 1;
/// The file in the data directory that says its version.
const FORMAT_FILE: &str = "FORMAT";
/// What stands in that file before the number.
const FORMAT_WORDS: &str = "millstream data format ";
/// The folder in the data directory that is RocksDB's.
const ROCKS_FOLDER: &str = "store";
/// The least memory for memtables.
const WRITE_BUFFER_BYTES_MIN: usize = 16 << 20;
/// The key, in [`Family::Meta`], of the last committed epoch (8 bytes, big-endian).
const EPOCH_KEY: &[u8] = b"epoch";

/// The key, in [`Family::Meta`], of the epoch up to which numbers are reserved (8 bytes, big-endian).
const RESERVED_KEY: &[u8] = b"reserved";

/// The key, in [`Family::Meta`], of an epoch that is committed while its writes still lie among the spilled ones.
const SPILLED_KEY: &[u8] = b"spilled";

/// Where what is large of a spilled epoch is folded into place.
const FOLDED: [Family; 3] = [Family::State, Family::Relations, Family::Changelog];

/// So much is folded into place at once.
const FOLD_BYTES: usize = 4 << 20;

/// So much of each file is read ahead for it: there may be dozens at a time.
const FOLD_READAHEAD_BYTES: usize = 256 << 10;

/// How to open a store.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Bytes for the block cache, which memtables are charged to.
    pub cache_bytes: usize,
    /// Bytes for memtables; at least 16 MiB are taken, so that not every epoch flushes.
    pub write_buffer_bytes: usize,
}

/// The store. One process at a time.
pub struct Store {
    /// The database.
    db: Rocks,
    /// The block cache.
    cache: Cache,
    /// Bytes for memtables.
    write_buffer_bytes: u64,
    /// The data directory, for messages.
    path: PathBuf,
}

/// What the store takes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vitals {
    /// About how many bytes of its files are not overwritten or deleted since.
    pub live_bytes: u64,
    /// Bytes of all its files of data.
    pub file_bytes: u64,
    /// Bytes that wait to be compacted.
    pub compaction_bytes: u64,
    /// Memory of its memtables, in bytes.
    pub memtable_bytes: u64,
    /// Memory of its block cache, the memtables charged to it too, in bytes.
    pub cache_bytes: u64,
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions { cache_bytes: 128 << 20, write_buffer_bytes: 64 << 20 }
    }
}

impl Store {
    /// Opens or creates the store in this directory. Refused with a clear error when the directory is in use, cannot be
    /// written, or was written by a newer version.
    pub fn open(path: &Path, mut options: StoreOptions) -> Result<Arc<Store>> {
        options.write_buffer_bytes = options.write_buffer_bytes.max(WRITE_BUFFER_BYTES_MIN);
        std::fs::create_dir_all(path).map_err(|error| directory_error("create", path, error))?;
        check_format(path)?;
        let cache = Cache::new_lru_cache(options.cache_bytes);
        let rocks = tuning::database_options(&options, &cache);
        let families = tuning::descriptors(&options, &cache)?;
        let folder = path.join(ROCKS_FOLDER);
        std::fs::create_dir_all(&folder).map_err(|error| directory_error("create", &folder, error))?;
        logs::check(&folder)?;
        tuning::start_background_threads();
        let db = Rocks::open_cf_descriptors(&rocks, folder, families).map_err(|error| open_error(path, error))?;
        let write_buffer_bytes = options.write_buffer_bytes as u64;
        let store = Store { db, cache, write_buffer_bytes, path: path.to_path_buf() };
        store.settle_spilled()?;
        Ok(Arc::new(store))
    }

    /// Writes a sealed epoch, atomically; with `sync` it is on disk when this returns.
    pub fn commit(&self, sealed: &Sealed, sync: bool) -> Result<()> {
        let mut batch = WriteBatch::with_capacity_bytes(sealed.bytes());
        for (family, key, value) in sealed.iter() {
            match value {
                Some(value) => batch.put_cf(self.family(family), key, value),
                None => batch.delete_cf(self.family(family), key),
            }
        }
        batch.put_cf(self.family(Family::Meta), EPOCH_KEY, sealed.epoch().0.to_be_bytes());
        fault::point("commit.before_write");
        self.db.write_opt(batch, &WriteOptions::default()).map_err(store_error)?;
        fault::point("commit.after_write");
        if sync {
            self.sync()?;
        }
        fault::point("commit.after_sync");
        Ok(())
    }

    /// Brings to disk what was written. When that fails, the kernel may have forgotten what it could not write: there is no
    /// second try, whatever the reason, and nothing that was not synced before counts until a restart has read what is there.
    fn sync(&self) -> Result<()> {
        self.db.flush_wal(true).map_err(|error| {
            Error::io(format!("store: {error}"))
                .detail("Whether the last epoch is on disk is not known until a restart.")
        })
    }

    /// Writes what is only in the log and in memtables to tables, so that the next start has nothing to read again.
    pub fn flush(&self) -> Result<()> {
        self.flush_families(&Family::ALL)
    }

    fn flush_families(&self, families: &[Family]) -> Result<()> {
        let families = families.iter().map(|&family| self.family(family)).collect::<Vec<_>>();
        self.db.flush_cfs_opt(&families, &FlushOptions::default()).map_err(store_error)
    }

    /// Whether the store takes writes: says once more, synced, what the last epoch is.
    pub fn try_write(&self) -> Result<()> {
        if let Some(epoch) = self.committed_epoch()? {
            self.db.put_cf(self.family(Family::Meta), EPOCH_KEY, epoch.0.to_be_bytes()).map_err(store_error)?;
        }
        self.sync()
    }

    /// The epoch of the last commit; `None` in a new store.
    pub fn committed_epoch(&self) -> Result<Option<Epoch>> {
        self.epoch_record(EPOCH_KEY)
    }

    /// Says, synced, that epochs up to this one may become visible. A commit without sync can be lost with the machine, but
    /// its number must not be used again: after a restart epochs go on after the reserved ones.
    pub fn reserve_epochs(&self, up_to: Epoch) -> Result<()> {
        let meta = self.family(Family::Meta);
        self.db.put_cf(meta, RESERVED_KEY, up_to.0.to_be_bytes()).map_err(store_error)?;
        self.db.flush_wal(true).map_err(store_error)
    }

    /// The epoch of the last [`Store::reserve_epochs`]; `None` in a new store.
    pub fn reserved_epoch(&self) -> Result<Option<Epoch>> {
        self.epoch_record(RESERVED_KEY)
    }

    /// The rows as of the last commit.
    pub fn snapshot(self: &Arc<Self>) -> Snapshot {
        Snapshot::new(self)
    }

    /// A reader over the last commit and, before it, the sealed epoch whose commit may still be running.
    pub fn reader(self: &Arc<Self>, sealed: Option<Arc<Sealed>>) -> StateReader {
        StateReader::new(sealed.map_or(Over::Nothing, Over::Sealed), self.snapshot())
    }

    /// A reader of what the running epoch has spilled so far, over the last commit.
    pub fn spilled_reader(self: &Arc<Self>) -> StateReader {
        StateReader::new(Over::Spilled, self.snapshot())
    }

    /// Writes a portion of the running epoch ahead. Nobody else sees it, and it is gone after a restart unless the epoch is
    /// committed.
    pub fn spill(&self, portion: &Sealed) -> Result<()> {
        let mut batch = WriteBatch::with_capacity_bytes(portion.bytes());
        for (family, key, value) in portion.iter() {
            batch.put_cf(self.family(Family::Pending), spilled::key(family, key), spilled::stored(value));
        }
        self.db.write_opt(batch, &WriteOptions::default()).map_err(store_error)?;
        fault::point("spill.after_portion");
        Ok(())
    }

    /// Commits an epoch of which everything is spilled: synced, it counts from here on, whatever happens. Then folds it
    /// into place. Until that is done no reader may look but those of snapshots taken before.
    pub fn commit_spilled(&self, epoch: Epoch) -> Result<()> {
        let mut batch = WriteBatch::default();
        for key in [SPILLED_KEY, EPOCH_KEY] {
            batch.put_cf(self.family(Family::Meta), key, epoch.0.to_be_bytes());
        }
        fault::point("spill.before_commit");
        self.db.write_opt(batch, &WriteOptions::default()).map_err(store_error)?;
        self.sync()?;
        fault::point("spill.after_commit");
        self.fold_spilled().map_err(|error| {
            let kind = if error.kind == Kind::DiskFull { Kind::Io } else { error.kind };
            Error { kind, ..error }
                .detail("The epoch counts; what it has written is brought into place after a restart.")
        })
    }

    /// Drops what was spilled.
    fn drop_spilled(&self) -> Result<()> {
        let (pending, end) = (self.family(Family::Pending), spilled::end_of_all());
        let mut batch = WriteBatch::default();
        batch.delete_range_cf(pending, &[][..], &end[..]);
        batch.delete_cf(self.family(Family::Meta), SPILLED_KEY);
        self.db.write_opt(batch, &WriteOptions::default()).map_err(store_error)?;
        // Files go at once, so what was brought into place from them must be on disk before.
        self.sync()?;
        self.db.delete_file_in_range_cf(pending, &[][..], &end[..]).map_err(store_error)
    }

    /// Brings the writes of a spilled epoch that is committed into place, in batches of bounded size. Cut off, it begins anew:
    /// a write that comes twice is the same as once.
    fn fold_spilled(&self) -> Result<()> {
        let mut options = ReadOptions::default();
        options.set_total_order_seek(true);
        options.fill_cache(false);
        options.set_readahead_size(FOLD_READAHEAD_BYTES);
        let mut entries = self.db.raw_iterator_cf_opt(self.family(Family::Pending), options);
        entries.seek_to_first();
        let mut batch = WriteBatch::default();
        while let Some((key, stored)) = entries.item() {
            let (family, key) = (self.family(spilled::family(key)?), spilled::full_key(key));
            match spilled::value(stored) {
                Some(value) => batch.put_cf(family, key, value),
                None => batch.delete_cf(family, key),
            }
            if batch.size_in_bytes() >= FOLD_BYTES {
                self.db.write_opt(std::mem::take(&mut batch), &WriteOptions::default()).map_err(store_error)?;
                fault::point("spill.mid_fold");
                // Nothing else slows this writer down, and several memtables of each family may wait to be flushed. What is
                // pending in memory need not be: it is dropped there.
                if self.sum(&FOLDED, properties::CUR_SIZE_ALL_MEM_TABLES) > self.write_buffer_bytes {
                    self.flush_families(&FOLDED)?;
                }
            }
            entries.next();
        }
        entries.status().map_err(store_error)?;
        self.db.write_opt(batch, &WriteOptions::default()).map_err(store_error)?;
        drop(entries);
        self.drop_spilled()
    }

    /// What an epoch larger than memory has left that is not to go on: folded into place if it was committed, else dropped.
    pub fn settle_spilled(&self) -> Result<()> {
        let mut entries = self.db.raw_iterator_cf(self.family(Family::Pending));
        entries.seek_to_first();
        entries.status().map_err(store_error)?;
        match self.epoch_record(SPILLED_KEY)? {
            Some(epoch) => {
                tracing::info!(epoch = epoch.0, "what a large epoch wrote ahead is brought into place");
                self.fold_spilled()
            }
            None if entries.valid() => self.drop_spilled(),
            None => Ok(()),
        }
    }

    /// Drops everything under these prefixes (of a dropped object). Snapshots taken before still see it; the room is given
    /// back by compaction, in the background.
    pub fn drop_spaces(&self, tables: &[TableId], objects: &[ObjectId]) -> Result<()> {
        let mut batch = WriteBatch::default();
        for table in tables {
            let [from, to] = number_range(table.0);
            batch.delete_range_cf(self.family(Family::State), from, to);
        }
        for object in objects {
            let [from, to] = number_range(object.0);
            batch.delete_range_cf(self.family(Family::Relations), &from, &to);
            batch.delete_range_cf(self.family(Family::Changelog), &from, &to);
        }
        self.db.write_opt(batch, &WriteOptions::default()).map_err(store_error)
    }

    /// Drops an object's changelog from a key on, up to and with this epoch.
    pub fn drop_changes(&self, object: ObjectId, from: &[u8], up_to: Epoch) -> Result<()> {
        let prefix = Space::Changelog(object).prefix();
        let mut batch = WriteBatch::default();
        let (from, to) = (prefix.key(from), prefix.key(&up_to.next().0.to_be_bytes()));
        batch.delete_range_cf(self.family(Family::Changelog), from, to);
        self.db.write_opt(batch, &WriteOptions::default()).map_err(store_error)
    }

    /// The tables that have operator state, besides these.
    pub fn tables_besides(&self, known: &BTreeSet<TableId>) -> Result<BTreeSet<TableId>> {
        let known = known.iter().map(|table| table.0).collect();
        Ok(self.numbers_besides(Family::State, &known)?.into_iter().map(TableId).collect())
    }

    /// The objects that have rows or a changelog, besides these.
    pub fn objects_besides(&self, known: &BTreeSet<ObjectId>) -> Result<BTreeSet<ObjectId>> {
        let known = known.iter().map(|object| object.0).collect();
        let numbers = [Family::Relations, Family::Changelog].map(|family| self.numbers_besides(family, &known));
        let [relations, changelogs] = numbers;
        Ok(relations?.into_iter().chain(changelogs?).map(ObjectId).collect())
    }

    /// About how many bytes of disk a state table takes. What is only in memtables does not count.
    pub fn table_bytes(&self, table: TableId) -> u64 {
        self.range_bytes(Family::State, table.0)
    }

    /// About how many bytes of disk the rows of a table or view take.
    pub fn relation_bytes(&self, object: ObjectId) -> u64 {
        self.range_bytes(Family::Relations, object.0)
    }

    /// What the store takes. Cheap: RocksDB keeps these numbers.
    pub fn vitals(&self) -> Vitals {
        Vitals {
            live_bytes: self.sum(&Family::ALL, properties::ESTIMATE_LIVE_DATA_SIZE),
            file_bytes: self.sum(&Family::ALL, properties::TOTAL_SST_FILES_SIZE),
            compaction_bytes: self.sum(&Family::ALL, properties::ESTIMATE_PENDING_COMPACTION_BYTES),
            memtable_bytes: self.sum(&Family::ALL, properties::CUR_SIZE_ALL_MEM_TABLES),
            cache_bytes: self.cache.get_usage() as u64,
        }
    }

    /// A number that RocksDB keeps of each family, over some of them.
    fn sum(&self, families: &[Family], property: &PropName) -> u64 {
        let of = |family: &Family| self.db.property_int_value_cf(self.family(*family), property).ok().flatten();
        families.iter().filter_map(of).sum()
    }

    /// About how many of them lie before a key and with it.
    pub fn relation_bytes_up_to(&self, object: ObjectId, key: &[u8]) -> u64 {
        let prefix = Space::Relation(object).prefix();
        let (from, to) = (prefix.key(&[]), prefix.key(&[key, &[0]].concat()));
        self.db.get_approximate_sizes_cf(self.family(Family::Relations), &[Range::new(&from, &to)]).iter().sum()
    }

    /// About how many bytes of disk an object's changelog takes from a key on.
    pub fn changelog_bytes_after(&self, object: ObjectId, from: &[u8]) -> u64 {
        let prefix = Space::Changelog(object).prefix();
        let (from, to) = (prefix.key(from), prefix.key(&[u8::MAX; 9]));
        self.db.get_approximate_sizes_cf(self.family(Family::Changelog), &[Range::new(&from, &to)]).iter().sum()
    }

    /// How much memory the block cache and the memtables take.
    pub fn memory_bytes(&self) -> usize {
        self.cache.get_usage()
    }

    /// The data directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The database, for the readers.
    pub(super) fn db(&self) -> &Rocks {
        &self.db
    }

    /// The handle of a column family.
    pub(super) fn family(&self, family: Family) -> &ColumnFamily {
        self.db.cf_handle(family.name()).expect("all families were opened")
    }

    fn epoch_record(&self, key: &[u8]) -> Result<Option<Epoch>> {
        let Some(bytes) = self.db.get_cf(self.family(Family::Meta), key).map_err(store_error)? else {
            return Ok(None);
        };
        let damaged = || Error::corrupted(format!("record \"{}\" of the store is damaged", key.escape_ascii()));
        Ok(Some(Epoch(u64::from_be_bytes(bytes.try_into().map_err(|_| damaged())?))))
    }

    /// The numbers that the keys of a family begin with, besides these. Their keys are not looked at: where a table was emptied, all
    /// that it had may have to be passed over before the next key that is there.
    fn numbers_besides(&self, family: Family, known: &BTreeSet<u32>) -> Result<Vec<u32>> {
        let mut numbers = Vec::new();
        let mut from = 0;
        for end in known.iter().copied().chain([u32::MAX]) {
            let between = from..end;
            from = end.saturating_add(1);
            if between.is_empty() {
                continue;
            }
            let mut options = ReadOptions::default();
            options.set_total_order_seek(true);
            options.set_iterate_upper_bound(between.end.to_be_bytes());
            let mut entries = self.db.raw_iterator_cf_opt(self.family(family), options);
            entries.seek(between.start.to_be_bytes());
            while let Some(key) = entries.key() {
                let damaged = || Error::corrupted(format!("a key of the store's {} is damaged", family.name()));
                let number = u32::from_be_bytes(*key.first_chunk().ok_or_else(damaged)?);
                numbers.push(number);
                let [_, next] = number_range(number);
                entries.seek(next);
            }
            entries.status().map_err(store_error)?;
        }
        Ok(numbers)
    }

    fn range_bytes(&self, family: Family, number: u32) -> u64 {
        let [from, to] = number_range(number);
        self.db.get_approximate_sizes_cf(self.family(family), &[Range::new(&from, &to)]).iter().sum()
    }
}

/// The keys that begin with a table's or object's number.
fn number_range(number: u32) -> [Vec<u8>; 2] {
    let from = number.to_be_bytes();
    let to = prefix_end(&from).expect("ids never come near the last number");
    [from.to_vec(), to]
}

/// Reads the version of a data directory, or writes it into a new one.
fn check_format(path: &Path) -> Result<()> {
    let file = path.join(FORMAT_FILE);
    let text = match std::fs::read(&file) {
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return write_format(path),
        Err(error) => return Err(directory_error("read", path, error)),
    };
    let version = text.trim_end().strip_prefix(FORMAT_WORDS).and_then(|number| number.parse::<u32>().ok());
    match version {
        Some(FORMAT) => Ok(()),
        Some(newer) if newer > FORMAT => {
            let message = format!("data directory \"{}\" was written by a newer version of Millstream", path.display());
            Err(Error::unsupported(message)
                .detail(format!("Its format is {newer}; this version knows {FORMAT}."))
                .hint("Run the version that wrote it, or a later one."))
        }
        Some(_) | None => Err(Error::corrupted(format!("file \"{}\" is damaged", file.display()))
            .detail(format!("It should say \"{FORMAT_WORDS}{FORMAT}\"."))),
    }
}

/// Marks a new data directory with our version; whole or not at all.
fn write_format(path: &Path) -> Result<()> {
    if path.join(ROCKS_FOLDER).join("CURRENT").exists() {
        let message = format!("data directory \"{}\" has lost its file \"{FORMAT_FILE}\"", path.display());
        return Err(Error::corrupted(message));
    }
    let temporary = path.join(format!("{FORMAT_FILE}.new"));
    let write = || {
        std::fs::write(&temporary, format!("{FORMAT_WORDS}{FORMAT}\n"))?;
        std::fs::File::open(&temporary)?.sync_all()?;
        std::fs::rename(&temporary, path.join(FORMAT_FILE))?;
        std::fs::File::open(path)?.sync_all()
    };
    write().map_err(|error| directory_error("write to", path, error))
}

/// Why a data directory cannot be used.
fn directory_error(verb: &str, path: &Path, error: std::io::Error) -> Error {
    let kind = Error::from(std::io::Error::from(error.kind())).kind;
    Error::new(kind, format!("cannot {verb} data directory \"{}\": {error}", path.display()))
        .hint("Name a directory that can be written with --data-dir.")
}

/// Why RocksDB could not be opened.
fn open_error(path: &Path, error: rocksdb::Error) -> Error {
    let text: &str = error.as_ref();
    // RocksDB tells a lock that another process holds, and one that this process holds, only in words.
    if text.contains("While lock file") || text.contains("lock hold by current process") {
        return Error::io(format!("data directory \"{}\" is in use by another process", path.display()))
            .hint("Stop the server that runs on it, or name another directory with --data-dir.");
    }
    if text.contains("Permission denied") || text.contains("Read-only file system") {
        return Error::io(format!("cannot write to data directory \"{}\": {text}", path.display()))
            .hint("Name a directory that can be written with --data-dir.");
    }
    if error.kind() == ErrorKind::Corruption {
        // The manifest was seen to be whole: when RocksDB suspects it, it means one of the files that it names.
        let (what, suspected) = text.split_once("  The file ").map_or((text, false), |(what, _)| (what, true));
        let error = Error::corrupted(format!("data directory \"{}\" is damaged: {what}", path.display()))
            .hint("Restore the data directory from a backup.");
        if !suspected || what.contains(".sst") {
            return error;
        }
        let store = path.join(ROCKS_FOLDER);
        let complaint = what.trim_start_matches("Corruption: ").trim_end();
        return match damage::table_with(complaint, &store) {
            Some(table) => error.detail(format!("The damaged file is \"{}\".", table.display())),
            None => error.detail(format!("It is one of the .sst files in \"{}\".", store.display())),
        };
    }
    store_error(error)
}

/// An error of RocksDB, whose text names the file where there is one.
pub(super) fn store_error(error: rocksdb::Error) -> Error {
    let kind = match error.kind() {
        ErrorKind::Corruption => Kind::Corrupted,
        ErrorKind::IOError if error.as_ref().contains("No space left on device") => Kind::DiskFull,
        ErrorKind::IOError => Kind::Io,
        _ => Kind::Internal,
    };
    let error = Error::new(kind, format!("store: {error}"));
    match kind {
        Kind::DiskFull => error.hint("Make room on the device of the data directory."),
        _ => error,
    }
}
