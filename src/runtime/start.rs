//! Starting and stopping a node: storage, core, threads, peers, doors, and the way back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use kontiki_snapshot::sealed_file::ReadError;
use kontiki_wal::OpenError;
use rand::TryRngCore;
use rand::rngs::OsRng;
use thiserror::Error;

use crate::kv::{Limits, Store};
use crate::node::{Event, Node, NodeSettings};
use crate::raft;
use crate::storage::{BootError, BootOptions, Booted, JournalError, LockedDir, boot};
use crate::transport::tls::NodeTls;
use crate::transport::{NetworkError, PeerConfig};

use super::applier::{Applier, Job, Jobs};
use super::consensus::Consensus;
use super::doors::{ClientSockets, Doors, refused};
use super::handle::Handle;
use super::inbox::Input;
use super::metrics::Registry;
use super::network::{Network, members_of};
use super::options::{FailureClass, StartOptions, bootstrap_cluster_id, canonical_cluster};
use super::shared::{Disk, Shared};

/// A stopping node gives itself this long to hand over and to answer what is in flight.
const STOP_WITHIN: Duration = Duration::from_secs(4);

/// Payload bytes of one append to a peer.
const MAX_APPEND_BYTES: u64 = 1 << 20;
/// Entries of one append to a peer.
const MAX_APPEND_ENTRIES: u32 = 4096;
/// Unanswered appends to one peer: few and large ones, as suits a LAN.
const INFLIGHT_MESSAGES: u32 = 4;
/// Payload bytes in unanswered appends to one peer.
const INFLIGHT_BYTES: u64 = 8 << 20;
/// Payload bytes that a leader takes before it refuses more.
const MAX_UNCOMMITTED_BYTES: u64 = 64 << 20;
/// Rounds of reads; the node asks for one at a time.
const MAX_PENDING_READS: u32 = 1024;

/// Why a node did not start, or stopped by itself.
///
/// `message` is the one line for standard error: what, where (for damage: file, offset and index) and the next command to run.
#[derive(Debug, Error)]
#[error("{message}")]
pub struct NodeFailure {
    /// Decides the exit code.
    pub class: FailureClass,
    /// The line.
    pub message: String,
}

/// A node that runs on threads of its own.
#[derive(Debug)]
pub struct RunningNode {
    shared: Arc<Shared>,
    network: Arc<Network>,
    jobs: Arc<Jobs>,
    consensus: JoinHandle<()>,
    applier: JoinHandle<()>,
    doors: Doors,
}

/// Asks a running node to stop. Cheap to clone; may be called from any thread, more than once.
#[derive(Clone, Debug)]
pub struct Stopper {
    shared: Arc<Shared>,
}

/// Starts a node: identity and lock, log, sockets, doors, threads. Returns once its doors are open.
///
/// # Errors
///
/// [`NodeFailure`] with the class that decides the exit code. Nothing keeps running.
pub fn start(options: StartOptions) -> Result<RunningNode, NodeFailure> {
    let tls = load_tls(&options)?;
    let boot_failure = |error: BootError| failure(class_of(&error), &error);
    let locked = LockedDir::acquire(&options.data_dir).map_err(boot_failure)?;
    // Before anything is written: a node that cannot listen leaves no identity behind.
    let sockets = ClientSockets::bind(&options)?;
    let booted = boot(locked, &boot_options(&options, &tls)?).map_err(boot_failure)?;
    if let Some(torn) = &booted.torn_tail {
        tracing::warn!(what = %torn, "torn tail dropped: nobody was told that it was written");
    }
    let loaded_at = booted.raft.hard_state.commit;
    let settings = node_settings(&options, &booted)?;
    let boot = settings.boot;
    let node = Node::new(settings, booted.raft)
        .map_err(|source| failure(FailureClass::Damaged, &BootError::Core { source }))?;
    let store = Store::new(Limits { max_value_bytes: options.max_value_bytes });
    let Booted { identity, identity_file, journal, .. } = booted;
    let disk = Disk { identity, identity_file, journal };
    let shared = Arc::new(Shared::new(disk, store, node.view(), loaded_at));
    let network = Arc::new(start_network(&options, boot, &tls, &shared)?);
    let jobs = Arc::new(Jobs::default());
    let applier = Applier::new(Arc::clone(&shared), Arc::clone(&network), Arc::clone(&jobs));
    let consensus =
        Consensus::new(node, Arc::clone(&shared), Arc::clone(&network), Arc::clone(&jobs), options.timing.tick);
    let applier = spawn("kontiki-apply", move || applier.run())?;
    let consensus = spawn("kontiki-raft", move || consensus.run())?;
    let registry = Arc::new(Registry::default());
    let handle = Handle { shared: Arc::clone(&shared) };
    match Doors::open(&options, &tls, &handle, &registry, sockets) {
        Ok(doors) => Ok(RunningNode { shared, network, jobs, consensus, applier, doors }),
        Err(failure) => {
            stop_threads(&shared, &jobs, consensus, applier);
            network.stop();
            Err(failure)
        }
    }
}

