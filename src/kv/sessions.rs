//! Sessions: what makes a command take effect once, however often it is in the log (thesis §6.3).
//!
//! Duplicates are decided here, when an entry is applied, and nowhere else. Two pools that never touch each other:
//!
//! - *Opened* sessions (`SESSION OPEN`) are named by the index that opened them. Their commands may come in any order above
//!   the floor of what is kept. They end an hour of logged time after their last use, or as the least recently used.
//! - *Connection* sessions are named by their front node, opened by the first of their commands that is applied and
//!   closed by the front node. Their commands take effect in order: one whose predecessor has neither been applied nor
//!   been answered is refused, and so is one that comes behind a later one.
//!
//! A session that is gone never comes back: an opened one because an index names one entry, a connection's because its
//! number is spent (see [`fronts`]).

mod fronts;
mod pool;
mod window;

use super::hash::Sum;
use super::{CommandError, Origin, Reply, SessionId};
use fronts::{BootKind, Fronts};
pub(super) use pool::Now;
use pool::{Pool, PoolLimits};
use window::Known;

/// Sessions of each pool; the least recently used goes first.
pub(super) const SESSIONS_MAX: usize = 100_000;

/// Memory of kept replies in each pool.
const REPLY_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Logged time after which an unused opened session ends.
const IDLE_MS: u64 = 3_600_000;

/// Every session.
#[derive(Debug)]
pub(super) struct Sessions {
    opened: Pool,
    connections: Pool,
    fronts: Fronts,
}

/// What is to be done with a command of a session.
#[derive(Debug, PartialEq)]
pub(super) enum Admission {
    /// Execute it, then tell [`Sessions::on_executed`] its reply.
    Execute,
    /// It was executed before; this was its reply.
    Repeat(Reply),
    /// Do not execute it.
    Refuse(CommandError),
}

impl Sessions {
    pub(super) fn new() -> Sessions {
        Sessions::with_limits(SESSIONS_MAX, REPLY_BYTES_MAX)
    }

    fn with_limits(sessions: usize, reply_bytes: u64) -> Sessions {
        let opened = PoolLimits { sessions, reply_bytes, idle_ms: Some(IDLE_MS) };
        let connections = PoolLimits { sessions, reply_bytes, idle_ms: None };
        Sessions { opened: Pool::new(opened), connections: Pool::new(connections), fronts: Fronts::default() }
    }

    /// Returns how many sessions there are: opened ones and those of connections.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.opened.count(), self.connections.count())
    }

    /// Returns the memory that kept replies take, of both pools.
    pub(super) fn reply_bytes(&self) -> u64 {
        self.opened.reply_bytes() + self.connections.reply_bytes()
    }

    /// Returns the sum of the hashes of all that is remembered.
    pub(super) fn sum(&self) -> Sum {
        let mut sum = self.opened.sum();
        sum.add(self.connections.sum().value());
        sum.add(self.fronts.sum().value());
        sum
    }

    /// Ends the opened sessions that were idle for too long at `time_ms`.
    pub(super) fn expire(&mut self, time_ms: u64) {
        self.opened.expire(time_ms);
    }

    /// Opens a session and returns its number, the index.
    pub(super) fn open(&mut self, now: Now) -> u64 {
        self.opened.open(SessionId { node: 0, boot: 0, number: now.index }, now);
        now.index
    }

    /// Ends a session of a connection, also before its first command came; opened ones are not closed this way.
    pub(super) fn close(&mut self, id: SessionId) {
        if id.node == 0 || self.meet_boot(id) == BootKind::Retired {
            return;
        }
        self.fronts.spend(id);
        self.connections.close(id);
    }

    /// Ends every connection session of `node` that is not of `boot`, unless that boot itself has ended.
    pub(super) fn close_other_boots(&mut self, node: u64, boot: u64) {
        if node != 0 {
            self.meet_boot(SessionId { node, boot, number: 0 });
        }
    }

    /// Decides what is to be done with a command.
    pub(super) fn admit(&mut self, origin: &Origin, now: Now) -> Admission {
        if origin.seq == 0 {
            return Admission::Refuse(CommandError::SessionStale);
        }
        if origin.session.node == 0 { self.admit_opened(origin, now) } else { self.admit_connection(origin, now) }
    }

    /// Keeps the reply of a command that was admitted and executed.
    pub(super) fn on_executed(&mut self, origin: &Origin, now: Now, reply: &Reply) {
        self.pool(origin).on_used(origin.session, now, floor(origin), Some((origin.seq, reply)));
    }

    fn admit_opened(&mut self, origin: &Origin, now: Now) -> Admission {
        let admission = match self.opened.known(origin.session, origin.seq) {
            None => return Admission::Refuse(CommandError::SessionExpired),
            Some((Known::Unseen, _)) => return Admission::Execute,
            Some((Known::Replied(reply), _)) => Admission::Repeat(reply.clone()),
            Some((Known::Forgotten, _)) => Admission::Refuse(CommandError::SessionStale),
        };
        self.opened.on_used(origin.session, now, floor(origin), None);
        admission
    }

    fn admit_connection(&mut self, origin: &Origin, now: Now) -> Admission {
        if self.meet_boot(origin.session) == BootKind::Retired {
            return Admission::Refuse(CommandError::SessionExpired);
        }
        // What lies below the first unanswered was given up or answered: nothing waits for it any more.
        let is_in_order = |newest: u64| origin.previous <= newest || origin.previous < origin.first_unanswered;
        match self.connections.known(origin.session, origin.seq) {
            None if self.fronts.is_spent(origin.session) => Admission::Refuse(CommandError::SessionExpired),
            None if !is_in_order(0) => Admission::Refuse(CommandError::OutOfOrder),
            None => {
                self.connections.open(origin.session, now);
                self.fronts.spend(origin.session);
                Admission::Execute
            }
            Some((Known::Unseen, newest)) if origin.seq < newest => Admission::Refuse(CommandError::SessionStale),
            Some((Known::Unseen, newest)) if !is_in_order(newest) => Admission::Refuse(CommandError::OutOfOrder),
            Some((Known::Unseen, _)) => Admission::Execute,
            Some((Known::Forgotten, _)) => Admission::Refuse(CommandError::SessionStale),
            Some((Known::Replied(reply), _)) => {
                let reply = reply.clone();
                self.connections.on_used(origin.session, now, floor(origin), None);
                Admission::Repeat(reply)
            }
        }
    }

    /// Returns what the boot of `id` was to its front node. A new one ends what is left of those before.
    fn meet_boot(&mut self, id: SessionId) -> BootKind {
        let kind = self.fronts.boot_kind(id.node, id.boot);
        if kind == BootKind::New {
            self.fronts.start(id.node, id.boot);
            let first = SessionId { node: id.node, boot: 0, number: 0 };
            let last = SessionId { node: id.node, boot: u64::MAX, number: u64::MAX };
            self.connections.close_range(first, last);
        }
        kind
    }

    fn pool(&mut self, origin: &Origin) -> &mut Pool {
        if origin.session.node == 0 { &mut self.opened } else { &mut self.connections }
    }

    #[cfg(test)]
    pub(super) fn rescan(&self) -> Sum {
        let mut sum = self.opened.rescan();
        sum.add(self.connections.rescan().value());
        sum.add(self.fronts.rescan().value());
        sum
    }
}

/// Returns the sequence number up to which the asker needs no replies.
fn floor(origin: &Origin) -> u64 {
    origin.first_unanswered.min(origin.seq).saturating_sub(1)
}

#[cfg(test)]
#[path = "sessions/tests.rs"]
mod tests;
