//! The servers' side of a running node: connections that write and read, and a look at its state.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use parking_lot::RwLockReadGuard;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::kv::Store;
use crate::node::{Event, Outcome, RequestError, RequestId, WriteSession};

use super::inbox::Input;
use super::shared::Shared;
use super::status::NodeStatus;

/// The most unanswered writes of one connection.
pub const WRITES_IN_FLIGHT_MAX: usize = 256;

/// The most bytes of unanswered writes of all connections together; more are answered [`RequestError::Overloaded`].
const WRITE_BYTES_MAX: usize = 512 << 20;

/// A running node, as its doors see it. Cheap to clone; all methods may be called from any thread.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
}

/// One client connection's way into the node and back.
///
/// - Writes of one connection take effect in the order of the calls.
/// - Each call is answered by exactly one [`Completion`]; dropping the connection drops them and closes its session.
/// - At most [`WRITES_IN_FLIGHT_MAX`] writes may be unanswered, and their numbers differ; more are answered
///   [`RequestError::Overloaded`].
#[derive(Debug)]
pub struct Connection {
    shared: Arc<Shared>,
    id: u64,
    /// Bytes of each unanswered write, by number.
    writes: HashMap<u64, usize>,
    refused: VecDeque<Completion>,
    completions: UnboundedReceiver<Completion>,
}

/// The end of one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// The number the caller gave.
    pub number: u64,
    /// How it ended.
    pub outcome: Result<Outcome, RequestError>,
    /// Whether it is one of the connection's writes in flight.
    pub(super) is_write: bool,
}

impl Handle {
    /// Opens a connection to this node.
    pub fn connect(&self) -> Connection {
        let id = self.shared.connections_opened.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, completions) = unbounded_channel();
        self.shared.inbox.push(Input::Opened { connection: id, completions: sender });
        Connection {
            shared: Arc::clone(&self.shared),
            id,
            writes: HashMap::new(),
            refused: VecDeque::new(),
            completions,
        }
    }

    /// Returns what the node says about itself; at most a tick old.
    pub fn status(&self) -> Arc<NodeStatus> {
        Arc::new(self.shared.status())
    }

    /// Returns the state for reading. Linearizable only after [`Outcome::Readable`]. Hold it shortly: it stops apply.
    pub fn store(&self) -> RwLockReadGuard<'_, Store> {
        self.shared.store.read()
    }

    /// Returns whether the state lacks what is known to be committed since the last start.
    pub fn is_loading(&self) -> bool {
        self.shared.is_loading()
    }

    /// Returns whether the state is older than the log that the node was started with: it must not be read without
    /// asking the leader.
    pub fn is_recovering(&self) -> bool {
        self.shared.is_recovering()
    }

    /// Returns whether the node is stopping: doors close what is idle.
    pub fn is_stopping(&self) -> bool {
        self.shared.is_stopping.load(Ordering::Relaxed)
    }
}

impl Connection {
    /// Returns the connection's number at this node.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Submits a write: an entry made by [`crate::proto::entry::encode`], header still blank.
    pub fn write(&mut self, number: u64, session: WriteSession, entry: BytesMut, deadline: Duration) {
        let bytes = entry.len();
        let is_full = self.shared.write_bytes.load(Ordering::Relaxed) + bytes > WRITE_BYTES_MAX;
        if is_full || self.writes.len() >= WRITES_IN_FLIGHT_MAX {
            let outcome = Err(RequestError::Overloaded);
            self.refused.push_back(Completion { number, outcome, is_write: false });
            return;
        }
        self.writes.insert(number, bytes);
        self.shared.write_bytes.fetch_add(bytes, Ordering::Relaxed);
        let request = RequestId { connection: self.id, number, is_write: true };
        let deadline_ms = self.shared.deadline_ms(deadline);
        self.push(Event::Write { request, session, entry, deadline_ms });
    }

    /// Asks for the moment from which a read of the local state is linearizable.
    pub fn read(&mut self, number: u64, deadline: Duration) {
        let request = RequestId { connection: self.id, number, is_write: false };
        let deadline_ms = self.shared.deadline_ms(deadline);
        self.push(Event::Read { request, deadline_ms });
    }

    /// Returns the next completion, in no particular order. Cancel-safe.
    pub async fn completed(&mut self) -> Completion {
        if let Some(refused) = self.refused.pop_front() {
            return refused;
        }
        match self.completions.recv().await {
            Some(completion) => self.count(completion),
            // The consensus thread is gone: the process is about to end, and nothing may be said about any request.
            None => std::future::pending().await,
        }
    }

    /// Returns a completion if one is there, without waiting.
    pub fn poll_completed(&mut self) -> Option<Completion> {
        if let Some(refused) = self.refused.pop_front() {
            return Some(refused);
        }
        let completion = self.completions.try_recv().ok()?;
        Some(self.count(completion))
    }

    fn count(&mut self, completion: Completion) -> Completion {
        if completion.is_write
            && let Some(bytes) = self.writes.remove(&completion.number)
        {
            self.shared.write_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        completion
    }

    fn push(&self, event: Event) {
        self.shared.inbox.push(Input::Event(event));
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.write_bytes.fetch_sub(self.writes.values().sum(), Ordering::Relaxed);
        self.push(Event::Closed { connection: self.id });
    }
}

impl Shared {
    fn deadline_ms(&self, from_now: Duration) -> u64 {
        let millis = (Instant::now() + from_now).saturating_duration_since(self.started).as_millis();
        u64::try_from(millis).unwrap_or(u64::MAX)
    }
}
