//! Where a local cluster keeps what: directories, ports, and the file that remembers them.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::super::exit::{Exit, Failure};
use super::ready;

/// The most nodes: the port ranges of clients, peers and HTTP are 100 apart.
const NODES_MAX: u16 = 100;
const NODES_DEFAULT: u16 = 3;
const BASE_PORT_DEFAULT: u16 = 7_001;

/// How long nodes of a supervisor that was killed may take to end.
const ORPHAN_TIME_MAX: Duration = Duration::from_secs(6);

/// A directory that this process holds, with its nodes' places.
pub(super) struct Layout {
    pub(super) dir: PathBuf,
    pub(super) nodes: Vec<NodePlace>,
    /// Whether the directory held this cluster before.
    pub(super) is_resumed: bool,
    base_port: u16,
    /// Locked as long as this process lives.
    _lock: File,
}

/// One node's addresses and files.
#[derive(Clone, Debug)]
pub(super) struct NodePlace {
    pub(super) id: u64,
    pub(super) client_addr: String,
    pub(super) peer_addr: String,
    pub(super) http_addr: String,
    pub(super) data_dir: PathBuf,
    pub(super) log_file: PathBuf,
    pub(super) tls_dir: PathBuf,
}

/// What `DIR/cluster.toml` remembers.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Remembered {
    nodes: u16,
    base_port: u16,
}

/// Parses the number of nodes.
pub(super) fn parse_nodes(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(number) if (1..=NODES_MAX).contains(&number) => Ok(number),
        Ok(_) | Err(_) => Err(format!("not a number of nodes from 1 to {NODES_MAX}")),
    }
}

/// Parses the first port: all ports derived from it must exist.
pub(super) fn parse_base_port(text: &str) -> Result<u16, String> {
    let largest = u16::MAX - 200 - NODES_MAX + 1;
    match text.parse() {
        Ok(port) if (1..=largest).contains(&port) => Ok(port),
        Ok(_) | Err(_) => Err(format!("not a port from 1 to {largest}")),
    }
}

