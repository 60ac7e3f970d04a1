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

/// Takes the next whole frame out of `buffer`, without its length: the type byte and the fields.
///
/// Returns `None` while the frame is incomplete. `limit` bounds the frame in bytes, its length field aside.
pub fn take_frame(buffer: &mut BytesMut, limit: usize) -> Result<Option<Bytes>, WireError> {
    let Some(length) = buffer.first_chunk::<LENGTH_BYTES>() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(*length);
    let bytes = usize::try_from(length).unwrap_or(usize::MAX);
    if bytes > limit {
        return Err(WireError::FrameTooLarge { bytes: u64::from(length), limit: limit as u64 });
    }
    if bytes == 0 {
        return Err(WireError::Truncated { field: "type" });
    }
    if buffer.len() - LENGTH_BYTES < bytes {
        return Ok(None);
    }
    buffer.advance(LENGTH_BYTES);
    Ok(Some(buffer.split_to(bytes).freeze()))
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

    fn joined(chunks: &[Bytes]) -> BytesMut {
        chunks.iter().flat_map(|chunk| chunk.iter().copied()).collect::<Vec<u8>>().as_slice().into()
    }

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

        let mut buffer = joined(&chunks);
        let mut fields = FrameReader::new(take_frame(&mut buffer, 4096).unwrap().unwrap());
        assert!(buffer.is_empty());
        assert_eq!(fields.u8("type").unwrap(), 9);
        for expected in [&long[..], b"short", &long[..], b""] {
            assert_eq!(fields.counted("payload").unwrap(), expected);
        }
        fields.finish().unwrap();
    }

    #[test]
    fn frames_are_taken_only_when_whole_and_refused_by_their_length_alone() {
        let chunks = FrameWriter::new(1, 0).finish();
        let whole = joined(&chunks);
        for cut in 0..whole.len() {
            let mut buffer = BytesMut::from(&whole[..cut]);
            assert_eq!(take_frame(&mut buffer, 64), Ok(None));
            assert_eq!(buffer.len(), cut, "an incomplete frame stays");
        }
        let mut huge = BytesMut::from(&u32::MAX.to_le_bytes()[..]);
        let refused = WireError::FrameTooLarge { bytes: u64::from(u32::MAX), limit: 64 };
        assert_eq!(take_frame(&mut huge, 64), Err(refused));
        assert_eq!(take_frame(&mut BytesMut::from(&[0, 0, 0, 0][..]), 64), Err(WireError::Truncated { field: "type" }));
    }

    #[test]
    fn counts_are_compared_with_the_bytes_that_are_there() {
        let mut fields = FrameReader::new(Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4]));
        assert_eq!(fields.items(4, "sizes"), Err(WireError::Truncated { field: "sizes" }));
    }
}
