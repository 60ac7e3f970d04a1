//! A leader's work: proposing, replicating, committing, heartbeats and handing over (Raft §5.3, §5.4.2, thesis §3.10).

use std::collections::BTreeMap;

use rand_xoshiro::rand_core::RngCore;

use super::log_ids::LogIds;
use super::membership::{Membership, is_valid};
use super::message::{AppendOutcome, EntrySpan, Message};
use super::mutants::Mutant;
use super::progress::{Pace, Progress, WindowLimits};
use super::quorum::Quorum;
use super::raft::Raft;
use super::read_index::Rounds;
use super::ready::{ConfigurationError, Outgoing, OwnEntry, ProposeError, ProtocolViolation, TransferError};
use super::role::{Handover, Leader, Role};
use super::settings::Settings;
use super::types::{Configuration, Index, LogId, NodeId, Term};

/// What an entry made by the core counts for in the limits: about its header.
const OWN_ENTRY_BYTES: u32 = 64;

/// What each member adds to a configuration entry, its addresses aside.
const MEMBER_BYTES: usize = 64;

impl Raft {
    /// Appends entries of these payload sizes to the log, to be replicated. Returns the index of the first.
    ///
    /// Nothing is durable yet: an entry is decided when its index comes out committed in this node's present term.
    pub fn propose(&mut self, sizes: &[u32]) -> Result<Index, ProposeError> {
        let max = self.settings.max_uncommitted_bytes;
        let Role::Leader(leader) = &mut self.role else { return Err(ProposeError::NotLeader) };
        let bytes: u64 = sizes.iter().map(|&size| u64::from(size)).sum();
        let is_full = leader.uncommitted_bytes > 0 && leader.uncommitted_bytes + bytes > max;
        if leader.handover.is_some() {
            return Err(ProposeError::HandingOver);
        }
        if is_full {
            return Err(ProposeError::Busy);
        }
        leader.uncommitted_bytes += bytes;
        let first = self.log.last().index.next();
        self.log.append(self.term, sizes);
        Ok(first)
    }

    /// Appends a configuration, which is active at once. Returns its index.
    ///
    /// Changes of addresses, bindings and learners only: whoever votes must stay the same.
    pub fn propose_configuration(&mut self, configuration: Configuration) -> Result<Index, ConfigurationError> {
        let Role::Leader(leader) = &self.role else { return Err(ConfigurationError::NotLeader) };
        if leader.handover.is_some() {
            return Err(ConfigurationError::Busy);
        }
        if !is_valid(&configuration) || configuration.history != self.membership.active().history {
            return Err(ConfigurationError::Invalid);
        }
        if Quorum::of(&configuration) != *self.membership.quorum() {
            return Err(ConfigurationError::ChangesQuorum);
        }
        Ok(self.append_own(OwnEntry::Configuration(configuration)))
    }

    /// Begins to hand leadership over to another voter. Until it has taken over, or an election timeout has passed,
    /// nothing can be proposed.
    pub fn transfer(&mut self, to: NodeId) -> Result<(), TransferError> {
        let Role::Leader(leader) = &mut self.role else { return Err(TransferError::NotLeader) };
        if to == self.settings.id || !self.membership.quorum().is_voter(to) {
            return Err(TransferError::NotAVoter(to));
        }
        leader.handover = Some(Handover { to, age_ticks: 0, is_sent: false });
        Ok(())
    }

    /// Begins to lead, with an entry of the own term: nothing older can be committed without one (Raft §8).
    pub(super) fn become_leader(&mut self) {
        let last = self.log.last().index;
        let others = self.membership.peers().iter().filter(|&&id| id != self.settings.id);
        self.role = Role::Leader(Leader {
            progress: others.map(|&id| (id, Progress::new(last.next()))).collect(),
            first_own: last.next(),
            uncommitted_bytes: self.log.bytes(self.commit.next(), last),
            reads: Rounds::default(),
            handover: None,
            is_notice_due: false,
        });
        self.election_elapsed = 0;
        self.heartbeat_elapsed = 0;
        let entry = self.first_entry();
        self.append_own(entry);
    }

    /// Returns a new leader's first entry: a no-op, or the configuration that begins a history.
    fn first_entry(&mut self) -> OwnEntry {
        let mut configuration = self.membership.active().clone();
        if configuration.history != 0 || self.log.last() != LogId::default() {
            return OwnEntry::Noop;
        }
        let random = u128::from(self.rng.next_u64()) << 64 | u128::from(self.rng.next_u64());
        configuration.history = random.max(1);
        OwnEntry::Configuration(configuration)
    }

