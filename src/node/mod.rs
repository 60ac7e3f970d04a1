//! One member as a value: Raft plus waiting clients. Events in, actions out; no clock, disk, socket or thread.
//!
//! A turn is: [`Node::begin_turn`], any number of [`Node::on_event`], perhaps [`Node::tick`], one
//! [`Node::take_actions`]. What arrives while the actions of one turn are carried out forms the next turn, so
//! group commit needs no code of its own.

mod event;
mod front;
mod log_time;
mod membership;
mod proposals;
mod reads;
mod request;
mod turn;
mod view;

pub use event::{Actions, Apply, Clock, Event, Outgoing, PersistAction, RequestId, Waiter};
pub use request::{Outcome, RequestError, WriteSession};
pub use view::{MemberView, NodeView};

use std::collections::BTreeMap;

use bytes::BytesMut;

use crate::kv::{CommandError, Reply};
use crate::proto::entry::{self, Body};
use crate::proto::peer::{ForwardOutcome, PeerMessage, Refusal};
use crate::raft::{self, Index, NodeId, ProposeError, Raft, Term};

use front::Front;
use log_time::LogTime;
use proposals::{Staged, Token, Waiting};
use reads::Reads;

/// What a node is, beside its Raft settings.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// The core's settings; `raft.id` names the node.
    pub raft: raft::Settings,
    /// Drawn at each start; names this life of the node in sessions.
    pub boot: u64,
    /// The storage under this node.
    pub storage_uuid: u128,
    /// Where clients reach this node.
    pub client_addr: String,
    /// The newest time found in the log.
    pub newest_log_time_ms: u64,
    /// Payload bytes of the largest entry that is proposed; larger ones are refused.
    pub max_entry_bytes: usize,
}

/// One member of the cluster.
///
/// - `staged` holds the payload of every entry that the core accepted and that was not yet handed to the log.
/// - `waiting` is empty unless this node leads.
#[derive(Debug)]
pub struct Node {
    settings: NodeSettings,
    raft: Raft,
    clock: Clock,
    log_time: LogTime,
    front: Front,
    reads: Reads,
    staged: Staged,
    waiting: Waiting,
    leadership: Leadership,
    peers: BTreeMap<NodeId, Peer>,
    /// Whether writes that nobody has are to be handed on at the end of this turn: after a change of leader, and once
    /// a tick, so that two nodes that disagree on who leads do not pass a write to and fro.
    is_hand_on_due: bool,
    /// Whether the end of this node's earlier lives was put into the log, or is about to be.
    boot_announced: bool,
    /// When each peer was last heard, by the monotonic clock.
    heard: BTreeMap<NodeId, u64>,
    /// Elections this node has started, since the start.
    elections: u64,
    /// Messages that broke the protocol, since the start.
    violations: u64,
    actions: Actions,
}

/// Who leads, as last seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Leadership {
    term: Term,
    leader: Option<NodeId>,
}

/// A connected peer.
#[derive(Clone, Debug)]
struct Peer {
    storage_uuid: u128,
    client_addr: String,
}

impl Node {
    /// Makes a node from what its disk remembers.
    ///
    /// # Errors
    ///
    /// If the log ends before what is known to be committed: acknowledged data is lost.
    pub fn new(settings: NodeSettings, boot: raft::Boot) -> Result<Node, raft::BootError> {
        let raft = Raft::new(settings.raft.clone(), boot)?;
        Ok(Node {
            clock: Clock::default(),
            log_time: LogTime::new(settings.newest_log_time_ms),
            front: Front::new(settings.raft.id, settings.boot),
            reads: Reads::default(),
            staged: Staged::default(),
            waiting: Waiting::default(),
            leadership: Leadership::default(),
            peers: BTreeMap::new(),
            is_hand_on_due: false,
            boot_announced: false,
            heard: BTreeMap::new(),
            elections: 0,
            violations: 0,
            actions: Actions::default(),
            raft,
            settings,
        })
    }

    /// Begins a turn: what the clock shows, and how far the state machine is.
    pub fn begin_turn(&mut self, clock: Clock, applied: Index) {
        self.clock = clock;
        self.raft.on_applied(applied);
    }

