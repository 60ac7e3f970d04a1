//! The client's side of one session: numbers for writes, and the bound that keeps every retry within what nodes remember.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// A session remembers the replies of its latest 256 writes. The oldest unanswered write and the newest one must both be
/// among them, so that a retry of the oldest is always recognised.
const SPAN_MAX: u64 = 200;

/// One open session.
pub(super) struct Session {
    pub(super) number: u64,
    state: Mutex<State>,
    room: Notify,
    is_lost: AtomicBool,
}

struct State {
    next_seq: u64,
    unanswered: BTreeSet<u64>,
}

/// The number of one write. Dropped when its reply is no longer needed.
pub(super) struct Ticket {
    pub(super) session: Arc<Session>,
    pub(super) seq: u64,
}

impl Session {
    pub(super) fn new(number: u64) -> Session {
        Session {
            number,
            state: Mutex::new(State { next_seq: 1, unanswered: BTreeSet::new() }),
            room: Notify::new(),
            is_lost: AtomicBool::new(false),
        }
    }

    /// Draws the next number; waits while the oldest unanswered write lies too far back.
    pub(super) async fn ticket(self: &Arc<Self>) -> Ticket {
        loop {
            let room = self.room.notified();
            if let Some(seq) = self.state.lock().draw() {
                return Ticket { session: self.clone(), seq };
            }
            room.await;
        }
    }

    /// Returns the lowest number whose reply is still needed.
    pub(super) fn first_unanswered(&self) -> u64 {
        let state = self.state.lock();
        state.unanswered.first().copied().unwrap_or(state.next_seq)
    }

    pub(super) fn set_lost(&self) {
        self.is_lost.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }
}

impl State {
    fn draw(&mut self) -> Option<u64> {
        let seq = self.next_seq;
        if self.unanswered.first().is_some_and(|first| seq - first >= SPAN_MAX) {
            return None;
        }
        self.next_seq += 1;
        self.unanswered.insert(seq);
        Some(seq)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.session.state.lock().unanswered.remove(&self.seq);
        self.session.room.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_unanswered_write_holds_back_the_newest() {
        let session = Arc::new(Session::new(9));
        let oldest = session.ticket().await;
        let mut others = Vec::new();
        for _ in 1..SPAN_MAX {
            others.push(session.ticket().await);
        }
        assert_eq!((oldest.seq, others.last().unwrap().seq), (1, SPAN_MAX));
        others.clear(); // All but the oldest are answered: still no room.
        assert_eq!(session.first_unanswered(), 1);
        assert_eq!(session.state.lock().draw(), None);
        let waiting = tokio::spawn({
            let session = session.clone();
            async move { session.ticket().await.seq }
        });
        tokio::task::yield_now().await;
        drop(oldest);
        assert_eq!(waiting.await.unwrap(), SPAN_MAX + 1);
        assert_eq!(session.first_unanswered(), SPAN_MAX + 2, "nothing is unanswered");
    }
}
