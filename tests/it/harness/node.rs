//! One node: its place on disk and on the network, and its process when it runs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::process::{Output, Process, Signal, kontiki};
use super::{Client, Status, free_ports, get, wait_for};

/// Everything that does not change when a node is started again.
#[derive(Clone, Debug)]
pub struct NodeSetup {
    pub id: u64,
    pub client: SocketAddr,
    pub peer: SocketAddr,
    pub http: SocketAddr,
    pub data_dir: PathBuf,
    pub tls_dir: PathBuf,
    /// Where its output is written.
    pub logs: PathBuf,
    pub initial_cluster: String,
    pub more_args: Vec<String>,
}

impl NodeSetup {
    /// A node alone in its cluster, under `base`.
    pub fn alone(base: &Path, tls_dir: &Path) -> NodeSetup {
        let mut nodes = NodeSetup::members(base, &[tls_dir.to_owned()]);
        nodes.remove(0)
    }

    /// The members of one new cluster under `base`, one for each directory of certificates.
    pub fn members(base: &Path, tls_dirs: &[PathBuf]) -> Vec<NodeSetup> {
        let count = u16::try_from(tls_dirs.len()).unwrap();
        let first = free_ports(3 * count);
        let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let peers: Vec<SocketAddr> = (0..count).map(|at| address(first + count + at)).collect();
        let named: Vec<String> = (1..).zip(&peers).map(|(id, peer)| format!("{id}={peer}")).collect();
        let member = |(at, tls_dir): (u16, &PathBuf)| NodeSetup {
            id: u64::from(at) + 1,
            client: address(first + at),
            peer: peers[usize::from(at)],
            http: address(first + 2 * count + at),
            data_dir: base.join(format!("node-{}", at + 1)),
            tls_dir: tls_dir.clone(),
            logs: base.to_owned(),
            initial_cluster: named.join(","),
            more_args: vec!["--segment-bytes".to_owned(), "1048576".to_owned()],
        };
        (0..count).zip(tls_dirs).map(member).collect()
    }

    pub fn args(&self) -> Vec<String> {
        let pairs = [
            ("--id", self.id.to_string()),
            ("--data-dir", self.data_dir.display().to_string()),
            ("--client-addr", self.client.to_string()),
            ("--peer-addr", self.peer.to_string()),
            ("--http-addr", self.http.to_string()),
            ("--initial-cluster", self.initial_cluster.clone()),
            ("--tls-dir", self.tls_dir.display().to_string()),
        ];
        let named = pairs.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
        ["start".to_owned()].into_iter().chain(named).chain(self.more_args.iter().cloned()).collect()
    }

    pub fn command(&self) -> Command {
        kontiki(self.args())
    }

    /// Starts the node without waiting for anything.
    #[track_caller]
    pub fn start(self) -> TestNode {
        let command = self.command();
        self.start_as(command)
    }

    /// Starts the node by `command`, which wraps [`NodeSetup::command`].
    #[track_caller]
    pub fn start_as(self, command: Command) -> TestNode {
        let process = Process::start(command, &self.logs, &format!("node-{}", self.id));
        TestNode { setup: self, process }
    }

    /// Starts the node and waits for its end: for starts that must be refused.
    #[track_caller]
    pub fn start_refused(self) -> Output {
        let mut node = self.start();
        node.process.wait()
    }
}

/// A node whose process was started. Dropping it kills the process.
pub struct TestNode {
    pub setup: NodeSetup,
    pub process: Process,
}

impl TestNode {
    /// Waits until a linearizable read is possible through this node.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        wait_for(&format!("readiness of node {}", self.setup.id), || {
            if !self.process.is_running() {
                panic!("node {} ended: {:#?}", self.setup.id, self.process.wait());
            }
            get(self.setup.http, "/readyz").is_ok_and(|(code, _)| code == 200).then_some(())
        });
    }

    /// What the node says about itself, if it answers.
    pub fn status(&self) -> Option<Status> {
        let (code, body) = get(self.setup.http, "/status").ok()?;
        assert_eq!(code, 200, "{body}");
        Some(serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}")))
    }

    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(self.setup.client).unwrap()
    }

    /// Kills the process as a power cut of the process would: nothing is finished.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Stops the node cleanly and asserts that it ends well.
    #[track_caller]
    pub fn stop(&mut self) {
        self.process.signal(Signal::TERM);
        self.process.wait().success();
    }

    /// Starts the process again after its end, with the same setup.
    #[track_caller]
    pub fn restart(&mut self) {
        assert!(!self.process.is_running(), "node {} still runs", self.setup.id);
        *self = self.setup.clone().start();
    }
}
