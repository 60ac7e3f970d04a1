//! What members say to each other, as frames: `u32 length | u8 type | fields`, little-endian, laid out by hand.
//!
//! | type | frame | fields after it |
//! |---|---|---|
//! | 0x01 | hello | see [`Hello`] |
//! | 0x02 | hello ack | version u16, hello |
//! | 0x10 | pre-vote | term, last term, last index |
//! | 0x11 | pre-vote reply | term, granted u8 |
//! | 0x12 | vote | term, last term, last index, transfer u8 |
//! | 0x13 | vote reply | term, granted u8 |
//! | 0x14 | append | term, prev term, prev index, commit, read, runs u32, entries u32, (term, count u32)…, size u32…, payload… |
//! | 0x15 | append reply | term, read, 0 and matched index; or 1, rejected index, hint term, hint index |
//! | 0x16 | heartbeat | term, commit, read |
//! | 0x17 | heartbeat reply | term, read |
//! | 0x18 | read index | term, id |
//! | 0x19 | read index reply | term, id, 0; or 1 and index |
//! | 0x1a | timeout now | term |
//! | 0x30 | forward | request, entry |
//! | 0x31 | forward reply | request, 0, index and reply; 1 and leader (0 if unknown); 2 and refusal; 3 |
//!
//! Terms, indexes, rounds and requests are u64 below 2^63. An append's counts and sizes stand before its payloads, so all
//! of them are checked against the frame before anything is built.

mod append;
mod hello;

use bytes::{BufMut, Bytes, BytesMut};

use crate::kv::{LOGGED_REPLY_BYTES_MAX, Reply};
use crate::raft::{AppendOutcome, Index, LogId, Message, NodeId, Term};

pub use hello::{Hello, HelloAck, PROTOCOL_VERSION};

pub use super::reply::Refusal;
use super::reply::{put_refusal, put_reply, refusal, reply};
use super::wire::{COPY_BELOW_BYTES, FrameReader, FrameWriter};
pub use super::wire::{FrameCutter, WireError};

/// What a frame may hold beside one entry, in bytes: the rest of an append.
const FRAME_BYTES_BESIDE_ENTRY: usize = 2 * 1024 * 1024;

/// What surrounds a reply, in bytes: the fields of a forward reply, and one value's room beyond the longest.
const FRAME_BYTES_BESIDE_REPLY: usize = 2 * 1024;
const _: () = assert!(FRAME_BYTES_BESIDE_REPLY <= FRAME_BYTES_BESIDE_ENTRY);

/// Returns the longest frame that a member may announce where entries have up to `entry_bytes_max`: an append, or the reply
/// to a forwarded write. A reply is one value, shorter than an entry, or within [`LOGGED_REPLY_BYTES_MAX`]. Memory is
/// taken as bytes arrive, not for what is announced.
pub fn frame_bytes_max(entry_bytes_max: usize) -> usize {
    let reply_bytes = usize::try_from(LOGGED_REPLY_BYTES_MAX).unwrap_or(usize::MAX);
    (FRAME_BYTES_BESIDE_ENTRY + entry_bytes_max).max(FRAME_BYTES_BESIDE_REPLY.saturating_add(reply_bytes))
}

mod kind {
    pub(super) const HELLO: u8 = 0x01;
    pub(super) const HELLO_ACK: u8 = 0x02;
    pub(super) const PRE_VOTE: u8 = 0x10;
    pub(super) const PRE_VOTE_REPLY: u8 = 0x11;
    pub(super) const VOTE: u8 = 0x12;
    pub(super) const VOTE_REPLY: u8 = 0x13;
    pub(super) const APPEND: u8 = 0x14;
    pub(super) const APPEND_REPLY: u8 = 0x15;
    pub(super) const HEARTBEAT: u8 = 0x16;
    pub(super) const HEARTBEAT_REPLY: u8 = 0x17;
    pub(super) const READ_INDEX: u8 = 0x18;
    pub(super) const READ_INDEX_REPLY: u8 = 0x19;
    pub(super) const TIMEOUT_NOW: u8 = 0x1a;
    pub(super) const FORWARD: u8 = 0x30;
    pub(super) const FORWARD_REPLY: u8 = 0x31;
}

