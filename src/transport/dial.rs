//! Keeps dialing a peer while there is no connection to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{ClientConfig, ConnectError, Endpoint};
use thiserror::Error;
use tokio::time::{sleep, timeout};

use super::link::{OpenError, greet};
use super::network::{PeerEvent, Shared};
use super::peer::Peer;
use super::quic::{self, Path, Use};
use super::tls::NodeTls;

/// How long one attempt may take, from the first packet to the answered hello.
const ATTEMPT: Duration = Duration::from_secs(2);

/// Bounds of the pause between attempts; each pause is drawn from 0 up to its bound, which doubles from attempt to attempt.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How long the higher id lets the lower one dial first, so that dials seldom cross: from this up to twice this.
const YIELD: Duration = Duration::from_millis(20);

/// Dials peers from the node's one endpoint.
pub(super) struct Dialer {
    endpoint: Endpoint,
    loopback: ClientConfig,
    network: ClientConfig,
}

#[derive(Debug, Error)]
enum DialError {
    #[error("cannot resolve {0:?}: {1}")]
    Resolve(String, std::io::Error),
    #[error("{0:?} has no address")]
    NoAddress(String),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("no answer within {ATTEMPT:?}")]
    Timeout,
}

impl Dialer {
    pub(super) fn new(endpoint: Endpoint, tls: &NodeTls) -> Result<Dialer, rustls::Error> {
        let config = |path| quic::client_config(tls.peer_client()?, Use::Peers, path);
        Ok(Dialer { endpoint, loopback: config(Path::Loopback)?, network: config(Path::Network)? })
    }

    async fn connect(&self, address: SocketAddr) -> Result<quinn::Connection, DialError> {
        let config = match Path::to(address) {
            Path::Loopback => self.loopback.clone(),
            Path::Network => self.network.clone(),
        };
        // The name is not checked: nodes go by the URI in their certificates.
        let connecting = self.endpoint.connect_with(config, address, "kontiki")?;
        Ok(connecting.await.map_err(OpenError::from)?)
    }
}

/// Dials `peer` whenever there is no connection: at once at first and after a loss, then with growing random pauses.
pub(super) async fn keep_connected(shared: Arc<Shared>, dialer: Arc<Dialer>, peer: Arc<Peer>) {
    let mut failures = 0;
    loop {
        if failures == 0 && peer.id < shared.local.id {
            sleep(YIELD + random_up_to(YIELD)).await;
        }
        if peer.is_connected() {
            failures = 0;
            peer.dial_now.notified().await;
            continue;
        }
        match timeout(ATTEMPT, attempt(&shared, &dialer, &peer)).await.unwrap_or(Err(DialError::Timeout)) {
            Ok(()) => {
                failures = 0;
                continue;
            }
            Err(DialError::Open(OpenError::Refused(refusal))) => {
                tracing::warn!(peer = peer.id.0, %refusal, "peer and this node do not accept each other");
                shared.emit(PeerEvent::Refused { id: peer.id, refusal });
            }
            Err(error) => tracing::debug!(peer = peer.id.0, %error, failures, "peer not reached"),
        }
        failures = (failures + 1).min(16);
        tokio::select! {
            () = sleep(random_up_to(pause(failures))) => {}
            () = peer.dial_now.notified() => {}
        }
    }
}

async fn attempt(shared: &Arc<Shared>, dialer: &Dialer, peer: &Arc<Peer>) -> Result<(), DialError> {
    let addr = peer.member().addr;
    let resolved = tokio::net::lookup_host(&addr).await;
    let mut resolved = resolved.map_err(|error| DialError::Resolve(addr.clone(), error))?;
    let address = resolved.next().ok_or(DialError::NoAddress(addr.clone()))?;
    let connection = dialer.connect(address).await?;
    let link = greet(shared, peer.id, connection).await?;
    peer.install(shared, link, true);
    Ok(())
}

fn pause(failures: u32) -> Duration {
    PAUSE_MIN.saturating_mul(1 << failures.saturating_sub(1)).min(PAUSE_MAX)
}

fn random_up_to(bound: Duration) -> Duration {
    bound.mul_f64(rand::random::<f64>())
}
