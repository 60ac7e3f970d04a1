//! One process a data directory: an advisory lock on `LOCK`, gone with the process.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::error::BootError;

/// Holds the lock of a data directory until dropped.
#[derive(Debug)]
pub(super) struct DirLock {
    _file: File,
}

impl DirLock {
    /// Locks `dir`, or tells at once that another process holds it.
    pub(super) fn acquire(dir: &Path) -> Result<DirLock, BootError> {
        let path = dir.join("LOCK");
        let error = |source: io::Error| BootError::io(&path, "locking", source);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(error)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(DirLock { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(BootError::Locked { dir: dir.to_owned() }),
            Err(errno) => Err(error(errno.into())),
        }
    }
}
