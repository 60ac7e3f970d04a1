//! Frames and fields shared by the peer and the native protocol: `u32 length | u8 type | fields`, little-endian.
//!
//! The length counts what follows it. It is checked before anything is allocated, and a decoder never reads past its
//! frame, never trusts a count before comparing it with the bytes that are there, and never panics.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use thiserror::Error;

/// Bytes of the length before each frame.
pub(super) const LENGTH_BYTES: usize = 4;

/// The largest index, term or other counter that a frame may carry: arithmetic on it cannot overflow.
pub(super) const COUNTER_MAX: u64 = u64::MAX >> 1;

/// Why bytes are not a frame of ours. Whoever sent them breaks the protocol: the connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WireError {
    /// The frame is longer than its reader allows.
    #[error("frame of {bytes} bytes, at most {limit} allowed")]
    FrameTooLarge {
        /// What the length field says.
        bytes: u64,
        /// What the reader allows.
        limit: u64,
    },
    /// A field reaches past the end of its frame.
    #[error("frame ends inside {field}")]
    Truncated {
        /// The field.
        field: &'static str,
    },
    /// Bytes follow the last field.
    #[error("{bytes} bytes after the last field")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// The type byte is unknown, or not allowed here.
    #[error("frame type {found:#04x} is not expected here")]
    Type {
        /// The type byte.
        found: u8,
    },
    /// A field has a value that it cannot have.
    #[error("{field} has an impossible value")]
    Value {
        /// The field.
        field: &'static str,
    },
}

/// Cuts a byte stream into frames, without their lengths: each is the type byte and the fields.
///
/// - A frame that arrives in one chunk shares its memory; only frames that straddle chunks are copied.
/// - Memory held is bounded by the limit, and grows only with bytes that have arrived.
pub struct FrameCutter {
    limit: usize,
    /// What was pushed and not yet looked at.
    chunk: Bytes,
    /// The start of a frame whose rest has not come, its length field included.
    partial: BytesMut,
}

impl FrameCutter {
    /// Returns a cutter for frames of at most `limit` bytes, their length field aside.
    pub fn new(limit: usize) -> FrameCutter {
        FrameCutter { limit, chunk: Bytes::new(), partial: BytesMut::new() }
    }

    /// Changes the limit for the frames from here on.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Adds the stream's next bytes.
    ///
    /// # Panics
    ///
    /// If [`FrameCutter::take_frame`] was not called until it returned `None` since the last push.
    pub fn push(&mut self, chunk: Bytes) {
        assert!(self.chunk.is_empty(), "{} bytes were not looked at yet", self.chunk.len());
        self.chunk = chunk;
    }

    /// Returns the next whole frame, or `None` until more is pushed.
    ///
    /// # Errors
    ///
    /// If a length is 0 or above the limit. The stream is of no use afterwards.
    pub fn take_frame(&mut self) -> Result<Option<Bytes>, WireError> {
        if self.partial.is_empty()
            && let Some(bytes) = self.frame_bytes(&self.chunk)?
            && self.chunk.len() - LENGTH_BYTES >= bytes
        {
            self.chunk.advance(LENGTH_BYTES);
            return Ok(Some(self.chunk.split_to(bytes)));
        }
        self.fill_partial(LENGTH_BYTES);
        let Some(bytes) = self.frame_bytes(&self.partial)? else {
            return Ok(None);
        };
        self.fill_partial(LENGTH_BYTES + bytes);
        if self.partial.len() < LENGTH_BYTES + bytes {
            return Ok(None);
        }
        self.partial.advance(LENGTH_BYTES);
        Ok(Some(self.partial.split().freeze()))
    }

    /// Moves bytes from the chunk until `partial` has `bytes` of them or the chunk is used up.
    fn fill_partial(&mut self, bytes: usize) {
        let missing = bytes.saturating_sub(self.partial.len()).min(self.chunk.len());
        self.partial.extend_from_slice(&self.chunk.split_to(missing));
    }

    /// Returns what the length at the start of `bytes` says, once it is there.
    fn frame_bytes(&self, bytes: &[u8]) -> Result<Option<usize>, WireError> {
        let Some(length) = bytes.first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*length);
        match usize::try_from(length).unwrap_or(usize::MAX) {
            0 => Err(WireError::Truncated { field: "type" }),
            bytes if bytes <= self.limit => Ok(Some(bytes)),
            _ => Err(WireError::FrameTooLarge { bytes: u64::from(length), limit: self.limit as u64 }),
        }
    }
}

