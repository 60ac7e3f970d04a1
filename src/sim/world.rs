//! The event loop: one heap, one clock, one thread.

use std::io::Write;

use bytes::{Bytes, BytesMut};
use xxhash_rust::xxh3::Xxh3;

use super::clients::Client;
use super::heap::{Event, Heap, Micros};
use super::history::{self, Operation};
use super::invariants::Invariants;
use super::knobs::{Dice, Knobs};
use super::machine::Machine;
use super::network::{Carriage, Network};
use super::report::{Failure, Invariant, Options, Report, Violation};
use crate::kv::{CommandError, Reply};
use crate::node::{self, Outcome, Outgoing, RequestError, Waiter};
use crate::proto::peer::{self, ForwardOutcome, FrameCutter, PeerMessage};
use crate::raft::{Message, NodeId, RoleName};

/// Frames above this are refused, as on the wire.
const FRAME_BYTES_MAX: usize = 4 << 20;

/// What may wait for a node that is paused.
const INBOX_MAX: usize = 10_000;

/// After faults end, clients go on for this long, in microseconds.
const SERVE_US: Micros = 2_000_000;

/// Then everything must be equal within this long.
const SETTLE_US: Micros = 30_000_000;

/// A whole cluster under a seed.
pub(super) struct World<'a> {
    seed: u64,
    options: &'a Options,
    out: &'a mut dyn Write,
    pub(super) knobs: Knobs,
    pub(super) dice: Dice,
    heap: Heap,
    pub(super) now: Micros,
    pub(super) machines: Vec<Machine>,
    pub(super) network: Network,
    pub(super) invariants: Invariants,
    pub(super) clients: Vec<Client>,
    pub(super) connections: u64,
    pub(super) operations: Vec<Operation>,
    /// Faults have ended.
    pub(super) is_quiet: bool,
    /// Clients begin nothing new.
    pub(super) is_draining: bool,
    pub(super) crashes: u64,
    events: u64,
    trace: Xxh3,
    is_over: bool,
}

