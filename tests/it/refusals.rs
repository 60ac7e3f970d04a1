//! What must not start does not: one clear line, and the exit code that says which sort of trouble it is.

use std::fs;
use std::net::{TcpListener, UdpSocket};

use crate::harness::{Certificates, NodeSetup, TestDir, kontiki, run};

const USAGE: i32 = 2;
const CONFIGURATION: i32 = 64;
const LOCKED: i32 = 66;
const IDENTITY: i32 = 67;
const UNREACHABLE: i32 = 69;
const IO: i32 = 74;

struct House {
    certificates: Certificates,
    dir: TestDir,
}

impl House {
    fn new() -> House {
        let dir = TestDir::new();
        House { certificates: Certificates::new(dir.path(), "it"), dir }
    }

    fn node(&self) -> NodeSetup {
        NodeSetup::alone(self.dir.path(), &self.certificates.node(1))
    }
}

#[test]
fn a_second_process_on_one_directory() {
    let house = House::new();
    let mut first = house.node().start();
    first.wait_ready();
    let ports = house.node();
    let second = NodeSetup { data_dir: first.setup.data_dir.clone(), ..ports };
    // Their peer addresses differ too, but the lock is what is tried first.
    let directory = second.data_dir.display().to_string();
    second.start_refused().assert_refused(LOCKED, &[&directory]);
    first.wait_ready();
}

#[test]
fn a_directory_of_another_node() {
    let house = House::new();
    let dirs = [1, 2].map(|id| house.certificates.node(id));
    let mut members = NodeSetup::members(house.dir.path(), &dirs);
    let (mut two, mut one) = (members.remove(1), members.remove(0));
    // Alone they never become ready, but their identity is on disk once they answer.
    let mut running = one.clone().start();
    crate::harness::wait_for("answer of node 1", || running.status());
    running.stop();
    two.data_dir.clone_from(&one.data_dir);
    let directory = one.data_dir.display().to_string();
    two.start_refused().assert_refused(IDENTITY, &[&directory]);
    // The same node under another cluster's authority is refused as well.
    let elsewhere = TestDir::new();
    one.tls_dir = Certificates::new(elsewhere.path(), "other").node(1);
    one.start_refused().assert_refused(IDENTITY, &[&directory]);
}

#[test]
fn an_unknown_configuration_key() {
    let house = House::new();
    let config = house.dir.join("node.toml");
    fs::write(&config, "segment-bytes = 1048576\nsegment-byte = 1048576\n").unwrap();
    let mut node = house.node();
    node.more_args = vec!["--config".to_owned(), config.display().to_string()];
    node.start_refused().assert_refused(CONFIGURATION, &["node.toml", "segment-byte"]);
}

#[test]
fn bad_values() {
    let house = House::new();
    for (flag, value) in [("--segment-bytes", "1000000"), ("--segment-bytes", "65536"), ("--election-timeout-ms", "0")]
    {
        let mut node = house.node();
        node.more_args = vec![flag.to_owned(), value.to_owned()];
        node.start_refused().assert_refused(CONFIGURATION, &[&flag[2..], value]);
    }
}

#[test]
fn a_port_in_use() {
    for port in [|node: &NodeSetup| node.client, |node: &NodeSetup| node.http] {
        let house = House::new();
        let node = house.node();
        let taken = port(&node);
        let _held = TcpListener::bind(taken).unwrap();
        node.start_refused().assert_refused(UNREACHABLE, &[&taken.to_string()]);
    }
    for port in [|node: &NodeSetup| node.client, |node: &NodeSetup| node.peer] {
        let house = House::new();
        let node = house.node();
        let taken = port(&node);
        let _held = UdpSocket::bind(taken).unwrap();
        node.start_refused().assert_refused(UNREACHABLE, &[&taken.to_string()]);
    }
}

#[test]
fn a_missing_or_broken_certificate() {
    let house = House::new();
    for (file, content) in [("node.pem", None), ("ca.pem", None), ("node.key", Some("no key"))] {
        let node = NodeSetup { tls_dir: house.certificates.node(1), ..house.node() };
        let path = node.tls_dir.join(file);
        match content {
            None => fs::remove_file(&path).unwrap(),
            Some(content) => fs::write(&path, content).unwrap(),
        }
        let path = path.display().to_string();
        node.start_refused().assert_refused(CONFIGURATION, &[&path]);
    }
}

#[test]
fn listening_to_the_world_without_a_lock_on_the_door() {
    let house = House::new();
    let mut node = house.node();
    node.client.set_ip([0, 0, 0, 0].into());
    node.start_refused().assert_refused(CONFIGURATION, &["--insecure"]);
}

#[test]
fn a_data_directory_that_is_a_file() {
    let house = House::new();
    let node = house.node();
    fs::write(&node.data_dir, "not a directory").unwrap();
    let directory = node.data_dir.display().to_string();
    node.start_refused().assert_refused(IO, &[&directory]);
}

#[test]
fn usage() {
    for args in [["start", "--no-such-flag"], ["no-such-command", "x"]] {
        let output = run(kontiki(args));
        assert_eq!(output.code, USAGE, "{output:#?}");
        assert!(output.stderr.contains(args[0]) || output.stderr.contains(args[1]), "{output:#?}");
    }
}
