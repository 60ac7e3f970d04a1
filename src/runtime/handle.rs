//! The servers' side of a running node: connections that write and read, and a look at its state.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::RwLockReadGuard;

use crate::kv::Store;
use crate::node::{Outcome, RequestError, WriteSession};

use super::status::NodeStatus;

/// A running node, as its doors see it. Cheap to clone; all methods may be called from any thread.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

struct Shared {}

/// One client connection's way into the node and back.
///
/// - Writes of one connection take effect in the order of the calls.
/// - Each call is answered by exactly one [`Completion`]; dropping the connection drops them and closes its session.
/// - At most 256 writes may be unanswered; more are answered [`RequestError::Overloaded`].
pub struct Connection {}

/// The end of one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// The number the caller gave.
    pub number: u64,
    /// How it ended.
    pub outcome: Result<Outcome, RequestError>,
}

impl Handle {
    /// Opens a connection to this node.
    pub fn connect(&self) -> Connection {
        unimplemented!("the runtime is being built")
    }

    /// Returns what the node says about itself; at most a tick old.
    pub fn status(&self) -> Arc<NodeStatus> {
        unimplemented!("the runtime is being built")
    }

    /// Returns the state for reading. Linearizable only after [`Outcome::Readable`]. Hold it shortly: it stops apply.
    pub fn store(&self) -> RwLockReadGuard<'_, Store> {
        unimplemented!("the runtime is being built")
    }

    /// Returns whether the node still recovers: its state must not be read, not even stale.
    pub fn is_loading(&self) -> bool {
        unimplemented!("the runtime is being built")
    }

    /// Returns whether the node is stopping: doors close what is idle.
    pub fn is_stopping(&self) -> bool {
        unimplemented!("the runtime is being built")
    }
}

impl Connection {
    /// Submits a write: an entry made by [`crate::proto::entry::encode`], header still blank.
    pub fn write(&mut self, number: u64, session: WriteSession, entry: BytesMut, deadline: Duration) {
        let _ = (number, session, entry, deadline);
        unimplemented!("the runtime is being built")
    }

    /// Asks for the moment from which a read of the local state is linearizable.
    pub fn read(&mut self, number: u64, deadline: Duration) {
        let _ = (number, deadline);
        unimplemented!("the runtime is being built")
    }

    /// Returns the next completion, in no particular order. Cancel-safe.
    pub async fn completed(&mut self) -> Completion {
        unimplemented!("the runtime is being built")
    }

    /// Returns a completion if one is there, without waiting.
    pub fn poll_completed(&mut self) -> Option<Completion> {
        unimplemented!("the runtime is being built")
    }
}