/// Writes one frame: small fields into one buffer, long payloads as chunks of their own, not copied.
pub(super) struct FrameWriter {
    fields: BytesMut,
    /// Where in `fields` each long payload stands.
    long: Vec<(usize, Bytes)>,
}

/// Payloads shorter than this are copied into the frame: cheaper than a chunk, and they pin no log segment.
pub(super) const COPY_BELOW_BYTES: usize = 1024;

impl FrameWriter {
    /// Starts a frame of type `kind`. `expected` is a hint: how many bytes its fields and short payloads will take.
    pub(super) fn new(kind: u8, expected: usize) -> FrameWriter {
        let mut fields = BytesMut::with_capacity(LENGTH_BYTES + 1 + expected);
        fields.put_u32_le(0); // Becomes the length in `finish`.
        fields.put_u8(kind);
        FrameWriter { fields, long: Vec::new() }
    }

    /// Returns the buffer for small fields.
    pub(super) fn fields(&mut self) -> &mut BytesMut {
        &mut self.fields
    }

    /// Adds bytes whose length the reader knows already.
    pub(super) fn put_payload(&mut self, payload: &Bytes) {
        if payload.len() < COPY_BELOW_BYTES {
            self.fields.extend_from_slice(payload);
        } else {
            self.long.push((self.fields.len(), payload.clone()));
        }
    }

    /// Adds a length as u32, then the bytes.
    pub(super) fn put_counted(&mut self, payload: &Bytes) {
        self.fields.put_u32_le(count(payload.len()));
        self.put_payload(payload);
    }

    /// Returns the chunks of the frame, its length filled in.
    pub(super) fn finish(mut self) -> Vec<Bytes> {
        let long_bytes: usize = self.long.iter().map(|(_, payload)| payload.len()).sum();
        let length = count(self.fields.len() - LENGTH_BYTES + long_bytes);
        self.fields[..LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
        let mut fields = self.fields.freeze();
        let mut taken = 0;
        let mut chunks = Vec::with_capacity(2 * self.long.len() + 1);
        for (position, payload) in self.long {
            if position > taken {
                chunks.push(fields.split_to(position - taken));
                taken = position;
            }
            chunks.push(payload);
        }
        if !fields.is_empty() {
            chunks.push(fields);
        }
        chunks
    }
}

/// Returns a length or count as it is written. What is encoded is our own and bounded far below 4 GiB.
pub(super) fn count(n: usize) -> u32 {
    match u32::try_from(n) {
        Ok(n) => n,
        Err(_) => panic!("{n} does not fit in a length field: a bound on entries or frames is broken"),
    }
}

/// Reads the fields of one frame in order. Every method fails rather than reads past the end.
pub(super) struct FrameReader {
    rest: Bytes,
}

impl FrameReader {
    pub(super) fn new(frame: Bytes) -> FrameReader {
        FrameReader { rest: frame }
    }

    /// Returns how many bytes are left.
    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, WireError> {
        self.rest.try_get_u8().map_err(|_| WireError::Truncated { field })
    }

    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, WireError> {
        self.rest.try_get_u16_le().map_err(|_| WireError::Truncated { field })
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, WireError> {
        self.rest.try_get_u32_le().map_err(|_| WireError::Truncated { field })
    }

    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, WireError> {
        self.rest.try_get_u64_le().map_err(|_| WireError::Truncated { field })
    }

    pub(super) fn i64(&mut self, field: &'static str) -> Result<i64, WireError> {
        self.rest.try_get_i64_le().map_err(|_| WireError::Truncated { field })
    }

    pub(super) fn u128(&mut self, field: &'static str) -> Result<u128, WireError> {
        self.rest.try_get_u128_le().map_err(|_| WireError::Truncated { field })
    }

    /// Reads an index, a term or another counter that arithmetic is done on.
    pub(super) fn counter(&mut self, field: &'static str) -> Result<u64, WireError> {
        match self.u64(field)? {
            value @ ..=COUNTER_MAX => Ok(value),
            _ => Err(WireError::Value { field }),
        }
    }

    pub(super) fn bool(&mut self, field: &'static str) -> Result<bool, WireError> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(WireError::Value { field }),
        }
    }

    /// Takes `bytes` bytes, sharing the frame's memory.
    pub(super) fn payload(&mut self, bytes: usize, field: &'static str) -> Result<Bytes, WireError> {
        if bytes > self.rest.len() {
            return Err(WireError::Truncated { field });
        }
        Ok(self.rest.split_to(bytes))
    }

    /// Reads a u32 length and takes that many bytes.
    pub(super) fn counted(&mut self, field: &'static str) -> Result<Bytes, WireError> {
        let bytes = self.u32(field)?;
        self.payload(usize::try_from(bytes).unwrap_or(usize::MAX), field)
    }