fn start_network(
    options: &StartOptions,
    boot: u64,
    tls: &NodeTls,
    shared: &Arc<Shared>,
) -> Result<Network, NodeFailure> {
    let config = PeerConfig {
        cluster_id: shared.identity.cluster_id,
        history: shared.identity.history,
        storage_uuid: shared.identity.storage_uuid,
        boot,
        client_addr: options.client_advertise.clone(),
        listen: options.peer_listen,
        tls: tls.clone(),
        members: members_of(&shared.view.lock()),
        entry_bytes_max: shared.journal.entry_bytes_max(),
    };
    Network::start(config, shared).map_err(|error| match &error {
        NetworkError::Bind { source, .. } => refused(options.peer_listen, "peer-addr", "UDP", source),
        NetworkError::Tls(_) => failure(FailureClass::Configuration, &error),
        NetworkError::Thread(_) => failure(FailureClass::Io, &error),
    })
}

impl RunningNode {
    /// Returns what stops this node.
    pub fn stopper(&self) -> Stopper {
        Stopper { shared: Arc::clone(&self.shared) }
    }

    /// Returns the servers' side of this node, for embedders.
    pub fn handle(&self) -> Handle {
        Handle { shared: Arc::clone(&self.shared) }
    }

    /// Waits until the node has ended: `Ok` after [`Stopper::stop`], within 5 s of it; else why it ended by itself.
    ///
    /// # Errors
    ///
    /// Why the node could not go on. Its threads may still run: the process should end.
    pub fn wait(self) -> Result<(), NodeFailure> {
        self.shared.wait_for_end()?;
        self.shared.is_stopping.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + STOP_WITHIN;
        self.doors.stop_accepting();
        self.shared.inbox.push(Input::Event(Event::HandOver));
        self.shared.wait_until_not_leading(deadline - STOP_WITHIN / 2);
        self.doors.close(deadline);
        stop_threads(&self.shared, &self.jobs, self.consensus, self.applier);
        self.network.stop();
        let closed = self.shared.journal.close();
        closed.map_err(|poisoned| failure(FailureClass::Io, &poisoned))
    }
}

impl Stopper {
    /// Stops accepting, hands over leadership, finishes what is committed.
    pub fn stop(&self) {
        self.shared.end(Ok(()));
    }
}

fn load_tls(options: &StartOptions) -> Result<NodeTls, NodeFailure> {
    let tls = NodeTls::load(&options.tls_dir).map_err(|error| failure(FailureClass::Configuration, &error))?;
    if tls.node() == options.id {
        return Ok(tls);
    }
    Err(NodeFailure {
        class: FailureClass::Configuration,
        message: format!(
            "{}: the certificate is of node {}, this is node {}; make one with `kontiki cert node --id {}`",
            options.tls_dir.join("node.pem").display(),
            tls.node(),
            options.id,
            options.id
        ),
    })
}

