//! What a disk was told and what it has promised: recovery is judged by it, and so is every quorum.

use std::collections::VecDeque;

use kontiki_wal::{Lsn, Recovery};
use xxhash_rust::xxh3::xxh3_64;

use crate::raft::{Index, NodeId, Term};

/// Who an entry is: its term and a hash of its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntryId {
    pub(super) term: Term,
    pub(super) hash: u64,
}

impl EntryId {
    pub(super) fn of(term: Term, payload: &[u8]) -> EntryId {
        EntryId { term, hash: xxh3_64(payload) }
    }
}

/// A log and its hard state, as a plain list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) term: Term,
    pub(super) vote: Option<NodeId>,
    pub(super) log: Vec<EntryId>,
}

/// The log of one machine, twice.
///
/// - `durable` survives every crash; `written` is `durable` with all of `pending` on top.
#[derive(Clone, Debug, Default)]
pub(super) struct Shadow {
    pub(super) durable: Image,
    pub(super) written: Image,
    pending: VecDeque<(Lsn, Batch)>,
}

#[derive(Clone, Debug)]
struct Batch {
    hard_state: Option<(Term, Option<NodeId>)>,
    truncate_from: Option<Index>,
    entries: Vec<EntryId>,
}

impl Shadow {
    /// Notes a batch that ends at `end` in the log.
    pub(super) fn on_append(&mut self, end: Lsn, batch: &kontiki_wal::Batch<'_>) {
        let vote = |vote: u64| (vote != 0).then_some(NodeId(vote));
        let batch = Batch {
            hard_state: batch.hard_state.map(|state| (Term(state.term.0), vote(state.vote))),
            truncate_from: batch.truncate_from.map(|index| Index(index.0)),
            entries: batch.entries.iter().map(|entry| EntryId::of(Term(entry.term.0), entry.payload)).collect(),
        };
        self.written.take(&batch);
        self.pending.push_back((end, batch));
    }

    /// Notes that the disk is durable up to `durable`.
    pub(super) fn on_durable(&mut self, durable: Lsn) {
        while self.pending.front().is_some_and(|(end, _)| *end <= durable) {
            let Some((_, batch)) = self.pending.pop_front() else { return };
            self.durable.take(&batch);
        }
    }

    /// Checks what recovery found after a crash: what was durable, and any number of the batches behind it, whole.
    pub(super) fn on_recovered(&mut self, recovery: &Recovery, log: Vec<EntryId>) -> Result<(), String> {
        let vote = (recovery.hard_state.vote != 0).then_some(NodeId(recovery.hard_state.vote));
        let found = Image { term: Term(recovery.hard_state.term.0), vote, log };
        let mut possible = self.durable.clone();
        let mut batches = self.pending.drain(..);
        while possible != found {
            let Some((_, batch)) = batches.next() else {
                let lost = format!("written were {}", self.written.brief());
                return Err(format!("found {}, durable was {}; {lost}", found.brief(), self.durable.brief()));
            };
            possible.take(&batch);
        }
        drop(batches);
        self.written = found.clone();
        self.durable = found;
        Ok(())
    }
}

impl Image {
    fn take(&mut self, batch: &Batch) {
        if let Some((term, vote)) = batch.hard_state {
            (self.term, self.vote) = (term, vote);
        }
        if let Some(from) = batch.truncate_from {
            self.log.truncate(usize::try_from(from.0 - 1).unwrap_or(usize::MAX));
        }
        self.log.extend(&batch.entries);
    }

    /// Returns the entry at `index`, if there is one.
    pub(super) fn entry(&self, index: u64) -> Option<EntryId> {
        self.log.get(usize::try_from(index.checked_sub(1)?).ok()?).copied()
    }

    fn brief(&self) -> String {
        let last = self.log.last().map_or(Term(0), |entry| entry.term);
        format!("term {} vote {:?} and {} entries, the last of term {last}", self.term, self.vote, self.log.len())
    }
}
