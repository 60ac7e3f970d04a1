//! What native clients and nodes say to each other, as frames: `u32 length | u8 type | fields`, little-endian.
//!
//! A client opens a bidirectional stream; its first frame is a hello, the node's first a welcome or a denial. Then calls
//! go one way, each with an id of the client's choosing, and their ends come back in any order.
//!
//! | type | frame | fields after it |
//! |---|---|---|
//! | 0x40 | hello | magic u32, version min u16, version max u16, password |
//! | 0x41 | open session | id, deadline ms u32 |
//! | 0x42 | write | id, deadline ms u32, session, sequence, first unanswered, entry |
//! | 0x43 | query | id, deadline ms u32, query |
//! | 0x44 | ping | id, deadline ms u32; not answered: QUIC's acknowledgement is the sign of life |
//! | 0x50 | welcome | version u16, node, longest entry u32, leader |
//! | 0x51 | denied | 0 version; 1 proof |
//! | 0x52 | applied | id, index, reply |
//! | 0x53 | answer | id, reply |
//! | 0x54 | failed | id, 0 and refusal u8, or 1 (uncertain), leader |
//!
//! Ids, sessions, sequences and indexes are u64; an entry is one of [`super::entry`] with time and origin blank, a query
//! one of [`super::codec`]; password, leader (a client address, empty if unknown), entry and query follow their u32 length.

use bytes::{BufMut, Bytes};

use crate::kv::{Query, Reply};
use crate::raft::{Index, NodeId};

use super::codec;
pub use super::reply::Refusal;
use super::reply::{put_refusal, put_reply, refusal, reply};
use super::wire::{COPY_BELOW_BYTES, FrameReader, FrameWriter, put_text};
pub use super::wire::{FrameCutter, WireError};

/// The only version of the native protocol so far.
pub const NATIVE_VERSION: u16 = 1;

/// A hello is shorter than this: what is read of a client before it has proved itself.
pub const HELLO_BYTES_MAX: usize = 2048;

/// What a call holds beside its entry or query, at most.
pub const CALL_BYTES_BESIDE_ENTRY: usize = 64;

/// The longest frame that a node sends: a reply of 60 MiB and what surrounds it.
pub const REPLY_FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Calls of one stream that may be unanswered at a time.
pub const CALLS_IN_FLIGHT_MAX: usize = 256;

/// Tells a hello from other bytes.
const MAGIC: u32 = u32::from_le_bytes(*b"KNTC");

const PASSWORD_BYTES_MAX: usize = 1024;
const ADDRESS_BYTES_MAX: usize = 262;

mod kind {
    pub(super) const HELLO: u8 = 0x40;
    pub(super) const OPEN_SESSION: u8 = 0x41;
    pub(super) const WRITE: u8 = 0x42;
    pub(super) const QUERY: u8 = 0x43;
    pub(super) const PING: u8 = 0x44;
    pub(super) const WELCOME: u8 = 0x50;
    pub(super) const DENIED: u8 = 0x51;
    pub(super) const APPLIED: u8 = 0x52;
    pub(super) const ANSWER: u8 = 0x53;
    pub(super) const FAILED: u8 = 0x54;
}

/// How a client introduces itself on each stream.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientHello {
    /// The oldest version that it speaks.
    pub version_min: u16,
    /// The newest version that it speaks.
    pub version_max: u16,
    /// The cluster's password; empty if it has none or proves itself by a certificate.
    pub password: Bytes,
}

/// One call of a client.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientCall {
    /// The client's number for it, not in use on this stream.
    pub id: u64,
    /// How long the node may take, in milliseconds.
    pub deadline_ms: u32,
    /// What is asked.
    pub call: Call,
}

/// What a client may ask.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// A session, so that writes can be repeated safely.
    OpenSession,
    /// A write that takes effect once, however often and wherever it is sent.
    Write {
        /// The session.
        session: u64,
        /// The write's number in it, from 1.
        seq: u64,
        /// Replies below this number are no longer needed.
        first_unanswered: u64,
        /// The encoded entry of an operation; time and origin blank.
        entry: Bytes,
    },
    /// A linearizable read.
    Query(Query),
    /// Nothing; it has no end. The connection's acknowledgement tells that the node is there.
    Ping,
}

