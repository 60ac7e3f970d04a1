//! Trouble: crashes of one, some or all, pauses, splits of every shape, slow disks.

use std::collections::BTreeSet;

use super::heap::{Event, Micros};
use super::world::World;
use crate::raft::RoleName;

impl World<'_> {
    /// Something goes wrong, and the next trouble is planned.
    pub(super) fn on_fault(&mut self) {
        if self.is_quiet {
            return;
        }
        match self.dice.below(20) {
            0..6 => {
                let node = self.victim();
                self.crash(node);
            }
            6 => self.crash_some(1),
            7 => self.crash_some(2),
            8..11 => self.pause(),
            11..17 => self.split(),
            17..19 => self.slow_a_disk(),
            _ => self.heal_now(),
        }
        let next = 1 + self.dice.around(self.knobs.fault_every_us);
        self.plan(next, Event::Fault);
    }

    /// Picks a node: often one that leads, or one whose disk is busy.
    fn victim(&mut self) -> u64 {
        let leads = |world: &World<'_>, id: u64| {
            let life = world.machine(id).life.as_ref();
            life.is_some_and(|life| life.node.raft().role() == RoleName::Leader)
        };
        let ids: Vec<u64> = self.machines.iter().map(|machine| machine.id).collect();
        let leaders: Vec<u64> = ids.iter().copied().filter(|&id| leads(self, id)).collect();
        let syncing: Vec<u64> = ids.iter().copied().filter(|&id| self.machine(id).is_syncing()).collect();
        let choices = match self.dice.below(8) {
            0..5 if !leaders.is_empty() => leaders,
            5 if !syncing.is_empty() => syncing,
            _ => ids,
        };
        self.dice.pick(&choices)
    }

    /// Cuts a machine's power, and plans its return.
    pub(super) fn crash(&mut self, node: u64) {
        if self.machine(node).life.is_none() {
            return;
        }
        self.note(|| format!("node {node} crashes"));
        self.crashes += 1;
        let at = usize::try_from(node - 1).unwrap_or(0);
        self.machines[at].crash(&mut self.dice);
        self.invariants.on_crash(node);
        self.on_crashed(node);
        let peers: Vec<(u64, u64)> = self.machines.iter().map(|machine| (machine.id, machine.lives)).collect();
        for (peer, life) in peers.into_iter().filter(|(peer, _)| *peer != node) {
            let delay = 1 + self.dice.around(5_000);
            self.plan(delay, Event::Disconnect { node: peer, life, peer: node });
        }
        let mean = self.dice.pick(&[1_000, 50_000, 500_000, 2_000_000]);
        let delay = 1 + self.dice.around(mean);
        self.plan(delay, Event::Restart { node });
    }

    /// Crashes each machine with a chance of one in `odds`; with 1, the power of all fails.
    fn crash_some(&mut self, odds: u64) {
        for node in 1..=self.knobs.nodes {
            if self.dice.below(odds) == 0 {
                self.crash(node);
            }
        }
    }

    fn pause(&mut self) {
        let node = self.victim();
        let delay = self.trouble_time();
        let machine = self.machine_mut(node);
        if machine.life.is_none() || machine.is_paused {
            return;
        }
        machine.is_paused = true;
        machine.pauses += 1;
        let pause = machine.pauses;
        self.note(|| format!("node {node} pauses for {delay} us"));
        self.plan(delay, Event::Resume { node, pause });
    }

    /// Splits the network: two sides, one node alone, or single directions.
    fn split(&mut self) {
        let nodes = self.knobs.nodes;
        let mut cut = BTreeSet::new();
        match self.dice.below(6) {
            0 => {
                let side = self.dice.between(1, (1 << nodes) - 2);
                let is_left = |id: u64| side >> (id - 1) & 1 == 1;
                let pairs = (1..=nodes).flat_map(|a| (1..=nodes).map(move |b| (a, b)));
                cut.extend(pairs.filter(|&(a, b)| is_left(a) != is_left(b)));
            }
            1 | 2 => {
                let alone = self.victim();
                cut.extend((1..=nodes).flat_map(|other| [(alone, other), (other, alone)]));
            }
            3 | 4 => {
                // It hears, but is not heard; or the other way round.
                let half = self.victim();
                let is_mute = self.dice.happens(500_000);
                cut.extend((1..=nodes).map(|other| if is_mute { (half, other) } else { (other, half) }));
            }
            _ => {
                for _ in 0..self.dice.between(1, nodes) {
                    cut.insert((self.dice.between(1, nodes), self.dice.between(1, nodes)));
                }
            }
        }
        self.note(|| format!("split: {cut:?}"));
        let split = self.network.split(cut);
        let delay = self.trouble_time();
        self.plan(delay, Event::Heal { split });
    }

    fn slow_a_disk(&mut self) {
        let node = self.victim();
        self.note(|| format!("the disk of node {node} is slow"));
        self.machine_mut(node).is_disk_slow = true;
        let delay = self.trouble_time();
        self.plan(delay, Event::DiskRecovers { node });
    }

    fn heal_now(&mut self) {
        self.note(|| "the network is whole".to_owned());
        let split = self.network.splits;
        self.network.heal(split);
    }

    fn trouble_time(&mut self) -> Micros {
        let mean = self.dice.pick(&[20_000, 300_000, 1_000_000, 2_000_000]);
        1 + self.dice.around(mean)
    }
}
