//! The clients of this node: every write they sent that has no answer yet, and how often it was handed on.
//!
//! A write is handed to whoever leads, again and again until it is answered: its session and sequence number
//! make sure that it takes effect once. *Not executed* is answered only while no hand-over is open.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::{Bytes, BytesMut};

use crate::kv::{Origin, SessionId};
use crate::proto::entry;
use crate::raft::NodeId;

use super::event::RequestId;
use super::request::{RequestError, WriteSession};

/// A write that a leader has had for this long is handed on again: the message or its answer may be lost.
const RESEND_MS: u64 = 1_000;

/// Writes without an answer, in the order in which they came.
///
/// - Tokens grow with arrival, so walking `writes` keeps the order of every connection.
/// - `writes` of a connection holds exactly its writes, `unanswered` those under [`WriteSession::Connection`].
#[derive(Debug)]
pub(super) struct Front {
    node: u64,
    boot: u64,
    tokens: u64,
    sessions: u64,
    writes: BTreeMap<u64, Write>,
    deadlines: BTreeSet<(u64, u64)>,
    /// The writes that nobody has.
    unhanded: BTreeSet<u64>,
    connections: BTreeMap<u64, ConnectionState>,
    /// Sessions of connections that are gone, to be ended by the log.
    closing: Vec<SessionId>,
}

#[derive(Debug)]
struct Write {
    request: RequestId,
    session: WriteSession,
    /// Its number in the connection's session.
    seq: u64,
    entry: Bytes,
    deadline_ms: u64,
    handed: Option<Handed>,
    /// An earlier hand-over may still take effect.
    open: bool,
}

#[derive(Clone, Copy, Debug)]
struct Handed {
    to: NodeId,
    at_ms: u64,
}

#[derive(Debug, Default)]
struct ConnectionState {
    /// The number of its session, given at its first write under it: numbers without gaps keep what the state remembers
    /// of them small.
    session: Option<u64>,
    seqs: u64,
    unanswered: VecDeque<(u64, u64)>,
    /// Every write of the connection without an answer, whatever its session.
    writes: BTreeSet<u64>,
}

impl Front {
    pub(super) fn new(node: NodeId, boot: u64) -> Front {
        Front {
            node: node.0,
            boot,
            // Below 2^62, as the wire wants it, and never where an earlier life of this node counted: a leader may still
            // answer what that life asked, and this one must not take the answer for its own.
            tokens: boot >> 2,
            sessions: 0,
            writes: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            unhanded: BTreeSet::new(),
            connections: BTreeMap::new(),
            closing: Vec::new(),
        }
    }

    /// Takes a write in and returns its token.
    pub(super) fn admit(
        &mut self,
        request: RequestId,
        session: WriteSession,
        entry: BytesMut,
        deadline_ms: u64,
    ) -> u64 {
        self.tokens += 1;
        let token = self.tokens;
        let mut seq = 0;
        let connection = self.connections.entry(request.connection).or_default();
        connection.writes.insert(token);
        if session == WriteSession::Connection {
            if connection.session.is_none() {
                self.sessions += 1;
                connection.session = Some(self.sessions);
            }
            connection.seqs += 1;
            seq = connection.seqs;
            connection.unanswered.push_back((seq, token));
        }
        self.deadlines.insert((deadline_ms, token));
        self.unhanded.insert(token);
        let write = Write { request, session, seq, entry: entry.freeze(), deadline_ms, handed: None, open: false };
        self.writes.insert(token, write);
        token
    }

    /// Returns a copy of the entry of a write with its origin in it, or `None` if it was answered meanwhile.
    pub(super) fn stamped(&self, token: u64) -> Option<BytesMut> {
        let write = self.writes.get(&token)?;
        let mut entry = BytesMut::from(&write.entry[..]);
        if let Some(origin) = self.origin(write) {
            entry::stamp_origin(&mut entry, &origin);
        }
        Some(entry)
    }

    fn origin(&self, write: &Write) -> Option<Origin> {
        match write.session {
            WriteSession::Connection => {
                let connection = self.connections.get(&write.request.connection)?;
                let first_unanswered = connection.unanswered.front().map_or(connection.seqs + 1, |first| first.0);
                let session = SessionId { node: self.node, boot: self.boot, number: connection.session? };
                Some(Origin { session, seq: write.seq, previous: write.seq - 1, first_unanswered })
            }
            WriteSession::Opened { session, seq, first_unanswered } => {
                let session = SessionId { node: 0, boot: 0, number: session };
                Some(Origin { session, seq, previous: 0, first_unanswered })
            }
            WriteSession::None => None,
        }
    }