/// What a node says to a client.
#[derive(Clone, Debug, PartialEq)]
pub enum ServerFrame {
    /// The stream is open for calls.
    Welcome {
        /// The version that both speak.
        version: u16,
        /// Who answers.
        node: NodeId,
        /// The longest entry that it takes, in bytes.
        entry_bytes_max: u32,
        /// Where clients reach the leader; empty if it is not known.
        leader: String,
    },
    /// The stream is not opened.
    Denied(Denial),
    /// The end of one call.
    Ended {
        /// The client's number for it.
        id: u64,
        /// The end.
        end: CallEnd,
    },
}

/// Why a client is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// No version of the protocol is spoken by both.
    Version,
    /// Neither a certificate nor the password proves the client.
    Proof,
}

/// How one call ended.
#[derive(Clone, Debug, PartialEq)]
pub enum CallEnd {
    /// The write is committed, durable on a majority and applied.
    Applied {
        /// Where in the log.
        index: Index,
        /// What the state answered.
        reply: Reply,
    },
    /// The answer to a query.
    Answer(Reply),
    /// There is no result.
    Failed {
        /// Why.
        failure: Failure,
        /// Where clients reach the leader; empty if it is not known.
        leader: String,
    },
}

/// Why a call has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Certainly not executed.
    Refused(Refusal),
    /// The deadline passed after proposing: it may or may not take effect, once.
    Uncertain,
}

impl ClientHello {
    /// Encodes the frame.
    pub fn encode(&self) -> Vec<Bytes> {
        let mut frame = FrameWriter::new(kind::HELLO, 12 + self.password.len());
        frame.fields().put_u32_le(MAGIC);
        frame.fields().put_u16_le(self.version_min);
        frame.fields().put_u16_le(self.version_max);
        frame.put_counted(&self.password);
        frame.finish()
    }

    /// Decodes a frame; anything but a client's hello is an error.
    pub fn decode(frame: Bytes) -> Result<ClientHello, WireError> {
        let mut fields = FrameReader::new(frame);
        match fields.u8("type")? {
            kind::HELLO => {}
            found => return Err(WireError::Type { found }),
        }
        if fields.u32("magic")? != MAGIC {
            return Err(WireError::Value { field: "magic" });
        }
        let (version_min, version_max) = (fields.u16("version_min")?, fields.u16("version_max")?);
        let password = fields.counted("password")?;
        fields.finish()?;
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(WireError::Value { field: "password" });
        }
        Ok(ClientHello { version_min, version_max, password })
    }
}

impl ClientCall {
    /// Encodes the frame. A long entry is not copied.
    pub fn encode(&self) -> Vec<Bytes> {
        let start = |kind, expected| {
            let mut frame = FrameWriter::new(kind, 12 + expected);
            frame.fields().put_u64_le(self.id);
            frame.fields().put_u32_le(self.deadline_ms);
            frame
        };
        match &self.call {
            Call::OpenSession => start(kind::OPEN_SESSION, 0).finish(),
            Call::Ping => start(kind::PING, 0).finish(),
            Call::Write { session, seq, first_unanswered, entry } => {
                let mut frame = start(kind::WRITE, 28 + entry.len().min(COPY_BELOW_BYTES));
                frame.fields().put_u64_le(*session);
                frame.fields().put_u64_le(*seq);
                frame.fields().put_u64_le(*first_unanswered);
                frame.put_counted(entry);
                frame.finish()
            }
            Call::Query(query) => {
                let query = codec::encode(query);
                let mut frame = start(kind::QUERY, 4 + query.len().min(COPY_BELOW_BYTES));
                frame.put_counted(&query);
                frame.finish()
            }
        }
    }

    /// Decodes a frame that [`FrameCutter`] took out. An entry shares its memory and is not looked into.
    pub fn decode(frame: Bytes) -> Result<ClientCall, WireError> {
        let mut fields = FrameReader::new(frame);
        let found = fields.u8("type")?;
        if !(kind::OPEN_SESSION..=kind::PING).contains(&found) {
            return Err(WireError::Type { found });
        }
        let (id, deadline_ms) = (fields.u64("id")?, fields.u32("deadline")?);
        let call = match found {
            kind::OPEN_SESSION => Call::OpenSession,
            kind::PING => Call::Ping,
            kind::WRITE => Call::Write {
                session: fields.u64("session")?,
                seq: fields.u64("seq")?,
                first_unanswered: fields.u64("first_unanswered")?,
                entry: fields.counted("entry")?,
            },
            kind::QUERY => {
                let query = codec::decode(&fields.counted("query")?);
                Call::Query(query.map_err(|_| WireError::Value { field: "query" })?)
            }
            _ => return Err(WireError::Type { found }),
        };
        fields.finish()?;
        Ok(ClientCall { id, deadline_ms, call })
    }
}

