//! What members say to each other. Payload bytes travel beside an append, never through the core.

use serde::{Deserialize, Serialize};

use super::types::{Configuration, Index, LogId, Term};

/// One message between two members. The sender is named by the transport, never by the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Asks whether an election in `term` could be won; changes nobody's term (thesis §9.6).
    PreVote {
        /// The term the sender would campaign in: its own plus one.
        term: Term,
        /// The sender's last log id.
        last: LogId,
    },
    /// Answers a pre-vote.
    PreVoteReply {
        /// The asked term when granted, else the voter's own term.
        term: Term,
        /// Whether the voter would vote for the sender in that term.
        granted: bool,
    },
    /// Asks for the vote in `term` (Raft §5.2). Leaves only when the candidate's own vote is durable.
    Vote {
        /// The candidate's term.
        term: Term,
        /// The candidate's last log id.
        last: LogId,
        /// The leader itself asked for this election (thesis §3.10), so the voter's loyalty to it does not count.
        transfer: bool,
    },
    /// Answers a vote request; a grant leaves only when it is durable.
    VoteReply {
        /// The voter's term.
        term: Term,
        /// Whether the vote was given.
        granted: bool,
    },
    /// Replicates `entries` after `prev` (Raft §5.3).
    Append {
        /// The leader's term.
        term: Term,
        /// The log id just before the first entry.
        prev: LogId,
        /// The shape of the entries; their payloads travel beside the message.
        entries: EntrySpan,
        /// The leader's commit index. The receiver trusts it only as far as this append verified its log.
        commit: Index,
        /// The newest read round of the leader.
        read: u64,
    },
    /// Answers an append; a match leaves only when everything up to it is durable.
    AppendReply {
        /// The follower's term.
        term: Term,
        /// What came of it.
        outcome: AppendOutcome,
        /// The read round of the append.
        read: u64,
    },
    /// Tells that the leader is alive.
    Heartbeat {
        /// The leader's term.
        term: Term,
        /// Committed, and known to be durable at the receiver: never more than it acknowledged in this term.
        commit: Index,
        /// The newest read round of the leader.
        read: u64,
    },
    /// Answers a heartbeat, or tells a stale leader of a newer term.
    HeartbeatReply {
        /// The follower's term.
        term: Term,
        /// The read round of the heartbeat.
        read: u64,
    },
    /// A follower asks the leader for a read index (thesis §6.4).
    ReadIndex {
        /// The follower's term.
        term: Term,
        /// The follower's own number for it, never used before, also not before a restart.
        id: u64,
    },
    /// The leader's answer to a follower's question.
    ReadIndexReply {
        /// The leader's term.
        term: Term,
        /// The follower's number.
        id: u64,
        /// The read index, or `None` when the receiver of the question cannot give one.
        index: Option<Index>,
    },
    /// Asks the receiver to campaign at once (thesis §3.10). Sent behind the entries, on their stream.
    TimeoutNow {
        /// The leader's term.
        term: Term,
    },
}

/// What came of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppendOutcome {
    /// The receiver's durable log equals the leader's up to and including this index.
    Matched(Index),
    /// The entry at the append's `prev` did not match.
    Rejected {
        /// The index of the append's `prev`.
        rejected: Index,
        /// Where to try next: the receiver's last log id at or below `rejected` whose term is not above the
        /// `prev`'s (term-hint backtracking: Raft §5.3, etcd's find-conflict-by-term).
        hint: LogId,
    },
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

impl Message {
    /// Returns the term the message speaks of.
    pub fn term(&self) -> Term {
        match self {
            Message::PreVote { term, .. }
            | Message::PreVoteReply { term, .. }
            | Message::Vote { term, .. }
            | Message::VoteReply { term, .. }
            | Message::Append { term, .. }
            | Message::AppendReply { term, .. }
            | Message::Heartbeat { term, .. }
            | Message::HeartbeatReply { term, .. }
            | Message::ReadIndex { term, .. }
            | Message::ReadIndexReply { term, .. }
            | Message::TimeoutNow { term } => *term,
        }
    }
}
