//! The state hash: a sum mod 2^128 of one xxh3 hash for each row of the state, whatever the row is.
//!
//! Addition commutes and has an inverse, so every change costs the rows it touches and the order of rows says nothing.
//! It finds replicas that drifted apart; it is no defence against somebody who forges rows.

use xxhash_rust::xxh3::{xxh3_128, xxh3_128_with_seed};

/// Values are hashed in chunks of this size, so that an append costs its own length.
const CHUNK_BYTES: usize = 4096;

/// What sort of row a hash stands for; first byte of what is hashed, part of the definition of the hash.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(super) enum RowKind {
    /// key, revision, deadline, value
    Key = 1,
    /// A session, without its kept replies.
    Session = 2,
    /// One kept reply.
    KeptReply = 3,
    /// What is remembered of a front node: its boot, the boots before it, the floor of its spent session numbers.
    Front = 4,
    /// One spent session number above that floor.
    SpentSession = 5,
    /// The configuration.
    Configuration = 6,
}

/// A commutative sum of row hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum(u128);

impl Sum {
    pub(super) fn add(&mut self, row: u128) {
        self.0 = self.0.wrapping_add(row);
    }

    pub(super) fn remove(&mut self, row: u128) {
        self.0 = self.0.wrapping_sub(row);
    }

    pub(super) fn value(self) -> u128 {
        self.0
    }
}

/// Lays a row out in one buffer and hashes it: kind, then each field; byte strings behind their length.
#[derive(Debug)]
pub(super) struct RowHasher(Vec<u8>);

impl RowHasher {
    pub(super) fn new(kind: RowKind) -> RowHasher {
        let mut bytes = Vec::with_capacity(128);
        bytes.push(kind as u8);
        RowHasher(bytes)
    }

    pub(super) fn u8(&mut self, field: u8) -> &mut RowHasher {
        self.0.push(field);
        self
    }

    pub(super) fn u64(&mut self, field: u64) -> &mut RowHasher {
        self.0.extend_from_slice(&field.to_le_bytes());
        self
    }

    pub(super) fn u128(&mut self, field: u128) -> &mut RowHasher {
        self.0.extend_from_slice(&field.to_le_bytes());
        self
    }

    pub(super) fn bytes(&mut self, field: &[u8]) -> &mut RowHasher {
        self.u64(field.len() as u64);
        self.0.extend_from_slice(field);
        self
    }

    pub(super) fn finish(&self) -> u128 {
        xxh3_128(&self.0)
    }
}

/// Returns the hash of a value: the sum of its chunks' hashes, each seeded with its number.
pub(super) fn value_hash(value: &[u8]) -> u128 {
    chunks_from(value, 0)
}

/// Returns the hash of `value`, of which the first `old_bytes` were a value with hash `old`. Costs what was added.
pub(super) fn appended_value_hash(old: u128, old_bytes: usize, value: &[u8]) -> u128 {
    let first = old_bytes / CHUNK_BYTES;
    let cut = first * CHUNK_BYTES..old_bytes;
    let kept = if cut.is_empty() { old } else { old.wrapping_sub(chunk_hash(&value[cut], first)) };
    kept.wrapping_add(chunks_from(value, first))
}

fn chunks_from(value: &[u8], first: usize) -> u128 {
    let chunks = value[first * CHUNK_BYTES..].chunks(CHUNK_BYTES);
    chunks.zip(first..).fold(0, |sum, (chunk, number)| chunk_hash(chunk, number).wrapping_add(sum))
}

fn chunk_hash(chunk: &[u8], number: usize) -> u128 {
    xxh3_128_with_seed(chunk, number as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// APPEND must not rehash the whole value, and must not be told from a SET of the same bytes.
    #[test]
    fn appending_in_any_cut_hashes_like_the_whole() {
        let whole: Vec<u8> = (0..=250).cycle().take(3 * CHUNK_BYTES + 7).collect();
        for cut in [0, 1, 4095, 4096, 4097, 8191, 8192, 12_288, 12_294, 12_295] {
            let old = value_hash(&whole[..cut]);
            assert_eq!(appended_value_hash(old, cut, &whole), value_hash(&whole), "cut at {cut}");
        }
    }

    #[test]
    fn chunks_do_not_commute() {
        let (a, b) = (vec![1; CHUNK_BYTES], vec![2; CHUNK_BYTES]);
        assert_ne!(value_hash(&[a.clone(), b.clone()].concat()), value_hash(&[b, a].concat()));
    }

    /// Published by nodes of different builds, so it must not drift.
    #[test]
    fn the_hash_of_a_row_is_pinned() {
        let row = RowHasher::new(RowKind::Key).bytes(b"k").u64(1).u64(u64::MAX).u64(1).u128(value_hash(b"v")).finish();
        assert_eq!(row, 257_927_412_940_473_972_254_321_738_783_091_480_285);
    }
}
