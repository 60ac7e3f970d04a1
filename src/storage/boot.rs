//! The order in which a node's directory is opened: lock, identity, log, core.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use kontiki_wal::{EntryMeta, Recovery, Wal};

use crate::proto::entry::{self, Body, Kind};
use crate::raft::{self, ClusterLimits, Configuration, HardState, Index, LogId, Member, NodeId, Term};

use super::error::BootError;
use super::identity::{Identity, IdentityFile};
use super::journal::Journal;
use super::lock::DirLock;

/// Who wants to open the directory.
#[derive(Clone, Debug)]
pub struct BootOptions {
    /// The node.
    pub node_id: NodeId,
    /// The cluster's name in certificates.
    pub cluster_name: String,
    /// The members at bootstrap, as written, with the cluster's name.
    pub bootstrap: String,
    /// The cluster's id, made from `bootstrap`.
    pub cluster_id: u128,
    /// The members at bootstrap with their peer addresses.
    pub initial_cluster: BTreeMap<NodeId, String>,
    /// Fingerprint of the CA, for a new directory.
    pub ca_fingerprint: [u8; 32],
    /// Fingerprints of every CA that is trusted now: an old directory's must be among them.
    pub accepted_cas: Vec<[u8; 32]>,
    /// Size of a slot of a new log in bytes.
    pub segment_bytes: u64,
    /// The longest value of a new cluster in bytes.
    pub max_value_bytes: u64,
    /// Drawn at random, for a new directory.
    pub new_storage_uuid: u128,
}

/// An open data directory.
#[derive(Debug)]
pub struct Booted {
    /// Who the directory is.
    pub identity: Identity,
    /// Where that is written.
    pub identity_file: IdentityFile,
    /// The log.
    pub journal: Journal,
    /// What the core needs to know of the log.
    pub raft: raft::Boot,
    /// The newest leader time in the log.
    pub newest_log_time_ms: u64,
    /// Bytes of a torn tail that were dropped, which no one was told about.
    pub torn_tail: Option<String>,
}

/// A data directory that no other process has.
#[derive(Debug)]
pub struct LockedDir {
    dir: PathBuf,
    lock: DirLock,
}

impl LockedDir {
    /// Makes the directory if it is not there, and locks it.
    ///
    /// # Errors
    ///
    /// [`BootError::Locked`] at once if another process has it, or what the file system says.
    pub fn acquire(dir: &Path) -> Result<LockedDir, BootError> {
        make_dir(dir)?;
        let lock = DirLock::acquire(dir)?;
        close_to_others(dir)?;
        Ok(LockedDir { dir: dir.to_owned(), lock })
    }
}

/// Opens a locked data directory, or makes a new one of it.
///
/// # Errors
///
/// [`BootError`]; nothing is written to a directory that is refused, but for a `reopen` record in a sound log.
pub fn boot(locked: LockedDir, options: &BootOptions) -> Result<Booted, BootError> {
    let LockedDir { dir, lock } = locked;
    let dir = &dir;
    let identity_file = IdentityFile::new(dir);
    let log_dir = dir.join("wal");
    let mut identity = match identity_file.read()? {
        Some(identity) => checked(dir, identity, options)?,
        None => new_identity(dir, options, &identity_file, &log_dir)?,
    };
    make_dir(&dir.join("snapshot"))?;
    if identity.has_log && !has_files(&log_dir) {
        return Err(BootError::LogMissing { dir: log_dir });
    }
    make_dir(&log_dir)?;
    let wal_options = kontiki_wal::Options {
        segment_bytes: options.segment_bytes,
        log_uuid: identity.storage_uuid,
        cluster_id: identity.cluster_id,
        node_id: identity.node_id,
        ..kontiki_wal::Options::default()
    };
    let (wal, recovery) =
        Wal::open(&log_dir, wal_options).map_err(|source| BootError::Log { source, dir: log_dir.clone() })?;
    if identity.has_log && recovery.created {
        return Err(BootError::LogMissing { dir: log_dir });
    }
    if !identity.has_log {
        identity.has_log = true;
        identity_file.write(&identity)?;
    }
    let torn_tail = recovery.torn.as_ref().map(|torn| format!("{torn:?}"));
    let (raft, newest_log_time_ms) = core_boot(&wal, &recovery, options, &log_dir)?;
    let journal = Journal::new(wal, log_dir, lock);
    Ok(Booted { identity, identity_file, journal, raft, newest_log_time_ms, torn_tail })
}

