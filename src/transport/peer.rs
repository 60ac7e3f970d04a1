//! One peer as the network knows it: its address, what waits for it, and at most one live connection.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use quinn::{Connection, VarInt};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::proto::peer::Hello;
use crate::raft::NodeId;

use super::link::Link;
use super::members::PeerMember;
use super::network::{PeerEvent, Shared};
use super::outbox::Outbox;
use super::refusal::{DUPLICATE, Refusal, RefusalReason};

/// A connection younger than this, dialed by the lower id, does not yield to one that the higher id dialed meanwhile.
/// An older one does: the higher id would not dial if it still had it.
const YOUNG: Duration = Duration::from_millis(500);

/// The state of one peer's connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStats {
    /// The peer.
    pub id: NodeId,
    /// Whether messages are carried now.
    pub connected: bool,
    /// The smoothed round trip in microseconds, if connected.
    pub rtt_us: Option<u64>,
    /// Connections made since the start.
    pub connections: u64,
    /// Frames lost since the start by full lanes or missing connections: control, response, append.
    pub dropped: [u64; 3],
    /// Bytes that wait to be written.
    pub queued_bytes: usize,
}

/// One peer. Its connection changes on the network's thread only.
pub(super) struct Peer {
    pub(super) id: NodeId,
    pub(super) outbox: Outbox,
    /// Told when a connection is gone or the address changed: time to dial.
    pub(super) dial_now: Notify,
    member: Mutex<PeerMember>,
    live: Mutex<Live>,
    dialing: Mutex<Option<AbortHandle>>,
}

#[derive(Default)]
struct Live {
    current: Option<Current>,
    connections: u64,
}

struct Current {
    number: u64,
    connection: Connection,
    hello: Hello,
    /// Whether the lower id of the two dialed.
    preferred: bool,
    since: Instant,
    task: AbortHandle,
}

impl Peer {
    pub(super) fn new(id: NodeId, member: PeerMember) -> Peer {
        Peer {
            id,
            outbox: Outbox::new(),
            dial_now: Notify::new(),
            member: Mutex::new(member),
            live: Mutex::default(),
            dialing: Mutex::default(),
        }
    }

    pub(super) fn member(&self) -> PeerMember {
        self.member.lock().clone()
    }

    pub(super) fn set_member(&self, member: PeerMember) {
        let mut known = self.member.lock();
        if known.addr != member.addr {
            self.dial_now.notify_one();
        }
        *known = member;
    }

    /// Returns how the peer introduced itself on the live connection.
    pub(super) fn hello(&self) -> Option<Hello> {
        self.live.lock().current.as_ref().map(|current| current.hello.clone())
    }

    pub(super) fn is_connected(&self) -> bool {
        self.live.lock().current.is_some()
    }

    pub(super) fn stats(&self) -> PeerStats {
        let live = self.live.lock();
        let rtt = live.current.as_ref().map(|current| current.connection.rtt());
        PeerStats {
            id: self.id,
            connected: live.current.is_some(),
            rtt_us: rtt.map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
            connections: live.connections,
            dropped: self.outbox.dropped(),
            queued_bytes: self.outbox.queued_bytes(),
        }
    }

    /// Closes the live connection; its task tells that it is lost.
    pub(super) fn close(&self, code: VarInt, text: &str) {
        if let Some(current) = &self.live.lock().current {
            current.connection.close(code, text.as_bytes());
        }
    }

    /// Lets go of the connection when the network has ended.
    pub(super) fn forget_connection(&self) {
        self.outbox.close();
        self.live.lock().current = None;
    }

    /// Ends dialing and closes what is there: the peer is not expected any more.
    pub(super) fn retire(&self, reason: RefusalReason, text: &str) {
        if let Some(task) = self.dialing.lock().take() {
            task.abort();
        }
        self.close(reason.code(), text);
    }

    /// Starts the task that dials, unless it runs. Called on the network's thread.
    pub(super) fn start_dialing<F>(&self, task: impl FnOnce() -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut dialing = self.dialing.lock();
        if dialing.is_none() {
            *dialing = Some(tokio::spawn(task()).abort_handle());
        }
    }

    /// Makes `link` the live connection, or closes it if the present one is better. Called on the network's thread.
    ///
    /// Two dials may cross. Both sides then see both connections, in any order, and must keep the same one: the lower
    /// id's. A new process of the peer (another boot) always wins over the connection of the old one.
    pub(super) fn install(self: &Arc<Self>, shared: &Arc<Shared>, link: Link, dialed: bool) {
        let preferred = dialed == (shared.local.id < self.id);
        let mut live = self.live.lock();
        if let Some(current) = &live.current {
            let same_process = current.hello.boot == link.hello.boot;
            if same_process && current.preferred && !preferred && current.since.elapsed() < YOUNG {
                link.connection.close(DUPLICATE, b"the other dial won");
                return;
            }
        }
        let replaced = live.current.take();
        if let Some(old) = &replaced {
            old.task.abort();
            old.connection.close(DUPLICATE, b"another connection took over");
        }
        self.outbox.open();
        live.connections += 1;
        let number = live.connections;
        let (connection, hello) = (link.connection.clone(), link.hello.clone());
        let task = tokio::spawn(serve(shared.clone(), self.clone(), link, number)).abort_handle();
        let since = Instant::now();
        live.current = Some(Current { number, connection, hello: hello.clone(), preferred, since, task });
        drop(live);
        if replaced.is_some() {
            shared.emit(PeerEvent::Lost { id: self.id });
        }
        tracing::info!(peer = self.id.0, boot = hello.boot, dialed, "peer connected");
        shared.emit(PeerEvent::Connected { id: self.id, hello });
    }
}

/// Serves one connection and cleans up after it. Aborted when another connection takes its place.
async fn serve(shared: Arc<Shared>, peer: Arc<Peer>, link: Link, number: u64) {
    let error = link.serve(&shared, &peer).await;
    {
        let mut live = peer.live.lock();
        if live.current.as_ref().is_none_or(|current| current.number != number) {
            return;
        }
        live.current = None;
        peer.outbox.close();
    }
    tracing::info!(peer = peer.id.0, %error, "peer lost");
    shared.emit(PeerEvent::Lost { id: peer.id });
    if let Some(refusal) = Refusal::of_error(&error) {
        shared.emit(PeerEvent::Refused { id: peer.id, refusal });
    }
    peer.dial_now.notify_one();
}
