//! Reads one slot's bytes, record by record, and says what it finds. Pure.
//!
//! What ends the walk is judged against `durable`, the largest position that was certainly acknowledged as durable:
//!
//! | found at `at`                             | `at < durable`          | `at >= durable` |
//! |-------------------------------------------|-------------------------|-----------------|
//! | the end of the room, or a seal            | corrupt: missing        | clean           |
//! | 32 zeros                                  | corrupt: missing        | unwritten       |
//! | a record of an earlier life of the slot   | corrupt: missing        | stale           |
//! | a record that does not follow the last    | corrupt: link           | stale           |
//! | bytes that are no record header           | corrupt: record header  | torn            |
//! | a record whose payload does not fit       | corrupt: payload        | torn            |
//! | a batch without its last record           | as what ended it        | torn            |

use crate::error::DamageKind;
use crate::format::{
    ALIGN, DATA_START, Kind, MARK_PAYLOAD, Mark, RECORD_HEADER, RECORD_LEN, RecordHeader, SegmentHeader, header_crc,
    payload_crc, to_usize,
};
use crate::types::Lsn;

/// What most of a slot's unused end is made of.
static ZEROS: [u8; 4096] = [0; 4096];

/// A record whose header is good.
#[derive(Clone, Copy, Debug)]
pub struct Scanned<'a> {
    /// Where it begins in the slot.
    pub offset: u64,
    /// Its header.
    pub header: RecordHeader,
    /// The header's checksum: what the next record links to.
    pub check: u32,
    /// Its payload, without padding.
    pub payload: &'a [u8],
    /// The checksum of payload and padding as they are.
    pub payload_computed: u32,
}

impl Scanned<'_> {
    /// Returns whether the payload is what was written.
    pub fn payload_ok(&self) -> bool {
        self.payload_computed == self.header.payload_crc
    }

    /// Returns where the next record begins.
    pub fn end(&self) -> u64 {
        self.offset + self.header.bytes()
    }
}

/// What is at the walk's offset.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// A record that follows the one before; its payload may be damaged. The walk has moved behind it.
    Record(Scanned<'a>),
    /// No record fits before the limit.
    Full,
    /// 32 zeros.
    Unwritten,
    /// A record of an earlier life of the slot.
    Stale,
    /// A record of this life that does not follow the one before.
    Unlinked(Scanned<'a>),
    /// Not a record header.
    Garbage {
        /// The checksum that is stored.
        stored: u32,
        /// The checksum of the bytes that are there.
        computed: u32,
    },
}

/// How a log ends, or why it does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// At a seal, or where no record fits.
    Clean,
    /// Zeros follow.
    Unwritten,
    /// Bytes of an earlier life of the slot, or of a tail that was dropped, follow.
    Stale,
    /// A begun but incomplete batch, never acknowledged, follows.
    Torn {
        /// Where the batch begins.
        at: u64,
    },
    /// Acknowledged data is damaged.
    Corrupt {
        /// Where.
        at: u64,
        /// How.
        why: DamageKind,
    },
}

impl Step<'_> {
    /// Judges what was found at `at`, with acknowledged data up to `durable`; the table at the top of this file.
    /// `batch` is where a batch without its last record begins, if one is open. `None` for a good record: that is no
    /// end.
    pub fn judge(&self, at: u64, batch: Option<u64>, durable: u64, link: Option<u32>) -> Option<Verdict> {
        let why = match *self {
            Step::Record(record) if record.payload_ok() => return None,
            Step::Record(record) => {
                DamageKind::Payload { stored: record.header.payload_crc, computed: record.payload_computed }
            }
            Step::Full | Step::Unwritten | Step::Stale => DamageKind::Missing,
            Step::Unlinked(record) => {
                DamageKind::Link { expected: link.unwrap_or_default(), stored: record.header.link }
            }
            Step::Garbage { stored, computed } => DamageKind::RecordHeader { stored, computed },
        };
        if at < durable {
            return Some(Verdict::Corrupt { at, why });
        }
        if let Some(batch) = batch {
            return Some(Verdict::Torn { at: batch });
        }
        Some(match self {
            Step::Full => Verdict::Clean,
            Step::Unwritten => Verdict::Unwritten,
            Step::Stale | Step::Unlinked(_) => Verdict::Stale,
            Step::Garbage { .. } | Step::Record(_) => Verdict::Torn { at },
        })
    }
}

/// A walk over the records of one slot.
#[derive(Clone, Debug)]
pub struct Walk<'a> {
    header: &'a SegmentHeader,
    bytes: &'a [u8],
    offset: u64,
    limit: u64,
    link: Option<u32>,
}

