//! What clients may not do, that it is refused as promised, and that others do not notice.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::harness::{Certificates, Client, NodeSetup, TestDir, TestNode, Value, get};

/// Starts a node alone in its cluster.
fn start(dir: &TestDir, more_args: &[&str]) -> TestNode {
    let certificates = Certificates::new(dir.path(), "limits");
    let mut setup = NodeSetup::alone(dir.path(), &certificates.node(1));
    setup.more_args.extend(more_args.iter().map(|arg| (*arg).to_owned()));
    let mut node = setup.start();
    node.wait_ready();
    node
}

/// Sends bytes and reads until the other side closes.
fn read_to_end(address: SocketAddr, sent: &[u8]) -> (String, Duration) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(sent).unwrap();
    let began = Instant::now();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    (text, began.elapsed())
}

#[test]
fn values_keys_and_commands_have_a_greatest_size() {
    let dir = TestDir::new();
    let node = start(&dir, &[]);
    let mut client = node.client();
    // A quarter of a segment of 1 MiB.
    let largest = vec![b'v'; 256 * 1024];
    let too_large = vec![b'v'; 256 * 1024 + 1];
    let size_error = Value::Error("ERR string exceeds maximum allowed size (proto-max-bulk-len)".to_owned());
    assert_eq!(client.call(&[&b"SET"[..], b"k", &largest]).unwrap(), Value::ok());
    assert_eq!(client.call(&[&b"GET"[..], b"k"]).unwrap(), Value::Bulk(largest.clone()));
    assert_eq!(client.call(&[&b"SET"[..], b"k", &too_large]).unwrap(), size_error);
    assert_eq!(client.call(&[&b"APPEND"[..], b"k", b"x"]).unwrap(), size_error);
    assert_eq!(client.call(&[&b"STRLEN"[..], b"k"]).unwrap(), Value::Integer(256 * 1024));
    // Half a segment.
    let many = [&b"MSET"[..], b"a", &largest, b"b", &largest, b"c", b"1"];
    let Value::Error(text) = client.call(&many).unwrap() else { panic!("too large a command was taken") };
    assert!(text.starts_with("ERR command too large"), "{text}");
    assert_eq!(client.call(&["EXISTS", "a", "b", "c"]).unwrap(), Value::Integer(0));
    let key = vec![b'k'; 64 * 1024];
    assert_eq!(client.call(&[&b"SET"[..], &key, b"1"]).unwrap(), Value::ok());
    let key = vec![b'k'; 64 * 1024 + 1];
    let Value::Error(text) = client.call(&[&b"SET"[..], &key, b"1"]).unwrap() else {
        panic!("too long a key was taken")
    };
    assert!(text.starts_with("ERR key exceeds"), "{text}");
    // An announced length is refused before any memory is taken for it, and the connection goes on.
    let huge = vec![b'v'; 100 << 20];
    assert_eq!(client.call(&[&b"SET"[..], b"k", &huge]).unwrap(), size_error);
    assert_eq!(client.call(&["PING"]).unwrap(), Value::Simple("PONG".to_owned()));
}

