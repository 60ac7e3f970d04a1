//! Reads one entry in place and checks it.

use std::ops::Deref;

use crate::disk::{Disk, Slot};
use crate::error::{Damage, DamageKind, ReadError};
use crate::format::{Kind, RECORD_HEADER, RECORD_LEN, RecordHeader, header_crc};
use crate::types::{Index, LogId, Lsn, Term};

/// The bytes of a repair record's payload before the entry's own.
const REPAIR_PREFIX: u64 = 8;

/// One entry, read in place. Keeps its slot from being recycled.
#[derive(Clone)]
pub struct LogEntry<V> {
    index: Index,
    term: Term,
    view: V,
}

impl<V: AsRef<[u8]>> LogEntry<V> {
    /// Returns the entry's index.
    pub fn index(&self) -> Index {
        self.index
    }

    /// Returns the entry's term.
    pub fn term(&self) -> Term {
        self.term
    }

    /// Returns the payload.
    pub fn payload(&self) -> &[u8] {
        self.view.as_ref()
    }
}

impl<V: AsRef<[u8]>> Deref for LogEntry<V> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.payload()
    }
}

impl<V: AsRef<[u8]>> AsRef<[u8]> for LogEntry<V> {
    fn as_ref(&self) -> &[u8] {
        self.payload()
    }
}

impl<V: AsRef<[u8]>> std::fmt::Debug for LogEntry<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bytes = self.payload().len();
        f.debug_struct("Entry").field("index", &self.index).field("term", &self.term).field("bytes", &bytes).finish()
    }
}

/// An entry that was found but not yet read.
pub(crate) struct Located<S> {
    pub(crate) slot: S,
    pub(crate) salt: u32,
    pub(crate) offset: u64,
    pub(crate) lsn: Lsn,
    pub(crate) id: LogId,
}

impl<S: Slot> Located<S> {
    /// Reads the entry and checks it against both checksums, its index and its term.
    pub(crate) fn read<D: Disk<Slot = S>>(&self, disk: &D) -> Result<LogEntry<S::View>, ReadError> {
        let LogId { term, index } = self.id;
        let failed = |error: std::io::Error| ReadError::Io { index, message: error.to_string() };
        let damaged = |why| {
            let file = disk.name(self.slot.id());
            let (lsn, index, term) = (Some(self.lsn), Some(index), Some(term));
            ReadError::Damaged(Box::new(Damage { file, offset: self.offset, lsn, index, term, why }))
        };
        let head = self.slot.view(self.offset, RECORD_HEADER).map_err(failed)?;
        let raw: &[u8; RECORD_LEN] = head.as_ref().first_chunk().expect("as long as asked for");
        let computed = header_crc(raw, self.salt, self.offset);
        let stored = u32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]);
        let header = RecordHeader::decode(raw).filter(|_| stored == computed);
        let Some(header) = header else { return Err(damaged(DamageKind::RecordHeader { stored, computed })) };
        if header.term != term {
            return Err(damaged(DamageKind::Order));
        }
        let start = self.offset + RECORD_HEADER;
        let padded = self.slot.view(start, header.bytes() - RECORD_HEADER).map_err(failed)?;
        let computed = crc32fast::hash(padded.as_ref());
        if computed != header.payload_crc {
            return Err(damaged(DamageKind::Payload { stored: header.payload_crc, computed }));
        }
        let skip = if header.kind == Kind::Repair { REPAIR_PREFIX } else { 0 };
        let view = self.slot.view(start + skip, u64::from(header.length) - skip).map_err(failed)?;
        Ok(LogEntry { index, term, view })
    }
}