impl<'a> Walk<'a> {
    /// Begins at the first record. `bytes` is the slot from its first byte on; the walk ends at the slot's limit, or
    /// at `limit` if that is known to be where the segment ends.
    pub fn new(header: &'a SegmentHeader, bytes: &'a [u8], limit: Option<u64>) -> Walk<'a> {
        let room = header.limit().min(bytes.len() as u64);
        let limit = limit.map_or(room, |limit| limit.clamp(DATA_START, room.max(DATA_START)));
        Walk { header, bytes, offset: DATA_START, limit, link: Some(header.prev_check) }
    }

    /// Returns where the walk is.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns what the next record must link to; `None` after [`Walk::resync`].
    pub fn link(&self) -> Option<u32> {
        self.link
    }

    /// Looks at what comes next, and moves behind it if it is a record that follows.
    pub fn step(&mut self) -> Step<'a> {
        let Some(raw) = self.raw(self.offset) else { return Step::Full };
        if raw.iter().all(|&byte| byte == 0) {
            return Step::Unwritten;
        }
        let Some(record) = self.record(self.offset) else {
            let stored = u32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]);
            let old = self.header.old_salts.iter().filter(|&&salt| salt != 0);
            for &salt in old {
                if header_crc(raw, salt, self.offset) == stored {
                    return Step::Stale;
                }
            }
            return Step::Garbage { stored, computed: header_crc(raw, self.header.salt, self.offset) };
        };
        if self.link.is_some_and(|link| link != record.header.link) {
            return Step::Unlinked(record);
        }
        self.offset = record.end();
        self.link = Some(record.check);
        Step::Record(record)
    }

    /// Moves to the next good record header after this place, whatever it links to. Returns whether there is one.
    pub fn resync(&mut self) -> bool {
        let mut at = self.offset + ALIGN;
        while at + RECORD_HEADER <= self.limit {
            at += self.zeros(at);
            if self.may_be_record(at) && self.check_header(at).is_some() {
                self.offset = at;
                self.link = None;
                return true;
            }
            at += ALIGN;
        }
        false
    }

    /// Accepts the record here although it does not follow the one before.
    pub fn relink(&mut self) {
        self.link = None;
    }

    /// Returns the largest durable position that a valid mark from this place on names.
    pub fn largest_mark_ahead(&self) -> Option<Lsn> {
        let mut largest = None;
        let mut at = self.offset;
        while at + RECORD_HEADER <= self.limit {
            at += self.zeros(at);
            if self.may_be_mark(at) {
                largest = largest.max(self.mark(at).map(|mark| mark.durable));
            }
            at += ALIGN;
        }
        largest
    }

    /// Returns how far to go on because no record can begin before: 0, or most of a block that is all zeros.
    fn zeros(&self, at: u64) -> u64 {
        let block = self.bytes.get(to_usize(at)..to_usize(at) + ZEROS.len());
        let room = at + ZEROS.len() as u64 + RECORD_HEADER <= self.limit;
        if room && block == Some(&ZEROS[..]) { ZEROS.len() as u64 - RECORD_HEADER } else { 0 }
    }

    fn may_be_record(&self, at: u64) -> bool {
        let at = to_usize(at);
        matches!(self.bytes[at + 28], 1..=9)
    }

    fn may_be_mark(&self, at: u64) -> bool {
        let at = to_usize(at);
        self.bytes[at + 28] == Kind::Mark as u8 && self.bytes[at + 12..at + 16] == MARK_PAYLOAD.to_le_bytes()
    }

    fn mark(&self, at: u64) -> Option<Mark> {
        let record = self.record(at).filter(Scanned::payload_ok)?;
        Mark::decode(record.payload, self.header.lsn(at))
    }

    fn raw(&self, at: u64) -> Option<&'a [u8; RECORD_LEN]> {
        let in_room = at + RECORD_HEADER <= self.limit;
        in_room.then(|| self.bytes[to_usize(at)..].first_chunk()).flatten()
    }

    fn check_header(&self, at: u64) -> Option<(RecordHeader, u32)> {
        let raw = self.raw(at)?;
        let check = header_crc(raw, self.header.salt, at);
        let header = RecordHeader::decode(raw)?;
        let fits = at + header.bytes() <= self.limit;
        (fits && check.to_le_bytes() == raw[..4]).then_some((header, check))
    }

    fn record(&self, offset: u64) -> Option<Scanned<'a>> {
        let (header, check) = self.check_header(offset)?;
        let start = to_usize(offset + RECORD_HEADER);
        let padded = &self.bytes[start..to_usize(offset + header.bytes())];
        let payload = &padded[..to_usize(u64::from(header.length))];
        // The padding is hashed as it is, so that a flipped bit in it is told too.
        Some(Scanned { offset, header, check, payload, payload_computed: crc32fast::hash(padded) })
    }

    /// Reads the header here without trusting it: what a damaged record may have been. Its payload's checksum says
    /// whether to believe it.
    pub fn guess(&self) -> Option<RecordHeader> {
        let header = RecordHeader::decode(self.raw(self.offset)?)?;
        let end = self.offset + header.bytes();
        if end > self.limit {
            return None;
        }
        let start = to_usize(self.offset + RECORD_HEADER);
        let payload = &self.bytes[start..start + to_usize(u64::from(header.length))];
        (payload_crc(&[payload]) == header.payload_crc).then_some(header)
    }
}
