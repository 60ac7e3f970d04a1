//! What an entry says: its header, its keys, and one line for people.

use std::collections::BTreeSet;

use kontiki::cli::print::escape;
use kontiki::kv::{Command, Condition, Exec, Operation, Origin, Query, Set, SetCondition};
use kontiki::proto::entry::{self, Body};
use kontiki::raft::Configuration;
use serde::Serialize;

/// Values longer than this are cut in the line for people.
const SHOWN_BYTES: usize = 32;

/// A decoded entry.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Decoded {
    /// What the body is, in one word; `unreadable` when it does not decode.
    pub(crate) what: &'static str,
    /// Leader time in milliseconds since the Unix epoch.
    pub(crate) time_ms: Option<u64>,
    /// The session as `node/boot/number`, `opened/number` for those of `SESSION OPEN`.
    pub(crate) session: Option<String>,
    /// The command's number in its session.
    pub(crate) seq: Option<u64>,
    /// The keys it names, escaped.
    pub(crate) keys: Vec<String>,
    /// All of it in one line; long values are cut.
    pub(crate) text: String,
    /// The keys as they are.
    #[serde(skip)]
    pub(crate) raw_keys: Vec<Vec<u8>>,
}

/// Decodes the payload of an entry record.
pub(crate) fn decode(payload: &[u8]) -> Decoded {
    let entry = match entry::decode(payload) {
        Ok(entry) => entry,
        Err(error) => return Decoded::new("unreadable", None, None, error.to_string(), BTreeSet::new()),
    };
    let mut keys = BTreeSet::new();
    let (what, text) = match &entry.body {
        Body::Noop => ("noop", "NOOP".to_owned()),
        Body::Operation(Operation::Command(command)) => ("command", describe_command(command, &mut keys)),
        Body::Operation(Operation::Exec(exec)) => ("exec", describe_exec(exec, &mut keys)),
        Body::Configuration(configuration) => ("configuration", describe_configuration(configuration)),
        Body::Time => ("time", "TIME".to_owned()),
        Body::ClusterVersion(version) => ("cluster_version", format!("CLUSTER VERSION {version}")),
    };
    Decoded::new(what, Some(entry.time_ms), entry.origin, text, keys)
}

impl Decoded {
    fn new(
        what: &'static str,
        time_ms: Option<u64>,
        origin: Option<Origin>,
        text: String,
        keys: BTreeSet<Vec<u8>>,
    ) -> Decoded {
        let session = origin.map(|origin| match origin.session {
            session if session.node == 0 => format!("opened/{}", session.number),
            session => format!("{}/{:x}/{}", session.node, session.boot, session.number),
        });
        let shown = keys.iter().map(|key| escape(key)).collect();
        let raw_keys = keys.into_iter().collect();
        Decoded { what, time_ms, session, seq: origin.map(|origin| origin.seq), keys: shown, text, raw_keys }
    }
}

type Keys = BTreeSet<Vec<u8>>;

fn describe_command(command: &Command, keys: &mut Keys) -> String {
    match command {
        Command::Set(set) => describe_set(set, keys),
        Command::Append { key, value } => format!("APPEND {} {}", name(key, keys), shown(value)),
        Command::Delete { keys: deleted } => format!("DEL {}", names(deleted, keys)),
        Command::SetMany { pairs, only_if_none_exists } => {
            let verb = if *only_if_none_exists { "MSETNX" } else { "MSET" };
            let pairs = pairs.iter().map(|(key, value)| format!(" {} {}", name(key, keys), shown(value)));
            pairs.fold(verb.to_owned(), |text, pair| text + &pair)
        }
        Command::Increment { key, by } => format!("INCRBY {} {by}", name(key, keys)),
        Command::FlushAll => "FLUSHALL".to_owned(),
        Command::OpenSession => "SESSION OPEN".to_owned(),
        Command::CloseSessions { sessions } => format!("close {} sessions of connections", sessions.len()),
        Command::CloseOtherBoots { node, boot } => format!("close sessions of node {node} but boot {boot:x}"),
        Command::Query(query) => describe_query(query, keys),
    }
}

fn describe_set(set: &Set, keys: &mut Keys) -> String {
    let mut text = format!("SET {} {}", name(&set.key, keys), shown(&set.value));
    match &set.condition {
        SetCondition::Always => {}
        SetCondition::IfAbsent => text.push_str(" NX"),
        SetCondition::IfPresent => text.push_str(" XX"),
        SetCondition::IfEqual(value) => text.push_str(&format!(" IFEQ {}", shown(value))),
        SetCondition::IfNotEqual(value) => text.push_str(&format!(" IFNE {}", shown(value))),
        SetCondition::IfRevision(revision) => text.push_str(&format!(" IFREV {revision}")),
    }
    if set.return_old {
        text.push_str(" GET");
    }
    if let Some(deadline) = set.deadline_ms {
        text.push_str(&format!(" PXAT {deadline}"));
    }
    if set.keep_deadline {
        text.push_str(" KEEPTTL");
    }
    text
}