/// One message between members that know each other.
#[derive(Clone, Debug, PartialEq)]
pub enum PeerMessage {
    /// Consensus.
    Raft {
        /// The core's message.
        message: Message,
        /// The bytes of an append's entries, in order; empty beside all other messages.
        payloads: Vec<Bytes>,
    },
    /// A front node hands a write to the leader.
    Forward {
        /// The front node's own number for it, below 2^63.
        request: u64,
        /// The encoded entry, its time still blank.
        entry: Bytes,
    },
    /// The end of a forwarded write.
    ForwardReply {
        /// The number that the front node gave.
        request: u64,
        /// The end.
        outcome: ForwardOutcome,
    },
}

/// What became of a forwarded write.
#[derive(Clone, Debug, PartialEq)]
pub enum ForwardOutcome {
    /// Committed, durable on a majority and applied.
    Applied {
        /// Where in the log.
        index: Index,
        /// What the state answered.
        reply: Reply,
    },
    /// The receiver does not lead and has not proposed it.
    NotLeader {
        /// Who leads, as far as the receiver knows.
        leader: Option<NodeId>,
    },
    /// The leader has not proposed it.
    Refused(Refusal),
    /// It was proposed and its fate is open.
    Lost,
}

/// Which stream carries a message. Streams do not wait for each other; each keeps its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Votes, heartbeats and read indexes: first on the wire.
    Control,
    /// Acknowledgements and replies to forwarded writes.
    Response,
    /// Entries, forwarded writes, and `TimeoutNow`, which must not overtake entries.
    Append,
}

impl PeerMessage {
    /// Returns the bytes of the entries in this message.
    pub fn payload_bytes(&self) -> usize {
        match self {
            PeerMessage::Raft { payloads, .. } => payloads.iter().map(Bytes::len).sum(),
            PeerMessage::Forward { entry, .. } => entry.len(),
            PeerMessage::ForwardReply { .. } => 0,
        }
    }

    /// Returns the stream that carries this message.
    pub fn class(&self) -> Class {
        match self {
            PeerMessage::Raft { message, .. } => match message {
                Message::PreVote { .. }
                | Message::PreVoteReply { .. }
                | Message::Vote { .. }
                | Message::VoteReply { .. }
                | Message::Heartbeat { .. }
                | Message::HeartbeatReply { .. }
                | Message::ReadIndex { .. }
                | Message::ReadIndexReply { .. } => Class::Control,
                Message::AppendReply { .. } => Class::Response,
                Message::Append { .. } | Message::TimeoutNow { .. } => Class::Append,
            },
            PeerMessage::ForwardReply { .. } => Class::Response,
            PeerMessage::Forward { .. } => Class::Append,
        }
    }
}

/// Returns whether an encoded frame is a heartbeat: a newer one makes an older one needless.
pub fn is_heartbeat(frame: &[Bytes]) -> bool {
    frame.first().and_then(|chunk| chunk.get(super::wire::LENGTH_BYTES)) == Some(&kind::HEARTBEAT)
}

/// Encodes one message into the chunks of its frame. Long payloads are not copied.
///
/// # Panics
///
/// If the payloads of an append do not match its sizes, or its entries exceed 4 GiB: broken invariants of the caller.
pub fn encode(message: &PeerMessage) -> Vec<Bytes> {
    match message {
        PeerMessage::Raft { message, payloads } => encode_raft(message, payloads),
        PeerMessage::Forward { request, entry } => {
            let mut frame = FrameWriter::new(kind::FORWARD, 12 + entry.len().min(COPY_BELOW_BYTES));
            frame.fields().put_u64_le(*request);
            frame.put_counted(entry);
            frame.finish()
        }
        PeerMessage::ForwardReply { request, outcome } => {
            let mut frame = FrameWriter::new(kind::FORWARD_REPLY, 64);
            frame.fields().put_u64_le(*request);
            put_outcome(&mut frame, outcome);
            frame.finish()
        }
    }
}