    /// Notes that a write was handed to `to`.
    pub(super) fn on_handed(&mut self, token: u64, to: NodeId, now_ms: u64) {
        if let Some(write) = self.writes.get_mut(&token) {
            write.handed = Some(Handed { to, at_ms: now_ms });
            self.unhanded.remove(&token);
        }
    }

    /// Takes back a hand-over that certainly has no effect: `from` never proposed it.
    pub(super) fn on_not_proposed(&mut self, token: u64, from: NodeId) {
        if let Some(write) = self.writes.get_mut(&token)
            && write.handed.is_some_and(|handed| handed.to == from)
        {
            write.handed = None;
            self.unhanded.insert(token);
        }
    }

    /// Ends a write; returns who asked.
    pub(super) fn finish(&mut self, token: u64) -> Option<RequestId> {
        let write = self.writes.remove(&token)?;
        self.deadlines.remove(&(write.deadline_ms, token));
        self.unhanded.remove(&token);
        if let Some(connection) = self.connections.get_mut(&write.request.connection) {
            connection.writes.remove(&token);
            if let Ok(at) = connection.unanswered.binary_search(&(write.seq, token)) {
                connection.unanswered.remove(at);
            }
        }
        Some(write.request)
    }

    /// Ends a write that a leader refused before proposing it, unless an earlier hand-over is open.
    pub(super) fn refuse(&mut self, token: u64, from: NodeId) -> Option<RequestId> {
        self.on_not_proposed(token, from);
        let write = self.writes.get(&token)?;
        let is_upkeep = write.request.connection == 0;
        let certain = !write.open && write.handed.is_none() && !is_upkeep;
        if certain { self.finish(token) } else { None }
    }

    /// Marks a hand-over as open: it may still take effect, but somebody has to be asked again.
    pub(super) fn reopen(&mut self, token: u64) {
        if let Some(write) = self.writes.get_mut(&token)
            && write.handed.take().is_some()
        {
            write.open = true;
            self.unhanded.insert(token);
        }
    }

    /// Marks every hand-over as open, because another node may lead now.
    pub(super) fn reopen_all(&mut self) {
        let tokens: Vec<u64> = self.writes.keys().copied().collect();
        for token in tokens {
            self.reopen(token);
        }
    }

    /// Marks what `to` has as open: the connection that carried it is new.
    pub(super) fn reopen_handed_to(&mut self, to: NodeId) {
        let is_theirs = |write: &Write| write.handed.is_some_and(|handed| handed.to == to);
        let theirs = self.writes.iter().filter(|(_, write)| is_theirs(write));
        let theirs: Vec<u64> = theirs.map(|(token, _)| *token).collect();
        for token in theirs {
            self.reopen(token);
        }
    }

    /// Marks the unanswered writes of one connection as open, so that they are handed on again in order.
    pub(super) fn reopen_connection_of(&mut self, token: u64) {
        let Some(write) = self.writes.get(&token) else { return };
        let connection = self.connections.get(&write.request.connection);
        let tokens: Vec<u64> =
            connection.iter().flat_map(|connection| &connection.unanswered).map(|(_, token)| *token).collect();
        for token in tokens {
            self.reopen(token);
        }
        self.reopen(token);
    }

    /// Opens what another node has had for too long.
    pub(super) fn reopen_overdue(&mut self, now_ms: u64) {
        let is_overdue = |handed: &Handed| handed.to.0 != self.node && now_ms.saturating_sub(handed.at_ms) >= RESEND_MS;
        let overdue = self.writes.iter().filter(|(_, write)| write.handed.as_ref().is_some_and(is_overdue));
        let overdue: Vec<u64> = overdue.map(|(token, _)| *token).collect();
        for token in overdue {
            self.reopen_connection_of(token);
        }
    }

    /// Returns whether there are writes that nobody has.
    pub(super) fn has_unhanded(&self) -> bool {
        !self.unhanded.is_empty()
    }

    /// Returns the tokens of the writes that nobody has, in order.
    pub(super) fn unhanded(&self) -> Vec<u64> {
        self.unhanded.iter().copied().collect()
    }

    /// Ends the writes whose deadline has passed.
    pub(super) fn expire(&mut self, now_ms: u64) -> Vec<(RequestId, RequestError)> {
        let mut expired = Vec::new();
        while let Some(&(deadline_ms, token)) = self.deadlines.first() {
            if deadline_ms > now_ms {
                break;
            }
            let open = self.writes.get(&token).is_some_and(|write| write.open || write.handed.is_some());
            let error = if open { RequestError::Uncertain } else { RequestError::NoLeader };
            if let Some(request) = self.finish(token) {
                expired.push((request, error));
            }
        }
        expired
    }

    /// Forgets a connection. What it wrote may still take effect; its session is to be ended.
    pub(super) fn on_closed(&mut self, connection: u64) {
        let Some(state) = self.connections.remove(&connection) else { return };
        if let Some(number) = state.session {
            self.closing.push(SessionId { node: self.node, boot: self.boot, number });
        }
        for token in state.writes {
            self.finish(token);
        }
    }

