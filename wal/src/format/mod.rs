//! The bytes of segment headers and records (see `docs/formats.md`). Pure: no file is touched here.
//!
//! Everything is little-endian. A position is `sequence * segment bytes + offset`.

mod header;

use crate::types::{HardState, Index, Lsn, Term};

/// The bytes of a header block: the first of a slot is at 0, the copy ends the slot.
pub const HEADER_BLOCK: u64 = 4096;
/// Where the first record of a slot begins.
pub const DATA_START: u64 = HEADER_BLOCK;
/// The bytes of a record's header.
pub const RECORD_HEADER: u64 = 32;
/// [`HEADER_BLOCK`] as a length in memory.
pub const HEADER_LEN: usize = 4096;
/// [`RECORD_HEADER`] as a length in memory.
pub const RECORD_LEN: usize = 32;
const MARK_LEN: usize = 32;
const ALIGN_LEN: usize = 8;
/// Records begin at multiples of this.
pub const ALIGN: u64 = 8;
/// The smallest slot.
pub const SEGMENT_BYTES_MIN: u64 = 64 * 1024;
/// The largest slot: an offset in units of [`ALIGN`] fits 32 bits, and so does a length.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 31;
/// How many earlier salts of its slot a header remembers.
pub const OLD_SALTS: usize = 8;
/// The version of this format.
pub const FORMAT_VERSION: u16 = 1;

/// The record begins an atomic batch.
pub const FLAG_FIRST: u8 = 1;
/// The record ends an atomic batch.
pub const FLAG_LAST: u8 = 2;
/// On a snapshot record: the log continues after it, whatever was there before.
pub const FLAG_RESET: u8 = 4;

/// The payload bytes of a mark.
pub const MARK_PAYLOAD: u32 = 32;
/// The bytes of a whole mark record.
pub const MARK_BYTES: u64 = RECORD_HEADER + MARK_PAYLOAD as u64;
/// The bytes of a whole seal record without an index.
pub const SEAL_BYTES: u64 = RECORD_HEADER + 16;
/// The bytes of a whole reopen record.
pub const REOPEN_BYTES: u64 = RECORD_HEADER + 16;
/// The zeros stored behind the last record, so that bytes of an earlier life never touch the log's end.
pub const TERMINATOR: u64 = RECORD_HEADER;

const _: () = assert!(DATA_START.is_multiple_of(ALIGN) && RECORD_HEADER.is_multiple_of(ALIGN));
const _: () = assert!(SEGMENT_BYTES_MAX / ALIGN <= u32::MAX as u64 + 1);
const _: () = assert!(HEADER_LEN as u64 == HEADER_BLOCK && RECORD_LEN as u64 == RECORD_HEADER);
const _: () = assert!(MARK_LEN as u64 == MARK_PAYLOAD as u64 && ALIGN_LEN as u64 == ALIGN);
const _: () = assert!(SEGMENT_BYTES_MIN > 4 * HEADER_BLOCK);

pub use header::{HeaderFault, SegmentHeader};

/// Returns whether a slot may have this size: a power of two within the bounds.
pub fn segment_bytes_ok(segment_bytes: u64) -> bool {
    segment_bytes.is_power_of_two() && (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&segment_bytes)
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// An entry: index, term and payload are its own.
    Entry = 1,
    /// A hard state: `term`, and the payload `vote u64, commit u64`.
    HardState = 2,
    /// Drops the entries from `index` on; `term` is that of the entry before. No payload.
    Truncate = 3,
    /// The entries up to (`index`, `term`) are in a snapshot. With [`FLAG_RESET`] the log continues after it. The
    /// payload, of up to 64 bytes, is the embedder's.
    Snapshot = 4,
    /// Closes a sync batch: see [`Mark`].
    Mark = 5,
    /// Ends a segment: see [`Seal`].
    Seal = 6,
    /// Fills space. Its payload means nothing.
    Pad = 7,
    /// Begins the log's continuation after a recovery: a payload of a nonce (u64) and its own position (u64).
    Reopen = 8,
    /// Replaces the damaged entry (`index`, `term`) at a position: the payload is that position (u64), then the
    /// entry's payload.
    Repair = 9,
}

