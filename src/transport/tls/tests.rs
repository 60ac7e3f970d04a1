//! Certificates are made, loaded and shown: who gets in, and what an operator is told when files are wrong.

use std::os::unix::fs::PermissionsExt;

use rustls::{ClientConnection, ServerConnection};

use super::super::certs::{Authority, CA_KEY, CertError};
use super::*;

fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn node(authority: &Authority, id: u64) -> NodeTls {
    let dir = temporary();
    authority.issue_node(NodeId(id), &["127.0.0.1".into(), "localhost".into()], dir.path()).unwrap();
    NodeTls::load(dir.path()).unwrap()
}

fn client(authority: &Authority) -> ClientTls {
    let dir = temporary();
    authority.issue_client("ops", dir.path()).unwrap();
    ClientTls::load(dir.path()).unwrap()
}

/// Shakes hands in memory until both are done; the error is the side's that refuses first.
fn handshake(client: ClientConfig, server: ServerConfig) -> Result<ServerConnection, rustls::Error> {
    let mut client = ClientConnection::new(Arc::new(client), ServerName::try_from("anything").unwrap())?;
    let mut server = ServerConnection::new(Arc::new(server))?;
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets()?;
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    Ok(server)
}

#[test]
fn nodes_of_one_authority_meet_and_see_each_others_names() {
    let dir = temporary();
    let authority = Authority::create(dir.path(), "blue").unwrap();
    let (one, two) = (node(&authority, 1), node(&authority, 2));
    let server = handshake(one.peer_client().unwrap(), two.peer_server().unwrap()).unwrap();
    let seen = identity_of(&server.peer_certificates().unwrap()[0]).unwrap();
    assert_eq!(seen.to_string(), "kontiki://blue/node/1");
    assert_eq!(server.alpn_protocol(), Some(PEER_ALPN));
    assert_eq!((two.node(), two.cluster()), (NodeId(2), "blue"));
}

#[test]
fn authority_is_read_back_and_signs_for_the_same_cluster() {
    let dir = temporary();
    let created = Authority::create(dir.path(), "blue").unwrap();
    let opened = Authority::open(dir.path()).unwrap();
    assert_eq!(opened.cluster(), "blue");
    let (one, two) = (node(&created, 1), node(&opened, 2));
    assert_eq!(one.issuer_fingerprint(), two.issuer_fingerprint());
    handshake(one.peer_client().unwrap(), two.peer_server().unwrap()).unwrap();
    assert!(matches!(Authority::create(dir.path(), "blue"), Err(CertError::AuthorityExists { .. })));
    assert!(matches!(Authority::create(temporary().path(), "b/ue"), Err(CertError::Name(_))));
}

#[test]
fn strangers_are_refused_on_both_sides() {
    let (blue_dir, red_dir) = (temporary(), temporary());
    let blue = Authority::create(blue_dir.path(), "blue").unwrap();
    let red = Authority::create(red_dir.path(), "blue").unwrap(); // The same name does not help.
    let refused = |from: ClientConfig, to: ServerConfig| match handshake(from, to) {
        Ok(_) => panic!("a stranger was let in"),
        Err(error) => error,
    };
    refused(node(&red, 1).peer_client().unwrap(), node(&blue, 2).peer_server().unwrap());
    refused(client(&red).config().unwrap(), node(&blue, 2).client_door(&[CLIENT_ALPN]).unwrap());
    // Other doors: the protocols do not mix.
    refused(client(&blue).config().unwrap(), node(&blue, 2).peer_server().unwrap());
    refused(node(&blue, 1).peer_client().unwrap(), node(&blue, 2).client_door(&[CLIENT_ALPN]).unwrap());
}

#[test]
fn clients_may_come_without_a_certificate_and_a_client_is_no_server() {
    let dir = temporary();
    let authority = Authority::create(dir.path(), "blue").unwrap();
    let door = || node(&authority, 1).client_door(&[CLIENT_ALPN]).unwrap();
    let with = handshake(client(&authority).config().unwrap(), door()).unwrap();
    let seen = identity_of(&with.peer_certificates().unwrap()[0]).unwrap();
    assert_eq!(seen.role, CertRole::Client("ops".to_owned()));
    let without = handshake(ClientTls::load(dir.path()).unwrap().config().unwrap(), door()).unwrap();
    assert!(without.peer_certificates().is_none());

    // A client's certificate in a server's place: wrong usage.
    let client = client(&authority);
    let mut posing = node(&authority, 1);
    posing.proof = client.proof.clone().unwrap();
    assert!(handshake(client.config().unwrap(), posing.client_door(&[CLIENT_ALPN]).unwrap()).is_err());
}

