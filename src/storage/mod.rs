//! The log and the identity of a node on disk, and the order in which a node boots.
//!
//! 1. `lock`: one process a directory. 2. `identity`: the directory is this node's. 3. the log: opened and recovered.
//! 4. `boot`: what the core needs to know of it.

#![allow(clippy::disallowed_methods, reason = "this module is effectful")]

mod boot;
mod error;
mod identity;
mod journal;
mod lock;

pub use boot::{BootOptions, Booted, LockedDir, boot};
pub use error::BootError;
pub use identity::{Identity, IdentityFile};
pub use journal::{Journal, JournalError};
