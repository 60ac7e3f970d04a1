//! Elections: timeouts, pre-votes, votes, and changes of role (Raft §5.2, thesis §9.6 and §4.2.3).

use rand_xoshiro::rand_core::RngCore;

use super::message::Message;
use super::mutants::Mutant;
use super::quorum::Tally;
use super::raft::Raft;
use super::read_index::Asker;
use super::ready::{ReadError, ReadOutcome};
use super::role::{Campaign, Follower, Role};
use super::types::{LogId, NodeId, Term};

/// A node whose oldest write has been under way for this many election timeouts neither leads nor campaigns (T92).
const STALLED_ELECTION_TIMEOUTS: u32 = 2;

impl Raft {
    /// Asks the others at once whether an election could be won, without waiting for the timeout.
    pub fn campaign(&mut self) {
        if !matches!(self.role, Role::Leader(_)) {
            self.maybe_pre_campaign();
        }
    }

    /// Takes the certain news that a node's process is gone. If it led, the wait for it ends here; pre-vote and the
    /// order of logs still decide who may follow it.
    pub fn on_process_gone(&mut self, id: NodeId) {
        if self.leader() == Some(id) && id != self.settings.id {
            self.become_follower(self.term, None);
            // Not all at the same tick, else they split the vote.
            let jitter = self.rng.next_u64() % u64::from(self.settings.heartbeat_ticks + 1);
            self.election_elapsed = self.election_timeout.saturating_sub(u32::try_from(jitter).unwrap_or(0));
        }
    }

    /// Lets a tick pass at a node that does not lead.
    pub(super) fn tick_others(&mut self) {
        if self.heartbeat_elapsed >= self.settings.heartbeat_ticks {
            self.heartbeat_elapsed = 0;
            self.ask_leader_again();
        }
        if self.election_elapsed >= self.election_timeout {
            self.reset_election_timer();
            self.maybe_pre_campaign();
        }
    }

    /// Returns whether the disk has not finished a write for so long that others should lead.
    pub(super) fn is_disk_stalled(&self) -> bool {
        self.disk.stalled_ticks() >= self.settings.election_ticks * STALLED_ELECTION_TIMEOUTS
    }

    /// Asks for pre-votes; a node that may not lead only forgets its leader.
    fn maybe_pre_campaign(&mut self) {
        if !self.may_campaign() {
            self.become_follower(self.term, None);
            return;
        }
        self.leave_role();
        self.role = Role::PreCandidate(Campaign::default());
        self.reset_election_timer();
        let (term, last) = (self.term.next(), self.log.last());
        for to in self.other_voters() {
            self.send(to, Message::PreVote { term, last });
        }
        self.on_answer(self.settings.id, true);
    }

    fn may_campaign(&self) -> bool {
        self.is_voter() && !self.is_suspect && !self.is_disk_stalled()
    }

    /// Asks for votes in a new term. The requests are held until term and own vote are durable: else a restarted
    /// node could win the same term twice (T04).
    fn campaign_now(&mut self, transfer: bool) {
        self.leave_role();
        self.enter_term(self.term.next());
        self.give_vote(self.settings.id);
        self.role = Role::Candidate(Campaign::default());
        self.reset_election_timer();
        let (term, last) = (self.term, self.log.last());
        for to in self.other_voters() {
            self.send_when_durable(to, Message::Vote { term, last, transfer });
        }
    }

    fn other_voters(&self) -> Vec<NodeId> {
        self.membership.quorum().voters().filter(|&id| id != self.settings.id).collect()
    }

    /// A candidate's own vote counts once it is durable, like any other.
    pub(super) fn count_own_vote(&mut self) {
        let durable = self.disk.durable_hard_state();
        if durable.term == self.term && durable.vote == Some(self.settings.id) {
            self.on_answer(self.settings.id, true);
        }
    }

    pub(super) fn on_pre_vote(&mut self, from: NodeId, term: Term, last: LogId) {
        let is_free = term > self.term
            || (term == self.term && self.leader().is_none() && self.vote.is_none_or(|vote| vote == from));
        // Changes nothing here, above all not the election timer (T14).
        let is_up_to_date = last >= self.log.last() || self.is_mutant(Mutant::VoteWithoutLogCheck);
        let granted = is_free && !self.is_loyal() && !self.is_suspect && is_up_to_date;
        let term = if granted { term } else { self.term };
        self.send(from, Message::PreVoteReply { term, granted });
    }

    pub(super) fn on_pre_vote_reply(&mut self, from: NodeId, term: Term, granted: bool) {
        if !granted && term > self.term {
            self.become_follower(term, None); // T89
        } else if matches!(self.role, Role::PreCandidate(_)) && (!granted || term == self.term.next()) {
            self.on_answer(from, granted);
        }
    }

