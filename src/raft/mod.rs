//! The consensus core: Raft as a pure state machine. Inputs in, effects out; no clock, disk, socket, thread or lock.
//!
//! Sources: "Raft" is Ongaro and Ousterhout's paper, "thesis" is Ongaro's dissertation. Numbers such as T27 name the
//! known mistakes that `docs/correctness.md` lists; each has a script under `testscripts`.
//!
//! | file | duty |
//! |---|---|
//! | `raft` | the value itself: dispatch and shared state |
//! | `election` | timeouts, pre-votes, votes, changes of role |
//! | `leader`, `follower` | replication, from both ends |
//! | `reading`, `read_index` | linearizable reads without log entries |
//! | `persist` | what waits for the disk |
//! | `log_ids`, `progress`, `quorum`, `membership` | the parts, each by itself |

mod election;
mod follower;
mod leader;
mod log_ids;
mod membership;
mod message;
mod mutants;
mod persist;
mod progress;
mod quorum;
#[allow(clippy::module_inception, reason = "the file of the type Raft")]
mod raft;
mod read_index;
mod reading;
mod ready;
mod role;
mod settings;
mod status;
mod types;

pub use message::{AppendOutcome, EntrySpan, Message};
#[cfg(feature = "mutants")]
pub use mutants::Mutant;
pub use quorum::VOTERS_MAX;
pub use raft::Raft;
pub use ready::{
    ConfigurationError, Outgoing, OwnEntry, Persist, ProposeError, ProtocolViolation, ReadError, ReadOutcome, Ready,
    RoleChange, RoleName, Stepped, TransferError,
};
pub use settings::{Boot, BootError, Settings};
pub use status::{PeerPace, PeerStatus};
pub use types::{ClusterLimits, Configuration, HardState, Index, LogId, Member, NodeId, Term};

#[cfg(test)]
mod tests;