    /// Takes the sessions to be ended, at most `most`.
    pub(super) fn take_closing(&mut self, most: usize) -> Vec<SessionId> {
        let at = self.closing.len().saturating_sub(most);
        self.closing.split_off(at)
    }

    /// Returns how many sessions wait to be ended.
    pub(super) fn closing(&self) -> usize {
        self.closing.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::{Command, Operation};
    use crate::proto::entry::Body;

    const LEADER: NodeId = NodeId(2);

    fn front() -> Front {
        Front::new(NodeId(1), 77)
    }

    fn admit(front: &mut Front, number: u64, deadline_ms: u64) -> u64 {
        let body = Body::Operation(Operation::Command(Command::FlushAll));
        let request = RequestId { connection: 9, number, is_write: true };
        front.admit(request, WriteSession::Connection, entry::encode(&body), deadline_ms)
    }

    fn errors(expired: Vec<(RequestId, RequestError)>) -> Vec<(u64, RequestError)> {
        expired.into_iter().map(|(request, error)| (request.number, error)).collect()
    }

    fn origin(front: &Front, token: u64) -> Origin {
        entry::header(&front.stamped(token).unwrap()).unwrap().origin.unwrap()
    }

    /// *Not executed* is said only of what no leader ever had, or what every leader that had it gave back.
    #[test]
    fn a_deadline_is_certain_only_while_no_hand_over_is_open() {
        let mut front = front();
        admit(&mut front, 1, 100);
        let handed = admit(&mut front, 2, 100);
        front.on_handed(handed, LEADER, 0);
        let given_back = admit(&mut front, 3, 100);
        front.on_handed(given_back, LEADER, 0);
        front.on_not_proposed(given_back, LEADER);
        let open = admit(&mut front, 4, 100);
        front.on_handed(open, LEADER, 0);
        front.reopen(open);
        front.on_handed(open, NodeId(3), 5);
        front.on_not_proposed(open, NodeId(3));
        assert!(front.expire(99).is_empty());
        let certain = RequestError::NoLeader;
        let open = RequestError::Uncertain;
        assert_eq!(errors(front.expire(100)), [(1, certain), (2, open), (3, certain), (4, open)]);
    }

    /// A refusal ends a write only if nobody else may still execute it.
    #[test]
    fn a_refusal_does_not_end_a_write_that_is_open_elsewhere() {
        let mut front = front();
        let token = admit(&mut front, 1, 100);
        front.on_handed(token, LEADER, 0);
        front.reopen_all();
        front.on_handed(token, NodeId(3), 1);
        assert_eq!(front.refuse(token, NodeId(3)), None);
        assert_eq!(front.unhanded(), [token]);
        assert_eq!(errors(front.expire(100)), [(1, RequestError::Uncertain)]);
    }

    /// Every hand-over names the connection's place in its session as it is then.
    #[test]
    fn origins_name_the_predecessor_and_the_oldest_unanswered() {
        let mut front = front();
        let (first, second, third) = (admit(&mut front, 1, 9), admit(&mut front, 2, 9), admit(&mut front, 3, 9));
        let session = SessionId { node: 1, boot: 77, number: 1 };
        assert_eq!(origin(&front, third), Origin { session, seq: 3, previous: 2, first_unanswered: 1 });
        front.finish(first);
        front.finish(second);
        assert_eq!(origin(&front, third), Origin { session, seq: 3, previous: 2, first_unanswered: 3 });
    }

    /// One lost write brings back all that its connection sent, in their order.
    #[test]
    fn a_connection_is_handed_on_again_from_its_oldest_unanswered_write() {
        let mut front = front();
        let tokens = [1, 2, 3].map(|number| admit(&mut front, number, 9));
        for token in tokens {
            front.on_handed(token, LEADER, 0);
        }
        front.reopen_connection_of(tokens[2]);
        assert_eq!(front.unhanded(), tokens);
        front.on_handed(tokens[0], LEADER, 1_000);
        front.reopen_overdue(1_999);
        assert_eq!(front.unhanded(), tokens[1..]);
        front.reopen_overdue(2_000);
        assert_eq!(front.unhanded(), tokens);
    }

    /// A connection that is gone leaves its session to be ended, and nothing else.
    #[test]
    fn a_closed_connection_leaves_its_session_to_be_ended() {
        let mut front = front();
        admit(&mut front, 1, 9);
        front.on_closed(9);
        front.on_closed(10);
        assert_eq!(front.take_closing(5), [SessionId { node: 1, boot: 77, number: 1 }]);
        assert!(front.expire(1_000).is_empty());
    }
}
