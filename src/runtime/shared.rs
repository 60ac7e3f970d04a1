//! What the threads of one node share: its door, its state, and what it shows.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex, RwLock};

use crate::kv::Store;
use crate::node::{Clock, NodeView};
use crate::raft::{Index, RoleName};
use crate::storage::{BootError, Identity, IdentityFile, Journal};

use super::inbox::Inbox;
use super::options::FailureClass;
use super::start::NodeFailure;
use super::status::{MemberStatus, NodeStatus, Role, StorageState};

/// Shared by the consensus thread, the applier, the doors and whoever waits for the end.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) started: Instant,
    pub(super) inbox: Inbox,
    pub(super) store: RwLock<Store>,
    pub(super) view: Mutex<NodeView>,
    view_changed: Condvar,
    pub(super) identity: Identity,
    identity_file: IdentityFile,
    /// The history written in the identity file; 0 until the first entry is applied.
    history: Mutex<u128>,
    pub(super) journal: Journal,
    pub(super) connections_opened: AtomicU64,
    /// Bytes of the unanswered writes of all connections.
    pub(super) write_bytes: AtomicUsize,
    pub(super) is_stopping: AtomicBool,
    /// Applied up to here: readers of `store` see at least this.
    applied: AtomicU64,
    /// Committed before this start: until this is applied the state is older than what was acknowledged.
    loaded_at: Index,
    /// The last entry that this start found in the log. Until it is applied, or a leader has replaced it, the state may
    /// be older than what this node showed before.
    found_last: Index,
    end: Mutex<Option<Result<(), NodeFailure>>>,
    ended: Condvar,
    is_poisoned: OnceLock<()>,
}

/// What a node has on disk.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) identity: Identity,
    pub(super) identity_file: IdentityFile,
    pub(super) journal: Journal,
}

impl Shared {
    /// `loaded_at` is what was known to be committed before this start.
    pub(super) fn new(disk: Disk, store: Store, view: NodeView, loaded_at: Index) -> Shared {
        let found_last = view.last;
        Shared {
            found_last,
            started: Instant::now(),
            inbox: Inbox::default(),
            store: RwLock::new(store),
            view: Mutex::new(view),
            view_changed: Condvar::new(),
            history: Mutex::new(disk.identity.history),
            identity: disk.identity,
            identity_file: disk.identity_file,
            journal: disk.journal,
            connections_opened: AtomicU64::new(0),
            write_bytes: AtomicUsize::new(0),
            is_stopping: AtomicBool::new(false),
            applied: AtomicU64::new(0),
            loaded_at,
            end: Mutex::new(None),
            ended: Condvar::new(),
            is_poisoned: OnceLock::new(),
        }
    }

    /// Reads the clocks.
    pub(super) fn clock(&self) -> Clock {
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Clock { monotonic_ms: millis(self.started.elapsed()), wall_ms: millis(wall) }
    }

    pub(super) fn applied(&self) -> Index {
        Index(self.applied.load(Ordering::Acquire))
    }

    pub(super) fn set_applied(&self, index: Index) {
        self.applied.store(index.0, Ordering::Release);
    }

    pub(super) fn is_loading(&self) -> bool {
        self.applied() < self.loaded_at
    }

    pub(super) fn is_recovering(&self) -> bool {
        let applied = self.applied();
        applied < self.found_last && applied < self.view.lock().last
    }

    /// Shows a new view to the other threads.
    pub(super) fn publish(&self, view: NodeView) {
        *self.view.lock() = view;
        self.view_changed.notify_all();
    }

    /// Waits until this node does not lead, at most until `deadline`.
    pub(super) fn wait_until_not_leading(&self, deadline: Instant) {
        let mut view = self.view.lock();
        while view.role == RoleName::Leader && view.members.len() > 1 {
            if self.view_changed.wait_until(&mut view, deadline).timed_out() {
                return;
            }
        }
    }

    /// Writes the cluster's history into the identity file, once. Returns whether it was news.
    pub(super) fn learn_history(&self, history: u128) -> Result<bool, BootError> {
        let mut known = self.history.lock();
        if *known == history {
            return Ok(false);
        }
        self.identity_file.write(&Identity { history, ..self.identity.clone() })?;
        *known = history;
        Ok(true)
    }

    /// Ends the node, unless it ends already.
    pub(super) fn end(&self, how: Result<(), NodeFailure>) {
        let mut end = self.end.lock();
        if end.is_none() {
            *end = Some(how);
            self.ended.notify_all();
        }
    }

    /// Ends the node because a sync or a read of its log failed.
    pub(super) fn fail(&self, class: FailureClass, message: String) {
        if class == FailureClass::Io {
            self.is_poisoned.get_or_init(|| ());
        }
        self.end(Err(NodeFailure { class, message }));
    }

    /// Waits for the end.
    pub(super) fn wait_for_end(&self) -> Result<(), NodeFailure> {
        let mut end = self.end.lock();
        loop {
            if let Some(how) = end.take() {
                return how;
            }
            self.ended.wait(&mut end);
        }
    }

    /// Puts together what the node says about itself.
    pub(super) fn status(&self) -> NodeStatus {
        let view = self.view.lock().clone();
        let (applied_index, state_hash, keys) = {
            let store = self.store.read();
            (store.applied_index(), store.state_hash(), store.keys())
        };
        let now_ms = self.clock().monotonic_ms;
        let members = view.members.iter().map(|member| MemberStatus {
            id: member.id.0,
            peer_addr: member.peer_addr.clone(),
            client_addr: member.client_addr.clone(),
            voter: member.voter,
            match_index: member.match_index.map(|index| index.0),
            last_contact_ms: member.heard_ms.map(|at_ms| now_ms.saturating_sub(at_ms)),
        });
        NodeStatus {
            node_id: self.identity.node_id,
            cluster_id: format!("{:032x}", self.identity.cluster_id),
            storage_uuid: format!("{:032x}", self.identity.storage_uuid),
            role: role_of(&view, self.identity.node_id),
            term: view.term.0,
            leader_id: view.leader.map(|leader| leader.0),
            commit_index: view.commit.0.max(applied_index),
            applied_index,
            first_log_index: view.first.0,
            last_log_index: view.last.0.max(applied_index),
            snapshot_index: 0,
            members: members.collect(),
            joint: view.joint,
            storage_state: match self.is_poisoned.get() {
                Some(()) => StorageState::Poisoned,
                None => StorageState::Ok,
            },
            state_hash: format!("{state_hash:032x}"),
            keys,
            sync_p99_us: self.journal.stats().sync_p99_us,
            elections_total: view.elections,
            repaired_entries: 0,
            process_id: std::process::id(),
            uptime_ms: millis(self.started.elapsed()),
        }
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn role_of(view: &NodeView, me: u64) -> Role {
    match view.role {
        RoleName::Leader => Role::Leader,
        RoleName::PreCandidate | RoleName::Candidate => Role::Candidate,
        RoleName::Follower => match view.members.iter().find(|member| member.id.0 == me) {
            Some(member) if !member.voter => Role::Learner,
            _ => Role::Follower,
        },
    }
}