impl Layout {
    /// Takes hold of `dir`, making it if needed; what was not asked for is taken from what it holds.
    pub(super) fn open(dir: &Path, nodes: Option<u16>, base_port: Option<u16>) -> Result<Layout, Failure> {
        if dir.as_os_str().is_empty() {
            return Err(Failure::config("--dir is empty; name a directory, such as kontiki-data"));
        }
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|error| Failure::io("create the directory", dir, &error))?;
        let lock = lock(dir)?;
        let remembered = read_remembered(dir)?;
        if let Some(held) = &remembered {
            let unlike = |flag: &str, asked: Option<u16>, held: u16| match asked {
                Some(asked) if asked != held => Err(Failure::config(format!(
                    "{} holds a cluster that was made with {flag} {held}, not {asked}; leave {flag} out, or choose \
                     another --dir",
                    dir.display()
                ))),
                Some(_) | None => Ok(()),
            };
            unlike("--nodes", nodes, held.nodes)?;
            unlike("--base-port", base_port, held.base_port)?;
        }
        let count = nodes.or(remembered.as_ref().map(|held| held.nodes)).unwrap_or(NODES_DEFAULT);
        let base_port = base_port.or(remembered.as_ref().map(|held| held.base_port)).unwrap_or(BASE_PORT_DEFAULT);
        Ok(Layout {
            dir: dir.to_owned(),
            nodes: (0..count).map(|at| NodePlace::new(dir, base_port, at)).collect(),
            is_resumed: remembered.is_some(),
            base_port,
            _lock: lock,
        })
    }

    /// Returns where the certificates are.
    pub(super) fn certs_dir(&self) -> PathBuf {
        self.dir.join("certs")
    }

    /// Returns the ids of the nodes.
    pub(super) fn ids(&self) -> impl Iterator<Item = u64> {
        self.nodes.iter().map(|node| node.id)
    }

    /// Returns the flag's value that names all members to each of them.
    pub(super) fn initial_cluster(&self) -> String {
        let members: Vec<String> = self.nodes.iter().map(|node| format!("{}={}", node.id, node.peer_addr)).collect();
        members.join(",")
    }

    /// Returns whether everything is where clients look by themselves.
    pub(super) fn is_default(&self) -> bool {
        self.base_port == BASE_PORT_DEFAULT && self.nodes.len() == usize::from(NODES_DEFAULT)
    }

    /// Waits for nodes that outlive a killed supervisor for a moment: they hold their directories until they end.
    pub(super) fn wait_for_orphans(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + ORPHAN_TIME_MAX;
        for node in &self.nodes {
            while is_held(&node.data_dir.join("LOCK")) {
                if Instant::now() > deadline {
                    return Err(Failure::new(
                        Exit::Locked,
                        format!(
                            "{} is in use by another process; stop that node, or choose another --dir",
                            node.data_dir.display()
                        ),
                    ));
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        Ok(())
    }

    /// Tries every port, so that a taken one is named before anything starts.
    pub(super) fn require_free_ports(&self) -> Result<(), Failure> {
        for node in &self.nodes {
            let tcp = |address: &str| TcpListener::bind(address).map(drop);
            let udp = |address: &str| UdpSocket::bind(address).map(drop);
            let doors = [
                (tcp(&node.client_addr), &node.client_addr, "RESP, TCP"),
                (udp(&node.client_addr), &node.client_addr, "native clients, UDP"),
                (udp(&node.peer_addr), &node.peer_addr, "peers, UDP"),
                (tcp(&node.http_addr), &node.http_addr, "HTTP, TCP"),
            ];
            for (bound, address, what) in doors {
                bound.map_err(|error| port_failure(&error, address, node.id, what))?;
            }
        }
        Ok(())
    }

    /// Writes down what this directory holds.
    pub(super) fn remember(&self) -> Result<(), Failure> {
        let nodes = u16::try_from(self.nodes.len()).expect("at most 100 nodes");
        let text = toml::to_string(&Remembered { nodes, base_port: self.base_port }).expect("two numbers");
        let path = remembered_path(&self.dir);
        ready::replace(&path, text.as_bytes())
    }
}

impl NodePlace {
    fn new(dir: &Path, base_port: u16, at: u16) -> NodePlace {
        let id = u64::from(at) + 1;
        let address = |offset: u16| format!("127.0.0.1:{}", base_port + offset + at);
        NodePlace {
            id,
            client_addr: address(0),
            peer_addr: address(100),
            http_addr: address(200),
            data_dir: dir.join(format!("node-{id}")),
            log_file: dir.join(format!("node-{id}.log")),
            tls_dir: dir.join("certs").join(format!("node-{id}")),
        }
    }
}

fn port_failure(error: &io::Error, address: &str, id: u64, what: &str) -> Failure {
    if error.kind() == io::ErrorKind::AddrInUse {
        return Failure::new(
            Exit::Unavailable,
            format!(
                "the address {address} (node {id}: {what}) is already in use; stop what listens there, or choose \
                 other ports with --base-port"
            ),
        );
    }
    Failure::config(format!("cannot listen on {address} (node {id}: {what}): {error}; choose another --base-port"))
}

/// Locks the directory against a second supervisor; the file holds the process id of the first.
fn lock(dir: &Path) -> Result<File, Failure> {
    let path = dir.join("LOCK");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .map_err(|error| Failure::io("open", &path, &error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder).ok();
            return Err(Failure::new(
                Exit::Locked,
                format!(
                    "{} is in use by another 'kontiki cluster' (process {}); stop it, or choose another --dir",
                    dir.display(),
                    if holder.trim().is_empty() { "unknown" } else { holder.trim() }
                ),
            ));
        }
        Err(TryLockError::Error(error)) => return Err(Failure::io("lock", &path, &error)),
    }
    let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(|error| Failure::io("write", &path, &error))?;
    Ok(file)
}

/// Returns whether some process holds a lock on `path`.
fn is_held(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

fn remembered_path(dir: &Path) -> PathBuf {
    dir.join("cluster.toml")
}

fn read_remembered(dir: &Path) -> Result<Option<Remembered>, Failure> {
    let path = remembered_path(dir);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::io("read", &path, &error)),
    };
    let bad = |why: String| {
        Failure::config(format!(
            "{} is not what this command wrote ({why}); put back 'nodes = 3' and 'base-port = 7001', with your numbers",
            path.display()
        ))
    };
    let held: Remembered = toml::from_str(&text).map_err(|error| bad(error.message().to_owned()))?;
    parse_nodes(&held.nodes.to_string()).map_err(&bad)?;
    parse_base_port(&held.base_port.to_string()).map_err(&bad)?;
    Ok(Some(held))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_files_are_the_published_ones() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::open(dir.path(), None, None).unwrap();
        let third = &layout.nodes[2];
        assert_eq!(
            (third.client_addr.as_str(), third.peer_addr.as_str(), third.http_addr.as_str()),
            ("127.0.0.1:7003", "127.0.0.1:7103", "127.0.0.1:7203")
        );
        assert_eq!(third.data_dir, dir.path().join("node-3"));
        assert_eq!(third.log_file, dir.path().join("node-3.log"));
        assert!(layout.is_default() && !layout.is_resumed);
    }

    #[test]
    fn a_directory_remembers_its_cluster() {
        let dir = tempfile::tempdir().unwrap();
        let first = Layout::open(dir.path(), Some(5), Some(8_001)).unwrap();
        first.remember().unwrap();
        drop(first);
        let again = Layout::open(dir.path(), None, None).unwrap();
        assert!(again.is_resumed);
        assert_eq!((again.nodes.len(), again.nodes[0].client_addr.as_str()), (5, "127.0.0.1:8001"));
        drop(again);
        let other = Layout::open(dir.path(), Some(3), None).err().unwrap();
        assert!(other.exit == Exit::Config && other.message.contains("--nodes 5, not 3"), "{}", other.message);
        let other = Layout::open(dir.path(), None, Some(7_001)).err().unwrap();
        assert!(other.message.contains("--base-port 8001, not 7001"), "{}", other.message);
    }

    #[test]
    fn two_supervisors_do_not_share_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let _first = Layout::open(dir.path(), None, None).unwrap();
        let second = Layout::open(dir.path(), None, None).err().unwrap();
        assert_eq!(second.exit, Exit::Locked);
        assert!(second.message.contains(&std::process::id().to_string()), "{}", second.message);
    }

    #[test]
    fn a_taken_port_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let Ok(base) = parse_base_port(&port.to_string()) else { return };
        let failure = Layout::open(dir.path(), Some(1), Some(base)).unwrap().require_free_ports().unwrap_err();
        assert_eq!(failure.exit, Exit::Unavailable);
        assert!(failure.message.contains(&format!("127.0.0.1:{port}")), "{}", failure.message);
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        assert!(parse_nodes("0").is_err() && parse_nodes("101").is_err() && parse_nodes("3").is_ok());
        assert!(parse_base_port("65237").is_err() && parse_base_port("65236").is_ok());
    }
}
