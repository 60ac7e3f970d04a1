//! What the core asks of its driver: what to write, send, apply and answer.

use std::ops::RangeInclusive;

use thiserror::Error;

use super::message::Message;
use super::types::{Configuration, HardState, Index, NodeId, Term};

/// Everything the core wants done since it was last asked. Take it after each batch of inputs.
///
/// In this order, or in parallel where nothing is said:
/// 1. Append `persist` to the log: it must be readable there before `messages` are encoded, not yet durable.
/// 2. Send `messages` at once; start the sync of `persist`; report it with `Raft::on_persisted` when it is durable.
/// 3. Apply `committed`; report it with `Raft::on_applied`.
#[derive(Debug, Default)]
#[must_use]
pub struct Ready {
    /// What to write, in one atomic batch.
    pub persist: Option<Persist>,
    /// What may leave at once: whatever had to wait for the disk has waited.
    pub messages: Vec<Outgoing>,
    /// Entries that are committed since the last time. They are in the log, perhaps not durable on this node yet.
    pub committed: Option<RangeInclusive<Index>>,
    /// Reads that ended.
    pub reads: Vec<ReadOutcome>,
    /// The node's role, term or leader, if one of them changed.
    pub role: Option<RoleChange>,
}

/// One write batch. Batches are written in the order of `seq`, each kept whole or not at all after a crash.
///
/// Every batch must be synced before it is reported; one sync may cover many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persist {
    /// Its number, from 1, without holes.
    pub seq: u64,
    /// The hard state to write with it.
    pub hard_state: Option<HardState>,
    /// Drop every entry from here on before appending: the leader's log says something else.
    pub truncate_from: Option<Index>,
    /// The entries to append, in order. Their payloads are those proposed, those staged for
    /// [`Stepped::append`], or encoded from `own`.
    pub append: Option<RangeInclusive<Index>>,
    /// The terms of `append`, as runs of (term, number of entries).
    pub terms: Vec<(Term, u32)>,
    /// The entries in `append` that the core made itself; the driver encodes them.
    pub own: Vec<(Index, OwnEntry)>,
}

/// An entry made by the core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnEntry {
    /// A leader's first entry in its term.
    Noop,
    /// A configuration: proposed, or the first entry of a new history.
    Configuration(Configuration),
}

/// A message and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// The receiver.
    pub to: NodeId,
    /// The message. The payloads of an `Append` are read from the log by its index range.
    pub message: Message,
}

/// What a step took in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stepped {
    /// The entries of an append that are new here: the driver keeps exactly their payloads for the next
    /// [`Persist`], dropping what it had staged from the start of this range on.
    pub append: Option<RangeInclusive<Index>>,
}

/// The end of a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadOutcome {
    /// The number given to `Raft::read`.
    pub id: u64,
    /// The read index: everything up to it was handed out as committed. Once it is applied the state is linearizable.
    pub result: Result<Index, ReadError>,
}

/// Why a read cannot be served. Reads change nothing, so trying again is always safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    /// No leader is known.
    #[error("no leader is known")]
    NoLeader,
    /// Too many reads are pending here.
    #[error("too many reads are pending")]
    Busy,
    /// The leader stepped down, changed or refused while the read was pending.
    #[error("the leader changed or refused")]
    LeaderChanged,
}

/// Why nothing was proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProposeError {
    /// This node does not lead.
    #[error("not the leader")]
    NotLeader,
    /// Too many bytes are uncommitted.
    #[error("too much is uncommitted")]
    Busy,
    /// Leadership is being handed over: the next leader will take it.
    #[error("leadership is being handed over")]
    HandingOver,
}

/// Why a configuration was not proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ConfigurationError {
    /// This node does not lead.
    #[error("not the leader")]
    NotLeader,
    /// Leadership is being handed over.
    #[error("leadership is being handed over")]
    Busy,
    /// It has no voters, too many, a node with id 0, or another history.
    #[error("the configuration is not valid here")]
    Invalid,
    /// It changes who votes, which this version cannot do.
    #[error("the change of a quorum is not supported")]
    ChangesQuorum,
}

/// Why a handover was not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TransferError {
    /// This node does not lead.
    #[error("not the leader")]
    NotLeader,
    /// The receiver is no other voter.
    #[error("node {0} is not another voter")]
    NotAVoter(NodeId),
}

/// What a node is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RoleName {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks whether an election could be won.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// Role, term and leader after a change of any of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleChange {
    /// The role now.
    pub role: RoleName,
    /// The term now.
    pub term: Term,
    /// The leader of the term, if known.
    pub leader: Option<NodeId>,
}

/// A message that no correct member sends. It changed nothing; the driver counts it and may close the connection.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProtocolViolation {
    /// The sender is this node, or 0.
    #[error("message from node {0}")]
    Sender(NodeId),
    /// A term or index too large to count on from.
    #[error("term or index out of range")]
    OutOfRange,
    /// The entries of an append contradict themselves, their `prev` or their message's term.
    #[error("malformed entries: {0}")]
    Entries(&'static str),
    /// A second node speaks as leader of one term. Two leaders in a term mean that acknowledged data may be lost.
    #[error("node {0} speaks as leader of term {1}, which is led by node {2}")]
    SecondLeader(NodeId, Term, NodeId),
    /// An append contradicts what is committed here. Somewhere acknowledged data was lost.
    #[error("append of term {found} at index {index}, where term {committed} is committed")]
    ConflictBelowCommit {
        /// Where.
        index: Index,
        /// The committed term.
        committed: Term,
        /// The term in the append.
        found: Term,
    },
    /// An acknowledgement of entries that were never sent.
    #[error("index {matched} acknowledged, the log ends at {last}")]
    AckBeyondLog {
        /// The acknowledged index.
        matched: Index,
        /// The last index here.
        last: Index,
    },
    /// A heartbeat commits what this node does not have: it lost entries that it had acknowledged.
    #[error("commit index {commit} told as durable here, the log ends at {last}")]
    CommitBeyondLog {
        /// The commit index told.
        commit: Index,
        /// The last index here.
        last: Index,
    },
}
