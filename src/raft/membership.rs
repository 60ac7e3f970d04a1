//! Which configuration is active: always the newest in the log, committed or not (Raft §6, thesis §4.1).

use std::collections::BTreeSet;

use super::quorum::{Quorum, VOTERS_MAX};
use super::types::{Configuration, Index, NodeId};

/// The configurations of the log, by index.
///
/// - Never empty; indexes strictly increase. The first one is the newest at or below the purged index, or the
///   bootstrap configuration at index 0.
/// - `quorum` and `peers` are those of the last one.
#[derive(Clone, Debug)]
pub(crate) struct Membership {
    configurations: Vec<(Index, Configuration)>,
    quorum: Quorum,
    peers: Vec<NodeId>,
}

impl Membership {
    /// Takes the configurations of a log; `None` if there is none, or their order or content is impossible.
    pub(crate) fn new(configurations: Vec<(Index, Configuration)>) -> Option<Membership> {
        let increasing = configurations.windows(2).all(|pair| pair[0].0 < pair[1].0);
        if configurations.is_empty() || !increasing || !configurations.iter().all(|(_, c)| is_valid(c)) {
            return None;
        }
        let mut membership = Membership { configurations, quorum: Quorum::default(), peers: Vec::new() };
        membership.follow_log();
        Some(membership)
    }

    /// Returns the active configuration.
    pub(crate) fn active(&self) -> &Configuration {
        &self.newest().1
    }

    /// Returns the index of the active configuration's entry.
    pub(crate) fn active_index(&self) -> Index {
        self.newest().0
    }

    /// Returns the index of the oldest configuration that is still known.
    pub(crate) fn first_index(&self) -> Index {
        self.configurations.first().expect("never empty").0
    }

    /// Returns the voters of the active configuration.
    pub(crate) fn quorum(&self) -> &Quorum {
        &self.quorum
    }

    /// Returns every node of the active configuration, learners and leaving voters included, in order.
    pub(crate) fn peers(&self) -> &[NodeId] {
        &self.peers
    }

    /// Returns the configurations in `first..=last`.
    pub(crate) fn within(&self, first: Index, last: Index) -> Vec<(Index, Configuration)> {
        let start = self.configurations.partition_point(|(index, _)| *index < first);
        self.configurations[start..].iter().take_while(|(index, _)| *index <= last).cloned().collect()
    }

    /// Activates a configuration: it takes effect when it is appended, not when it is committed.
    pub(crate) fn append(&mut self, index: Index, configuration: Configuration) {
        assert!(index > self.active_index(), "configuration at {index} after one at {}", self.active_index());
        self.configurations.push((index, configuration));
        self.follow_log();
    }

    /// Rolls back with the log: configurations at or above `from` never were.
    pub(crate) fn truncate(&mut self, from: Index) {
        let keep = self.configurations.partition_point(|(index, _)| *index < from);
        assert!(keep > 0, "truncate from {from} leaves no configuration");
        if keep < self.configurations.len() {
            self.configurations.truncate(keep);
            self.follow_log();
        }
    }

    /// Forgets the configurations that a purge up to `upto` makes unreachable.
    pub(crate) fn purge(&mut self, upto: Index) {
        let at_or_below = self.configurations.partition_point(|(index, _)| *index <= upto);
        self.configurations.drain(..at_or_below.saturating_sub(1));
    }

    fn newest(&self) -> &(Index, Configuration) {
        self.configurations.last().expect("never empty")
    }

    fn follow_log(&mut self) {
        let active = self.active();
        let quorum = Quorum::of(active);
        let peers: BTreeSet<NodeId> = active.members.keys().copied().chain(quorum.voters()).collect();
        self.quorum = quorum;
        self.peers = peers.into_iter().collect();
    }
}

/// Returns whether a configuration can decide anything: voters there, not too many, no id 0 (T51).
pub(crate) fn is_valid(configuration: &Configuration) -> bool {
    let voters = configuration.members.values().filter(|member| member.voter).count();
    let outgoing = configuration.outgoing.as_ref();
    let zero = NodeId(0);
    (1..=VOTERS_MAX).contains(&voters)
        && outgoing.is_none_or(|set| (1..=VOTERS_MAX).contains(&set.len()) && !set.contains(&zero))
        && !configuration.members.contains_key(&zero)
}