impl ServerFrame {
    /// Encodes the frame. Long values are not copied.
    pub fn encode(&self) -> Vec<Bytes> {
        match self {
            ServerFrame::Welcome { version, node, entry_bytes_max, leader } => {
                let mut frame = FrameWriter::new(kind::WELCOME, 18 + leader.len());
                frame.fields().put_u16_le(*version);
                frame.fields().put_u64_le(node.0);
                frame.fields().put_u32_le(*entry_bytes_max);
                put_text(frame.fields(), leader);
                frame.finish()
            }
            ServerFrame::Denied(denial) => {
                let mut frame = FrameWriter::new(kind::DENIED, 1);
                frame.fields().put_u8(match denial {
                    Denial::Version => 0,
                    Denial::Proof => 1,
                });
                frame.finish()
            }
            ServerFrame::Ended { id, end } => encode_end(*id, end),
        }
    }

    /// Decodes a frame that [`FrameCutter`] took out. Long values share its memory.
    pub fn decode(frame: Bytes) -> Result<ServerFrame, WireError> {
        let mut fields = FrameReader::new(frame);
        let decoded = match fields.u8("type")? {
            kind::WELCOME => ServerFrame::Welcome {
                version: fields.u16("version")?,
                node: NodeId(fields.u64("node")?),
                entry_bytes_max: fields.u32("entry_bytes_max")?,
                leader: fields.text(ADDRESS_BYTES_MAX, "leader")?,
            },
            kind::DENIED => ServerFrame::Denied(match fields.u8("denial")? {
                0 => Denial::Version,
                1 => Denial::Proof,
                _ => return Err(WireError::Value { field: "denial" }),
            }),
            found @ (kind::APPLIED | kind::ANSWER | kind::FAILED) => {
                ServerFrame::Ended { id: fields.u64("id")?, end: decode_end(found, &mut fields)? }
            }
            found => return Err(WireError::Type { found }),
        };
        fields.finish()?;
        Ok(decoded)
    }
}

fn encode_end(id: u64, end: &CallEnd) -> Vec<Bytes> {
    let start = |kind| {
        let mut frame = FrameWriter::new(kind, 64);
        frame.fields().put_u64_le(id);
        frame
    };
    match end {
        CallEnd::Applied { index, reply } => {
            let mut frame = start(kind::APPLIED);
            frame.fields().put_u64_le(index.0);
            put_reply(&mut frame, reply);
            frame.finish()
        }
        CallEnd::Answer(reply) => {
            let mut frame = start(kind::ANSWER);
            put_reply(&mut frame, reply);
            frame.finish()
        }
        CallEnd::Failed { failure, leader } => {
            let mut frame = start(kind::FAILED);
            match failure {
                Failure::Refused(refusal) => {
                    frame.fields().put_u8(0);
                    put_refusal(&mut frame, *refusal);
                }
                Failure::Uncertain => frame.fields().put_u8(1),
            }
            put_text(frame.fields(), leader);
            frame.finish()
        }
    }
}

fn decode_end(found: u8, fields: &mut FrameReader) -> Result<CallEnd, WireError> {
    Ok(match found {
        kind::APPLIED => CallEnd::Applied { index: Index(fields.counter("index")?), reply: reply(fields)? },
        kind::ANSWER => CallEnd::Answer(reply(fields)?),
        _ => {
            let failure = match fields.u8("failure")? {
                0 => Failure::Refused(refusal(fields)?),
                1 => Failure::Uncertain,
                _ => return Err(WireError::Value { field: "failure" }),
            };
            CallEnd::Failed { failure, leader: fields.text(ADDRESS_BYTES_MAX, "leader")? }
        }
    })
}

#[cfg(test)]
mod tests;
