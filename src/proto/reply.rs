//! Replies of the state on the wire, and the refusals that a node makes for it.
//!
//! Laid out by hand because a reply may contain replies: the depth is bounded here.

use bytes::BufMut;
use thiserror::Error;

use crate::kv::{CommandError, Reply};

use super::wire::{FrameReader, FrameWriter, WireError, count};

/// How deep arrays may nest. An EXEC of ranges needs 3.
const DEPTH_MAX: u32 = 8;

mod tag {
    pub(super) const OK: u8 = 0;
    pub(super) const NIL: u8 = 1;
    pub(super) const INTEGER: u8 = 2;
    pub(super) const BULK: u8 = 3;
    pub(super) const SIMPLE: u8 = 4;
    pub(super) const ARRAY: u8 = 5;
    pub(super) const ERROR: u8 = 6;
}

/// Why a node did not execute a request. Each is said only when that is certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// No leader within the deadline.
    #[error("no leader within the deadline")]
    NoLeader,
    /// Back-pressure.
    #[error("too much in flight")]
    Overloaded,
    /// The node is still recovering.
    #[error("the node is recovering its state")]
    Loading,
    /// The disk is full.
    #[error("the disk is full")]
    NoSpace,
    /// The command does not fit in one log entry.
    #[error("the command is too large for one log entry")]
    TooLarge,
    /// The leader's program does not know the command.
    #[error("the leader does not know the command")]
    Unsupported,
}

/// Every refusal at its byte.
const REFUSALS: [Refusal; 6] = [
    Refusal::NoLeader,
    Refusal::Overloaded,
    Refusal::Loading,
    Refusal::NoSpace,
    Refusal::TooLarge,
    Refusal::Unsupported,
];

/// Every error of the state at its byte.
const COMMAND_ERRORS: [CommandError; 7] = [
    CommandError::NotAnInteger,
    CommandError::Overflow,
    CommandError::TooLarge,
    CommandError::SessionExpired,
    CommandError::SessionStale,
    CommandError::OutOfOrder,
    CommandError::ReplyTooLarge,
];

pub(super) fn put_refusal(frame: &mut FrameWriter, refusal: Refusal) {
    frame.fields().put_u8(match refusal {
        Refusal::NoLeader => 0,
        Refusal::Overloaded => 1,
        Refusal::Loading => 2,
        Refusal::NoSpace => 3,
        Refusal::TooLarge => 4,
        Refusal::Unsupported => 5,
    });
}

pub(super) fn refusal(fields: &mut FrameReader) -> Result<Refusal, WireError> {
    let byte = fields.u8("refusal")?;
    REFUSALS.get(usize::from(byte)).copied().ok_or(WireError::Value { field: "refusal" })
}

pub(super) fn put_reply(frame: &mut FrameWriter, reply: &Reply) {
    match reply {
        Reply::Ok => frame.fields().put_u8(tag::OK),
        Reply::Nil => frame.fields().put_u8(tag::NIL),
        Reply::Integer(value) => {
            frame.fields().put_u8(tag::INTEGER);
            frame.fields().put_i64_le(*value);
        }
        Reply::Bulk(bytes) => {
            frame.fields().put_u8(tag::BULK);
            frame.put_counted(bytes);
        }
        Reply::Simple(bytes) => {
            frame.fields().put_u8(tag::SIMPLE);
            frame.put_counted(bytes);
        }
        Reply::Array(items) => {
            frame.fields().put_u8(tag::ARRAY);
            frame.fields().put_u32_le(count(items.len()));
            for item in items {
                put_reply(frame, item);
            }
        }
        Reply::Error(error) => {
            frame.fields().put_u8(tag::ERROR);
            frame.fields().put_u8(match error {
                CommandError::NotAnInteger => 0,
                CommandError::Overflow => 1,
                CommandError::TooLarge => 2,
                CommandError::SessionExpired => 3,
                CommandError::SessionStale => 4,
                CommandError::OutOfOrder => 5,
                CommandError::ReplyTooLarge => 6,
            });
        }
    }
}

pub(super) fn reply(fields: &mut FrameReader) -> Result<Reply, WireError> {
    reply_within(fields, DEPTH_MAX)
}

fn reply_within(fields: &mut FrameReader, depth: u32) -> Result<Reply, WireError> {
    let field = "reply";
    Ok(match fields.u8(field)? {
        tag::OK => Reply::Ok,
        tag::NIL => Reply::Nil,
        tag::INTEGER => Reply::Integer(fields.i64(field)?),
        tag::BULK => Reply::Bulk(fields.counted(field)?),
        tag::SIMPLE => Reply::Simple(fields.counted(field)?),
        tag::ARRAY if depth > 0 => {
            let items = fields.items(1, field)?;
            // Grown as items are read: a nested empty array of 5 bytes must not reserve more than it brings.
            let mut replies = Vec::new();
            for _ in 0..items {
                replies.push(reply_within(fields, depth - 1)?);
            }
            Reply::Array(replies)
        }
        tag::ERROR => {
            let byte = fields.u8(field)?;
            let error = COMMAND_ERRORS.get(usize::from(byte)).cloned();
            Reply::Error(error.ok_or(WireError::Value { field })?)
        }
        _ => return Err(WireError::Value { field }),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use bytes::Bytes;

    use super::*;

    fn encoded(write: impl FnOnce(&mut FrameWriter)) -> FrameReader {
        let mut frame = FrameWriter::new(0, 0);
        write(&mut frame);
        let bytes: Vec<u8> = frame.finish().concat();
        FrameReader::new(Bytes::from(bytes).slice(5..))
    }

    #[test]
    fn every_error_and_refusal_comes_back_from_its_byte() {
        for error in COMMAND_ERRORS {
            let written = Reply::Error(error);
            assert_eq!(reply(&mut encoded(|frame| put_reply(frame, &written))).unwrap(), written);
        }
        for written in REFUSALS {
            assert_eq!(refusal(&mut encoded(|frame| put_refusal(frame, written))).unwrap(), written);
        }
    }

    #[test]
    fn arrays_deeper_than_the_bound_are_refused() {
        let mut nested = Reply::Nil;
        for depth in 0..=DEPTH_MAX {
            let decoded = reply(&mut encoded(|frame| put_reply(frame, &nested)));
            assert_eq!(decoded.unwrap(), nested, "at depth {depth}");
            nested = Reply::Array(vec![nested]);
        }
        let refused = reply(&mut encoded(|frame| put_reply(frame, &nested)));
        assert_eq!(refused, Err(WireError::Value { field: "reply" }));
    }
}
