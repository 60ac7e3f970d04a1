//! Peer frames: every message comes back, the bytes are pinned, and no damaged frame does harm.

#![allow(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::too_many_lines,
    reason = "a failed unwrap is a failed test; tables are long"
)]

use std::collections::{BTreeMap, BTreeSet};

use bytes::BytesMut;
use proptest::prelude::*;

use crate::proto::entry::{self, Body};
use crate::raft::{ClusterLimits, Configuration, EntrySpan, Member};

use super::*;

const LIMIT: usize = 1 << 20;

fn bytes_of(chunks: &[Bytes]) -> BytesMut {
    BytesMut::from(chunks.concat().as_slice())
}

fn through_the_wire(message: &PeerMessage) -> PeerMessage {
    let mut cutter = FrameCutter::new(LIMIT);
    cutter.push(bytes_of(&encode(message)).freeze());
    let frame = cutter.take_frame().unwrap().unwrap();
    assert_eq!(cutter.take_frame(), Ok(None));
    decode(frame).unwrap()
}

fn configuration() -> Configuration {
    let member = Member { peer_addr: "h:1".into(), client_addr: "h:2".into(), storage_uuid: Some(7), voter: true };
    Configuration {
        history: 9,
        limits: ClusterLimits::default(),
        members: BTreeMap::from([(NodeId(1), member)]),
        outgoing: Some(BTreeSet::from([NodeId(1)])),
    }
}

fn append(prev: LogId, terms: Vec<(Term, u32)>, payloads: Vec<Bytes>) -> PeerMessage {
    let configurations = payloads
        .iter()
        .enumerate()
        .filter(|(_, payload)| payload.get(1) == Some(&3))
        .map(|(at, _)| (Index(prev.index.0 + 1 + at as u64), configuration()))
        .collect();
    let sizes = payloads.iter().map(|payload| payload.len() as u32).collect();
    let entries = EntrySpan { terms, sizes, configurations };
    let term = Term(COUNTER);
    PeerMessage::Raft { message: Message::Append { term, prev, entries, commit: Index(4), read: 5 }, payloads }
}

/// The largest term, so that no generated entry is newer than the append.
const COUNTER: u64 = u64::MAX >> 1;

fn counter() -> impl Strategy<Value = u64> {
    prop_oneof![0..4_u64, 0..=COUNTER]
}

fn any_log_id() -> impl Strategy<Value = LogId> {
    (counter(), counter()).prop_map(|(term, index)| LogId { term: Term(term), index: Index(index) })
}

fn any_payload() -> impl Strategy<Value = Bytes> {
    let raw = proptest::collection::vec(any::<u8>(), 0..1500).prop_map(|mut raw| {
        if raw.get(1) == Some(&3) {
            raw[1] = 1;
        }
        Bytes::from(raw)
    });
    prop_oneof![
        8 => raw,
        1 => Just(entry::encode(&Body::Configuration(configuration())).freeze()),
    ]
}

fn any_append() -> impl Strategy<Value = PeerMessage> {
    let run = (1..1000_u64, proptest::collection::vec(any_payload(), 1..6));
    (0..1000_u64, 0..1000_u64, proptest::collection::vec(run, 0..4)).prop_map(|(prev_term, prev_index, runs)| {
        let mut newest = prev_term;
        let mut terms = Vec::new();
        let mut payloads = Vec::new();
        for (step, run) in runs {
            newest += step;
            terms.push((Term(newest), run.len() as u32));
            payloads.extend(run);
        }
        append(LogId { term: Term(prev_term), index: Index(prev_index) }, terms, payloads)
    })
}

fn any_reply() -> impl Strategy<Value = Reply> {
    let leaf = prop_oneof![
        Just(Reply::Ok),
        Just(Reply::Nil),
        any::<i64>().prop_map(Reply::Integer),
        proptest::collection::vec(any::<u8>(), 0..2000).prop_map(|raw| Reply::Bulk(raw.into())),
        Just(Reply::Simple(Bytes::from_static(b"string"))),
    ];
    leaf.prop_recursive(4, 24, 6, |inner| proptest::collection::vec(inner, 0..6).prop_map(Reply::Array))
}