    fn append_own(&mut self, entry: OwnEntry) -> Index {
        let index = self.log.last().index.next();
        let bytes = own_entry_bytes(&entry);
        self.log.append(self.term, &[bytes]);
        if let OwnEntry::Configuration(configuration) = &entry {
            self.membership.append(index, configuration.clone());
        }
        self.disk.on_own_entry(index, entry);
        if let Role::Leader(leader) = &mut self.role {
            leader.uncommitted_bytes += u64::from(bytes);
            follow_membership(&mut leader.progress, &self.membership, self.settings.id, index);
        }
        index
    }

    /// Lets a tick pass at the leader.
    pub(super) fn tick_leader(&mut self) {
        let is_stalled = self.is_disk_stalled();
        let Role::Leader(leader) = &mut self.role else { return };
        leader.is_notice_due = true;
        if let Some(handover) = &mut leader.handover {
            handover.age_ticks += 1;
            if handover.age_ticks >= self.settings.election_ticks {
                leader.handover = None; // T84
            }
        }
        if self.election_elapsed >= self.settings.election_ticks {
            self.election_elapsed = 0;
            let me = self.settings.id;
            let is_active = |id| id == me || leader.progress.get(&id).is_some_and(|progress| progress.is_active);
            let has_quorum = self.membership.quorum().is_reached(is_active);
            leader.progress.values_mut().for_each(|progress| progress.is_active = false);
            if !has_quorum || is_stalled {
                return self.become_follower(self.term, None);
            }
        }
        if self.heartbeat_elapsed >= self.settings.heartbeat_ticks {
            self.heartbeat_elapsed = 0;
            self.start_read_round(true);
            self.send_heartbeats();
        }
    }

    pub(super) fn send_heartbeats(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        let (term, read) = (self.term, leader.reads.newest());
        for (&to, progress) in &mut leader.progress {
            let commit = self.commit.min(progress.matched);
            progress.commit_sent = progress.commit_sent.max(commit);
            self.outbox.push(Outgoing { to, message: Message::Heartbeat { term, commit, read } });
        }
    }

    pub(super) fn on_append_reply(
        &mut self,
        from: NodeId,
        term: Term,
        outcome: AppendOutcome,
        read: u64,
    ) -> Result<(), ProtocolViolation> {
        let last = self.log.last().index;
        // A follower may be told of more: a late answer to what it sent as leader of this term before a restart.
        let leads = term == self.term && matches!(self.role, Role::Leader(_));
        match outcome {
            AppendOutcome::Matched(matched) if leads && matched > last => {
                return Err(ProtocolViolation::AckBeyondLog { matched, last });
            }
            AppendOutcome::Matched(_) | AppendOutcome::Rejected { .. } => {}
        }
        let Some(progress) = self.on_reply(from, term, read) else { return Ok(()) };
        match outcome {
            AppendOutcome::Matched(matched) => {
                if progress.on_matched(matched) {
                    self.maybe_commit();
                }
            }
            AppendOutcome::Rejected { rejected: Index(0), .. } => {} // Nothing precedes the log: always a match.
            AppendOutcome::Rejected { rejected, hint } => {
                let below = Index(rejected.0 - 1);
                let agree = self.log.last_not_above(hint.index, hint.term).index.min(below);
                if let Role::Leader(leader) = &mut self.role
                    && let Some(progress) = leader.progress.get_mut(&from)
                {
                    progress.on_rejected(rejected, agree);
                }
            }
        }
        self.confirm_reads();
        Ok(())
    }

    pub(super) fn on_heartbeat_reply(&mut self, from: NodeId, term: Term, read: u64) {
        let Some(progress) = self.on_reply(from, term, read) else { return };
        if progress.on_heartbeat_reply() {
            // An empty append behind everything sent: a follower that missed some of it rejects it.
            let next = progress.next;
            self.send_append(from, next, EntrySpan::default());
        }
        self.confirm_reads();
    }

    /// Notes that a member answered in `term`; returns its progress if it answered this leader.
    fn on_reply(&mut self, from: NodeId, term: Term, read: u64) -> Option<&mut Progress> {
        if term > self.term {
            self.become_follower(term, None);
        }
        if term < self.term {
            return None;
        }
        let Role::Leader(leader) = &mut self.role else { return None };
        let newest = leader.reads.newest();
        let progress = leader.progress.get_mut(&from)?;
        progress.is_active = true;
        if read <= newest {
            progress.acked_read = progress.acked_read.max(read);
        }
        Some(progress)
    }

    /// Commits what a quorum has durably, if that reaches an entry of the own term (Raft §5.4.2).
    pub(super) fn maybe_commit(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        let (me, durable) = (self.settings.id, self.disk.durable());
        let matched = |id| match leader.progress.get(&id) {
            Some(progress) => progress.matched,
            None if id == me => durable,
            None => Index(0),
        };
        let index = self.membership.quorum().committed(matched);
        if index >= leader.first_own || self.is_mutant(Mutant::CommitOldTermByCount) {
            self.commit_to(index);
        }
    }

