//! Linearizable reads without log entries (ReadIndex, thesis §6.4): rounds at the leader, questions at a follower.
//!
//! A read's index is valid once a quorum has answered a round that began after the read arrived. Rounds are numbered
//! within the leader's term and never reused, so a late or repeated answer cannot confirm a younger read (T61).

use std::collections::{BTreeMap, VecDeque};

use super::ready::ReadError;
use super::types::{Index, NodeId};

/// The most questions a follower has under way; further reads join the next one.
const QUESTIONS_MAX: usize = 4;

/// Who waits for a read index at the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// A read of this node.
    Local(u64),
    /// A follower's question.
    Remote { from: NodeId, id: u64 },
}

/// The leader's rounds.
///
/// - `rounds` are numbered upwards, the last one `newest`; at most one is under way unless a heartbeat forces another.
/// - `len` counts every asker in `waiting` and `rounds`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rounds {
    newest: u64,
    waiting: Vec<Asker>,
    rounds: VecDeque<Round>,
    len: usize,
}

/// One round: who it confirms, and what they may read.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    number: u64,
    pub(crate) index: Index,
    pub(crate) askers: Vec<Asker>,
}

impl Rounds {
    /// Returns the newest round, 0 before the first.
    pub(crate) fn newest(&self) -> u64 {
        self.newest
    }

    /// Takes a read; it joins the next round.
    pub(crate) fn push(&mut self, asker: Asker, max: usize) -> Result<(), ReadError> {
        if self.len >= max {
            return Err(ReadError::Busy);
        }
        self.len += 1;
        self.waiting.push(asker);
        Ok(())
    }

    /// Starts a round for the waiting reads; with another under way only if `is_forced`. Returns whether it did.
    pub(crate) fn maybe_start(&mut self, commit: Index, is_forced: bool) -> bool {
        if self.waiting.is_empty() || !(self.rounds.is_empty() || is_forced) {
            return false;
        }
        self.newest += 1;
        let askers = std::mem::take(&mut self.waiting);
        self.rounds.push_back(Round { number: self.newest, index: commit, askers });
        true
    }

    /// Takes the rounds up to `number`, which a quorum has answered.
    pub(crate) fn take_confirmed(&mut self, number: u64) -> impl Iterator<Item = Round> + '_ {
        let confirmed = self.rounds.partition_point(|round| round.number <= number);
        self.len -= self.rounds.range(..confirmed).map(|round| round.askers.len()).sum::<usize>();
        self.rounds.drain(..confirmed)
    }

    /// Takes every asker: none of them will get an index.
    pub(crate) fn into_askers(self) -> impl Iterator<Item = Asker> {
        self.rounds.into_iter().flat_map(|round| round.askers).chain(self.waiting)
    }
}

/// A follower's reads that wait for the leader.
///
/// - `sent` holds at most [`QUESTIONS_MAX`] questions by number, each with the reads it stands for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Forwarded {
    unsent: Vec<u64>,
    sent: BTreeMap<u64, Vec<u64>>,
    len: usize,
}

impl Forwarded {
    /// Returns how many reads wait.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Takes a read; it joins the next question.
    pub(crate) fn push(&mut self, id: u64) {
        self.len += 1;
        self.unsent.push(id);
    }

    /// Puts the unsent reads into a question numbered `number`, if there are any and it may leave now.
    pub(crate) fn maybe_ask(&mut self, number: u64) -> bool {
        if self.unsent.is_empty() || self.sent.len() >= QUESTIONS_MAX {
            return false;
        }
        self.sent.insert(number, std::mem::take(&mut self.unsent));
        true
    }

    /// Returns the questions under way. Asking again is safe: the leader answers each with a new index.
    pub(crate) fn questions(&self) -> impl Iterator<Item = u64> + '_ {
        self.sent.keys().copied()
    }

    /// Takes the reads of an answered question; none if it was answered before.
    pub(crate) fn take(&mut self, number: u64) -> Vec<u64> {
        let reads = self.sent.remove(&number).unwrap_or_default();
        self.len -= reads.len();
        reads
    }

    /// Takes every read: none of them will get an index.
    pub(crate) fn into_reads(self) -> impl Iterator<Item = u64> {
        self.sent.into_values().flatten().chain(self.unsent)
    }
}
