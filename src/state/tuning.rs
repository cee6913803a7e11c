//! How RocksDB is set up, for each column family by its access pattern.

use std::sync::Once;

use rocksdb::BlockBasedIndexType;
use rocksdb::BlockBasedOptions;
use rocksdb::Cache;
use rocksdb::ColumnFamilyDescriptor;
use rocksdb::DBCompressionType;
use rocksdb::DBRecoveryMode;
use rocksdb::DataBlockIndexType;
use rocksdb::Env;
use rocksdb::LogLevel;
use rocksdb::Options;
use rocksdb::WriteBufferManager;

use crate::error::Result;
use crate::state::space::Family;
use crate::state::store::StoreOptions;
use crate::state::store::store_error;

/// Block size where single keys are looked up.
const LOOKUP_BLOCK_BYTES: usize = 4 * 1024;
/// Block size where ranges are read.
const RANGE_BLOCK_BYTES: usize = 16 * 1024;
/// Bits of the bloom filter for each key: about one lookup in a hundred for a missing key reads a block.
const BLOOM_BITS_PER_KEY: f64 = 10.0;
/// Part of a memtable that goes into its bloom filter.
const MEMTABLE_BLOOM_RATIO: f64 = 0.02;
/// Memtable of a column family that holds little.
const SMALL_MEMTABLE_BYTES: usize = 4 << 20;
/// What such a memtable takes at first.
const SMALL_ARENA_BLOCK_BYTES: usize = 64 << 10;
/// Memtable of a column family that holds much, at most. Where epochs write the same keys again and again, all versions of a key lie
/// between it and the next: the larger a memtable, the longer a commit takes.
const LARGE_MEMTABLE_BYTES: usize = 64 << 20;
/// An epoch's writes come in the order of their keys: a memtable goes on where it inserted last, whatever the key begins with.
/// The crate has no function of its own for it.
const INSERT_IN_ORDER: &str = "memtable_insert_with_hint_prefix_extractor=fixed:0";
/// A file is compacted, although nothing else calls for it, when half of so many entries in a row delete something. Else what a large
/// statement has deleted would take its room until there are new writes, and every read of the range would go through all of it.
const DELETIONS_WINDOW: usize = 1 << 15;
/// How much dirty data the kernel may collect before it is told to write it out.
const BYTES_PER_SYNC: u64 = 1 << 20;
/// How long the write-ahead log becomes at most: a start after a crash has to write all of it to memory again.
const LOG_BYTES_MAX: u64 = 128 << 20;
/// Files that RocksDB keeps open.
const OPEN_FILES_MAX: i32 = 512;

/// How much less of the processor RocksDB's own threads ask for than others, as `nice` counts it. A flush works for a second, and
/// those who wait for an epoch would share a core with it. Behind others that leave nothing it still has a tenth of a core.
const BACKGROUND_NICENESS: i32 = 10;

/// Starts the threads that flush and compact, once for all stores of the process.
pub(super) fn start_background_threads() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        // They are as nice as the thread that starts them.
        let starter = std::thread::spawn(|| {
            // SAFETY: it concerns the calling thread alone; what it answers does not matter.
            unsafe { libc::nice(BACKGROUND_NICENESS) };
            let mut environment = Env::new()?;
            environment.set_background_threads(1);
            environment.set_high_priority_background_threads(1);
            Ok::<_, rocksdb::Error>(())
        });
        if !matches!(starter.join(), Ok(Ok(()))) {
            tracing::warn!("RocksDB starts its threads by itself, as urgent as all others");
        }
    });
}

