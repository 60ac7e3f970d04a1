//! Whole networks in one process, on loopback: who is let in, what arrives, and what a bad peer can do.

#![allow(
    clippy::cast_possible_truncation,
    clippy::too_many_lines,
    reason = "numbers in tests are small; stories are long"
)]

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};

use quinn::{Connection, ConnectionError};

use crate::kv::{LOGGED_REPLY_BYTES_MAX, Reply};
use crate::proto::peer::{self, HelloAck};
use crate::raft::{EntrySpan, Index, LogId, Message, Term};
use crate::transport::certs::Authority;
use crate::transport::quic::Use;
use crate::transport::refusal::{PROTOCOL_VIOLATION, Refuser};
use crate::transport::tls::{ClientTls, PEER_ALPN};

use super::*;

/// Long enough for a loaded machine; nothing waits this long when all is well.
const PATIENCE: Duration = Duration::from_secs(20);

const CLUSTER_ID: u128 = 77;

/// A cluster's certificates in a directory of their own.
struct Certs {
    dir: tempfile::TempDir,
    authority: Authority,
}

struct Node {
    network: PeerNetwork,
    events: Receiver<PeerEvent>,
}

impl Certs {
    fn new() -> Certs {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(dir.path(), "blue").unwrap();
        Certs { dir, authority }
    }

    /// The same directory each time: a restarted node has its old key.
    fn node(&self, id: u64) -> NodeTls {
        let dir: PathBuf = self.dir.path().join(format!("node-{id}"));
        if !dir.exists() {
            self.authority.issue_node(NodeId(id), &[], &dir).unwrap();
        }
        NodeTls::load(&dir).unwrap()
    }

    fn config(&self, id: u64) -> PeerConfig {
        PeerConfig {
            cluster_id: CLUSTER_ID,
            history: 0,
            storage_uuid: 100 + u128::from(id),
            boot: 1,
            client_addr: format!("client-{id}:1"),
            listen: "127.0.0.1:0".parse().unwrap(),
            tls: self.node(id),
            members: BTreeMap::new(),
            entry_bytes_max: 64 * 1024,
        }
    }
}

impl Node {
    fn start(config: PeerConfig) -> Node {
        let (sender, events) = channel();
        let network = PeerNetwork::start(config, move |event| {
            let _the_test_is_over = sender.send(event);
        });
        Node { network: network.unwrap(), events }
    }

    fn next(&self) -> PeerEvent {
        self.events.recv_timeout(PATIENCE).unwrap()
    }

    /// Skips events until `wanted` makes something of one.
    fn until<T>(&self, wanted: impl Fn(PeerEvent) -> Option<T>) -> T {
        loop {
            if let Some(found) = wanted(self.next()) {
                return found;
            }
        }
    }

    fn until_connected(&self, wanted: u64) -> Hello {
        self.until(|event| match event {
            PeerEvent::Connected { id, hello } if id.0 == wanted => Some(hello),
            _ => None,
        })
    }

    fn until_refused(&self) -> (Refuser, RefusalReason) {
        self.until(|event| match event {
            PeerEvent::Refused { refusal, .. } => Some((refusal.by, refusal.reason)),
            PeerEvent::Connected { id, .. } => panic!("node {id} was let in"),
            PeerEvent::Message { .. } | PeerEvent::Gone { .. } | PeerEvent::Lost { .. } => None,
        })
    }

    fn until_message(&self) -> PeerMessage {
        self.until(|event| match event {
            PeerEvent::Message { message, .. } => Some(message),
            _ => None,
        })
    }

    fn send(&self, to: u64, message: &PeerMessage) -> Sent {
        self.network.send(NodeId(to), message.class(), peer::encode(message))
    }

    fn member(&self) -> PeerMember {
        PeerMember { addr: self.network.local_addr().to_string(), storage_uuid: None }
    }
}

/// Tells all nodes of each other. Only the lower of two ids gets an address that works, so that no dials cross.
fn introduce(nodes: &[&Node]) {
    let id = |node: &Node| node.network.shared.local.id;
    for node in nodes {
        let member = |other: &&&Node| if id(other) > id(node) { other.member() } else { unreachable() };
        node.network.set_members(nodes.iter().map(|other| (id(other), member(&other))).collect());
    }
}

/// Nobody listens there.
fn unreachable() -> PeerMember {
    PeerMember { addr: "127.0.0.1:1".into(), storage_uuid: None }
}

