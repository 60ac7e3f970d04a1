//! Accepts peers that dial this node.

use std::sync::Arc;
use std::time::Duration;

use quinn::{Endpoint, Incoming, ServerConfig};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::link::{OpenError, welcome};
use super::network::{PeerEvent, Shared};
use super::quic::{self, HANDSHAKES_MAX, Path, Use};
use super::tls::NodeTls;

/// How long a stranger may take until its hello is answered.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// With fewer handshakes than this to spare, a stranger must first show that it receives at its address.
const SPARE: usize = HANDSHAKES_MAX / 2;

/// Accepts connections on the node's one endpoint.
pub(super) struct Acceptor {
    endpoint: Endpoint,
    loopback: Arc<ServerConfig>,
    handshakes: Arc<Semaphore>,
}

pub(super) fn server_config(tls: &NodeTls, path: Path) -> Result<ServerConfig, rustls::Error> {
    quic::server_config(tls.peer_server()?, Use::Peers, path)
}

impl Acceptor {
    pub(super) fn new(endpoint: Endpoint, tls: &NodeTls) -> Result<Acceptor, rustls::Error> {
        let loopback = Arc::new(server_config(tls, Path::Loopback)?);
        Ok(Acceptor { endpoint, loopback, handshakes: Arc::new(Semaphore::new(HANDSHAKES_MAX)) })
    }

    /// Runs until the endpoint closes.
    pub(super) async fn run(&self, shared: &Arc<Shared>) {
        while let Some(incoming) = self.endpoint.accept().await {
            if self.handshakes.available_permits() < SPARE && incoming.may_retry() {
                let _validated_already = incoming.retry();
                continue;
            }
            let Ok(permit) = self.handshakes.clone().try_acquire_owned() else {
                incoming.refuse();
                continue;
            };
            let (shared, loopback) = (shared.clone(), self.loopback.clone());
            tokio::spawn(async move {
                let from = incoming.remote_address();
                match timeout(HANDSHAKE, accept_one(&shared, incoming, loopback)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(OpenError::Refused(refusal))) => {
                        tracing::warn!(%from, %refusal, "peer not accepted");
                        // Peers dial from the port that they listen on, so the address tells who it was.
                        if let Some(id) = shared.member_at(from) {
                            shared.emit(PeerEvent::Refused { id, refusal });
                        }
                    }
                    Ok(Err(error)) => tracing::debug!(%from, %error, "connection not accepted"),
                    Err(_) => tracing::debug!(%from, "no hello in time"),
                }
                drop(permit);
            });
        }
    }
}

async fn accept_one(shared: &Arc<Shared>, incoming: Incoming, loopback: Arc<ServerConfig>) -> Result<(), OpenError> {
    let connecting = match Path::to(incoming.remote_address()) {
        Path::Loopback => incoming.accept_with(loopback)?,
        Path::Network => incoming.accept()?,
    };
    let link = welcome(shared, connecting.await?).await?;
    // It was a member when its hello was checked, and may have been removed since.
    if let Some(peer) = shared.peer(link.hello.node) {
        peer.install(shared, link, false);
    }
    Ok(())
}
