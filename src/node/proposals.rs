//! What this node proposed as leader and has not seen committed: payloads on their way to the log, and who waits.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use bytes::Bytes;

use crate::raft::Index;

use super::event::Waiter;

/// Payloads accepted by the core in this turn and not yet handed to the log, by index.
#[derive(Debug, Default)]
pub(super) struct Staged {
    entries: VecDeque<(Index, Bytes)>,
}

impl Staged {
    /// Stages one payload; whatever was staged at or after its index is replaced.
    pub(super) fn push(&mut self, index: Index, payload: Bytes) {
        while self.entries.back().is_some_and(|last| last.0 >= index) {
            self.entries.pop_back();
        }
        self.entries.push_back((index, payload));
    }

    /// Takes the payload at `index`, dropping older ones: they were replaced before they were written.
    pub(super) fn take(&mut self, index: Index) -> Option<Bytes> {
        while let Some((staged, payload)) = self.entries.pop_front() {
            if staged == index {
                return Some(payload);
            }
            if staged > index {
                self.entries.push_front((staged, payload));
                return None;
            }
        }
        None
    }
}

/// Who waits for which entry of this leadership, by index.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    waiters: VecDeque<(Index, Token)>,
}

/// Who waits, before it is known how it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A write of this node's front.
    Front(u64),
    /// Another node's.
    Other(Waiter),
}

impl Waiting {
    pub(super) fn push(&mut self, index: Index, token: Token) {
        debug_assert!(self.waiters.back().is_none_or(|last| last.0 < index), "{index} is not the newest");
        self.waiters.push_back((index, token));
    }

    /// Takes those that wait within a committed range.
    pub(super) fn take_committed(&mut self, range: &RangeInclusive<Index>) -> Vec<(Index, Token)> {
        let count = self.waiters.partition_point(|(index, _)| index <= range.end());
        self.waiters.drain(..count).collect()
    }

    /// Takes all, because the leadership has ended.
    pub(super) fn take_all(&mut self) -> Vec<Token> {
        self.waiters.drain(..).map(|(_, token)| token).collect()
    }
}
