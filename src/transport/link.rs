//! One connection between two members: the hello that opens it, and the streams that live as long as it does.
//!
//! Each side opens three unidirectional streams, one per [`Class`]. The first frame of the dialer's control stream is its
//! hello, the first of the acceptor's control stream the answer; a stream is open for other frames from then on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, ConnectionError, ReadError, RecvStream, SendStream, WriteError};
use rustls::pki_types::CertificateDer;
use thiserror::Error;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::proto::peer::{Class, FrameCutter, Hello, HelloAck, PeerMessage, WireError, decode};
use crate::raft::NodeId;

use super::identity::identity_of;
use super::network::{PeerEvent, Shared};
use super::peer::Peer;
use super::refusal::{PROTOCOL_VIOLATION, Refusal, RefusalReason, Refuser};
use super::{probe, quic};

/// A hello with the longest address is far below this.
const HELLO_BYTES_MAX: usize = 1024;

/// How many chunks one read may return.
const CHUNKS_PER_READ: usize = 32;

/// A peer that is silent for so long is asked whether it is gone; again after twice as long, up to the maximum.
const SILENCE_MIN: Duration = Duration::from_millis(100);
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// Why a connection did not open.
#[derive(Debug, Error)]
pub(super) enum OpenError {
    /// One side refused the other.
    #[error("{0}")]
    Refused(Refusal),
    /// What came was no hello.
    #[error("broken hello: {0}")]
    Wire(#[from] WireError),
    /// The connection ended, or never began.
    #[error("{0}")]
    Connection(ConnectionError),
    /// The control stream ended where a hello should be.
    #[error("the stream ended before its hello")]
    Ended,
}

/// A stream that frames are read from.
pub(super) struct Inward {
    stream: RecvStream,
    frames: FrameCutter,
}

/// A connection after its hellos, before its streams are served.
pub(super) struct Link {
    pub(super) connection: Connection,
    pub(super) hello: Hello,
    pub(super) control_out: SendStream,
    pub(super) control_in: Inward,
}

/// Why an inward stream is no longer read.
#[derive(Debug)]
enum ReadEnd {
    /// The other side broke the protocol.
    Violation(String),
    /// The connection is gone; it tells why itself.
    Connection,
}

/// Says hello on a connection that this node dialed to `peer`, and checks the answer.
pub(super) async fn greet(shared: &Shared, peer: NodeId, connection: Connection) -> Result<Link, OpenError> {
    let certified = certified_node(shared, &connection)?;
    if certified != peer {
        let text = format!("dialed node {peer}, but the certificate there is of node {certified}");
        return Err(refuse(&connection, Refusal { by: Refuser::Us, reason: RefusalReason::Identity, text }));
    }
    let mut control_out = connection.open_uni().await?;
    set_priority(&control_out, Class::Control);
    write(&mut control_out, shared.hello().encode()).await?;
    let mut control_in = Inward::new(connection.accept_uni().await?, HELLO_BYTES_MAX);
    let answer = control_in.frame().await.and_then(|frame| Ok(HelloAck::decode(frame)?));
    let HelloAck { version: _, hello } = answer.inspect_err(|error| end(&connection, error))?;
    shared.check_hello(&hello, certified).map_err(|refusal| refuse(&connection, refusal))?;
    control_in.frames.set_limit(shared.frame_bytes_max);
    Ok(Link { connection, hello, control_out, control_in })
}

/// Hears the hello on an accepted connection and answers it.
pub(super) async fn welcome(shared: &Shared, connection: Connection) -> Result<Link, OpenError> {
    let certified = certified_node(shared, &connection)?;
    let mut control_in = Inward::new(connection.accept_uni().await?, HELLO_BYTES_MAX);
    let hello = control_in.frame().await.and_then(|frame| Ok(Hello::decode(frame)?));
    let hello = hello.inspect_err(|error| end(&connection, error))?;
    let version = shared.check_hello(&hello, certified).map_err(|refusal| refuse(&connection, refusal))?;
    let mut control_out = connection.open_uni().await?;
    set_priority(&control_out, Class::Control);
    write(&mut control_out, HelloAck { version, hello: shared.hello() }.encode()).await?;
    control_in.frames.set_limit(shared.frame_bytes_max);
    Ok(Link { connection, hello, control_out, control_in })
}

impl Link {
    /// Moves frames both ways until the connection ends, and returns why it did.
    pub(super) async fn serve(self, shared: &Arc<Shared>, peer: &Arc<Peer>) -> ConnectionError {
        let Link { connection, hello: _, control_out, control_in } = self;
        let mut writers = JoinSet::new();
        let mut readers = JoinSet::new();
        writers.spawn(write_lane(peer.clone(), Class::Control, control_out));
        readers.spawn(control_in.read_messages(shared.clone(), peer.id));
        for class in [Class::Response, Class::Append] {
            match connection.open_uni().await {
                Ok(stream) => {
                    set_priority(&stream, class);
                    writers.spawn(write_lane(peer.clone(), class, stream));
                }
                Err(error) => return error,
            }
        }
        let mut is_dead = false;
        let death = until_dead(&connection);
        tokio::pin!(death);
        loop {
            tokio::select! {
                error = connection.closed() => return error,
                () = &mut death, if !is_dead => {
                    is_dead = true;
                    shared.emit(PeerEvent::Gone { id: peer.id });
                    connection.close(quic::NO_REASON, b"the port is closed");
                }
                stream = connection.accept_uni() => match stream {
                    Ok(stream) => {
                        let inward = Inward::new(stream, shared.frame_bytes_max);
                        readers.spawn(inward.read_messages(shared.clone(), peer.id));
                    }
                    Err(error) => return error,
                },
                Some(ended) = readers.join_next() => match ended {
                    Ok(ReadEnd::Connection) => {}
                    Ok(ReadEnd::Violation(why)) => {
                        tracing::warn!(peer = peer.id.0, why, "peer breaks the protocol");
                        connection.close(PROTOCOL_VIOLATION, why.as_bytes());
                    }
                    Err(panicked) => connection.close(PROTOCOL_VIOLATION, panicked.to_string().as_bytes()),
                },
            }
        }
    }
}

/// Returns once the peer's process is certainly gone: nothing comes, and its port refuses.
async fn until_dead(connection: &Connection) {
    let mut heard = 0;
    let mut silence = SILENCE_MIN;
    loop {
        sleep(silence).await;
        let hears = connection.stats().udp_rx.datagrams;
        if hears != heard {
            (heard, silence) = (hears, SILENCE_MIN);
        } else if probe::is_dead(connection.remote_address()).await {
            return;
        } else {
            silence = (silence * 2).min(SILENCE_MAX);
        }
    }
}

impl Inward {
    fn new(stream: RecvStream, limit: usize) -> Inward {
        Inward { stream, frames: FrameCutter::new(limit) }
    }