impl Kind {
    /// Returns the kind with this number.
    pub fn from_u8(number: u8) -> Option<Kind> {
        Some(match number {
            1 => Kind::Entry,
            2 => Kind::HardState,
            3 => Kind::Truncate,
            4 => Kind::Snapshot,
            5 => Kind::Mark,
            6 => Kind::Seal,
            7 => Kind::Pad,
            8 => Kind::Reopen,
            9 => Kind::Repair,
            _ => return None,
        })
    }

    /// Returns the name that tools print.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Entry => "entry",
            Kind::HardState => "hard_state",
            Kind::Truncate => "truncate",
            Kind::Snapshot => "snapshot",
            Kind::Mark => "mark",
            Kind::Seal => "seal",
            Kind::Pad => "pad",
            Kind::Reopen => "reopen",
            Kind::Repair => "repair",
        }
    }
}

/// A record's header, 32 bytes, as its fields say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// The checksum of payload and padding.
    pub payload_crc: u32,
    /// The header checksum of the record before.
    pub link: u32,
    /// The bytes of the payload, without padding.
    pub length: u32,
    /// The entry's term; what it means for other kinds is said at [`Kind`].
    pub term: Term,
    /// The index minus the segment's base index.
    pub relative_index: i32,
    /// What the record is.
    pub kind: Kind,
    /// `FLAG_*` bits.
    pub flags: u8,
    /// The Raft group; 0 today.
    pub group: u16,
}

impl RecordHeader {
    /// Returns the header as stored at `offset` in a segment with `salt`, and its checksum.
    pub fn encode(&self, salt: u32, offset: u64) -> ([u8; RECORD_LEN], u32) {
        let mut bytes = [0; RECORD_LEN];
        bytes[4..8].copy_from_slice(&self.payload_crc.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.link.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.length.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.term.0.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.relative_index.to_le_bytes());
        bytes[28] = self.kind as u8;
        bytes[29] = self.flags;
        bytes[30..32].copy_from_slice(&self.group.to_le_bytes());
        let crc = header_crc(&bytes, salt, offset);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        (bytes, crc)
    }

    /// Reads the fields without checking them; `None` when the kind is unknown.
    pub fn decode(bytes: &[u8; RECORD_LEN]) -> Option<RecordHeader> {
        let mut input = In { bytes, at: 4 };
        Some(RecordHeader {
            payload_crc: input.u32(),
            link: input.u32(),
            length: input.u32(),
            term: Term(input.u64()),
            relative_index: i32::from_le_bytes(input.take()),
            kind: Kind::from_u8(bytes[28])?,
            flags: bytes[29],
            group: u16::from_le_bytes([bytes[30], bytes[31]]),
        })
    }

    /// Returns the bytes that the whole record takes.
    pub fn bytes(&self) -> u64 {
        record_bytes(u64::from(self.length))
    }

    /// Returns the index this record names, in a segment with this base; `None` where there is none.
    pub fn index(&self, base: Index) -> Option<Index> {
        base.0.checked_add_signed(i64::from(self.relative_index)).map(Index)
    }
}

/// Returns the checksum of a record header: over its bytes 4..32, seeded with the segment's salt and the record's
/// place, so that a record is valid only where it was written, in that life of the slot.
pub fn header_crc(bytes: &[u8; RECORD_LEN], salt: u32, offset: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(salt ^ narrow(offset / ALIGN));
    hasher.update(&bytes[4..]);
    hasher.finalize()
}

/// Returns the checksum of a payload with its padding, given the parts of the payload.
pub fn payload_crc(parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    let mut length = 0;
    for part in parts {
        hasher.update(part);
        length += part.len();
    }
    hasher.update(padding(length));
    hasher.finalize()
}

/// Returns the zeros that pad a payload of this length.
pub fn padding(length: usize) -> &'static [u8] {
    &[0; ALIGN_LEN][..length.wrapping_neg() % to_usize(ALIGN)]
}

/// Returns the bytes of a record with a payload of this length.
pub fn record_bytes(payload_bytes: u64) -> u64 {
    RECORD_HEADER + payload_bytes.next_multiple_of(ALIGN)
}

/// The payload of a mark: what was durable when it was written. Valid only at the position it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Where the mark itself begins.
    pub position: Lsn,
    /// Everything below was durable; at most `position`.
    pub durable: Lsn,
    /// The vote of the hard state; its term is the record's.
    pub vote: u64,
    /// The commit index of the hard state.
    pub commit: Index,
}

