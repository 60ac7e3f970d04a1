//! A segmented write-ahead log.

pub mod disk;
mod encode;
mod error;
pub mod format;
pub mod fs;
mod index;
pub mod inspect;
pub mod log;
pub mod mem;
mod mmap;
mod open;
mod options;
pub mod plan;
mod pool;
pub mod recover;
pub mod scan;
mod sync;
mod types;
mod wal;

pub use error::{AppendError, Damage, DamageKind, OpenError, Poisoned, PurgeError, ReadError};
pub use open::Recovery;
pub use options::Options;
pub use pool::{PrepareTask, Prepared};
pub use recover::TornTail;
pub use sync::SyncJob;
pub use types::{Batch, EntryMeta, HardState, Index, LogId, Lsn, NewEntry, Term};
pub use wal::{Entry, SharedDisk, Stats, Wal};
