//! How a log is opened.

use std::time::Duration;

use crate::error::OpenError;
use crate::format::{DATA_START, HEADER_BLOCK, MARK_BYTES, SEAL_BYTES, TERMINATOR, segment_bytes_ok};
use crate::plan::Identity;

/// How a log is opened. [`Options::default`] suits but for the identity.
#[derive(Clone, Debug)]
pub struct Options {
    /// The bytes of a slot file: a power of two from 64 KiB to 2 GiB. A log keeps the size it was made with, whatever
    /// is asked later.
    pub segment_bytes: u64,
    /// The log's own id; a directory with another one is refused.
    pub log_uuid: u128,
    /// The cluster's id; likewise.
    pub cluster_id: u128,
    /// The node's id; likewise.
    pub node_id: u64,
    /// Above this many bytes that are not yet durable, `append` waits for a sync.
    pub max_unsynced_bytes: u64,
    /// How many empty slots are kept ready besides the reserve.
    pub spare_slots: usize,
    /// After this much quiet a mark is written that covers the last batch.
    pub idle_mark_after: Duration,
    /// After this much quiet both header copies are rewritten, so that the very last record is covered too.
    pub idle_headers_after: Duration,
    /// Seeds the salts and nonces; `None` draws it from the operating system. Set it only where runs must repeat.
    pub seed: Option<u64>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            segment_bytes: 64 << 20,
            log_uuid: 0,
            cluster_id: 0,
            node_id: 0,
            max_unsynced_bytes: 32 << 20,
            spare_slots: 1,
            idle_mark_after: Duration::from_millis(10),
            idle_headers_after: Duration::from_millis(200),
            seed: None,
        }
    }
}

impl Options {
    /// Returns the largest payload of one entry: half a segment, or a little less in the smallest segments.
    pub fn entry_bytes_max(&self) -> u64 {
        (self.segment_bytes / 2).min(self.batch_bytes_max() - 1024)
    }

    /// Returns the most bytes that one batch may take, counting for each entry its payload rounded up to 8 bytes and
    /// 32 bytes more, and 64 bytes for a hard state and a truncation together.
    pub fn batch_bytes_max(&self) -> u64 {
        self.segment_bytes - HEADER_BLOCK - DATA_START - MARK_BYTES - SEAL_BYTES - TERMINATOR
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity { log_uuid: self.log_uuid, cluster_id: self.cluster_id, node_id: self.node_id }
    }

    pub(crate) fn check(&self) -> Result<(), OpenError> {
        if !segment_bytes_ok(self.segment_bytes) {
            return Err(OpenError::Options("a segment is a power of two from 64 KiB to 2 GiB"));
        }
        if self.max_unsynced_bytes == 0 {
            return Err(OpenError::Options("some bytes must be allowed to be unsynced"));
        }
        Ok(())
    }
}
