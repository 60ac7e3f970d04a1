//! One stream to one node: calls out, their ends in, and the watch for a node that is gone.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream, TokioRuntime, VarInt};
use thiserror::Error;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::{interval, timeout};

use crate::proto::native::{
    CALLS_IN_FLIGHT_MAX, Call, CallEnd, ClientCall, ClientHello, Denial, FrameCutter, NATIVE_VERSION,
    REPLY_FRAME_BYTES_MAX, ServerFrame, WireError,
};
use crate::transport::probe::is_dead;
use crate::transport::quic::{self, Path, Use};
use crate::transport::tls::ClientTls;

use super::error::Denied;

/// How long one node may take from the first packet to its welcome.
const DIAL_TIME_MAX: Duration = Duration::from_secs(2);

/// While calls wait and nothing comes, this often the node is asked whether it is there.
const WATCH_EVERY: Duration = Duration::from_millis(100);

/// After so many questions without a sign of life the node is given up.
const SILENT_TICKS_MAX: u32 = 10;

/// The other side is not to blame.
const NO_REASON: VarInt = VarInt::from_u32(0);

/// Why there is no link to a node.
#[derive(Clone, Debug, Error)]
pub(super) enum DialError {
    #[error("{0}")]
    Denied(Denied),
    #[error("{0}")]
    Unreachable(String),
}

/// Why a call has no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// It was not sent.
    Unsent,
    /// It was sent, and the link broke before its end came.
    Sent,
}

/// An open stream to one node.
pub(super) struct Link {
    /// As the caller wrote it.
    pub(super) address: String,
    /// Where clients reach the leader, as the node said when the link was opened; empty if it did not know.
    pub(super) leader: String,
    /// The longest entry that the node takes, in bytes.
    pub(super) entry_bytes_max: usize,
    connection: Connection,
    calls: Mutex<Calls>,
    /// At most so many calls as the node takes at a time.
    room: Semaphore,
    written: Notify,
    next_id: AtomicU64,
}

#[derive(Default)]
struct Calls {
    /// Frames that wait to be written.
    out: Vec<Bytes>,
    waiting: BTreeMap<u64, oneshot::Sender<CallEnd>>,
    is_closed: bool,
    /// No new calls are wanted here; the last end closes the link.
    is_left: bool,
}

/// Opens a link to `address`.
pub(super) async fn dial(address: &str, tls: &ClientTls, password: Bytes) -> Result<Arc<Link>, DialError> {
    match timeout(DIAL_TIME_MAX, try_dial(address, tls, password)).await {
        Ok(dialed) => dialed,
        Err(_) => Err(unreachable(address, "no answer")),
    }
}

async fn try_dial(address: &str, tls: &ClientTls, password: Bytes) -> Result<Arc<Link>, DialError> {
    let told = |error: &dyn std::fmt::Display| unreachable(address, error);
    let mut resolved = tokio::net::lookup_host(address).await.map_err(|error| told(&error))?;
    let target = resolved.next().ok_or_else(|| told(&"the name has no address"))?;
    drop(resolved);
    let tls = tls.config().and_then(|tls| quic::client_config(tls, Use::Clients, Path::to(target)));
    let config = tls.map_err(|error| DialError::Denied(Denied::Certificate(error.to_string())))?;
    let endpoint = endpoint_towards(target).map_err(|error| told(&error))?;
    // The name is not checked: nodes go by the URI in their certificates.
    let connecting = endpoint.connect_with(config, target, "kontiki").map_err(|error| told(&error))?;
    let connection = tokio::select! {
        connected = connecting => connected.map_err(|error| refused(address, &error))?,
        () = until_dead(target) => return Err(told(&"connection refused")),
    };
    let opened = connection.open_bi().await;
    let (mut output, mut input) = opened.map_err(|error| refused(address, &error))?;
    let hello = ClientHello { version_min: NATIVE_VERSION, version_max: NATIVE_VERSION, password };
    output.write_all_chunks(&mut hello.encode()).await.map_err(|error| told(&error))?;
    let mut frames = FrameCutter::new(REPLY_FRAME_BYTES_MAX);
    let welcome = loop {
        if let Some(frame) = frames.take_frame().map_err(|error| told(&error))? {
            break ServerFrame::decode(frame).map_err(|error| told(&error))?;
        }
        match input.read_chunk(1024, true).await {
            Ok(Some(chunk)) => frames.push(chunk.bytes),
            Ok(None) => return Err(told(&"the stream ended before its welcome")),
            Err(error) => {
                return Err(connection.close_reason().map_or_else(|| told(&error), |error| refused(address, &error)));
            }
        }
    };
    match welcome {
        ServerFrame::Welcome { version: _, node: _, entry_bytes_max, leader } => {
            let link = Arc::new(Link {
                address: address.to_owned(),
                leader,
                entry_bytes_max: usize::try_from(entry_bytes_max).unwrap_or(usize::MAX),
                connection,
                calls: Mutex::default(),
                room: Semaphore::new(CALLS_IN_FLIGHT_MAX),
                written: Notify::new(),
                next_id: AtomicU64::new(1),
            });
            tokio::spawn(run(link.clone(), endpoint, target, output, input, frames));
            Ok(link)
        }
        ServerFrame::Denied(Denial::Proof) => Err(DialError::Denied(Denied::Proof)),
        ServerFrame::Denied(Denial::Version) => Err(DialError::Denied(Denied::Version)),
        ServerFrame::Ended { .. } => Err(told(&"an answer before the welcome")),
    }
}

