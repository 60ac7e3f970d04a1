//! The core as a value: inputs in (`tick`, `step`, `propose`, `read`, `on_*`), effects out (`take_ready`).

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};

use super::log_ids::LogIds;
use super::membership::Membership;
use super::message::Message;
use super::mutants::Mutant;
use super::persist::Disk;
use super::ready::{Outgoing, ProtocolViolation, ReadOutcome, Ready, RoleChange, Stepped};
use super::role::{Follower, Role};
use super::settings::{Boot, BootError, Settings};
use super::types::{HardState, Index, NodeId, Term};

/// The largest term or index that is believed: beyond it, counting on could overflow.
const NUMBER_MAX: u64 = i64::MAX as u64;

/// One member's consensus state.
///
/// - `applied <= delivered <= commit <= log.last()`; `term`, `commit` and `applied` never go back.
/// - The log, term and vote here run ahead of the disk; what leaves for others never does (see `persist`).
/// - No clock, no payloads, no io: the same inputs give the same outputs.
#[derive(Clone, Debug)]
pub struct Raft {
    pub(super) settings: Settings,
    pub(super) term: Term,
    pub(super) vote: Option<NodeId>,
    pub(super) commit: Index,
    pub(super) applied: Index,
    /// Committed entries up to here have been handed to the driver.
    delivered: Index,
    pub(super) is_suspect: bool,
    pub(super) log: LogIds,
    pub(super) membership: Membership,
    pub(super) disk: Disk,
    pub(super) role: Role,
    /// Ticks since the leader was heard, the vote given, or the election begun; at a leader, since the last quorum check.
    pub(super) election_elapsed: u32,
    pub(super) heartbeat_elapsed: u32,
    /// How long to wait this time, drawn anew for each wait.
    pub(super) election_timeout: u32,
    pub(super) rng: Xoshiro256PlusPlus,
    /// The number of the next question to a leader. Begins at a random place, so that an answer from before a restart
    /// finds no reader.
    pub(super) next_question: u64,
    /// Reads whose index is known, but not yet committed here.
    pub(super) confirmed_reads: BTreeMap<Index, Vec<u64>>,
    pub(super) outbox: Vec<Outgoing>,
    pub(super) read_outcomes: Vec<ReadOutcome>,
    told: RoleChange,
    #[cfg(feature = "mutants")]
    pub(super) mutant: Option<super::mutants::Mutant>,
}

impl Raft {
    /// Returns a follower that remembers what its disk does.
    pub fn new(settings: Settings, boot: Boot) -> Result<Raft, BootError> {
        settings.check()?;
        let log = recovered_log(&boot)?;
        let HardState { term, vote, commit } = boot.hard_state;
        let (purged, last) = (log.purged().index, log.last().index);
        if commit > last {
            return Err(BootError::CommitBeyondLog { commit, last });
        }
        if boot.applied < purged || boot.applied > last {
            return Err(BootError::AppliedOutsideLog { applied: boot.applied, purged, last });
        }
        let membership = Membership::new(boot.configurations)
            .filter(|membership| membership.first_index() <= purged && membership.active_index() <= last)
            .ok_or(BootError::Configurations)?;
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(settings.seed ^ settings.id.0.rotate_left(32));
        let next_question = rng.next_u64() >> 1;
        let role = Role::Follower(Follower::default());
        let mut raft = Raft {
            told: RoleChange { role: role.name(), term, leader: None },
            settings,
            term,
            vote,
            commit: commit.max(boot.applied),
            applied: boot.applied,
            delivered: boot.applied,
            is_suspect: boot.is_suspect,
            membership,
            disk: Disk::new(last, boot.hard_state),
            log,
            role,
            election_elapsed: 0,
            heartbeat_elapsed: 0,
            election_timeout: 0,
            rng,
            next_question,
            confirmed_reads: BTreeMap::new(),
            outbox: Vec::new(),
            read_outcomes: Vec::new(),
            #[cfg(feature = "mutants")]
            mutant: None,
        };
        raft.reset_election_timer();
        Ok(raft)
    }

