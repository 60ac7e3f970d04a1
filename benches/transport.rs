//! What does the wire between two members cost, without disk and consensus?
//!
//! Two networks in this process, on loopback, with real certificates: each has its thread, as in a node. The answering
//! side answers on its network's thread; the asking side is this one, so a round trip holds two thread hops as well.
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench is no API and may panic")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kontiki::proto::peer::{ForwardOutcome, PeerMessage, encode};
use kontiki::raft::{EntrySpan, Index, LogId, Message, NodeId, Term};
use kontiki::transport::certs::Authority;
use kontiki::transport::tls::NodeTls;
use kontiki::transport::{PeerConfig, PeerEvent, PeerMember, PeerNetwork, Sent};

struct Pair {
    asker: PeerNetwork,
    heard: Receiver<PeerMessage>,
    _answerer: Arc<OnceLock<PeerNetwork>>,
    _certs: tempfile::TempDir,
}

fn pair() -> Pair {
    let certs = tempfile::tempdir().unwrap();
    let authority = Authority::create(certs.path(), "bench").unwrap();
    let config = |id: u64| {
        let dir = certs.path().join(format!("node-{id}"));
        authority.issue_node(NodeId(id), &[], &dir).unwrap();
        PeerConfig {
            cluster_id: 1,
            history: 0,
            storage_uuid: u128::from(id),
            boot: 1,
            client_addr: String::new(),
            listen: "127.0.0.1:0".parse().unwrap(),
            tls: NodeTls::load(&dir).unwrap(),
            members: BTreeMap::new(),
            entry_bytes_max: 8 << 20,
        }
    };
    let answerer: Arc<OnceLock<PeerNetwork>> = Arc::default();
    let me = Arc::clone(&answerer);
    let started = PeerNetwork::start(config(2), move |event| answer(&me, event)).unwrap();
    let (connected, is_connected): (Sender<()>, Receiver<()>) = channel();
    let (sender, heard) = channel();
    let asker = PeerNetwork::start(config(1), move |event| match event {
        PeerEvent::Message { message, .. } => sender.send(message).unwrap(),
        PeerEvent::Connected { .. } => connected.send(()).unwrap(),
        PeerEvent::Gone { .. } | PeerEvent::Lost { .. } | PeerEvent::Refused { .. } => {}
    });
    let asker = asker.unwrap();
    let member = |network: &PeerNetwork| PeerMember { addr: network.local_addr().to_string(), storage_uuid: None };
    let nowhere = PeerMember { addr: "127.0.0.1:1".into(), storage_uuid: None };
    started.set_members(BTreeMap::from([(NodeId(1), nowhere)]));
    asker.set_members(BTreeMap::from([(NodeId(2), member(&started))]));
    assert!(answerer.set(started).is_ok());
    is_connected.recv().unwrap();
    Pair { asker, heard, _answerer: answerer, _certs: certs }
}

/// Answers as a follower would: a forward by its end, an append by its acknowledgement.
fn answer(me: &OnceLock<PeerNetwork>, event: PeerEvent) {
    let PeerEvent::Message { from, message } = event else {
        return;
    };
    let answer = match message {
        PeerMessage::Forward { request, .. } => PeerMessage::ForwardReply { request, outcome: ForwardOutcome::Lost },
        PeerMessage::Raft { message: Message::Append { term, read, .. }, payloads } => {
            black_box(payloads);
            PeerMessage::Raft { message: Message::HeartbeatReply { term, read }, payloads: Vec::new() }
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(me.wait().send(from, answer.class(), encode(&answer)), Sent::Queued);
}

fn forward(request: u64) -> PeerMessage {
    PeerMessage::Forward { request, entry: Bytes::from_static(&[7; 192]) }
}

/// One append of `entries` entries of `bytes` bytes.
fn append(entries: u32, bytes: u32) -> PeerMessage {
    let payload = Bytes::from(vec![7; bytes as usize]);
    let sizes = vec![bytes; entries as usize];
    let span = EntrySpan { terms: vec![(Term(1), entries)], sizes, configurations: Vec::new() };
    let prev = LogId { term: Term(1), index: Index(1) };
    let message = Message::Append { term: Term(1), prev, entries: span, commit: Index(1), read: 1 };
    PeerMessage::Raft { message, payloads: vec![payload; entries as usize] }
}

fn ask(pair: &Pair, message: &PeerMessage) {
    assert_eq!(pair.asker.send(NodeId(2), message.class(), encode(message)), Sent::Queued);
}

/// How long does a member wait for the answer to one message, and how many a second with 64 under way?
fn round_trips(criterion: &mut Criterion) {
    let pair = pair();
    let mut group = criterion.benchmark_group("transport/round_trip");
    for under_way in [1_u64, 64] {
        group.throughput(Throughput::Elements(under_way));
        group.bench_function(BenchmarkId::from_parameter(under_way), |bencher| {
            bencher.iter(|| {
                (0..under_way).for_each(|request| ask(&pair, &forward(request)));
                (0..under_way).for_each(|_| drop(pair.heard.recv().unwrap()));
            });
        });
    }
    group.finish();
}

/// How many bytes of entries a second reach a follower, in appends of 64 x 128 B and of 8 x 64 KiB, four under way?
fn appends(criterion: &mut Criterion) {
    const UNDER_WAY: u64 = 4;
    let pair = pair();
    let mut group = criterion.benchmark_group("transport/append");
    for (entries, bytes) in [(64, 128), (8, 64 * 1024)] {
        let message = append(entries, bytes);
        group.throughput(Throughput::Bytes(UNDER_WAY * u64::from(entries) * u64::from(bytes)));
        group.bench_function(BenchmarkId::from_parameter(format!("{entries}x{bytes}B")), |bencher| {
            bencher.iter(|| {
                (0..UNDER_WAY).for_each(|_| ask(&pair, &message));
                (0..UNDER_WAY).for_each(|_| drop(pair.heard.recv().unwrap()));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, round_trips, appends);
criterion_main!(benches);
