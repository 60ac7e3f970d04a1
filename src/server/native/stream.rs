//! One stream of a native client: a hello, then calls in and their ends out.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use quinn::{ReadError, RecvStream, SendStream, VarInt, WriteError};
use thiserror::Error;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout, timeout_at};

use crate::kv::{Command, Operation, Query};
use crate::node::{Outcome, RequestError, WriteSession};
use crate::proto::entry::{self, Body};
use crate::proto::native::{
    CALL_BYTES_BESIDE_ENTRY, Call, CallEnd, ClientCall, ClientHello, Denial, Failure, FrameCutter, HELLO_BYTES_MAX,
    NATIVE_VERSION, Refusal, ServerFrame, WireError,
};
use crate::raft::NodeId;
use crate::runtime::{self, Completion};

use super::check::Unfit;
use super::{Client, Door, PROTOCOL_VIOLATION, STALLED};

/// How long a client may take to say hello, the password included.
const HELLO_TIME_MAX: Duration = Duration::from_secs(10);

/// The longest time that a call may take, whatever the client asks for.
const DEADLINE_MAX: Duration = Duration::from_secs(60);

/// A client must take some of its answers within this time.
const STALL_TIME_MAX: Duration = Duration::from_secs(10);

/// How long the newest answers may take to be acknowledged before a stream ends: a client that vanished stops nobody.
const ACKNOWLEDGED_TIME_MAX: Duration = Duration::from_millis(500);

/// Answers up to this many bytes are sent together.
const TOGETHER_BYTES_MAX: usize = 64 * 1024;

/// How many chunks one read may return.
const CHUNKS_PER_READ: usize = 32;

