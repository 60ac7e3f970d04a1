//! One RESP connection: bytes in, commands to the node, replies out, until it ends.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::clients::{Client, End};
use super::dispatch::{Decision, Dispatched, dispatch};
use super::door::Door;
use super::errors;
use super::local::Conversation;
use super::pipeline::{Done, Ended, OUTPUT_BYTES_MAX, Pipeline};
use super::read;
use super::translate::Request;
use crate::kv::Operation;
use crate::node::RequestError;
use crate::proto::entry::{self, Body};
use crate::proto::resp::{Parsed, Parser, Value};
use crate::runtime::{self, Completion, Handle};

/// Room that is made before a read: at first, and of a client that sends little. Ten thousand idle ones take 20 MB.
const READ_BYTES_MIN: usize = 2 * 1024;

/// Room that is made before a read, once a client fills what there is.
const READ_BYTES_MAX: usize = 64 * 1024;

/// How long replies are made before those that are there are sent and other connections have their turn.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(1);

/// Buffers handed to the system in one write.
const SLICES_MAX: usize = 64;

/// The task of one connection.
pub(super) struct Connection {
    door: Arc<Door>,
    handle: Handle,
    node: runtime::Connection,
    conversation: Conversation,
    reader: OwnedReadHalf,
    writer: OwnedWriteHalf,
    input: BytesMut,
    /// Room to make before the next read.
    read_bytes: usize,
    parser: Parser,
    arguments: Vec<Bytes>,
    /// A command that must wait for those before it.
    held: Option<Request>,
    pipeline: Pipeline,
    /// The client sends no more.
    is_input_over: bool,
    /// No more commands are taken; what is under way is answered, then the connection closes.
    is_closing: bool,
}

