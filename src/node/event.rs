//! What goes into a node and what comes out.

use std::ops::RangeInclusive;

use bytes::{Bytes, BytesMut};

use crate::proto::peer::{ForwardOutcome, PeerMessage};
use crate::raft::{HardState, Index, Message, NodeId, ProtocolViolation, Term};

use super::request::{Outcome, RequestError, WriteSession};

/// The time as the driver reads it, once a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// Milliseconds on a clock that never jumps; its origin does not matter.
    pub monotonic_ms: u64,
    /// Milliseconds since the Unix epoch. May jump; looked at only when a leader is elected.
    pub wall_ms: u64,
}

/// Names a request of a client of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId {
    /// The connection, unique within one life of the process; never 0.
    pub connection: u64,
    /// The number that the connection's owner gave.
    pub number: u64,
    /// Whether it is a write.
    pub is_write: bool,
}

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// A peer said something.
    Message {
        /// The sender, by the transport's word, not the message's.
        from: NodeId,
        /// What it said.
        message: PeerMessage,
    },
    /// A client of this node writes.
    Write {
        /// Who asks.
        request: RequestId,
        /// Under which session.
        session: WriteSession,
        /// The encoded entry, its header still blank.
        entry: BytesMut,
        /// When to give up, in milliseconds of the monotonic clock.
        deadline_ms: u64,
    },
    /// A client of this node wants to read.
    Read {
        /// Who asks.
        request: RequestId,
        /// When to give up, in milliseconds of the monotonic clock.
        deadline_ms: u64,
    },
    /// A connection is gone; nothing more is sent to it.
    Closed {
        /// The connection.
        connection: u64,
    },
    /// Everything up to this persist batch is durable.
    Persisted {
        /// The batch's number.
        seq: u64,
    },
    /// A peer is connected.
    PeerUp {
        /// The peer.
        id: NodeId,
        /// Its storage.
        storage_uuid: u128,
        /// Where clients reach it.
        client_addr: String,
    },
    /// The connection to a peer is gone.
    PeerDown {
        /// The peer.
        id: NodeId,
    },
    /// A peer's process is certainly gone.
    PeerGone {
        /// The peer.
        id: NodeId,
    },
    /// The node is about to stop: hand leadership over if it has it.
    HandOver,
}

/// What one turn asks of the outside, in the order in which it must be carried out.
#[derive(Debug, Default)]
pub struct Actions {
    /// First: append this to the log. It need not be durable before the rest is carried out.
    pub persist: Option<PersistAction>,
    /// Then: send these. The payloads of an append are read from the log.
    pub sends: Vec<(NodeId, Outgoing)>,
    /// Apply these entries, which are committed and durable on a majority, and answer their waiters.
    pub apply: Option<Apply>,
    /// Answer these as [`Outcome::Readable`] once this index is applied.
    pub readable: Vec<(Index, Vec<RequestId>)>,
    /// Answer these now.
    pub completions: Vec<(RequestId, Result<Outcome, RequestError>)>,
    /// Messages that no correct member sends: to be logged. They changed nothing.
    pub violations: Vec<(NodeId, ProtocolViolation)>,
}

/// One append to the log: atomic, reported back by [`Event::Persisted`] once durable.
#[derive(Debug)]
pub struct PersistAction {
    /// The number to report back.
    pub seq: u64,
    /// The new hard state, if it changed.
    pub hard_state: Option<HardState>,
    /// Drop the log from here on first.
    pub truncate_from: Option<Index>,
    /// Append these, consecutive.
    pub entries: Vec<(Index, Term, Bytes)>,
}

/// A message for a peer.
#[derive(Debug)]
pub enum Outgoing {
    /// Consensus.
    Raft(Message),
    /// A client's write, for the leader to propose.
    Forward {
        /// This node's number for it.
        request: u64,
        /// The entry, its time still blank.
        entry: Bytes,
    },
    /// The end of a forwarded write that was not applied.
    ForwardEnded {
        /// The front node's number for it.
        request: u64,
        /// The end.
        outcome: ForwardOutcome,
    },
}

/// Committed entries and who waits for them.
#[derive(Debug)]
pub struct Apply {
    /// The entries.
    pub range: RangeInclusive<Index>,
    /// Waiters by index, increasing; not every entry has one.
    pub waiters: Vec<(Index, Waiter)>,
}

/// Who waits for an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiter {
    /// A client of this node.
    Local(RequestId),
    /// A client of another node, under that node's number.
    Remote {
        /// That node.
        node: NodeId,
        /// Its number for the write.
        request: u64,
    },
}
