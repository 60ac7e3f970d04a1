//! What a node says about itself: the fields of `/status`, `INFO raft` and `RAFT STATUS`.

use serde::{Deserialize, Serialize};

/// A member's part in the cluster, as it sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Leads its term.
    Leader,
    /// Follows a leader, or waits for one.
    Follower,
    /// Campaigns (pre-votes included).
    Candidate,
    /// Receives the log without a vote.
    Learner,
}

/// The health of a node's storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageState {
    /// All is well.
    Ok,
    /// Acknowledged data was damaged; the node neither votes nor leads.
    Suspect,
    /// A sync failed; the process is about to end.
    Poisoned,
    /// No space left for entries.
    Full,
}

/// One node's view of itself and its cluster. All fields are always present in JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeStatus {
    /// This node.
    pub node_id: u64,
    /// The cluster, as 32 hexadecimal digits.
    pub cluster_id: String,
    /// The storage of this node, as 32 hexadecimal digits.
    pub storage_uuid: String,
    /// What this node is now.
    pub role: Role,
    /// Its term.
    pub term: u64,
    /// The leader of `term`, if known.
    pub leader_id: Option<u64>,
    /// Committed up to here.
    pub commit_index: u64,
    /// Applied up to here.
    pub applied_index: u64,
    /// The oldest entry in the log (1 past the last if empty).
    pub first_log_index: u64,
    /// The newest entry in the log.
    pub last_log_index: u64,
    /// The newest snapshot, 0 if none.
    pub snapshot_index: u64,
    /// The members of the newest configuration in this node's log.
    pub members: Vec<MemberStatus>,
    /// Whether a membership change is under way.
    pub joint: bool,
    /// The health of the storage.
    pub storage_state: StorageState,
    /// Hash of the state at `applied_index`, as 32 hexadecimal digits.
    pub state_hash: String,
    /// How many keys there are.
    pub keys: u64,
    /// 99th percentile of the newest syncs, in microseconds.
    pub sync_p99_us: u64,
    /// Elections this node has started since it started.
    pub elections_total: u64,
    /// Entries repaired from peers since it started.
    pub repaired_entries: u64,
    /// The process.
    pub process_id: u32,
    /// Milliseconds since it started.
    pub uptime_ms: u64,
}

/// One member as a node sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MemberStatus {
    /// The member.
    pub id: u64,
    /// Where peers reach it.
    pub peer_addr: String,
    /// Where clients reach it; empty until known.
    pub client_addr: String,
    /// Whether it votes.
    pub voter: bool,
    /// Known to match the leader's log up to here; `None` where this node cannot know.
    pub match_index: Option<u64>,
    /// Milliseconds since it was last heard; `None` where this node cannot know.
    pub last_contact_ms: Option<u64>,
}

impl Role {
    /// Returns the role's word in `/status` and everywhere else.
    pub fn name(self) -> &'static str {
        match self {
            Role::Leader => "leader",
            Role::Follower => "follower",
            Role::Candidate => "candidate",
            Role::Learner => "learner",
        }
    }
}

impl StorageState {
    /// Returns the state's word in `/status` and everywhere else.
    pub fn name(self) -> &'static str {
        match self {
            StorageState::Ok => "ok",
            StorageState::Suspect => "suspect",
            StorageState::Poisoned => "poisoned",
            StorageState::Full => "full",
        }
    }
}
