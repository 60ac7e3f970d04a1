//! What clients may ask of the state: commands change it through the log, queries read it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Names a replicated session.
///
/// Two pools: sessions opened by `SESSION OPEN` have `node` 0 and the log index that opened them as `number`;
/// a connection's session is named by its front node, that node's boot and a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId {
    /// The front node, 0 for the pool of `SESSION OPEN`.
    pub node: u64,
    /// Drawn at each start of the front node, never the same twice; 0 in the pool of `SESSION OPEN`.
    pub boot: u64,
    /// The connection's number at its front node, from 1, best without gaps, never used twice in one boot; or the index
    /// of the entry that opened the session.
    pub number: u64,
}

/// Who asked, and where in that session's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The session.
    pub session: SessionId,
    /// The command's number in its session, from 1, growing.
    pub seq: u64,
    /// The number of the connection's command before this one; 0 if there is none or order does not matter. Until that one
    /// has been applied, or lies below `first_unanswered`, this one is refused as out of order.
    pub previous: u64,
    /// Replies below this number are no longer needed.
    pub first_unanswered: u64,
}

/// What one log entry asks of the state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Operation {
    /// One command.
    Command(Command),
    /// Several commands under conditions, all or none.
    Exec(Exec),
}

/// A conditional list of commands: the content of one MULTI/EXEC or native transaction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exec {
    /// All must hold, else nothing is executed and the reply is nil.
    pub conditions: Vec<Condition>,
    /// Executed in order, at one index.
    pub commands: Vec<Command>,
}

/// A condition on one key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the sentence of a variant names its fields")]
pub enum Condition {
    /// The key's revision is this one; 0 means that the key is absent.
    Revision { key: Bytes, revision: u64 },
}

/// A change of the state. Variants are only ever added at the end: their order is part of the log's format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the sentence of a variant names its fields")]
pub enum Command {
    /// Sets one key.
    Set(Set),
    /// Appends to a key's value, absent being empty.
    Append { key: Bytes, value: Bytes },
    /// Deletes keys; replies how many were there.
    Delete { keys: Vec<Bytes> },
    /// Sets many keys at once; with `only_if_none_exists`, all or nothing (MSETNX).
    SetMany { pairs: Vec<(Bytes, Bytes)>, only_if_none_exists: bool },
    /// Adds to a decimal integer, absent being 0.
    Increment { key: Bytes, by: i64 },
    /// Deletes every key.
    FlushAll,
    /// Opens a session; replies its number.
    OpenSession,
    /// Ends sessions of connections that are closed, for good: later copies of their commands are refused.
    CloseSessions { sessions: Vec<SessionId> },
    /// Ends every connection session of `node` whose boot is not `boot`; nothing if `boot` itself has ended. The first
    /// command of a new boot does the same.
    CloseOtherBoots { node: u64, boot: u64 },
    /// Executes a query inside a transaction, at the transaction's place.
    Query(Query),
}

/// SET and its options.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Set {
    /// The key.
    pub key: Bytes,
    /// Its new value.
    pub value: Bytes,
    /// When to set.
    pub condition: SetCondition,
    /// Reply with the old value instead of OK (SET … GET).
    pub return_old: bool,
    /// Absolute logged time in milliseconds at which the key ends.
    pub deadline_ms: Option<u64>,
    /// Keep the deadline that the key has.
    pub keep_deadline: bool,
}

/// When a SET takes place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SetCondition {
    /// Always.
    Always,
    /// Only if the key is absent (NX).
    IfAbsent,
    /// Only if the key is there (XX).
    IfPresent,
    /// Only if the value equals this (IFEQ); an absent key fails.
    IfEqual(Bytes),
    /// Only if the value differs from this (IFNE); an absent key passes.
    IfNotEqual(Bytes),
    /// Only if the revision is this one; 0 means absent (IFREV).
    IfRevision(u64),
}

/// A question to the state; never changes it. Variants are only ever added at the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the sentence of a variant names its fields")]
pub enum Query {
    /// The value of a key.
    Get { key: Bytes },
    /// The values of keys.
    GetMany { keys: Vec<Bytes> },
    /// How many of the keys are there, repeats counted.
    Exists { keys: Vec<Bytes> },
    /// The length of a value in bytes; 0 if absent.
    Length { key: Bytes },
    /// The type of a key: `string` or `none`.
    Type { key: Bytes },
    /// The value and revision of a key, nil if absent.
    GetRevision { key: Bytes },
    /// How many keys there are.
    Count,
    /// The keys that match a glob.
    Keys { pattern: Bytes },
    /// Keys and values from `start` (inclusive; `None` from the first) to `end` (exclusive; `None` to the last), at most
    /// `limit` keys (`u64::MAX` for all): one flat array of key, value and, if asked for, revision.
    Range { start: Option<Bytes>, end: Option<Bytes>, limit: u64, with_revision: bool },
    /// One step of an ordered scan: looks at `count` keys after `after` (at least one; from the first if `None`) and
    /// replies an array of two: the key after which to go on, nil at the end, and the array of keys that match.
    Scan { after: Option<Bytes>, count: u64, pattern: Option<Bytes> },
}
