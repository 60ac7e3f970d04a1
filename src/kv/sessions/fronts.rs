//! What is remembered of front nodes, so that a closed session is never opened again by a late copy of a command.
//!
//! A connection's session is opened by whichever of its commands is applied first, so "not there" alone does not tell a
//! new session from a closed one. Numbers do: those of one boot are given once, so a number that was open is spent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::kv::SessionId;
use crate::kv::hash::{RowHasher, RowKind, Sum};

/// Numbers remembered one by one, a front node. Beyond it, the lowest gap is taken for closed: a connection that
/// first writes later is told that its session is gone and has to be opened anew.
const SPENT_MAX: usize = 16 * 1024;

/// Earlier boots remembered, a front node. A copy of a command that is older than so many restarts is no longer under way.
const RETIRED_MAX: usize = 64;

/// The front nodes and the session numbers they have spent.
#[derive(Debug, Default)]
pub(super) struct Fronts {
    fronts: BTreeMap<u64, Front>,
    sum: Sum,
}

/// One front node.
///
/// - Numbers up to `floor` and those in `spent` were opened or closed in this boot; those in `spent` are above `floor`.
/// - `retired` holds the boots before this one, oldest first.
#[derive(Debug, Default)]
struct Front {
    boot: u64,
    retired: VecDeque<u64>,
    floor: u64,
    spent: BTreeSet<u64>,
}

/// What a boot is to a front node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BootKind {
    /// The one that runs.
    Current,
    /// One that the log has not met: it runs now, and the one before has ended.
    New,
    /// One that has ended.
    Retired,
}

impl Fronts {
    pub(super) fn sum(&self) -> Sum {
        self.sum
    }

    pub(super) fn boot_kind(&self, node: u64, boot: u64) -> BootKind {
        match self.fronts.get(&node) {
            Some(front) if front.boot == boot => BootKind::Current,
            Some(front) if front.retired.contains(&boot) => BootKind::Retired,
            Some(_) | None => BootKind::New,
        }
    }

    /// Takes `boot` for the one that runs now.
    pub(super) fn start(&mut self, node: u64, boot: u64) {
        let mut retired = VecDeque::new();
        if let Some(old) = self.fronts.remove(&node) {
            self.sum.remove(old.hash(node));
            old.spent.iter().for_each(|number| self.sum.remove(spent_hash(node, *number)));
            retired = old.retired;
            retired.push_back(old.boot);
        }
        if retired.len() > RETIRED_MAX {
            retired.pop_front();
        }
        let front = Front { boot, retired, floor: 0, spent: BTreeSet::new() };
        self.sum.add(front.hash(node));
        self.fronts.insert(node, front);
    }

    /// Returns whether a session of the current boot was opened or closed before.
    pub(super) fn is_spent(&self, id: SessionId) -> bool {
        let front = self.fronts.get(&id.node);
        front.is_some_and(|front| id.number <= front.floor || front.spent.contains(&id.number))
    }

    /// Notes that a session of the current boot is opened or closed: its number is never opened again.
    pub(super) fn spend(&mut self, id: SessionId) {
        let Some(front) = self.fronts.get_mut(&id.node) else { return };
        if id.number <= front.floor || !front.spent.insert(id.number) {
            return;
        }
        self.sum.add(spent_hash(id.node, id.number));
        self.sum.remove(front.hash(id.node));
        while front.spent.len() > SPENT_MAX || front.spent.first() == front.floor.checked_add(1).as_ref() {
            let Some(lowest) = front.spent.pop_first() else { break };
            self.sum.remove(spent_hash(id.node, lowest));
            front.floor = lowest;
        }
        self.sum.add(front.hash(id.node));
    }

    #[cfg(test)]
    pub(super) fn rescan(&self) -> Sum {
        let mut sum = Sum::default();
        for (node, front) in &self.fronts {
            assert!(front.spent.len() <= SPENT_MAX && front.retired.len() <= RETIRED_MAX);
            assert!(front.spent.first().is_none_or(|lowest| *lowest - 1 > front.floor));
            sum.add(front.hash(*node));
            front.spent.iter().for_each(|number| sum.add(spent_hash(*node, *number)));
        }
        sum
    }
}

impl Front {
    fn hash(&self, node: u64) -> u128 {
        let mut row = RowHasher::new(RowKind::Front);
        row.u64(node).u64(self.boot).u64(self.floor);
        self.retired.iter().for_each(|boot| {
            row.u64(*boot);
        });
        row.finish()
    }
}

fn spent_hash(node: u64, number: u64) -> u128 {
    RowHasher::new(RowKind::SpentSession).u64(node).u64(number).finish()
}