fn append(index: u64, payload: Bytes) -> PeerMessage {
    let prev = LogId { term: Term(1), index: Index(index) };
    let entries = EntrySpan { terms: vec![(Term(1), 1)], sizes: vec![payload.len() as u32], configurations: vec![] };
    let message = Message::Append { term: Term(1), prev, entries, commit: Index(0), read: 0 };
    PeerMessage::Raft { message, payloads: vec![payload] }
}

fn forward(request: u64) -> PeerMessage {
    PeerMessage::Forward { request, entry: Bytes::from(vec![0; 100]) }
}

fn read_index(id: u64) -> PeerMessage {
    PeerMessage::Raft { message: Message::ReadIndex { term: Term(1), id }, payloads: Vec::new() }
}

fn reply(request: u64) -> PeerMessage {
    PeerMessage::ForwardReply { request, outcome: peer::ForwardOutcome::Lost }
}

#[test]
fn three_nodes_meet_and_each_class_keeps_its_order() {
    let certs = Certs::new();
    let nodes = [1, 2, 3].map(|id| Node::start(certs.config(id)));
    introduce(&[&nodes[0], &nodes[1], &nodes[2]]);
    let mut hellos =
        [nodes[0].until_connected(2), nodes[1].until_connected(1), nodes[2].until_connected(1)].into_iter();
    assert_eq!(hellos.next().unwrap().client_addr, "client-2:1");

    // Bursts that fit in every lane, in both directions at once.
    for number in 0..60 {
        for (from, to) in [(0, 2), (1, 1)] {
            for message in [forward(number), read_index(number), reply(number)] {
                assert_eq!(nodes[from].send(to, &message), Sent::Queued);
            }
        }
    }
    for receiver in [1, 0] {
        let mut arrived: BTreeMap<Class, Vec<PeerMessage>> = BTreeMap::new();
        for _ in 0..180 {
            let message = nodes[receiver].until_message();
            arrived.entry(message.class()).or_default().push(message);
        }
        assert_eq!(arrived[&Class::Append], (0..60).map(forward).collect::<Vec<_>>());
        assert_eq!(arrived[&Class::Control], (0..60).map(read_index).collect::<Vec<_>>());
        assert_eq!(arrived[&Class::Response], (0..60).map(reply).collect::<Vec<_>>());
    }
}

#[test]
fn entries_of_every_size_arrive_whole() {
    let certs = Certs::new();
    let (one, two) = (Node::start(certs.config(1)), Node::start(certs.config(2)));
    introduce(&[&one, &two]);
    one.until_connected(2);
    for bytes in [0, 1, 1023, 1024, 1200, 6144, 65_535, 64 * 1024] {
        let payload: Bytes = (0..bytes).map(|at: u32| (at % 251) as u8 | 4).collect::<Vec<u8>>().into();
        let message = append(u64::from(bytes), payload);
        assert_eq!(one.send(2, &message), Sent::Queued);
        assert_eq!(two.until_message(), message, "{bytes} bytes");
    }
}

/// However short the entries, a forwarded write may have a long reply; its arrival once ended the connection.
#[test]
fn the_longest_reply_of_a_forwarded_write_arrives_whole() {
    let certs = Certs::new();
    let (one, two) = (Node::start(certs.config(1)), Node::start(certs.config(2)));
    introduce(&[&one, &two]);
    one.until_connected(2);
    // As the state counts a reply: 16 bytes and the value for each element.
    let value = Bytes::from(vec![b'v'; 64 * 1024 - 16]);
    let values = vec![Reply::Bulk(value); LOGGED_REPLY_BYTES_MAX as usize / (64 * 1024)];
    let outcome = peer::ForwardOutcome::Applied { index: Index(1), reply: Reply::Array(values) };
    let message = PeerMessage::ForwardReply { request: 1, outcome };
    assert_eq!(one.send(2, &message), Sent::Queued);
    assert!(two.until_message() == message, "another message");
}

#[test]
fn a_stranger_is_refused_by_both_sides_at_tls() {
    let (blue, red) = (Certs::new(), Certs::new());
    let (one, two) = (Node::start(blue.config(1)), Node::start(red.config(2)));
    one.network.set_members(BTreeMap::from([(NodeId(2), two.member())]));
    two.network.set_members(BTreeMap::from([(NodeId(1), one.member())]));
    for node in [&one, &two] {
        let (mut by_us, mut by_them) = (false, false);
        while !(by_us && by_them) {
            let (by, reason) = node.until_refused();
            assert_eq!(reason, RefusalReason::Tls);
            by_us |= by == Refuser::Us;
            by_them |= by == Refuser::Them;
        }
    }
    assert_eq!(one.send(2, &read_index(1)), Sent::Unconnected);
}

