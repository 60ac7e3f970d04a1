//! `/metrics`: the node's status as gauges, then every registered series.

use crate::runtime::metrics::{Registry, write_head, write_sample};
use crate::runtime::{NodeStatus, Role, StorageState};

/// Returns the whole text.
pub(super) fn text(status: &NodeStatus, registry: &Registry) -> String {
    let mut text = String::with_capacity(16 * 1024);
    write_head(&mut text, "kontiki_build_info", "gauge", "The running version; always 1.");
    write_sample(&mut text, "kontiki_build_info", concat!("version=\"", env!("CARGO_PKG_VERSION"), "\""), 1);
    numbers(&mut text, status);
    states(&mut text, status);
    members(&mut text, status);
    registry.write_text(&mut text);
    text
}

fn numbers(text: &mut String, status: &NodeStatus) {
    let voters = status.members.iter().filter(|member| member.voter).count() as u64;
    let learners = status.members.len() as u64 - voters;
    let gauges = [
        ("kontiki_node_id", status.node_id, "This node."),
        ("kontiki_raft_term", status.term, "The node's term."),
        ("kontiki_raft_is_leader", u64::from(status.role == Role::Leader), "1 if this node leads."),
        ("kontiki_raft_has_leader", u64::from(status.leader_id.is_some()), "1 if this node knows a leader."),
        ("kontiki_raft_leader_id", status.leader_id.unwrap_or(0), "The known leader, 0 if none."),
        ("kontiki_raft_commit_index", status.commit_index, "Entries up to here are committed."),
        ("kontiki_raft_applied_index", status.applied_index, "Entries up to here are applied."),
        ("kontiki_raft_first_log_index", status.first_log_index, "The oldest entry in the log."),
        ("kontiki_raft_last_log_index", status.last_log_index, "The newest entry in the log."),
        ("kontiki_raft_snapshot_index", status.snapshot_index, "The newest snapshot, 0 if none."),
        ("kontiki_raft_voters", voters, "Members that vote."),
        ("kontiki_raft_learners", learners, "Members that do not vote."),
        ("kontiki_raft_joint", u64::from(status.joint), "1 while a membership change is under way."),
        ("kontiki_keys", status.keys, "Keys in the state."),
    ];
    for (name, value, help) in gauges {
        write_head(text, name, "gauge", help);
        write_sample(text, name, "", value);
    }
    let counters = [
        ("kontiki_raft_elections_total", status.elections_total, "Elections this node started."),
        ("kontiki_storage_repaired_entries_total", status.repaired_entries, "Entries repaired from peers."),
    ];
    for (name, value, help) in counters {
        write_head(text, name, "counter", help);
        write_sample(text, name, "", value);
    }
    let seconds = [
        (
            "kontiki_log_sync_p99_seconds",
            status.sync_p99_us,
            1_000_000,
            "99th percentile of the newest syncs of the log.",
        ),
        ("kontiki_uptime_seconds", status.uptime_ms, 1_000, "Since the node started."),
    ];
    for (name, value, a_second, help) in seconds {
        write_head(text, name, "gauge", help);
        write_sample(text, name, "", decimal(value, a_second));
    }
}

fn states(text: &mut String, status: &NodeStatus) {
    const ROLE: &str = "kontiki_raft_role";
    write_head(text, ROLE, "gauge", "1 for the part this node has, 0 for the others.");
    for (role, name) in [
        (Role::Leader, "leader"),
        (Role::Follower, "follower"),
        (Role::Candidate, "candidate"),
        (Role::Learner, "learner"),
    ] {
        write_sample(text, ROLE, &format!("role=\"{name}\""), u8::from(role == status.role));
    }
    const STORAGE: &str = "kontiki_storage_state";
    write_head(text, STORAGE, "gauge", "1 for the health of the storage, 0 for the others.");
    for (state, name) in [
        (StorageState::Ok, "ok"),
        (StorageState::Suspect, "suspect"),
        (StorageState::Poisoned, "poisoned"),
        (StorageState::Full, "full"),
    ] {
        write_sample(text, STORAGE, &format!("state=\"{name}\""), u8::from(state == status.storage_state));
    }
}

/// What a node cannot know of a member is NaN.
fn members(text: &mut String, status: &NodeStatus) {
    const MATCH: &str = "kontiki_raft_peer_match_index";
    write_head(text, MATCH, "gauge", "The log of this member matches the leader's up to here; known to the leader.");
    for member in &status.members {
        let value = member.match_index.map_or_else(|| "NaN".to_owned(), |index| index.to_string());
        write_sample(text, MATCH, &format!("peer=\"{}\"", member.id), value);
    }
    const CONTACT: &str = "kontiki_raft_peer_last_contact_seconds";
    write_head(text, CONTACT, "gauge", "Since this member was last heard.");
    for member in &status.members {
        let value = member.last_contact_ms.map_or_else(|| "NaN".to_owned(), |ms| decimal(ms, 1_000));
        write_sample(text, CONTACT, &format!("peer=\"{}\"", member.id), value);
    }
}

/// Writes `value / unit` without rounding; `unit` is a power of ten.
fn decimal(value: u64, unit: u64) -> String {
    let digits = unit.ilog10() as usize;
    format!("{}.{:0digits$}", value / unit, value % unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_exact() {
        assert_eq!(decimal(60, 1_000_000), "0.000060");
        assert_eq!(decimal(61_005, 1_000), "61.005");
    }
}
