//! What can go wrong, by operation: open, append, read, sync; and damage with its address.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::format::HeaderFault;
use crate::types::{Index, Lsn, Term};

/// Acknowledged data that is not on the disk as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The slot file, as the directory names it.
    pub file: PathBuf,
    /// The byte offset in that file.
    pub offset: u64,
    /// The position in the log, if the file's sequence is known.
    pub lsn: Option<Lsn>,
    /// The index of the entry that is damaged or missing, as far as known.
    pub index: Option<Index>,
    /// The term of that entry, as far as known.
    pub term: Option<Term>,
    /// What is wrong.
    pub why: DamageKind,
}

/// What is wrong with a damaged place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DamageKind {
    /// The record's header fails its checksum; whatever it described is unknown.
    RecordHeader {
        /// The checksum that is stored.
        stored: u32,
        /// The checksum of the bytes that are there.
        computed: u32,
    },
    /// The record's payload fails its checksum; the header, and so index and term, are good.
    Payload {
        /// The checksum that the header names.
        stored: u32,
        /// The checksum of the bytes that are there.
        computed: u32,
    },
    /// Zeros, or bytes of an earlier life of the slot, where an acknowledged record was.
    Missing,
    /// The record is good but does not follow the one before it.
    Link {
        /// The checksum of the record before it.
        expected: u32,
        /// The link that is stored.
        stored: u32,
    },
    /// The record is good but its content contradicts what came before.
    Order,
    /// One of the two copies of the segment header is bad. The other one serves: reported, and rewritten by the next
    /// header write.
    HeaderCopy,
    /// Both copies of the segment header are bad.
    Header(HeaderFault),
    /// A segment between others is not there.
    Gap {
        /// The sequence of the missing segment.
        seq: u64,
    },
    /// Two slots claim the same sequence.
    Duplicate {
        /// The sequence that both claim.
        seq: u64,
    },
    /// The file is not as long as a slot.
    Length {
        /// Its length in bytes.
        found: u64,
        /// The bytes of a slot.
        expected: u64,
    },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.file.display(), self.offset)?;
        if let Some(index) = self.index {
            write!(f, " (index {index}")?;
            if let Some(term) = self.term {
                write!(f, ", term {term}")?;
            }
            write!(f, ")")?;
        }
        write!(f, ": {}", self.why)
    }
}

impl fmt::Display for DamageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DamageKind::RecordHeader { stored, computed } => {
                write!(f, "record header checksum {stored:08x}, computed {computed:08x}")
            }
            DamageKind::Payload { stored, computed } => {
                write!(f, "payload checksum {stored:08x}, computed {computed:08x}")
            }
            DamageKind::Missing => write!(f, "an acknowledged record is missing"),
            DamageKind::Link { expected, stored } => {
                write!(f, "record links to {stored:08x}, the record before it is {expected:08x}")
            }
            DamageKind::Order => write!(f, "record out of order"),
            DamageKind::HeaderCopy => write!(f, "one copy of the segment header is damaged"),
            DamageKind::Header(fault) => write!(f, "both copies of the segment header are damaged: {fault}"),
            DamageKind::Gap { seq } => write!(f, "segment {seq} is missing"),
            DamageKind::Duplicate { seq } => write!(f, "segment {seq} is there twice"),
            DamageKind::Length { found, expected } => write!(f, "file has {found} bytes instead of {expected}"),
        }
    }
}

