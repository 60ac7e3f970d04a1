//! The native client against nodes in this process: what it promises, and what the door refuses.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may panic, and runs on the real clock")]
#![allow(unreachable_pub, reason = "a test is no API")]

mod nodes;
#[path = "../it/harness/ports.rs"]
mod ports;
mod raw;
mod scripted;

use std::time::{Duration, Instant};

use bytes::Bytes;
use kontiki::client::{Client, ClientError, ClientOptions, Denied, Expected, Trouble};
use kontiki::kv::{Command, CommandError, Condition, Exec, Query, Reply};
use kontiki::transport::tls::ClientTls;
use nodes::{Nodes, PATIENCE, VALUE_BYTES_MAX};

fn options() -> ClientOptions {
    ClientOptions { deadline: PATIENCE, ..ClientOptions::default() }
}

#[tokio::test]
async fn calls_do_what_they_say() {
    let nodes = Nodes::start(1, None);
    let client = nodes.client(options()).await;
    assert_eq!(client.get("a").await.unwrap(), None);
    client.put("a", "1").await.unwrap();
    assert_eq!(client.append("a", "23").await.unwrap(), 3);
    assert_eq!(client.get("a").await.unwrap().unwrap(), "123");

    assert!(!client.compare_and_set("a", Expected::Absent, "x").await.unwrap());
    assert!(!client.compare_and_set("a", Expected::Value("1".into()), "x").await.unwrap());
    assert!(client.compare_and_set("a", Expected::Value("123".into()), "4").await.unwrap());
    let versioned = client.get_versioned("a").await.unwrap().unwrap();
    assert!(!client.compare_and_set("a", Expected::Revision(versioned.revision - 1), "x").await.unwrap());
    assert!(client.compare_and_set("a", Expected::Revision(versioned.revision), "5").await.unwrap());

    client.put("b", "6").await.unwrap();
    client.put("c", "7").await.unwrap();
    let rows = client.range(Some("a".into()), Some("c".into()), 10).await.unwrap();
    let pairs: Vec<_> = rows.iter().map(|row| (&row.key[..], &row.value[..])).collect();
    assert_eq!(pairs, [(&b"a"[..], &b"5"[..]), (b"b", b"6")]);
    assert!(rows[0].revision < rows[1].revision);
    assert_eq!(client.range(None, None, 1).await.unwrap().len(), 1);

    let exec = |revision| Exec {
        conditions: vec![Condition::Revision { key: "b".into(), revision }],
        commands: vec![Command::Increment { key: "b".into(), by: 4 }, Command::Query(Query::Get { key: "b".into() })],
    };
    assert_eq!(client.transaction(exec(1)).await.unwrap(), None);
    let replies = client.transaction(exec(rows[1].revision)).await.unwrap().unwrap();
    assert_eq!(replies, [Reply::Integer(10), Reply::Bulk("10".into())]);
    assert_eq!(client.delete(vec!["a".into(), "b".into(), "none".into()]).await.unwrap(), 2);
    nodes.stop().await;
}

#[tokio::test]
async fn what_the_state_or_the_limits_refuse_is_told_apart() {
    let nodes = Nodes::start(1, None);
    let client = nodes.client(options()).await;
    client.put("word", "abc").await.unwrap();
    match client.write(Command::Increment { key: "word".into(), by: 1 }).await {
        Err(ClientError::Command(CommandError::NotAnInteger)) => {}
        other => panic!("{other:?}"),
    }
    let too_long = |bytes: usize| Bytes::from(vec![0; bytes]);
    for bytes in [VALUE_BYTES_MAX + 1, 64 * 1024 * 1024] {
        match client.put("long", too_long(bytes)).await {
            Err(ClientError::TooLarge) => {}
            other => panic!("{bytes} bytes: {other:?}"),
        }
    }
    client.put("long", too_long(VALUE_BYTES_MAX)).await.unwrap();
    assert_eq!(client.get("long").await.unwrap().unwrap().len(), VALUE_BYTES_MAX);
    nodes.stop().await;
}

#[tokio::test]
async fn a_client_proves_itself_by_certificate_or_password() {
    let nodes = Nodes::start(1, Some("raft"));
    let nobody = || ClientTls::load(nodes.certs.path()).unwrap();
    let connect = |tls: ClientTls, password: Option<&'static str>| {
        let options = ClientOptions { password: password.map(Bytes::from), ..options() };
        Client::connect(nodes.endpoints(), tls, options)
    };
    connect(nodes.client_tls(), None).await.unwrap().put("a", "1").await.unwrap();
    connect(nobody(), Some("raft")).await.unwrap().put("a", "2").await.unwrap();
    for wrong in [None, Some("RAFT")] {
        match connect(nobody(), wrong).await {
            Err(ClientError::Denied(Denied::Proof)) => {}
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("{wrong:?} was let in"),
        }
    }
    // Another cluster's certificate: neither side accepts the other.
    let others = Nodes::certs();
    match connect(Nodes::client_tls_of(&others), Some("raft")).await {
        Err(ClientError::Denied(Denied::Certificate(_))) => {}
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("a stranger was let in"),
    }
    nodes.stop().await;
}

#[tokio::test]
async fn nobody_there_is_told_at_the_deadline_and_not_before() {
    let certs = Nodes::certs();
    let tls = Nodes::client_tls_of(&certs);
    let nobody = format!("127.0.0.1:{}", ports::free_ports(1));
    let started = Instant::now();
    let options = ClientOptions { deadline: Duration::from_millis(300), ..ClientOptions::default() };
    match Client::connect(vec![nobody], tls, options).await {
        Err(ClientError::Unavailable(Trouble::Unreachable(why))) => assert!(why.contains("refused"), "{why}"),
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("connected to nobody"),
    }
    assert!(started.elapsed() >= Duration::from_millis(300));
}

/// The promise: every write that returned is there once, although the leader stops under load, whichever node was asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_append_is_lost_or_doubled_when_the_leader_stops() {
    const WRITERS: usize = 6;
    const WRITES: usize = 60;
    let mut nodes = Nodes::start(3, None);
    let client = nodes.client(options()).await;
    client.put("log", "").await.unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        // Half of the writers share one client and session, half have their own and stay with a node that forwards.
        let client = if writer % 2 == 0 {
            client.clone()
        } else {
            nodes.client(ClientOptions { follows_leader: false, ..options() }).await
        };
        writers.spawn(async move {
            for write in 0..WRITES {
                client.append("log", format!("<{writer}.{write}>")).await.unwrap();
            }
        });
    }
    // Once a part is written, the leader stops; then it comes back.
    while client.get("log").await.unwrap().unwrap().len() < 500 {
        tokio::task::yield_now().await;
    }
    let leader = nodes.leader().await;
    nodes.stop_one(leader).await;
    while let Some(written) = writers.join_next().await {
        written.unwrap();
    }
    nodes.start_one(leader);

    let log = client.get("log").await.unwrap().unwrap();
    let log = std::str::from_utf8(&log).unwrap();
    for writer in 0..WRITERS {
        let mut last = 0;
        for write in 0..WRITES {
            let token = format!("<{writer}.{write}>");
            assert_eq!(log.matches(&token).count(), 1, "{token}");
            let at = log.find(&token).unwrap();
            assert!(at >= last, "{token} came before the write that returned before it was made");
            last = at;
        }
    }
    nodes.stop().await;
}
