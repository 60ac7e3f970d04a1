//! The network of one node: a thread that keeps one connection to each peer and moves frames.
//!
//! One connection per pair carries both directions, so acknowledgements ride on replies. Either side dials while it has no
//! connection, so a node that just started is connected at once, by its own dial; when both dials succeed, the one of
//! the lower id stays (see `Peer::install`).

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use quinn::{Endpoint, TokioRuntime};
use thiserror::Error;
use tokio::runtime;
use tokio::sync::Notify;

use crate::proto::peer::{Class, Hello, PeerMessage, frame_bytes_max};
use crate::raft::NodeId;

use super::dial::Dialer;
use super::members::{Local, PeerMember, check_bindings};
use super::outbox::Sent;
use super::peer::{Peer, PeerStats};
use super::quic::{self, Path};
use super::refusal::{Refusal, RefusalReason, SHUTTING_DOWN};
use super::tls::NodeTls;
use super::{accept, dial};

/// What a node's network is started with.
#[derive(Clone)]
pub struct PeerConfig {
    /// The cluster.
    pub cluster_id: u128,
    /// The history of the cluster, 0 while the log is empty.
    pub history: u128,
    /// The storage of this node.
    pub storage_uuid: u128,
    /// Drawn at each start of the process.
    pub boot: u64,
    /// Where clients reach this node; others are told.
    pub client_addr: String,
    /// Where peers are heard.
    pub listen: SocketAddr,
    /// Who this node is, and its proof.
    pub tls: NodeTls,
    /// The peers; this node itself may be among them.
    pub members: BTreeMap<NodeId, PeerMember>,
    /// The longest entry in bytes.
    pub entry_bytes_max: usize,
}

/// What the network tells the node. Events of one peer come in order: connected, messages, lost.
#[derive(Debug)]
pub enum PeerEvent {
    /// A peer said something.
    Message {
        /// Who.
        from: NodeId,
        /// What.
        message: PeerMessage,
    },
    /// Messages to this peer are carried from now on.
    Connected {
        /// Who.
        id: NodeId,
        /// How it introduced itself.
        hello: Hello,
    },
    /// The process behind a connection is certainly gone: its port refuses. [`PeerEvent::Lost`] follows.
    Gone {
        /// Whose.
        id: NodeId,
    },
    /// The connection is gone, with whatever was under way.
    Lost {
        /// Whose.
        id: NodeId,
    },
    /// One side will not speak with the other. Told again at every attempt.
    Refused {
        /// Who.
        id: NodeId,
        /// Which side, and why.
        refusal: Refusal,
    },
}

/// Why the network did not start.
#[derive(Debug, Error)]
pub enum NetworkError {
    /// The address cannot be listened on.
    #[error("cannot listen for peers on {listen} (UDP): {source}")]
    Bind {
        /// The address.
        listen: SocketAddr,
        /// Why not. `AddrInUse`: another process has it.
        source: io::Error,
    },
    /// The TLS library refuses the certificates.
    #[error("the TLS files cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    /// The system gives no thread or timer.
    #[error("cannot start the network's thread: {0}")]
    Thread(io::Error),
}

/// The network of one node. All methods may be called from any thread; none waits for the network.
pub struct PeerNetwork {
    shared: Arc<Shared>,
    local_addr: SocketAddr,
    runtime: runtime::Handle,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What all tasks of the network see.
pub(super) struct Shared {
    pub(super) local: Local,
    pub(super) frame_bytes_max: usize,
    pub(super) peers: RwLock<BTreeMap<NodeId, Arc<Peer>>>,
    history: Mutex<u128>,
    /// Set while a wake-up of the network's thread is under way: one system call for many sends.
    woken: AtomicBool,
    wake: Notify,
    stop: Notify,
    /// Ends without a goodbye, as a killed process does.
    #[cfg(test)]
    crash: AtomicBool,
    on_event: Box<dyn Fn(PeerEvent) + Send + Sync>,
}

impl PeerNetwork {
    /// Binds the socket and starts the thread. `on_event` is called on that thread and must not block.
    pub fn start(
        config: PeerConfig,
        on_event: impl Fn(PeerEvent) + Send + Sync + 'static,
    ) -> Result<PeerNetwork, NetworkError> {
        let listen = config.listen;
        let unbound = |source| NetworkError::Bind { listen, source };
        let socket = quic::bind(listen).map_err(unbound)?;
        let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(NetworkError::Thread)?;
        let endpoint = {
            let _inside = runtime.enter();
            let settings = quic::endpoint_config(&config.tls.derive_secret("peer endpoint"));
            let server = accept::server_config(&config.tls, Path::Network)?;
            Endpoint::new(settings, Some(server), socket, Arc::new(TokioRuntime)).map_err(unbound)?
        };
        let local_addr = endpoint.local_addr().map_err(unbound)?;
        let dialer = Arc::new(Dialer::new(endpoint.clone(), &config.tls)?);
        let acceptor = accept::Acceptor::new(endpoint.clone(), &config.tls)?;
        let shared = Arc::new(Shared {
            local: Local {
                id: config.tls.node(),
                cluster: config.tls.cluster().to_owned(),
                cluster_id: config.cluster_id,
                storage_uuid: config.storage_uuid,
                boot: config.boot,
                client_addr: config.client_addr,
            },
            frame_bytes_max: frame_bytes_max(config.entry_bytes_max),
            peers: RwLock::default(),
            history: Mutex::new(config.history),
            woken: AtomicBool::new(false),
            wake: Notify::new(),
            stop: Notify::new(),
            #[cfg(test)]
            crash: AtomicBool::new(false),
            on_event: Box::new(on_event),
        });
        let handle = runtime.handle().clone();
        let thread = thread::Builder::new().name("kontiki-net".to_owned()).spawn({
            let shared = shared.clone();
            move || {
                runtime.block_on(run(&shared, &endpoint, &acceptor, dialer));
                // Connections hold the socket: none may outlive the thread, or the port stays taken.
                drop(runtime);
                shared.peers.read().values().for_each(|peer| peer.forget_connection());
            }
        });
        let thread = Mutex::new(Some(thread.map_err(NetworkError::Thread)?));
        let network = PeerNetwork { shared, local_addr, runtime: handle, thread };
        network.set_members(config.members);
        Ok(network)
    }