    /// Reads one frame. Cancel-safe only in that the connection is dropped with it.
    async fn frame(&mut self) -> Result<Bytes, OpenError> {
        loop {
            if let Some(frame) = self.frames.take_frame()? {
                return Ok(frame);
            }
            match self.stream.read_chunk(HELLO_BYTES_MAX, true).await {
                Ok(Some(chunk)) => self.frames.push(chunk.bytes),
                Ok(None) => return Err(OpenError::Ended),
                Err(ReadError::ConnectionLost(error)) => return Err(error.into()),
                Err(_) => return Err(OpenError::Ended),
            }
        }
    }

    /// Hands every message of the stream to the node, in order.
    async fn read_messages(mut self, shared: Arc<Shared>, from: NodeId) -> ReadEnd {
        let mut chunks: [Bytes; CHUNKS_PER_READ] = std::array::from_fn(|_| Bytes::new());
        loop {
            // Frames may wait already: the hello can share a packet with what follows it.
            if let Err(error) = deliver(&mut self.frames, &shared, from) {
                return ReadEnd::Violation(error.to_string());
            }
            let read = match self.stream.read_chunks(&mut chunks).await {
                Ok(Some(read)) => read,
                Ok(None) | Err(ReadError::Reset(_)) => return ReadEnd::Violation("a stream ended early".to_owned()),
                Err(_) => return ReadEnd::Connection,
            };
            for chunk in &mut chunks[..read] {
                self.frames.push(std::mem::take(chunk));
                if let Err(error) = deliver(&mut self.frames, &shared, from) {
                    return ReadEnd::Violation(error.to_string());
                }
            }
        }
    }
}

fn deliver(frames: &mut FrameCutter, shared: &Shared, from: NodeId) -> Result<(), WireError> {
    while let Some(frame) = frames.take_frame()? {
        let message: PeerMessage = decode(frame)?;
        shared.emit(PeerEvent::Message { from, message });
    }
    Ok(())
}

/// Sends what a lane holds, all of it in one write; what comes meanwhile forms the next.
async fn write_lane(peer: Arc<Peer>, class: Class, mut stream: SendStream) {
    loop {
        let mut chunks = peer.outbox.take(class).await;
        if stream.write_all_chunks(&mut chunks).await.is_err() {
            return; // The connection is gone; whoever serves it sees why.
        }
    }
}

async fn write(stream: &mut SendStream, mut chunks: Vec<Bytes>) -> Result<(), OpenError> {
    stream.write_all_chunks(&mut chunks).await.map_err(|error| match error {
        WriteError::ConnectionLost(error) => error.into(),
        WriteError::Stopped(_) | WriteError::ClosedStream | WriteError::ZeroRttRejected => OpenError::Ended,
    })
}

fn set_priority(stream: &SendStream, class: Class) {
    let priority = match class {
        Class::Control => 20,
        Class::Response => 10,
        Class::Append => 0,
    };
    // Fails only on a closed stream, and then the next write tells.
    let _closed = stream.set_priority(priority);
}

/// Returns the node that the other side's certificate speaks for.
fn certified_node(shared: &Shared, connection: &Connection) -> Result<NodeId, OpenError> {
    let identity = connection.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    let refusal = |text: String| Refusal { by: Refuser::Us, reason: RefusalReason::Identity, text };
    let named = match identity.as_ref().and_then(|chain| chain.first()) {
        Some(cert) => identity_of(cert).map_err(|error| refusal(error.to_string())),
        None => Err(refusal("no certificate was shown".to_owned())),
    };
    named.and_then(|named| shared.local.check_certificate(&named)).map_err(|refusal| refuse(connection, refusal))
}

/// Tells the other side that it broke the protocol before it began.
fn end(connection: &Connection, error: &OpenError) {
    match error {
        OpenError::Wire(_) | OpenError::Ended => connection.close(PROTOCOL_VIOLATION, error.to_string().as_bytes()),
        OpenError::Refused(_) | OpenError::Connection(_) => {}
    }
}

fn refuse(connection: &Connection, refusal: Refusal) -> OpenError {
    connection.close(refusal.reason.code(), refusal.text.as_bytes());
    OpenError::Refused(refusal)
}

impl From<ConnectionError> for OpenError {
    fn from(error: ConnectionError) -> OpenError {
        match Refusal::of_error(&error) {
            Some(refusal) => OpenError::Refused(refusal),
            None => OpenError::Connection(error),
        }
    }
}
