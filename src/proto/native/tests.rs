//! Native frames: everything comes back, the bytes are pinned, and damage does no harm.

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;

fn body(chunks: &[Bytes]) -> Bytes {
    let mut cutter = FrameCutter::new(REPLY_FRAME_BYTES_MAX);
    cutter.push(Bytes::from(chunks.concat()));
    let frame = cutter.take_frame().unwrap().unwrap();
    assert_eq!(cutter.take_frame(), Ok(None));
    frame
}

fn bytes() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..1500).prop_map(Bytes::from)
}

fn any_call() -> impl Strategy<Value = ClientCall> {
    let call = prop_oneof![
        Just(Call::OpenSession),
        Just(Call::Ping),
        (any::<u64>(), any::<u64>(), any::<u64>(), bytes()).prop_map(|(session, seq, first_unanswered, entry)| {
            Call::Write { session, seq, first_unanswered, entry }
        }),
        bytes().prop_map(|key| Call::Query(Query::Get { key })),
        (proptest::option::of(bytes()), any::<u64>())
            .prop_map(|(start, limit)| { Call::Query(Query::Range { start, end: None, limit, with_revision: true }) }),
    ];
    (any::<u64>(), any::<u32>(), call).prop_map(|(id, deadline_ms, call)| ClientCall { id, deadline_ms, call })
}

fn any_frame() -> impl Strategy<Value = ServerFrame> {
    let reply = prop_oneof![
        Just(Reply::Nil),
        bytes().prop_map(Reply::Bulk),
        proptest::collection::vec(bytes().prop_map(Reply::Bulk), 0..4).prop_map(Reply::Array),
    ];
    let failure = prop_oneof![
        Just(Failure::Uncertain),
        Just(Failure::Refused(Refusal::NoLeader)),
        Just(Failure::Refused(Refusal::NoSpace))
    ];
    let end = prop_oneof![
        (0..=u64::MAX >> 1, reply.clone()).prop_map(|(index, reply)| CallEnd::Applied { index: Index(index), reply }),
        reply.prop_map(CallEnd::Answer),
        (failure, "[a-z]{0,20}:[0-9]{1,5}").prop_map(|(failure, leader)| CallEnd::Failed { failure, leader }),
    ];
    prop_oneof![
        (any::<u16>(), any::<u64>(), any::<u32>(), ".{0,40}").prop_map(|(version, node, entry_bytes_max, leader)| {
            ServerFrame::Welcome { version, node: NodeId(node), entry_bytes_max, leader }
        }),
        Just(ServerFrame::Denied(Denial::Version)),
        Just(ServerFrame::Denied(Denial::Proof)),
        (any::<u64>(), end).prop_map(|(id, end)| ServerFrame::Ended { id, end }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn calls_and_their_ends_come_back(call in any_call(), frame in any_frame()) {
        prop_assert_eq!(ClientCall::decode(body(&call.encode())), Ok(call));
        prop_assert_eq!(ServerFrame::decode(body(&frame.encode())), Ok(frame));
    }

    /// A damaged frame is refused, or means something else that encodes to the same bytes.
    #[test]
    fn damage_does_no_harm(call in any_call(), frame in any_frame(), at in any::<prop::sample::Index>(), value: u8) {
        let damaged = |chunks: Vec<Bytes>| {
            let mut bytes = BytesMut::from(&body(&chunks)[..]);
            let at = at.index(bytes.len().min(64));
            bytes[at] = value;
            bytes.freeze()
        };
        let bytes = damaged(call.encode());
        if let Ok(other) = ClientCall::decode(bytes.clone()) {
            prop_assert_eq!(body(&other.encode()), bytes);
        }
        let bytes = damaged(frame.encode());
        if let Ok(other) = ServerFrame::decode(bytes.clone()) {
            prop_assert_eq!(body(&other.encode()), bytes);
        }
    }

    #[test]
    fn noise_does_no_harm(noise in proptest::collection::vec(any::<u8>(), 1..200)) {
        let _may_be_anything = ClientHello::decode(noise.clone().into()).is_ok();
        let _may_be_anything = ClientCall::decode(noise.clone().into());
        let _may_be_anything = ServerFrame::decode(noise.into());
    }
}

/// The bytes that clients of other versions rely on. A change here is a new protocol version.
#[test]
fn golden_bytes() {
    let hex = |chunks: Vec<Bytes>| -> String { chunks.concat().iter().map(|byte| format!("{byte:02x}")).collect() };
    let word = |value: u64| -> String { value.to_le_bytes().iter().map(|byte| format!("{byte:02x}")).collect() };
    let hello = ClientHello { version_min: 1, version_max: 2, password: Bytes::from_static(b"pw") };
    assert_eq!(hex(hello.encode()), "0f000000404b4e544301000200020000007077");
    let call = |call| hex(ClientCall { id: 7, deadline_ms: 5000, call }.encode());
    assert_eq!(call(Call::OpenSession), format!("0d00000041{}88130000", word(7)));
    assert_eq!(call(Call::Ping), format!("0d00000044{}88130000", word(7)));
    let entry = Bytes::from_static(b"e");
    assert_eq!(
        call(Call::Write { session: 1, seq: 2, first_unanswered: 3, entry }),
        format!("2a00000042{}88130000{}{}{}0100000065", word(7), word(1), word(2), word(3))
    );
    let query = Query::Get { key: Bytes::from_static(b"k") };
    assert_eq!(call(Call::Query(query)), format!("1e00000043{}881300000d00000000000000{}6b", word(7), word(1)));

    let welcome = ServerFrame::Welcome { version: 1, node: NodeId(3), entry_bytes_max: 5, leader: "h:1".into() };
    assert_eq!(hex(welcome.encode()), format!("16000000500100{}0500000003000000683a31", word(3)));
    assert_eq!(hex(ServerFrame::Denied(Denial::Proof).encode()), "020000005101");
    let ended = |end| hex(ServerFrame::Ended { id: 7, end }.encode());
    assert_eq!(
        ended(CallEnd::Applied { index: Index(9), reply: Reply::Ok }),
        format!("1200000052{}{}00", word(7), word(9))
    );
    assert_eq!(ended(CallEnd::Answer(Reply::Nil)), format!("0a00000053{}01", word(7)));
    let failed = |failure| ended(CallEnd::Failed { failure, leader: String::new() });
    assert_eq!(failed(Failure::Refused(Refusal::NoSpace)), format!("0f00000054{}000300000000", word(7)));
    assert_eq!(failed(Failure::Uncertain), format!("0e00000054{}0100000000", word(7)));
}
