//! INFO: sections of lines, with what clients and operators read from them.

use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;

use super::door::Door;
use super::local::REDIS_VERSION;
use super::raft_command;
use crate::proto::resp::Value;
use crate::runtime::{NodeStatus, Role};

/// A section's name, and what writes its lines.
type Section = (&'static str, fn(&mut String, &Door, &NodeStatus));

/// Every section, in order.
const SECTIONS: [Section; 9] = [
    ("Server", server),
    ("Clients", clients),
    ("Memory", memory),
    ("Persistence", persistence),
    ("Stats", stats),
    ("Replication", replication),
    ("Cluster", cluster),
    ("Keyspace", keyspace),
    ("Raft", raft),
];

/// `INFO [section …]`
pub(super) fn info(sections: &[Bytes], door: &Door) -> Value {
    let status: Arc<NodeStatus> = door.status();
    let is_all = sections.is_empty() || sections.iter().any(|section| is_every(section));
    let mut text = String::new();
    for (name, write_section) in SECTIONS {
        if is_all || sections.iter().any(|section| section.eq_ignore_ascii_case(name.as_bytes())) {
            let gap = if text.is_empty() { "" } else { "\r\n" };
            text.push_str(&format!("{gap}# {name}\r\n"));
            write_section(&mut text, door, &status);
        }
    }
    Value::Verbatim(text)
}

fn is_every(section: &[u8]) -> bool {
    [&b"all"[..], b"everything", b"default"].iter().any(|word| section.eq_ignore_ascii_case(word))
}

fn line(text: &mut String, name: &str, value: impl std::fmt::Display) {
    let written = write!(text, "{name}:{value}\r\n");
    assert!(written.is_ok(), "writing to a string does not fail");
}

fn server(text: &mut String, door: &Door, status: &NodeStatus) {
    let uptime_s = status.uptime_ms / 1000;
    line(text, "redis_version", REDIS_VERSION);
    line(text, "redis_mode", "standalone");
    line(text, "server_name", "kontiki");
    line(text, "kontiki_version", env!("CARGO_PKG_VERSION"));
    line(text, "os", std::env::consts::OS);
    line(text, "arch_bits", usize::BITS);
    line(text, "process_id", status.process_id);
    line(text, "run_id", format_args!("{}{:08x}", status.storage_uuid, status.process_id));
    line(text, "tcp_port", door.address.port());
    line(text, "uptime_in_seconds", uptime_s);
    line(text, "uptime_in_days", uptime_s / 86_400);
}

fn clients(text: &mut String, door: &Door, _: &NodeStatus) {
    line(text, "connected_clients", door.clients.count());
    line(text, "maxclients", door.max_clients());
    line(text, "blocked_clients", 0);
}

fn memory(text: &mut String, _: &Door, _: &NodeStatus) {
    let used_bytes = resident_bytes();
    line(text, "used_memory", used_bytes);
    line(text, "used_memory_human", human(used_bytes));
    line(text, "used_memory_rss", used_bytes);
    line(text, "used_memory_rss_human", human(used_bytes));
    line(text, "maxmemory", 0);
    line(text, "maxmemory_human", "0B");
    line(text, "maxmemory_policy", "noeviction");
}

fn persistence(text: &mut String, door: &Door, _: &NodeStatus) {
    line(text, "loading", u8::from((door.node.is_loading)()));
    line(text, "aof_enabled", 1);
}

fn stats(text: &mut String, door: &Door, _: &NodeStatus) {
    let totals = door.counters.totals();
    line(text, "total_connections_received", totals.connections);
    line(text, "total_commands_processed", totals.commands);
    line(text, "total_net_input_bytes", totals.input_bytes);
    line(text, "total_net_output_bytes", totals.output_bytes);
    line(text, "rejected_connections", totals.refused_connections);
    line(text, "total_error_replies", totals.errors);
}

fn replication(text: &mut String, _: &Door, status: &NodeStatus) {
    if status.role == Role::Leader {
        line(text, "role", "master");
    } else {
        let leader = status.members.iter().find(|member| Some(member.id) == status.leader_id);
        let address = leader.and_then(|leader| leader.client_addr.rsplit_once(':'));
        line(text, "role", "slave");
        line(text, "master_host", address.map_or("", |(host, _)| host));
        line(text, "master_port", address.map_or("0", |(_, port)| port));
        line(text, "master_link_status", if leader.is_some() { "up" } else { "down" });
    }
    let others = status.members.len().saturating_sub(1);
    line(text, "connected_slaves", if status.role == Role::Leader { others } else { 0 });
    line(text, "master_repl_offset", status.commit_index);
}

fn cluster(text: &mut String, _: &Door, _: &NodeStatus) {
    line(text, "cluster_enabled", 0);
}

fn keyspace(text: &mut String, _: &Door, status: &NodeStatus) {
    if status.keys > 0 {
        line(text, "db0", format_args!("keys={},expires=0,avg_ttl=0", status.keys));
    }
}

fn raft(text: &mut String, _: &Door, status: &NodeStatus) {
    // Clients that flatten all sections know `role` as that of replication: master or slave.
    let is_role_taken = text.contains("# Replication\r\n");
    for (name, value) in raft_command::fields(status) {
        let name = if name == "role" && is_role_taken { "raft_role" } else { name };
        match value {
            Value::Integer(number) => line(text, name, number),
            Value::Bulk(word) => line(text, name, String::from_utf8_lossy(&word)),
            _ => line(text, name, "null"),
        }
        if name == "snapshot_index" {
            line(text, "members", status.members.len());
            for (at, member) in status.members.iter().enumerate() {
                let known = |number: Option<u64>| number.map_or_else(|| "null".to_owned(), |number| number.to_string());
                let fields = format_args!(
                    "id={},peer_addr={},client_addr={},voter={},match_index={},last_contact_ms={}",
                    member.id,
                    member.peer_addr,
                    member.client_addr,
                    member.voter,
                    known(member.match_index),
                    known(member.last_contact_ms),
                );
                line(text, &format!("member{at}"), fields);
            }
        }
    }
}

/// Returns the memory this process has in RAM, mapped files included; 0 where the system does not tell.
fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|statm| statm.split(' ').nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}

/// Writes a size as Redis does: `1.50M`.
fn human(bytes: u64) -> String {
    let units = [(1 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
    for (unit_bytes, unit) in units {
        if bytes >= unit_bytes {
            let hundredths = bytes * 100 / unit_bytes;
            return format!("{}.{:02}{unit}", hundredths / 100, hundredths % 100);
        }
    }
    format!("{bytes}B")
}