/// Decodes a frame that [`FrameCutter`] took out. Payloads share its memory.
pub fn decode(frame: Bytes) -> Result<PeerMessage, WireError> {
    let mut fields = FrameReader::new(frame);
    let message = match fields.u8("type")? {
        kind::FORWARD => PeerMessage::Forward { request: fields.counter("request")?, entry: fields.counted("entry")? },
        kind::FORWARD_REPLY => {
            PeerMessage::ForwardReply { request: fields.counter("request")?, outcome: outcome(&mut fields)? }
        }
        kind::APPEND => append::decode(&mut fields)?,
        found => PeerMessage::Raft { message: decode_raft(found, &mut fields)?, payloads: Vec::new() },
    };
    fields.finish()?;
    Ok(message)
}

fn encode_raft(message: &Message, payloads: &[Bytes]) -> Vec<Bytes> {
    if let Message::Append { term, prev, entries, commit, read } = message {
        let header = append::Header { term: *term, prev: *prev, commit: *commit, read: *read };
        return append::encode(&header, entries, payloads);
    }
    assert!(payloads.is_empty(), "{} payloads beside {message:?}", payloads.len());
    let mut frame = FrameWriter::new(kind_of(message), 48);
    let fields = frame.fields();
    match message {
        Message::Append { .. } => unreachable!("encoded above"),
        Message::PreVote { term, last } => {
            fields.put_u64_le(term.0);
            put_log_id(fields, *last);
        }
        Message::Vote { term, last, transfer } => {
            fields.put_u64_le(term.0);
            put_log_id(fields, *last);
            fields.put_u8(u8::from(*transfer));
        }
        Message::PreVoteReply { term, granted } | Message::VoteReply { term, granted } => {
            fields.put_u64_le(term.0);
            fields.put_u8(u8::from(*granted));
        }
        Message::AppendReply { term, outcome, read } => {
            fields.put_u64_le(term.0);
            fields.put_u64_le(*read);
            match outcome {
                AppendOutcome::Matched(index) => {
                    fields.put_u8(0);
                    fields.put_u64_le(index.0);
                }
                AppendOutcome::Rejected { rejected, hint } => {
                    fields.put_u8(1);
                    fields.put_u64_le(rejected.0);
                    put_log_id(fields, *hint);
                }
            }
        }
        Message::Heartbeat { term, commit, read } => {
            fields.put_u64_le(term.0);
            fields.put_u64_le(commit.0);
            fields.put_u64_le(*read);
        }
        Message::HeartbeatReply { term, read } => {
            fields.put_u64_le(term.0);
            fields.put_u64_le(*read);
        }
        Message::ReadIndex { term, id } => {
            fields.put_u64_le(term.0);
            fields.put_u64_le(*id);
        }
        Message::ReadIndexReply { term, id, index } => {
            fields.put_u64_le(term.0);
            fields.put_u64_le(*id);
            fields.put_u8(u8::from(index.is_some()));
            if let Some(index) = index {
                fields.put_u64_le(index.0);
            }
        }
        Message::TimeoutNow { term } => fields.put_u64_le(term.0),
    }
    frame.finish()
}

fn kind_of(message: &Message) -> u8 {
    match message {
        Message::PreVote { .. } => kind::PRE_VOTE,
        Message::PreVoteReply { .. } => kind::PRE_VOTE_REPLY,
        Message::Vote { .. } => kind::VOTE,
        Message::VoteReply { .. } => kind::VOTE_REPLY,
        Message::Append { .. } => kind::APPEND,
        Message::AppendReply { .. } => kind::APPEND_REPLY,
        Message::Heartbeat { .. } => kind::HEARTBEAT,
        Message::HeartbeatReply { .. } => kind::HEARTBEAT_REPLY,
        Message::ReadIndex { .. } => kind::READ_INDEX,
        Message::ReadIndexReply { .. } => kind::READ_INDEX_REPLY,
        Message::TimeoutNow { .. } => kind::TIMEOUT_NOW,
    }
}

