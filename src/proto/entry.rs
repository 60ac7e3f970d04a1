//! The body of one log entry: a fixed header laid out by hand, then a bincode body.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | format version, 1 |
//! | 1 | 1 | kind: 0 no-op, 1 command, 2 exec, 3 configuration, 4 time, 5 cluster version |
//! | 2 | 1 | codec of the body: 0 none, 1 bincode 1.3 (fixed-width, little-endian) |
//! | 3 | 1 | flags: bit 0, an origin is present |
//! | 4 | 4 | reserved, 0 |
//! | 8 | 8 | leader time, milliseconds since the Unix epoch |
//! | 16 | 24 | session: node, boot, number |
//! | 40 | 8 | sequence |
//! | 48 | 8 | the connection's previous sequence |
//! | 56 | 8 | the session's first unanswered sequence |
//! | 64 | … | body |
//!
//! No-op and time entries have codec 0 and no body. Without the origin flag the bytes 16 to 63 are 0. All integers are
//! little-endian.

use bytes::BytesMut;
use thiserror::Error;

use super::codec::{self, DecodeError};
use crate::kv::{Operation, Origin, SessionId};
use crate::raft::Configuration;

/// Bytes of the header.
pub const HEADER_BYTES: usize = 64;

/// What an entry carries.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Nothing: a leader's first entry.
    Noop,
    /// Work for the state.
    Operation(Operation),
    /// The members.
    Configuration(Configuration),
    /// Only the time.
    Time,
    /// The version that new commands may assume.
    ClusterVersion(u32),
}

/// One decoded entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Leader time in milliseconds.
    pub time_ms: u64,
    /// Who asked.
    pub origin: Option<Origin>,
    /// What it carries.
    pub body: Body,
}

/// What sort of body an entry has: byte 1 of its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// A leader's first entry.
    Noop = 0,
    /// One command.
    Command = 1,
    /// A conditional list of commands.
    Exec = 2,
    /// The members.
    Configuration = 3,
    /// Only the time.
    Time = 4,
    /// The version that new commands may assume.
    ClusterVersion = 5,
}

/// The header of an entry, read without touching the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the body is.
    pub kind: Kind,
    /// Leader time in milliseconds.
    pub time_ms: u64,
    /// Who asked.
    pub origin: Option<Origin>,
}

/// Why bytes are not an entry this version understands.
#[derive(Debug, Error)]
pub enum EntryError {
    /// Fewer bytes than a header.
    #[error("an entry of {bytes} bytes has no room for its header of {HEADER_BYTES}")]
    Short {
        /// How many there are.
        bytes: usize,
    },
    /// A format version of a later Kontiki.
    #[error("entry format version {0} is unknown")]
    UnknownVersion(u8),
    /// A kind of a later Kontiki.
    #[error("entry kind {0} is unknown")]
    UnknownKind(u8),
    /// A codec of a later Kontiki, or one that does not fit the kind.
    #[error("entry codec {codec} is unknown or does not fit kind {kind:?}")]
    UnknownCodec {
        /// The codec's id.
        codec: u8,
        /// What the body is.
        kind: Kind,
    },
    /// Unknown flags, or a field that should be 0 is not.
    #[error("entry header is malformed")]
    MalformedHeader,
    /// The body does not decode as its kind.
    #[error("entry body of kind {kind:?} is malformed")]
    MalformedBody {
        /// What the body should be.
        kind: Kind,
        /// Why it is not.
        source: DecodeError,
    },
    /// A body where none may be.
    #[error("an entry of kind {kind:?} has a body of {bytes} bytes")]
    UnexpectedBody {
        /// What the entry is.
        kind: Kind,
        /// How many bytes follow the header.
        bytes: usize,
    },
}

const VERSION: u8 = 1;
const FLAG_ORIGIN: u8 = 1;

const KIND_AT: usize = 1;
const CODEC_AT: usize = 2;
const FLAGS_AT: usize = 3;
const RESERVED_AT: usize = 4;
const TIME_AT: usize = 8;
const ORIGIN_AT: usize = 16;

/// Encodes an entry with time 0 and no origin; [`stamp_origin`] and [`stamp_time`] fill them in place.
pub fn encode(body: &Body) -> BytesMut {
    match body {
        Body::Noop => blank(Kind::Noop, 0),
        Body::Time => blank(Kind::Time, 0),
        Body::Operation(Operation::Command(command)) => with_body(Kind::Command, command),
        Body::Operation(Operation::Exec(exec)) => with_body(Kind::Exec, exec),
        Body::Configuration(configuration) => with_body(Kind::Configuration, configuration),
        Body::ClusterVersion(version) => with_body(Kind::ClusterVersion, version),
    }
}

/// Writes the leader's time into an encoded entry.
///
/// # Panics
///
/// If `entry` is shorter than a header.
pub fn stamp_time(entry: &mut BytesMut, time_ms: u64) {
    write_u64(entry, TIME_AT, time_ms);
}

