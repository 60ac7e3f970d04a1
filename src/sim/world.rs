//! The event loop: one heap, one clock, one thread.

use std::io::Write;

use xxhash_rust::xxh3::Xxh3;

use super::clients::Client;
use super::heap::{Event, Heap, Micros};
use super::history::{self, Operation};
use super::invariants::Invariants;
use super::knobs::{Dice, Knobs};
use super::machine::Machine;
use super::network::Network;
use super::report::{Failure, Invariant, Options, Report, Violation};
use crate::node;
use crate::raft::NodeId;

/// What may wait for a node that is paused.
const INBOX_MAX: usize = 10_000;

/// A whole cluster under a seed.
pub(super) struct World<'a> {
    seed: u64,
    pub(super) options: &'a Options,
    out: &'a mut dyn Write,
    pub(super) knobs: Knobs,
    pub(super) dice: Dice,
    pub(super) heap: Heap,
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
    pub(super) is_over: bool,
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

    pub(super) fn wake(&mut self, node: u64) {
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

    pub(super) fn on_resume(&mut self, node: u64, pause: u64) {
        let machine = self.machine_mut(node);
        if machine.pauses == pause && machine.is_paused {
            machine.is_paused = false;
            if let Some(life) = &mut machine.life {
                life.is_turn_planned = false;
            }
            self.wake(node);
        }
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

/// Returns where a node's machine is.
pub(super) fn place(id: u64) -> usize {
    usize::try_from(id - 1).unwrap_or(usize::MAX)
}
