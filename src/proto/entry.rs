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

use bytes::BytesMut;

use crate::kv::{Operation, Origin};
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

/// Encodes an entry with time 0 and no origin; [`stamp_origin`] and [`stamp_time`] fill them in place.
pub fn encode(body: &Body) -> BytesMut {
    let _ = body;
    unimplemented!("the codec is being built")
}

/// Writes the leader's time into an encoded entry.
pub fn stamp_time(entry: &mut BytesMut, time_ms: u64) {
    let _ = (entry, time_ms);
    unimplemented!("the codec is being built")
}

/// Writes the origin into an encoded entry.
pub fn stamp_origin(entry: &mut BytesMut, origin: &Origin) {
    let _ = (entry, origin);
    unimplemented!("the codec is being built")
}
