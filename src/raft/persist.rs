//! What must be durable before what may happen: write batches under way, and the messages that wait for them.
//!
//! The core holds each message that needs the disk until its batch is durable, so a driver cannot get the order wrong.

use std::collections::VecDeque;

use super::log_ids::LogIds;
use super::message::Message;
use super::ready::{Outgoing, OwnEntry, Persist};
use super::types::{HardState, Index, NodeId, Term};

/// The commit index rides along with a batch of entries once it moved this far: a hint for the next start.
const COMMIT_HINT_ENTRIES: u64 = 1024;

/// The disk as the core sees it: batches are written in order and become durable in order.
///
/// - `persisted <= issued`; batch numbers start at 1 and have no holes.
/// - `durable` is the index up to which the log on disk is certain to equal the log in memory. A batch whose entries
///   were truncated since never raises it past the cut (the ABA of T27).
/// - `written` is the last index whose present entry is in some batch; what is above goes into the next one.
/// - Every held message belongs to the present term: a new term drops the others, because acknowledging for an old
///   leader what a new term may replace would be a lie.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    issued: u64,
    persisted: u64,
    batches: VecDeque<Batch>,
    held: VecDeque<(u64, Outgoing)>,
    durable: Index,
    durable_hard_state: HardState,
    written: Index,
    truncate_from: Option<Index>,
    is_hard_state_due: bool,
    hinted_commit: Index,
    own: Vec<(Index, OwnEntry)>,
}

/// One write batch under way.
#[derive(Clone, Debug)]
struct Batch {
    seq: u64,
    /// The last entry it makes durable, lowered when the log is cut below it.
    last: Option<Index>,
    hard_state: Option<HardState>,
    /// Ticks since it was issued.
    age_ticks: u32,
}

impl Disk {
    /// Returns a disk on which everything that was recovered is durable.
    pub(crate) fn new(durable: Index, hard_state: HardState) -> Disk {
        Disk {
            issued: 0,
            persisted: 0,
            batches: VecDeque::new(),
            held: VecDeque::new(),
            durable,
            durable_hard_state: hard_state,
            written: durable,
            truncate_from: None,
            is_hard_state_due: false,
            hinted_commit: hard_state.commit,
            own: Vec::new(),
        }
    }

    /// Returns up to where the log on disk equals the log in memory.
    pub(crate) fn durable(&self) -> Index {
        self.durable
    }

    /// Returns the newest durable hard state.
    pub(crate) fn durable_hard_state(&self) -> HardState {
        self.durable_hard_state
    }

    /// Returns how many ticks the oldest batch has been under way.
    pub(crate) fn stalled_ticks(&self) -> u32 {
        self.batches.front().map_or(0, |batch| batch.age_ticks)
    }

    /// Lets a tick pass.
    pub(crate) fn tick(&mut self) {
        for batch in &mut self.batches {
            batch.age_ticks = batch.age_ticks.saturating_add(1);
        }
    }

    /// Notes that term or vote changed: the next batch carries them.
    pub(crate) fn on_hard_state(&mut self) {
        self.is_hard_state_due = true;
    }

    /// Drops what is held for another term than this.
    pub(crate) fn drop_other_terms(&mut self, term: Term) {
        self.held.retain(|(_, outgoing)| outgoing.message.term() == term);
    }

    /// Notes an entry that the core made itself.
    pub(crate) fn on_own_entry(&mut self, index: Index, entry: OwnEntry) {
        self.own.push((index, entry));
    }

    /// Notes that the log was cut: the next batch replaces the entries from `from` on.
    pub(crate) fn on_truncate(&mut self, from: Index) {
        let below = Index(from.0 - 1);
        self.own.retain(|(index, _)| *index < from);
        if from <= self.written {
            self.written = below;
            self.truncate_from = Some(self.truncate_from.map_or(from, |earlier| earlier.min(from)));
        }
    }

    /// Notes that what is durable from `from` on, or is being written, is not the present log.
    pub(crate) fn on_superseded(&mut self, from: Index) {
        let below = Index(from.0 - 1);
        self.durable = self.durable.min(below);
        for batch in &mut self.batches {
            batch.last = batch.last.map(|last| last.min(below));
        }
    }

    /// Holds a message until everything that changed so far is durable, the log ending at `last`; gives it back if
    /// it is durable already.
    pub(crate) fn hold(&mut self, last: Index, to: NodeId, message: Message) -> Option<Outgoing> {
        let needs = if self.is_batch_due(last) { self.issued + 1 } else { self.issued };
        let outgoing = Outgoing { to, message };
        if needs <= self.persisted {
            return Some(outgoing);
        }
        self.held.push_back((needs, outgoing));
        None
    }