#[test]
fn the_certificate_must_be_of_the_node_that_was_dialed() {
    let certs = Certs::new();
    let (one, three) = (Node::start(certs.config(1)), Node::start(certs.config(3)));
    one.network.set_members(BTreeMap::from([(NodeId(2), three.member())]));
    assert_eq!(one.until_refused(), (Refuser::Us, RefusalReason::Identity));
}

/// What the refused side hears is what the refuser decided.
#[test]
fn hellos_of_other_clusters_storages_and_histories_are_refused_with_the_reason() {
    let certs = Certs::new();
    let refused = |change: &dyn Fn(&mut PeerConfig)| {
        let mut config = certs.config(2);
        change(&mut config);
        let (one, two) = (Node::start(PeerConfig { history: 5, ..certs.config(1) }), Node::start(config));
        // Only node 2 dials: node 1 has no address for it.
        let bound = PeerMember { storage_uuid: Some(102), ..unreachable() };
        one.network.set_members(BTreeMap::from([(NodeId(2), bound)]));
        two.network.set_members(BTreeMap::from([(NodeId(1), one.member())]));
        two.until_refused()
    };
    assert_eq!(refused(&|config| config.cluster_id = 78), (Refuser::Them, RefusalReason::Cluster));
    assert_eq!(refused(&|config| config.storage_uuid = 9), (Refuser::Them, RefusalReason::Storage));
    assert_eq!(refused(&|config| config.history = 6), (Refuser::Them, RefusalReason::History));
    let (one, two) = (Node::start(certs.config(1)), Node::start(certs.config(2)));
    two.network.set_members(BTreeMap::from([(NodeId(1), one.member())]));
    assert_eq!(two.until_refused(), (Refuser::Them, RefusalReason::NotAMember));
}

#[test]
fn what_is_learned_later_ends_a_connection_too() {
    let certs = Certs::new();
    let (one, two) = (Node::start(certs.config(1)), Node::start(PeerConfig { history: 6, ..certs.config(2) }));
    introduce(&[&one, &two]);
    one.until_connected(2);
    two.until_connected(1);
    // Node 1's first entry commits: it is of another history than node 2.
    one.network.set_history(5);
    assert_eq!(two.until_refused_after_loss(), RefusalReason::History);

    let (three, four) = (Node::start(certs.config(3)), Node::start(certs.config(4)));
    introduce(&[&three, &four]);
    three.until_connected(4);
    four.until_connected(3);
    // The configuration binds node 4 to a storage that it does not have; then it is removed.
    let bound = PeerMember { storage_uuid: Some(9), ..four.member() };
    three.network.set_members(BTreeMap::from([(NodeId(4), bound)]));
    assert_eq!(four.until_refused_after_loss(), RefusalReason::Storage);
    three.network.set_members(BTreeMap::new());
    assert_eq!(three.send(4, &read_index(1)), Sent::Unconnected);
}

impl Node {
    fn until_refused_after_loss(&self) -> RefusalReason {
        self.until(|event| matches!(event, PeerEvent::Lost { .. }).then_some(()));
        self.until(|event| match event {
            PeerEvent::Refused { refusal, .. } => Some(refusal.reason),
            _ => None,
        })
    }
}

/// A killed process says no goodbye. Its next life is connected by its own dial, and replaces the old connection.
#[test]
fn a_killed_peer_is_back_as_soon_as_it_starts_again() {
    let certs = Certs::new();
    for (stays, dies) in [(1, 2), (4, 3)] {
        let (stayer, victim) = (Node::start(certs.config(stays)), Node::start(certs.config(dies)));
        introduce(&[&stayer, &victim]);
        stayer.until_connected(dies);
        victim.until_connected(stays);
        let listen = victim.network.local_addr();
        victim.network.crash();
        let again = Node::start(PeerConfig { listen, boot: 2, ..certs.config(dies) });
        again.network.set_members(BTreeMap::from([(NodeId(stays), stayer.member())]));
        while stayer.until_connected(dies).boot != 2 {}
        assert_eq!(stayer.send(dies, &forward(1)), Sent::Queued);
        assert_eq!(again.until_message(), forward(1));
    }
}

/// Nobody waits for the idle timeout of a process that is gone.
#[test]
fn a_killed_peer_is_missed_before_its_connection_times_out() {
    let certs = Certs::new();
    let (one, two) = (Node::start(certs.config(1)), Node::start(certs.config(2)));
    introduce(&[&one, &two]);
    one.until_connected(2);
    two.until_connected(1);
    two.network.crash();
    let killed = std::time::Instant::now();
    one.until(|event| matches!(event, PeerEvent::Lost { .. }).then_some(()));
    assert!(killed.elapsed() < Duration::from_secs(2), "missed after {:?}", killed.elapsed());
}