/// Writes the origin into an encoded entry, over one that may be there.
///
/// # Panics
///
/// If `entry` is shorter than a header.
pub fn stamp_origin(entry: &mut BytesMut, origin: &Origin) {
    let Origin { session, seq, previous, first_unanswered } = *origin;
    let fields = [session.node, session.boot, session.number, seq, previous, first_unanswered];
    for (at, field) in (ORIGIN_AT..HEADER_BYTES).step_by(8).zip(fields) {
        write_u64(entry, at, field);
    }
    entry[FLAGS_AT] |= FLAG_ORIGIN;
}

/// Reads an entry's header; the body is neither read nor checked.
///
/// # Errors
///
/// [`EntryError`] if the header is short, malformed or of a later version.
pub fn header(entry: &[u8]) -> Result<Header, EntryError> {
    let Some(header) = entry.first_chunk::<HEADER_BYTES>() else {
        return Err(EntryError::Short { bytes: entry.len() });
    };
    if header[0] != VERSION {
        return Err(EntryError::UnknownVersion(header[0]));
    }
    let kind = Kind::from_byte(header[KIND_AT])?;
    if header[CODEC_AT] != kind.codec() {
        return Err(EntryError::UnknownCodec { codec: header[CODEC_AT], kind });
    }
    if header[FLAGS_AT] & !FLAG_ORIGIN != 0 || header[RESERVED_AT..TIME_AT] != [0; 4] {
        return Err(EntryError::MalformedHeader);
    }
    let origin = if header[FLAGS_AT] & FLAG_ORIGIN != 0 {
        Some(read_origin(header))
    } else if header[ORIGIN_AT..].iter().all(|byte| *byte == 0) {
        None
    } else {
        return Err(EntryError::MalformedHeader);
    };
    Ok(Header { kind, time_ms: read_u64(header, TIME_AT), origin })
}

/// Decodes one entry that fills `entry` exactly. Keys and values are copied out of it.
///
/// # Errors
///
/// [`EntryError`], telling what a later version may understand from what is malformed.
pub fn decode(entry: &[u8]) -> Result<Entry, EntryError> {
    let Header { kind, time_ms, origin } = header(entry)?;
    let rest = &entry[HEADER_BYTES..];
    let malformed = |source| EntryError::MalformedBody { kind, source };
    let body = match kind {
        Kind::Noop | Kind::Time if !rest.is_empty() => {
            return Err(EntryError::UnexpectedBody { kind, bytes: rest.len() });
        }
        Kind::Noop => Body::Noop,
        Kind::Time => Body::Time,
        Kind::Command => Body::Operation(Operation::Command(codec::decode(rest).map_err(malformed)?)),
        Kind::Exec => Body::Operation(Operation::Exec(codec::decode(rest).map_err(malformed)?)),
        Kind::Configuration => Body::Configuration(codec::decode(rest).map_err(malformed)?),
        Kind::ClusterVersion => Body::ClusterVersion(codec::decode(rest).map_err(malformed)?),
    };
    Ok(Entry { time_ms, origin, body })
}

impl Kind {
    fn from_byte(byte: u8) -> Result<Kind, EntryError> {
        match byte {
            0 => Ok(Kind::Noop),
            1 => Ok(Kind::Command),
            2 => Ok(Kind::Exec),
            3 => Ok(Kind::Configuration),
            4 => Ok(Kind::Time),
            5 => Ok(Kind::ClusterVersion),
            unknown => Err(EntryError::UnknownKind(unknown)),
        }
    }

    fn codec(self) -> u8 {
        match self {
            Kind::Noop | Kind::Time => codec::NONE,
            Kind::Command | Kind::Exec | Kind::Configuration | Kind::ClusterVersion => codec::BINCODE_1,
        }
    }
}

fn with_body<T: serde::Serialize>(kind: Kind, body: &T) -> BytesMut {
    let mut entry = blank(kind, codec::encoded_bytes(body));
    codec::encode_into(body, &mut entry);
    entry
}

fn blank(kind: Kind, body_bytes: usize) -> BytesMut {
    let mut entry = BytesMut::with_capacity(HEADER_BYTES + body_bytes);
    entry.resize(HEADER_BYTES, 0);
    entry[0] = VERSION;
    entry[KIND_AT] = kind as u8;
    entry[CODEC_AT] = kind.codec();
    entry
}

fn read_origin(header: &[u8; HEADER_BYTES]) -> Origin {
    let field = |n: usize| read_u64(header, ORIGIN_AT + 8 * n);
    Origin {
        session: SessionId { node: field(0), boot: field(1), number: field(2) },
        seq: field(3),
        previous: field(4),
        first_unanswered: field(5),
    }
}

fn read_u64(header: &[u8; HEADER_BYTES], at: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&header[at..at + 8]);
    u64::from_le_bytes(field)
}

fn write_u64(entry: &mut BytesMut, at: usize, value: u64) {
    assert!(entry.len() >= HEADER_BYTES, "an encoded entry has a header, this one has {} bytes", entry.len());
    entry[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;