impl<'a> World<'a> {
    pub(super) fn new(seed: u64, options: &'a Options, out: &'a mut dyn Write) -> World<'a> {
        let mut dice = Dice::new(seed);
        let knobs = Knobs::draw(&mut dice, options.nodes);
        let machines = (1..=knobs.nodes).map(|id| Machine::new(id, &mut dice)).collect();
        World {
            seed,
            options,
            out,
            knobs,
            dice,
            heap: Heap::default(),
            now: 0,
            machines,
            network: Network::default(),
            invariants: Invariants::default(),
            clients: Vec::new(),
            connections: 0,
            operations: Vec::new(),
            is_quiet: false,
            is_draining: false,
            crashes: 0,
            events: 0,
            trace: Xxh3::new(),
            is_over: false,
        }
    }

    /// Runs to the end, or to the first broken invariant.
    pub(super) fn run(&mut self) -> Result<Report, Failure> {
        let ended = self.play();
        ended.map_err(|violation| Failure {
            seed: self.seed,
            at_us: self.now,
            violation,
            flags: self.options.flags(),
        })?;
        Ok(self.report())
    }

    fn play(&mut self) -> Result<(), Violation> {
        let knobs = self.knobs.clone();
        self.note(|| format!("{knobs:?}"));
        for node in 1..=self.knobs.nodes {
            self.plan(1 + node, Event::Restart { node });
        }
        self.make_clients();
        self.plan(500_000, Event::Fault);
        self.plan(self.options.faults_ms * 1_000, Event::Quiet);
        while let Some((at, event)) = self.heap.pop() {
            assert!(at >= self.now, "time goes back from {} to {at}", self.now);
            self.now = at;
            self.events += 1;
            self.hash(&event);
            self.on_event(event)?;
            if self.is_over {
                return self.check_history();
            }
        }
        Err(Violation::new(Invariant::Liveness, "nothing is going to happen any more".to_owned()))
    }

    fn on_event(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Tick { node, life } => self.on_tick(node, life),
            Event::Turn { node, life } if self.is_running(node, life) => self.on_turn(node)?,
            Event::Apply { node, life } if self.lives(node, life) => self.on_apply(node)?,
            Event::SyncStep { node, life, step } if self.lives(node, life) => self.on_sync_step(node, step)?,
            Event::Turn { .. } | Event::Apply { .. } | Event::SyncStep { .. } => {}
            Event::Deliver { from, to, frame, to_life } => self.on_deliver(from, to, frame, to_life),
            Event::Connect { node, life, peer, peer_life } => self.on_connect(node, life, peer, peer_life),
            Event::Disconnect { node, life, peer } => {
                if self.lives(node, life) {
                    self.offer(node, node::Event::PeerDown { id: NodeId(peer) });
                }
            }
            Event::Client { client } => self.client_step(client),
            Event::GiveUp { client, operation } => self.give_up(client, operation),
            Event::Fault => self.on_fault(),
            Event::Restart { node } => self.on_restart(node)?,
            Event::Resume { node, pause } => self.on_resume(node, pause),
            Event::Heal { split } => self.network.heal(split),
            Event::DiskRecovers { node } => self.machine_mut(node).is_disk_slow = false,
            Event::Quiet => self.on_quiet(),
            Event::Drain => self.is_draining = true,
            Event::Settled => self.on_settled()?,
        }
        Ok(())
    }

    pub(super) fn plan(&mut self, after: Micros, event: Event) {
        self.heap.push(self.now + after, event);
    }

    pub(super) fn machine(&self, id: u64) -> &Machine {
        &self.machines[place(id)]
    }

    pub(super) fn machine_mut(&mut self, id: u64) -> &mut Machine {
        &mut self.machines[place(id)]
    }

    fn lives(&self, node: u64, life: u64) -> bool {
        let machine = self.machine(node);
        machine.life.is_some() && machine.lives == life
    }

    fn is_running(&self, node: u64, life: u64) -> bool {
        self.lives(node, life) && !self.machine(node).is_paused
    }

    /// Writes a line of the trace, if it is wanted.
    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        if self.options.trace {
            // Whoever reads the trace and goes away does not stop the run.
            let _gone = writeln!(self.out, "{:>12} {}", self.now, line()).is_err();
        }
    }

    fn hash(&mut self, event: &Event) {
        let (kind, numbers): (u8, [u64; 4]) = match event {
            Event::Tick { node, life } => (0, [*node, *life, 0, 0]),
            Event::Turn { node, life } => (1, [*node, *life, 0, 0]),
            Event::Apply { node, life } => (2, [*node, *life, 0, 0]),
            Event::SyncStep { node, life, step } => (3, [*node, *life, *step as u64, 0]),
            Event::Deliver { from, to, frame, to_life } => {
                self.trace.update(frame);
                (4, [*from, *to, to_life.unwrap_or(0), 0])
            }
            Event::Connect { node, life, peer, peer_life } => (5, [*node, *life, *peer, *peer_life]),
            Event::Disconnect { node, life, peer } => (6, [*node, *life, *peer, 0]),
            Event::Client { client } => (7, [*client as u64, 0, 0, 0]),
            Event::GiveUp { client, operation } => (8, [*client as u64, *operation as u64, 0, 0]),
            Event::Fault => (9, [0; 4]),
            Event::Restart { node } => (10, [*node, 0, 0, 0]),
            Event::Resume { node, pause } => (11, [*node, *pause, 0, 0]),
            Event::Heal { split } => (12, [*split, 0, 0, 0]),
            Event::DiskRecovers { node } => (13, [*node, 0, 0, 0]),
            Event::Quiet => (14, [0; 4]),
            Event::Drain => (15, [0; 4]),
            Event::Settled => (16, [0; 4]),
        };
        self.trace.update(&[kind]);
        self.trace.update(&self.now.to_le_bytes());
        numbers.iter().for_each(|number| self.trace.update(&number.to_le_bytes()));
    }

    /// Hands an event to a node, which takes it in at its next turn.
    pub(super) fn offer(&mut self, node: u64, event: node::Event) {
        if let Some(life) = &mut self.machine_mut(node).life
            && life.inbox.len() < INBOX_MAX
        {
            life.inbox.push(event);
        }
        self.wake(node);
    }

    fn wake(&mut self, node: u64) {
        let machine = self.machine_mut(node);
        let lives = machine.lives;
        if let Some(life) = &mut machine.life
            && !machine.is_paused
            && !std::mem::replace(&mut life.is_turn_planned, true)
        {
            let delay = 1 + self.dice.below(20);
            self.plan(delay, Event::Turn { node, life: lives });
        }
    }

    fn on_tick(&mut self, node: u64, life: u64) {
        if !self.lives(node, life) {
            return;
        }
        let machine = self.machine_mut(node);
        let rate_ppm = machine.rate_ppm;
        if let Some(life) = &mut machine.life {
            life.is_tick_due = true;
        }
        self.wake(node);
        let next = self.knobs.tick_us * 1_000_000 / rate_ppm;
        self.plan(next, Event::Tick { node, life });
    }

    /// A node's consensus thread: everything that waits goes in, and what comes out is carried out in its order.
    fn on_turn(&mut self, node: u64) -> Result<(), Violation> {
        let now = self.now;
        let actions = self.machine_mut(node).turn(now);
        if let Some((from, violation)) = actions.violations.first() {
            let details = format!("node {node} refuses a message of node {from}: {violation}");
            return Err(Violation::new(Invariant::Protocol, details));
        }
        let mut crash_per_million = match &actions.persist {
            Some(_) => self.knobs.crashes_in_write_per_million,
            None => 0,
        };
        if let Some(persist) = &actions.persist {
            let machine = &mut self.machines[place(node)];
            self.invariants.on_persist(machine, persist)?;
            machine.persist(persist)?;
        }
        self.invariants.on_turn(&self.machines[place(node)])?;
        self.note_role(node);
        for (to, outgoing) in actions.sends {
            if let Outgoing::Raft(message) = &outgoing {
                self.invariants.on_send(node, to, message)?;
                if matches!(message, Message::Vote { .. } | Message::VoteReply { granted: true, .. }) {
                    crash_per_million = crash_per_million.max(self.knobs.crashes_in_vote_per_million);
                }
            }
            let message = match outgoing {
                Outgoing::Raft(message) => self.machine(node).with_payloads(message),
                Outgoing::Forward { request, entry } => PeerMessage::Forward { request, entry },
                Outgoing::ForwardEnded { request, outcome } => PeerMessage::ForwardReply { request, outcome },
            };
            self.send(node, to, &message);
        }
        if let Some(apply) = &actions.apply {
            self.invariants.on_committed(&self.machines, node, apply.range.start().0, apply.range.end().0)?;
        }
        if let Some(life) = &mut self.machine_mut(node).life {
            life.push_jobs(actions.apply, actions.readable);
        }
        for (request, outcome) in actions.completions {
            self.on_answer(node, request, outcome)?;
        }
        self.maybe_apply(node);
        self.maybe_sync(node);
        if !self.is_quiet && self.dice.happens(crash_per_million) {
            self.crash(node);
        }
        Ok(())
    }

    fn note_role(&mut self, node: u64) {
        if !self.options.trace {
            return;
        }
        let Some(life) = &self.machine(node).life else { return };
        let raft = life.node.raft();
        let line = format!(
            "node {node} {:?} term {} commit {} last {} durable {} applied {}",
            raft.role(),
            raft.term(),
            raft.commit(),
            raft.last().index,
            raft.durable(),
            life.applied
        );
        self.note(|| line);
    }

    fn send(&mut self, from: u64, to: NodeId, message: &PeerMessage) {
        let carriage = match message {
            PeerMessage::Raft { .. } => Carriage::Wild,
            PeerMessage::Forward { .. } | PeerMessage::ForwardReply { .. } => Carriage::Stream,
        };
        let mut frame = BytesMut::new();
        peer::encode(message).iter().for_each(|chunk| frame.extend_from_slice(chunk));
        let frame = frame.freeze();
        let to_life = (carriage == Carriage::Stream).then(|| self.machine(to.0).lives);
        let arrivals = self.network.arrivals(&mut self.dice, &self.knobs, (from, to.0), self.now, carriage);
        for at in arrivals {
            self.heap.push(at, Event::Deliver { from, to: to.0, frame: frame.clone(), to_life });
        }
    }

    fn on_deliver(&mut self, from: u64, to: u64, frame: Bytes, to_life: Option<u64>) {
        let machine = self.machine(to);
        let is_there = machine.life.is_some() && to_life.is_none_or(|life| life == machine.lives);
        if !is_there || self.network.is_cut((from, to)) {
            return;
        }
        let mut cutter = FrameCutter::new(FRAME_BYTES_MAX);
        cutter.push(frame);
        let frame = cutter.take_frame().ok().flatten();
        let frame = frame.unwrap_or_else(|| panic!("node {from} sends no whole frame"));
        let message = peer::decode(frame).unwrap_or_else(|error| panic!("node {from} sends nonsense: {error}"));
        self.note(|| format!("{from} -> {to} {message:?}"));
        self.offer(to, node::Event::Message { from: NodeId(from), message });
    }

    fn maybe_sync(&mut self, node: u64) {
        if self.machine_mut(node).maybe_begin_sync() {
            self.plan_sync_step(node, 0);
        }
    }

    fn plan_sync_step(&mut self, node: u64, step: usize) {
        let machine = self.machine(node);
        let (life, is_slow) = (machine.lives, machine.is_disk_slow);
        let mean = self.knobs.sync_us * if is_slow { 100 } else { 1 };
        let delay = 1 + self.dice.around(mean);
        self.plan(delay, Event::SyncStep { node, life, step });
    }

    fn on_sync_step(&mut self, node: u64, step: usize) -> Result<(), Violation> {
        if self.machine_mut(node).sync_step(step)? {
            self.plan_sync_step(node, step + 1);
        } else {
            self.wake(node);
            self.maybe_sync(node);
        }
        Ok(())
    }

    fn maybe_apply(&mut self, node: u64) {
        let machine = self.machine_mut(node);
        let lives = machine.lives;
        if let Some(life) = &mut machine.life
            && life.has_jobs()
            && !std::mem::replace(&mut life.is_apply_planned, true)
        {
            let delay = 1 + self.dice.around(self.knobs.apply_us);
            self.plan(delay, Event::Apply { node, life: lives });
        }
    }

    /// A node's apply thread: one job, and its answers.
    fn on_apply(&mut self, node: u64) -> Result<(), Violation> {
        let Some(life) = &mut self.machine_mut(node).life else { return Ok(()) };
        life.is_apply_planned = false;
        let applied = life.apply_next();
        for (index, hash) in applied.hashes {
            self.invariants.on_applied(node, index, hash)?;
        }
        for (index, waiter, reply) in applied.replies {
            match (waiter, reply) {
                (Waiter::Local(request), Reply::Error(CommandError::OutOfOrder)) => {
                    self.on_answer(node, request, Err(RequestError::Uncertain))?;
                }
                (Waiter::Local(request), reply) => {
                    self.on_answer(node, request, Ok(Outcome::Applied { index, reply }))?;
                }
                (Waiter::Remote { node: front, request }, reply) => {
                    let outcome = ForwardOutcome::Applied { index, reply };
                    self.send(node, front, &PeerMessage::ForwardReply { request, outcome });
                }
            }
        }
        for request in applied.readable {
            self.on_answer(node, request, Ok(Outcome::Readable))?;
        }
        self.maybe_apply(node);
        Ok(())
    }

    fn on_restart(&mut self, node: u64) -> Result<(), Violation> {
        if self.machine(node).life.is_some() {
            return Ok(());
        }
        let machine = &mut self.machines[place(node)];
        machine.start(&self.knobs, &mut self.dice)?;
        #[cfg(feature = "mutants")]
        if let (Some(life), Some(mutant)) = (&mut machine.life, self.options.mutant) {
            life.node.set_mutant(mutant);
        }
        let life = machine.lives;
        self.note(|| format!("node {node} starts, life {life}"));
        let tick = self.dice.below(self.knobs.tick_us);
        self.plan(tick, Event::Tick { node, life });
        let up: Vec<(u64, u64)> =
            self.machines.iter().filter(|m| m.life.is_some() && m.id != node).map(|m| (m.id, m.lives)).collect();
        for (peer, peer_life) in up {
            let delay = 1 + self.dice.around(20_000);
            self.plan(delay, Event::Connect { node, life, peer, peer_life });
        }
        Ok(())
    }

    fn on_connect(&mut self, node: u64, life: u64, peer: u64, peer_life: u64) {
        if !self.lives(node, life) || !self.lives(peer, peer_life) {
            return;
        }
        for (at, other) in [(node, peer), (peer, node)] {
            let (storage_uuid, client_addr) = (u128::from(other) << 64, format!("client-{other}"));
            self.offer(at, node::Event::PeerUp { id: NodeId(other), storage_uuid, client_addr });
        }
    }

    fn on_resume(&mut self, node: u64, pause: u64) {
        let machine = self.machine_mut(node);
        if machine.pauses == pause && machine.is_paused {
            machine.is_paused = false;
            if let Some(life) = &mut machine.life {
                life.is_turn_planned = false;
            }
            self.wake(node);
        }
    }

    /// Faults end: everything is up, connected and fast.
    fn on_quiet(&mut self) {
        self.note(|| "faults end".to_owned());
        self.is_quiet = true;
        self.network.calm();
        for node in 1..=self.knobs.nodes {
            let machine = self.machine_mut(node);
            machine.is_disk_slow = false;
            let pause = machine.pauses;
            self.on_resume(node, pause);
            self.plan(1, Event::Restart { node });
        }
        self.plan(SERVE_US, Event::Drain);
        self.plan(SERVE_US + 1, Event::Settled);
    }

    /// Ends the run when every node is equal and every client is done.
    fn on_settled(&mut self) -> Result<(), Violation> {
        if self.is_settled() {
            self.is_over = true;
            return Ok(());
        }
        let since = self.now - self.options.faults_ms * 1_000 - SERVE_US;
        if since > SETTLE_US {
            let nodes: Vec<String> = self.machines.iter().map(state_of).collect();
            let open = self.clients.iter().filter(|client| !client.is_done()).count();
            let details = format!("{open} clients wait, {}", nodes.join("; "));
            return Err(Violation::new(Invariant::Liveness, details));
        }
        self.plan(50_000, Event::Settled);
        Ok(())
    }

    fn is_settled(&self) -> bool {
        let lives: Vec<_> = self.machines.iter().filter_map(|machine| machine.life.as_ref()).collect();
        let leader = lives.iter().find(|life| life.node.raft().role() == RoleName::Leader);
        let Some(leader) = leader.filter(|_| lives.len() == self.machines.len()) else { return false };
        let raft = leader.node.raft();
        let is_equal = lives.iter().all(|life| {
            let other = life.node.raft();
            other.leader() == Some(raft.id()) && other.commit() == raft.last().index && life.applied == other.commit()
        });
        let is_durable = self.machines.iter().all(|machine| machine.shadow.durable.log.len() as u64 == raft.last().index.0);
        is_equal && is_durable && self.clients.iter().all(Client::is_done)
    }

    fn check_history(&self) -> Result<(), Violation> {
        for key in 0..self.knobs.keys {
            for machine in &self.machines {
                history::check(&self.operations, key, &self.value(machine.id, key))?;
            }
        }
        Ok(())
    }

    fn report(&self) -> Report {
        let acknowledged = |operation: &&Operation| {
            matches!(operation.end, Some(history::End::Acknowledged { .. } | history::End::Value { .. }))
        };
        Report {
            seed: self.seed,
            trace_hash: self.trace.digest(),
            events: self.events,
            simulated_ms: self.now / 1_000,
            nodes: self.knobs.nodes,
            committed: self.invariants.committed.len() as u64,
            operations: self.operations.len() as u64,
            acknowledged: self.operations.iter().filter(acknowledged).count() as u64,
            leaders: self.invariants.leaders.len() as u64,
            crashes: self.crashes,
            torn_tails: self.machines.iter().map(|machine| machine.torn_tails).sum(),
            messages: self.network.messages,
        }
    }
}

fn place(id: u64) -> usize {
    usize::try_from(id - 1).unwrap_or(usize::MAX)
}

fn state_of(machine: &Machine) -> String {
    let Some(life) = &machine.life else { return format!("node {} is down", machine.id) };
    let raft = life.node.raft();
    let (role, term, last) = (raft.role(), raft.term(), raft.last().index);
    format!("node {} {role:?} term {term} last {last} commit {} applied {}", machine.id, raft.commit(), life.applied)
}
