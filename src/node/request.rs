//! What a front node is asked by its clients, and how it answers.

use thiserror::Error;

use crate::kv::Reply;
use crate::proto::peer::Refusal;
use crate::raft::Index;

/// Under which session a write is executed exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteSession {
    /// The session of the connection that sent it; the node numbers it.
    Connection,
    /// A session opened by `SESSION OPEN`, numbered by the client.
    Opened {
        /// The session.
        session: u64,
        /// The write's number in it.
        seq: u64,
        /// Replies below this are no longer needed; 0 if the client does not say.
        first_unanswered: u64,
    },
    /// None: for commands that may be executed twice without harm.
    None,
}

/// The good end of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The write is committed, durable on a majority and applied at `index`.
    Applied {
        /// The write's place in the log: the revision of what it wrote.
        index: Index,
        /// What the state answered.
        reply: Reply,
    },
    /// A read of the local state is linearizable now.
    Readable,
}

/// Why a request has no good end. The text is what a Redis client sees after `-`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    /// No leader within the deadline. Certainly not executed.
    #[error("CLUSTERDOWN no leader within the deadline; not executed")]
    NoLeader,
    /// The deadline passed after the command was handed on. It may or may not take effect, once.
    #[error("UNCERTAIN the deadline passed after proposing; the command may or may not take effect, once")]
    Uncertain,
    /// Refused for back-pressure. Not executed.
    #[error("OVERLOADED too much in flight; not executed")]
    Overloaded,
    /// The node is still recovering. Not executed.
    #[error("LOADING the node is recovering its state; not executed")]
    Loading,
    /// The disk is full. Not executed.
    #[error("NOSPACE the disk is full; not executed")]
    NoSpace,
    /// The command does not fit in one log entry. Not executed.
    #[error("ERR command too large; not executed")]
    TooLarge,
    /// The leader runs an older program that does not know the command. Not executed.
    #[error("ERR the leader does not know this command yet; not executed")]
    Unsupported,
}

impl From<Refusal> for RequestError {
    fn from(refusal: Refusal) -> RequestError {
        match refusal {
            Refusal::NoLeader => RequestError::NoLeader,
            Refusal::Overloaded => RequestError::Overloaded,
            Refusal::Loading => RequestError::Loading,
            Refusal::NoSpace => RequestError::NoSpace,
            Refusal::TooLarge => RequestError::TooLarge,
            Refusal::Unsupported => RequestError::Unsupported,
        }
    }
}
