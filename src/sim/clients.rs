//! The load: clients on connections that pipeline and give up, clients with sessions that never do, and readers.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::heap::{Event, Micros};
use super::history::{End, Operation, Request};
use super::report::Violation;
use super::world::World;
use crate::kv::{Command, Operation as Work, Query, Reply, Set, SetCondition};
use crate::node::{self, Outcome, RequestError, RequestId, WriteSession};
use crate::proto::entry::{self, Body};

/// How much longer than its deadline a client waits for an answer before it leaves.
const GIVE_UP_AFTER_US: Micros = 500_000;

/// A client.
#[derive(Debug, Default)]
pub(super) struct Client {
    /// How many operations it has open at once; `None` for one with a session, which has one.
    depth: Option<usize>,
    /// It only reads: what waits for a majority does not keep it from asking a leader that has none.
    only_reads: bool,
    node: u64,
    /// 0 while it is not connected.
    connection: u64,
    numbers: u64,
    /// Its open operations by their number on the connection.
    open: BTreeMap<u64, usize>,
    session: Option<u64>,
    seq: u64,
    /// The operation it repeats until it is answered.
    repeated: Option<usize>,
    is_step_planned: bool,
}

impl Client {
    /// Returns whether nothing is open.
    pub(super) fn is_done(&self) -> bool {
        self.open.is_empty() && self.repeated.is_none()
    }
}