    /// Issues the next batch, if anything changed.
    pub(crate) fn take_batch(&mut self, hard_state: HardState, log: &LogIds) -> Option<Persist> {
        let last = log.last().index;
        if !self.is_batch_due(last) {
            assert!(self.held.back().is_none_or(|(needs, _)| *needs <= self.issued), "a message waits for no batch");
            return None;
        }
        let first = self.written.next();
        let append = (first <= last).then_some(first..=last);
        let is_hint_due = hard_state.commit.0 >= self.hinted_commit.0 + COMMIT_HINT_ENTRIES;
        let hard_state = (self.is_hard_state_due || is_hint_due).then_some(hard_state);
        self.hinted_commit = hard_state.map_or(self.hinted_commit, |state| state.commit);
        self.is_hard_state_due = false;
        self.written = last;
        self.issued += 1;
        let entries_last = append.as_ref().map(|_| last);
        self.batches.push_back(Batch { seq: self.issued, last: entries_last, hard_state, age_ticks: 0 });
        Some(Persist {
            seq: self.issued,
            hard_state,
            truncate_from: self.truncate_from.take(),
            append,
            terms: log.terms(first, last),
            own: std::mem::take(&mut self.own),
        })
    }

    /// Takes the news that every batch up to `seq` is durable; returns the messages that waited for them.
    pub(crate) fn on_persisted(&mut self, seq: u64) -> impl Iterator<Item = Outgoing> + '_ {
        assert!(seq <= self.issued, "batch {seq} was never issued, the last is {}", self.issued);
        while self.batches.front().is_some_and(|batch| batch.seq <= seq) {
            let Some(batch) = self.batches.pop_front() else { break };
            self.durable = self.durable.max(batch.last.unwrap_or_default());
            self.durable_hard_state = batch.hard_state.unwrap_or(self.durable_hard_state);
            self.persisted = batch.seq;
        }
        let freed = self.held.partition_point(|(needs, _)| *needs <= self.persisted);
        self.held.drain(..freed).map(|(_, outgoing)| outgoing)
    }

    fn is_batch_due(&self, last: Index) -> bool {
        self.is_hard_state_due || self.truncate_from.is_some() || self.written < last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::{AppendOutcome, LogId};

    fn ack(term: u64, matched: u64) -> Message {
        Message::AppendReply { term: Term(term), outcome: AppendOutcome::Matched(Index(matched)), read: 0 }
    }

    fn state(term: u64) -> HardState {
        HardState { term: Term(term), vote: None, commit: Index(0) }
    }

    /// A log and a disk that both end at (11, t1).
    fn start() -> (LogIds, Disk) {
        (LogIds::new(LogId { term: Term(1), index: Index(11) }), Disk::new(Index(11), state(1)))
    }

    /// T27: entry 12 of term 1 is under way when term 2 replaces it.
    #[test]
    fn a_superseded_write_is_never_acknowledged() {
        let (mut log, mut disk) = start();
        log.append(Term(1), &[1]);
        assert_eq!(disk.hold(Index(12), NodeId(2), ack(1, 12)), None);
        let first = disk.take_batch(state(1), &log).unwrap();
        assert_eq!((first.seq, first.append, first.truncate_from), (1, Some(Index(12)..=Index(12)), None));

        disk.on_hard_state();
        disk.drop_other_terms(Term(2));
        log.truncate(Index(12));
        disk.on_truncate(Index(12));
        disk.on_superseded(Index(12));
        log.append(Term(2), &[1]);
        assert_eq!(disk.hold(Index(12), NodeId(3), ack(2, 12)), None);
        let second = disk.take_batch(state(2), &log).unwrap();
        assert_eq!((second.truncate_from, second.terms), (Some(Index(12)), vec![(Term(2), 1)]));

        assert_eq!(disk.on_persisted(1).count(), 0);
        assert_eq!((disk.durable(), disk.durable_hard_state()), (Index(11), state(1)));
        assert_eq!(disk.on_persisted(2).count(), 1);
        assert_eq!((disk.durable(), disk.durable_hard_state()), (Index(12), state(2)));
    }

    /// Being told of a later batch tells of the earlier ones.
    #[test]
    fn persisted_is_cumulative() {
        let (mut log, mut disk) = start();
        for index in 12..14 {
            log.append(Term(1), &[1]);
            assert_eq!(disk.hold(Index(index), NodeId(2), ack(1, index)), None);
            assert!(disk.take_batch(state(1), &log).is_some());
        }
        assert_eq!(disk.on_persisted(2).count(), 2);
        assert_eq!(disk.on_persisted(1).count(), 0);
        assert_eq!((disk.durable(), disk.stalled_ticks()), (Index(13), 0));
        assert!(disk.hold(Index(13), NodeId(2), ack(1, 13)).is_some(), "nothing to wait for");
    }

    /// Entries that are cut before any batch took them leave no trace in the next one.
    #[test]
    fn a_cut_of_unwritten_entries_is_not_written() {
        let (mut log, mut disk) = start();
        log.append(Term(1), &[1, 1, 1]);
        disk.on_own_entry(Index(14), OwnEntry::Noop);
        log.truncate(Index(13));
        disk.on_truncate(Index(13));
        disk.on_superseded(Index(13));
        let batch = disk.take_batch(state(1), &log).unwrap();
        assert_eq!((batch.append, batch.truncate_from), (Some(Index(12)..=Index(12)), None));
        assert!(batch.own.is_empty());
        assert!(disk.take_batch(state(1), &log).is_none());
    }
}