fn decode_raft(found: u8, fields: &mut FrameReader) -> Result<Message, WireError> {
    if !(kind::PRE_VOTE..=kind::TIMEOUT_NOW).contains(&found) {
        return Err(WireError::Type { found });
    }
    let term = Term(fields.counter("term")?);
    Ok(match found {
        kind::PRE_VOTE => Message::PreVote { term, last: log_id(fields)? },
        kind::PRE_VOTE_REPLY => Message::PreVoteReply { term, granted: fields.bool("granted")? },
        kind::VOTE => Message::Vote { term, last: log_id(fields)?, transfer: fields.bool("transfer")? },
        kind::VOTE_REPLY => Message::VoteReply { term, granted: fields.bool("granted")? },
        kind::APPEND_REPLY => {
            let read = fields.counter("read")?;
            let outcome = match fields.u8("outcome")? {
                0 => AppendOutcome::Matched(index(fields)?),
                1 => AppendOutcome::Rejected { rejected: index(fields)?, hint: log_id(fields)? },
                _ => return Err(WireError::Value { field: "outcome" }),
            };
            Message::AppendReply { term, outcome, read }
        }
        kind::HEARTBEAT => Message::Heartbeat { term, commit: index(fields)?, read: fields.counter("read")? },
        kind::HEARTBEAT_REPLY => Message::HeartbeatReply { term, read: fields.counter("read")? },
        kind::READ_INDEX => Message::ReadIndex { term, id: fields.counter("id")? },
        kind::READ_INDEX_REPLY => {
            let id = fields.counter("id")?;
            let index = if fields.bool("index")? { Some(index(fields)?) } else { None };
            Message::ReadIndexReply { term, id, index }
        }
        kind::TIMEOUT_NOW => Message::TimeoutNow { term },
        _ => return Err(WireError::Type { found }),
    })
}

fn put_outcome(frame: &mut FrameWriter, outcome: &ForwardOutcome) {
    match outcome {
        ForwardOutcome::Applied { index, reply } => {
            frame.fields().put_u8(0);
            frame.fields().put_u64_le(index.0);
            put_reply(frame, reply);
        }
        ForwardOutcome::NotLeader { leader } => {
            frame.fields().put_u8(1);
            frame.fields().put_u64_le(leader.map_or(0, |leader| leader.0));
        }
        ForwardOutcome::Refused(refusal) => {
            frame.fields().put_u8(2);
            put_refusal(frame, *refusal);
        }
        ForwardOutcome::Lost => frame.fields().put_u8(3),
    }
}

fn outcome(fields: &mut FrameReader) -> Result<ForwardOutcome, WireError> {
    Ok(match fields.u8("outcome")? {
        0 => ForwardOutcome::Applied { index: index(fields)?, reply: reply(fields)? },
        1 => {
            let leader = fields.u64("leader")?;
            ForwardOutcome::NotLeader { leader: (leader != 0).then_some(NodeId(leader)) }
        }
        2 => ForwardOutcome::Refused(refusal(fields)?),
        3 => ForwardOutcome::Lost,
        _ => return Err(WireError::Value { field: "outcome" }),
    })
}

fn index(fields: &mut FrameReader) -> Result<Index, WireError> {
    Ok(Index(fields.counter("index")?))
}

fn put_log_id(fields: &mut BytesMut, id: LogId) {
    fields.put_u64_le(id.term.0);
    fields.put_u64_le(id.index.0);
}

fn log_id(fields: &mut FrameReader) -> Result<LogId, WireError> {
    Ok(LogId { term: Term(fields.counter("term")?), index: index(fields)? })
}

#[cfg(test)]
mod tests;
