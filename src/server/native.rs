//! The door for native clients: QUIC on the client address, one bidirectional stream per worker of a client.
//!
//! Calls of a stream are independent of each other: each ends on its own, in any order. A write names its session and
//! sequence, so a client may send it again on any stream of any node.
#![allow(clippy::disallowed_methods, reason = "a door has a clock: handshakes and stops have deadlines")]

mod check;
mod stream;

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quinn::{Connection, Endpoint, Incoming, ServerConfig, TokioRuntime, VarInt};
use rustls::pki_types::CertificateDer;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::proto::native::CALLS_IN_FLIGHT_MAX;
use crate::runtime::{Handle, Password, WRITES_IN_FLIGHT_MAX};
use crate::transport::identity::{CertRole, identity_of};
use crate::transport::quic::{self, HANDSHAKES_MAX, Path, Use};
use crate::transport::tls::{CLIENT_ALPN, NodeTls};

use check::Bounds;

/// Calls of one connection that may be unanswered at a time, whatever the number of its streams.
const CALLS_MAX: usize = CALLS_IN_FLIGHT_MAX;
const _: () = assert!(CALLS_MAX <= WRITES_IN_FLIGHT_MAX);

/// How long a client may take to prove itself, if it must: also one that opens no stream.
const PROOF_TIME_MAX: Duration = Duration::from_secs(10);

/// How long a stranger may take to finish its handshake.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(5);

/// After this time at a stop, connections that are still not answered are closed all the same.
const STOP_TIME_MAX: Duration = Duration::from_secs(3);

/// How long the last goodbyes may take.
const GOODBYE_TIME_MAX: Duration = Duration::from_millis(200);

/// The client broke the protocol.
const PROTOCOL_VIOLATION: VarInt = VarInt::from_u32(5);
/// The client does not read its answers.
const STALLED: VarInt = VarInt::from_u32(9);
/// The process ends.
const SHUTTING_DOWN: VarInt = VarInt::from_u32(8);
/// The certificate is not a client's of this cluster.
const NOT_A_CLIENT: VarInt = VarInt::from_u32(3);

/// What the native door is started with.
#[derive(Clone)]
pub struct NativeOptions {
    /// The node's certificate and the authorities that sign clients' certificates.
    pub tls: NodeTls,
    /// What clients must know, unless they show a certificate of the cluster.
    pub password: Option<Password>,
    /// Whether clients must prove themselves also when no password is set: by a certificate then.
    pub is_proof_required: bool,
    /// The most connections served at once.
    pub max_clients: usize,
    /// The longest value in bytes.
    pub max_value_bytes: usize,
    /// The longest log entry in bytes.
    pub max_entry_bytes: usize,
}

/// What all streams share.
struct Door {
    handle: Handle,
    bounds: Bounds,
    proof: Proof,
    cluster: String,
    shutdown: watch::Receiver<bool>,
}

/// What the streams of one connection share.
struct Client {
    connection: Connection,
    /// Whether its certificate or, on some stream, its password has proved it.
    is_proved: AtomicBool,
    /// One permit for each call that may be taken.
    calls: Arc<Semaphore>,
    /// Held while answers are made and sent, so that what is unsent of a connection is never more than one long answer.
    answering: Mutex<()>,
}

/// What clients without a certificate must do.
enum Proof {
    Nothing,
    Certificate,
    Password(Password),
}

/// Binds the socket for [`serve`].
pub fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    quic::bind(address)
}

/// Serves native clients on `socket` until `shutdown` is true (or its sender gone): then it accepts no more, answers what is
/// under way, closes every connection and returns. Must run inside a tokio runtime.
pub async fn serve(
    socket: UdpSocket,
    handle: Handle,
    options: NativeOptions,
    shutdown: watch::Receiver<bool>,
) -> io::Result<()> {
    let settings = quic::endpoint_config(&options.tls.derive_secret("client endpoint"));
    let network = server_config(&options.tls, Path::Network)?;
    let loopback = Arc::new(server_config(&options.tls, Path::Loopback)?);
    let endpoint = Endpoint::new(settings, Some(network), socket, Arc::new(TokioRuntime))?;
    let door = Arc::new(Door {
        handle,
        bounds: Bounds { value_bytes: options.max_value_bytes, entry_bytes: options.max_entry_bytes },
        proof: Proof::new(&options),
        cluster: options.tls.cluster().to_owned(),
        shutdown: shutdown.clone(),
    });
    let clients = Arc::new(Semaphore::new(options.max_clients));
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let mut connections = JoinSet::new();
    let mut stopping = shutdown;
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.accept() => incoming,
            Some(ended) = connections.join_next() => {
                log_panic(ended);
                continue;
            }
            _ = stopping.wait_for(|is_stopping| *is_stopping) => None,
        };
        let Some(incoming) = incoming else {
            break;
        };
        if let Some((incoming, permits)) = admit(incoming, &handshakes, &clients) {
            connections.spawn(serve_connection(door.clone(), incoming, loopback.clone(), permits));
        }
    }
    endpoint.set_server_config(None);
    let all_answered = async { while connections.join_next().await.is_some() {} };
    let _late = timeout(STOP_TIME_MAX, all_answered).await;
    endpoint.close(SHUTTING_DOWN, b"shutting down");
    let _late = timeout(GOODBYE_TIME_MAX, endpoint.wait_idle()).await;
    Ok(())
}

