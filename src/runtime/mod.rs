//! The threads, the clock and the main loop around a node.

mod handle;
pub mod metrics;
mod options;
mod start;
mod status;

pub use handle::{Completion, Connection, Handle};
pub use options::{FailureClass, Password, StartOptions, Timing, bootstrap_cluster_id, canonical_cluster};
pub use start::{NodeFailure, RunningNode, Stopper, start};
pub use status::{MemberStatus, NodeStatus, Role, StorageState};
