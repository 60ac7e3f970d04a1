//! A follower's work: taking appends and heartbeats from the leader of its term (Raft §5.3).

use std::ops::RangeInclusive;

use super::log_ids::LogIds;
use super::membership::is_valid;
use super::message::{AppendOutcome, EntrySpan, Message};
use super::mutants::Mutant;
use super::raft::{Raft, is_in_range};
use super::ready::ProtocolViolation;
use super::role::Role;
use super::types::{Index, LogId, NodeId, Term};

/// How an append fits the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    /// The log has no such entry as its `prev`.
    Unmatched,
    /// Everything up to `last` is the leader's once the entries from `fresh` on are taken; all before are here.
    Matched { fresh: Index, last: Index },
}

impl Raft {
    /// Takes an append; returns the entries of it that are new here.
    pub(super) fn on_append(
        &mut self,
        from: NodeId,
        term: Term,
        prev: LogId,
        entries: &EntrySpan,
        commit: Index,
        read: u64,
    ) -> Result<Option<RangeInclusive<Index>>, ProtocolViolation> {
        check_entries(term, prev, entries)?;
        if !self.is_current(from, term)? {
            return Ok(None);
        }
        let fit = fit(&self.log, self.commit, prev, entries)?;
        self.follow(from, term);
        let Fit::Matched { fresh, last } = fit else {
            let hint = self.log.last_not_above(prev.index, prev.term);
            let outcome = AppendOutcome::Rejected { rejected: prev.index, hint };
            let read = self.echo(read);
            self.send(from, Message::AppendReply { term, outcome, read });
            return Ok(None);
        };
        if self.is_mutant(Mutant::TruncateOnEveryAppend) && self.commit <= last && last < self.log.last().index {
            self.cut(last.next());
        }
        if fresh <= last {
            self.take_entries(prev, entries, fresh);
        }
        // Only what this append verified may be committed through it (T23).
        self.commit_to(commit.min(last).max(self.commit));
        self.acknowledge(from, last, read);
        Ok((fresh <= last).then_some(fresh..=last))
    }

    /// Takes a heartbeat. Its commit index is durable here, so it needs no verification.
    pub(super) fn on_heartbeat(
        &mut self,
        from: NodeId,
        term: Term,
        commit: Index,
        read: u64,
    ) -> Result<(), ProtocolViolation> {
        if !self.is_current(from, term)? {
            return Ok(());
        }
        let last = self.log.last().index;
        if commit > last {
            return Err(ProtocolViolation::CommitBeyondLog { commit, last });
        }
        self.follow(from, term);
        self.commit_to(commit);
        let read = self.echo(read);
        self.send(from, Message::HeartbeatReply { term, read });
        Ok(())
    }

    /// Returns whether a leader's message is of this term or newer; tells a stale leader what it missed (T88).
    fn is_current(&mut self, from: NodeId, term: Term) -> Result<bool, ProtocolViolation> {
        if term < self.term {
            self.send(from, Message::HeartbeatReply { term: self.term, read: 0 });
            return Ok(false);
        }
        match self.leader() {
            Some(leader) if term == self.term && leader != from => {
                Err(ProtocolViolation::SecondLeader(from, term, leader))
            }
            Some(_) | None => Ok(true),
        }
    }

    /// Follows the leader that was just heard.
    fn follow(&mut self, from: NodeId, term: Term) {
        if term > self.term || self.leader() != Some(from) {
            self.become_follower(term, Some(from));
        }
        self.election_elapsed = 0;
    }

    /// Replaces whatever stands from `fresh` on by the append's entries.
    fn take_entries(&mut self, prev: LogId, entries: &EntrySpan, fresh: Index) {
        if fresh <= self.log.last().index {
            self.cut(fresh);
        }
        let mut first = prev.index.next();
        let mut sizes = entries.sizes.as_slice();
        for &(term, count) in &entries.terms {
            let (run, rest) = sizes.split_at(count as usize);
            let known = usize::try_from(fresh.0.saturating_sub(first.0)).unwrap_or(usize::MAX);
            self.log.append(term, run.get(known..).unwrap_or_default());
            first = Index(first.0 + u64::from(count));
            sizes = rest;
        }
        for (index, configuration) in entries.configurations.iter().filter(|(index, _)| *index >= fresh) {
            self.membership.append(*index, configuration.clone());
        }
    }

