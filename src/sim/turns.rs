//! A node at work: turns of its consensus thread, its frames, its syncs, its apply thread.

use bytes::{Bytes, BytesMut};

use super::heap::Event;
use super::network::Carriage;
use super::report::{Invariant, Violation};
use super::world::{World, place};
use crate::kv::{CommandError, Reply};
use crate::node::{self, Outcome, Outgoing, RequestError, Waiter};
use crate::proto::peer::{self, ForwardOutcome, FrameCutter, PeerMessage};
use crate::raft::{Message, NodeId};

/// Frames above this are refused, as on the wire.
const FRAME_BYTES_MAX: usize = 4 << 20;

impl World<'_> {
    /// A node's consensus thread: everything that waits goes in, and what comes out is carried out in its order.
    pub(super) fn on_turn(&mut self, node: u64) -> Result<(), Violation> {
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

    pub(super) fn on_deliver(&mut self, from: u64, to: u64, frame: Bytes, to_life: Option<u64>) {
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

    pub(super) fn on_sync_step(&mut self, node: u64, step: usize) -> Result<(), Violation> {
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
    pub(super) fn on_apply(&mut self, node: u64) -> Result<(), Violation> {
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
}
