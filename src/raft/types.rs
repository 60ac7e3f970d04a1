//! The words of the paper as types: node, index, term, log id, hard state, configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

/// Names one member for the life of a cluster. Chosen by the operator, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u64);

/// Numbers one entry of the log. The first entry has index 1; 0 stands before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Index(pub u64);

/// Numbers a period with at most one leader (Raft §5.1). 0 stands before the first election.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Term(pub u64);

/// Names one entry of any log: two entries with the same log id are the same entry (Raft §5.3).
///
/// The derived order compares the term first: it is the "at least as up-to-date" order of Raft §5.4.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogId {
    /// The term of the leader that created the entry.
    pub term: Term,
    /// The entry's place in the log.
    pub index: Index,
}

/// What a node must never forget (Raft, figure 2) plus a hint of what is committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardState {
    /// The newest term this node has seen.
    pub term: Term,
    /// Who got this node's vote in `term`.
    pub vote: Option<NodeId>,
    /// An index known to be committed. A hint: persisted lazily, never ahead of the truth.
    pub commit: Index,
}

/// One member of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Where peers reach it (QUIC), as written by the operator.
    pub peer_addr: String,
    /// Where clients reach it; empty until its first hello told it.
    pub client_addr: String,
    /// The storage this id is bound to; `None` until the leader first heard the node.
    pub storage_uuid: Option<u128>,
    /// Whether it counts in quorums (else it is a learner).
    pub voter: bool,
}

/// Limits on which what is applied depends: every member must have the same, so the first leader's flags set them for
/// good. The core only carries them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterLimits {
    /// Bytes of the longest value.
    pub value_bytes_max: u64,
    /// Bytes of the largest entry; no member's segments may be too small for it.
    pub entry_bytes_max: u64,
}

/// Who is in the cluster: the content of a configuration entry.
///
/// - While `outgoing` is `Some`, decisions need a majority of both voter sets (joint consensus, thesis §4.3).
/// - `history` never changes within one history of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// Random id of this history; 0 only in the bootstrap configuration, before the first entry.
    pub history: u128,
    /// The limits of this history.
    pub limits: ClusterLimits,
    /// The members, learners included.
    pub members: BTreeMap<NodeId, Member>,
    /// The voters of the configuration that is being left, while the change is under way.
    pub outgoing: Option<BTreeSet<NodeId>>,
}

impl Default for ClusterLimits {
    /// Returns what segments of 64 MiB allow.
    fn default() -> ClusterLimits {
        ClusterLimits { value_bytes_max: 8 << 20, entry_bytes_max: 32 << 20 }
    }
}

impl Index {
    /// Returns the index after this one.
    pub fn next(self) -> Index {
        Index(self.0 + 1)
    }
}

impl Term {
    /// Returns the term after this one.
    pub fn next(self) -> Term {
        Term(self.0 + 1)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
