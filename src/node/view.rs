//! What a node shows of itself: a copy that other threads may look at.

use crate::raft::{Index, Member, NodeId, Raft, RoleName, Term};

use super::Node;

/// A node at the end of one turn.
#[derive(Clone, Debug)]
pub struct NodeView {
    /// What it is.
    pub role: RoleName,
    /// Its term.
    pub term: Term,
    /// Who leads that term, if known.
    pub leader: Option<NodeId>,
    /// Committed up to here.
    pub commit: Index,
    /// Its oldest entry.
    pub first: Index,
    /// Its newest entry.
    pub last: Index,
    /// The members of its newest configuration, by id.
    pub members: Vec<MemberView>,
    /// Whether a membership change is under way.
    pub joint: bool,
    /// Elections it started.
    pub elections: u64,
    /// Messages from peers that broke the protocol.
    pub violations: u64,
}

/// One member as a node sees it.
#[derive(Clone, Debug)]
pub struct MemberView {
    /// The member.
    pub id: NodeId,
    /// Where peers reach it.
    pub peer_addr: String,
    /// Where clients reach it; empty until known.
    pub client_addr: String,
    /// The storage it is bound to.
    pub storage_uuid: Option<u128>,
    /// Whether it votes.
    pub voter: bool,
    /// How much of the leader's log it has, where this node knows.
    pub match_index: Option<Index>,
    /// When it was last heard, in milliseconds of the node's monotonic clock; `None` if never, or if it is this node.
    pub heard_ms: Option<u64>,
}

impl Node {
    /// Returns the part, the term and the known leader: the view's beginning, for a cheap look.
    pub fn standing(&self) -> (RoleName, Term, Option<NodeId>) {
        (self.raft.role(), self.raft.term(), self.raft.leader())
    }

    /// Returns the core, to look at.
    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    /// Makes the core make a mistake, to see whether it is found.
    #[cfg(feature = "mutants")]
    pub fn set_mutant(&mut self, mutant: crate::raft::Mutant) {
        self.raft.set_mutant(mutant);
    }

    /// Returns a copy of what can be seen of this node.
    pub fn view(&self) -> NodeView {
        let configuration = self.raft.configuration();
        NodeView {
            role: self.raft.role(),
            term: self.raft.term(),
            leader: self.raft.leader(),
            commit: self.raft.commit(),
            first: self.raft.purged().index.next(),
            last: self.raft.last().index,
            members: configuration.members.iter().map(|(id, member)| self.member_view(*id, member)).collect(),
            joint: configuration.outgoing.is_some(),
            elections: self.elections,
            violations: self.violations,
        }
    }

    fn member_view(&self, id: NodeId, member: &Member) -> MemberView {
        let is_me = id == self.settings.raft.id;
        let peer = self.raft.peers().into_iter().find(|peer| peer.id == id);
        MemberView {
            id,
            peer_addr: member.peer_addr.clone(),
            client_addr: member.client_addr.clone(),
            storage_uuid: member.storage_uuid,
            voter: member.voter,
            match_index: if is_me { Some(self.raft.durable()) } else { peer.map(|peer| peer.matched) },
            heard_ms: if is_me { Some(self.clock.monotonic_ms) } else { self.heard.get(&id).copied() },
        }
    }
}