#[test]
fn without_the_password_nothing_is_told() {
    let dir = TestDir::new();
    let password_file = dir.path().join("password");
    std::fs::write(&password_file, "sesame\n").unwrap();
    let certificates = Certificates::new(dir.path(), "limits");
    let mut setup = NodeSetup::alone(dir.path(), &certificates.node(1));
    setup.more_args.extend(["--password-file".to_owned(), password_file.display().to_string()]);
    let mut node = setup.start();
    node.wait_ready();
    let no_auth = Value::Error("NOAUTH Authentication required.".to_owned());
    let mut client = node.client();
    assert_eq!(client.call(&["GET", "a"]).unwrap(), no_auth);
    let wrong = "WRONGPASS invalid username-password pair or user is disabled.";
    assert_eq!(client.call(&["AUTH", "open"]).unwrap(), Value::Error(wrong.to_owned()));
    assert_eq!(client.call(&["AUTH", "default", "sesame"]).unwrap(), Value::ok());
    assert_eq!(client.call(&["SET", "a", "1"]).unwrap(), Value::ok());
    // Little is taken from strangers.
    let address = node.setup.client;
    let (said, _) = read_to_end(address, b"*11\r\n");
    assert_eq!(said, "-ERR Protocol error: unauthenticated multibulk length\r\n");
    let (said, _) = read_to_end(address, b"*2\r\n$3\r\nGET\r\n$16385\r\n");
    assert_eq!(said, "-ERR Protocol error: unauthenticated bulk length\r\n");
    // `/status` is closed, health and metrics are open.
    let http = node.setup.http;
    for (path, code) in [("/status", 401), ("/healthz", 200), ("/livez", 200), ("/readyz", 200), ("/metrics", 200)] {
        assert_eq!(get(http, path).unwrap().0, code, "{path}");
    }
    for scheme in ["Bearer sesame", "Basic YW55Ym9keTpzZXNhbWU="] {
        let request =
            format!("GET /status HTTP/1.1\r\nHost: x\r\nAuthorization: {scheme}\r\nConnection: close\r\n\r\n");
        let (answer, _) = read_to_end(http, request.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 200 "), "{scheme}: {answer}");
    }
    // Who does not say it within ten seconds is closed; who did may be idle.
    let (said, took) = read_to_end(address, b"");
    assert_eq!(said, "");
    assert!((9..20).contains(&took.as_secs()), "closed after {took:?}");
    assert_eq!(client.call(&["GET", "a"]).unwrap(), Value::bulk("1"));
}

#[test]
fn more_clients_than_allowed_are_told_so() {
    let dir = TestDir::new();
    let node = start(&dir, &["--max-clients", "2"]);
    let (mut one, mut two) = (node.client(), node.client());
    assert_eq!(one.call(&["PING"]).unwrap(), Value::Simple("PONG".to_owned()));
    assert_eq!(two.call(&["PING"]).unwrap(), Value::Simple("PONG".to_owned()));
    let (said, _) = read_to_end(node.setup.client, b"");
    assert_eq!(said, "-ERR max number of clients reached\r\n");
    drop(two);
    crate::harness::wait_for("room for another client", || {
        let mut client = Client::connect(node.setup.client).ok()?;
        client.call(&["PING"]).is_ok_and(|reply| reply == Value::Simple("PONG".to_owned())).then_some(())
    });
    assert_eq!(one.call(&["PING"]).unwrap(), Value::Simple("PONG".to_owned()));
}

/// A client that asks for much and reads nothing is closed, and the memory it takes is bounded meanwhile.
#[test]
fn a_client_that_never_reads_is_closed() {
    let dir = TestDir::new();
    let node = start(&dir, &[]);
    let mut other = node.client();
    let value = vec![b'v'; 200 * 1024];
    assert_eq!(other.call(&[&b"SET"[..], b"k", &value]).unwrap(), Value::ok());
    let mut silent = TcpStream::connect(node.setup.client).unwrap();
    silent.set_write_timeout(Some(Duration::from_secs(30))).unwrap();
    // Some of it reaches the buffers of the system; the rest is more than a connection may have unsent.
    let asked = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n".repeat(2000);
    // If it is closed before all is written, so much the better.
    let _closed_early = silent.write_all(&asked).is_err();
    crate::harness::wait_for("end of the silent client", || {
        let Value::Bulk(info) = other.call(&["INFO", "clients"]).unwrap() else { panic!("INFO") };
        String::from_utf8(info).unwrap().contains("connected_clients:1\r\n").then_some(())
    });
    assert_eq!(other.call(&["STRLEN", "k"]).unwrap(), Value::Integer(200 * 1024));
}

/// However much a client asks for at once, it is served as it reads; meanwhile others write.
#[test]
fn a_client_that_reads_is_served_whatever_it_asks_for() {
    const TIMES: usize = 1000;
    let dir = TestDir::new();
    let node = start(&dir, &[]);
    let mut other = node.client();
    let value = vec![b'v'; 250 * 1024];
    assert_eq!(other.call(&[&b"SET"[..], b"k", &value]).unwrap(), Value::ok());
    let mut stream = TcpStream::connect(node.setup.client).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(&b"GET k\r\n".repeat(TIMES)).unwrap();
    let expected = [format!("${}\r\n", value.len()).as_bytes(), &value, b"\r\n"].concat();
    let mut reply = vec![0; expected.len()];
    for at in 0..TIMES {
        stream.read_exact(&mut reply).unwrap();
        assert!(reply == expected, "reply {at}");
        if at % 100 == 0 {
            assert!(matches!(other.call(&["INCR", "n"]).unwrap(), Value::Integer(_)));
        }
    }
}

/// Whatever one connection sends, the others go on.
#[test]
fn garbage_on_one_connection_does_not_reach_another() {
    let dir = TestDir::new();
    let node = start(&dir, &[]);
    let mut other = node.client();
    let garbage: [&[u8]; 6] = [
        b"*1048577\r\n",
        b"*3\r\n$3\r\nSET\r\n$-5\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\"",
        b"POST / HTTP/1.1\r\nHost: x\r\n\r\nSET a 1\r\n",
        &[b'x'; 70_000],
        b"*2\r\n$1000000000000\r\n",
    ];
    for (at, sent) in (1..).zip(garbage) {
        let mut stream = TcpStream::connect(node.setup.client).unwrap();
        stream.write_all(sent).unwrap();
        // The node may have closed it already; what matters is that it does not wait for more.
        let _gone = stream.shutdown(std::net::Shutdown::Write).is_err();
        let _reset = stream.read_to_end(&mut Vec::new()).is_err();
        assert_eq!(other.call(&["INCR", "alive"]).unwrap(), Value::Integer(at));
    }
    assert_eq!(other.call(&["EXISTS", "a"]).unwrap(), Value::Integer(0));
}

/// Sent in one go, answered in order: reads see the writes before them and none of those after.
#[test]
fn a_long_pipeline_of_everything_is_answered_in_order() {
    let dir = TestDir::new();
    let node = start(&dir, &[]);
    let mut client = node.client();
    for round in 0..300 {
        let value = round.to_string();
        client.send(&["SET", "k", &value]).unwrap();
        client.send(&["GET", "k"]).unwrap();
        client.send(&["PING", &value]).unwrap();
        client.send(&["STRLEN", "k"]).unwrap();
        client.send(&["APPEND", "k", "x"]).unwrap();
        client.send(&["FOO"]).unwrap();
        client.send(&["GETRANGE", "k", "-1", "-1"]).unwrap();
    }
    for round in 0..300 {
        let value = round.to_string();
        assert_eq!(client.receive().unwrap(), Value::ok());
        assert_eq!(client.receive().unwrap(), Value::bulk(&value));
        assert_eq!(client.receive().unwrap(), Value::bulk(&value));
        let length = i64::try_from(value.len()).unwrap();
        assert_eq!(client.receive().unwrap(), Value::Integer(length));
        assert_eq!(client.receive().unwrap(), Value::Integer(length + 1));
        assert!(matches!(client.receive().unwrap(), Value::Error(_)));
        assert_eq!(client.receive().unwrap(), Value::bulk("x"));
    }
    for _ in 0..2000 {
        client.send(&["INCR", "n"]).unwrap();
    }
    for number in 1..=2000 {
        assert_eq!(client.receive().unwrap(), Value::Integer(number));
    }
}

/// A client that ends its half after the last command still gets every reply.
#[test]
fn a_half_closed_connection_is_answered() {
    let dir = TestDir::new();
    let node = start(&dir, &[]);
    let mut stream = TcpStream::connect(node.setup.client).unwrap();
    stream.write_all(b"SET a 1\r\nGET a\r\nINCR a\r\n").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert_eq!(said, "+OK\r\n$1\r\n1\r\n:2\r\n");
}
