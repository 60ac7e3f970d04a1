//! The apply thread: committed entries into the state, replies out, reads that wait for an index.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use tokio::sync::mpsc::UnboundedSender;

use crate::kv::{CommandError, Input, Limits, Reply, Store};
use crate::node::{Outcome, RequestError, RequestId};
use crate::proto::codec;
use crate::proto::entry::{self, Body, EntryError};
use crate::proto::peer::ForwardOutcome;
use crate::raft::{ClusterLimits, Index, NodeId};
use crate::storage::Journal;

use super::handle::Completion;
use super::network::Network;
use super::options::FailureClass;
use super::shared::Shared;
use super::start::{NodeFailure, failure, log_failure_of};

/// The state is locked for at most this many entries at a time, so that readers get in between.
const ENTRIES_PER_LOCK: u64 = 256;

/// Where a completion goes.
#[derive(Clone, Debug)]
pub(super) struct Sink {
    pub(super) completions: UnboundedSender<Completion>,
    pub(super) request: RequestId,
}

/// Who gets the reply of an entry.
#[derive(Debug)]
pub(super) enum Target {
    Local(Sink),
    Remote { node: NodeId, request: u64 },
}

/// Work for the applier, in the order of the log.
#[derive(Debug)]
pub(super) enum Job {
    /// Apply these entries; the targets are sorted by index.
    Apply { range: RangeInclusive<Index>, targets: VecDeque<(Index, Target)> },
    /// Tell these that they may read, once `index` is applied.
    Readable { index: Index, sinks: Vec<Sink> },
    /// End the thread.
    Stop,
}

/// Jobs on their way to the apply thread.
///
/// Bounded by the core: it hands out what is committed, and its uncommitted bytes are bounded.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    queue: Mutex<Vec<Job>>,
    wake: Condvar,
}

impl Jobs {
    pub(super) fn push(&self, job: Job) {
        self.queue.lock().push(job);
        self.wake.notify_one();
    }

    fn take_all(&self) -> Vec<Job> {
        let mut queue = self.queue.lock();
        while queue.is_empty() {
            self.wake.wait(&mut queue);
        }
        std::mem::take(&mut queue)
    }
}

/// The apply thread's own.
#[derive(Debug)]
pub(super) struct Applier {
    shared: Arc<Shared>,
    network: Arc<Network>,
    jobs: Arc<Jobs>,
    /// Reads that wait for an index beyond what is applied.
    waiting: BTreeMap<Index, Vec<Sink>>,
}

impl Applier {
    pub(super) fn new(shared: Arc<Shared>, network: Arc<Network>, jobs: Arc<Jobs>) -> Applier {
        Applier { shared, network, jobs, waiting: BTreeMap::new() }
    }

    /// Runs until told to stop, or until an entry cannot be applied: then the node ends.
    pub(super) fn run(mut self) {
        loop {
            for job in self.jobs.take_all() {
                match job {
                    Job::Apply { range, targets } => {
                        if let Err(failure) = self.apply(range, targets) {
                            self.shared.end(Err(failure));
                            return;
                        }
                        self.release_reads();
                    }
                    Job::Readable { index, sinks } => {
                        self.waiting.entry(index).or_default().extend(sinks);
                        self.release_reads();
                    }
                    Job::Stop => return,
                }
            }
        }
    }

    fn apply(&self, range: RangeInclusive<Index>, mut targets: VecDeque<(Index, Target)>) -> Result<(), NodeFailure> {
        let mut next = range.start().0;
        while next <= range.end().0 {
            let last = range.end().0.min(next + ENTRIES_PER_LOCK - 1);
            let mut replies = Vec::new();
            {
                let mut store = self.shared.store.write();
                for index in (next..=last).map(Index) {
                    let reply = self.apply_entry(&mut store, index)?;
                    if targets.front().is_some_and(|(at, _)| *at == index)
                        && let Some((_, target)) = targets.pop_front()
                    {
                        replies.push((index, target, reply));
                    }
                }
            }
            self.shared.set_applied(Index(last));
            for (index, target, reply) in replies {
                self.answer(index, target, reply);
            }
            next = last + 1;
        }
        Ok(())
    }

