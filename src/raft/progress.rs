//! What a leader knows of one other member, and how much it may send it.

use std::collections::VecDeque;

use super::types::Index;

/// One member as its leader sees it.
///
/// - `matched < next`; `matched` never goes back within a term.
/// - Everything below `next` has been sent, or is known to be there.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    /// Durable at the member, and equal to the leader's log, up to here.
    pub(crate) matched: Index,
    /// The next entry to send.
    pub(crate) next: Index,
    /// How to send.
    pub(crate) pace: Pace,
    /// Whether it has answered anything since the last quorum check.
    pub(crate) is_active: bool,
    /// The newest read round it has answered.
    pub(crate) acked_read: u64,
    /// The newest commit index it can know.
    pub(crate) commit_sent: Index,
    /// It waits to apply up to here, for a read: it is told of this commit without delay.
    pub(crate) commit_wanted: Index,
}

/// How to send to a member.
#[derive(Clone, Debug)]
pub(crate) enum Pace {
    /// Where its log ends is not known: one append at a time; `waiting` for the answer to the last one.
    Probe { waiting: bool },
    /// It follows: appends leave without waiting, within the window.
    Replicate(Window),
}

/// Appends that left and are not yet answered.
///
/// - Indexes strictly increase; `bytes` is the sum of theirs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    appends: VecDeque<(Index, u64)>,
    bytes: u64,
    /// Heartbeat answers since the last progress: two in a row suggest that an append was lost.
    silent_heartbeats: u8,
}

/// The bounds of a window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WindowLimits {
    pub(crate) messages: usize,
    pub(crate) bytes: u64,
}

impl Progress {
    /// Returns the state of a member of which nothing is known yet.
    pub(crate) fn new(next: Index) -> Progress {
        Progress {
            matched: Index(0),
            next,
            pace: Pace::Probe { waiting: false },
            is_active: false,
            acked_read: 0,
            commit_sent: Index(0),
            commit_wanted: Index(0),
        }
    }

    /// Takes an acknowledgement; returns whether it told anything new.
    pub(crate) fn on_matched(&mut self, matched: Index) -> bool {
        let is_news = matched > self.matched;
        self.matched = self.matched.max(matched);
        self.next = self.next.max(matched.next());
        match &mut self.pace {
            // Any true answer ends the probing, also one without news (T33).
            Pace::Probe { .. } => self.pace = Pace::Replicate(Window::default()),
            Pace::Replicate(window) => window.on_matched(matched),
        }
        is_news
    }

    /// Takes a rejection of `rejected`; the member may agree up to `agree`. Returns whether it was fresh.
    pub(crate) fn on_rejected(&mut self, rejected: Index, agree: Index) -> bool {
        if rejected <= self.matched {
            return false; // T28: it has acknowledged more than this since.
        }
        match &self.pace {
            Pace::Probe { .. } if rejected.next() != self.next => return false,
            Pace::Probe { .. } => self.next = self.next.min(agree.next()).max(self.matched.next()),
            Pace::Replicate(_) => self.next = self.matched.max(agree.min(rejected)).next(),
        }
        self.pace = Pace::Probe { waiting: false };
        true
    }

    /// Starts over from what is certain: messages to this member were lost.
    pub(crate) fn on_unreachable(&mut self) {
        if let Pace::Replicate(_) = self.pace {
            self.next = self.matched.next();
        }
        self.pace = Pace::Probe { waiting: true };
    }

    /// Takes a heartbeat's answer; returns whether an empty append should find out if some were lost.
    pub(crate) fn on_heartbeat_reply(&mut self) -> bool {
        match &mut self.pace {
            Pace::Probe { waiting } => {
                *waiting = false;
                false
            }
            Pace::Replicate(window) if window.appends.is_empty() => false,
            Pace::Replicate(window) => {
                window.silent_heartbeats = window.silent_heartbeats.saturating_add(1);
                window.silent_heartbeats >= 2
            }
        }
    }