/// Two nodes that dial each other at the same moment end up with one connection that carries both ways.
#[test]
fn crossing_dials_end_in_one_connection() {
    let certs = Certs::new();
    let (one, two) = (Node::start(certs.config(1)), Node::start(certs.config(2)));
    one.network.set_members(BTreeMap::from([(NodeId(2), two.member())]));
    two.network.set_members(BTreeMap::from([(NodeId(1), one.member())]));
    // What is sent while one connection replaces the other may be lost: send until something arrives.
    for (from, to, id) in [(&one, &two, 2), (&two, &one, 1)] {
        let started = std::time::Instant::now();
        loop {
            from.send(id, &forward(1));
            match to.events.recv_timeout(Duration::from_millis(20)) {
                Ok(PeerEvent::Message { message, .. }) => break assert_eq!(message, forward(1)),
                Ok(_) | Err(_) => assert!(started.elapsed() < PATIENCE, "nothing arrives"),
            }
        }
    }
    let connected = |node: &Node| node.network.stats()[0].connected;
    assert!(connected(&one) && connected(&two));
}

/// A restarted peer that cannot dial still tells that the old connection is gone.
#[test]
fn a_restarted_peer_resets_old_connections_at_once() {
    let certs = Certs::new();
    let (one, two) = (Node::start(certs.config(1)), Node::start(certs.config(2)));
    introduce(&[&one, &two]);
    one.until_connected(2);
    let listen = two.network.local_addr();
    two.network.crash();
    let again = Node::start(PeerConfig { listen, boot: 2, ..certs.config(2) });
    again.network.set_members(BTreeMap::from([(NodeId(1), unreachable())]));
    // The first packet to the new process is answered by a stateless reset, and node 1 redials.
    one.send(2, &forward(1));
    one.until(|event| matches!(event, PeerEvent::Lost { .. }).then_some(()));
    assert_eq!(one.until_connected(2).boot, 2);
    again.until_connected(1);
}

/// A peer whose node does not keep up costs its senders lost messages, not memory.
#[test]
fn a_slow_reader_loses_messages_and_bounds_memory() {
    let certs = Certs::new();
    let (gate, closed): (Sender<()>, Receiver<()>) = channel();
    let (sender, events) = channel();
    let closed = Mutex::new(closed);
    let slow = PeerNetwork::start(certs.config(2), move |event| {
        if matches!(event, PeerEvent::Message { .. }) {
            let _open_for_good_once_dropped = closed.lock().recv();
        }
        let _the_test_is_over = sender.send(event);
    });
    let slow = Node { network: slow.unwrap(), events };
    let one = Node::start(certs.config(1));
    introduce(&[&one, &slow]);
    one.until_connected(2);
    let payload = Bytes::from(vec![4; 64 * 1024]);
    let mut queued = 0;
    while one.send(2, &append(queued, payload.clone())) == Sent::Queued {
        queued += 1;
        assert!(queued < 4096, "256 MiB are queued for a reader that does not read");
    }
    let stats = &one.network.stats()[0];
    assert!(stats.queued_bytes <= 17 * 1024 * 1024, "{} bytes", stats.queued_bytes);
    assert_eq!(stats.dropped, [0, 0, 1]);
    // What was queued arrives in order once the reader reads again.
    drop(gate);
    for index in 0..queued {
        assert_eq!(slow.until_message(), append(index, payload.clone()));
    }
}

/// A member's certificate in wrong hands: raw QUIC towards node 1.
struct Raw {
    runtime: runtime::Runtime,
    endpoint: Endpoint,
}

impl Raw {
    fn new() -> Raw {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let endpoint = {
            let _inside = runtime.enter();
            Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap()
        };
        Raw { runtime, endpoint }
    }

    /// Sends `bytes` on one stream and returns how node 1 ends the connection.
    fn ended_by(&self, target: &Node, tls: rustls::ClientConfig, bytes: &[u8]) -> ConnectionError {
        let config = quic::client_config(tls, Use::Peers, Path::Loopback).unwrap();
        self.runtime.block_on(async {
            let connecting = self.endpoint.connect_with(config, target.network.local_addr(), "x").unwrap();
            let connection: Connection = match connecting.await {
                Ok(connection) => connection,
                Err(error) => return error,
            };
            let opened = connection.open_uni().await;
            if let Ok(mut stream) = opened {
                let _closed_meanwhile = stream.write_all(bytes).await;
                let _wait = tokio::time::timeout(PATIENCE, connection.closed()).await;
            }
            connection.close_reason().unwrap()
        })
    }
}