/// Why a log did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Acknowledged data is damaged. `first` is the lowest damaged place, `all` every one that was found.
    #[error("log damaged: {first}")]
    Damaged {
        /// The lowest damaged place.
        first: Box<Damage>,
        /// Every damaged place, lowest first.
        all: Vec<Damage>,
    },
    /// A slot belongs to another log, cluster or node.
    #[error("{}: {what} is {found}, expected {expected}", file.display())]
    Identity {
        /// The foreign slot.
        file: PathBuf,
        /// Which identity differs: `log uuid`, `cluster id` or `node id`.
        what: &'static str,
        /// What the file says (uuids in hexadecimal).
        found: String,
        /// What the options say.
        expected: String,
    },
    /// A slot is of a format that this version does not know.
    #[error("{}: log format version {version} is not supported", file.display())]
    Unsupported {
        /// The slot.
        file: PathBuf,
        /// The version it names; 1 with unknown feature bits.
        version: u16,
    },
    /// Another process has the directory.
    #[error("{}: the log is in use by another process", dir.display())]
    Locked {
        /// The log's directory.
        dir: PathBuf,
    },
    /// The options cannot be used together.
    #[error("log options: {0}")]
    Options(&'static str),
    /// There is no room for the first segment of a new log.
    #[error("no space left for the log's first segment")]
    NoSpace,
    /// The file system failed. A failed sync is here too: what is on the disk is then unknown.
    #[error("{context}: {source}")]
    Io {
        /// What was being done, and to which file.
        context: String,
        /// The failure.
        source: io::Error,
    },
}

/// A sync or a write failed: for the rest of the process the log answers nothing but this.
///
/// What of the unacknowledged data is on the disk is unknown; only a restart, which reads the disk, can tell.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("log poisoned: {message}")]
pub struct Poisoned {
    /// The first failure, in words.
    pub message: String,
    /// The operating system's error number, if it was one.
    pub os_error: Option<i32>,
}

impl From<&io::Error> for Poisoned {
    fn from(error: &io::Error) -> Self {
        Poisoned { message: error.to_string(), os_error: error.raw_os_error() }
    }
}

/// Why a batch was not appended. But for `Poisoned`, nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The disk is full; only batches that may use the reserve are taken.
    #[error("no space left for the log")]
    NoSpace,
    /// No slot is ready yet, but one is being made. Only the thread-free core says this: [`crate::Wal`] waits instead.
    #[error("no segment is ready yet")]
    Busy,
    /// The log failed before; see [`Poisoned`].
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
    /// An entry or the whole batch is larger than a segment allows.
    #[error("{bytes} bytes are more than the {limit} that fit")]
    TooLarge {
        /// The bytes asked for.
        bytes: u64,
        /// The limit that was passed.
        limit: u64,
    },
    /// The entries do not continue the log.
    #[error("entry {found} at term {term} does not follow entry {last}")]
    Misordered {
        /// The entry that does not fit.
        found: Index,
        /// Its term.
        term: Term,
        /// The last entry before it.
        last: Index,
    },
    /// Committed or purged entries cannot be truncated.
    #[error("truncating from {from}, but {kept} is committed or purged")]
    Truncates {
        /// Where the truncation would begin.
        from: Index,
        /// The newest index that must stay.
        kept: Index,
    },
    /// Terms and commit indexes never go back, and a vote is not changed within its term.
    #[error("hard state goes back")]
    HardState,
}

/// Why an entry could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The entry was purged; the log begins at `first`.
    #[error("entry {index} is purged, the log begins at {first}")]
    Purged {
        /// The index asked for.
        index: Index,
        /// The first index that is there.
        first: Index,
    },
    /// The entry is not written yet.
    #[error("entry {index} is beyond the last, {last}")]
    Beyond {
        /// The index asked for.
        index: Index,
        /// The last index that is there.
        last: Index,
    },
    /// The bytes are not what was written.
    #[error("{0}")]
    Damaged(Box<Damage>),
    /// The log failed, and the entry was not durable by then.
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
    /// The file could not be read.
    #[error("reading entry {index}: {message}")]
    Io {
        /// The index asked for.
        index: Index,
        /// The failure in words.
        message: String,
    },
}

/// Why the log was not purged. Nothing was changed, but for `Append(Poisoned)`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PurgeError {
    /// The log ends before that index.
    #[error("cannot purge up to {upto}, the log ends at {last}")]
    Beyond {
        /// The index asked for.
        upto: Index,
        /// The last entry.
        last: Index,
    },
    /// The record that says so could not be appended.
    #[error(transparent)]
    Append(#[from] AppendError),
}
