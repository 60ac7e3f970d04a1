//! Raw QUIC at the native door: what a broken or hostile client meets.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kontiki::proto::entry::{self, Body};
use kontiki::proto::native::{Call, ClientCall, ClientHello};
use kontiki::transport::tls::{CLIENT_ALPN, NodeTls};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ConnectionError, Endpoint};

use crate::nodes::{Nodes, PATIENCE};

/// The door's code for a broken protocol, and for a certificate that is not a client's.
const VIOLATION: u64 = 5;
const NOT_A_CLIENT: u64 = 3;

/// Sends `bytes` on one stream and returns the code with which the node closes the connection.
async fn closed_with(nodes: &Nodes, tls: rustls::ClientConfig, bytes: &[u8]) -> u64 {
    let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let crypto = QuicClientConfig::try_from(tls).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
    let target = nodes.endpoints()[0].parse().unwrap();
    let connection = endpoint.connect(target, "x").unwrap().await.unwrap();
    if let Ok((mut output, _input)) = connection.open_bi().await {
        let _closed_meanwhile = output.write_all(bytes).await;
        let _may_be_late = tokio::time::timeout(PATIENCE, connection.closed()).await;
    }
    match connection.close_reason() {
        Some(ConnectionError::ApplicationClosed(close)) => close.error_code.into_inner(),
        other => panic!("closed by {other:?}"),
    }
}

#[tokio::test]
async fn bad_frames_close_their_connection_and_no_other() {
    let nodes = Nodes::start(1, None);
    let client = nodes.client(crate::options()).await;
    client.put("a", "1").await.unwrap();

    let hello = ClientHello { version_min: 1, version_max: 1, password: Bytes::new() }.encode().concat();
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
