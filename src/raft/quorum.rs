//! Quorum arithmetic: majorities of one voter set, or of both while the configuration is joint (thesis §4.3).

use super::types::{Configuration, Index, NodeId};

/// The largest voter set; a configuration with more is refused.
pub const VOTERS_MAX: usize = 32;

/// Who votes now.
///
/// - Both lists are sorted and free of repeats; `incoming` is empty only before the first configuration is known.
/// - `outgoing` is empty unless a change is under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Quorum {
    incoming: Vec<NodeId>,
    outgoing: Vec<NodeId>,
}

/// How an election stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tally {
    Won,
    Lost,
    Open,
}

impl Quorum {
    /// Returns the voters of a configuration.
    pub(crate) fn of(configuration: &Configuration) -> Quorum {
        let voters = configuration.members.iter().filter(|(_, member)| member.voter).map(|(&id, _)| id);
        let outgoing = configuration.outgoing.iter().flatten().copied();
        Quorum { incoming: voters.collect(), outgoing: outgoing.collect() }
    }

    /// Returns whether `id` votes, in either set.
    pub(crate) fn is_voter(&self, id: NodeId) -> bool {
        self.incoming.contains(&id) || self.outgoing.contains(&id)
    }

    /// Returns every voter once, in order.
    pub(crate) fn voters(&self) -> impl Iterator<Item = NodeId> + '_ {
        let extra = self.outgoing.iter().filter(|id| !self.incoming.contains(id));
        self.incoming.iter().chain(extra).copied()
    }

    /// Returns the highest index that a quorum holds, given what each voter holds (Raft §5.3, thesis §4.3).
    pub(crate) fn committed(&self, matched: impl Fn(NodeId) -> Index) -> Index {
        let incoming = majority_value(&self.incoming, |id| matched(id).0);
        let outgoing = majority_value(&self.outgoing, |id| matched(id).0);
        Index(incoming.into_iter().chain(outgoing).min().unwrap_or(0))
    }

    /// Returns the highest read round that a quorum has answered.
    pub(crate) fn confirmed(&self, acked: impl Fn(NodeId) -> u64) -> u64 {
        self.committed(|id| Index(acked(id))).0
    }

    /// Returns whether those for whom `has` holds are a quorum.
    pub(crate) fn is_reached(&self, has: impl Fn(NodeId) -> bool) -> bool {
        self.committed(|id| Index(u64::from(has(id)))).0 == 1
    }

    /// Counts an election; `vote` is `None` while a voter has not answered.
    pub(crate) fn tally(&self, vote: impl Fn(NodeId) -> Option<bool>) -> Tally {
        if self.is_reached(|id| vote(id) == Some(true)) {
            return Tally::Won;
        }
        if self.is_reached(|id| vote(id) != Some(false)) { Tally::Open } else { Tally::Lost }
    }
}

/// Returns the k-th largest value, k being a majority; `None` of an empty set.
fn majority_value(voters: &[NodeId], value: impl Fn(NodeId) -> u64) -> Option<u64> {
    if voters.is_empty() {
        return None;
    }
    let mut values = [0; VOTERS_MAX];
    let values = &mut values[..voters.len()];
    for (slot, &id) in values.iter_mut().zip(voters) {
        *slot = value(id);
    }
    values.sort_unstable();
    // Ascending: the k-th largest of n, k = n / 2 + 1.
    Some(values[voters.len() - (voters.len() / 2 + 1)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn quorum(incoming: u32, outgoing: u32) -> Quorum {
        let ids = |mask: u32| (0..5).filter(|bit| mask >> bit & 1 == 1).map(NodeId).collect();
        Quorum { incoming: ids(incoming), outgoing: ids(outgoing) }
    }

    /// A set of voters decides if, counted one by one, it holds more than half of each set.
    fn decides(quorum: &Quorum, holders: &BTreeSet<NodeId>) -> bool {
        [&quorum.incoming, &quorum.outgoing].iter().filter(|set| !set.is_empty()).all(|set| {
            let holding = set.iter().filter(|id| holders.contains(id)).count();
            2 * holding > set.len()
        })
    }

    #[test]
    fn five_voters_commit_the_third_largest() {
        let matched = [7, 1, 9, 2, 8];
        assert_eq!(quorum(31, 0).committed(|id| Index(matched[usize::try_from(id.0).unwrap()])), Index(7));
    }

    /// T30, T42: every pair of voter sets within five nodes, every choice of matched in 0..=2 for each.
    #[test]
    fn committed_equals_brute_force() {
        for incoming in 1..32u32 {
            for outgoing in 0..32u32 {
                let quorum = quorum(incoming, outgoing);
                for code in 0..3u64.pow(5) {
                    let matched = |id: NodeId| Index(code / 3u64.pow(u32::try_from(id.0).unwrap()) % 3);
                    let expected = (0..=2u64)
                        .rev()
                        .find(|&index| {
                            let holders = (0..5).map(NodeId).filter(|&id| matched(id).0 >= index).collect();
                            decides(&quorum, &holders)
                        })
                        .unwrap();
                    assert_eq!(quorum.committed(matched), Index(expected), "{quorum:?} code {code}");
                }
            }
        }
    }

    /// An election is open exactly while the voters still silent could decide it.
    #[test]
    fn tally_equals_brute_force() {
        for incoming in 1..32u32 {
            for outgoing in 0..32u32 {
                let quorum = quorum(incoming, outgoing);
                for code in 0..3u64.pow(5) {
                    let vote = |id: NodeId| match code / 3u64.pow(u32::try_from(id.0).unwrap()) % 3 {
                        0 => Some(false),
                        1 => Some(true),
                        _ => None,
                    };
                    let ids = || (0..5).map(NodeId);
                    let yes = ids().filter(|&id| vote(id) == Some(true)).collect();
                    let not_no = ids().filter(|&id| vote(id) != Some(false)).collect();
                    let expected = match (decides(&quorum, &yes), decides(&quorum, &not_no)) {
                        (true, _) => Tally::Won,
                        (false, true) => Tally::Open,
                        (false, false) => Tally::Lost,
                    };
                    assert_eq!(quorum.tally(vote), expected, "{quorum:?} code {code}");
                }
            }
        }
    }
}