/// Why no more commands are taken for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    /// There are none.
    Input,
    /// Others must be answered first.
    Order,
    /// Too much output is unsent.
    Output,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, client: Arc<Client>, door: Arc<Door>, handle: Handle) -> Connection {
        let (reader, writer) = stream.into_split();
        let node = handle.connect();
        Connection {
            conversation: Conversation::new(client, &door),
            door,
            handle,
            node,
            reader,
            writer,
            input: BytesMut::new(),
            read_bytes: READ_BYTES_MIN,
            parser: Parser::default(),
            arguments: Vec::new(),
            held: None,
            pipeline: Pipeline::default(),
            is_input_over: false,
            is_closing: false,
        }
    }

    /// Serves the connection until it ends. An error is the socket's.
    pub(super) async fn run(mut self) -> io::Result<()> {
        let mut woken_by = None;
        loop {
            // One look at the clock for all of a wake-up.
            let now = Instant::now();
            while let Some(completion) = woken_by.take().or_else(|| self.poll_completed()) {
                let ended = self.pipeline.complete(completion.number, completion.outcome);
                observe(&self.door, ended, now);
            }
            self.answer_reads(now);
            let pause = self.take_commands(now);
            self.send(now)?;
            self.tell_client(now);
            let goes_on = self.pipeline.is_answerable() || (pause == Pause::Output && self.pipeline.may_answer());
            if goes_on && self.conversation.client.end() != End::Now {
                tokio::task::yield_now().await;
                continue;
            }
            if self.is_over(pause) {
                return Ok(());
            }
            woken_by = self.wait(pause).await?;
        }
    }

    fn is_over(&mut self, pause: Pause) -> bool {
        let unsent = self.pipeline.output().bytes();
        match self.conversation.client.end() {
            End::Now => return true,
            End::WhenAnswered => self.is_closing = true,
            End::NotYet => {}
        }
        let takes_no_more = self.is_closing || (self.is_input_over && pause == Pause::Input);
        unsent > OUTPUT_BYTES_MAX || (takes_no_more && unsent == 0 && self.pipeline.is_empty())
    }

    /// Waits until there is something to do, and reads what there is. Returns the completion that ended the wait, if one did.
    async fn wait(&mut self, pause: Pause) -> io::Result<Option<Completion>> {
        let reads = pause == Pause::Input && !self.is_closing && !self.is_input_over;
        let sends = self.pipeline.output().bytes() > 0;
        let waits = self.pipeline.is_waiting() && self.pipeline.may_answer();
        if reads {
            self.input.reserve(self.read_bytes);
        }
        tokio::select! {
            completion = self.node.completed(), if waits => return Ok(Some(completion)),
            read = self.reader.read_buf(&mut self.input), if reads => {
                let bytes = read?;
                self.read_bytes = next_read_bytes(self.read_bytes, bytes);
                self.is_input_over = bytes == 0;
                self.door.counters.input_bytes.add(bytes as u64);
            }
            writable = self.writer.writable(), if sends => writable?,
            () = self.conversation.client.closed() => {}
        }
        Ok(None)
    }

    /// Returns a completion, if one is there and its reply may be made. The others wait where they are.
    fn poll_completed(&mut self) -> Option<Completion> {
        if self.pipeline.may_answer() { self.node.poll_completed() } else { None }
    }

    /// Makes replies while little is unsent. The state is locked for each read alone: apply waits for one at most.
    fn answer_reads(&mut self, now: Instant) {
        let (handle, door) = (&self.handle, &self.door);
        while let Some(ended) = self.pipeline.answer_next(|wanted| read::answer(wanted, &handle.store(), door)) {
            let answered = Instant::now();
            observe(door, ended, answered);
            if answered.duration_since(now) > ANSWER_TIME_MAX {
                break;
            }
        }
    }

    /// Takes what commands there are in the input, as far as their order allows.
    fn take_commands(&mut self, now: Instant) -> Pause {
        let mut taken = Taken::default();
        let pause = loop {
            let pipeline = &self.pipeline;
            if !pipeline.may_answer() {
                break Pause::Output;
            }
            match self.held.take_if(|request| pipeline.takes(request)) {
                Some(request) => self.submit(request, now, &mut taken),
                None if self.held.is_some() => break Pause::Order,
                None => {}
            }
            if self.is_closing {
                break Pause::Input;
            }
            if !self.pipeline.has_room() {
                break Pause::Order;
            }
            if !self.take_command(&mut taken) {
                break Pause::Input;
            }
        };
        if let Some(barrier) = self.pipeline.take_barrier() {
            self.node.read(barrier, self.door.options.request_timeout);
        }
        self.door.count(&taken);
        if let Some(command) = taken.newest {
            let client = &self.conversation.client;
            client.named.lock().command = command;
            client.active_ms.store(client.age_ms(now), Ordering::Relaxed);
        }
        if self.input.is_empty() && self.input.capacity() > 2 * self.read_bytes {
            self.input = BytesMut::new();
        }
        pause
    }

    /// Takes one command from the input; false if there is none.
    fn take_command(&mut self, taken: &mut Taken) -> bool {
        let limits = self.door.limits(self.conversation.is_authenticated);
        let mut arguments = std::mem::take(&mut self.arguments);
        let parsed = self.parser.parse(&mut self.input, &limits, &mut arguments);
        let is_taken = match parsed {
            Ok(Parsed::Incomplete) => false,
            Ok(parsed) => {
                self.dispatch(&mut arguments, parsed == Parsed::TooLarge, taken);
                true
            }
            Err(error) => {
                self.door.counters.protocol_errors.increment();
                self.answer(Value::error(error));
                self.is_closing = true;
                true
            }
        };
        arguments.clear();
        if arguments.capacity() <= 1024 {
            self.arguments = arguments;
        }
        is_taken
    }

    /// Answers a command, or leaves it in `held` to be submitted.
    fn dispatch(&mut self, arguments: &mut [Bytes], is_too_large: bool, taken: &mut Taken) {
        let is_loading = self.handle.is_loading();
        let Dispatched { name, decision } =
            dispatch(arguments, is_too_large, is_loading, &mut self.conversation, &self.door);
        taken.newest = name.or(taken.newest);
        match decision {
            Decision::Submit(request) => self.held = Some(request),
            Decision::Answer(answer) => {
                taken.local += 1;
                self.is_closing |= answer.closes;
                self.answer(answer.value);
            }
            Decision::Hang => {
                self.door.counters.protocol_errors.increment();
                self.is_closing = true;
            }
        }
    }

    /// Hands a request, whose turn it is, to the node.
    fn submit(&mut self, request: Request, now: Instant, taken: &mut Taken) {
        let version = self.conversation.version;
        match request {
            Request::Write { command, session, shape } => {
                taken.writes += 1;
                let entry = entry::encode(&Body::Operation(Operation::Command(command)));
                if entry.len() > self.door.options.max_entry_bytes {
                    return self.answer(errors::command_too_large());
                }
                let number = self.pipeline.push_write(shape, version, now);
                self.node.write(number, session, entry, self.door.options.request_timeout);
            }
            Request::Read(_) if self.conversation.is_readonly && self.handle.is_recovering() => {
                self.answer(Value::Error(RequestError::Loading.to_string().into()));
            }
            Request::Read(wanted) if self.conversation.is_readonly && self.pipeline.is_empty() => {
                taken.reads += 1;
                let done = read::answer(&wanted, &self.handle.store(), &self.door);
                self.pipeline.push_done(done, version);
            }
            Request::Read(wanted) => {
                taken.reads += 1;
                self.pipeline.push_read(wanted, version, now);
            }
        }
    }

    fn answer(&mut self, value: Value) {
        self.pipeline.push_done(Done::Value(value), self.conversation.version);
    }

    /// Sends what the system takes now.
    fn send(&mut self, now: Instant) -> io::Result<()> {
        let output = self.pipeline.output();
        let mut sent = 0;
        while output.bytes() > 0 {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let filled = output.slices(&mut slices);
            let written = match &slices[..filled] {
                [only] => self.writer.try_write(only),
                many => self.writer.try_write_vectored(many),
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => {
                    output.advance(bytes);
                    sent += bytes;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        output.shrink();
        if sent > 0 {
            self.door.counters.output_bytes.add(sent as u64);
            let client = &self.conversation.client;
            client.sent_ms.store(client.age_ms(now), Ordering::Relaxed);
        }
        Ok(())
    }

    fn tell_client(&mut self, now: Instant) {
        self.door.counters.errors.add(self.pipeline.take_errors());
        let client = &self.conversation.client;
        client.input_bytes.store(self.input.len(), Ordering::Relaxed);
        client.input_free_bytes.store(self.input.capacity() - self.input.len(), Ordering::Relaxed);
        let unsent = self.pipeline.output().bytes();
        if client.output_bytes.swap(unsent, Ordering::Relaxed) == 0 && unsent > 0 {
            client.sent_ms.store(client.age_ms(now), Ordering::Relaxed);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.door.clients.remove(self.conversation.client.id);
        self.door.count_connections();
    }
}

/// Counts how long a request took.
fn observe(door: &Door, ended: Ended, now: Instant) {
    let counters = &door.counters;
    match ended {
        Ended::Write { since } => counters.write_latency.observe(now.duration_since(since), 1),
        Ended::Read { since } => counters.read_latency.observe(now.duration_since(since), 1),
        Ended::Reads { since, count } => counters.read_latency.observe(now.duration_since(since), count),
        Ended::Barrier => {}
    }
}

/// Returns how much room to make after a read that brought `bytes` into room for `room` or more.
fn next_read_bytes(room: usize, bytes: usize) -> usize {
    if bytes >= room {
        (2 * room).min(READ_BYTES_MAX)
    } else if bytes < room / 4 {
        (room / 2).max(READ_BYTES_MIN)
    } else {
        room
    }
}

/// What was taken in one wake-up.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) local: u64,
    pub(super) reads: u64,
    pub(super) writes: u64,
    newest: Option<&'static str>,
}
