//! Every variant of every entry has golden bytes: a change of them is a change of the log's format.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use bytes::Bytes;

use super::*;
use crate::kv::{Command, Condition, Exec, Query, Set, SetCondition};
use crate::raft::{ClusterLimits, Member, NodeId};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/proto/testscripts/entries.golden");

fn b(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn set(condition: SetCondition) -> Command {
    Command::Set(Set {
        key: b("k"),
        value: b("v"),
        condition,
        return_old: false,
        deadline_ms: None,
        keep_deadline: false,
    })
}

/// A match without wildcard: a new variant does not compile until it is here, and then asks for its golden bytes.
fn command_name(command: &Command) -> &'static str {
    match command {
        Command::Set(set) => match set.condition {
            SetCondition::Always => "set",
            SetCondition::IfAbsent => "set-if-absent",
            SetCondition::IfPresent => "set-if-present",
            SetCondition::IfEqual(_) => "set-if-equal",
            SetCondition::IfNotEqual(_) => "set-if-not-equal",
            SetCondition::IfRevision(_) => "set-if-revision",
        },
        Command::Append { .. } => "append",
        Command::Delete { .. } => "delete",
        Command::SetMany { .. } => "set-many",
        Command::Increment { .. } => "increment",
        Command::FlushAll => "flush-all",
        Command::OpenSession => "open-session",
        Command::CloseSessions { .. } => "close-sessions",
        Command::CloseOtherBoots { .. } => "close-other-boots",
        Command::Query(query) => match query {
            Query::Get { .. } => "query-get",
            Query::GetMany { .. } => "query-get-many",
            Query::Exists { .. } => "query-exists",
            Query::Length { .. } => "query-length",
            Query::Type { .. } => "query-type",
            Query::GetRevision { .. } => "query-get-revision",
            Query::Count => "query-count",
            Query::Keys { .. } => "query-keys",
            Query::Range { .. } => "query-range",
            Query::Scan { .. } => "query-scan",
        },
    }
}

fn commands() -> Vec<Command> {
    let session = SessionId { node: 1, boot: 2, number: 3 };
    let queries = [
        Query::Get { key: b("k") },
        Query::GetMany { keys: vec![b("a"), b("b")] },
        Query::Exists { keys: vec![b("a")] },
        Query::Length { key: b("k") },
        Query::Type { key: b("k") },
        Query::GetRevision { key: b("k") },
        Query::Count,
        Query::Keys { pattern: b("*") },
        Query::Range { start: Some(b("a")), end: None, limit: 7, with_revision: true },
        Query::Scan { after: None, count: 10, pattern: Some(b("a*")) },
    ];
    let commands = [
        set(SetCondition::Always),
        set(SetCondition::IfAbsent),
        set(SetCondition::IfPresent),
        set(SetCondition::IfEqual(b("old"))),
        set(SetCondition::IfNotEqual(b("old"))),
        set(SetCondition::IfRevision(9)),
        Command::Append { key: b("k"), value: b("v") },
        Command::Delete { keys: vec![b("a"), b("b")] },
        Command::SetMany { pairs: vec![(b("a"), b("1"))], only_if_none_exists: true },
        Command::Increment { key: b("k"), by: -2 },
        Command::FlushAll,
        Command::OpenSession,
        Command::CloseSessions { sessions: vec![session] },
        Command::CloseOtherBoots { node: 1, boot: 2 },
    ];
    commands.into_iter().chain(queries.into_iter().map(Command::Query)).collect()
}

fn configuration() -> Configuration {
    let member = Member {
        peer_addr: "127.0.0.1:7101".into(),
        client_addr: String::new(),
        storage_uuid: Some(0x0102),
        voter: true,
    };
    Configuration {
        history: 0xAA,
        limits: ClusterLimits { value_bytes_max: 0x0A0B, entry_bytes_max: 0x0C0D },
        members: BTreeMap::from([(NodeId(1), member)]),
        outgoing: Some(BTreeSet::from([NodeId(2)])),
    }
}

fn origin() -> Origin {
    Origin {
        session: SessionId { node: 1, boot: 0x0203_0405_0607_0809, number: 4 },
        seq: 5,
        previous: 4,
        first_unanswered: 3,
    }
}

fn cases() -> Vec<(String, Body)> {
    let mut cases: Vec<(String, Body)> = commands()
        .into_iter()
        .map(|command| (command_name(&command).to_string(), Body::Operation(Operation::Command(command))))
        .collect();
    let exec = Exec {
        conditions: vec![Condition::Revision { key: b("k"), revision: 8 }],
        commands: vec![Command::FlushAll, Command::OpenSession],
    };
    cases.push(("exec".into(), Body::Operation(Operation::Exec(exec))));
    cases.push(("noop".into(), Body::Noop));
    cases.push(("time".into(), Body::Time));
    cases.push(("configuration".into(), Body::Configuration(configuration())));
    cases.push(("cluster-version".into(), Body::ClusterVersion(2)));
    cases
}

