//! What must be true after every event, whoever crashed: safety as figure 3 of the Raft paper states it, and more.

use std::collections::BTreeMap;

use super::machine::Machine;
use super::report::{Invariant, Violation};
use super::shadow::EntryId;
use crate::node::PersistAction;
use crate::raft::{Index, Message, NodeId, RoleName, Term};

/// What the whole run has seen.
#[derive(Debug, Default)]
pub(super) struct Invariants {
    pub(super) leaders: BTreeMap<Term, u64>,
    votes: BTreeMap<(u64, Term), NodeId>,
    /// Each log id that was ever written: what it is, and the term before it.
    written: BTreeMap<(u64, Term), (u64, Term)>,
    pub(super) committed: Vec<EntryId>,
    hashes: Vec<u128>,
    /// Role, term and commit index of each node after its last turn.
    last: BTreeMap<u64, Seen>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    role: RoleName,
    term: Term,
    commit: Index,
}

impl Invariants {
    /// A message leaves: votes are promises.
    pub(super) fn on_send(&mut self, from: u64, to: NodeId, message: &Message) -> Result<(), Violation> {
        let (term, candidate) = match message {
            Message::VoteReply { term, granted: true } => (*term, to),
            Message::Vote { term, .. } => (*term, NodeId(from)),
            _ => return Ok(()),
        };
        let first = *self.votes.entry((from, term)).or_insert(candidate);
        check(first == candidate, Invariant::OneVotePerTerm, || {
            format!("node {from} votes in term {term} for node {candidate}, after node {first}")
        })
    }

    /// A node writes a batch; its shadow does not show it yet.
    pub(super) fn on_persist(&mut self, machine: &Machine, persist: &PersistAction) -> Result<(), Violation> {
        let id = machine.id;
        if let (Some(from), Some(seen)) = (persist.truncate_from, self.last.get(&id)) {
            let still_leads = machine.life.as_ref().is_some_and(|life| life.node.raft().term() == seen.term);
            check(seen.role != RoleName::Leader || !still_leads, Invariant::LeaderAppendOnly, || {
                format!("node {id} leads term {} and cuts its log from {from}", seen.term)
            })?;
        }
        let first = persist.entries.first().map_or(Index(1), |(first, _, _)| *first);
        let mut before = machine.shadow.written.entry(first.0 - 1).map_or(Term(0), |entry| entry.term);
        for (index, term, payload) in &persist.entries {
            let hash = EntryId::of(*term, payload).hash;
            let known = *self.written.entry((index.0, *term)).or_insert((hash, before));
            check(known == (hash, before), Invariant::LogMatching, || {
                format!("node {id} writes entry {index} of term {term} behind term {before}: another one is known")
            })?;
            before = *term;
        }
        Ok(())
    }

    /// A node's turn has ended, and everything it wrote is in its shadow.
    pub(super) fn on_turn(&mut self, machine: &Machine) -> Result<(), Violation> {
        let Some(life) = &machine.life else { return Ok(()) };
        let raft = life.node.raft();
        let now = Seen { role: raft.role(), term: raft.term(), commit: raft.commit() };
        let before = self.last.insert(machine.id, now);
        if now.role != RoleName::Leader {
            return Ok(());
        }
        let id = machine.id;
        let first = *self.leaders.entry(now.term).or_insert(id);
        check(first == id, Invariant::OneLeaderPerTerm, || format!("nodes {first} and {id} lead term {}", now.term))?;
        if before.is_none_or(|before| before.role != RoleName::Leader || before.term != now.term) {
            let lacks =
                self.committed.iter().zip(1..).find(|(entry, at)| machine.shadow.written.entry(*at) != Some(**entry));
            check(lacks.is_none(), Invariant::LeaderCompleteness, || {
                format!("node {id} leads term {} without committed entry {:?}", now.term, lacks)
            })?;
        }
        let advanced = before.is_some_and(|before| before.role == RoleName::Leader && before.commit < now.commit);
        let through = machine.shadow.written.entry(now.commit.0).map(|entry| entry.term);
        check(!advanced || through == Some(now.term), Invariant::CommitsOwnTerm, || {
            format!("node {id} leads term {} and commits {} of term {through:?}", now.term, now.commit)
        })
    }

    /// A node learned that entries are committed.
    pub(super) fn on_committed(
        &mut self,
        machines: &[Machine],
        id: u64,
        first: u64,
        last: u64,
    ) -> Result<(), Violation> {
        for index in first..=last {
            let machine = machines.iter().find(|machine| machine.id == id);
            let entry = machine.and_then(|machine| machine.shadow.written.entry(index));
            let Some(entry) = entry else {
                return Err(Violation::new(
                    Invariant::CommittedNeverChanges,
                    format!("node {id} commits entry {index}, which is not in its log"),
                ));
            };
            match usize::try_from(index - 1).ok().and_then(|at| self.committed.get(at)) {
                Some(known) => check(*known == entry, Invariant::CommittedNeverChanges, || {
                    format!("node {id} commits another entry {index}: {entry:?}, not {known:?}")
                })?,
                None => {
                    is_durable(machines, index, entry, Invariant::CommittedIsDurable)?;
                    self.committed.push(entry);
                }
            }
        }
        Ok(())
    }

    /// A client is told that its write took effect at `index`.
    pub(super) fn on_acknowledged(&self, machines: &[Machine], index: Index) -> Result<(), Violation> {
        let entry = usize::try_from(index.0 - 1).ok().and_then(|at| self.committed.get(at));
        let Some(entry) = entry else {
            let details = format!("entry {index} is acknowledged and not committed");
            return Err(Violation::new(Invariant::AcknowledgedIsDurable, details));
        };
        is_durable(machines, index.0, *entry, Invariant::AcknowledgedIsDurable)
    }

    /// A node's state is at `index`.
    pub(super) fn on_applied(&mut self, id: u64, index: Index, hash: u128) -> Result<(), Violation> {
        let at = usize::try_from(index.0 - 1).unwrap_or(usize::MAX);
        match self.hashes.get(at) {
            Some(known) => check(*known == hash, Invariant::StateHash, || {
                format!("node {id} at index {index} has state {hash:032x}, others had {known:032x}")
            }),
            None => {
                check(at == self.hashes.len(), Invariant::StateHash, || format!("node {id} skips to index {index}"))?;
                self.hashes.push(hash);
                Ok(())
            }
        }
    }

    /// A node is gone; what it was is no measure for its next life.
    pub(super) fn on_crash(&mut self, id: u64) {
        self.last.remove(&id);
    }
}

fn is_durable(machines: &[Machine], index: u64, entry: EntryId, invariant: Invariant) -> Result<(), Violation> {
    let holders: Vec<u64> = machines
        .iter()
        .filter(|machine| machine.shadow.durable.entry(index) == Some(entry))
        .map(|machine| machine.id)
        .collect();
    check(2 * holders.len() > machines.len(), invariant, || {
        format!("entry {index} of term {} is durable only on nodes {holders:?} of {}", entry.term, machines.len())
    })
}

fn check(holds: bool, invariant: Invariant, details: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation::new(invariant, details())) }
}
