//! The seam to storage: slot files of a fixed size. Two implementors: [`crate::fs::FsDisk`] and
//! [`crate::mem::MemDisk`].

use std::io::{self, IoSlice};
use std::path::PathBuf;

use crate::format::{HEADER_BLOCK, HEADER_LEN};

/// Names a slot file of a log. It says nothing about its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(pub u32);

/// One of the two places of a segment header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderCopy {
    /// The first block of the slot.
    Head,
    /// The last block of the slot.
    Tail,
}

impl HeaderCopy {
    /// Returns where the copy begins in a slot of this size.
    pub fn offset(self, segment_bytes: u64) -> u64 {
        match self {
            HeaderCopy::Head => 0,
            HeaderCopy::Tail => segment_bytes - HEADER_BLOCK,
        }
    }
}

/// A directory of slot files.
pub trait Disk {
    /// An open slot.
    type Slot: Slot;

    /// Returns the slots that exist, ascending, with their lengths in bytes.
    ///
    /// # Errors
    /// The file system's.
    fn slots(&self) -> io::Result<Vec<(SlotId, u64)>>;

    /// Fills `buffer` with the first bytes of a slot, of whatever length it is; zeros where it is shorter.
    ///
    /// # Errors
    /// The file system's.
    fn peek(&self, id: SlotId, buffer: &mut [u8]) -> io::Result<()>;

    /// Opens a slot that exists with the right length.
    ///
    /// # Errors
    /// The file system's.
    fn open(&self, id: SlotId, segment_bytes: u64) -> io::Result<Self::Slot>;

    /// Makes a slot of zeros, or completes one that a crash left shorter. When this returns, its bytes and its name
    /// are durable.
    ///
    /// # Errors
    /// The file system's; after one the slot is not there. A full disk is `StorageFull` or `QuotaExceeded`.
    fn create(&self, id: SlotId, segment_bytes: u64) -> io::Result<Self::Slot>;

    /// Returns the name under which reports speak of a slot.
    fn name(&self, id: SlotId) -> PathBuf;
}

/// An open slot file. Clones are handles of the same slot.
///
/// Bytes below the published offset never change within one life of the slot: `store` refuses them, and only
/// `recycle`, which demands that no view and no other handle is left, begins the next life.
pub trait Slot: Clone {
    /// Bytes of the slot that stay readable, and stay what they are, while the view lives.
    type View: AsRef<[u8]> + Clone;

    /// Returns which slot this is.
    fn id(&self) -> SlotId;

    /// Fills `buffer` from the file, without the mapping.
    ///
    /// # Errors
    /// The file system's.
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Stores the parts one after the other from `offset` on. Not durable before the next `sync`.
    ///
    /// # Errors
    /// The file system's; what the range then holds is unknown.
    ///
    /// # Panics
    /// When a published byte would change.
    fn store(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()>;

    /// Declares everything below `offset` immutable and open to views.
    fn publish(&self, offset: u64);

    /// Returns a view of published bytes.
    ///
    /// # Errors
    /// The file system's.
    ///
    /// # Panics
    /// When the range is not published.
    fn view(&self, offset: u64, length: u64) -> io::Result<Self::View>;

    /// Rewrites one copy of the header. Not durable before the next `sync`.
    ///
    /// # Errors
    /// The file system's.
    fn write_header(&self, copy: HeaderCopy, block: &[u8; HEADER_LEN]) -> io::Result<()>;

    /// Makes everything stored before this call durable, by fdatasync.
    ///
    /// # Errors
    /// The file system's. What was stored since the last success is then unknown for good: there is no second try.
    fn sync(&self) -> io::Result<()>;

    /// Forgets cached bytes, so that the next `read` shows what the medium holds. Call `sync` first.
    ///
    /// # Errors
    /// The file system's.
    fn drop_cache(&self) -> io::Result<()>;

    /// Brings the slot into the cache in the shape that small stores want.
    ///
    /// # Errors
    /// The file system's.
    fn warm(&self) -> io::Result<()>;

    /// Ends this life of the slot: nothing is published any more. Returns `false`, and does nothing, while a view or
    /// another handle is left.
    fn recycle(&mut self) -> bool;
}