impl Link {
    /// Sends one call and returns its end.
    pub(super) async fn call(&self, call: Call, deadline_ms: u32) -> Result<CallEnd, Lost> {
        let Ok(_place) = self.room.acquire().await else {
            return Err(Lost::Unsent);
        };
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let frame = ClientCall { id, deadline_ms, call }.encode();
        let (sender, end) = oneshot::channel();
        {
            let mut calls = self.calls.lock();
            if calls.is_closed {
                return Err(Lost::Unsent);
            }
            calls.out.extend(frame);
            calls.waiting.insert(id, sender);
        }
        self.written.notify_one();
        let mut forget = Forget { link: self, id, is_ended: false };
        let end = end.await.map_err(|_| Lost::Sent);
        forget.is_ended = true;
        end
    }

    pub(super) fn is_closed(&self) -> bool {
        self.calls.lock().is_closed
    }

    /// Closes the link once its last call has ended.
    pub(super) fn leave(&self) {
        let mut calls = self.calls.lock();
        calls.is_left = true;
        if calls.waiting.is_empty() {
            self.connection.close(NO_REASON, b"");
        }
    }

    fn end(&self, id: u64, end: CallEnd) {
        let mut calls = self.calls.lock();
        // An end that nobody waits for is of a call that was given up.
        if let Some(waiting) = calls.waiting.remove(&id) {
            let _given_up = waiting.send(end);
        }
        if calls.is_left && calls.waiting.is_empty() {
            self.connection.close(NO_REASON, b"");
        }
    }

    fn set_closed(&self) {
        let mut calls = self.calls.lock();
        calls.is_closed = true;
        calls.out.clear();
        calls.waiting.clear(); // Tells their callers.
        self.room.close();
    }
}

/// Gives up a call whose caller is gone.
struct Forget<'a> {
    link: &'a Link,
    id: u64,
    is_ended: bool,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        if !self.is_ended {
            self.link.calls.lock().waiting.remove(&self.id);
        }
    }
}

/// Serves a link until it breaks or its last user is gone. Owns the endpoint: the socket closes with it.
async fn run(
    link: Arc<Link>,
    endpoint: Endpoint,
    target: SocketAddr,
    output: SendStream,
    input: RecvStream,
    frames: FrameCutter,
) {
    let why = tokio::select! {
        why = write(&link, output) => why,
        why = read(&link, input, frames) => why,
        why = watch(&link, target) => why,
        error = link.connection.closed() => error.to_string(),
    };
    tracing::debug!(address = link.address, why, "link closed");
    link.connection.close(NO_REASON, b"");
    link.set_closed();
    drop(link);
    let _late = timeout(Duration::from_millis(200), endpoint.wait_idle()).await;
}

async fn write(link: &Link, mut output: SendStream) -> String {
    loop {
        let mut chunks = std::mem::take(&mut link.calls.lock().out);
        if chunks.is_empty() {
            link.written.notified().await;
        } else if let Err(error) = output.write_all_chunks(&mut chunks).await {
            return error.to_string();
        }
    }
}

async fn read(link: &Link, mut input: RecvStream, mut frames: FrameCutter) -> String {
    loop {
        match take_ends(link, &mut frames) {
            Ok(()) => {}
            Err(error) => return error.to_string(),
        }
        match input.read_chunk(usize::MAX, true).await {
            Ok(Some(chunk)) => frames.push(chunk.bytes),
            Ok(None) => return "the node ended the stream".to_owned(),
            Err(error) => return error.to_string(),
        }
    }
}

fn take_ends(link: &Link, frames: &mut FrameCutter) -> Result<(), WireError> {
    while let Some(frame) = frames.take_frame()? {
        match ServerFrame::decode(frame)? {
            ServerFrame::Ended { id, end } => link.end(id, end),
            ServerFrame::Welcome { .. } | ServerFrame::Denied(_) => {
                return Err(WireError::Value { field: "a second welcome" });
            }
        }
    }
    Ok(())
}

/// Returns when the node gives no sign of life although calls wait for it.
///
/// A ping makes QUIC on the other side acknowledge, whatever the node is busy with; a refused port tells at once that the
/// process is gone.
async fn watch(link: &Link, target: SocketAddr) -> String {
    let mut ticks = interval(WATCH_EVERY);
    let mut heard = 0;
    let mut silent_ticks = 0;
    loop {
        ticks.tick().await;
        let hears = link.connection.stats().udp_rx.datagrams;
        if hears != heard || link.calls.lock().waiting.is_empty() {
            (heard, silent_ticks) = (hears, 0);
            continue;
        }
        silent_ticks += 1;
        if silent_ticks > SILENT_TICKS_MAX {
            return "the node is silent".to_owned();
        }
        link.calls.lock().out.extend(ClientCall { id: 0, deadline_ms: 0, call: Call::Ping }.encode());
        link.written.notify_one();
        if is_dead(target).await {
            return "the node's port is closed".to_owned();
        }
    }
}

/// Returns once the target's port is known to be closed.
async fn until_dead(target: SocketAddr) {
    while !is_dead(target).await {
        tokio::time::sleep(WATCH_EVERY).await;
    }
}

fn endpoint_towards(target: SocketAddr) -> io::Result<Endpoint> {
    let any: SocketAddr = if target.is_ipv4() { ([0; 4], 0).into() } else { ([0; 16], 0).into() };
    let secret = rand::random();
    Endpoint::new(quic::endpoint_config(&secret), None, quic::bind(any)?, Arc::new(TokioRuntime))
}

fn unreachable(address: &str, why: impl std::fmt::Display) -> DialError {
    DialError::Unreachable(format!("{address}: {why}"))
}

/// A handshake that fails for the certificates fails the same way next time.
fn refused(address: &str, error: &ConnectionError) -> DialError {
    match quic::refusal_text(error) {
        Some(text) => DialError::Denied(Denied::Certificate(format!("{address}: {text}"))),
        None => unreachable(address, error),
    }
}
