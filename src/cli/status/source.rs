//! Where a status comes from: a node's HTTP door, or `RAFT STATUS` at its door for clients.

use std::time::Duration;

use serde_json::{Map, Value as Json};
use thiserror::Error;

use super::super::http::{self, HttpError};
use super::super::resp::{RespClient, RespError, Value};
use crate::runtime::{NodeStatus, Password};

/// Which doors are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    Http,
    Client,
}

/// Why a node did not tell its status.
#[derive(Debug, Error)]
pub(super) enum SourceError {
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error(transparent)]
    Resp(#[from] RespError),
    #[error("no answer within {} ms", .0.as_millis())]
    Late(Duration),
    #[error("{0}")]
    Refused(String),
    #[error("not a status of kontiki")]
    Strange,
}

impl SourceError {
    /// Returns whether the node wants a password, or another one.
    pub(super) fn is_unauthorized(&self) -> bool {
        match self {
            SourceError::Http(HttpError::Status(status)) => *status == 401,
            SourceError::Refused(text) | SourceError::Resp(RespError::Refused(text)) => {
                ["NOAUTH", "WRONGPASS", "ERR AUTH"].iter().any(|start| text.starts_with(start))
            }
            SourceError::Http(_) | SourceError::Resp(_) | SourceError::Late(_) | SourceError::Strange => false,
        }
    }
}

/// Asks one node.
pub(super) async fn ask(
    door: Door,
    address: &str,
    password: Option<&Password>,
    deadline: Duration,
) -> Result<NodeStatus, SourceError> {
    match door {
        Door::Http => Ok(http::status(address, password, deadline).await?),
        Door::Client => {
            let asked = tokio::time::timeout(deadline, raft_status(address, password));
            asked.await.map_err(|_| SourceError::Late(deadline))?
        }
    }
}

async fn raft_status(address: &str, password: Option<&Password>) -> Result<NodeStatus, SourceError> {
    let mut client = RespClient::connect(address, password).await?;
    match client.call(&[b"RAFT", b"STATUS"]).await? {
        Value::Error(text) => Err(SourceError::Refused(text)),
        reply => from_reply(&reply).ok_or(SourceError::Strange),
    }
}

/// Makes a status of a map as RESP2 has it: a flat array of names and values.
fn from_reply(reply: &Value) -> Option<NodeStatus> {
    serde_json::from_value(object(reply)?).ok()
}

fn object(reply: &Value) -> Option<Json> {
    let Value::Array(flat) = reply else { return None };
    let mut fields = Map::new();
    for pair in flat.chunks_exact(2) {
        let Value::Bulk(name) = &pair[0] else { return None };
        let name = String::from_utf8(name.clone()).ok()?;
        let value = match &pair[1] {
            // The only list there is: the members, each a map.
            Value::Array(items) => Json::Array(items.iter().map(object).collect::<Option<_>>()?),
            Value::Integer(number) => Json::from(*number),
            Value::Nil => Json::Null,
            Value::Bulk(text) => word(&name, String::from_utf8(text.clone()).ok()?),
            Value::Simple(text) => word(&name, text.clone()),
            Value::Error(_) => return None,
        };
        fields.insert(name, value);
    }
    Some(Json::Object(fields))
}

/// RESP2 has no booleans: those two fields are words there.
fn word(name: &str, text: String) -> Json {
    match (name, text.as_str()) {
        ("voter" | "joint", "true") => Json::Bool(true),
        ("voter" | "joint", "false") => Json::Bool(false),
        _ => Json::String(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Bulk(text.as_bytes().to_vec())
    }

    fn map(fields: Vec<(&str, Value)>) -> Value {
        Value::Array(fields.into_iter().flat_map(|(name, value)| [text(name), value]).collect())
    }

    #[test]
    fn a_map_of_resp2_is_a_status() {
        let member = map(vec![
            ("id", Value::Integer(2)),
            ("peer_addr", text("p:1")),
            ("client_addr", text("")),
            ("voter", text("true")),
            ("match_index", Value::Nil),
            ("last_contact_ms", Value::Integer(3)),
        ]);
        let words = [("role", "follower"), ("storage_state", "ok"), ("joint", "false"), ("cluster_id", "c")];
        let numbers = [
            "node_id",
            "term",
            "commit_index",
            "applied_index",
            "first_log_index",
            "last_log_index",
            "snapshot_index",
            "keys",
            "sync_p99_us",
            "elections_total",
            "repaired_entries",
            "process_id",
            "uptime_ms",
        ];
        let mut fields = vec![("leader_id", Value::Nil), ("members", Value::Array(vec![member]))];
        fields.extend(words.map(|(name, value)| (name, text(value))));
        fields.extend([("storage_uuid", text("u")), ("state_hash", text("h"))]);
        fields.extend(numbers.map(|name| (name, Value::Integer(7))));
        let status = from_reply(&map(fields.clone())).unwrap();
        assert_eq!((status.node_id, status.leader_id, status.joint), (7, None, false));
        assert!(status.members[0].voter && status.members[0].match_index.is_none());
        fields.pop();
        assert!(from_reply(&map(fields)).is_none(), "a field is missing");
    }
}
