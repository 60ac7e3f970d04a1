//! A pool of sessions with bounds: how many, how long idle, how many bytes of replies. The least recently used go first.

use std::collections::{BTreeMap, BTreeSet};

use super::window::{Known, Window};
use crate::kv::hash::{RowHasher, RowKind, Sum};
use crate::kv::{Reply, SessionId};

/// What a pool may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct PoolLimits {
    pub(super) sessions: usize,
    /// Bytes of replies in all sessions together.
    pub(super) reply_bytes: u64,
    /// Logged milliseconds after its last use at which a session ends.
    pub(super) idle_ms: Option<u64>,
}

/// Sessions of one sort.
///
/// - Logged time grows with the index, so the least recently used session is also the longest idle.
#[derive(Debug)]
pub(super) struct Pool {
    limits: PoolLimits,
    sessions: BTreeMap<SessionId, Session>,
    books: Books,
}

#[derive(Clone, Debug)]
struct Session {
    window: Window,
    used_index: u64,
    used_ms: u64,
    hash: u128,
}

/// What is known of all sessions together.
///
/// - Each session is in `holding` if it keeps replies, else in `bare`, under the index of its last use.
/// - `reply_bytes` is the sum of the sessions' windows.
#[derive(Debug, Default)]
struct Books {
    holding: BTreeSet<(u64, SessionId)>,
    bare: BTreeSet<(u64, SessionId)>,
    reply_bytes: u64,
    sum: Sum,
}

/// The moment at which an entry is applied.
#[derive(Clone, Copy, Debug)]
pub(in crate::kv) struct Now {
    pub(in crate::kv) index: u64,
    pub(in crate::kv) time_ms: u64,
}

impl Pool {
    pub(super) fn new(limits: PoolLimits) -> Pool {
        Pool { limits, sessions: BTreeMap::new(), books: Books::default() }
    }

    pub(super) fn count(&self) -> usize {
        self.sessions.len()
    }

    pub(super) fn reply_bytes(&self) -> u64 {
        self.books.reply_bytes
    }

    pub(super) fn sum(&self) -> Sum {
        self.books.sum
    }

    /// Returns what the session knows of `seq`, and its newest number; `None` if there is no such session.
    pub(super) fn known(&self, id: SessionId, seq: u64) -> Option<(Known<'_>, u64)> {
        let window = &self.sessions.get(&id)?.window;
        Some((window.known(seq), window.newest()))
    }

    /// Opens a session, closing the least recently used beyond the bound; one that is there stays as it is.
    pub(super) fn open(&mut self, id: SessionId, now: Now) {
        if self.sessions.contains_key(&id) {
            return;
        }
        let mut session = Session { window: Window::default(), used_index: now.index, used_ms: now.time_ms, hash: 0 };
        self.books.enter(id, &mut session);
        self.sessions.insert(id, session);
        while self.sessions.len() > self.limits.sessions {
            let Some((_, oldest)) = self.books.least_recent() else { return };
            self.close(oldest);
        }
    }

    /// Ends a session, if it is there.
    pub(super) fn close(&mut self, id: SessionId) {
        if let Some(mut session) = self.sessions.remove(&id) {
            self.books.leave(id, &session);
            session.window.forget_all(&mut self.books.sum);
        }
    }

    /// Ends the sessions between `first` and `last` (inclusive).
    pub(super) fn close_range(&mut self, first: SessionId, last: SessionId) {
        let over: Vec<SessionId> = self.sessions.range(first..=last).map(|(id, _)| *id).collect();
        for id in over {
            self.close(id);
        }
    }

    /// Ends the sessions that were idle for too long.
    pub(super) fn expire(&mut self, time_ms: u64) {
        let Some(idle_ms) = self.limits.idle_ms else { return };
        while let Some((_, oldest)) = self.books.least_recent() {
            let used_ms = self.sessions.get(&oldest).map_or(0, |session| session.used_ms);
            if used_ms.saturating_add(idle_ms) > time_ms {
                return;
            }
            self.close(oldest);
        }
    }

    /// Notes that a session was used: forgets what is no longer needed and, if a command was executed, keeps its reply.
    pub(super) fn on_used(&mut self, id: SessionId, now: Now, floor: u64, executed: Option<(u64, &Reply)>) {
        // No session: the command may have ended its own.
        self.change(id, |session, sum| {
            session.window.raise_floor(floor, sum);
            if let Some((seq, reply)) = executed {
                session.window.keep(id, seq, reply, sum);
            }
            session.used_index = now.index;
            session.used_ms = now.time_ms;
        });
        self.drop_replies();
    }

    /// Drops the replies of the least recently used sessions until the pool's bound holds.
    fn drop_replies(&mut self) {
        while self.books.reply_bytes > self.limits.reply_bytes {
            let Some((_, id)) = self.books.holding.first().copied() else { return };
            self.change(id, |session, sum| session.window.forget_all(sum));
        }
    }

    fn change(&mut self, id: SessionId, change: impl FnOnce(&mut Session, &mut Sum)) {
        if let Some(session) = self.sessions.get_mut(&id) {
            self.books.leave(id, session);
            change(session, &mut self.books.sum);
            self.books.enter(id, session);
        }
    }

    #[cfg(test)]
    pub(super) fn rescan(&self) -> Sum {
        let mut sum = Sum::default();
        for (id, session) in &self.sessions {
            sum.add(session.row_hash(*id));
            session.window.rescan(*id, &mut sum);
        }
        assert_eq!(self.sessions.len(), self.books.holding.len() + self.books.bare.len());
        assert_eq!(self.reply_bytes(), self.sessions.values().map(|session| session.window.bytes()).sum::<u64>());
        assert!(self.sessions.len() <= self.limits.sessions && self.reply_bytes() <= self.limits.reply_bytes);
        sum
    }
}

impl Books {
    fn least_recent(&self) -> Option<(u64, SessionId)> {
        let firsts = [self.holding.first(), self.bare.first()];
        firsts.into_iter().flatten().min().copied()
    }

    fn leave(&mut self, id: SessionId, session: &Session) {
        let was_there = self.order_of(session).remove(&(session.used_index, id));
        assert!(was_there, "session {id:?} last used at {} has no place in the order of use", session.used_index);
        self.reply_bytes -= session.window.bytes();
        self.sum.remove(session.hash);
    }

    fn enter(&mut self, id: SessionId, session: &mut Session) {
        self.order_of(session).insert((session.used_index, id));
        self.reply_bytes += session.window.bytes();
        session.hash = session.row_hash(id);
        self.sum.add(session.hash);
    }

    fn order_of(&mut self, session: &Session) -> &mut BTreeSet<(u64, SessionId)> {
        if session.window.bytes() > 0 { &mut self.holding } else { &mut self.bare }
    }
}

impl Session {
    fn row_hash(&self, id: SessionId) -> u128 {
        RowHasher::new(RowKind::Session)
            .u64(id.node)
            .u64(id.boot)
            .u64(id.number)
            .u64(self.window.floor())
            .u64(self.used_index)
            .u64(self.used_ms)
            .finish()
    }
}
