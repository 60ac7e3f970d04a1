//! The end of a run: faults end, clients end, and everything must be equal and explained.

use super::clients::Client;
use super::heap::{Event, Micros};
use super::history;
use super::machine::Machine;
use super::report::{Invariant, Violation};
use super::world::World;
use crate::raft::RoleName;

/// After faults end, clients go on for this long, in microseconds.
const SERVE_US: Micros = 2_000_000;

/// Then everything must be equal within this long.
const SETTLE_US: Micros = 30_000_000;

impl World<'_> {
    /// Faults end: everything is up, connected and fast.
    pub(super) fn on_quiet(&mut self) {
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
    pub(super) fn on_settled(&mut self) -> Result<(), Violation> {
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
        let is_durable =
            self.machines.iter().all(|machine| machine.shadow.durable.log.len() as u64 == raft.last().index.0);
        is_equal && is_durable && self.clients.iter().all(Client::is_done)
    }

    pub(super) fn check_history(&self) -> Result<(), Violation> {
        for key in 0..self.knobs.keys {
            for machine in &self.machines {
                history::check(&self.operations, key, &self.value(machine.id, key))?;
            }
        }
        Ok(())
    }
}

fn state_of(machine: &Machine) -> String {
    let Some(life) = &machine.life else { return format!("node {} is down", machine.id) };
    let raft = life.node.raft();
    let (role, term, last) = (raft.role(), raft.term(), raft.last().index);
    format!("node {} {role:?} term {term} last {last} commit {} applied {}", machine.id, raft.commit(), life.applied)
}
