//! What a node starts with: its settings, and what its disk remembers.

use thiserror::Error;

use super::types::{Configuration, HardState, Index, LogId, NodeId, Term};

/// The fixed choices of a node. Times are in ticks; the driver decides how long a tick is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This node.
    pub id: NodeId,
    /// Ticks between a leader's heartbeats.
    pub heartbeat_ticks: u32,
    /// The least ticks without a leader before an election; each wait is drawn from `T..2T`.
    pub election_ticks: u32,
    /// The most payload bytes of one append; an entry that is larger alone travels alone.
    pub max_append_bytes: u64,
    /// The most entries of one append.
    pub max_append_entries: u32,
    /// The most unanswered appends to one member.
    pub inflight_messages: u32,
    /// The payload bytes in unanswered appends to one member from which on no more leave.
    pub inflight_bytes: u64,
    /// The most uncommitted payload bytes a leader takes; a first proposal is always taken.
    pub max_uncommitted_bytes: u64,
    /// The most reads that wait for a read index at once.
    pub max_pending_reads: u32,
    /// Where all randomness of the core comes from. Must differ between nodes and between starts of a node.
    pub seed: u64,
}

/// What a node knows when it starts: the log's shape and the hard state, as recovered.
#[derive(Clone, Debug, Default)]
pub struct Boot {
    /// Term, vote and commit hint.
    pub hard_state: HardState,
    /// The log id before the first entry.
    pub purged: LogId,
    /// (Term, payload bytes) of each entry, in order.
    pub entries: Vec<(Term, u32)>,
    /// The configurations by index, increasing: the one in force at `purged` first (the bootstrap one at index 0),
    /// then those in the log.
    pub configurations: Vec<(Index, Configuration)>,
    /// Up to where the state is applied already.
    pub applied: Index,
    /// The log has lost something: the node follows, but neither votes, nor leads, nor acknowledges.
    pub is_suspect: bool,
}

/// Why a node cannot start from what its disk says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BootError {
    /// A setting is 0, or the election timeout does not exceed the heartbeat interval.
    #[error("settings out of range: {0}")]
    Settings(&'static str),
    /// The log ends below what it says is committed: acknowledged entries are gone.
    #[error("the log ends at index {last}, below its own commit index {commit}")]
    CommitBeyondLog {
        /// The commit index on disk.
        commit: Index,
        /// The last index.
        last: Index,
    },
    /// The state is ahead of the log, or behind its first entry.
    #[error("the state is applied up to index {applied}, the log holds {purged} (exclusive) to {last}")]
    AppliedOutsideLog {
        /// The applied index.
        applied: Index,
        /// The index before the first entry.
        purged: Index,
        /// The last index.
        last: Index,
    },
    /// An entry's term is above the durable term, or below the term of the entry before it.
    #[error("term {term} at index {index} is out of order")]
    Terms {
        /// The entry's index.
        index: Index,
        /// The entry's term.
        term: Term,
    },
    /// No configuration, or configurations that are out of order, out of the log, or without voters.
    #[error("the configurations of the log are not valid")]
    Configurations,
}

impl Settings {
    /// Checks the settings against each other.
    pub(crate) fn check(&self) -> Result<(), BootError> {
        let complaint = if self.id.0 == 0 {
            "node id 0"
        } else if self.heartbeat_ticks == 0 {
            "heartbeat_ticks is 0"
        } else if self.election_ticks <= self.heartbeat_ticks {
            "election_ticks must exceed heartbeat_ticks"
        } else if self.max_append_entries == 0 || self.inflight_messages == 0 || self.max_pending_reads == 0 {
            "a limit is 0"
        } else {
            return Ok(());
        };
        Err(BootError::Settings(complaint))
    }
}