/// A place among the handshakes, and one among the clients.
struct Permits {
    handshake: OwnedSemaphorePermit,
    client: OwnedSemaphorePermit,
}

/// Turns strangers away when there are too many: first those whose address may be forged, then all.
fn admit(incoming: Incoming, handshakes: &Arc<Semaphore>, clients: &Arc<Semaphore>) -> Option<(Incoming, Permits)> {
    if handshakes.available_permits() < HANDSHAKES_MAX / 2 && incoming.may_retry() {
        let _validated_already = incoming.retry();
        return None;
    }
    match (handshakes.clone().try_acquire_owned(), clients.clone().try_acquire_owned()) {
        (Ok(handshake), Ok(client)) => Some((incoming, Permits { handshake, client })),
        (Ok(_) | Err(_), Ok(_) | Err(_)) => {
            incoming.refuse();
            None
        }
    }
}

async fn serve_connection(door: Arc<Door>, incoming: Incoming, loopback: Arc<ServerConfig>, permits: Permits) {
    let from = incoming.remote_address();
    let accepted = match Path::to(from) {
        Path::Loopback => incoming.accept_with(loopback),
        Path::Network => incoming.accept(),
    };
    let Permits { handshake, client } = permits;
    let mut stopping = door.shutdown.clone();
    let connection = match accepted {
        Ok(connecting) => match tokio::select! {
            connected = timeout(HANDSHAKE_TIME_MAX, connecting) => connected,
            _ = stopping.wait_for(|is_stopping| *is_stopping) => return,
        } {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return tracing::debug!(%from, %error, "a native client did not get in"),
            Err(_) => return tracing::debug!(%from, "a native client's handshake took too long"),
        },
        Err(error) => return tracing::debug!(%from, %error, "a native client did not get in"),
    };
    drop(handshake);
    match door.certified(&connection) {
        Ok(is_certified) => serve_streams(&door, &connection, is_certified).await,
        Err(why) => connection.close(NOT_A_CLIENT, why.as_bytes()),
    }
    drop(client);
}

async fn serve_streams(door: &Arc<Door>, connection: &Connection, is_certified: bool) {
    let client = Arc::new(Client {
        connection: connection.clone(),
        is_proved: AtomicBool::new(is_certified || door.proof.accepts(b"")),
        calls: Arc::new(Semaphore::new(CALLS_MAX)),
        answering: Mutex::default(),
    });
    let mut stopping = door.shutdown.clone();
    let unproved = sleep(PROOF_TIME_MAX);
    tokio::pin!(unproved);
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            opened = connection.accept_bi() => match opened {
                Ok((output, input)) => {
                    streams.spawn(stream::serve(door.clone(), client.clone(), output, input, is_certified));
                }
                Err(_) => return, // The client is gone; its streams are dropped with this set.
            },
            Some(ended) = streams.join_next() => log_panic(ended),
            () = &mut unproved, if !client.is_proved.load(Ordering::Relaxed) => {
                tracing::info!(client = %connection.remote_address(), "a native client did not prove itself in time");
                return connection.close(PROTOCOL_VIOLATION, b"no proof in time");
            }
            _ = stopping.wait_for(|is_stopping| *is_stopping) => break,
        }
    }
    while streams.join_next().await.is_some() {}
    connection.close(SHUTTING_DOWN, b"shutting down");
}

impl Door {
    /// Returns whether the client has shown a certificate that proves it; an error if it has shown another one.
    fn certified(&self, connection: &Connection) -> Result<bool, String> {
        let identity = connection.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
        let Some(cert) = identity.as_ref().and_then(|chain| chain.first()) else {
            return Ok(false);
        };
        let named = identity_of(cert).map_err(|error| error.to_string())?;
        match named.role {
            CertRole::Client(_) if named.cluster == self.cluster => Ok(true),
            CertRole::Client(_) | CertRole::Node(_) | CertRole::Authority => {
                Err(format!("{named} is not a client of cluster {}", self.cluster))
            }
        }
    }

    /// Returns where clients reach the leader; empty if it is not known.
    fn leader(&self) -> String {
        let status = self.handle.status();
        let leader = status.members.iter().find(|member| Some(member.id) == status.leader_id);
        leader.map(|member| member.client_addr.clone()).unwrap_or_default()
    }
}

impl Proof {
    fn new(options: &NativeOptions) -> Proof {
        match &options.password {
            Some(password) => Proof::Password(password.clone()),
            None if options.is_proof_required => Proof::Certificate,
            None => Proof::Nothing,
        }
    }

    fn accepts(&self, given: &[u8]) -> bool {
        match self {
            Proof::Nothing => true,
            Proof::Certificate => false,
            Proof::Password(password) => password.is(given),
        }
    }
}

fn server_config(tls: &NodeTls, path: Path) -> io::Result<ServerConfig> {
    let config = tls.client_door(&[CLIENT_ALPN]).and_then(|tls| quic::server_config(tls, Use::Clients, path));
    config.map_err(io::Error::other)
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a native connection's task failed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_password_opens_a_door_with_one() {
        let proof = Proof::Password(Password(b"open sesame".to_vec()));
        assert!(proof.accepts(b"open sesame"));
        assert!(!proof.accepts(b"open sesam") && !proof.accepts(b""));
        assert!(Proof::Nothing.accepts(b""));
        assert!(!Proof::Certificate.accepts(b"open sesame"));
    }
}