    /// Takes one event in.
    pub fn on_event(&mut self, event: Event) {
        match event {
            Event::Message { from, message } => self.on_message(from, message),
            Event::Write { request, session, entry, deadline_ms } => {
                self.on_write(request, session, entry, deadline_ms);
            }
            Event::Read { request, deadline_ms } => self.reads.push(request, deadline_ms),
            Event::Closed { connection } => {
                self.front.on_closed(connection);
                self.reads.on_closed(connection);
            }
            Event::Persisted { seq } => self.raft.on_persisted(seq),
            Event::PeerUp { id, storage_uuid, client_addr } => {
                self.peers.insert(id, Peer { storage_uuid, client_addr });
                self.maybe_bind_members();
                self.front.reopen_handed_to(id);
                self.is_hand_on_due = true;
            }
            Event::PeerDown { id } => {
                self.peers.remove(&id);
                self.raft.on_unreachable(id);
            }
            Event::PeerGone { id } => self.raft.on_process_gone(id),
            Event::HandOver => self.hand_over(),
        }
    }

    /// Lets one tick of the core's time pass.
    pub fn tick(&mut self) {
        self.raft.tick();
        self.observe_leadership();
        let now_ms = self.clock.monotonic_ms;
        for (request, error) in self.front.expire(now_ms) {
            self.complete(request, Err(error));
        }
        for request in self.reads.tick(now_ms) {
            self.complete(request, Err(RequestError::NoLeader));
        }
        self.front.reopen_overdue(now_ms);
        self.is_hand_on_due = true;
        self.end_closed_sessions();
        self.maybe_bind_members();
    }

    fn on_message(&mut self, from: NodeId, message: PeerMessage) {
        self.heard.insert(from, self.clock.monotonic_ms);
        match message {
            PeerMessage::Raft { message, payloads } => self.on_raft(from, message, payloads),
            PeerMessage::Forward { request, entry } => self.on_forward(from, request, &entry),
            PeerMessage::ForwardReply { request, outcome } => self.on_forward_reply(from, request, outcome),
        }
    }

    fn on_raft(&mut self, from: NodeId, message: raft::Message, payloads: Vec<bytes::Bytes>) {
        if !self.counts(from, &message) {
            return;
        }
        let first = match &message {
            raft::Message::Append { prev, .. } => prev.index.next(),
            _ => Index(0),
        };
        match self.raft.step(from, message) {
            Ok(stepped) => {
                let numbered = (first.0..).map(Index).zip(payloads);
                for (index, payload) in
                    numbered.filter(|(index, _)| stepped.append.iter().any(|new| new.contains(index)))
                {
                    if let Ok(header) = entry::header(&payload) {
                        self.log_time.on_logged(header.time_ms);
                    }
                    self.staged.push(index, payload);
                }
            }
            Err(violation) => {
                self.violations += 1;
                self.actions.violations.push((from, violation));
            }
        }
        self.observe_leadership();
    }

    fn on_write(&mut self, request: RequestId, session: WriteSession, entry: BytesMut, deadline_ms: u64) {
        if entry.len() > self.max_entry_bytes() {
            self.complete(request, Err(RequestError::TooLarge));
            return;
        }
        if session == WriteSession::Connection {
            self.announce_boot();
        }
        // Nothing overtakes a write that is still to be handed on: it may be of the same connection.
        let is_next = !self.front.has_unhanded();
        let token = self.front.admit(request, session, entry, deadline_ms);
        if is_next {
            let _waits = !self.hand_on(token);
        }
    }

    /// Hands every write that nobody has to whoever leads.
    fn hand_on_all(&mut self) {
        let is_due = std::mem::take(&mut self.is_hand_on_due);
        if !is_due || self.leadership.leader.is_none() {
            return;
        }
        for token in self.front.unhanded() {
            if !self.hand_on(token) {
                return;
            }
        }
    }

    /// Hands one write to whoever leads, if anybody does. Returns whether the next one may be handed on: it may not
    /// when this one has to wait.
    fn hand_on(&mut self, token: u64) -> bool {
        let Some(leader) = self.leadership.leader else { return false };
        let Some(entry) = self.front.stamped(token) else { return true };
        if leader != self.settings.raft.id {
            self.front.on_handed(token, leader, self.clock.monotonic_ms);
            let forward = Outgoing::Forward { request: token, entry: entry.freeze() };
            self.actions.sends.push((leader, forward));
            return true;
        }
        match self.propose(entry, Token::Front(token)) {
            Ok(()) => self.front.on_handed(token, leader, self.clock.monotonic_ms),
            Err(ProposeError::NotLeader | ProposeError::HandingOver) => return false,
            Err(ProposeError::Busy) => {
                let Some(request) = self.front.refuse(token, leader) else { return false };
                self.complete(request, Err(RequestError::Overloaded));
            }
        }
        true
    }

