//! What inspection says: of a slot, of a record, of a directory.

use std::path::PathBuf;

use crate::format::{Kind, SegmentHeader};
use crate::types::{Index, Lsn, Term};

/// What a slot is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// Holds an earlier life that nobody needs.
    Free,
    /// Empty.
    Prepared,
    /// The newest segment.
    Active,
    /// A segment before the newest.
    Sealed,
}

/// What is thought of a slot or a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it was written.
    Ok,
    /// Of an earlier life, or of a tail that was dropped.
    Stale,
    /// Begun, never finished, never acknowledged.
    Torn,
    /// Acknowledged, and damaged.
    Corrupt,
}

/// The sort of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The file is good.
    Clean,
    /// A torn tail: dropped at the next start.
    Torn,
    /// Acknowledged bytes are damaged.
    Corrupt,
    /// The file holds an earlier life.
    Stale,
    /// A segment is missing.
    Gap,
    /// A record or segment does not follow the one before it.
    Link,
}

impl SlotState {
    /// Returns the name that tools print.
    pub fn name(self) -> &'static str {
        match self {
            SlotState::Free => "free",
            SlotState::Prepared => "prepared",
            SlotState::Active => "active",
            SlotState::Sealed => "sealed",
        }
    }
}

impl Verdict {
    /// Returns the name that tools print.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Stale => "stale",
            Verdict::Torn => "torn",
            Verdict::Corrupt => "corrupt",
        }
    }
}

impl Class {
    /// Returns the name that tools print.
    pub fn name(self) -> &'static str {
        match self {
            Class::Clean => "clean",
            Class::Torn => "torn",
            Class::Corrupt => "corrupt",
            Class::Stale => "stale",
            Class::Gap => "gap",
            Class::Link => "link",
        }
    }
}

/// One slot file.
#[derive(Clone, Debug)]
pub struct SlotReport {
    /// The file.
    pub file: PathBuf,
    /// Its length in bytes.
    pub length: u64,
    /// The newer of its good header copies.
    pub header: Option<SegmentHeader>,
    /// Whether the first and the last header copy are good.
    pub header_copies_ok: [bool; 2],
    /// What it is used for.
    pub state: SlotState,
    /// The lowest index of its entries.
    pub first_index: Option<Index>,
    /// The highest index of its entries.
    pub last_index: Option<Index>,
    /// The lowest term of its entries.
    pub first_term: Option<Term>,
    /// The highest term of its entries.
    pub last_term: Option<Term>,
    /// How many good records it holds.
    pub records: u64,
    /// Where its last good record ends: the bytes that are used.
    pub tail_offset: u64,
    /// The largest durable position that its marks and headers name.
    pub durable_mark: Option<Lsn>,
    /// What is thought of it.
    pub verdict: Verdict,
}

/// One record, or the place where one is damaged.
#[derive(Clone, Debug)]
pub struct RecordReport {
    /// The slot file.
    pub file: PathBuf,
    /// Where the record begins in it, in bytes.
    pub offset: u64,
    /// The payload's length in bytes; 0 when the header is damaged.
    pub length: u32,
    /// The record's position.
    pub lsn: Lsn,
    /// The index it names; for a damaged header, what it seems to have been.
    pub index: Option<Index>,
    /// The term it names; likewise.
    pub term: Option<Term>,
    /// What it is; `None` when the header is damaged.
    pub kind: Option<Kind>,
    /// The `FLAG_*` bits.
    pub flags: u8,
    /// Whether the header's checksum is right.
    pub header_crc_ok: bool,
    /// Whether the payload's checksum is right.
    pub payload_crc_ok: bool,
    /// The header's checksum, stored and computed.
    pub header_crc: Checksum,
    /// The payload's checksum, stored and computed; zeros when the header is damaged.
    pub payload_crc: Checksum,
    /// The link, as stored, and the checksum of the record before.
    pub link: Checksum,
    /// Whether it lies below the largest durable position that is known: it was acknowledged.
    pub durable: bool,
    /// What is thought of it.
    pub verdict: Verdict,
}

/// A checksum as it is stored and as it should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checksum {
    /// As stored.
    pub stored: u32,
    /// As computed.
    pub computed: u32,
}

/// One thing that verifying found.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What sort it is.
    pub class: Class,
    /// The file.
    pub file: PathBuf,
    /// The byte offset in it: of the damage, or where a clean file's records end.
    pub offset: u64,
    /// The index that is hurt, as far as known.
    pub index: Option<Index>,
    /// Its term.
    pub term: Option<Term>,
    /// Whether what is hurt was acknowledged.
    pub acknowledged: bool,
    /// Whether the log does not open because of it.
    pub fatal: bool,
    /// The checksum as stored, and as computed, where the damage is one of checksums.
    pub checksum: Option<Checksum>,
    /// In words.
    pub message: String,
}
