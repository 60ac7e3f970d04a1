//! The node's log: persist actions in, payloads out, and word when something is durable.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use kontiki_wal::{AppendError, Batch, Lsn, NewEntry, Poisoned, ReadError, Stats, Wal};
use thiserror::Error;

use crate::node::PersistAction;
use crate::raft::{HardState, Index, Term};

use super::lock::DirLock;

/// Payloads shorter than this are copied into one buffer with their neighbours: a handle each would cost more.
const COPY_BELOW_BYTES: usize = 4096;

/// What the log adds to a payload, rounded up.
const RECORD_BYTES_MAX: usize = 40;

/// The log of one node, and the lock of its directory.
#[derive(Debug)]
pub struct Journal {
    wal: Wal,
    dir: PathBuf,
    /// Entries are appended in batches of about this many bytes, so that segments are filled well.
    batch_bytes: usize,
    _lock: DirLock,
}

/// Why the log did not take an append, or lost something.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The append was refused.
    #[error("log {}: {source}", dir.display())]
    Append {
        /// The log's directory.
        dir: PathBuf,
        /// Why.
        source: AppendError,
    },
    /// An entry cannot be read.
    #[error("log {}: entry {index}: {source}; run `kontiki-inspect verify {}`", dir.display(), dir.display())]
    Read {
        /// The log's directory.
        dir: PathBuf,
        /// The entry.
        index: Index,
        /// Why.
        source: ReadError,
    },
}

impl JournalError {
    /// Returns whether a failed sync or write is behind this, and not damage.
    pub fn is_io(&self) -> bool {
        match self {
            JournalError::Append { .. } => true,
            JournalError::Read { source, .. } => matches!(source, ReadError::Poisoned(_) | ReadError::Io { .. }),
        }
    }
}

impl Journal {
    pub(super) fn new(wal: Wal, dir: PathBuf, lock: DirLock) -> Journal {
        let batch_bytes = usize::try_from(wal.options().batch_bytes_max() / 4).unwrap_or(usize::MAX);
        Journal { wal, dir, batch_bytes, _lock: lock }
    }

    /// Appends what the core wants persisted and calls `done` once it is durable, on the log's own thread.
    ///
    /// # Errors
    ///
    /// [`JournalError::Append`]: nothing was appended and `done` is never called.
    pub fn append(
        &self,
        persist: &PersistAction,
        done: impl FnOnce(Result<(), Poisoned>) + Send + 'static,
    ) -> Result<(), JournalError> {
        let entries: Vec<NewEntry<'_>> = persist.entries.iter().map(to_log_entry).collect();
        let (first, rest) = entries.split_at(self.batch_length(&entries));
        let batch = Batch {
            hard_state: persist.hard_state.map(|state| to_log(covered(state, first, rest))),
            truncate_from: persist.truncate_from.map(|index| kontiki_wal::Index(index.0)),
            entries: first,
            may_use_reserve: false,
        };
        let mut end = self.append_batch(&batch)?;
        let mut rest = rest;
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(self.batch_length(rest));
            end = self.append_batch(&Batch { entries: batch, ..Batch::default() })?;
            rest = later;
        }
        self.wal.on_durable(end, done);
        Ok(())
    }

    fn append_batch(&self, batch: &Batch<'_>) -> Result<Lsn, JournalError> {
        self.wal.append(batch).map_err(|source| JournalError::Append { dir: self.dir.clone(), source })
    }

    /// Returns how many of the entries go into one batch of the log: what a crash leaves of several batches is the
    /// hard state, the truncation and some of the first entries, which is a log that Raft allows.
    fn batch_length(&self, entries: &[NewEntry<'_>]) -> usize {
        let mut bytes = 0;
        let fitting = entries.iter().take_while(|entry| {
            bytes += entry.payload.len() + RECORD_BYTES_MAX;
            bytes <= self.batch_bytes
        });
        fitting.count().max(1).min(entries.len())
    }

    /// Returns the payload of one entry, in place.
    ///
    /// # Errors
    ///
    /// [`JournalError::Read`] if the entry is not there or is damaged.
    pub fn entry(&self, index: Index) -> Result<kontiki_wal::Entry, JournalError> {
        self.wal.entry(kontiki_wal::Index(index.0)).map_err(|source| JournalError::Read {
            dir: self.dir.clone(),
            index,
            source,
        })
    }

    /// Returns the payload of one entry for a socket: copied if short, else in place.
    ///
    /// # Errors
    ///
    /// Like [`Journal::entry`].
    pub fn payload(&self, index: Index) -> Result<Bytes, JournalError> {
        let entry = self.entry(index)?;
        if entry.len() < COPY_BELOW_BYTES {
            return Ok(Bytes::copy_from_slice(&entry));
        }
        Ok(Bytes::from_owner(entry))
    }

    /// Returns the payload bytes of the largest entry that the log takes.
    pub fn entry_bytes_max(&self) -> usize {
        usize::try_from(self.wal.options().entry_bytes_max()).unwrap_or(usize::MAX)
    }

    /// Returns the log's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns why the log has failed, if it has.
    pub fn poisoned(&self) -> Option<Poisoned> {
        self.wal.poisoned()
    }

    /// Returns figures about the log.
    pub fn stats(&self) -> Stats {
        self.wal.stats()
    }

    /// Syncs everything and marks the log's end, so that the next start finds it whole.
    ///
    /// # Errors
    ///
    /// If a sync failed, now or before.
    pub fn close(&self) -> Result<(), Poisoned> {
        self.wal.clone().close()
    }
}

/// A crash may keep the first batch alone, so its hard state must not call committed what comes in a later one.
fn covered(state: HardState, first: &[NewEntry<'_>], rest: &[NewEntry<'_>]) -> HardState {
    match first.last() {
        Some(last) if !rest.is_empty() => HardState { commit: state.commit.min(Index(last.index.0)), ..state },
        Some(_) | None => state,
    }
}

fn to_log_entry((index, term, payload): &(Index, Term, Bytes)) -> NewEntry<'_> {
    NewEntry { index: kontiki_wal::Index(index.0), term: kontiki_wal::Term(term.0), payload }
}

fn to_log(hard_state: HardState) -> kontiki_wal::HardState {
    kontiki_wal::HardState {
        term: kontiki_wal::Term(hard_state.term.0),
        vote: hard_state.vote.map_or(0, |node| node.0),
        commit: kontiki_wal::Index(hard_state.commit.0),
    }
}
