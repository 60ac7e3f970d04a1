//! A status to test with: term 4, index 1200, members 1 and 2.

use crate::runtime::{MemberStatus, NodeStatus, Role, StorageState};

/// Returns what node `id` says.
pub(super) fn status(id: u64, role: Role) -> NodeStatus {
    NodeStatus {
        node_id: id,
        cluster_id: "c0".to_owned(),
        storage_uuid: String::new(),
        role,
        term: 4,
        leader_id: None,
        commit_index: 1_200,
        applied_index: 1_200,
        first_log_index: 1,
        last_log_index: 1_200,
        snapshot_index: 0,
        members: vec![member(1, None), member(2, None)],
        joint: false,
        storage_state: StorageState::Ok,
        state_hash: String::new(),
        keys: 3,
        sync_p99_us: 1_250,
        elections_total: 0,
        repaired_entries: 0,
        process_id: 1,
        uptime_ms: 1,
    }
}

/// Returns a voter.
pub(super) fn member(id: u64, match_index: Option<u64>) -> MemberStatus {
    MemberStatus {
        id,
        peer_addr: format!("p:{id}"),
        client_addr: String::new(),
        voter: true,
        match_index,
        last_contact_ms: match_index.map(|_| 3),
    }
}
