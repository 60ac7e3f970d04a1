//! Nodes in this process, with certificates and directories of their own.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use kontiki::client::{Client, ClientOptions};
use kontiki::raft::NodeId;
use kontiki::runtime::{Password, RunningNode, StartOptions, Timing, start};
use kontiki::transport::certs::Authority;
use kontiki::transport::tls::ClientTls;
use tempfile::TempDir;

use crate::ports::free_ports;

/// Long enough for a loaded machine; nothing waits this long when all is well.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub const VALUE_BYTES_MAX: usize = 256 * 1024;

pub struct Nodes {
    pub certs: TempDir,
    options: Vec<StartOptions>,
    running: Vec<Option<RunningNode>>,
}

impl Nodes {
    pub fn start(count: u16, password: Option<&str>) -> Nodes {
        let certs = Nodes::certs();
        let authority = Authority::open(certs.path()).unwrap();
        let first = free_ports(3 * count);
        let address = |kind: u16, at: u16| format!("127.0.0.1:{}", first + kind * count + at);
        let initial_cluster: BTreeMap<NodeId, String> =
            (0..count).map(|at| (NodeId(u64::from(at) + 1), address(1, at))).collect();
        let options = (0..count).map(|at| {
            let id = NodeId(u64::from(at) + 1);
            let dir = certs.path().join(format!("node-{id}"));
            authority.issue_node(id, &[], &dir).unwrap();
            StartOptions {
                id,
                data_dir: certs.path().join(format!("data-{id}")),
                client_listen: address(0, at).parse().unwrap(),
                peer_listen: address(1, at).parse().unwrap(),
                http_listen: address(2, at).parse().unwrap(),
                client_advertise: address(0, at),
                peer_advertise: address(1, at),
                initial_cluster: initial_cluster.clone(),
                tls_dir: dir,
                timing: Timing::from_millis(50, 500),
                segment_bytes: 1 << 20,
                max_value_bytes: VALUE_BYTES_MAX as u64,
                max_clients: 100,
                request_timeout: Duration::from_secs(5),
                password: password.map(|password| Password(password.into())),
            }
        });
        let options: Vec<StartOptions> = options.collect();
        let running = options.iter().map(|options| Some(start(options.clone()).unwrap())).collect();
        Nodes { certs, options, running }
    }

    /// An authority and a client's certificate, the latter in a directory of its own.
    pub fn certs() -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(dir.path(), "blue").unwrap();
        authority.issue_client("test", &dir.path().join("client")).unwrap();
        dir
    }

    pub fn client_tls_of(certs: &TempDir) -> ClientTls {
        ClientTls::load(&Path::join(certs.path(), "client")).unwrap()
    }

    pub fn client_tls(&self) -> ClientTls {
        Nodes::client_tls_of(&self.certs)
    }

    pub fn endpoints(&self) -> Vec<String> {
        self.options.iter().map(|options| options.client_advertise.clone()).collect()
    }

    pub async fn client(&self, options: ClientOptions) -> Client {
        Client::connect(self.endpoints(), self.client_tls(), options).await.unwrap()
    }

    /// Returns the place of the node that leads, once one does.
    pub async fn leader(&self) -> usize {
        let started = Instant::now();
        loop {
            for (at, node) in self.running.iter().enumerate() {
                let status = node.as_ref().map(|node| node.handle().status());
                if status.is_some_and(|status| status.leader_id == Some(status.node_id)) {
                    return at;
                }
            }
            assert!(started.elapsed() < PATIENCE, "no leader");
            tokio::task::yield_now().await;
        }
    }

    pub async fn stop_one(&mut self, at: usize) {
        let node = self.running[at].take().unwrap();
        node.stopper().stop();
        tokio::task::spawn_blocking(move || node.wait()).await.unwrap().unwrap();
    }

    pub fn start_one(&mut self, at: usize) {
        self.running[at] = Some(start(self.options[at].clone()).unwrap());
    }

    pub async fn stop(mut self) {
        for at in 0..self.running.len() {
            if self.running[at].is_some() {
                self.stop_one(at).await;
            }
        }
    }
}
