//! What a command or a query answers, before any wire format.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The answer to one command or query. Kept in sessions, so its format is part of the state's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    /// Done.
    Ok,
    /// Nothing there, or a condition that did not hold.
    Nil,
    /// A number.
    Integer(i64),
    /// Bytes.
    Bulk(Bytes),
    /// A short word, such as a type.
    Simple(Bytes),
    /// Several answers.
    Array(Vec<Reply>),
    /// The command was refused by the state; it changed nothing.
    Error(CommandError),
}

impl Reply {
    /// Returns a count as a reply; counts beyond 63 bits do not happen.
    pub(super) fn count(count: u64) -> Reply {
        Reply::Integer(i64::try_from(count).unwrap_or(i64::MAX))
    }
}

/// Why the state refused a command. The text of each is what a Redis client sees after `-`.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum CommandError {
    /// A value that should be a 64-bit integer is not.
    #[error("ERR value is not an integer or out of range")]
    NotAnInteger,
    /// The sum does not fit in 64 bits.
    #[error("ERR increment or decrement would overflow")]
    Overflow,
    /// The value would be longer than the cluster's limit.
    #[error("ERR string exceeds maximum allowed size (proto-max-bulk-len)")]
    TooLarge,
    /// The session is gone; the command was not executed.
    #[error("SESSIONEXPIRED the session is gone; not executed")]
    SessionExpired,
    /// The sequence number is below what the session remembers; not executed now.
    #[error("SESSIONSTALE the sequence number is older than what the session remembers; not executed now")]
    SessionStale,
    /// The command before it on its connection has not been applied; the front node sends both again.
    #[error("ERR out of order; not executed")]
    OutOfOrder,
    /// The reply would be longer than what is kept in memory for one.
    #[error("ERR reply too large; ask for less at a time")]
    ReplyTooLarge,
}
