//! A key as the rows hold it: short ones in place, so that a search through the tree follows no pointers.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;

/// The longest key that is held in place: with its length and the tag it takes as much as a boxed one.
const INLINE_BYTES_MAX: usize = 22;

/// An owned key, ordered by its bytes.
#[derive(Clone)]
pub(super) enum Key {
    /// The first `len` bytes; the rest is 0.
    Inline { len: u8, bytes: [u8; INLINE_BYTES_MAX] },
    /// A longer one.
    Boxed(Box<[u8]>),
}

const _: () = assert!(size_of::<Key>() == 24, "a key takes three words");

impl Key {
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Key::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Key::Boxed(bytes) => bytes,
        }
    }
}

impl From<&[u8]> for Key {
    fn from(key: &[u8]) -> Key {
        match u8::try_from(key.len()) {
            Ok(len) if key.len() <= INLINE_BYTES_MAX => {
                let mut bytes = [0; INLINE_BYTES_MAX];
                bytes[..key.len()].copy_from_slice(key);
                Key::Inline { len, bytes }
            }
            Ok(_) | Err(_) => Key::Boxed(key.into()),
        }
    }
}

// Equality, order and debug output are those of the bytes, as `Borrow` demands.

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Key) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Key) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Short and long keys lie in one order, and none loses a byte on the way in.
    #[test]
    fn keys_are_ordered_by_their_bytes_wherever_they_lie() {
        let long = [7; 40];
        let mut slices: Vec<&[u8]> = (0..long.len()).map(|len| &long[..len]).collect();
        slices.extend([&b"\x07\x00"[..], b"", b"\x00", b"\xff", &[0; 22], &[0; 23], &[0; 300]]);
        for a in &slices {
            assert_eq!(Key::from(*a).as_bytes(), *a);
            for b in &slices {
                assert_eq!(Key::from(*a).cmp(&Key::from(*b)), a.cmp(b), "{a:?} {b:?}");
                assert_eq!(Key::from(*a) == Key::from(*b), a == b);
            }
        }
    }
}