    pub(super) fn on_vote(&mut self, from: NodeId, term: Term, last: LogId, transfer: bool) {
        if term > self.term {
            if self.is_loyal() && !transfer {
                return; // A live leader is not disturbed by a node that lost sight of it (thesis §4.2.3).
            }
            self.become_follower(term, None);
        }
        if self.is_mutant(Mutant::ForgetVote) {
            self.vote = None;
        }
        let is_free = match self.vote {
            Some(vote) => vote == from,
            None => self.leader().is_none(),
        };
        let is_up_to_date = last >= self.log.last() || self.is_mutant(Mutant::VoteWithoutLogCheck);
        if term == self.term && is_free && !self.is_suspect && is_up_to_date {
            self.give_vote(from);
            self.reset_election_timer();
            self.send_when_durable(from, Message::VoteReply { term, granted: true });
        } else {
            self.send(from, Message::VoteReply { term: self.term, granted: false });
        }
    }

    pub(super) fn on_vote_reply(&mut self, from: NodeId, term: Term, granted: bool) {
        if term > self.term {
            self.become_follower(term, None);
        } else if term == self.term && matches!(self.role, Role::Candidate(_)) {
            self.on_answer(from, granted);
        }
    }

    /// Counts an answer to the present campaign. Answers of learners and strangers decide nothing.
    fn on_answer(&mut self, from: NodeId, granted: bool) {
        let (campaign, is_real) = match &mut self.role {
            Role::PreCandidate(campaign) => (campaign, false),
            Role::Candidate(campaign) => (campaign, true),
            Role::Follower(_) | Role::Leader(_) => return,
        };
        if !self.membership.quorum().is_voter(from) {
            return;
        }
        // A refusal may be a late answer to an earlier question; a grant is a promise, whenever it comes.
        *campaign.votes.entry(from).or_insert(granted) |= granted;
        match self.membership.quorum().tally(|id| campaign.votes.get(&id).copied()) {
            Tally::Won if is_real => self.become_leader(),
            Tally::Won => self.campaign_now(false),
            Tally::Lost => self.become_follower(self.term, None),
            Tally::Open => {}
        }
    }

    /// Asked by the leader to take over (thesis §3.10): no pre-vote, and the others' loyalty does not count.
    pub(super) fn on_timeout_now(&mut self, from: NodeId, term: Term) {
        if term > self.term {
            self.become_follower(term, Some(from));
        }
        let is_from_leader = matches!(&self.role, Role::Follower(follower) if follower.leader == Some(from));
        if term == self.term && is_from_leader && self.may_campaign() {
            self.campaign_now(true);
        }
    }

    /// Returns whether a leader is known and was heard so recently that nobody else is wanted.
    fn is_loyal(&self) -> bool {
        match &self.role {
            Role::Leader(_) => true,
            Role::Follower(follower) => {
                follower.leader.is_some() && self.election_elapsed < self.settings.election_ticks
            }
            Role::PreCandidate(_) | Role::Candidate(_) => false,
        }
    }

    /// Follows `leader`, or nobody yet, in `term`. Keeps the vote of an unchanged term (T06).
    pub(super) fn become_follower(&mut self, term: Term, leader: Option<NodeId>) {
        assert!(term >= self.term, "term {term} after {}", self.term);
        if term > self.term {
            self.enter_term(term);
        }
        self.leave_role();
        if !matches!(self.role, Role::Follower(_)) {
            self.reset_election_timer();
        }
        self.role = Role::Follower(Follower { leader, ..Follower::default() });
    }

    /// Ends what only the present role could finish: reads fail, definitely (T62).
    fn leave_role(&mut self) {
        match &mut self.role {
            Role::Follower(follower) => {
                let reads = std::mem::take(&mut follower.reads);
                self.fail_reads(reads.into_reads(), ReadError::LeaderChanged);
            }
            Role::Leader(leader) => {
                let reads = std::mem::take(&mut leader.reads);
                for asker in reads.into_askers() {
                    match asker {
                        Asker::Local(id) => self.fail_reads([id], ReadError::LeaderChanged),
                        Asker::Remote { from, id } => {
                            self.send(from, Message::ReadIndexReply { term: self.term, id, index: None });
                        }
                    }
                }
            }
            Role::PreCandidate(_) | Role::Candidate(_) => {}
        }
    }

    pub(super) fn fail_reads(&mut self, ids: impl IntoIterator<Item = u64>, error: ReadError) {
        self.read_outcomes.extend(ids.into_iter().map(|id| ReadOutcome { id, result: Err(error) }));
    }
}
