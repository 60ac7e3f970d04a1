//! The words of the log: index, term, position, hard state, batch.

use std::fmt;

/// Numbers one entry. The first entry has index 1; 0 stands before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Index(pub u64);

/// Numbers a period with at most one leader (Raft §5.1). 0 stands before the first election.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

/// A position in the log, in bytes: `segment sequence * segment bytes + offset in the segment`.
///
/// Positions grow along the log; they are not dense, since each segment begins and ends with a header block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

/// Names one entry of any log: two entries with the same log id are the same entry (Raft §5.3).
///
/// The derived order compares the term first, as Raft §5.4.1 does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// The term of the leader that created the entry.
    pub term: Term,
    /// The entry's place in the log.
    pub index: Index,
}

/// What a node must never forget (Raft, figure 2), with a hint of what is committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The newest term this node has seen.
    pub term: Term,
    /// Who got this node's vote in `term`; 0 means nobody.
    pub vote: u64,
    /// An index known to be committed. A hint that may lag behind.
    pub commit: Index,
}

/// One entry to append. The log does not look into `payload`.
#[derive(Clone, Copy, Debug)]
pub struct NewEntry<'a> {
    /// The index; one above the last entry that remains.
    pub index: Index,
    /// The term; never below the term of the entry before it.
    pub term: Term,
    /// At most [`crate::Options::entry_bytes_max`] bytes.
    pub payload: &'a [u8],
}

/// What one append writes. It is kept or dropped whole, whatever crashes in between.
///
/// Its parts take effect in the order of the fields.
#[derive(Clone, Copy, Debug, Default)]
pub struct Batch<'a> {
    /// The new hard state, if it changed.
    pub hard_state: Option<HardState>,
    /// Drops every entry from this index on before `entries` are appended. Beyond the last entry it does nothing.
    pub truncate_from: Option<Index>,
    /// The entries to append, in order.
    pub entries: &'a [NewEntry<'a>],
    /// Whether the batch may use the reserve when the disk is full: for no-op and configuration entries, and what a
    /// follower needs up to them. A batch without entries always may.
    pub may_use_reserve: bool,
}

/// The shape of one entry that recovery found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryMeta {
    /// The entry's index.
    pub index: Index,
    /// The entry's term.
    pub term: Term,
    /// The bytes of its payload.
    pub payload_bytes: u32,
}

impl Index {
    /// Returns the index after this one.
    pub fn next(self) -> Index {
        Index(self.0 + 1)
    }

    /// Returns the index before this one; the one before 0 is 0.
    pub fn previous(self) -> Index {
        Index(self.0.saturating_sub(1))
    }
}

macro_rules! display_number {
    ($($name:ident),*) => {
        $(impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        })*
    };
}

display_number!(Index, Term, Lsn);

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}
