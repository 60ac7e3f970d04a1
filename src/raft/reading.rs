//! Linearizable reads on any node (ReadIndex, thesis §6.4): the leader confirms itself by rounds, followers ask it.

use super::message::Message;
use super::mutants::Mutant;
use super::raft::Raft;
use super::read_index::Asker;
use super::ready::ReadError;
use super::role::Role;
use super::types::{Index, NodeId, Term};

impl Raft {
    /// Asks for a linearizable read. Its outcome comes out of `take_ready` under `id`, which must be unused: an index
    /// once everything up to there has come out as committed, or an error as soon as it is certain that none will come.
    ///
    /// A lost message to the leader is repeated while the leader stays; the caller keeps the deadline.
    pub fn read(&mut self, id: u64) -> Result<(), ReadError> {
        let max = usize::try_from(self.settings.max_pending_reads).unwrap_or(usize::MAX);
        let uncommitted = self.confirmed_reads.values().map(Vec::len).sum::<usize>();
        match &mut self.role {
            Role::Leader(leader) => leader.reads.push(Asker::Local(id), max.saturating_sub(uncommitted)),
            Role::Follower(follower) if follower.leader.is_some() => {
                if follower.reads.len() + uncommitted >= max {
                    return Err(ReadError::Busy);
                }
                follower.reads.push(id);
                Ok(())
            }
            Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => Err(ReadError::NoLeader),
        }
    }

    /// Starts a round for the reads that wait. Before an entry of the own term is committed the commit index may be
    /// behind what earlier leaders acknowledged, so no round starts (T60).
    pub(super) fn start_read_round(&mut self, is_forced: bool) -> bool {
        let Role::Leader(leader) = &mut self.role else { return false };
        self.commit >= leader.first_own && leader.reads.maybe_start(self.commit, is_forced)
    }

    /// Gives an index to the reads whose round a quorum has answered.
    pub(super) fn confirm_reads(&mut self) {
        let is_rash = self.is_mutant(Mutant::ReadWithoutRound);
        let Role::Leader(leader) = &mut self.role else { return };
        let me = self.settings.id;
        let newest = leader.reads.newest();
        let acked = |id| match leader.progress.get(&id) {
            Some(progress) => progress.acked_read,
            None if id == me => newest,
            None => 0,
        };
        let confirmed = if is_rash { newest } else { self.membership.quorum().confirmed(acked) };
        let rounds: Vec<_> = leader.reads.take_confirmed(confirmed).collect();
        for round in rounds {
            for asker in round.askers {
                match asker {
                    Asker::Local(id) => self.confirmed_reads.entry(round.index).or_default().push(id),
                    Asker::Remote { from, id } => self.answer_question(from, id, round.index),
                }
            }
        }
    }

    fn answer_question(&mut self, to: NodeId, id: u64, index: Index) {
        if let Role::Leader(leader) = &mut self.role
            && let Some(progress) = leader.progress.get_mut(&to)
        {
            // It waits to apply up to here, so it is told of the commit index at once.
            progress.commit_wanted = progress.commit_wanted.max(index);
        }
        self.send(to, Message::ReadIndexReply { term: self.term, id, index: Some(index) });
    }

    pub(super) fn on_read_index(&mut self, from: NodeId, term: Term, id: u64) {
        if term > self.term {
            self.become_follower(term, None);
        }
        let max = usize::try_from(self.settings.max_pending_reads).unwrap_or(usize::MAX);
        let is_taken = match &mut self.role {
            Role::Leader(leader) if term == self.term => leader.reads.push(Asker::Remote { from, id }, max).is_ok(),
            Role::Leader(_) | Role::Follower(_) | Role::PreCandidate(_) | Role::Candidate(_) => false,
        };
        if !is_taken {
            self.send(from, Message::ReadIndexReply { term: self.term, id, index: None });
        }
    }

    pub(super) fn on_read_index_reply(&mut self, from: NodeId, term: Term, id: u64, index: Option<Index>) {
        if term > self.term {
            self.become_follower(term, None);
        }
        let Role::Follower(follower) = &mut self.role else { return };
        if term < self.term || follower.leader != Some(from) {
            return; // The answer of an earlier term says nothing about this one (T65).
        }
        let reads = follower.reads.take(id);
        match index {
            Some(index) => self.confirmed_reads.entry(index).or_default().extend(reads),
            None => self.fail_reads(reads, ReadError::LeaderChanged),
        }
    }

    /// Sends the reads that came since the last time to the leader, as one question.
    pub(super) fn ask_leader(&mut self) {
        let Role::Follower(follower) = &mut self.role else { return };
        let (Some(leader), id) = (follower.leader, self.next_question) else { return };
        if follower.reads.maybe_ask(id) {
            self.next_question += 1;
            self.send(leader, Message::ReadIndex { term: self.term, id });
        }
    }

    /// Repeats the questions that have no answer yet.
    pub(super) fn ask_leader_again(&mut self) {
        let Role::Follower(follower) = &self.role else { return };
        let Some(leader) = follower.leader else { return };
        let questions: Vec<u64> = follower.reads.questions().collect();
        for id in questions {
            self.send(leader, Message::ReadIndex { term: self.term, id });
        }
    }
}