fn boot_options(options: &StartOptions, tls: &NodeTls) -> Result<BootOptions, NodeFailure> {
    let cluster_name = tls.cluster().to_owned();
    Ok(BootOptions {
        node_id: options.id,
        bootstrap: canonical_cluster(&cluster_name, &options.initial_cluster),
        cluster_id: bootstrap_cluster_id(&cluster_name, &options.initial_cluster),
        cluster_name,
        initial_cluster: options.initial_cluster.clone(),
        ca_fingerprint: tls.issuer_fingerprint().0,
        accepted_cas: tls.ca_fingerprints().into_iter().map(|fingerprint| fingerprint.0).collect(),
        segment_bytes: options.segment_bytes,
        max_value_bytes: options.max_value_bytes,
        new_storage_uuid: random_u128()?,
    })
}

fn node_settings(options: &StartOptions, booted: &Booted) -> Result<NodeSettings, NodeFailure> {
    let seed = random_u128()?;
    Ok(NodeSettings {
        raft: raft::Settings {
            id: options.id,
            heartbeat_ticks: options.timing.heartbeat_ticks,
            election_ticks: options.timing.election_ticks,
            max_append_bytes: MAX_APPEND_BYTES,
            max_append_entries: MAX_APPEND_ENTRIES,
            inflight_messages: INFLIGHT_MESSAGES,
            inflight_bytes: INFLIGHT_BYTES,
            max_uncommitted_bytes: MAX_UNCOMMITTED_BYTES,
            max_pending_reads: MAX_PENDING_READS,
            seed: low_half(seed),
        },
        boot: low_half(random_u128()?),
        storage_uuid: booted.identity.storage_uuid,
        client_addr: options.client_advertise.clone(),
        newest_log_time_ms: booted.newest_log_time_ms,
        max_entry_bytes: booted.journal.entry_bytes_max(),
    })
}

fn low_half(random: u128) -> u64 {
    let [bytes @ .., _, _, _, _, _, _, _, _] = random.to_le_bytes();
    u64::from_le_bytes(bytes)
}

fn random_u128() -> Result<u128, NodeFailure> {
    let mut bytes = [0; 16];
    OsRng.try_fill_bytes(&mut bytes).map_err(|error| failure(FailureClass::Io, &error))?;
    Ok(u128::from_le_bytes(bytes).max(1))
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, NodeFailure> {
    thread::Builder::new().name(name.to_owned()).spawn(run).map_err(|error| failure(FailureClass::Io, &error))
}

fn class_of(error: &BootError) -> FailureClass {
    match error {
        BootError::Locked { .. } => FailureClass::Locked,
        BootError::Foreign { .. } | BootError::ForeignAuthority { .. } => FailureClass::Identity,
        BootError::IdentityUnreadable { source } => match source {
            ReadError::Io { .. } => FailureClass::Io,
            _ => FailureClass::Damaged,
        },
        BootError::IdentityMalformed { .. }
        | BootError::IdentityMissing { .. }
        | BootError::LogMissing { .. }
        | BootError::Entry { .. }
        | BootError::Unreadable { .. }
        | BootError::Core { .. } => FailureClass::Damaged,
        BootError::UnknownFormat { .. } => FailureClass::Configuration,
        BootError::Log { source, .. } => class_of_log(source),
        BootError::IdentityUnwritable { .. } | BootError::Io { .. } => FailureClass::Io,
    }
}

fn stop_threads(shared: &Shared, jobs: &Jobs, consensus: JoinHandle<()>, applier: JoinHandle<()>) {
    shared.inbox.push(Input::Stop);
    let _panicked = consensus.join().is_err();
    jobs.push(Job::Stop);
    let _panicked = applier.join().is_err();
}

/// Tells a failed disk from damage.
pub(super) fn log_failure_of(error: &JournalError) -> NodeFailure {
    failure(if error.is_io() { FailureClass::Io } else { FailureClass::Damaged }, error)
}

pub(super) fn failure(class: FailureClass, error: &dyn std::error::Error) -> NodeFailure {
    NodeFailure { class, message: error.to_string() }
}

fn class_of_log(error: &OpenError) -> FailureClass {
    match error {
        OpenError::Damaged { .. } => FailureClass::Damaged,
        OpenError::Identity { .. } => FailureClass::Identity,
        OpenError::Locked { .. } => FailureClass::Locked,
        OpenError::Unsupported { .. } | OpenError::Options(_) => FailureClass::Configuration,
        OpenError::NoSpace | OpenError::Io { .. } => FailureClass::Io,
    }
}
