//! Raw QUIC at the native door: what a broken or hostile client meets.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kontiki::kv::Query;
use kontiki::proto::entry::{self, Body};
use kontiki::proto::native::{Call, ClientCall, ClientHello, FrameCutter, REPLY_FRAME_BYTES_MAX};
use kontiki::transport::tls::{CLIENT_ALPN, ClientTls, NodeTls};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream};
use tokio::time::Instant;

use crate::nodes::{Nodes, PATIENCE, VALUE_BYTES_MAX};

/// The door's code for a broken protocol, and for a certificate that is not a client's.
const VIOLATION: u64 = 5;
const NOT_A_CLIENT: u64 = 3;
/// Its code for a client that does not read.
const STALLED: u64 = 9;

/// Connects to the first node.
async fn connect(nodes: &Nodes, tls: rustls::ClientConfig) -> Connection {
    let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let crypto = QuicClientConfig::try_from(tls).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
    let target = nodes.endpoints()[0].parse().unwrap();
    endpoint.connect(target, "x").unwrap().await.unwrap()
}

/// Waits for the node to close the connection and returns its code.
async fn close_code(connection: &Connection) -> u64 {
    match tokio::time::timeout(PATIENCE, connection.closed()).await {
        Ok(ConnectionError::ApplicationClosed(close)) => close.error_code.into_inner(),
        other => panic!("closed by {other:?}"),
    }
}

fn hello() -> Vec<u8> {
    ClientHello { version_min: 1, version_max: 1, password: Bytes::new() }.encode().concat()
}

/// Opens a stream and asks for `a` so many times.
async fn ask(connection: &Connection, times: u64) -> (SendStream, RecvStream) {
    let (mut output, input) = connection.open_bi().await.unwrap();
    output.write_all(&hello()).await.unwrap();
    for id in 0..times {
        let call = Call::Query(Query::Get { key: "a".into() });
        output.write_all(&ClientCall { id, deadline_ms: 30_000, call }.encode().concat()).await.unwrap();
    }
    (output, input)
}

/// Sends `bytes` on one stream and returns the code with which the node closes the connection.
async fn closed_with(nodes: &Nodes, tls: rustls::ClientConfig, bytes: &[u8]) -> u64 {
    let connection = connect(nodes, tls).await;
    let stream = connection.open_bi().await;
    let Ok((mut output, _input)) = stream else { return close_code(&connection).await };
    let _closed_meanwhile = output.write_all(bytes).await;
    close_code(&connection).await
}

#[tokio::test]
async fn bad_frames_close_their_connection_and_no_other() {
    let nodes = Nodes::start(1, None);
    let client = nodes.client(crate::options()).await;
    client.put("a", "1").await.unwrap();

    let hello = hello();
    let after_hello = |bytes: &[u8]| [&hello, bytes].concat();
    let write = |entry: Bytes| {
        let call = Call::Write { session: 1, seq: 1, first_unanswered: 1, entry };
        after_hello(&ClientCall { id: 1, deadline_ms: 1000, call }.encode().concat())
    };
    for (bytes, what) in [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "no hello"),
        (u32::MAX.to_le_bytes().to_vec(), "a hello of 4 GiB"),
        (after_hello(&hello), "a second hello"),
        (after_hello(&[0, 0, 0, 0]), "an empty frame"),
        (after_hello(&[1, 0, 0, 0, 0xee]), "an unknown type"),
        (after_hello(&(1_u32 << 30).to_le_bytes()), "a call above the limit"),
        (write(Bytes::from_static(b"garbage")), "an entry that is none"),
        (write(entry::encode(&Body::Time).freeze()), "an entry that only leaders make"),
    ] {
        let tls = nodes.client_tls().config().unwrap();
        assert_eq!(closed_with(&nodes, tls, &bytes).await, VIOLATION, "{what}");
    }

    // A node's certificate opens no door for clients, whatever protocol it claims to speak.
    let mut node = NodeTls::load(&nodes.certs.path().join("node-1")).unwrap().peer_client().unwrap();
    node.alpn_protocols = vec![CLIENT_ALPN.to_vec()];
    assert_eq!(closed_with(&nodes, node, &hello).await, NOT_A_CLIENT);

    let quick = client.with_deadline(Duration::from_secs(5));
    assert_eq!(quick.get("a").await.unwrap().unwrap(), "1");
    nodes.stop().await;
}

/// A stranger that opens no stream has no hello to be late with, and still leaves its place.
#[tokio::test]
async fn a_client_that_must_prove_itself_does_so_in_time_or_is_closed() {
    let nodes = Nodes::start(1, Some("raft"));
    let stranger = connect(&nodes, ClientTls::load(nodes.certs.path()).unwrap().config().unwrap()).await;
    let certified = connect(&nodes, nodes.client_tls().config().unwrap()).await;
    let began = Instant::now();
    assert_eq!(close_code(&stranger).await, VIOLATION);
    assert!((9..20).contains(&began.elapsed().as_secs()), "closed after {:?}", began.elapsed());
    assert!(certified.close_reason().is_none(), "a certificate is a proof, and may be idle");
    nodes.stop().await;
}

/// Answers are made as they are read, however many are asked for on however many streams.
#[tokio::test]
async fn a_client_that_reads_gets_all_its_answers_and_one_that_does_not_is_closed() {
    const STREAMS: usize = 4;
    const TIMES: u64 = 300;
    let nodes = Nodes::start(1, None);
    let client = nodes.client(crate::options()).await;
    client.put("a", vec![7; VALUE_BYTES_MAX]).await.unwrap();

    let reader = connect(&nodes, nodes.client_tls().config().unwrap()).await;
    let mut streams = tokio::task::JoinSet::new();
    for _ in 0..STREAMS {
        let (output, mut input) = ask(&reader, TIMES).await;
        streams.spawn(async move {
            let _open = output;
            let mut frames = FrameCutter::new(REPLY_FRAME_BYTES_MAX);
            let mut arrived = 0;
            while arrived < 1 + TIMES {
                frames.push(input.read_chunk(usize::MAX, true).await.unwrap().unwrap().bytes);
                while frames.take_frame().unwrap().is_some() {
                    arrived += 1;
                }
            }
        });
    }
    while let Some(read) = tokio::time::timeout(PATIENCE, streams.join_next()).await.unwrap() {
        read.unwrap();
    }

    let silent = connect(&nodes, nodes.client_tls().config().unwrap()).await;
    let _unread = ask(&silent, TIMES).await;
    assert_eq!(close_code(&silent).await, STALLED);
    assert_eq!(client.get("a").await.unwrap().unwrap().len(), VALUE_BYTES_MAX);
    nodes.stop().await;
}

/// A client that was killed says no goodbye; a stop once waited its full time for it.
#[tokio::test]
async fn a_stop_does_not_wait_for_a_client_that_vanished() {
    let nodes = Nodes::start(1, None);
    nodes.client(crate::options()).await.put("a", "1").await.unwrap();
    let nodes = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let vanished = runtime.block_on(async {
            let connection = connect(&nodes, nodes.client_tls().config().unwrap()).await;
            let (output, mut input) = ask(&connection, 1).await;
            input.read_chunk(usize::MAX, true).await.unwrap().unwrap();
            (connection, output, input)
        });
        drop(runtime); // Nobody sends for the connection any more.
        drop(vanished);
        nodes
    });
    let nodes = tokio::task::spawn_blocking(move || nodes.join().unwrap()).await.unwrap();
    let asked = Instant::now();
    nodes.stop().await;
    assert!(asked.elapsed() < Duration::from_secs(2), "took {:?}", asked.elapsed());
}