    fn apply_entry(&self, store: &mut Store, index: Index) -> Result<Reply, NodeFailure> {
        let journal = &self.shared.journal;
        let stored = journal.entry(index).map_err(|error| log_failure_of(&error))?;
        let decoded = entry::decode(&stored).map_err(|error| undecodable(journal, index, &error))?;
        let time_ms = decoded.time_ms;
        Ok(match &decoded.body {
            Body::Operation(operation) => {
                store.apply(Input { index: index.0, time_ms, origin: decoded.origin, operation })
            }
            Body::Configuration(configuration) => {
                self.check_limits(configuration.limits)?;
                store.apply_configuration(index.0, time_ms, &codec::encode(configuration));
                store.set_limits(Limits { max_value_bytes: configuration.limits.value_bytes_max });
                self.learn_history(configuration.history)?;
                Reply::Ok
            }
            Body::Noop | Body::Time | Body::ClusterVersion(_) => {
                store.apply_time(index.0, time_ms);
                Reply::Ok
            }
        })
    }

    fn learn_history(&self, history: u128) -> Result<(), NodeFailure> {
        if self.shared.learn_history(history).map_err(|error| failure(FailureClass::Io, &error))? {
            self.network.on_history(history);
        }
        Ok(())
    }

    /// A member whose segments cannot hold the cluster's largest entry would fail at the first one: it stops now.
    fn check_limits(&self, limits: ClusterLimits) -> Result<(), NodeFailure> {
        let held = self.shared.journal.entry_bytes_max();
        if usize::try_from(limits.entry_bytes_max).is_ok_and(|needed| needed <= held) {
            return Ok(());
        }
        let message = format!(
            "log {}: its segments hold entries of up to {held} bytes, the cluster's may have {}; start this member with an \
             empty directory and the --segment-bytes of the others",
            self.shared.journal.dir().display(),
            limits.entry_bytes_max
        );
        Err(NodeFailure { class: FailureClass::Configuration, message })
    }

    fn answer(&self, index: Index, target: Target, reply: Reply) {
        match target {
            Target::Local(sink) => sink.complete(local_outcome(index, reply)),
            Target::Remote { node, request } => {
                self.network.reply(node, request, ForwardOutcome::Applied { index, reply });
            }
        }
    }

    fn release_reads(&mut self) {
        let applied = self.shared.applied();
        while let Some(entry) = self.waiting.first_entry().filter(|entry| *entry.key() <= applied) {
            for sink in entry.remove() {
                sink.complete(Ok(Outcome::Readable));
            }
        }
    }
}

fn undecodable(journal: &Journal, index: Index, error: &EntryError) -> NodeFailure {
    let message = format!(
        "log {}: entry {index}: {error}; run `kontiki-inspect get {} {index}`, and a newer program if the entry is sound",
        journal.dir().display(),
        journal.dir().display()
    );
    NodeFailure { class: FailureClass::Damaged, message }
}

/// A leader's own clients are proposed in the order of their sequence, so out of order means that an earlier one of
/// the same connection was given up: its fate, and so this one's, is open.
fn local_outcome(index: Index, reply: Reply) -> Result<Outcome, RequestError> {
    match reply {
        Reply::Error(CommandError::OutOfOrder) => Err(RequestError::Uncertain),
        reply => Ok(Outcome::Applied { index, reply }),
    }
}

impl Sink {
    pub(super) fn complete(&self, outcome: Result<Outcome, RequestError>) {
        let RequestId { number, is_write, .. } = self.request;
        // A closed connection does not want its answer any more.
        let _gone = self.completions.send(Completion { number, outcome, is_write }).is_err();
    }
}
