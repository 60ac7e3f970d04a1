//! The end of a turn: what the core is ready to have done, put together with payloads and waiters.

use std::ops::RangeInclusive;

use bytes::Bytes;

use crate::proto::entry::{self, Body};
use crate::raft::{Index, OwnEntry, Persist, ReadOutcome, RoleName};

use super::Node;
use super::event::{Actions, Apply, Outgoing, PersistAction, Waiter};
use super::proposals::Token;

impl Node {
    /// Ends the turn and returns what it asks of the outside.
    pub fn take_actions(&mut self) -> Actions {
        self.observe_leadership();
        self.hand_on_all();
        self.start_reads();
        let ready = self.raft.take_ready();
        if ready.role.is_some_and(|change| change.role == RoleName::Candidate) {
            self.elections += 1;
        }
        if let Some(persist) = ready.persist {
            self.actions.persist = Some(self.with_payloads(persist));
        }
        let messages = ready.messages.into_iter();
        self.actions.sends.extend(messages.map(|outgoing| (outgoing.to, Outgoing::Raft(outgoing.message))));
        if let Some(range) = ready.committed {
            self.actions.apply = Some(self.with_waiters(range));
        }
        for ReadOutcome { id, result } in ready.reads {
            match result {
                Ok(index) => {
                    let requests = self.reads.on_confirmed(id);
                    if !requests.is_empty() {
                        self.actions.readable.push((index, requests));
                    }
                }
                Err(_) => self.reads.on_failed(id),
            }
        }
        std::mem::take(&mut self.actions)
    }

    fn start_reads(&mut self) {
        if self.leadership.leader.is_none() {
            return;
        }
        if let Some(round) = self.reads.maybe_start(self.clock.monotonic_ms)
            && self.raft.read(round).is_err()
        {
            self.reads.on_failed(round);
        }
    }

    fn with_payloads(&mut self, persist: Persist) -> PersistAction {
        let mut own = persist.own.into_iter().peekable();
        let mut entries = Vec::new();
        let indexes = persist.append.iter().flat_map(|range| range.start().0..=range.end().0).map(Index);
        let terms = persist.terms.iter().flat_map(|(term, count)| std::iter::repeat_n(*term, *count as usize));
        for (index, term) in indexes.zip(terms) {
            let payload = match own.next_if(|(at, _)| *at == index) {
                Some((_, made)) => self.encode_own(made),
                None => {
                    let staged = self.staged.take(index);
                    staged.unwrap_or_else(|| panic!("the core accepted entry {index}, but it was never staged"))
                }
            };
            entries.push((index, term, payload));
        }
        PersistAction {
            seq: persist.seq,
            hard_state: persist.hard_state,
            truncate_from: persist.truncate_from,
            entries,
        }
    }

    fn encode_own(&mut self, made: OwnEntry) -> Bytes {
        let body = match made {
            OwnEntry::Noop => Body::Noop,
            OwnEntry::Configuration(configuration) => Body::Configuration(configuration),
        };
        let mut entry = entry::encode(&body);
        entry::stamp_time(&mut entry, self.log_time.take(self.clock));
        entry.freeze()
    }

    fn with_waiters(&mut self, range: RangeInclusive<Index>) -> Apply {
        let committed = self.waiting.take_committed(&range);
        let waiters = committed.into_iter().filter_map(|(index, token)| {
            let waiter = match token {
                Token::Front(token) => Waiter::Local(self.front.finish(token)?),
                Token::Other(waiter) => waiter,
            };
            Some((index, waiter))
        });
        Apply { waiters: waiters.collect(), range }
    }
}