    fn propose(&mut self, mut entry: BytesMut, token: Token) -> Result<(), ProposeError> {
        let bytes = u32::try_from(entry.len()).unwrap_or(u32::MAX);
        let index = self.raft.propose(&[bytes])?;
        entry::stamp_time(&mut entry, self.log_time.take(self.clock));
        self.staged.push(index, entry.freeze());
        self.waiting.push(index, token);
        Ok(())
    }

    /// Takes a write of another node's client. The answer to one that is proposed comes when it is applied.
    fn on_forward(&mut self, from: NodeId, request: u64, entry: &[u8]) {
        let outcome = if entry.len() > self.max_entry_bytes() {
            ForwardOutcome::Refused(Refusal::TooLarge)
        } else if !is_operation(entry) {
            ForwardOutcome::Refused(Refusal::Unsupported)
        } else {
            let waiter = Waiter::Remote { node: from, request };
            match self.propose(BytesMut::from(entry), Token::Other(waiter)) {
                Ok(()) => return,
                Err(ProposeError::Busy) => ForwardOutcome::Refused(Refusal::Overloaded),
                Err(ProposeError::NotLeader | ProposeError::HandingOver) => {
                    ForwardOutcome::NotLeader { leader: self.raft.leader() }
                }
            }
        };
        self.actions.sends.push((from, Outgoing::ForwardEnded { request, outcome }));
    }

    fn on_forward_reply(&mut self, from: NodeId, token: u64, outcome: ForwardOutcome) {
        match outcome {
            ForwardOutcome::Applied { reply: Reply::Error(CommandError::OutOfOrder), .. } => {
                self.front.reopen_connection_of(token);
            }
            ForwardOutcome::Applied { index, reply } => {
                if let Some(request) = self.front.finish(token) {
                    self.complete(request, Ok(Outcome::Applied { index, reply }));
                }
            }
            ForwardOutcome::NotLeader { .. } => self.front.on_not_proposed(token, from),
            ForwardOutcome::Refused(refusal) => {
                if let Some(request) = self.front.refuse(token, from) {
                    self.complete(request, Err(refusal.into()));
                }
            }
            ForwardOutcome::Lost => self.front.reopen(token),
        }
    }

    /// Notes a change of leader: what the old one had is open again, and those who waited at this node are told.
    fn observe_leadership(&mut self) {
        let seen = Leadership { term: self.raft.term(), leader: self.raft.leader() };
        if seen == self.leadership {
            return;
        }
        let me = self.settings.raft.id;
        let led = self.leadership.leader == Some(me);
        self.leadership = seen;
        self.log_time.on_role(seen.leader == Some(me), self.clock);
        // Before anything is sent: only acknowledgements of bound members count.
        self.maybe_bind_members();
        if led {
            for token in self.waiting.take_all() {
                if let Token::Other(Waiter::Remote { node, request }) = token {
                    let lost = Outgoing::ForwardEnded { request, outcome: ForwardOutcome::Lost };
                    self.actions.sends.push((node, lost));
                }
            }
        }
        if seen.leader.is_some() {
            self.front.reopen_all();
            self.is_hand_on_due = true;
        }
    }

    /// Takes back a forwarded write that never left this node.
    pub fn on_forward_unsent(&mut self, to: NodeId, request: u64) {
        self.front.on_not_proposed(request, to);
    }

    /// Returns the largest entry that every member can hold.
    fn max_entry_bytes(&self) -> usize {
        let limit = self.raft.configuration().limits.entry_bytes_max;
        usize::try_from(limit).unwrap_or(usize::MAX).min(self.settings.max_entry_bytes)
    }

    fn complete(&mut self, request: RequestId, outcome: Result<Outcome, RequestError>) {
        if request.connection != 0 {
            self.actions.completions.push((request, outcome));
        }
    }
}

/// Whether an entry that a peer forwards is one that every member will understand: a leader lets nothing else into the log.
fn is_operation(entry: &[u8]) -> bool {
    matches!(entry::decode(entry), Ok(entry::Entry { body: Body::Operation(_), .. }))
}
