//! The threads, the clock and the main loop around a node.

#![allow(clippy::disallowed_methods, reason = "this module is effectful")]

mod applier;
mod consensus;
mod doors;
mod handle;
mod inbox;
pub mod metrics;
mod network;
mod options;
mod refusals;
mod shared;
mod start;
mod status;

pub use handle::{Completion, Connection, Handle, WRITES_IN_FLIGHT_MAX};
pub use options::{FailureClass, Password, StartOptions, Timing, bootstrap_cluster_id, canonical_cluster};
pub use start::{NodeFailure, RunningNode, Stopper, start};
pub use status::{MemberStatus, NodeStatus, Role, StorageState};