    /// Reads a count of items that take at least `item_bytes` each in the rest of the frame.
    pub(super) fn items(&mut self, item_bytes: usize, field: &'static str) -> Result<usize, WireError> {
        let items = usize::try_from(self.u32(field)?).unwrap_or(usize::MAX);
        if items > self.rest.len() / item_bytes {
            return Err(WireError::Truncated { field });
        }
        Ok(items)
    }

    /// Reads a text of at most `max_bytes` bytes.
    pub(super) fn text(&mut self, max_bytes: usize, field: &'static str) -> Result<String, WireError> {
        let bytes = self.counted(field)?;
        if bytes.len() > max_bytes {
            return Err(WireError::Value { field });
        }
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(WireError::Value { field }),
        }
    }

    /// Ends the frame: nothing may be left.
    pub(super) fn finish(self) -> Result<(), WireError> {
        match self.rest.len() {
            0 => Ok(()),
            bytes => Err(WireError::Trailing { bytes }),
        }
    }
}

/// Writes a text as [`FrameReader::text`] reads it.
pub(super) fn put_text(fields: &mut BytesMut, text: &str) {
    fields.put_u32_le(count(text.len()));
    fields.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn long_payloads_become_chunks_of_their_own_and_the_length_counts_them() {
        let long = Bytes::from(vec![7; COPY_BELOW_BYTES]);
        let mut frame = FrameWriter::new(9, 0);
        frame.put_counted(&long);
        frame.put_counted(&Bytes::from_static(b"short"));
        frame.put_counted(&long);
        frame.put_counted(&Bytes::new());
        let chunks = frame.finish();
        assert_eq!(chunks.iter().map(Bytes::len).collect::<Vec<_>>(), [9, 1024, 13, 1024, 4]);
        assert_eq!(chunks[1].as_ptr(), long.as_ptr(), "the payload was copied");

        let mut cutter = FrameCutter::new(4096);
        cutter.push(Bytes::from(chunks.concat()));
        let mut fields = FrameReader::new(cutter.take_frame().unwrap().unwrap());
        assert_eq!(cutter.take_frame(), Ok(None));
        assert_eq!(fields.u8("type").unwrap(), 9);
        for expected in [&long[..], b"short", &long[..], b""] {
            assert_eq!(fields.counted("payload").unwrap(), expected);
        }
        fields.finish().unwrap();
    }

    /// However a stream is cut into chunks, the same frames come out; those within one chunk are not copied.
    #[test]
    fn frames_come_out_of_every_cut() {
        let frames: Vec<Bytes> = (1..6_u8).map(|n| Bytes::from(vec![n; usize::from(n) * 3])).collect();
        let mut stream = BytesMut::new();
        for frame in &frames {
            stream.put_u32_le(count(frame.len()));
            stream.extend_from_slice(frame);
        }
        let stream = stream.freeze();
        for step in 1..=stream.len() {
            let mut cutter = FrameCutter::new(15);
            let mut found = Vec::new();
            for at in (0..stream.len()).step_by(step) {
                let chunk = stream.slice(at..stream.len().min(at + step));
                cutter.push(chunk.clone());
                while let Some(frame) = cutter.take_frame().unwrap() {
                    let shared = chunk.as_ptr_range().contains(&frame.as_ptr());
                    assert!(shared || step < stream.len(), "copied without need");
                    found.push(frame);
                }
            }
            assert_eq!(found, frames, "in steps of {step}");
        }
    }

    #[test]
    fn frames_are_refused_by_their_length_alone() {
        let refused = |length: u32| {
            let mut cutter = FrameCutter::new(64);
            let mut result = Ok(None);
            for byte in length.to_le_bytes() {
                assert_eq!(result, Ok(None));
                cutter.push(Bytes::copy_from_slice(&[byte]));
                result = cutter.take_frame();
            }
            result
        };
        assert_eq!(refused(64), Ok(None));
        assert_eq!(refused(65), Err(WireError::FrameTooLarge { bytes: 65, limit: 64 }));
        assert_eq!(refused(u32::MAX), Err(WireError::FrameTooLarge { bytes: u64::from(u32::MAX), limit: 64 }));
        assert_eq!(refused(0), Err(WireError::Truncated { field: "type" }));
    }

    #[test]
    fn counts_are_compared_with_the_bytes_that_are_there() {
        let mut fields = FrameReader::new(Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4]));
        assert_eq!(fields.items(4, "sizes"), Err(WireError::Truncated { field: "sizes" }));
    }
}
