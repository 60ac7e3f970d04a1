//! Certificates and whole clusters.

use std::path::{Path, PathBuf};

use super::node::{NodeSetup, TestNode};
use super::process::{Signal, kontiki, run};
use super::{TestDir, wait_for};

/// A certificate authority made by `kontiki cert`, and what it signed.
pub struct Certificates {
    base: PathBuf,
}

impl Certificates {
    /// Makes an authority for `cluster` in `base/ca`.
    #[track_caller]
    pub fn new(base: &Path, cluster: &str) -> Certificates {
        let certificates = Certificates { base: base.to_owned() };
        run(kontiki(["cert", "ca", "--cluster", cluster, "--tls-dir"]).with(&certificates.ca())).success();
        certificates
    }

    fn ca(&self) -> PathBuf {
        self.base.join("ca")
    }

    /// Makes a node's certificate and returns the directory for its `--tls-dir`.
    #[track_caller]
    pub fn node(&self, id: u64) -> PathBuf {
        let out = self.base.join(format!("tls-{id}"));
        let command = kontiki(["cert", "node", "--id", &id.to_string(), "--tls-dir"]);
        run(command.with(&self.ca()).with(Path::new("--out")).with(&out)).success();
        out
    }

    /// Makes a client's certificate and returns the directory for its `--tls-dir`.
    #[track_caller]
    pub fn client(&self, name: &str) -> PathBuf {
        let out = self.base.join(format!("tls-{name}"));
        let command = kontiki(["cert", "client", "--name", name, "--tls-dir"]);
        run(command.with(&self.ca()).with(Path::new("--out")).with(&out)).success();
        out
    }
}

trait With {
    fn with(self, arg: &Path) -> Self;
}

impl With for std::process::Command {
    fn with(mut self, arg: &Path) -> Self {
        self.arg(arg);
        self
    }
}

/// A running cluster in a directory of its own.
pub struct TestCluster {
    pub nodes: Vec<TestNode>,
    pub certificates: Certificates,
    // Last: processes end before their directory goes.
    _dir: TestDir,
}

impl TestCluster {
    /// Starts a new cluster and waits until every node serves.
    #[track_caller]
    pub fn start(nodes: u64) -> TestCluster {
        let dir = TestDir::new();
        let certificates = Certificates::new(dir.path(), "it");
        let tls_dirs: Vec<PathBuf> = (1..=nodes).map(|id| certificates.node(id)).collect();
        let setups = NodeSetup::members(dir.path(), &tls_dirs);
        let mut cluster =
            TestCluster { nodes: setups.into_iter().map(NodeSetup::start).collect(), certificates, _dir: dir };
        cluster.wait_ready();
        cluster
    }

    #[track_caller]
    pub fn wait_ready(&mut self) {
        self.nodes.iter_mut().for_each(TestNode::wait_ready);
    }

    /// Waits for a leader that a majority agrees on, and returns its place in `nodes`.
    #[track_caller]
    pub fn leader(&self) -> usize {
        wait_for("leader", || {
            let seen: Vec<_> = self.nodes.iter().filter_map(TestNode::status).filter_map(|s| s.leader_id).collect();
            let named = |id: u64| seen.iter().filter(|seen| **seen == id).count() * 2 > self.nodes.len();
            self.nodes.iter().position(|node| named(node.setup.id))
        })
    }

    /// Kills every node at once.
    pub fn kill_all(&mut self) {
        for node in &self.nodes {
            node.process.signal(Signal::KILL);
        }
        self.nodes.iter_mut().for_each(TestNode::kill);
    }

    /// Waits until all nodes have applied the same entries, and asserts that their states are the same.
    #[track_caller]
    pub fn assert_converged(&self) {
        let statuses = wait_for("agreement on the applied index", || {
            let statuses: Option<Vec<_>> = self.nodes.iter().map(TestNode::status).collect();
            statuses.filter(|all| {
                all.iter().all(|s| s.applied_index == all[0].applied_index && s.applied_index == s.commit_index)
            })
        });
        let hashes: Vec<&str> = statuses.iter().map(|status| status.state_hash.as_str()).collect();
        assert!(hashes.iter().all(|hash| *hash == hashes[0]), "state differs at one index: {statuses:#?}");
    }
}
