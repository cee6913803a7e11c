//! Blocks of the store's files: those that reads found in the cache, and those that they had to fetch. RocksDB counts them
//! for each thread anyway.

use rocksdb::PerfContext;
use rocksdb::PerfMetric;

use crate::telemetry::Counter;

/// What the reads of some threads found.
#[derive(Debug, Default)]
pub struct BlockCounts {
    /// Blocks found in the cache.
    pub hits: Counter,
    /// Blocks that were read from files.
    pub misses: Counter,
}

/// The counts of the thread that made it.
pub struct ThreadBlocks {
    context: PerfContext,
    /// The hits and misses that were told already.
    told: [u64; 2],
}

impl ThreadBlocks {
    /// Those of this thread, from now on.
    pub fn begin() -> ThreadBlocks {
        let mut blocks = ThreadBlocks { context: PerfContext::default(), told: [0; 2] };
        blocks.told = blocks.now();
        blocks
    }

    /// Adds what is new since the last call.
    pub fn tell(&mut self, counts: &BlockCounts) {
        let [hits, misses] = self.now();
        counts.hits.add(hits.saturating_sub(self.told[0]));
        counts.misses.add(misses.saturating_sub(self.told[1]));
        self.told = [hits, misses];
    }

    fn now(&self) -> [u64; 2] {
        [PerfMetric::BlockCacheHitCount, PerfMetric::BlockReadCount].map(|metric| self.context.metric(metric))
    }
}
