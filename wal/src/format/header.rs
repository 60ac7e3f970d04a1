//! The segment header.

use std::fmt;

use super::{FORMAT_VERSION, HEADER_BLOCK, HEADER_LEN, In, OLD_SALTS, Out, SEGMENT_BYTES_MAX, segment_bytes_ok};
use crate::types::{HardState, Index, LogId, Lsn, Term};

const MAGIC: [u8; 8] = *b"KONTIWAL";
const HEADER_BYTES: u16 = 256;
const CHECKED: usize = 252;

/// What a segment header says. Both copies say the same, but for the moment in which they are rewritten one after the
/// other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The log this segment belongs to.
    pub log_uuid: u128,
    /// The cluster that the log belongs to.
    pub cluster_id: u128,
    /// The node that the log belongs to.
    pub node_id: u64,
    /// The bytes of every slot of this log.
    pub segment_bytes: u64,
    /// The segment's place in the log; the first is 1, each next one is one more.
    pub seq: u64,
    /// The last entry when the segment was begun; records name their index relative to it.
    pub base: LogId,
    /// Where the segment before this one ends; 0 for the first.
    pub prev_end: Lsn,
    /// The header checksum of the last record before this segment; 0 for the first.
    pub prev_check: u32,
    /// Seeds the record checksums of this life of the slot.
    pub salt: u32,
    /// The salts of earlier lives, newest first; 0 where there was none.
    pub old_salts: [u32; OLD_SALTS],
    /// The hard state when this copy was written.
    pub hard_state: HardState,
    /// Everything below was durable when this copy was written.
    pub durable: Lsn,
    /// The newest entry that is purged.
    pub purged: LogId,
    /// How often this header was rewritten in this life.
    pub generation: u64,
}

/// Why a header block is not a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderFault {
    /// All zeros: the slot was never used.
    Blank,
    /// Not a header of this kind of file.
    Magic,
    /// The checksum does not fit.
    Checksum {
        /// The checksum that is stored.
        stored: u32,
        /// The checksum of the bytes that are there.
        computed: u32,
    },
    /// A later format.
    Version(u16),
    /// The checksum fits, but the numbers contradict each other or the file.
    Nonsense,
}

impl fmt::Display for HeaderFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeaderFault::Blank => write!(f, "zeros"),
            HeaderFault::Magic => write!(f, "not a segment header"),
            HeaderFault::Checksum { stored, computed } => write!(f, "checksum {stored:08x}, computed {computed:08x}"),
            HeaderFault::Version(version) => write!(f, "format version {version}"),
            HeaderFault::Nonsense => write!(f, "fields contradict each other"),
        }
    }
}

impl SegmentHeader {
    /// Returns the block as it is stored. The checked part lies in one sector, so a sector-atomic disk cannot tear it.
    pub fn encode(&self) -> Box<[u8; HEADER_LEN]> {
        let mut block = Box::new([0; HEADER_LEN]);
        let mut out = Out { bytes: &mut block[..], at: 0 };
        out.put(&MAGIC);
        out.put(&FORMAT_VERSION.to_le_bytes());
        out.put(&HEADER_BYTES.to_le_bytes());
        out.put(&0u32.to_le_bytes()); // Feature bits: none yet.
        out.put(&self.log_uuid.to_le_bytes());
        out.put(&self.cluster_id.to_le_bytes());
        for number in [self.node_id, self.segment_bytes, self.seq, self.base.index.0, self.base.term.0, self.prev_end.0]
        {
            out.put(&number.to_le_bytes());
        }
        out.put(&self.prev_check.to_le_bytes());
        out.put(&self.salt.to_le_bytes());
        for salt in self.old_salts {
            out.put(&salt.to_le_bytes());
        }
        for number in [
            self.hard_state.term.0,
            self.hard_state.vote,
            self.hard_state.commit.0,
            self.durable.0,
            self.purged.index.0,
            self.purged.term.0,
            self.generation,
        ] {
            out.put(&number.to_le_bytes());
        }
        let crc = crc32fast::hash(&block[..CHECKED]);
        block[CHECKED..CHECKED + 4].copy_from_slice(&crc.to_le_bytes());
        block
    }

    /// Reads one copy. `block` holds at least the first 256 bytes of it.
    ///
    /// # Errors
    /// Says what is wrong when this is not a header that can be trusted.
    pub fn decode(block: &[u8]) -> Result<SegmentHeader, HeaderFault> {
        let Some(block) = block.get(..usize::from(HEADER_BYTES)) else { return Err(HeaderFault::Magic) };
        if block.iter().all(|&byte| byte == 0) {
            return Err(HeaderFault::Blank);
        }
        let mut input = In { bytes: block, at: 0 };
        let magic: [u8; 8] = input.take();
        let version = u16::from_le_bytes(input.take());
        let header_bytes = u16::from_le_bytes(input.take());
        let features = input.u32();
        let computed = crc32fast::hash(&block[..CHECKED]);
        let stored = u32::from_le_bytes([block[CHECKED], block[CHECKED + 1], block[CHECKED + 2], block[CHECKED + 3]]);
        if magic != MAGIC {
            return Err(HeaderFault::Magic);
        }
        if stored != computed {
            return Err(HeaderFault::Checksum { stored, computed });
        }
        if version != FORMAT_VERSION || features != 0 || header_bytes != HEADER_BYTES {
            return Err(HeaderFault::Version(version));
        }
        let header = SegmentHeader {
            log_uuid: u128::from_le_bytes(input.take()),
            cluster_id: u128::from_le_bytes(input.take()),
            node_id: input.u64(),
            segment_bytes: input.u64(),
            seq: input.u64(),
            base: LogId { index: Index(input.u64()), term: Term(input.u64()) },
            prev_end: Lsn(input.u64()),
            prev_check: input.u32(),
            salt: input.u32(),
            old_salts: std::array::from_fn(|_| input.u32()),
            hard_state: HardState { term: Term(input.u64()), vote: input.u64(), commit: Index(input.u64()) },
            durable: Lsn(input.u64()),
            purged: LogId { index: Index(input.u64()), term: Term(input.u64()) },
            generation: input.u64(),
        };
        if header.is_sane() { Ok(header) } else { Err(HeaderFault::Nonsense) }
    }

    fn is_sane(&self) -> bool {
        segment_bytes_ok(self.segment_bytes)
            && self.seq > 0
            && self.seq < u64::MAX / SEGMENT_BYTES_MAX
            && self.base.index.0 < u64::MAX / 2
            && self.purged.index.0 < u64::MAX / 2
    }

    /// Returns the position of `offset` in this segment.
    pub fn lsn(&self, offset: u64) -> Lsn {
        Lsn(self.seq * self.segment_bytes + offset)
    }

    /// Returns where the records of this segment must end at the latest.
    pub fn limit(&self) -> u64 {
        self.segment_bytes - HEADER_BLOCK
    }
}