impl World<'_> {
    pub(super) fn make_clients(&mut self) {
        for client in 0..self.knobs.clients {
            let depth = if client % 3 == 0 { None } else { Some(self.dice.pick(&[1, 1, 4])) };
            self.clients.push(Client { depth, only_reads: client % 3 == 2, ..Client::default() });
            self.plan_client(client, 1_000);
        }
    }

    fn plan_client(&mut self, client: usize, around: Micros) {
        if !std::mem::replace(&mut self.clients[client].is_step_planned, true) {
            let delay = 1 + self.dice.around(around);
            self.plan(delay, Event::Client { client });
        }
    }

    /// A client does its next operation, connecting first if it has to.
    pub(super) fn client_step(&mut self, client: usize) {
        self.clients[client].is_step_planned = false;
        let state = &self.clients[client];
        let is_full = state.open.len() >= state.depth.unwrap_or(1);
        if is_full || (self.is_draining && state.repeated.is_none()) {
            return;
        }
        if state.connection == 0 && !self.connect(client) {
            return self.plan_client(client, 20_000);
        }
        let operation = self.next_operation(client);
        self.ask(client, operation);
        if self.clients[client].depth.is_some() {
            self.plan_client(client, self.knobs.think_us);
        }
    }

    fn connect(&mut self, client: usize) -> bool {
        let up: Vec<u64> = self.machines.iter().filter(|machine| machine.life.is_some()).map(|m| m.id).collect();
        if up.is_empty() {
            return false;
        }
        self.connections += 1;
        let state = &mut self.clients[client];
        state.node = self.dice.pick(&up);
        state.connection = self.connections;
        true
    }

    fn next_operation(&mut self, client: usize) -> usize {
        if let Some(operation) = self.clients[client].repeated {
            return operation;
        }
        let key = self.dice.below(self.knobs.keys);
        let has_session = self.clients[client].session.is_some();
        let only_reads = self.clients[client].only_reads;
        let request = match (self.clients[client].depth, self.dice.below(10)) {
            (Some(_), _) if only_reads => Request::Read { key },
            (None, _) if !has_session => Request::Other,
            (_, 0..3) => Request::Read { key },
            (None, _) | (Some(_), 3..8) => {
                let token = format!("{client}.{};", self.operations.len());
                Request::Append { key, token }
            }
            (Some(_), _) => Request::Other,
        };
        let is_write = !matches!(request, Request::Read { .. });
        self.operations.push(Operation { client, request, began: self.now, end: None });
        let operation = self.operations.len() - 1;
        let state = &mut self.clients[client];
        if state.depth.is_none() && is_write {
            state.repeated = Some(operation);
            state.seq += u64::from(has_session);
        }
        operation
    }

    /// Sends an operation to the client's node.
    fn ask(&mut self, client: usize, operation: usize) {
        let state = &mut self.clients[client];
        state.numbers += 1;
        state.open.insert(state.numbers, operation);
        let (node, connection, number, session) = (state.node, state.connection, state.numbers, state.session);
        let seq = state.seq;
        let request = self.operations[operation].request.clone();
        let is_write = !matches!(request, Request::Read { .. });
        let request_id = RequestId { connection, number, is_write };
        let deadline_ms = self.machine(node).clock(self.now).monotonic_ms + self.knobs.deadline_ms;
        let command = match request {
            Request::Read { .. } => {
                let event = node::Event::Read { request: request_id, deadline_ms };
                self.offer(node, event);
                return self.plan_give_up(client, operation);
            }
            Request::Append { key, token } => Command::Append { key: key_name(key), value: Bytes::from(token) },
            Request::Other if self.clients[client].depth.is_none() => Command::OpenSession,
            Request::Other => self.other_command(),
        };
        let session = match (self.clients[client].depth, session) {
            (Some(_), _) => WriteSession::Connection,
            (None, Some(session)) => WriteSession::Opened { session, seq, first_unanswered: seq },
            (None, None) => WriteSession::None,
        };
        let entry = entry::encode(&Body::Operation(Work::Command(command)));
        self.offer(node, node::Event::Write { request: request_id, session, entry, deadline_ms });
        self.plan_give_up(client, operation);
    }

    fn other_command(&mut self) -> Command {
        let key = Bytes::from(format!("other-{}", self.dice.below(5)));
        match self.dice.below(4) {
            0 => Command::Increment { key: Bytes::from_static(b"counter"), by: 1 },
            1 => Command::Delete { keys: vec![key] },
            2 => Command::Append {
                key,
                value: Bytes::from(vec![b'x'; usize::try_from(self.dice.below(5_000)).unwrap_or(0)]),
            },
            _ => Command::Set(Set {
                key,
                value: Bytes::from(self.dice.any().to_le_bytes().to_vec()),
                condition: SetCondition::Always,
                return_old: self.dice.happens(500_000),
                deadline_ms: None,
                keep_deadline: false,
            }),
        }
    }

    fn plan_give_up(&mut self, client: usize, operation: usize) {
        let after = self.knobs.deadline_ms * 1_000 + GIVE_UP_AFTER_US;
        self.plan(after, Event::GiveUp { client, operation });
    }

    /// A node answers.
    pub(super) fn on_answer(
        &mut self,
        node: u64,
        request: RequestId,
        outcome: Result<Outcome, RequestError>,
    ) -> Result<(), Violation> {
        if let Ok(Outcome::Applied { index, .. }) = &outcome {
            self.invariants.on_acknowledged(&self.machines, *index)?;
        }
        let asked = self.clients.iter().position(|client| client.connection == request.connection);
        let Some(client) = asked else { return Ok(()) };
        let Some(operation) = self.clients[client].open.remove(&request.number) else { return Ok(()) };
        let end = self.end_of(node, operation, outcome);
        self.note(|| format!("client {client} operation {operation}: {end:?}"));
        if self.clients[client].depth.is_none() {
            self.on_session_answer(client, operation, end);
        } else {
            self.operations[operation].end = Some(end);
        }
        self.plan_client(client, self.knobs.think_us);
        Ok(())
    }

    fn end_of(&self, node: u64, operation: usize, outcome: Result<Outcome, RequestError>) -> End {
        match outcome {
            Ok(Outcome::Readable) => {
                let Request::Read { key } = self.operations[operation].request else { return End::Unknown };
                let bytes = self.value(node, key);
                End::Value { at: self.now, bytes }
            }
            // A reply that the state refuses with says what became of it.
            Ok(Outcome::Applied { reply: Reply::Error(_), .. }) | Err(RequestError::Uncertain) => End::Unknown,
            Ok(Outcome::Applied { reply, .. }) => {
                let bytes = match reply {
                    Reply::Integer(number) => u64::try_from(number).ok(),
                    _ => None,
                };
                End::Acknowledged { at: self.now, bytes }
            }
            Err(_) => End::NotExecuted,
        }
    }

    /// A client with a session takes success, and repeats everything else.
    fn on_session_answer(&mut self, client: usize, operation: usize, end: End) {
        let state = &mut self.clients[client];
        match &end {
            End::Acknowledged { bytes, .. } => {
                if state.session.is_none() {
                    state.session = *bytes;
                }
                state.repeated = None;
                self.operations[operation].end = Some(end);
            }
            End::Value { .. } => self.operations[operation].end = Some(end),
            End::NotExecuted | End::Unknown => self.disconnect(client),
        }
    }

    /// Leaves the node: whatever is open is open for good, unless it is repeated.
    pub(super) fn disconnect(&mut self, client: usize) {
        let state = &mut self.clients[client];
        let (node, connection) = (state.node, std::mem::take(&mut state.connection));
        for operation in std::mem::take(&mut state.open).into_values() {
            if state.repeated != Some(operation) {
                self.operations[operation].end = Some(End::Unknown);
            }
        }
        if connection != 0 && self.machine(node).life.is_some() {
            self.offer(node, node::Event::Closed { connection });
        }
        self.plan_client(client, 20_000);
    }

    /// A client has waited long enough for an answer.
    pub(super) fn give_up(&mut self, client: usize, operation: usize) {
        if self.clients[client].open.values().any(|&open| open == operation) {
            self.disconnect(client);
        }
    }

    /// The clients of a node that crashed see their connections end.
    pub(super) fn on_crashed(&mut self, node: u64) {
        for client in 0..self.clients.len() {
            if self.clients[client].connection != 0 && self.clients[client].node == node {
                self.disconnect(client);
            }
        }
    }

    /// Returns a key's value at a node.
    pub(super) fn value(&self, node: u64, key: u64) -> Vec<u8> {
        match self.machine(node).query(&Query::Get { key: key_name(key) }) {
            Reply::Bulk(bytes) => bytes.to_vec(),
            _ => Vec::new(),
        }
    }
}

fn key_name(key: u64) -> Bytes {
    Bytes::from(format!("key-{key}"))
}