/// Options of the whole database. Cache and memtables share one budget, that of `cache`.
pub(super) fn database_options(options: &StoreOptions, cache: &Cache) -> Options {
    let mut rocks = Options::default();
    rocks.create_if_missing(true);
    rocks.create_missing_column_families(true);
    rocks.set_max_background_jobs(2);
    rocks.set_bytes_per_sync(BYTES_PER_SYNC);
    rocks.set_wal_bytes_per_sync(BYTES_PER_SYNC);
    rocks.set_max_total_wal_size((2 * options.write_buffer_bytes as u64).min(LOG_BYTES_MAX));
    // The log up to its first record that cannot be read; `logs` has seen that nothing that counts comes after it. A whole file
    // of it that is gone is an error.
    rocks.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    rocks.set_track_and_verify_wals_in_manifest(true);
    rocks.set_max_open_files(OPEN_FILES_MAX);
    rocks.set_keep_log_file_num(3);
    rocks.set_max_log_file_size(16 << 20);
    rocks.set_log_level(LogLevel::Warn);
    rocks.set_stats_dump_period_sec(0);
    let manager =
        WriteBufferManager::new_write_buffer_manager_with_cache(options.write_buffer_bytes, false, cache.clone());
    rocks.set_write_buffer_manager(&manager);
    rocks
}

/// All column families with their options.
pub(super) fn descriptors(options: &StoreOptions, cache: &Cache) -> Result<Vec<ColumnFamilyDescriptor>> {
    let descriptor =
        |&family: &Family| Ok(ColumnFamilyDescriptor::new(family.name(), family_options(family, options, cache)?));
    Family::ALL.iter().map(descriptor).collect()
}

fn family_options(family: Family, options: &StoreOptions, cache: &Cache) -> Result<Options> {
    let mut rocks = Options::default().get_options_from_string(INSERT_IN_ORDER).map_err(store_error)?;
    rocks.set_compression_type(DBCompressionType::Lz4);
    rocks.set_level_compaction_dynamic_level_bytes(true);
    rocks.set_max_write_buffer_number(4);
    rocks.add_compact_on_deletion_collector_factory(DELETIONS_WINDOW, DELETIONS_WINDOW / 2, 0.0);
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_cache_index_and_filter_blocks(true);
    table.set_cache_index_and_filter_blocks_with_high_priority(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    table.set_format_version(5);
    match family {
        Family::Meta | Family::Catalog | Family::Progress => {
            table.set_block_size(LOOKUP_BLOCK_BYTES);
            rocks.set_write_buffer_size(SMALL_MEMTABLE_BYTES);
            rocks.set_arena_block_size(SMALL_ARENA_BLOCK_BYTES);
        }
        Family::State | Family::Pending => {
            table.set_block_size(LOOKUP_BLOCK_BYTES);
            table.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
            find_keys(&mut rocks, &mut table);
            rocks.set_write_buffer_size(large_memtable_bytes(options));
        }
        Family::Relations => {
            table.set_block_size(RANGE_BLOCK_BYTES);
            find_keys(&mut rocks, &mut table);
            rocks.set_write_buffer_size(large_memtable_bytes(options));
        }
        Family::Changelog => {
            table.set_block_size(RANGE_BLOCK_BYTES);
            rocks.set_write_buffer_size(large_memtable_bytes(options));
        }
    }
    rocks.set_block_based_table_factory(&table);
    Ok(rocks)
}

/// Filters tell of most keys that are not there that they are not: a lookup needs to look no further.
fn find_keys(rocks: &mut Options, table: &mut BlockBasedOptions) {
    table.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
    table.set_whole_key_filtering(true);
    read_in_parts(table);
    rocks.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM_RATIO);
    rocks.set_memtable_whole_key_filtering(true);
}

/// Splits the index and the filter of a file into blocks, of which a lookup reads one each. In one piece they take a megabyte
/// and more, which is read anew for every lookup once the data is so much larger than the cache that they do not stay there.
fn read_in_parts(table: &mut BlockBasedOptions) {
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_partition_filters(true);
    table.set_metadata_block_size(LOOKUP_BLOCK_BYTES);
    table.set_pin_top_level_index_and_filter(true);
}

/// One memtable of a column family that holds much: two of them fit into the budget.
fn large_memtable_bytes(options: &StoreOptions) -> usize {
    (options.write_buffer_bytes / 2).clamp(SMALL_MEMTABLE_BYTES, LARGE_MEMTABLE_BYTES)
}
