//! The consensus core: Raft as a pure state machine. Inputs in, effects out; no clock, disk, socket, thread or lock.
//!
//! Sources: "Raft" is Ongaro and Ousterhout's paper, "thesis" is Ongaro's dissertation.

mod message;
mod types;

pub use message::{AppendOutcome, EntrySpan, Message};
pub use types::{Configuration, HardState, Index, LogId, Member, NodeId, Term};