fn describe_exec(exec: &Exec, keys: &mut Keys) -> String {
    let conditions: Vec<String> = exec
        .conditions
        .iter()
        .map(|condition| match condition {
            Condition::Revision { key, revision } => format!("revision({}) = {revision}", name(key, keys)),
        })
        .collect();
    let commands: Vec<String> = exec.commands.iter().map(|command| describe_command(command, keys)).collect();
    let when = if conditions.is_empty() { String::new() } else { format!("IF {} ", conditions.join(" AND ")) };
    format!("EXEC {when}{{ {} }}", commands.join("; "))
}

fn describe_query(query: &Query, keys: &mut Keys) -> String {
    match query {
        Query::Get { key } => format!("GET {}", name(key, keys)),
        Query::GetMany { keys: asked } => format!("MGET {}", names(asked, keys)),
        Query::Exists { keys: asked } => format!("EXISTS {}", names(asked, keys)),
        Query::Length { key } => format!("STRLEN {}", name(key, keys)),
        Query::Type { key } => format!("TYPE {}", name(key, keys)),
        Query::GetRevision { key } => format!("GETREV {}", name(key, keys)),
        Query::Count => "DBSIZE".to_owned(),
        Query::Scan { after, count, pattern: _ } => {
            format!("SCAN after {} COUNT {count}", after.as_ref().map_or("-".to_owned(), |key| shown(key)))
        }
        Query::Keys { pattern } => format!("KEYS {}", shown(pattern)),
        Query::Range { start, end, limit, with_revision: _ } => {
            let bound =
                |bound: &Option<bytes::Bytes>, open: &str| bound.as_ref().map_or(open.to_owned(), |key| shown(key));
            format!("RANGE {} {} LIMIT {limit}", bound(start, "-"), bound(end, "+"))
        }
    }
}

fn describe_configuration(configuration: &Configuration) -> String {
    let members = configuration.members.iter().map(|(id, member)| {
        let role = if member.voter { "voter" } else { "learner" };
        let bound = member.storage_uuid.map_or("unbound".to_owned(), |uuid| format!("{uuid:032x}"));
        format!(" {id}={} {role} {bound};", member.peer_addr)
    });
    let joint = if configuration.outgoing.is_some() { " joint" } else { "" };
    members.fold(format!("MEMBERS history {:032x}{joint}", configuration.history), |text, member| text + &member)
}

fn name(key: &[u8], keys: &mut Keys) -> String {
    keys.insert(key.to_vec());
    shown(key)
}

fn names<'a>(asked: impl IntoIterator<Item = &'a bytes::Bytes>, keys: &mut Keys) -> String {
    asked.into_iter().map(|key| name(key, keys)).collect::<Vec<_>>().join(" ")
}

/// A key or value as a word: quoted unless it is plain, cut when it is long.
fn shown(bytes: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'\\');
    if bytes.len() > SHOWN_BYTES {
        return format!("\"{}\"… ({} B)", escape(&bytes[..SHOWN_BYTES]), bytes.len());
    }
    if !bytes.is_empty() && bytes.iter().all(plain) { escape(bytes) } else { format!("\"{}\"", escape(bytes)) }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kontiki::kv::SessionId;

    use super::*;

    fn encoded(body: &Body) -> Vec<u8> {
        entry::encode(body).to_vec()
    }

    #[test]
    fn a_command_is_told_in_one_line_with_its_keys_and_session() {
        let append = Command::Append { key: Bytes::from("log a"), value: Bytes::from(vec![b'x'; 100]) };
        let mut bytes = entry::encode(&Body::Operation(Operation::Command(append)));
        entry::stamp_time(&mut bytes, 1_700_000_000_000);
        let session = SessionId { node: 2, boot: 0xabc, number: 7 };
        entry::stamp_origin(&mut bytes, &Origin { session, seq: 9, previous: 8, first_unanswered: 9 });
        let decoded = decode(&bytes);
        assert_eq!(decoded.text, format!("APPEND \"log a\" \"{}\"… (100 B)", "x".repeat(32)));
        assert_eq!((decoded.what, decoded.time_ms), ("command", Some(1_700_000_000_000)));
        assert_eq!((decoded.session.as_deref(), decoded.seq), (Some("2/abc/7"), Some(9)));
        assert_eq!(decoded.raw_keys, [b"log a"]);
    }

    #[test]
    fn a_transaction_names_its_conditions_and_all_its_keys() {
        let exec = Exec {
            conditions: vec![Condition::Revision { key: Bytes::from("a"), revision: 7 }],
            commands: vec![
                Command::Delete { keys: vec![Bytes::from("b"), Bytes::from("c")] },
                Command::Increment { key: Bytes::from("n"), by: -1 },
            ],
        };
        let decoded = decode(&encoded(&Body::Operation(Operation::Exec(exec))));
        assert_eq!(decoded.text, "EXEC IF revision(a) = 7 { DEL b c; INCRBY n -1 }");
        assert_eq!(decoded.keys, ["a", "b", "c", "n"]);
    }

    #[test]
    fn what_does_not_decode_is_said_and_not_guessed() {
        let decoded = decode(b"no entry");
        assert_eq!(decoded.what, "unreadable");
        assert!(decoded.text.contains("8 bytes"), "{}", decoded.text);
        assert_eq!(decode(&encoded(&Body::Noop)).text, "NOOP");
    }
}