fn close_code(error: &ConnectionError) -> u64 {
    match error {
        ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
        other => panic!("closed by {other:?}"),
    }
}

#[test]
fn bad_frames_close_the_connection_and_leave_the_node_alone() {
    let certs = Certs::new();
    let (one, three) = (Node::start(certs.config(1)), Node::start(certs.config(3)));
    one.network.set_members(BTreeMap::from([(NodeId(2), unreachable()), (NodeId(3), three.member())]));
    three.network.set_members(BTreeMap::from([(NodeId(1), one.member())]));
    one.until_connected(3);

    let hello = |version_min| Hello {
        version_min,
        version_max: version_min,
        cluster_id: CLUSTER_ID,
        history: 0,
        node: NodeId(2),
        storage_uuid: 102,
        boot: 1,
        client_addr: String::new(),
    };
    let good = hello(1).encode().concat();
    let ack = HelloAck { version: 1, hello: hello(1) }.encode().concat();
    let after_hello = |bytes: &[u8]| [&good, bytes].concat();
    let raw = Raw::new();
    let ended = |bytes: &[u8]| raw.ended_by(&one, certs.node(2).peer_client().unwrap(), bytes);

    let violation = PROTOCOL_VIOLATION.into_inner();
    for (bytes, what) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "no hello"),
        (ack, "an ack in a hello's place"),
        (u32::MAX.to_le_bytes().to_vec(), "a hello of 4 GiB"),
        (after_hello(&good), "a second hello"),
        (after_hello(&[0, 0, 0, 0]), "an empty frame"),
        (after_hello(&[1, 0, 0, 0, 0xee]), "an unknown type"),
        (after_hello(&[3, 0, 0, 0, 0x16, 1, 2]), "a cut heartbeat"),
        (after_hello(&(33_u32 << 20).to_le_bytes()), "a frame above the limit"),
    ] {
        assert_eq!(close_code(&ended(&bytes)), violation, "{what}");
    }
    assert_eq!(close_code(&ended(&hello(2).encode().concat())), RefusalReason::Version.code().into_inner());
    let other = Hello { node: NodeId(3), ..hello(1) }.encode().concat();
    assert_eq!(close_code(&ended(&other)), RefusalReason::Identity.code().into_inner());

    // A client's certificate, dressed up with the peers' ALPN.
    let client_dir = certs.dir.path().join("client");
    certs.authority.issue_client("ops", &client_dir).unwrap();
    let mut client = ClientTls::load(&client_dir).unwrap().config().unwrap();
    client.alpn_protocols = vec![PEER_ALPN.to_vec()];
    assert_eq!(close_code(&raw.ended_by(&one, client, &good)), RefusalReason::Identity.code().into_inner());
    // No certificate at all.
    let mut nobody = ClientTls::load(certs.dir.path()).unwrap().config().unwrap();
    nobody.alpn_protocols = vec![PEER_ALPN.to_vec()];
    let error = raw.ended_by(&one, nobody, &good);
    assert_eq!(Refusal::of_error(&error).map(|refusal| refusal.reason), Some(RefusalReason::Tls), "{error:?}");

    // Node 3 has not noticed anything.
    assert_eq!(three.send(1, &forward(9)), Sent::Queued);
    assert_eq!(
        one.until(|event| match event {
            PeerEvent::Message { from, message } => Some((from, message)),
            PeerEvent::Lost { id } => (id == NodeId(3)).then(|| panic!("node 3 was lost")),
            _ => None,
        }),
        (NodeId(3), forward(9))
    );
}

#[test]
fn stopping_says_goodbye_and_ends_all_events() {
    let certs = Certs::new();
    let (one, two) = (Node::start(certs.config(1)), Node::start(certs.config(2)));
    introduce(&[&one, &two]);
    one.until_connected(2);
    two.until_connected(1);
    let listen = two.network.local_addr();
    two.network.stop();
    two.network.stop();
    one.until(|event| matches!(event, PeerEvent::Lost { id: NodeId(2) }).then_some(()));
    // The port is free again, and taken while somebody has it.
    let again = Node::start(PeerConfig { listen, ..certs.config(2) });
    let refused = PeerNetwork::start(PeerConfig { listen, ..certs.config(2) }, |_| {});
    match refused {
        Err(NetworkError::Bind { source, .. }) => assert_eq!(source.kind(), io::ErrorKind::AddrInUse),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("two processes on one port"),
    }
    drop(again);
}