/// The recorded bytes are what logs on disks hold: `KONTIKI_REWRITE=1` may add lines for new variants, never change one.
#[test]
fn every_variant_has_the_recorded_bytes() {
    let mut actual = String::new();
    for (name, body) in cases() {
        let mut entry = encode(&body);
        let at_once = entry.capacity();
        stamp_time(&mut entry, 0x1122_3344);
        if name == "set" {
            stamp_origin(&mut entry, &origin());
        }
        assert_eq!(entry.len(), at_once, "{name}: encoding sizes its buffer exactly");
        let hex = entry.iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        });
        writeln!(actual, "{name} {hex}").unwrap();
    }
    if std::env::var_os("KONTIKI_REWRITE").is_some() {
        std::fs::write(GOLDEN, &actual).unwrap();
    }
    let recorded = std::fs::read_to_string(GOLDEN).unwrap();
    for (actual, recorded) in actual.lines().zip(recorded.lines()) {
        assert_eq!(actual, recorded);
    }
    assert_eq!(actual.lines().count(), recorded.lines().count());
}

#[test]
fn what_was_encoded_decodes_to_itself() {
    for (name, body) in cases() {
        let mut entry = encode(&body);
        assert_eq!(decode(&entry).unwrap(), Entry { time_ms: 0, origin: None, body: body.clone() }, "{name}");
        stamp_time(&mut entry, 77);
        stamp_origin(&mut entry, &origin());
        assert_eq!(decode(&entry).unwrap(), Entry { time_ms: 77, origin: Some(origin()), body }, "{name}");
        let header = header(&entry).unwrap();
        assert_eq!((header.time_ms, header.origin), (77, Some(origin())));
    }
}

/// The leader stamps its own entries over whatever a forwarding node wrote.
#[test]
fn a_second_stamp_replaces_the_first() {
    let mut entry = encode(&Body::Time);
    stamp_origin(&mut entry, &origin());
    let other = Origin { seq: 6, ..origin() };
    stamp_origin(&mut entry, &other);
    assert_eq!(header(&entry).unwrap().origin, Some(other));
}

#[test]
fn each_unknown_or_malformed_header_has_its_error() {
    let change = |at: usize, byte: u8| {
        let mut entry = encode(&Body::ClusterVersion(1));
        entry[at] = byte;
        decode(&entry).unwrap_err()
    };
    assert!(matches!(change(0, 2), EntryError::UnknownVersion(2)));
    assert!(matches!(change(1, 6), EntryError::UnknownKind(6)));
    assert!(matches!(change(2, 0), EntryError::UnknownCodec { codec: 0, kind: Kind::ClusterVersion }));
    assert!(matches!(change(2, 2), EntryError::UnknownCodec { codec: 2, .. }));
    assert!(matches!(change(3, 2), EntryError::MalformedHeader));
    for reserved in 4..8 {
        assert!(matches!(change(reserved, 1), EntryError::MalformedHeader));
    }
    for origin_without_flag in 16..64 {
        assert!(matches!(change(origin_without_flag, 1), EntryError::MalformedHeader));
    }
    assert!(matches!(change(1, 1), EntryError::MalformedBody { kind: Kind::Command, .. }));
    assert!(matches!(change(1, 0), EntryError::UnknownCodec { codec: codec::BINCODE_1, kind: Kind::Noop }));
    let mut entry = encode(&Body::Time);
    entry.extend_from_slice(&[0]);
    assert!(matches!(decode(&entry), Err(EntryError::UnexpectedBody { kind: Kind::Time, bytes: 1 })));
    assert!(matches!(decode(&entry[..63]), Err(EntryError::Short { bytes: 63 })));
}

/// A cut or padded entry must be refused at every length, never half understood.
#[test]
fn no_prefix_and_no_extension_of_an_entry_decodes() {
    for (name, body) in cases() {
        let entry = encode(&body);
        for cut in 0..entry.len() {
            assert!(decode(&entry[..cut]).is_err(), "{name} cut to {cut}");
        }
        let mut longer = entry.to_vec();
        longer.push(0);
        assert!(decode(&longer).is_err(), "{name} with a byte more");
    }
}

/// Flipping any bit may give another entry, never a panic.
#[test]
fn every_flipped_bit_is_survived() {
    for (_, body) in cases() {
        let entry = encode(&body);
        for bit in 0..entry.len() * 8 {
            let mut flipped = entry.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            drop(decode(&flipped));
        }
    }
}