    /// Lets one tick pass.
    pub fn tick(&mut self) {
        self.disk.tick();
        self.election_elapsed = self.election_elapsed.saturating_add(1);
        self.heartbeat_elapsed = self.heartbeat_elapsed.saturating_add(1);
        match self.role {
            Role::Leader(_) => self.tick_leader(),
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => self.tick_others(),
        }
    }

    /// Takes a message. `from` is the identity that the transport has verified.
    ///
    /// An error means that the message changed nothing.
    pub fn step(&mut self, from: NodeId, message: Message) -> Result<Stepped, ProtocolViolation> {
        if from == self.settings.id || from.0 == 0 {
            return Err(ProtocolViolation::Sender(from));
        }
        if message.term().0 > NUMBER_MAX {
            return Err(ProtocolViolation::OutOfRange);
        }
        match message {
            Message::PreVote { term, last } => self.on_pre_vote(from, term, last),
            Message::PreVoteReply { term, granted } => self.on_pre_vote_reply(from, term, granted),
            Message::Vote { term, last, transfer } => self.on_vote(from, term, last, transfer),
            Message::VoteReply { term, granted } => self.on_vote_reply(from, term, granted),
            Message::Append { term, prev, entries, commit, read } => {
                let append = self.on_append(from, term, prev, &entries, commit, read)?;
                return Ok(Stepped { append });
            }
            Message::AppendReply { term, outcome, read } => self.on_append_reply(from, term, outcome, read)?,
            Message::Heartbeat { term, commit, read } => self.on_heartbeat(from, term, commit, read)?,
            Message::HeartbeatReply { term, read } => self.on_heartbeat_reply(from, term, read),
            Message::ReadIndex { term, id } => self.on_read_index(from, term, id),
            Message::ReadIndexReply { term, id, index } => self.on_read_index_reply(from, term, id, index),
            Message::TimeoutNow { term } => self.on_timeout_now(from, term),
        }
        Ok(Stepped::default())
    }

    /// Takes the news that write batch `seq`, and every one before it, is durable.
    ///
    /// # Panics
    /// If `seq` was never issued. A failed write must never be reported: stop the node instead.
    pub fn on_persisted(&mut self, seq: u64) {
        self.outbox.extend(self.disk.on_persisted(seq));
        match self.role {
            Role::Candidate(_) => self.count_own_vote(),
            Role::Leader(_) => self.maybe_commit(),
            Role::Follower(_) | Role::PreCandidate(_) => {}
        }
    }

    /// Takes the news that the state is applied up to `index`.
    pub fn on_applied(&mut self, index: Index) {
        assert!(index <= self.delivered, "applied {index}, delivered {}", self.delivered);
        self.applied = self.applied.max(index);
    }

    /// Takes the news that messages to a member were lost: what is in flight to it is sent again once it answers.
    pub fn on_unreachable(&mut self, id: NodeId) {
        if let Role::Leader(leader) = &mut self.role
            && let Some(progress) = leader.progress.get_mut(&id)
        {
            progress.on_unreachable();
        }
    }

    /// Takes the news that the log was purged up to and including `upto`, which must be applied.
    pub fn on_purged(&mut self, upto: Index) {
        assert!(upto <= self.applied, "purged up to {upto}, applied {}", self.applied);
        self.log.purge(upto);
        self.membership.purge(upto);
    }

    /// Takes everything there is to do. Call it after each batch of inputs: what is batched between two calls
    /// leaves in one append, one write and one sync.
    pub fn take_ready(&mut self) -> Ready {
        self.flush();
        let persist = self.disk.take_batch(self.hard_state(), &self.log);
        let role = RoleChange { role: self.role.name(), term: self.term, leader: self.leader() };
        let is_role_new = role != self.told;
        self.told = role;
        Ready {
            persist,
            messages: std::mem::take(&mut self.outbox),
            committed: self.take_committed(),
            reads: self.take_reads(),
            role: is_role_new.then_some(role),
        }
    }

