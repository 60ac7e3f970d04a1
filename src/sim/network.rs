//! The network between nodes: what is cut, lost, late, and twice.

use std::collections::{BTreeMap, BTreeSet};

use super::heap::Micros;
use super::knobs::{Dice, Knobs};

/// The links between nodes, each direction by itself.
#[derive(Debug, Default)]
pub(super) struct Network {
    cut: BTreeSet<(u64, u64)>,
    /// Counts the times the network was split, so that an old split's end does not heal a new one.
    pub(super) splits: u64,
    /// When the last frame of a stream arrives: the next one comes later.
    streams: BTreeMap<(u64, u64), Micros>,
    pub(super) messages: u64,
    is_calm: bool,
}

/// How a frame travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carriage {
    /// May be lost, late and twice: consensus must bear it.
    Wild,
    /// May be lost, but arrives once and in order, as on a stream of one connection.
    Stream,
}

impl Network {
    /// Returns when copies of a frame arrive; none if it is lost.
    pub(super) fn arrivals(
        &mut self,
        dice: &mut Dice,
        knobs: &Knobs,
        link: (u64, u64),
        now: Micros,
        carriage: Carriage,
    ) -> Vec<Micros> {
        self.messages += 1;
        if self.cut.contains(&link) || (!self.is_calm && dice.happens(knobs.loss_per_million)) {
            return Vec::new();
        }
        let mut at = now + 1 + dice.around(knobs.latency_us);
        match carriage {
            Carriage::Wild => {
                let mut arrivals = vec![at];
                if !self.is_calm && dice.happens(knobs.duplicates_per_million) {
                    let late = dice.pick(&[1, 10, 1_000]);
                    arrivals.push(at + dice.around(knobs.latency_us * late));
                }
                arrivals
            }
            Carriage::Stream => {
                let last = self.streams.entry(link).or_default();
                at = at.max(*last + 1);
                *last = at;
                vec![at]
            }
        }
    }

    pub(super) fn is_cut(&self, link: (u64, u64)) -> bool {
        self.cut.contains(&link)
    }

    /// Splits the network anew and returns the split's number.
    pub(super) fn split(&mut self, cut: BTreeSet<(u64, u64)>) -> u64 {
        self.cut = cut;
        self.splits += 1;
        self.splits
    }

    /// Ends a split, if it is still the present one.
    pub(super) fn heal(&mut self, split: u64) {
        if split == self.splits {
            self.cut.clear();
        }
    }

    /// From now on nothing is cut, lost or doubled.
    pub(super) fn calm(&mut self) {
        self.cut.clear();
        self.is_calm = true;
    }
}
