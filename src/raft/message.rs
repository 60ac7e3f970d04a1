//! What members say to each other. Payload bytes travel beside an append, never through the core.

use serde::{Deserialize, Serialize};

use super::types::{Configuration, Index, LogId, Term};

/// One message between two members. The sender is named by the transport, never by the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Asks whether an election in `term` could be won; changes nobody's term (thesis §9.6).
    PreVote { term: Term, last: LogId },
    /// Answers a pre-vote. When granted `term` echoes the asked term, else it is the voter's own term.
    PreVoteReply { term: Term, granted: bool },
    /// Asks for the vote in `term` (Raft §5.2). Leaves only when the candidate's own vote is durable.
    Vote { term: Term, last: LogId },
    /// Answers a vote request; a grant leaves only when it is durable.
    VoteReply { term: Term, granted: bool },
    /// Replicates `entries` after `prev` (Raft §5.3). `read` is the newest read round this message carries.
    Append { term: Term, prev: LogId, entries: EntrySpan, commit: Index, read: u64 },
    /// Answers an append; a match leaves only when everything up to it is durable.
    AppendReply { term: Term, outcome: AppendOutcome, read: u64 },
    /// Tells that the leader is alive; `commit` never exceeds what is known to match at the receiver.
    Heartbeat { term: Term, commit: Index, read: u64 },
    /// Answers a heartbeat and echoes its read round.
    HeartbeatReply { term: Term, read: u64 },
    /// A follower asks the leader for a read index; `id` is the follower's own, never reused.
    ReadIndex { term: Term, id: u64 },
    /// The leader's answer; `index` is `None` when it cannot confirm its leadership.
    ReadIndexReply { term: Term, id: u64, index: Option<Index> },
    /// Asks the receiver to campaign at once (thesis §3.10). Sent behind the entries, on their stream.
    TimeoutNow { term: Term },
}

/// What came of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppendOutcome {
    /// The receiver's durable log equals the leader's up to and including this index.
    Matched(Index),
    /// The entry at `rejected` (the append's `prev`) did not match; `hint` is where to try next
    /// (term-hint backtracking, thesis §5.3 and etcd's find-conflict-by-term).
    Rejected { rejected: Index, hint: LogId },
}

/// The shape of consecutive entries: enough for the core, without their bytes.
///
/// - The counts of `terms` add up to `sizes.len()`; terms never decrease.
/// - `configurations` holds the content of each configuration entry in the span, by index, increasing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntrySpan {
    /// Runs of (term, number of entries).
    pub terms: Vec<(Term, u32)>,
    /// Payload bytes of each entry, in order.
    pub sizes: Vec<u32>,
    /// The configurations among the entries.
    pub configurations: Vec<(Index, Configuration)>,
}
