//! What can be seen of a core from outside.

use super::progress::Pace;
use super::raft::Raft;
use super::ready::RoleName;
use super::role::Role;
use super::types::{Configuration, HardState, Index, LogId, NodeId, Term};

/// One other member as its leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The member.
    pub id: NodeId,
    /// Durable there, and equal to the leader's log, up to here.
    pub matched: Index,
    /// The next entry to send.
    pub next: Index,
    /// How it is sent to.
    pub pace: PeerPace,
    /// Whether it has answered since the last quorum check.
    pub is_active: bool,
}

/// How a leader sends to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerPace {
    /// One append at a time, until it is known where its log ends.
    Probe,
    /// Appends flow.
    Replicate,
    /// What it needs has been purged; only a snapshot helps.
    NeedsSnapshot,
}

impl Raft {
    /// Returns this node's id.
    pub fn id(&self) -> NodeId {
        self.settings.id
    }

    /// Returns the role.
    pub fn role(&self) -> RoleName {
        self.role.name()
    }

    /// Returns the term.
    pub fn term(&self) -> Term {
        self.term
    }

    /// Returns term, vote and commit index as of now: what is durable may be behind.
    pub fn hard_state(&self) -> HardState {
        HardState { term: self.term, vote: self.vote, commit: self.commit }
    }

    /// Returns the commit index.
    pub fn commit(&self) -> Index {
        self.commit
    }

    /// Returns up to where the driver has reported entries as applied.
    pub fn applied(&self) -> Index {
        self.applied
    }

    /// Returns up to where the log on disk is certain to equal the log in memory.
    pub fn durable(&self) -> Index {
        self.disk.durable()
    }

    /// Returns the log id of the last entry, durable or not.
    pub fn last(&self) -> LogId {
        self.log.last()
    }

    /// Returns the log id before the first entry.
    pub fn purged(&self) -> LogId {
        self.log.purged()
    }

    /// Returns the term at `index`, or `None` if it is purged or not yet written.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        self.log.term(index)
    }

    /// Returns the active configuration: the newest in the log, committed or not.
    pub fn configuration(&self) -> &Configuration {
        self.membership.active()
    }

    /// Returns the index of the active configuration's entry, 0 for the bootstrap one.
    pub fn configuration_index(&self) -> Index {
        self.membership.active_index()
    }

    /// Returns whether this node counts in quorums.
    pub fn is_voter(&self) -> bool {
        self.membership.quorum().is_voter(self.settings.id)
    }

    /// Returns whether this leader has committed an entry of its own term: from then on it can serve reads.
    pub fn is_ready_to_read(&self) -> bool {
        matches!(&self.role, Role::Leader(leader) if self.commit >= leader.first_own)
    }

    /// Returns the other members as this leader sees them, in order; none at other roles.
    pub fn peers(&self) -> Vec<PeerStatus> {
        let Role::Leader(leader) = &self.role else { return Vec::new() };
        let status = |(&id, progress): (&NodeId, &super::progress::Progress)| PeerStatus {
            id,
            matched: progress.matched,
            next: progress.next,
            pace: match &progress.pace {
                _ if progress.next <= self.log.purged().index => PeerPace::NeedsSnapshot,
                Pace::Probe { .. } => PeerPace::Probe,
                Pace::Replicate(_) => PeerPace::Replicate,
            },
            is_active: progress.is_active,
        };
        leader.progress.iter().map(status).collect()
    }
}