#[test]
fn a_bundle_trusts_the_old_and_the_new_authority() {
    let (old_dir, new_dir, node_dir) = (temporary(), temporary(), temporary());
    let old = Authority::create(old_dir.path(), "blue").unwrap();
    let new = Authority::create(new_dir.path(), "blue").unwrap();
    let bundle = |dir: &Path| {
        let pem: String =
            [new_dir.path(), old_dir.path()].iter().map(|d| fs::read_to_string(d.join(CA_CERT)).unwrap()).collect();
        fs::write(dir.join(CA_CERT), pem).unwrap();
        NodeTls::load(dir).unwrap()
    };
    new.issue_node(NodeId(1), &[], node_dir.path()).unwrap();
    let newer = bundle(node_dir.path());
    old.issue_node(NodeId(2), &[], node_dir.path()).unwrap();
    let older = bundle(node_dir.path());
    assert_eq!(newer.ca_fingerprints(), older.ca_fingerprints());
    assert_eq!(newer.issuer_fingerprint(), newer.ca_fingerprints()[0]);
    assert_eq!(older.issuer_fingerprint(), older.ca_fingerprints()[1]);
    handshake(newer.peer_client().unwrap(), older.peer_server().unwrap()).unwrap();
    handshake(older.peer_client().unwrap(), newer.peer_server().unwrap()).unwrap();
}

#[test]
fn each_unusable_file_is_named_with_what_to_do() {
    let (dir, other) = (temporary(), temporary());
    let told = |dir: &Path| match NodeTls::load(dir) {
        Ok(_) => panic!("loaded"),
        Err(error) => error.to_string().replace(&dir.display().to_string(), "T"),
    };
    assert_eq!(told(dir.path()), "T/ca.pem is missing; make it with `kontiki cert ca`");
    let authority = Authority::create(dir.path(), "blue").unwrap();
    assert_eq!(told(dir.path()), "T/node.pem is missing; make it with `kontiki cert node --id N`");
    authority.issue_node(NodeId(1), &[], dir.path()).unwrap();
    assert_eq!(
        told(&{
            fs::remove_file(dir.path().join(NODE_KEY)).unwrap();
            dir.path().to_owned()
        }),
        "T/node.key is missing; make it with `kontiki cert node --id N`"
    );

    // A key, an authority, a role that belong to somebody else; then no certificate at all.
    let stranger = Authority::create(other.path(), "blue").unwrap();
    stranger.issue_node(NodeId(1), &[], other.path()).unwrap();
    fs::copy(other.path().join(NODE_KEY), dir.path().join(NODE_KEY)).unwrap();
    assert!(told(dir.path()).starts_with("T/node.pem is not usable: "), "{}", told(dir.path()));
    fs::copy(other.path().join(NODE_CERT), dir.path().join(NODE_CERT)).unwrap();
    assert!(told(dir.path()).contains("UnknownIssuer") || told(dir.path()).contains("BadSignature"));
    authority.issue_client("ops", dir.path()).unwrap();
    fs::copy(dir.path().join(CLIENT_CERT), dir.path().join(NODE_CERT)).unwrap();
    assert_eq!(
        told(dir.path()),
        "T/node.pem names kontiki://blue/client/ops, but a node is needed; make it again with `kontiki cert`"
    );
    fs::write(dir.path().join(NODE_CERT), "nothing").unwrap();
    assert!(told(dir.path()).starts_with("T/node.pem is not usable: "));
}

#[test]
fn keys_are_for_their_owner_only() {
    let dir = temporary();
    Authority::create(dir.path(), "blue").unwrap().issue_client("ops", dir.path()).unwrap();
    for name in [CA_KEY, CLIENT_KEY] {
        let mode = fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn secrets_are_the_same_at_every_start_and_differ_by_purpose_and_node() {
    let dir = temporary();
    let authority = Authority::create(dir.path(), "blue").unwrap();
    authority.issue_node(NodeId(1), &[], dir.path()).unwrap();
    let load = || NodeTls::load(dir.path()).unwrap();
    assert_eq!(load().derive_secret("a"), load().derive_secret("a"));
    assert_ne!(load().derive_secret("a"), load().derive_secret("b"));
    assert_ne!(load().derive_secret("a"), node(&authority, 1).derive_secret("a"));
}
