//! What a node is started with: checked values only, from flags, environment and file by way of the command line.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_128;

use crate::raft::NodeId;

/// Everything one node needs to start.
///
/// - `initial_cluster` contains `id`.
/// - `segment_bytes` is a power of two and at least 1 MiB; `max_value_bytes` is at most a quarter of it.
/// - `timing.election_ticks >= 3 * timing.heartbeat_ticks`.
/// - Every listening address is loopback, or there is a password, or the operator said `--insecure`.
#[derive(Clone, Debug)]
pub struct StartOptions {
    /// This node.
    pub id: NodeId,
    /// Holds `identity`, `wal/`, `snapshot/` and `LOCK`. Made with mode 0700 if it is not there.
    pub data_dir: PathBuf,
    /// Where clients are served: RESP on TCP, the native protocol on UDP.
    pub client_listen: SocketAddr,
    /// Where peers are heard (QUIC on UDP).
    pub peer_listen: SocketAddr,
    /// Where operators are served (HTTP on TCP).
    pub http_listen: SocketAddr,
    /// The client address that others are told, as written.
    pub client_advertise: String,
    /// The peer address that others are told, as written.
    pub peer_advertise: String,
    /// The members at bootstrap with their peer addresses, as written; later only hints.
    pub initial_cluster: BTreeMap<NodeId, String>,
    /// Holds `ca.pem`, `node.pem` and `node.key`.
    pub tls_dir: PathBuf,
    /// The pace of heartbeats and elections.
    pub timing: Timing,
    /// Size of one slot of the log in bytes.
    pub segment_bytes: u64,
    /// The longest value in bytes.
    pub max_value_bytes: u64,
    /// The most clients served at once.
    pub max_clients: u32,
    /// How long a request may take before it is answered with an error.
    pub request_timeout: Duration,
    /// What clients must know, if anything.
    pub password: Option<Password>,
}

/// The pace of a node in whole ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The length of one tick.
    pub tick: Duration,
    /// Ticks between two heartbeats of a leader, at least 1.
    pub heartbeat_ticks: u32,
    /// The election timeout is drawn from `election_ticks` up to twice that.
    pub election_ticks: u32,
}

/// A secret that does not print itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub Vec<u8>);

/// What kind of failure ended a node, or kept it from starting. Each kind has its own exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureClass {
    /// A bad value, or a missing or unusable TLS file (64).
    Configuration,
    /// Acknowledged data is damaged (65).
    Damaged,
    /// The data directory is in use by another process (66).
    Locked,
    /// The data directory belongs to another node, cluster or storage (67).
    Identity,
    /// An address is already taken (69).
    Unavailable,
    /// The data directory cannot be used, or a sync failed (74).
    Io,
}

impl Timing {
    /// Returns the timing for a heartbeat every `heartbeat_ms` and elections after `election_timeout_ms`, both at least 1.
    ///
    /// A tick is a fifth of a heartbeat, so that election timeouts of different nodes rarely fall on the same tick.
    pub fn from_millis(heartbeat_ms: u32, election_timeout_ms: u32) -> Timing {
        let tick_ms = heartbeat_ms.div_ceil(5).max(1);
        Timing {
            tick: Duration::from_millis(u64::from(tick_ms)),
            heartbeat_ticks: (heartbeat_ms / tick_ms).max(1),
            election_ticks: election_timeout_ms.div_ceil(tick_ms).max(1),
        }
    }
}

/// Returns the id that a new cluster gets: the same on every node that was given the same lines, without talking.
///
/// `cluster_name` is the one in the certificates. Addresses count as they are written.
pub fn bootstrap_cluster_id(cluster_name: &str, initial_cluster: &BTreeMap<NodeId, String>) -> u128 {
    xxh3_128(canonical_cluster(cluster_name, initial_cluster).as_bytes())
}

/// Returns the text that [`bootstrap_cluster_id`] hashes: `NAME|1=H:P,2=H:P,…` in the order of ids.
pub fn canonical_cluster(cluster_name: &str, initial_cluster: &BTreeMap<NodeId, String>) -> String {
    let members: Vec<String> = initial_cluster.iter().map(|(id, address)| format!("{id}={address}")).collect();
    format!("{cluster_name}|{}", members.join(","))
}

impl Password {
    /// Returns whether `given` is the password, in a time that depends on the lengths only.
    pub fn is(&self, given: &[u8]) -> bool {
        let differences = self.0.iter().zip(given).fold(0, |differences, (a, b)| differences | (a ^ b));
        differences == 0 && self.0.len() == given.len()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_timing_is_ten_milliseconds_a_tick() {
        let timing = Timing::from_millis(50, 500);
        assert_eq!(timing, Timing { tick: Duration::from_millis(10), heartbeat_ticks: 5, election_ticks: 50 });
    }

    #[test]
    fn fast_timing_never_has_a_tick_of_zero() {
        let timing = Timing::from_millis(1, 3);
        assert_eq!(timing, Timing { tick: Duration::from_millis(1), heartbeat_ticks: 1, election_ticks: 3 });
    }

    #[test]
    fn cluster_id_depends_on_name_and_list_only() {
        let list = |pairs: &[(u64, &str)]| pairs.iter().map(|(id, a)| (NodeId(*id), (*a).to_owned())).collect();
        let one: BTreeMap<_, _> = list(&[(1, "a:1"), (2, "b:2")]);
        let same: BTreeMap<_, _> = list(&[(2, "b:2"), (1, "a:1")]);
        assert_eq!(bootstrap_cluster_id("x", &one), bootstrap_cluster_id("x", &same));
        assert_ne!(bootstrap_cluster_id("x", &one), bootstrap_cluster_id("y", &one));
        assert_ne!(bootstrap_cluster_id("x", &one), bootstrap_cluster_id("x", &list(&[(1, "a:1")])));
    }
}
