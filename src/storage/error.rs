//! Why a data directory could not be opened, each with the next thing to do.

use std::io;
use std::path::{Path, PathBuf};

use kontiki_snapshot::sealed_file;
use kontiki_wal::OpenError;
use thiserror::Error;

use crate::proto::entry::EntryError;
use crate::raft;

/// Why a node's storage did not open. Every message is one line: what, where, what to do.
#[derive(Debug, Error)]
pub enum BootError {
    /// Another process has the directory.
    #[error(
        "data directory {} is in use by another process; stop that one, or give this node a directory of its own",
        dir.display()
    )]
    Locked {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory belongs to another node or cluster.
    #[error(
        "data directory {} belongs to {found}, this is {wanted}; start it with the flags it was made with, or use an empty directory",
        dir.display()
    )]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// Whose it is.
        found: String,
        /// Who wanted it.
        wanted: String,
    },
    /// The directory was made under a CA that is not trusted now.
    #[error(
        "data directory {} was made under another CA of cluster {cluster}; put that CA's certificate into ca.pem beside the new one",
        dir.display()
    )]
    ForeignAuthority {
        /// The directory.
        dir: PathBuf,
        /// The name of its cluster.
        cluster: String,
    },
    /// The identity file cannot be read.
    #[error("{source}; restore this file from a copy, or remove the member and add it again with an empty directory")]
    IdentityUnreadable {
        /// Why.
        source: sealed_file::ReadError,
    },
    /// The identity file is intact but not what this program writes.
    #[error("{}: not an identity of this program; restore this file from a copy", path.display())]
    IdentityMalformed {
        /// The file.
        path: PathBuf,
    },
    /// The identity file cannot be written.
    #[error("{source}; free space or mend the permissions of the directory")]
    IdentityUnwritable {
        /// Why.
        source: sealed_file::WriteError,
    },
    /// The directory has a log but no identity.
    #[error(
        "data directory {} has a log but no identity; restore the file `identity` from a copy, or use an empty directory",
        dir.display()
    )]
    IdentityMissing {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory had a log, and it is gone.
    #[error(
        "log {}: every segment is gone; restore them from a copy, or remove the member and add it again with an empty data directory",
        dir.display()
    )]
    LogMissing {
        /// The log's directory.
        dir: PathBuf,
    },
    /// The directory was laid out by a later program.
    #[error("{}: format version {version} is not known to this program; use a newer one", path.display())]
    UnknownFormat {
        /// The file that says so.
        path: PathBuf,
        /// The version.
        version: u32,
    },
    /// The log did not open.
    #[error("{source}{}", next_step(source, dir))]
    Log {
        /// The log's own words.
        source: OpenError,
        /// Its directory.
        dir: PathBuf,
    },
    /// An entry of the log cannot be read.
    #[error("log {}: entry {index}: {source}; run `kontiki-inspect get {} {index}`", dir.display(), dir.display())]
    Entry {
        /// The log's directory.
        dir: PathBuf,
        /// The entry.
        index: u64,
        /// Why.
        source: EntryError,
    },
    /// An entry's bytes cannot be had.
    #[error("log {}: entry {index}: {why}; run `kontiki-inspect verify {}`", dir.display(), dir.display())]
    Unreadable {
        /// The log's directory.
        dir: PathBuf,
        /// The entry.
        index: u64,
        /// Why.
        why: kontiki_wal::ReadError,
    },
    /// What the log says contradicts what is known to be committed.
    #[error("{source}; acknowledged data is lost: remove the member and add it again with an empty directory")]
    Core {
        /// The core's words.
        source: raft::BootError,
    },
    /// The file system refused.
    #[error("{}: {doing}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

impl BootError {
    pub(super) fn io(path: &Path, doing: &'static str, source: io::Error) -> BootError {
        BootError::Io { path: path.to_owned(), doing, source }
    }
}

/// What to do about a log that does not open, where its own words do not say.
fn next_step(error: &OpenError, dir: &Path) -> String {
    match error {
        OpenError::Damaged { .. } => format!("; run `kontiki-inspect verify {}`", dir.display()),
        OpenError::Identity { .. }
        | OpenError::Locked { .. }
        | OpenError::Unsupported { .. }
        | OpenError::Options(_)
        | OpenError::NoSpace
        | OpenError::Io { .. } => String::new(),
    }
}