/// Why a stream ended before its time.
#[derive(Debug, Error)]
enum StreamError {
    #[error("{0}")]
    Wire(#[from] WireError),
    #[error("{0}")]
    Violation(&'static str),
    #[error("no hello in time")]
    Late,
    #[error("the client is not let in")]
    Denied,
    #[error("answers are not read")]
    Stalled,
    #[error("the stream broke")]
    Broken,
}

/// A call that the node has and has not ended.
struct Waiting {
    id: u64,
    /// What is asked; `None` for a write.
    query: Option<Query>,
    /// Its place among the calls of the connection.
    _permit: OwnedSemaphorePermit,
}

/// A stream after its hello.
///
/// - Every call in `waiting` has one of the connection's permits: while there is none, nothing is read, and QUIC holds the
///   client back.
/// - Answers are made only while the connection's other streams make none.
struct Stream {
    door: Arc<Door>,
    client: Arc<Client>,
    node: runtime::Connection,
    input: RecvStream,
    output: SendStream,
    chunks: VecDeque<Bytes>,
    frames: FrameCutter,
    waiting: BTreeMap<u64, Waiting>,
    next_number: u64,
    /// A permit that was waited for.
    permit: Option<OwnedSemaphorePermit>,
    ended: Vec<Bytes>,
    sent: Instant,
    is_input_over: bool,
}

/// Serves one stream until the client ends it, breaks the protocol, or the node stops.
pub(super) async fn serve(
    door: Arc<Door>,
    client: Arc<Client>,
    output: SendStream,
    input: RecvStream,
    is_certified: bool,
) {
    let mut stream = Stream {
        node: door.handle.connect(),
        frames: FrameCutter::new(HELLO_BYTES_MAX),
        door: door.clone(),
        client: client.clone(),
        input,
        output,
        chunks: VecDeque::new(),
        waiting: BTreeMap::new(),
        next_number: 1,
        permit: None,
        ended: Vec::new(),
        sent: Instant::now(),
        is_input_over: false,
    };
    let connection = &client.connection;
    let mut stopping = door.shutdown.clone();
    let welcomed = tokio::select! {
        welcomed = timeout(HELLO_TIME_MAX, stream.welcome(is_certified)) => welcomed,
        _ = stopping.wait_for(|is_stopping| *is_stopping) => return,
    };
    let served = match welcomed {
        Ok(Ok(())) => stream.run().await,
        Ok(Err(error)) => Err(error),
        Err(_) => Err(StreamError::Late),
    };
    match served {
        Ok(()) | Err(StreamError::Broken) => {}
        Err(StreamError::Denied) => {
            // The denial must be read before the connection ends; a client that does not is closed all the same.
            let _late = timeout(ACKNOWLEDGED_TIME_MAX, stream.output.stopped()).await;
            connection.close(VarInt::from_u32(0), b"denied");
        }
        Err(StreamError::Stalled) => {
            tracing::info!(client = %connection.remote_address(), "a native client does not read its answers");
            connection.close(STALLED, b"answers are not read");
        }
        Err(error @ (StreamError::Wire(_) | StreamError::Violation(_) | StreamError::Late)) => {
            tracing::info!(client = %connection.remote_address(), %error, "a native client breaks the protocol");
            connection.close(PROTOCOL_VIOLATION, error.to_string().as_bytes());
        }
    }
}

impl Stream {
    /// Hears the hello and answers it.
    async fn welcome(&mut self, is_certified: bool) -> Result<(), StreamError> {
        let frame = loop {
            if let Some(frame) = self.frames.take_frame()? {
                break frame;
            }
            let chunk = self.input.read_chunk(HELLO_BYTES_MAX, true).await.map_err(|_| StreamError::Broken)?;
            self.frames.push(chunk.ok_or(StreamError::Broken)?.bytes);
        };
        let hello = ClientHello::decode(frame)?;
        let is_spoken = (hello.version_min..=hello.version_max).contains(&NATIVE_VERSION);
        let is_proved = is_certified || self.door.proof.accepts(&hello.password);
        let denial = match (is_spoken, is_proved) {
            (true, true) => None,
            (true, false) => Some(Denial::Proof),
            (false, true | false) => Some(Denial::Version),
        };
        if let Some(denial) = denial {
            self.ended = ServerFrame::Denied(denial).encode();
            self.send().await?;
            self.output.finish().map_err(|_| StreamError::Broken)?;
            return Err(StreamError::Denied);
        }
        self.client.is_proved.store(true, Ordering::Relaxed);
        self.frames.set_limit(self.door.bounds.entry_bytes.saturating_add(CALL_BYTES_BESIDE_ENTRY));
        let welcome = ServerFrame::Welcome {
            version: NATIVE_VERSION,
            node: NodeId(self.door.handle.status().node_id),
            entry_bytes_max: u32::try_from(self.door.bounds.entry_bytes).unwrap_or(u32::MAX),
            leader: self.door.leader(),
        };
        self.ended = welcome.encode();
        self.send().await
    }

    async fn run(&mut self) -> Result<(), StreamError> {
        let mut chunks: [Bytes; CHUNKS_PER_READ] = std::array::from_fn(|_| Bytes::new());
        let mut stopping = self.door.shutdown.clone();
        loop {
            let is_stopping = *stopping.borrow_and_update();
            let is_hungry = !is_stopping && self.take_calls()?;
            self.send().await?;
            self.complete_all(None).await?;
            if self.waiting.is_empty() && (is_stopping || (self.is_input_over && is_hungry)) {
                // Fails only if the client is gone.
                let _gone = self.output.finish();
                let _gone_or_late = timeout_at(self.sent + ACKNOWLEDGED_TIME_MAX, self.output.stopped()).await;
                return Ok(());
            }
            tokio::select! {
                completion = self.node.completed(), if !self.waiting.is_empty() => {
                    self.complete_all(Some(completion)).await?;
                }
                permit = self.client.calls.clone().acquire_owned(), if !is_hungry && !is_stopping => {
                    self.permit = permit.ok();
                }
                read = self.input.read_chunks(&mut chunks), if is_hungry && !self.is_input_over => match read {
                    Ok(Some(read)) => self.chunks.extend(chunks[..read].iter_mut().map(std::mem::take)),
                    Ok(None) | Err(ReadError::Reset(_)) => self.is_input_over = true,
                    Err(_) => return Err(StreamError::Broken),
                },
                changed = stopping.changed(), if !is_stopping => {
                    if changed.is_err() {
                        return Err(StreamError::Broken); // The node is gone.
                    }
                }
            }
        }
    }

    /// Hands calls to the node. Returns false if some had to be left for lack of room.
    fn take_calls(&mut self) -> Result<bool, StreamError> {
        while let Some(permit) = self.permit.take().or_else(|| self.client.calls.clone().try_acquire_owned().ok()) {
            let frame = loop {
                if let Some(frame) = self.frames.take_frame()? {
                    break frame;
                }
                match self.chunks.pop_front() {
                    Some(chunk) => self.frames.push(chunk),
                    None => return Ok(true),
                }
            };
            self.submit(ClientCall::decode(frame)?, permit)?;
        }
        Ok(false)
    }

    fn submit(&mut self, call: ClientCall, permit: OwnedSemaphorePermit) -> Result<(), StreamError> {
        let ClientCall { id, deadline_ms, call } = call;
        let deadline = Duration::from_millis(u64::from(deadline_ms)).min(DEADLINE_MAX);
        let number = self.next_number;
        self.next_number += 1;
        match call {
            Call::OpenSession => {
                let entry = entry::encode(&Body::Operation(Operation::Command(Command::OpenSession)));
                // Executed twice it leaves a session that nobody uses, and that expires.
                self.node.write(number, WriteSession::None, entry, deadline);
                self.waiting.insert(number, Waiting { id, query: None, _permit: permit });
            }
            Call::Write { session, seq, first_unanswered, entry } => match self.door.bounds.check(entry) {
                Ok(entry) => {
                    let session = WriteSession::Opened { session, seq, first_unanswered };
                    self.node.write(number, session, entry, deadline);
                    self.waiting.insert(number, Waiting { id, query: None, _permit: permit });
                }
                Err(Unfit::Refused(refusal)) => self.fail(id, Failure::Refused(refusal)),
                Err(Unfit::Violation(why)) => return Err(StreamError::Violation(why)),
            },
            Call::Ping => {}
            Call::Query(query) => {
                self.node.read(number, deadline);
                self.waiting.insert(number, Waiting { id, query: Some(query), _permit: permit });
            }
        }
        Ok(())
    }

    /// Ends the calls that the node has ended, `first` among them, and sends long answers before the next is made.
    async fn complete_all(&mut self, first: Option<Completion>) -> Result<(), StreamError> {
        let mut next = first.or_else(|| self.node.poll_completed());
        if next.is_none() {
            return Ok(());
        }
        let client = self.client.clone();
        let _answering = client.answering.lock().await;
        while let Some(completion) = next {
            self.complete(completion);
            if self.ended.iter().map(Bytes::len).sum::<usize>() > TOGETHER_BYTES_MAX {
                self.send().await?;
            }
            next = self.node.poll_completed();
        }
        self.send().await
    }

    fn complete(&mut self, completion: Completion) {
        let Completion { number, outcome, .. } = completion;
        let Some(waiting) = self.waiting.remove(&number) else {
            return tracing::error!(number, "the node ended a call that was not under way");
        };
        let id = waiting.id;
        let end = match (&waiting.query, outcome) {
            (None, Ok(Outcome::Applied { index, reply })) => CallEnd::Applied { index, reply },
            (Some(query), Ok(Outcome::Readable)) => CallEnd::Answer(self.door.handle.store().query(query)),
            (_, Err(error)) => return self.fail(id, failure(error)),
            (None, Ok(Outcome::Readable)) | (Some(_), Ok(Outcome::Applied { .. })) => {
                unreachable!("call {number} was ended as another kind of call")
            }
        };
        self.ended.extend(ServerFrame::Ended { id, end }.encode());
    }

    fn fail(&mut self, id: u64, failure: Failure) {
        let end = CallEnd::Failed { failure, leader: self.door.leader() };
        self.ended.extend(ServerFrame::Ended { id, end }.encode());
    }

    /// Sends what has ended. While the client does not read, nothing more is taken of it.
    async fn send(&mut self) -> Result<(), StreamError> {
        if self.ended.is_empty() {
            return Ok(());
        }
        let mut chunks = std::mem::take(&mut self.ended);
        let mut rest = &mut chunks[..];
        while !rest.is_empty() {
            let written = timeout(STALL_TIME_MAX, self.output.write_chunks(rest)).await;
            let written = written.map_err(|_| StreamError::Stalled)?.map_err(|_: WriteError| StreamError::Broken)?;
            rest = &mut rest[written.chunks..];
        }
        self.sent = Instant::now();
        Ok(())
    }
}

fn failure(error: RequestError) -> Failure {
    Failure::Refused(match error {
        RequestError::Uncertain => return Failure::Uncertain,
        RequestError::NoLeader => Refusal::NoLeader,
        RequestError::Overloaded => Refusal::Overloaded,
        RequestError::Loading => Refusal::Loading,
        RequestError::NoSpace => Refusal::NoSpace,
        RequestError::TooLarge => Refusal::TooLarge,
        RequestError::Unsupported => Refusal::Unsupported,
    })
}
