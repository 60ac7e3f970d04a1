//! The threads, the clock and the main loop around a node.

mod handle;
mod status;

pub use handle::{Completion, Connection, Handle};
pub use status::{MemberStatus, NodeStatus, Role, StorageState};
