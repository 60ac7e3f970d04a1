//! The consensus thread: drain, step, write once, send, answer. The sync runs meanwhile and reports back.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use crate::node::{Actions, Apply, Event, Node, PersistAction, RequestId, Waiter};
use crate::raft::{NodeId, RoleName, Term};
use crate::transport::PeerMember;

use super::applier::{Job, Jobs, Sink, Target};
use super::handle::Completion;
use super::inbox::Input;
use super::network::{Network, members_of};
use super::options::FailureClass;
use super::shared::Shared;
use super::start::log_failure_of;

/// The consensus thread's own.
#[derive(Debug)]
pub(super) struct Consensus {
    node: Node,
    shared: Arc<Shared>,
    network: Arc<Network>,
    jobs: Arc<Jobs>,
    tick: Duration,
    connections: HashMap<u64, UnboundedSender<Completion>>,
    /// Whom the transport was told to expect.
    told_members: BTreeMap<NodeId, PeerMember>,
    /// What the log line before said.
    told_role: Option<(RoleName, Term, Option<NodeId>)>,
}

impl Consensus {
    pub(super) fn new(
        node: Node,
        shared: Arc<Shared>,
        network: Arc<Network>,
        jobs: Arc<Jobs>,
        tick: Duration,
    ) -> Consensus {
        let told_members = members_of(&node.view());
        Consensus { node, shared, network, jobs, tick, connections: HashMap::new(), told_members, told_role: None }
    }

    /// Runs until told to stop, or until the node must not go on.
    pub(super) fn run(mut self) {
        let mut inputs = Vec::new();
        let mut next_tick = Instant::now() + self.tick;
        loop {
            self.shared.inbox.drain(&mut inputs, next_tick);
            self.node.begin_turn(self.shared.clock(), self.shared.applied());
            let mut stops = false;
            for input in inputs.drain(..) {
                stops |= self.take(input);
            }
            let now = Instant::now();
            if now >= next_tick {
                // A sync that nobody waited for may have failed, too.
                if let Some(poisoned) = self.shared.journal.poisoned() {
                    self.shared.fail(FailureClass::Io, log_failure(&self.shared, &poisoned));
                    return;
                }
                self.node.tick();
                // A late tick is one tick: after a pause the node must not believe that many have passed at once.
                next_tick = (next_tick + self.tick).max(now);
                self.publish();
            } else if self.told_role != Some(self.node.standing()) {
                // At once: who gets an answer from a leader may ask who leads.
                self.publish();
            }
            let actions = self.node.take_actions();
            if !self.carry_out(actions) || stops {
                return;
            }
        }
    }

    /// Shows what the node is now, and tells the transport of new members.
    fn publish(&mut self) {
        let view = self.node.view();
        let members = members_of(&view);
        if members != self.told_members {
            self.network.on_membership(&view);
            self.told_members = members;
        }
        let role = Some((view.role, view.term, view.leader));
        if role != self.told_role {
            self.told_role = role;
            let leader = view.leader.map_or(0, |leader| leader.0);
            tracing::info!(role = ?view.role, term = view.term.0, leader, commit = view.commit.0, "role");
        }
        self.shared.publish(view);
    }

    fn take(&mut self, input: Input) -> bool {
        match input {
            Input::Event(event) => {
                if let Event::Closed { connection } = &event {
                    self.connections.remove(connection);
                }
                self.node.on_event(event);
                false
            }
            Input::Opened { connection, completions } => {
                self.connections.insert(connection, completions);
                false
            }
            Input::Stop => true,
        }
    }

    /// Does what the node asks, in its order. Returns whether the node may go on.
    fn carry_out(&mut self, actions: Actions) -> bool {
        for (from, violation) in &actions.violations {
            tracing::warn!(peer = from.0, %violation, "message refused");
        }
        if let Some(persist) = &actions.persist
            && !self.persist(persist)
        {
            return false;
        }
        match self.network.send_all(actions.sends, &self.shared.journal) {
            Ok(unsent) => unsent.into_iter().for_each(|(to, request)| self.node.on_forward_unsent(to, request)),
            Err(error) => {
                self.shared.end(Err(log_failure_of(&error)));
                return false;
            }
        }
        if let Some(apply) = actions.apply {
            self.apply(apply);
        }
        for (index, requests) in actions.readable {
            let sinks = requests.into_iter().filter_map(|request| self.sink(request)).collect();
            self.jobs.push(Job::Readable { index, sinks });
        }
        for (request, outcome) in actions.completions {
            if let Some(sink) = self.sink(request) {
                sink.complete(outcome);
            }
        }
        true
    }

    fn persist(&self, persist: &PersistAction) -> bool {
        let seq = persist.seq;
        let shared = Arc::clone(&self.shared);
        let done = move |result: Result<(), kontiki_wal::Poisoned>| match result {
            Ok(()) => shared.inbox.push(Input::Event(Event::Persisted { seq })),
            Err(poisoned) => shared.fail(FailureClass::Io, log_failure(&shared, &poisoned)),
        };
        match self.shared.journal.append(persist, done) {
            Ok(()) => true,
            Err(error) => {
                self.shared.fail(FailureClass::Io, error.to_string());
                false
            }
        }
    }

    fn apply(&self, apply: Apply) {
        let targets: VecDeque<_> = apply
            .waiters
            .into_iter()
            .filter_map(|(index, waiter)| {
                let target = match waiter {
                    Waiter::Local(request) => Target::Local(self.sink(request)?),
                    Waiter::Remote { node, request } => Target::Remote { node, request },
                };
                Some((index, target))
            })
            .collect();
        self.jobs.push(Job::Apply { range: apply.range, targets });
    }

    fn sink(&self, request: RequestId) -> Option<Sink> {
        let completions = self.connections.get(&request.connection)?.clone();
        Some(Sink { completions, request })
    }
}

fn log_failure(shared: &Shared, error: &dyn std::error::Error) -> String {
    format!(
        "log {}: {error}; nothing was acknowledged after it: mend the disk, then start the node again",
        shared.journal.dir().display()
    )
}
