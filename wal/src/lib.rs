//! A segmented, memory-mapped write-ahead log of (index, term, bytes), made for Raft and sure of itself: it tells a
//! torn tail from rot.
//!
//! ```
//! use kontiki_wal::{Batch, Index, NewEntry, Options, Term, Wal};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let options = Options { segment_bytes: 1 << 20, ..Options::default() };
//! let (wal, found) = Wal::open(dir.path(), options)?;
//! let entry = NewEntry { index: found.last.next(), term: Term(1), payload: b"hello" };
//! let end = wal.append(&Batch { entries: &[entry], ..Batch::default() })?;
//! wal.wait_durable(end)?; // Or wal.on_durable(end, |outcome| …): no thread waits.
//! assert_eq!(&wal.entry(Index(1))?[..], b"hello"); // Bytes of the mapped file, checked.
//! wal.purge(Index(1))?; // Once a snapshot of your own is durable.
//! wal.close()?;
//! # Ok(())
//! # }
//! ```
//!
//! # What it promises
//!
//! - A batch (hard state, truncation, entries) is kept or dropped whole.
//! - What is below [`Wal::durable`] survives a power cut. What comes back after a crash is all of that, plus possibly
//!   batches that were not acknowledged yet, never half a one; acknowledged data that is not as it was written is
//!   reported with file, offset, index and term.
//! - After one failed write or sync everything answers [`Poisoned`]. There is no retry: what the kernel kept is
//!   unknown. End the process.
//! - A full disk is [`AppendError::NoSpace`] before anything has changed; a reserve takes votes and what a new leader
//!   needs.
//! - Bytes of an [`Entry`] never change while it lives: truncating appends, and a slot is recycled only when nobody
//!   reads from it.
//!
//! # Fault model
//!
//! The disk may lose, keep or tear any 512-byte sector that was stored since the last sync, in any order. Bits may
//! rot at any time. What it does not cover: rot in the last batch within its first 10 ms of quiet (nothing on the
//! disk says yet that it was acknowledged), a disk that acknowledges a sync it did not do, a lone log whose only slot
//! is wholly erased (compare [`Recovery::created`] with what you know), and another program that writes the files.
//!
//! # Limits
//!
//! Linux. Segments of 64 KiB to 2 GiB; an entry is at most half a segment, a batch fits one segment
//! ([`Options::batch_bytes_max`]). One process a directory (a lock on it says so). About four bytes of memory an
//! entry. Slots that a burst needed are kept for reuse, not deleted. A mapped page that the disk cannot read raises
//! SIGBUS: the process ends.
//!
//! # What an embedder must do
//!
//! Give each log its own [`Options::log_uuid`], and remember elsewhere that it exists. Purge only what a durable
//! snapshot covers. Keep slow work out of [`Wal::on_durable`]'s calls. End the process when poisoned. Never copy a
//! directory under a running log and call it a backup.
//!
//! # Inside
//!
//! [`mod@format`] lays out bytes, [`scan`] walks through one slot, [`plan`] and [`recover`] decide what a directory
//! means: all pure. [`log::Log`] is the log without threads and clocks over a [`disk::Disk`]; [`fs`] and [`mem`] are
//! its disks. [`Wal`] adds the threads. [`inspect`] looks into a directory from outside.

pub mod disk;
mod encode;
mod error;
pub mod format;
pub mod fs;
mod index;
pub mod inspect;
mod lane;
pub mod log;
pub mod mem;
mod mmap;
mod open;
mod options;
pub mod plan;
mod pool;
mod read;
pub mod recover;
pub mod scan;
mod sync;
mod types;
mod wal;

pub use error::{AppendError, Damage, DamageKind, OpenError, Poisoned, PurgeError, ReadError};
pub use open::Recovery;
pub use options::Options;
pub use pool::{PrepareTask, Prepared};
pub use read::LogEntry;
pub use recover::TornTail;
pub use sync::SyncJob;
pub use types::{Batch, EntryMeta, HardState, Index, LogId, Lsn, NewEntry, Term};
pub use wal::{Entry, SharedDisk, Stats, Wal};
