//! The latest replies of one session, by sequence number.

use std::collections::VecDeque;

use crate::kv::Reply;
use crate::kv::hash::{RowHasher, RowKind, Sum};
use crate::kv::{CommandError, SessionId};

/// Replies kept for one session.
const REPLIES_MAX: usize = 256;

/// Memory that the replies of one session may take.
const BYTES_MAX: u64 = 1024 * 1024;

/// What the table takes for one kept reply beside what the reply holds.
const KEPT_BYTES: u64 = size_of::<Kept>() as u64;

/// The replies that a retry gets instead of a second execution.
///
/// - `kept` is sorted by sequence number; all are above `floor`.
/// - At or below `floor` nothing is known: it was executed and forgotten, or given up, or passed over.
/// - At most [`REPLIES_MAX`] replies and [`BYTES_MAX`] bytes are kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    kept: VecDeque<Kept>,
    floor: u64,
    bytes: u64,
}

#[derive(Clone, Debug)]
struct Kept {
    seq: u64,
    /// `None` if it alone is larger than a session may keep.
    reply: Option<Reply>,
    bytes: u64,
    hash: u128,
}

/// What a window knows of a sequence number.
#[derive(Debug, PartialEq)]
pub(super) enum Known<'a> {
    /// Executed; this was the reply.
    Replied(&'a Reply),
    /// Executed or passed over; the reply is not kept.
    Forgotten,
    /// Not executed, and it may be.
    Unseen,
}

impl Window {
    pub(super) fn known(&self, seq: u64) -> Known<'_> {
        if seq <= self.floor {
            return Known::Forgotten;
        }
        match self.place(seq) {
            Ok(at) => self.kept[at].reply.as_ref().map_or(Known::Forgotten, Known::Replied),
            Err(_) => Known::Unseen,
        }
    }

    /// Returns the highest sequence number that was executed or passed over.
    pub(super) fn newest(&self) -> u64 {
        self.kept.back().map_or(self.floor, |kept| kept.seq)
    }

    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// Returns the memory taken by what is kept.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Keeps the reply of a command that was executed just now, then drops the oldest beyond the bounds.
    pub(super) fn keep(&mut self, session: SessionId, seq: u64, reply: &Reply, sum: &mut Sum) {
        let Err(at) = self.place(seq) else { panic!("session {session:?} executed {seq} twice") };
        let reply_bytes = held_bytes(reply);
        let reply = (reply_bytes <= BYTES_MAX - KEPT_BYTES).then(|| reply.clone());
        let bytes = KEPT_BYTES + if reply.is_some() { reply_bytes } else { 0 };
        let hash = kept_hash(session, seq, reply.as_ref());
        sum.add(hash);
        self.bytes += bytes;
        self.kept.insert(at, Kept { seq, reply, bytes, hash });
        while self.kept.len() > REPLIES_MAX || self.bytes > BYTES_MAX {
            let oldest = self.kept.front().map_or(self.floor, |kept| kept.seq);
            self.raise_floor(oldest, sum);
        }
    }

    /// Forgets everything at or below `floor`.
    pub(super) fn raise_floor(&mut self, floor: u64, sum: &mut Sum) {
        while self.kept.front().is_some_and(|kept| kept.seq <= floor) {
            let Some(kept) = self.kept.pop_front() else { return };
            sum.remove(kept.hash);
            self.bytes -= kept.bytes;
        }
        self.floor = self.floor.max(floor);
    }

    /// Forgets everything, also what a command is yet to be told about.
    pub(super) fn forget_all(&mut self, sum: &mut Sum) {
        self.raise_floor(self.newest(), sum);
    }

    fn place(&self, seq: u64) -> Result<usize, usize> {
        // Sequence numbers grow, so the place is nearly always the end.
        if self.kept.back().is_none_or(|kept| kept.seq < seq) {
            return Err(self.kept.len());
        }
        self.kept.binary_search_by_key(&seq, |kept| kept.seq)
    }

    #[cfg(test)]
    pub(super) fn rescan(&self, session: SessionId, sum: &mut Sum) {
        assert!(self.kept.len() <= REPLIES_MAX && self.bytes <= BYTES_MAX, "{} bytes", self.bytes);
        assert!(self.kept.front().is_none_or(|kept| kept.seq > self.floor));
        assert!(self.kept.iter().zip(self.kept.iter().skip(1)).all(|(a, b)| a.seq < b.seq));
        assert_eq!(self.bytes, self.kept.iter().map(|kept| kept.bytes).sum::<u64>());
        for kept in &self.kept {
            sum.add(kept_hash(session, kept.seq, kept.reply.as_ref()));
        }
    }
}

/// Returns the memory that a reply holds beside its own place.
fn held_bytes(reply: &Reply) -> u64 {
    match reply {
        Reply::Ok | Reply::Nil | Reply::Integer(_) | Reply::Error(_) => 0,
        Reply::Bulk(bytes) | Reply::Simple(bytes) => bytes.len() as u64,
        Reply::Array(items) => items.iter().map(|item| size_of::<Reply>() as u64 + held_bytes(item)).sum(),
    }
}

fn kept_hash(session: SessionId, seq: u64, reply: Option<&Reply>) -> u128 {
    let mut row = RowHasher::new(RowKind::KeptReply);
    row.u64(session.node).u64(session.boot).u64(session.number).u64(seq);
    match reply {
        Some(reply) => hash_reply(&mut row, reply),
        None => {
            row.u8(7);
        }
    }
    row.finish()
}

fn hash_reply(row: &mut RowHasher, reply: &Reply) {
    match reply {
        Reply::Ok => row.u8(0),
        Reply::Nil => row.u8(1),
        Reply::Integer(number) => row.u8(2).u64(number.cast_unsigned()),
        Reply::Bulk(bytes) => row.u8(3).bytes(bytes),
        Reply::Simple(bytes) => row.u8(4).bytes(bytes),
        Reply::Array(items) => {
            row.u8(5).u64(items.len() as u64);
            for item in items {
                hash_reply(row, item);
            }
            row
        }
        Reply::Error(error) => row.u8(6).u8(error_tag(error)),
    };
}

fn error_tag(error: &CommandError) -> u8 {
    match error {
        CommandError::NotAnInteger => 0,
        CommandError::Overflow => 1,
        CommandError::TooLarge => 2,
        CommandError::SessionExpired => 3,
        CommandError::SessionStale => 4,
        CommandError::OutOfOrder => 5,
        CommandError::ReplyTooLarge => 6,
    }
}