    fn flush(&mut self) {
        match self.role {
            Role::Leader(_) => self.flush_leader(),
            Role::Follower(_) => self.ask_leader(),
            Role::PreCandidate(_) | Role::Candidate(_) => {}
        }
    }

    fn take_committed(&mut self) -> Option<RangeInclusive<Index>> {
        let first = self.delivered.next();
        self.delivered = self.commit;
        (first <= self.commit).then_some(first..=self.commit)
    }

    fn take_reads(&mut self) -> Vec<ReadOutcome> {
        while let Some(confirmed) = self.confirmed_reads.first_entry() {
            if *confirmed.key() > self.delivered {
                break;
            }
            let (index, ids) = confirmed.remove_entry();
            self.read_outcomes.extend(ids.into_iter().map(|id| ReadOutcome { id, result: Ok(index) }));
        }
        std::mem::take(&mut self.read_outcomes)
    }

    pub(super) fn send(&mut self, to: NodeId, message: Message) {
        self.outbox.push(Outgoing { to, message });
    }

    /// Sends a message as soon as everything that changed so far is durable.
    pub(super) fn send_when_durable(&mut self, to: NodeId, message: Message) {
        let is_vote = matches!(message, Message::Vote { .. } | Message::VoteReply { .. });
        let hurry = if is_vote { Mutant::VoteBeforeDurable } else { Mutant::AcknowledgeBeforeDurable };
        if self.is_mutant(hurry) {
            return self.send(to, message);
        }
        self.outbox.extend(self.disk.hold(self.log.last().index, to, message));
    }

    /// Enters a higher term, without a vote in it yet.
    pub(super) fn enter_term(&mut self, term: Term) {
        assert!(term > self.term, "term {term} after {}", self.term);
        self.term = term;
        self.vote = None;
        self.disk.on_hard_state();
        if !self.is_mutant(Mutant::AcknowledgeSuperseded) {
            self.disk.drop_other_terms(term);
        }
    }

    /// Gives the vote of the present term.
    pub(super) fn give_vote(&mut self, to: NodeId) {
        if self.vote != Some(to) {
            assert!(self.vote.is_none(), "second vote in term {}: {:?}, then {to}", self.term, self.vote);
            self.vote = Some(to);
            self.disk.on_hard_state();
        }
    }

    /// Makes `index` the commit index.
    pub(super) fn commit_to(&mut self, index: Index) {
        assert!(index <= self.log.last().index, "commit {index} beyond {:?}", self.log.last());
        if index <= self.commit {
            return;
        }
        if let Role::Leader(leader) = &mut self.role {
            let bytes = self.log.bytes(self.commit.next(), index);
            leader.uncommitted_bytes = leader.uncommitted_bytes.saturating_sub(bytes);
        }
        self.commit = index;
    }

    pub(super) fn reset_election_timer(&mut self) {
        self.election_elapsed = 0;
        let extra = self.rng.next_u64() % u64::from(self.settings.election_ticks);
        self.election_timeout = self.settings.election_ticks + u32::try_from(extra).unwrap_or(0);
    }
}

/// Checks the recovered entries and returns their shape.
fn recovered_log(boot: &Boot) -> Result<LogIds, BootError> {
    let mut log = LogIds::new(boot.purged);
    for &(term, bytes) in &boot.entries {
        let last = log.last();
        if term < last.term || term > boot.hard_state.term || term.0 == 0 {
            return Err(BootError::Terms { index: last.index.next(), term });
        }
        log.append(term, &[bytes]);
    }
    if boot.purged.term > boot.hard_state.term {
        return Err(BootError::Terms { index: boot.purged.index, term: boot.purged.term });
    }
    Ok(log)
}

/// Returns whether an index may be counted on from.
pub(super) fn is_in_range(index: Index) -> bool {
    index.0 <= NUMBER_MAX
}