    /// Sends what may be sent: read rounds, entries within each window, commit news, and the request to take over.
    pub(super) fn flush_leader(&mut self) {
        if self.start_read_round(false) {
            self.send_heartbeats();
            self.confirm_reads(); // A lone voter confirms itself.
        }
        let Role::Leader(leader) = &mut self.role else { return };
        let is_notice_due = std::mem::take(&mut leader.is_notice_due);
        let ids: Vec<NodeId> = leader.progress.keys().copied().collect();
        for to in ids {
            self.replicate(to, is_notice_due);
        }
        self.maybe_hand_over();
    }

    fn replicate(&mut self, to: NodeId, is_notice_due: bool) {
        let limits = window_limits(&self.settings);
        let max_entries = usize::try_from(self.settings.max_append_entries).unwrap_or(usize::MAX);
        loop {
            let Role::Leader(leader) = &self.role else { return };
            let Some(progress) = leader.progress.get(&to) else { return };
            let next = progress.next;
            if next <= self.log.purged().index {
                return; // Needs a snapshot.
            }
            let has_entries = next <= self.log.last().index;
            let is_news_wanted = is_notice_due || progress.commit_sent < progress.commit_wanted.min(self.commit);
            let has_news = progress.commit_sent < self.commit.min(Index(next.0 - 1));
            let is_wanted = match &progress.pace {
                Pace::Probe { waiting } => !waiting,
                Pace::Replicate(_) if has_entries && progress.is_ready(limits) => true,
                // Under load the next append carries the commit index; alone it travels once a tick, or for a read.
                Pace::Replicate(_) => has_news && is_news_wanted,
            };
            if !is_wanted {
                return;
            }
            let entries = if progress.is_ready(limits) {
                span(&self.log, &self.membership, next, max_entries, self.settings.max_append_bytes)
            } else {
                EntrySpan::default()
            };
            self.send_append(to, next, entries);
        }
    }

    fn send_append(&mut self, to: NodeId, next: Index, entries: EntrySpan) {
        let Some(prev) = self.log.log_id(Index(next.0 - 1)) else { return };
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&to) else { return };
        let last = Index(prev.index.0 + entries.sizes.len() as u64);
        let bytes = entries.sizes.iter().map(|&size| u64::from(size)).sum();
        progress.on_sent(last, bytes);
        progress.commit_sent = progress.commit_sent.max(self.commit.min(last));
        let (term, commit, read) = (self.term, self.commit, leader.reads.newest());
        self.outbox.push(Outgoing { to, message: Message::Append { term, prev, entries, commit, read } });
    }

    /// Asks the receiver of a handover to campaign, behind every entry it needs to win (T83).
    fn maybe_hand_over(&mut self) {
        let last = self.log.last().index;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(handover) = &mut leader.handover else { return };
        let matched = leader.progress.get(&handover.to).map(|progress| progress.matched);
        if !handover.is_sent && matched == Some(last) {
            handover.is_sent = true;
            self.outbox.push(Outgoing { to: handover.to, message: Message::TimeoutNow { term: self.term } });
        }
    }
}

/// Keeps exactly the other members of the active configuration.
fn follow_membership(progress: &mut BTreeMap<NodeId, Progress>, membership: &Membership, me: NodeId, next: Index) {
    progress.retain(|id, _| membership.peers().contains(id));
    for &id in membership.peers().iter().filter(|&&id| id != me) {
        progress.entry(id).or_insert_with(|| Progress::new(next));
    }
}

fn span(log: &LogIds, membership: &Membership, next: Index, max_entries: usize, max_bytes: u64) -> EntrySpan {
    let mut span = log.span(next, max_entries, max_bytes);
    let last = Index(next.0 + span.sizes.len() as u64 - 1);
    span.configurations = membership.within(next, last);
    span
}

fn window_limits(settings: &Settings) -> WindowLimits {
    let messages = usize::try_from(settings.inflight_messages).unwrap_or(usize::MAX);
    WindowLimits { messages, bytes: settings.inflight_bytes }
}

fn own_entry_bytes(entry: &OwnEntry) -> u32 {
    match entry {
        OwnEntry::Noop => OWN_ENTRY_BYTES,
        OwnEntry::Configuration(configuration) => {
            let members = configuration.members.values();
            let bytes: usize = members.map(|m| MEMBER_BYTES + m.peer_addr.len() + m.client_addr.len()).sum();
            OWN_ENTRY_BYTES.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX))
        }
    }
}