fn any_message() -> impl Strategy<Value = PeerMessage> {
    let raft = prop_oneof![
        (counter(), any_log_id()).prop_map(|(t, last)| Message::PreVote { term: Term(t), last }),
        (counter(), any_log_id(), any::<bool>()).prop_map(|(t, last, transfer)| Message::Vote {
            term: Term(t),
            last,
            transfer
        }),
        (counter(), any::<bool>()).prop_map(|(t, granted)| Message::PreVoteReply { term: Term(t), granted }),
        (counter(), any::<bool>()).prop_map(|(t, granted)| Message::VoteReply { term: Term(t), granted }),
        (counter(), counter(), counter()).prop_map(|(t, index, read)| Message::AppendReply {
            term: Term(t),
            outcome: AppendOutcome::Matched(Index(index)),
            read
        }),
        (counter(), counter(), counter(), any_log_id()).prop_map(|(t, rejected, read, hint)| Message::AppendReply {
            term: Term(t),
            outcome: AppendOutcome::Rejected { rejected: Index(rejected), hint },
            read
        }),
        (counter(), counter(), counter()).prop_map(|(t, commit, read)| Message::Heartbeat {
            term: Term(t),
            commit: Index(commit),
            read
        }),
        (counter(), counter()).prop_map(|(t, read)| Message::HeartbeatReply { term: Term(t), read }),
        (counter(), counter()).prop_map(|(t, id)| Message::ReadIndex { term: Term(t), id }),
        (counter(), counter(), proptest::option::of(counter())).prop_map(|(t, id, index)| Message::ReadIndexReply {
            term: Term(t),
            id,
            index: index.map(Index)
        }),
        counter().prop_map(|t| Message::TimeoutNow { term: Term(t) }),
    ];
    let outcome = prop_oneof![
        (counter(), any_reply()).prop_map(|(index, reply)| ForwardOutcome::Applied { index: Index(index), reply }),
        proptest::option::of(1..=u64::MAX).prop_map(|id| ForwardOutcome::NotLeader { leader: id.map(NodeId) }),
        Just(ForwardOutcome::Refused(Refusal::NoSpace)),
        Just(ForwardOutcome::Lost),
    ];
    prop_oneof![
        raft.prop_map(|message| PeerMessage::Raft { message, payloads: Vec::new() }),
        any_append(),
        (counter(), any_payload()).prop_map(|(request, entry)| PeerMessage::Forward { request, entry }),
        (counter(), outcome).prop_map(|(request, outcome)| PeerMessage::ForwardReply { request, outcome }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn every_message_comes_back(message in any_message()) {
        prop_assert_eq!(through_the_wire(&message), message);
    }

    /// A damaged frame is an error or another message that encodes to exactly those bytes; there is no third way.
    #[test]
    fn damaged_frames_are_refused_or_mean_something_else(
        message in any_message(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut buffer = bytes_of(&encode(&message)).split_off(4);
        for (at, value) in damage {
            let at = at.index(buffer.len().min(96)); // Mostly the head, where the lengths are.
            buffer[at] = value;
        }
        let damaged = buffer.freeze();
        if let Ok(other) = decode(damaged.clone()) {
            prop_assert_eq!(bytes_of(&encode(&other)).split_off(4), damaged);
        }
    }

    #[test]
    fn cut_frames_are_refused(message in any_message(), cut in any::<prop::sample::Index>()) {
        let whole = bytes_of(&encode(&message)).split_off(4).freeze();
        prop_assert!(decode(whole.slice(..cut.index(whole.len()))).is_err());
    }

    #[test]
    fn noise_does_no_harm(noise in proptest::collection::vec(any::<u8>(), 1..200)) {
        let _may_be_anything = decode(noise.clone().into());
        let _may_be_anything = Hello::decode(noise.clone().into());
        let _may_be_anything = HelloAck::decode(noise.into());
    }
}

fn hello() -> Hello {
    Hello {
        version_min: 1,
        version_max: 2,
        cluster_id: 0x0102,
        history: 0,
        node: NodeId(3),
        storage_uuid: 0x0304,
        boot: 5,
        client_addr: "h:1".into(),
    }
}

fn hex(chunks: &[Bytes]) -> String {
    chunks.concat().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes that members of other versions rely on. A change here is a new protocol version.
#[test]
fn golden_bytes() {
    let word = |value: u64| -> String { value.to_le_bytes().iter().map(|byte| format!("{byte:02x}")).collect() };
    let raft = |message| encode(&PeerMessage::Raft { message, payloads: Vec::new() });
    let last = LogId { term: Term(2), index: Index(3) };

    assert_eq!(
        hex(&raft(Message::Vote { term: Term(1), last, transfer: true })),
        format!("1a00000012{}{}{}01", word(1), word(2), word(3))
    );
    assert_eq!(hex(&raft(Message::VoteReply { term: Term(1), granted: true })), format!("0a00000013{}01", word(1)));
    assert_eq!(
        hex(&raft(Message::Heartbeat { term: Term(1), commit: Index(2), read: 3 })),
        format!("1900000016{}{}{}", word(1), word(2), word(3))
    );
    let outcome = AppendOutcome::Rejected { rejected: Index(9), hint: last };
    assert_eq!(
        hex(&raft(Message::AppendReply { term: Term(1), outcome, read: 4 })),
        format!("2a00000015{}{}01{}{}{}", word(1), word(4), word(9), word(2), word(3))
    );
    let entries =
        append(last, vec![(Term(2), 1), (Term(4), 1)], vec![Bytes::from_static(b"a"), Bytes::from_static(b"bc")]);
    assert_eq!(
        hex(&encode(&entries)),
        format!(
            "5400000014{}{}{}{}{}0200000002000000{}01000000{}010000000100000002000000616263",
            word(COUNTER),
            word(2),
            word(3),
            word(4),
            word(5),
            word(2),
            word(4)
        )
    );
    assert_eq!(
        hex(&encode(&PeerMessage::Forward { request: 6, entry: Bytes::from_static(b"e") })),
        format!("0e00000030{}0100000065", word(6))
    );
    let reply = Reply::Array(vec![Reply::Integer(1), Reply::Bulk(Bytes::from_static(b"v")), Reply::Nil]);
    assert_eq!(
        hex(&encode(&PeerMessage::ForwardReply {
            request: 6,
            outcome: ForwardOutcome::Applied { index: Index(7), reply }
        })),
        format!("2700000031{}00{}050300000002{}03010000007601", word(6), word(7), word(1))
    );
    let said = format!(
        "4b4e544b01000200{}{}{}{}{}{}{}{}0300000068 3a31",
        word(0x0102),
        word(0),
        word(0),
        word(0),
        word(3),
        word(0x0304),
        word(0),
        word(5)
    )
    .replace(' ', "");
    assert_eq!(hex(&hello().encode()), format!("5000000001{said}"));
    assert_eq!(hex(&HelloAck { version: 1, hello: hello() }.encode()), format!("52000000020100{said}"));
}

#[test]
fn hellos_come_back_and_are_told_from_other_frames() {
    let frame = |chunks: Vec<Bytes>| bytes_of(&chunks).split_off(4).freeze();
    let ack = HelloAck { version: 1, hello: hello() };
    assert_eq!(Hello::decode(frame(hello().encode())), Ok(hello()));
    assert_eq!(HelloAck::decode(frame(ack.encode())), Ok(ack.clone()));
    assert_eq!(Hello::decode(frame(ack.encode())), Err(WireError::Type { found: 2 }));
    assert_eq!(HelloAck::decode(frame(hello().encode())), Err(WireError::Type { found: 1 }));
    assert_eq!(decode(frame(hello().encode())), Err(WireError::Type { found: 1 }), "no second hello");
    assert_eq!(
        Hello::decode(frame(Hello { node: NodeId(0), ..hello() }.encode())),
        Err(WireError::Value { field: "node" })
    );
}

#[test]
fn versions_meet_at_the_newest_that_both_speak() {
    let speaks = |version_min, version_max| Hello { version_min, version_max, ..hello() };
    assert_eq!(speaks(1, 3).common_version(&speaks(2, 5)), Some(3));
    assert_eq!(speaks(1, 1).common_version(&speaks(1, 1)), Some(1));
    assert_eq!(speaks(1, 1).common_version(&speaks(2, 2)), None);
}

/// One line a lie: what a broken or hostile member may claim about its entries.
#[test]
fn lying_appends_are_refused() {
    let at = |term, index| LogId { term: Term(term), index: Index(index) };
    let one = || vec![Bytes::from_static(b"xyz")];
    let refused = |message: &PeerMessage| decode(bytes_of(&encode(message)).split_off(4).freeze()).unwrap_err();
    let value = |field| WireError::Value { field };

    assert_eq!(refused(&append(at(5, 1), vec![(Term(4), 1)], one())), value("runs"), "older than prev");
    assert_eq!(refused(&append(at(1, 1), vec![(Term(2), 2)], one())), value("runs"), "more than there are");
    assert_eq!(refused(&append(at(1, 1), vec![], one())), value("runs"), "entries without a term");
    assert_eq!(refused(&append(at(1, COUNTER), vec![(Term(2), 1)], one())), value("entries"), "index overflow");
    let mut two = append(at(1, 1), vec![(Term(3), 1), (Term(3), 1)], vec![Bytes::new(), Bytes::new()]);
    assert_eq!(refused(&two), value("runs"), "a run split in two");
    if let PeerMessage::Raft { message: Message::Append { term, entries, .. }, .. } = &mut two {
        *term = Term(2);
        entries.terms = vec![(Term(3), 2)];
    }
    assert_eq!(refused(&two), value("runs"), "newer than its leader");
    let not_a_configuration = vec![Bytes::from_static(b"\x01\x03garbage")];
    assert_eq!(refused(&append(at(1, 1), vec![(Term(2), 1)], not_a_configuration)), value("configuration entry"));
}
