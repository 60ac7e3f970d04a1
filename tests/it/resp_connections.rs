//! What a connection can ask for itself: stale reads, scans, an end.

use crate::harness::{Certificates, NodeSetup, TestCluster, TestDir, Value, get, wait_for};

/// With the other nodes gone nothing can be promised any more; a connection that says READONLY gets what there is.
#[test]
fn only_stale_reads_are_served_without_a_majority() {
    let dir = TestDir::new();
    let certificates = Certificates::new(dir.path(), "stale");
    let tls_dirs: Vec<_> = (1..=3).map(|id| certificates.node(id)).collect();
    let setups = NodeSetup::members(dir.path(), &tls_dirs).into_iter().map(|mut setup| {
        setup.more_args.extend(["--request-timeout-ms".to_owned(), "500".to_owned()]);
        setup
    });
    let mut nodes: Vec<_> = setups.map(NodeSetup::start).collect();
    nodes.iter_mut().for_each(|node| node.wait_ready());
    assert_eq!(nodes[0].client().call(&["SET", "a", "1"]).unwrap(), Value::ok());
    let mut client = nodes[0].client();
    // A linearizable read brings the local state up to date first.
    assert_eq!(client.call(&["GET", "a"]).unwrap(), Value::bulk("1"));
    assert_eq!(client.call(&["READONLY"]).unwrap(), Value::ok());
    assert_eq!(client.call(&["GET", "a"]).unwrap(), Value::bulk("1"));
    nodes[1].kill();
    nodes[2].kill();
    assert_eq!(client.call(&["GET", "a"]).unwrap(), Value::bulk("1"));
    assert_eq!(client.call(&["DBSIZE"]).unwrap(), Value::Integer(1));
    assert_eq!(client.call(&["READWRITE"]).unwrap(), Value::ok());
    let Value::Error(text) = client.call(&["GET", "a"]).unwrap() else { panic!("a read without a majority") };
    assert!(text.starts_with("CLUSTERDOWN "), "{text}");
    let http = nodes[0].setup.http;
    wait_for("a node that is not ready", || get(http, "/readyz").is_ok_and(|(code, _)| code == 503).then_some(()));
    assert_eq!(get(http, "/healthz").unwrap().0, 200);
    let Value::Error(text) = client.call(&["SET", "a", "2"]).unwrap() else { panic!("a write without a majority") };
    // Nobody leads by now, or somebody still believed to: then the write may be in its log.
    assert!(text.starts_with("CLUSTERDOWN ") || text.starts_with("UNCERTAIN "), "{text}");
    assert_eq!(client.call(&["PING"]).unwrap(), Value::Simple("PONG".to_owned()));
}

/// A full scan returns every key once, in order, whatever the step; a cursor is good where it was given.
#[test]
fn a_scan_visits_every_key() {
    let cluster = TestCluster::start(3);
    let [mut one, mut two] = [0, 1].map(|at| cluster.nodes[at].client());
    for key in 0..257 {
        one.send(&["SET", &format!("key:{key:04}"), "v"]).unwrap();
    }
    for _ in 0..257 {
        assert_eq!(one.receive().unwrap(), Value::ok());
    }
    let mut cursor = b"0".to_vec();
    let mut seen = Vec::new();
    loop {
        let reply = two.call(&[&b"SCAN"[..], &cursor, b"COUNT", b"50"]).unwrap();
        let Value::Array(parts) = reply else { panic!("{reply:?}") };
        let [Value::Bulk(next), Value::Array(keys)] = &parts[..] else { panic!("{parts:?}") };
        seen.extend(keys.iter().cloned());
        if next == b"0" {
            break;
        }
        assert!(next.iter().all(u8::is_ascii_digit), "{next:?}");
        let elsewhere = one.call(&[&b"SCAN"[..], next]).unwrap();
        assert_eq!(elsewhere, Value::Error("ERR invalid cursor".to_owned()));
        cursor.clone_from(next);
    }
    let expected: Vec<Value> = (0..257).map(|key| Value::bulk(format!("key:{key:04}"))).collect();
    assert_eq!(seen, expected);
    let Value::Array(range) = two.call(&["RANGE", "key:0010", "key:0012"]).unwrap() else { panic!("RANGE") };
    assert_eq!(range, ["key:0010", "v", "key:0011", "v"].map(Value::bulk));
    let Value::Array(found) = one.call(&["GETREV", "key:0000"]).unwrap() else { panic!("GETREV") };
    let [Value::Bulk(_), Value::Integer(revision)] = found[..] else { panic!("{found:?}") };
    let stale = (revision - 1).to_string();
    assert_eq!(one.call(&["SET", "key:0000", "w", "IFREV", &stale]).unwrap(), Value::Nil);
    assert_eq!(two.call(&["SET", "key:0000", "w", "IFREV", &revision.to_string()]).unwrap(), Value::ok());
}

/// CLIENT KILL ends another connection and no third one; a stop of the node answers what was sent before it.
#[test]
fn connections_end_when_they_are_told_to() {
    let dir = TestDir::new();
    let certificates = Certificates::new(dir.path(), "ends");
    let mut node = NodeSetup::alone(dir.path(), &certificates.node(1)).start();
    node.wait_ready();
    let [mut one, mut two, mut three] = [(); 3].map(|()| node.client());
    let Value::Integer(id) = two.call(&["CLIENT", "ID"]).unwrap() else { panic!("CLIENT ID") };
    assert_eq!(one.call(&["CLIENT", "KILL", "ID", &id.to_string()]).unwrap(), Value::Integer(1));
    assert!(two.receive().is_err(), "a killed connection goes on");
    assert_eq!(three.call(&["SET", "a", "1"]).unwrap(), Value::ok());
    let Value::Bulk(list) = three.call(&["CLIENT", "LIST"]).unwrap() else { panic!("CLIENT LIST") };
    assert!(!String::from_utf8(list).unwrap().contains(&format!("id={id} ")));
    for _ in 0..100 {
        three.send(&["INCR", "a"]).unwrap();
    }
    assert_eq!(three.receive().unwrap(), Value::Integer(2));
    node.stop();
    // The rest was sent before; each is answered, or the connection ended between two of them.
    for number in 3..=101 {
        match three.receive() {
            Ok(reply) => assert_eq!(reply, Value::Integer(number)),
            Err(_) => break,
        }
    }
}
