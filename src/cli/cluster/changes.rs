//! What has changed between two looks at the nodes, in words.

use super::ready;
use crate::runtime::{NodeStatus, Role, StorageState};

/// Returns what is different, in words. A place is a node, `None` if it does not answer.
pub(super) fn changes(before: &[Option<NodeStatus>], now: &[Option<NodeStatus>]) -> Vec<String> {
    let mut found = Vec::new();
    for (was, is) in before.iter().zip(now) {
        match (was, is) {
            (Some(was), None) => found.push(format!("node {} does not answer", was.node_id)),
            (None, Some(is)) => found.push(format!("node {} answers, {}", is.node_id, is.role.name())),
            (Some(was), Some(is)) => found.extend(node_changes(was, is)),
            (None, None) => {}
        }
    }
    let led = |seen: &[Option<NodeStatus>]| ready::leader(seen).map(|leader| (leader.term, leader.node_id));
    match (led(before), led(now)) {
        (was, Some((term, id))) if was != Some((term, id)) => found.push(format!("node {id} leads term {term}")),
        (Some((term, id)), None) => found.push(format!("no leader: node {id} led term {term}")),
        (_, _) => {}
    }
    found
}

fn node_changes(was: &NodeStatus, is: &NodeStatus) -> Vec<String> {
    let mut found = Vec::new();
    let id = is.node_id;
    if was.storage_state != is.storage_state {
        let state = match is.storage_state {
            StorageState::Ok => "ok",
            StorageState::Suspect => "suspect: it neither votes nor leads",
            StorageState::Poisoned => "poisoned: a sync failed, the node ends",
            StorageState::Full => "full: writes are refused",
        };
        found.push(format!("node {id} storage is {state}"));
    }
    if was.snapshot_index != is.snapshot_index {
        found.push(format!("node {id} has a snapshot at index {}", is.snapshot_index));
    }
    if was.role != is.role && is.role == Role::Candidate {
        found.push(format!("node {id} campaigns in term {}", is.term));
    }
    let members = |status: &NodeStatus| -> Vec<(u64, bool)> {
        status.members.iter().map(|member| (member.id, member.voter)).collect()
    };
    if is.role == Role::Leader && members(was) != members(is) {
        let list = is
            .members
            .iter()
            .map(|member| if member.voter { member.id.to_string() } else { format!("{} (learner)", member.id) });
        found.push(format!("members are now {}", list.collect::<Vec<_>>().join(", ")));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::super::sample;
    use super::*;

    #[test]
    fn a_handover_is_told_once() {
        let before = [Some(sample::status(1, Role::Leader)), Some(sample::status(2, Role::Follower))];
        let mut now = [None, Some(sample::status(2, Role::Follower))];
        assert_eq!(changes(&before, &now), ["node 1 does not answer", "no leader: node 1 led term 4"]);
        let before = now.clone();
        now[1] = Some(NodeStatus { term: 5, ..sample::status(2, Role::Leader) });
        assert_eq!(changes(&before, &now), ["node 2 leads term 5"]);
        let before = now.clone();
        now[0] = Some(sample::status(1, Role::Follower));
        assert_eq!(changes(&before, &now), ["node 1 answers, follower"]);
        assert!(changes(&now, &now).is_empty());
    }

    #[test]
    fn storage_and_members_are_told() {
        let before = [Some(sample::status(1, Role::Leader))];
        let mut now = before.clone();
        let status = now[0].as_mut().unwrap();
        status.storage_state = StorageState::Full;
        status.snapshot_index = 900;
        status.members.push(crate::runtime::MemberStatus { voter: false, ..sample::member(3, None) });
        let told = [
            "node 1 storage is full: writes are refused",
            "node 1 has a snapshot at index 900",
            "members are now 1, 2, 3 (learner)",
        ];
        assert_eq!(changes(&before, &now), told);
    }
}