    fn cut(&mut self, from: Index) {
        self.log.truncate(from);
        self.membership.truncate(from);
        self.disk.on_truncate(from);
        if !self.is_mutant(Mutant::AcknowledgeSuperseded) {
            self.disk.on_superseded(from);
        }
    }

    /// Acknowledges the log up to `matched` once it is durable up to there, in this term.
    fn acknowledge(&mut self, to: NodeId, matched: Index, read: u64) {
        if self.is_suspect {
            return;
        }
        let reply = Message::AppendReply { term: self.term, outcome: AppendOutcome::Matched(matched), read };
        if matched <= self.disk.durable() && self.disk.durable_hard_state().term == self.term {
            self.send(to, reply);
        } else {
            self.send_when_durable(to, reply);
        }
    }

    /// A suspect node confirms nobody's reads.
    fn echo(&self, read: u64) -> u64 {
        if self.is_suspect { 0 } else { read }
    }

    /// Returns the leader of the term, if known.
    pub fn leader(&self) -> Option<NodeId> {
        match &self.role {
            Role::Follower(follower) => follower.leader,
            Role::Leader(_) => Some(self.settings.id),
            Role::PreCandidate(_) | Role::Candidate(_) => None,
        }
    }
}

/// Finds where an append meets the log.
///
/// What is committed here is in the log of every later leader, so an append that reaches below the commit index
/// matches there without looking; if a look shows otherwise, acknowledged data was lost somewhere (T25).
fn fit(log: &LogIds, commit: Index, prev: LogId, entries: &EntrySpan) -> Result<Fit, ProtocolViolation> {
    let conflict = |index: Index, found: Term| match log.term(index) {
        Some(committed) if index <= commit => Err(ProtocolViolation::ConflictBelowCommit { index, committed, found }),
        Some(_) | None => Ok(()),
    };
    if prev.index >= log.purged().index && log.term(prev.index) != Some(prev.term) {
        conflict(prev.index, prev.term)?;
        return Ok(Fit::Unmatched);
    }
    let mut fresh = prev.index.next();
    let last = Index(prev.index.0 + entries.sizes.len() as u64);
    for &(term, count) in &entries.terms {
        let agree = log.agreeing(fresh, term, u64::from(count));
        fresh = Index(fresh.0 + agree);
        if agree < u64::from(count) {
            conflict(fresh, term)?;
            break;
        }
    }
    Ok(Fit::Matched { fresh, last })
}

/// Checks that an append's entries make sense by themselves (T37).
fn check_entries(term: Term, prev: LogId, entries: &EntrySpan) -> Result<(), ProtocolViolation> {
    if !is_in_range(prev.index) || prev.term > term {
        return Err(ProtocolViolation::OutOfRange);
    }
    let mut newest = prev.term;
    let mut count = 0;
    for run in &entries.terms {
        if run.0 < newest || run.0 > term || run.0.0 == 0 {
            return Err(ProtocolViolation::Entries("terms out of order"));
        }
        newest = run.0;
        count += u64::from(run.1);
    }
    if count != entries.sizes.len() as u64 {
        return Err(ProtocolViolation::Entries("terms and sizes differ in number"));
    }
    let mut before = prev.index;
    for (index, configuration) in &entries.configurations {
        if *index <= before || index.0 > prev.index.0 + count {
            return Err(ProtocolViolation::Entries("configuration outside of the span"));
        }
        if !is_valid(configuration) {
            return Err(ProtocolViolation::Entries("configuration without a quorum"));
        }
        before = *index;
    }
    Ok(())
}
