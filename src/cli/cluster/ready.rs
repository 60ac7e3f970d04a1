//! What is told once a leader serves: the table, the next steps, and the file that scripts wait for.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::super::exit::Failure;
use super::super::print::{self, Table};
use super::layout::Layout;
use crate::runtime::{NodeStatus, Role};

/// One node in the ready file.
#[derive(Serialize)]
struct ReadyNode<'a> {
    node: u64,
    role: Option<Role>,
    resp_addr: &'a str,
    peer_addr: &'a str,
    http_addr: &'a str,
    data_dir: &'a Path,
    log_file: &'a Path,
    process_id: Option<u32>,
}

/// The ready file: one JSON object.
#[derive(Serialize)]
struct Ready<'a> {
    process_id: u32,
    leader_id: Option<u64>,
    term: u64,
    nodes: Vec<ReadyNode<'a>>,
}

/// Removes the ready file of an earlier run.
pub(super) fn clear(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Failure::io("remove the old ready file", path, &error)),
    }
}

/// Writes the ready file, whole or not at all.
pub(super) fn write(path: &Path, layout: &Layout, seen: &[Option<NodeStatus>]) -> Result<(), Failure> {
    let leader = leader(seen);
    let nodes = layout.nodes.iter().zip(seen).map(|(node, status)| ReadyNode {
        node: node.id,
        role: status.as_ref().map(|status| status.role),
        resp_addr: &node.client_addr,
        peer_addr: &node.peer_addr,
        http_addr: &node.http_addr,
        data_dir: &node.data_dir,
        log_file: &node.log_file,
        process_id: status.as_ref().map(|status| status.process_id),
    });
    let ready = Ready {
        process_id: std::process::id(),
        leader_id: leader.map(|leader| leader.node_id),
        term: leader.map_or(0, |leader| leader.term),
        nodes: nodes.collect(),
    };
    replace(path, format!("{}\n", print::to_json(&ready)).as_bytes())
}

/// Replaces a small file by a rename, so that nobody reads half of it.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    fs::write(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(|error| Failure::io("write", path, &error))
}

/// Returns the leader of the newest term, as it says itself.
pub(super) fn leader(seen: &[Option<NodeStatus>]) -> Option<&NodeStatus> {
    seen.iter().flatten().filter(|status| status.role == Role::Leader).max_by_key(|status| status.term)
}

/// Returns the table of nodes.
pub(super) fn table(layout: &Layout, seen: &[Option<NodeStatus>], colour: bool) -> String {
    let mut table = Table::new(&["NODE", "ROLE", "RESP", "HTTP", "DATA DIRECTORY"]);
    for (node, status) in layout.nodes.iter().zip(seen) {
        table.row(vec![
            node.id.to_string(),
            status.as_ref().map_or("down", |status| status.role.name()).to_owned(),
            node.client_addr.clone(),
            format!("http://{}", node.http_addr),
            node.data_dir.display().to_string(),
        ]);
    }
    table.render(colour)
}

/// Returns what stands above the table.
pub(super) fn headline(layout: &Layout, seen: &[Option<NodeStatus>]) -> String {
    let keys = leader(seen).map_or(0, |leader| leader.keys);
    let state = if layout.is_resumed { format!("resumed with {keys} keys") } else { "new".to_owned() };
    format!(
        "kontiki {} · {} durable node{} in {} ({state})\n\n",
        env!("CARGO_PKG_VERSION"),
        layout.nodes.len(),
        if layout.nodes.len() == 1 { "" } else { "s" },
        layout.dir.display()
    )
}

/// Returns what to try next.
pub(super) fn next_steps(layout: &Layout, has_password: bool) -> String {
    let ports: Vec<&str> = layout.nodes.iter().map(|node| port(&node.client_addr)).collect();
    let (first, second) = (ports[0], ports[ports.len().min(2) - 1]);
    let mut reach = String::new();
    let mut http = String::new();
    if !layout.is_default() {
        reach.push_str(&format!(" --endpoints 127.0.0.1:{}", ports.join(",")));
        let ports: Vec<&str> = layout.nodes.iter().map(|node| port(&node.http_addr)).collect();
        http.push_str(&format!(" --http 127.0.0.1:{}", ports.join(",")));
    }
    if layout.dir != Path::new("kontiki-data") {
        reach.push_str(&format!(" --tls-dir {}", layout.certs_dir().display()));
    }
    let (ask, user) = if has_password { (" --askpass", " -u :PASSWORD") } else { ("", "") };
    format!(
        "\nTry next:\n  redis-cli -p {first}{ask} SET greeting hello\n  redis-cli -p {second}{ask} GET greeting\n  \
         kontiki append log entry{reach}\n  kontiki status --watch{http}\n  curl{user} http://{}/status\n\n\
         Ctrl-C stops all nodes; the same command resumes with all data.\n\n",
        layout.nodes[0].http_addr
    )
}

fn port(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(_, port)| port)
}
