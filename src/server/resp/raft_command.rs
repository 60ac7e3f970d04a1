//! RAFT: the cluster as this node sees it.

use crate::proto::resp::Value;
use crate::runtime::{MemberStatus, NodeStatus};

/// Returns the fields of `/status` by name, in its order; all but the members.
pub(super) fn fields(status: &NodeStatus) -> Vec<(&'static str, Value)> {
    let number = |value: u64| Value::Integer(i64::try_from(value).unwrap_or(i64::MAX));
    let truth = |value: bool| Value::text(if value { "true" } else { "false" });
    vec![
        ("node_id", number(status.node_id)),
        ("cluster_id", Value::text(&status.cluster_id)),
        ("storage_uuid", Value::text(&status.storage_uuid)),
        ("role", Value::text(status.role.name())),
        ("term", number(status.term)),
        ("leader_id", status.leader_id.map_or(Value::Null, number)),
        ("commit_index", number(status.commit_index)),
        ("applied_index", number(status.applied_index)),
        ("first_log_index", number(status.first_log_index)),
        ("last_log_index", number(status.last_log_index)),
        ("snapshot_index", number(status.snapshot_index)),
        ("joint", truth(status.joint)),
        ("storage_state", Value::text(status.storage_state.name())),
        ("state_hash", Value::text(&status.state_hash)),
        ("keys", number(status.keys)),
        ("sync_p99_us", number(status.sync_p99_us)),
        ("elections_total", number(status.elections_total)),
        ("repaired_entries", number(status.repaired_entries)),
        ("process_id", number(status.process_id.into())),
        ("uptime_ms", number(status.uptime_ms)),
    ]
}

/// `RAFT STATUS`: the fields of `/status`, as a map.
pub(super) fn status(status: &NodeStatus) -> Value {
    let mut pairs: Vec<(Value, Value)> =
        fields(status).into_iter().map(|(name, value)| (Value::text(name), value)).collect();
    let members = status.members.iter().map(|member| {
        let fields = member_fields(member).into_iter().map(|(name, value)| (Value::text(name), value));
        Value::Map(fields.collect())
    });
    // Where `/status` has them: before `joint`.
    pairs.insert(11, (Value::text("members"), Value::Array(members.collect())));
    Value::Map(pairs)
}

/// `RAFT MEMBERS`: arrays of id, peer address, client address, `voter` or `learner`, match index.
pub(super) fn members(status: &NodeStatus) -> Value {
    let rows = status.members.iter().map(|member| {
        Value::Array(vec![
            Value::Integer(i64::try_from(member.id).unwrap_or(i64::MAX)),
            Value::text(&member.peer_addr),
            Value::text(&member.client_addr),
            Value::text(if member.voter { "voter" } else { "learner" }),
            optional_number(member.match_index),
        ])
    });
    Value::Array(rows.collect())
}

fn member_fields(member: &MemberStatus) -> [(&'static str, Value); 6] {
    [
        ("id", Value::Integer(i64::try_from(member.id).unwrap_or(i64::MAX))),
        ("peer_addr", Value::text(&member.peer_addr)),
        ("client_addr", Value::text(&member.client_addr)),
        ("voter", Value::text(if member.voter { "true" } else { "false" })),
        ("match_index", optional_number(member.match_index)),
        ("last_contact_ms", optional_number(member.last_contact_ms)),
    ]
}

fn optional_number(number: Option<u64>) -> Value {
    number.map_or(Value::Null, |number| Value::Integer(i64::try_from(number).unwrap_or(i64::MAX)))
}
