//! `kontiki cluster`: the main job on one machine.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use crate::harness::{Client, Process, Signal, Status, TestDir, Value, free_ports, get, kontiki, wait_for};

/// A running `kontiki cluster` of three nodes.
struct Cluster {
    process: Process,
    base_port: u16,
}

impl Cluster {
    fn start(dir: &Path, base_port: u16, name: &str) -> Cluster {
        let ready = dir.join(format!("{name}.ready"));
        let mut command = kontiki(["cluster", "--base-port", &base_port.to_string()]);
        command.arg("--dir").arg(dir.join("data")).arg("--ready-file").arg(&ready);
        let mut process = Process::start(command, dir, name);
        wait_for("ready file", || {
            if !process.is_running() {
                panic!("the cluster ended: {:#?}", process.wait());
            }
            ready.exists().then_some(())
        });
        Cluster { process, base_port }
    }

    fn address(&self, offset: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.base_port + offset))
    }

    fn client(&self, node: u16) -> Client {
        Client::connect(self.address(node - 1)).unwrap()
    }

    fn status(&self, node: u16) -> Status {
        let (_, body) = get(self.address(200 + node - 1), "/status").unwrap();
        serde_json::from_str(&body).unwrap()
    }
}

/// A block of ports as the command uses them: clients at 0, peers at 100, HTTP at 200.
fn base_port() -> u16 {
    free_ports(203)
}

#[test]
fn it_serves_stops_at_ctrl_c_and_resumes_with_all_data() {
    let dir = TestDir::new();
    let base_port = base_port();
    let mut cluster = Cluster::start(dir.path(), base_port, "first");
    let table = wait_for("table", || {
        let text = cluster.process.stdout();
        text.contains(&cluster.address(202).to_string()).then_some(text)
    });
    for node in 1..=3 {
        for offset in [0, 200] {
            let address = cluster.address(offset + node - 1).to_string();
            assert!(table.contains(&address), "{address} is missing in:\n{table}");
        }
        assert!(table.contains(&format!("node-{node}")), "{table}");
    }
    assert_eq!(cluster.client(1).call(&["SET", "a", "1"]).unwrap(), Value::ok());
    assert_eq!(cluster.client(2).call(&["GET", "a"]).unwrap(), Value::bulk("1"));
    assert_eq!(cluster.client(3).call(&["APPEND", "a", "2"]).unwrap(), Value::Integer(2));

    // As a terminal does it: the interrupt reaches every process of the group.
    cluster.process.signal(Signal::INT);
    let output = cluster.process.wait();
    assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{output:#?}");

    // As a supervisor does it: only the command itself is told.
    let mut cluster = Cluster::start(dir.path(), base_port, "second");
    for node in 1..=3 {
        assert_eq!(cluster.client(node).call(&["GET", "a"]).unwrap(), Value::bulk("12"));
    }
    cluster.process.signal_one(Signal::INT);
    let output = cluster.process.wait();
    assert_eq!((output.code, output.stderr.as_str()), (0, ""), "{output:#?}");
    let mode = |name: &str| {
        use std::os::unix::fs::PermissionsExt;
        fs::metadata(dir.join("data").join(name)).unwrap().permissions().mode() & 0o777
    };
    assert_eq!((mode("node-1"), mode("certs/client.key")), (0o700, 0o600));
    assert!(dir.join("data/certs/client.pem").exists() && dir.join("data/node-3.log").exists());
}

#[test]
fn no_node_outlives_it() {
    let dir = TestDir::new();
    let base_port = base_port();
    let mut cluster = Cluster::start(dir.path(), base_port, "killed");
    let nodes = [1, 2, 3].map(|node| cluster.status(node).process_id);
    assert_eq!(cluster.client(2).call(&["SET", "a", "1"]).unwrap(), Value::ok());
    cluster.process.signal_one(Signal::KILL);
    assert_eq!(cluster.process.wait().code, 128 + 9);
    for id in nodes {
        wait_for("end of the nodes", || has_ended(id).then_some(()));
    }
    let cluster = Cluster::start(dir.path(), base_port, "again");
    assert_eq!(cluster.client(3).call(&["GET", "a"]).unwrap(), Value::bulk("1"));
}

/// Whether a process is gone, or dead and only waits to be reaped by its new parent.
fn has_ended(process_id: u32) -> bool {
    match fs::read_to_string(format!("/proc/{process_id}/stat")) {
        Ok(stat) => stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')),
        Err(_) => true,
    }
}

#[test]
fn a_port_in_use_is_told_and_nothing_is_left_running() {
    let dir = TestDir::new();
    let base_port = base_port();
    let taken = SocketAddr::from(([127, 0, 0, 1], base_port + 1));
    let _held = std::net::TcpListener::bind(taken).unwrap();
    let mut command = kontiki(["cluster", "--base-port", &base_port.to_string()]);
    command.arg("--dir").arg(dir.join("data"));
    let mut process = Process::start(command, dir.path(), "cluster");
    process.wait().assert_refused(69, &[&taken.to_string()]);
    for offset in [0, 2] {
        assert!(std::net::TcpListener::bind(("127.0.0.1", base_port + offset)).is_ok(), "a node still listens");
    }
}
