//! When the peers' refusals end a node: it is foreign to its cluster, and waiting would not mend that.

use std::collections::{BTreeMap, BTreeSet};

use crate::raft::NodeId;
use crate::transport::{Refusal, RefusalReason, Refuser};

/// Who refused this node since its start, and whether anybody accepted it.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    is_accepted: bool,
    refusers: BTreeMap<NodeId, RefusalReason>,
}

/// What a node knows of itself when it is refused.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) is_log_empty: bool,
    /// The other voters of its configuration.
    pub(super) others: BTreeSet<NodeId>,
}

impl Refusals {
    /// Takes note that a member speaks with this node.
    pub(super) fn on_accepted(&mut self) {
        self.is_accepted = true;
    }

    /// Takes note of a refusal. Returns whether it ends the node.
    ///
    /// It does only if no member has accepted this node since it started, and either its log is empty or a majority of
    /// its configuration refuses it: one foreign node must not stop a healthy cluster. Certificates that cannot be
    /// verified may be the other side's fault, so they always need the majority.
    pub(super) fn is_final(&mut self, from: NodeId, refusal: &Refusal, standing: &Standing) -> bool {
        if refusal.by != Refuser::Them || refusal.reason == RefusalReason::Version {
            return false;
        }
        self.refusers.insert(from, refusal.reason);
        let refusing = self.refusers.keys().filter(|id| standing.others.contains(id)).count();
        let is_majority = 2 * refusing > standing.others.len() + 1 || refusing == standing.others.len();
        let is_certain = standing.is_log_empty && refusal.reason != RefusalReason::Tls;
        !self.is_accepted && (is_majority || is_certain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(by: Refuser, reason: RefusalReason) -> Refusal {
        Refusal { by, reason, text: String::new() }
    }

    fn standing(is_log_empty: bool, others: &[u64]) -> Standing {
        Standing { is_log_empty, others: others.iter().copied().map(NodeId).collect() }
    }

    /// A wiped node under a bound id stops at the first member that knows the binding.
    #[test]
    fn an_empty_node_is_ended_by_one_refusal() {
        let storage = refusal(Refuser::Them, RefusalReason::Storage);
        assert!(Refusals::default().is_final(NodeId(2), &storage, &standing(true, &[2, 3])));
    }

    /// A node with a log is ended only by a majority of its configuration, and never once it was accepted.
    #[test]
    fn a_node_with_a_log_is_ended_by_a_majority_that_refuses() {
        let foreign = refusal(Refuser::Them, RefusalReason::Cluster);
        let standing = standing(false, &[2, 3]);
        let mut refusals = Refusals::default();
        assert!(!refusals.is_final(NodeId(2), &foreign, &standing));
        assert!(!refusals.is_final(NodeId(2), &foreign, &standing));
        assert!(refusals.is_final(NodeId(3), &foreign, &standing));
        let mut accepted = Refusals::default();
        accepted.on_accepted();
        assert!(!accepted.is_final(NodeId(2), &foreign, &standing));
        assert!(!accepted.is_final(NodeId(3), &foreign, &standing));
    }

    /// What this node refuses says nothing about this node.
    #[test]
    fn our_own_refusals_do_not_count() {
        let ours = refusal(Refuser::Us, RefusalReason::Cluster);
        assert!(!Refusals::default().is_final(NodeId(2), &ours, &standing(true, &[2])));
    }
}
