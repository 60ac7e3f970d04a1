//! The roles of figure 4 of the Raft paper, each with the state that only it has.

use std::collections::BTreeMap;

use super::progress::Progress;
use super::read_index::{Forwarded, Rounds};
use super::ready::RoleName;
use super::types::{Index, NodeId};

/// What a node is, with what it needs for it.
#[derive(Clone, Debug)]
pub(crate) enum Role {
    Follower(Follower),
    PreCandidate(Campaign),
    Candidate(Campaign),
    Leader(Leader),
}

/// A follower's state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Follower {
    /// The leader of the term, once heard.
    pub(crate) leader: Option<NodeId>,
    /// Reads that wait for the leader's answer.
    pub(crate) reads: Forwarded,
}

/// An election, or the question whether to hold one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Campaign {
    /// The answers so far, the own one included; a grant stands.
    pub(crate) votes: BTreeMap<NodeId, bool>,
}

/// A leader's state.
///
/// - `progress` has exactly the other nodes of the active configuration.
#[derive(Clone, Debug)]
pub(crate) struct Leader {
    pub(crate) progress: BTreeMap<NodeId, Progress>,
    /// The leader's first entry: what is below may only be committed through it (Raft §5.4.2).
    pub(crate) first_own: Index,
    /// Payload bytes above the commit index.
    pub(crate) uncommitted_bytes: u64,
    pub(crate) reads: Rounds,
    pub(crate) handover: Option<Handover>,
    /// A tick has passed since the last flush: followers may be told of the commit index alone.
    pub(crate) is_notice_due: bool,
}

/// Leadership that is being handed over (thesis §3.10).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Handover {
    pub(crate) to: NodeId,
    pub(crate) age_ticks: u32,
    pub(crate) is_sent: bool,
}

impl Role {
    pub(crate) fn name(&self) -> RoleName {
        match self {
            Role::Follower(_) => RoleName::Follower,
            Role::PreCandidate(_) => RoleName::PreCandidate,
            Role::Candidate(_) => RoleName::Candidate,
            Role::Leader(_) => RoleName::Leader,
        }
    }
}
