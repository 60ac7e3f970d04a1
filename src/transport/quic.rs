//! How QUIC is set up, each setting on purpose. quinn's defaults suit the open internet: a lost first packet costs a
//! second, acknowledgements wait 25 ms, and the receive window has no bound.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::CubicConfig;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    AckFrequencyConfig, ClientConfig, ConnectionError, EndpointConfig, IdleTimeout, ServerConfig, TransportConfig,
    VarInt,
};
use quinn_proto::HashedConnectionIdGenerator;
use ring::hmac;
use socket2::{Domain, Protocol, Socket, Type};

use super::refusal::Refusal;

/// Largest UDP payload on loopback. quinn sends up to 10 at once, and those must stay below 64 KiB.
const LOOPBACK_MTU: u16 = 6144;
const _: () = assert!(10 * (LOOPBACK_MTU as u32) < 65_507);

/// Largest UDP payload accepted from anyone.
const RECEIVE_MTU: u16 = LOOPBACK_MTU;

/// Asked of the kernel, which may give less.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// What may be under way on one connection, in each direction.
const WINDOW_BYTES: u32 = 16 * 1024 * 1024;
const STREAM_WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// The first append of a batch should not wait for slow start.
const INITIAL_WINDOW_BYTES: u64 = 1024 * 1024;

/// The close code of a connection that nobody is to blame for.
pub(crate) const NO_REASON: VarInt = VarInt::from_u32(0);

/// Handshakes under way at once; beyond them strangers are turned away.
pub(crate) const HANDSHAKES_MAX: usize = 64;

/// What kind of conversation a connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Between members: three streams each way, for the life of the connection.
    Peers,
    /// A native client's: bidirectional streams that the client opens.
    Clients,
}

/// How far the other side is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// The same machine: long datagrams, nothing to discover.
    Loopback,
    /// Anywhere else.
    Network,
}

impl Path {
    pub(crate) fn to(address: SocketAddr) -> Path {
        if address.ip().is_loopback() { Path::Loopback } else { Path::Network }
    }
}

/// Returns the settings of one endpoint. With `secret` the same at every start, a restarted node can tell its peers at
/// once that their old connections are gone (stateless reset, RFC 9000 §10.3) instead of letting them time out.
pub(crate) fn endpoint_config(secret: &[u8; 32]) -> EndpointConfig {
    let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, secret)));
    let mut cid_key = [0; 8];
    let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), b"connection ids");
    cid_key.copy_from_slice(&derived.as_ref()[..8]);
    let cid_key = u64::from_le_bytes(cid_key);
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(cid_key)));
    let in_range = config.max_udp_payload_size(RECEIVE_MTU).is_ok();
    assert!(in_range, "{RECEIVE_MTU} is no UDP payload size");
    config
}

pub(crate) fn transport_config(used: Use, path: Path) -> TransportConfig {
    let mut acks = AckFrequencyConfig::default();
    acks.max_ack_delay(Some(Duration::from_millis(2))).ack_eliciting_threshold(VarInt::from_u32(8));
    let mut congestion = CubicConfig::default();
    congestion.initial_window(INITIAL_WINDOW_BYTES);

    let mut config = TransportConfig::default();
    let (uni, bidi, idle, keep_alive) = match used {
        Use::Peers => (3, 0, Duration::from_secs(3), Duration::from_secs(1)),
        Use::Clients => (0, 64, Duration::from_secs(10), Duration::from_secs(3)),
    };
    config
        .max_concurrent_uni_streams(VarInt::from_u32(uni))
        .max_concurrent_bidi_streams(VarInt::from_u32(bidi))
        .max_idle_timeout(IdleTimeout::try_from(idle).ok())
        .keep_alive_interval(Some(keep_alive))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(WINDOW_BYTES))
        .send_window(u64::from(WINDOW_BYTES))
        .send_fairness(false) // A frame is finished before the next stream's turn.
        .initial_rtt(Duration::from_millis(2))
        .ack_frequency_config(Some(acks))
        .congestion_controller_factory(Arc::new(congestion))
        .datagram_receive_buffer_size(None);
    if path == Path::Loopback {
        config.initial_mtu(LOOPBACK_MTU).mtu_discovery_config(None);
    }
    config
}

pub(crate) fn server_config(tls: rustls::ServerConfig, used: Use, path: Path) -> Result<ServerConfig, rustls::Error> {
    let crypto = QuicServerConfig::try_from(tls).map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport_config(used, path))).migration(false).max_incoming(2 * HANDSHAKES_MAX);
    Ok(config)
}

pub(crate) fn client_config(tls: rustls::ClientConfig, used: Use, path: Path) -> Result<ClientConfig, rustls::Error> {
    let crypto = QuicClientConfig::try_from(tls).map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport_config(used, path)));
    Ok(config)
}

/// Returns what the other side said, if it ended a connection because it does not accept who is there.
pub(crate) fn refusal_text(error: &ConnectionError) -> Option<String> {
    Refusal::of_error(error).map(|refusal| refusal.text)
}

/// Binds a UDP socket with buffers that survive a burst.
pub(crate) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    // Best effort: a kernel that gives less costs retransmissions under load, not correctness.
    let _smaller_buffers_do = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _smaller_buffers_do = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    socket.bind(&address.into())?;
    Ok(socket.into())
}