    /// Returns where peers are heard; tells the port if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Hands a frame made by [`crate::proto::peer::encode`] to the stream of its class.
    pub fn send(&self, to: NodeId, class: Class, frame: Vec<Bytes>) -> Sent {
        let peers = self.shared.peers.read();
        let Some(peer) = peers.get(&to) else {
            return Sent::Unconnected;
        };
        let sent = peer.outbox.push(class, frame);
        if sent == Sent::Queued {
            self.shared.wake();
        }
        sent
    }

    /// Replaces the expected peers. Connections to those that are gone, or bound to another storage now, are closed.
    pub fn set_members(&self, members: BTreeMap<NodeId, PeerMember>) {
        let _inside = self.runtime.enter();
        let mut peers = self.shared.peers.write();
        peers.retain(|id, peer| {
            let stays = members.contains_key(id);
            if !stays {
                let text = format!("node {id} is not a member of this cluster any more");
                peer.retire(RefusalReason::NotAMember, &text);
            }
            stays
        });
        for (id, member) in members {
            if id == self.shared.local.id {
                continue;
            }
            if let Some(peer) = peers.get(&id) {
                peer.set_member(member);
                self.check_bindings(peer);
            } else {
                let peer = Arc::new(Peer::new(id, member));
                peers.insert(id, peer);
            }
        }
        drop(peers);
        self.shared.wake(); // The network's thread starts to dial those who are new.
    }

    /// Tells the history once the first entry is committed. Connections to members of another one are closed.
    pub fn set_history(&self, history: u128) {
        *self.shared.history.lock() = history;
        for peer in self.shared.peers.read().values() {
            self.check_bindings(peer);
        }
    }

    /// Drops the connection to a peer that was silent for too long; it is dialed again at once.
    pub fn reconnect(&self, id: NodeId) {
        if let Some(peer) = self.shared.peers.read().get(&id) {
            peer.close(quic::NO_REASON, "silent for too long");
        }
    }

    /// Returns the state of each peer's connection.
    pub fn stats(&self) -> Vec<PeerStats> {
        self.shared.peers.read().values().map(|peer| peer.stats()).collect()
    }

    /// Says goodbye to all peers and ends the thread. No event comes afterwards. Further calls do nothing.
    pub fn stop(&self) {
        let Some(thread) = self.thread.lock().take() else {
            return;
        };
        self.shared.stop.notify_one();
        if thread.join().is_err() {
            tracing::error!("the network's thread panicked");
        }
    }

    #[cfg(test)]
    fn crash(&self) {
        self.shared.crash.store(true, Ordering::Release);
        self.stop();
    }

    fn check_bindings(&self, peer: &Peer) {
        let history = *self.shared.history.lock();
        if let Some(hello) = peer.hello()
            && let Err(refusal) = check_bindings(&hello, &peer.member(), history)
        {
            peer.close(refusal.reason.code(), &refusal.text);
        }
    }
}

impl Drop for PeerNetwork {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    pub(super) fn emit(&self, event: PeerEvent) {
        (self.on_event)(event);
    }

    pub(super) fn hello(&self) -> Hello {
        self.local.hello(*self.history.lock())
    }

    pub(super) fn peer(&self, id: NodeId) -> Option<Arc<Peer>> {
        self.peers.read().get(&id).cloned()
    }

    /// Returns the member that is expected at `address`, if members are named by addresses rather than host names.
    pub(super) fn member_at(&self, address: SocketAddr) -> Option<NodeId> {
        let peers = self.peers.read();
        peers.values().find(|peer| peer.member().addr.parse() == Ok(address)).map(|peer| peer.id)
    }

    pub(super) fn check_hello(&self, hello: &Hello, certified: NodeId) -> Result<u16, Refusal> {
        let member = self.peer(hello.node).map(|peer| (hello.node, peer.member()));
        let members = member.into_iter().collect();
        self.local.check_hello(hello, certified, *self.history.lock(), &members)
    }

    /// Wakes the network's thread unless that is under way already.
    fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.wake.notify_one();
        }
    }
}

/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_millis(200);

async fn run(shared: &Arc<Shared>, endpoint: &Endpoint, acceptor: &accept::Acceptor, dialer: Arc<Dialer>) {
    tokio::select! {
        () = deal(shared, &dialer) => {}
        () = acceptor.run(shared) => {}
        () = shared.stop.notified() => {}
    }
    #[cfg(test)]
    if shared.crash.load(Ordering::Acquire) {
        return;
    }
    endpoint.close(SHUTTING_DOWN, b"shutting down");
    let _late = tokio::time::timeout(GOODBYE, endpoint.wait_idle()).await;
}

/// Passes wake-ups on to the writers of the lanes that hold something, and starts dialing new peers.
async fn deal(shared: &Arc<Shared>, dialer: &Arc<Dialer>) {
    loop {
        shared.wake.notified().await;
        // Before looking: what is queued after this look wakes again.
        shared.woken.store(false, Ordering::Release);
        for peer in shared.peers.read().values() {
            peer.outbox.wake_writers();
            peer.start_dialing(|| dial::keep_connected(shared.clone(), dialer.clone(), peer.clone()));
        }
    }
}

#[cfg(test)]
mod tests;