    /// Returns whether entries may leave now.
    pub(crate) fn is_ready(&self, limits: WindowLimits) -> bool {
        match &self.pace {
            Pace::Probe { waiting } => !waiting,
            Pace::Replicate(window) => window.has_room(limits),
        }
    }

    /// Notes that an append up to `last` left, with this many payload bytes.
    pub(crate) fn on_sent(&mut self, last: Index, bytes: u64) {
        match &mut self.pace {
            Pace::Probe { waiting } => *waiting = true,
            Pace::Replicate(window) => {
                if last >= self.next {
                    window.push(last, bytes);
                    self.next = last.next();
                }
            }
        }
    }
}

impl Window {
    /// Returns whether one more append fits; a single one always does.
    fn has_room(&self, limits: WindowLimits) -> bool {
        self.appends.is_empty() || (self.appends.len() < limits.messages && self.bytes < limits.bytes)
    }

    fn push(&mut self, last: Index, bytes: u64) {
        self.appends.push_back((last, bytes));
        self.bytes += bytes;
    }

    /// Frees every append up to `matched`: an answer to a later one answers those before it too.
    fn on_matched(&mut self, matched: Index) {
        while let Some(&(last, bytes)) = self.appends.front() {
            if last > matched {
                break;
            }
            self.appends.pop_front();
            self.bytes -= bytes;
            self.silent_heartbeats = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: WindowLimits = WindowLimits { messages: 3, bytes: 100 };

    fn replicating() -> Progress {
        let mut progress = Progress::new(Index(5));
        progress.on_matched(Index(4));
        progress
    }

    #[test]
    fn a_window_is_bounded_by_messages_and_bytes() {
        let mut progress = replicating();
        for last in 5..8 {
            assert!(progress.is_ready(LIMITS));
            progress.on_sent(Index(last), 10);
        }
        assert!(!progress.is_ready(LIMITS));
        progress.on_matched(Index(6)); // Answers 5 as well.
        assert!(progress.is_ready(LIMITS));
        progress.on_sent(Index(8), 500);
        assert!(!progress.is_ready(LIMITS), "bytes are used up");
        progress.on_matched(Index(8));
        assert!(progress.is_ready(LIMITS));
    }

    /// T31: everything in flight was lost; two heartbeat answers without progress ask for a probe.
    #[test]
    fn a_silent_window_asks_for_a_probe() {
        let mut progress = replicating();
        assert!(!progress.on_heartbeat_reply(), "nothing in flight");
        progress.on_sent(Index(5), 10);
        assert!(!progress.on_heartbeat_reply());
        assert!(progress.on_heartbeat_reply());
        progress.on_matched(Index(5));
        assert!(!progress.on_heartbeat_reply());
    }

    /// T28: answers may come late, twice and out of order.
    #[test]
    fn stale_answers_change_nothing() {
        let mut progress = replicating();
        assert!(progress.on_matched(Index(9)));
        assert!(!progress.on_matched(Index(7)));
        assert_eq!(progress.matched, Index(9));
        assert!(!progress.on_rejected(Index(8), Index(2)));
        assert_eq!(progress.next, Index(10));
    }

    #[test]
    fn a_probe_takes_only_the_answer_to_itself() {
        let mut progress = Progress::new(Index(20));
        progress.on_sent(Index(19), 0);
        assert!(!progress.is_ready(LIMITS));
        assert!(!progress.on_rejected(Index(12), Index(3)));
        assert!(progress.on_rejected(Index(19), Index(7)));
        assert_eq!(progress.next, Index(8));
        assert!(progress.is_ready(LIMITS));
    }

    #[test]
    fn unreachable_falls_back_to_what_is_certain() {
        let mut progress = replicating();
        progress.on_sent(Index(9), 10);
        progress.on_unreachable();
        assert_eq!((progress.next, progress.is_ready(LIMITS)), (Index(5), false));
        assert!(!progress.on_heartbeat_reply());
        assert!(progress.is_ready(LIMITS));
    }
}
