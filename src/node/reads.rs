//! Linearizable reads in rounds: what arrives while a round is under way joins the next one (thesis §6.4).

use std::collections::BTreeMap;

use super::event::RequestId;

/// A round that has no answer for this long is asked again: its message may have been lost.
const ROUND_RETRY_MS: u64 = 200;

/// Reads that wait for a round, and the rounds under way. At most one round is young at any time.
#[derive(Debug, Default)]
pub(super) struct Reads {
    queued: Vec<PendingRead>,
    rounds: BTreeMap<u64, Round>,
    rounds_started: u64,
}

#[derive(Debug)]
struct PendingRead {
    request: RequestId,
    deadline_ms: u64,
}

#[derive(Debug)]
struct Round {
    started_ms: u64,
    reads: Vec<PendingRead>,
}

impl Reads {
    pub(super) fn push(&mut self, request: RequestId, deadline_ms: u64) {
        self.queued.push(PendingRead { request, deadline_ms });
    }

    /// Starts a round for everything queued, unless one is under way. Returns its number, never used before.
    pub(super) fn maybe_start(&mut self, now_ms: u64) -> Option<u64> {
        if self.queued.is_empty() || !self.rounds.is_empty() {
            return None;
        }
        self.rounds_started += 1;
        let round = Round { started_ms: now_ms, reads: std::mem::take(&mut self.queued) };
        self.rounds.insert(self.rounds_started, round);
        Some(self.rounds_started)
    }

    /// Ends a round and returns its reads; a round that was given up returns none.
    pub(super) fn on_confirmed(&mut self, round: u64) -> Vec<RequestId> {
        let reads = self.rounds.remove(&round).map(|round| round.reads).unwrap_or_default();
        reads.into_iter().map(|read| read.request).collect()
    }

    /// Queues a round's reads again.
    pub(super) fn on_failed(&mut self, round: u64) {
        if let Some(round) = self.rounds.remove(&round) {
            self.queued.extend(round.reads);
        }
    }

    /// Gives up rounds without an answer, and returns the reads whose deadline has passed.
    pub(super) fn tick(&mut self, now_ms: u64) -> Vec<RequestId> {
        let stale = |round: &Round| now_ms.saturating_sub(round.started_ms) >= ROUND_RETRY_MS;
        while let Some(entry) = self.rounds.first_entry().filter(|entry| stale(entry.get())) {
            self.queued.extend(entry.remove().reads);
        }
        let expired = self.queued.extract_if(.., |read| read.deadline_ms <= now_ms);
        expired.map(|read| read.request).collect()
    }

    /// Drops the reads of a connection that is gone.
    pub(super) fn on_closed(&mut self, connection: u64) {
        let keep = |read: &PendingRead| read.request.connection != connection;
        self.queued.retain(keep);
        for round in self.rounds.values_mut() {
            round.reads.retain(keep);
        }
    }
}
