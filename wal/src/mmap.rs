//! The one unsafe file: a slot mapped into memory, stored to at its end and read below it.
//!
//! The contract, cited by the blocks below:
//!
//! - **M1** The mapping is `len` bytes, lives as long as `Mapping`, and its file is never shortened: slot files are
//!   never truncated (only whole files are ever made), and the log holds the lock of its directory. Should the medium
//!   fail a read, the kernel raises SIGBUS, which is an end of the process and no memory error.
//! - **M2** Only `store` writes through the mapping, one call at a time (`storing`), and only at or above `published`.
//! - **M3** Only `slice` reads through the mapping, and only below `published`; those bytes change no more while a
//!   borrow lives: `published` goes back in `recycle` alone, which takes `&mut self`. Nobody else may write the file
//!   (the log's directory lock; header blocks are written through the file, and are outside of what can be
//!   published).
#![allow(unsafe_code, reason = "the contract above; everything else in the crate is safe")]

use std::fs::File;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use memmap2::{Advice, MmapOptions, MmapRaw};

/// A mapped slot.
///
/// - `floor <= published <= ceiling`: only bytes between `floor` and `ceiling` are ever stored or read here.
pub(crate) struct Mapping {
    raw: MmapRaw,
    floor: usize,
    ceiling: usize,
    published: AtomicUsize,
    storing: AtomicBool,
}

impl Mapping {
    /// Maps the first `len` bytes of `file`, which must be at least that long, for use between `floor` and `ceiling`.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn new(file: &File, len: usize, floor: usize, ceiling: usize) -> io::Result<Mapping> {
        assert!(floor <= ceiling && ceiling <= len, "bounds {floor}..{ceiling} of a mapping of {len} bytes");
        let raw = MmapOptions::new().len(len).map_raw(file)?;
        // Faults then bring single pages: a store dirties 4 KiB, not the large folio that readahead would have made.
        raw.advise(Advice::Random)?;
        Ok(Mapping { raw, floor, ceiling, published: AtomicUsize::new(floor), storing: AtomicBool::new(false) })
    }

    /// Copies the parts to `offset` and on.
    ///
    /// # Panics
    /// When the range is not between `published` and `ceiling`, or while another thread is storing.
    pub(crate) fn store(&self, offset: usize, parts: &[IoSlice<'_>]) {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        assert!(!self.storing.swap(true, Ordering::Acquire), "two stores at once into one slot");
        let published = self.published.load(Ordering::Relaxed);
        assert!(
            published <= offset && offset <= self.ceiling && total <= self.ceiling - offset,
            "store of {total} bytes at {offset}: published {published}, ceiling {}",
            self.ceiling
        );
        let mut at = offset;
        for part in parts {
            // SAFETY: M1 — `at` is within the mapping, by the assertion above.
            let target = unsafe { self.raw.as_mut_ptr().add(at) };
            // SAFETY: M1, M2 — in bounds; nobody else stores, nobody reads at or above `published`, so nothing
            // overlaps.
            unsafe { std::ptr::copy_nonoverlapping(part.as_ptr(), target, part.len()) };
            at += part.len();
        }
        self.storing.store(false, Ordering::Release);
    }

    /// Returns the end of what is immutable.
    pub(crate) fn published(&self) -> usize {
        self.published.load(Ordering::Acquire)
    }

    /// Makes everything below `offset` immutable and readable.
    ///
    /// # Panics
    /// When `offset` lies below what is published, or above the ceiling.
    pub(crate) fn publish(&self, offset: usize) {
        let before = self.published.swap(offset, Ordering::Release);
        assert!(before <= offset && offset <= self.ceiling, "publishing {offset} after {before}");
    }

    /// Returns published bytes.
    ///
    /// # Panics
    /// When the range is not between the floor and `published`.
    pub(crate) fn slice(&self, offset: usize, len: usize) -> &[u8] {
        let published = self.published.load(Ordering::Acquire);
        assert!(
            self.floor <= offset && offset <= published && len <= published - offset,
            "slice of {len} bytes at {offset}: published {published}"
        );
        // SAFETY: M1 — `offset` is within the mapping, by the assertion above.
        let start = unsafe { self.raw.as_ptr().add(offset) };
        // SAFETY: M1, M3 — in bounds and immutable for as long as `self` is borrowed.
        unsafe { std::slice::from_raw_parts(start, len) }
    }

    /// Begins the next life of the slot: nothing is published. That no slice is left is what `&mut` says.
    pub(crate) fn recycle(&mut self) {
        *self.published.get_mut() = self.floor;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping() -> Mapping {
        let file = tempfile::tempfile().unwrap();
        file.set_len(16384).unwrap();
        Mapping::new(&file, 16384, 4096, 12288).unwrap()
    }

    #[test]
    fn what_is_stored_and_published_is_read() {
        let mut map = mapping();
        map.store(4096, &[IoSlice::new(b"raft"), IoSlice::new(b"er")]);
        map.publish(4102);
        assert_eq!(map.slice(4096, 6), b"rafter");
        map.recycle();
        map.store(4096, &[IoSlice::new(b"again")]);
        map.publish(4101);
        assert_eq!(map.slice(4097, 4), b"gain");
    }

    #[test]
    #[should_panic(expected = "published 4104")]
    fn a_published_byte_cannot_be_stored_over() {
        let map = mapping();
        map.publish(4104);
        map.store(4103, &[IoSlice::new(b"x")]);
    }

    #[test]
    #[should_panic(expected = "slice of 9 bytes")]
    fn an_unpublished_byte_cannot_be_read() {
        let map = mapping();
        map.publish(4104);
        let _unreachable = map.slice(4096, 9);
    }

    #[test]
    #[should_panic(expected = "ceiling")]
    fn the_ceiling_holds() {
        mapping().store(12287, &[IoSlice::new(b"xy")]);
    }
}
