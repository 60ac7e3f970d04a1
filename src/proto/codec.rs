//! bincode, in the one dialect Kontiki uses: fixed-width integers, little-endian, nothing left over.
//!
//! Only bodies go through here (commands, configurations, replies); headers and frames are laid out by hand. The codec's
//! id is stored beside every body, so that another codec can follow without guessing. No other module names bincode.

use bincode::Options;
use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// The id of a body that is empty by definition.
pub const NONE: u8 = 0;
/// The id of bincode 1.3 with fixed-width little-endian integers.
pub const BINCODE_1: u8 = 1;

/// Bytes that are not the encoding of what was expected.
#[derive(Debug, Error)]
#[error("body does not decode")]
pub struct DecodeError(#[source] bincode::Error);

/// Returns the encoding of `value`.
///
/// # Panics
///
/// If `value` holds a sequence that cannot tell its length; no type of this crate does.
pub fn encode<T: Serialize>(value: &T) -> Bytes {
    let mut into = BytesMut::with_capacity(encoded_bytes(value));
    encode_into(value, &mut into);
    into.freeze()
}

/// Appends the encoding of `value` to `into`; room of [`encoded_bytes`] made before saves growing it on the way.
///
/// # Panics
///
/// If `value` holds a sequence that cannot tell its length; no type of this crate does.
pub fn encode_into<T: Serialize>(value: &T, into: &mut BytesMut) {
    let written = dialect().serialize_into(into.writer(), value);
    assert!(written.is_ok(), "a value of this crate always encodes, got {written:?}");
}

/// Returns how many bytes [`encode`] would make.
///
/// # Panics
///
/// Like [`encode`].
pub fn encoded_bytes<T: Serialize>(value: &T) -> usize {
    let size = dialect().serialized_size(value);
    let size = size.unwrap_or_else(|error| panic!("a value of this crate always encodes, got {error}"));
    usize::try_from(size).unwrap_or(usize::MAX)
}

/// Decodes one value that fills `bytes` exactly.
///
/// Memory taken is bounded by a constant times `bytes.len()`: no length inside may claim more than there is.
///
/// # Errors
///
/// [`DecodeError`] if bytes are missing or left over, or are no encoding of a `T`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let limit = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    dialect().with_limit(limit).deserialize(bytes).map_err(DecodeError)
}

fn dialect() -> impl Options {
    bincode::DefaultOptions::new().with_fixint_encoding().with_little_endian().reject_trailing_bytes().with_no_limit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_fixed_width_and_little_endian() {
        assert_eq!(encode(&0x0102_0304_u32).as_ref(), &[4, 3, 2, 1]);
        assert_eq!(encode(&1_u64).as_ref(), &[1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(encode(&Some(1_u16)).as_ref(), &[1, 1, 0]);
    }

    #[test]
    fn bytes_are_a_length_and_one_slice() {
        assert_eq!(encode(&Bytes::from_static(b"raft")).as_ref(), b"\x04\0\0\0\0\0\0\0raft");
        assert_eq!(decode::<Bytes>(b"\x04\0\0\0\0\0\0\0raft").unwrap(), "raft");
    }

    /// `deserialize` of plain bincode accepts trailing bytes; ours must not.
    #[test]
    fn missing_and_trailing_bytes_are_refused() {
        assert!(decode::<u32>(&[1, 0, 0]).is_err());
        assert!(decode::<u32>(&[1, 0, 0, 0, 0]).is_err());
        assert!(decode::<u32>(&[1, 0, 0, 0]).is_ok());
    }

    #[test]
    fn a_length_beyond_the_input_takes_no_memory() {
        assert!(decode::<Bytes>(&u64::MAX.to_le_bytes()).is_err());
        assert!(decode::<Vec<u64>>(&(u64::MAX / 2).to_le_bytes()).is_err());
        assert!(decode::<Vec<Vec<u8>>>(&(1_u64 << 40).to_le_bytes()).is_err());
    }
}