impl Mark {
    /// Returns the payload as stored.
    pub fn encode(&self) -> [u8; MARK_LEN] {
        let mut bytes = [0; MARK_LEN];
        let mut out = Out { bytes: &mut bytes, at: 0 };
        for number in [self.position.0, self.durable.0, self.vote, self.commit.0] {
            out.put(&number.to_le_bytes());
        }
        bytes
    }

    /// Reads a payload whose checksum was right; `None` if it is not valid at `position`.
    pub fn decode(payload: &[u8], position: Lsn) -> Option<Mark> {
        if payload.len() != to_usize(u64::from(MARK_PAYLOAD)) {
            return None;
        }
        let mut input = In { bytes: payload, at: 0 };
        let mark = Mark {
            position: Lsn(input.u64()),
            durable: Lsn(input.u64()),
            vote: input.u64(),
            commit: Index(input.u64()),
        };
        (mark.position == position && mark.durable <= position).then_some(mark)
    }
}

/// The payload of a seal: what comes next. May be followed by one `u32` per entry of the segment (its offset / 8),
/// none today.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// The sequence of the next segment.
    pub next_seq: u64,
    /// The salt of the next segment, so that its records can be told even if both its headers are lost.
    pub next_salt: u32,
    /// How many index words follow.
    pub index_words: u32,
}

impl Seal {
    /// Returns the payload as stored, without index words.
    pub fn encode(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        let mut out = Out { bytes: &mut bytes, at: 0 };
        out.put(&self.next_seq.to_le_bytes());
        out.put(&self.next_salt.to_le_bytes());
        out.put(&self.index_words.to_le_bytes());
        bytes
    }

    /// Reads a payload whose checksum was right; `None` if it is not a seal's.
    pub fn decode(payload: &[u8]) -> Option<Seal> {
        if payload.len() < 16 {
            return None;
        }
        let mut input = In { bytes: payload, at: 0 };
        let seal = Seal { next_seq: input.u64(), next_salt: input.u32(), index_words: input.u32() };
        (payload.len() as u64 == 16 + 4 * u64::from(seal.index_words)).then_some(seal)
    }
}

/// Returns the payload of a hard state record.
pub fn encode_hard_state(state: &HardState) -> [u8; 16] {
    two_numbers(state.vote, state.commit.0)
}

/// Reads a hard state record.
pub fn decode_hard_state(term: Term, payload: &[u8]) -> Option<HardState> {
    let (vote, commit) = read_two_numbers(payload)?;
    Some(HardState { term, vote, commit: Index(commit) })
}

/// Returns the payload of a reopen record.
pub fn encode_reopen(nonce: u64, position: Lsn) -> [u8; 16] {
    two_numbers(nonce, position.0)
}

/// Reads the position at the head of a repair record's payload.
pub fn decode_repair_position(payload: &[u8]) -> Option<Lsn> {
    let bytes = payload.first_chunk::<8>()?;
    Some(Lsn(u64::from_le_bytes(*bytes)))
}

fn two_numbers(first: u64, second: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&first.to_le_bytes());
    bytes[8..].copy_from_slice(&second.to_le_bytes());
    bytes
}

fn read_two_numbers(payload: &[u8]) -> Option<(u64, u64)> {
    let payload: &[u8; 16] = payload.try_into().ok()?;
    let mut input = In { bytes: payload, at: 0 };
    Some((input.u64(), input.u64()))
}

/// Narrows a number that its bounds keep below 2^32.
pub(crate) fn narrow(number: u64) -> u32 {
    u32::try_from(number).expect("an offset or length within a slot fits 32 bits")
}

/// Turns a number of bytes within a slot into a length in memory.
pub(crate) fn to_usize(number: u64) -> usize {
    usize::try_from(number).expect("a slot fits the address space")
}

struct Out<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl Out<'_> {
    fn put(&mut self, field: &[u8]) {
        self.bytes[self.at..self.at + field.len()].copy_from_slice(field);
        self.at += field.len();
    }
}

struct In<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl In<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let field = self.bytes[self.at..].first_chunk().copied();
        self.at += N;
        field.expect("the caller checked the length")
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}