fn make_dir(dir: &Path) -> Result<(), BootError> {
    if dir.is_dir() {
        return Ok(());
    }
    let error = |source| BootError::io(dir, "creating the directory", source);
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(error)?;
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::File::open(parent).and_then(|parent| parent.sync_all()).map_err(error)?;
    }
    Ok(())
}

/// A directory that somebody else made may be open to others; what is in it is not for them.
fn close_to_others(dir: &Path) -> Result<(), BootError> {
    let owner_only = fs::Permissions::from_mode(0o700);
    fs::set_permissions(dir, owner_only).map_err(|source| BootError::io(dir, "setting its mode to 0700", source))
}

/// Once a directory knows its cluster, the initial members are only hints: what names the cluster is its authority.
fn checked(dir: &Path, identity: Identity, options: &BootOptions) -> Result<Identity, BootError> {
    if !options.accepted_cas.contains(&identity.ca_fingerprint) {
        return Err(BootError::ForeignAuthority { dir: dir.to_owned(), cluster: identity.cluster_name });
    }
    if identity.node_id == options.node_id.0 && identity.cluster_name == options.cluster_name {
        return Ok(identity);
    }
    Err(BootError::Foreign {
        dir: dir.to_owned(),
        found: format!("node {} of cluster {}", identity.node_id, identity.cluster_name),
        wanted: format!("node {} of cluster {}", options.node_id, options.cluster_name),
    })
}

/// Whether a log's directory holds anything but its lock.
fn has_files(log_dir: &Path) -> bool {
    let entries = fs::read_dir(log_dir).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_name() != "LOCK")
}

fn new_identity(dir: &Path, options: &BootOptions, file: &IdentityFile, log_dir: &Path) -> Result<Identity, BootError> {
    if has_files(log_dir) {
        return Err(BootError::IdentityMissing { dir: dir.to_owned() });
    }
    let identity = Identity {
        format_version: Identity::FORMAT_VERSION,
        node_id: options.node_id.0,
        cluster_id: options.cluster_id,
        cluster_name: options.cluster_name.clone(),
        bootstrap: options.bootstrap.clone(),
        storage_uuid: options.new_storage_uuid,
        has_log: false,
        history: 0,
        ca_fingerprint: options.ca_fingerprint,
    };
    file.write(&identity)?;
    Ok(identity)
}

/// Reads from the log what the core keeps of it: terms, sizes and configurations.
fn core_boot(
    wal: &Wal,
    recovery: &Recovery,
    options: &BootOptions,
    log_dir: &Path,
) -> Result<(raft::Boot, u64), BootError> {
    let mut entries = Vec::with_capacity(recovery.entries.len());
    let mut configurations = vec![(Index(0), bootstrap_configuration(options))];
    let mut newest_log_time_ms = 0;
    for &EntryMeta { index, term, payload_bytes } in &recovery.entries {
        let unreadable = |why| BootError::Unreadable { dir: log_dir.to_owned(), index: index.0, why };
        let malformed = |source| BootError::Entry { dir: log_dir.to_owned(), index: index.0, source };
        let stored = wal.entry(index).map_err(unreadable)?;
        let header = entry::header(&stored).map_err(malformed)?;
        newest_log_time_ms = newest_log_time_ms.max(header.time_ms);
        if header.kind == Kind::Configuration
            && let Body::Configuration(configuration) = entry::decode(&stored).map_err(malformed)?.body
        {
            configurations.push((Index(index.0), configuration));
        }
        entries.push((Term(term.0), payload_bytes));
    }
    let hard_state = HardState {
        term: Term(recovery.hard_state.term.0),
        vote: (recovery.hard_state.vote != 0).then_some(NodeId(recovery.hard_state.vote)),
        commit: Index(recovery.hard_state.commit.0),
    };
    let first = recovery.entries.first().map_or(1, |first| first.index.0);
    assert!(first == 1, "the log begins at {first}, but nothing is ever purged yet");
    let boot = raft::Boot {
        hard_state,
        purged: LogId::default(),
        entries,
        configurations,
        applied: Index(0),
        is_suspect: false,
    };
    Ok((boot, newest_log_time_ms))
}

/// Returns the configuration that every member starts from: the initial members, bound to no storage.
pub(super) fn bootstrap_configuration(options: &BootOptions) -> Configuration {
    let member = |peer_addr: &String| Member {
        peer_addr: peer_addr.clone(),
        client_addr: String::new(),
        storage_uuid: None,
        voter: true,
    };
    let members = options.initial_cluster.iter().map(|(id, address)| (*id, member(address))).collect();
    let limits = ClusterLimits { value_bytes_max: options.max_value_bytes, entry_bytes_max: options.segment_bytes / 2 };
    Configuration { history: 0, limits, members, outgoing: None }
}
