//! What Redis 7.0.15 answered, byte for byte: `redis_replies.txt` is a recording, and a node must say the same.
//!
//! To record anew, run this test with `KONTIKI_RECORD_REDIS=127.0.0.1:PORT` of an empty redis-server.
//!
//! A line `> …` is sent as it stands, as an inline command; a line `>> …` is sent with `\r`, `\n` and `\xHH` replaced and
//! nothing added. The next line, `< …`, is the reply to it, with the same escapes; `<closed>` at its end means that the
//! connection was closed. `---` begins a new connection.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use crate::harness::{Certificates, NodeSetup, TestDir};

/// Sent after each command: its reply shows where the reply before it ends.
const MARK: &[u8] = b"*2\r\n$4\r\nECHO\r\n$12\r\n__the_mark__\r\n";
const MARK_REPLY: &[u8] = b"$12\r\n__the_mark__\r\n";

#[test]
fn a_node_answers_as_redis_did() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/redis_replies.txt");
    let script = std::fs::read_to_string(&path).unwrap();
    if let Ok(address) = std::env::var("KONTIKI_RECORD_REDIS") {
        std::fs::write(&path, play(&script, address.parse().unwrap())).unwrap();
        return;
    }
    let dir = TestDir::new();
    let certificates = Certificates::new(dir.path(), "redis-replies");
    let mut node = NodeSetup::alone(dir.path(), &certificates.node(1)).start();
    node.wait_ready();
    let played = play(&script, node.setup.client);
    for (said, recorded) in played.lines().zip(script.lines()) {
        assert_eq!(said, recorded, "in {played}");
    }
}

/// Plays a script; returns it with the replies that came.
fn play(script: &str, address: SocketAddr) -> String {
    let mut played = String::new();
    let mut stream = connect(address);
    for line in script.lines().filter(|line| !line.starts_with("< ")) {
        played.push_str(line);
        played.push('\n');
        let sent = if line == "---" {
            stream = connect(address);
            continue;
        } else if let Some(raw) = line.strip_prefix(">> ") {
            unescape(raw)
        } else if let Some(command) = line.strip_prefix("> ") {
            format!("{command}\r\n").into_bytes()
        } else {
            assert!(line.is_empty() || line.starts_with('#'), "{line}");
            continue;
        };
        writeln!(played, "< {}", call(&mut stream, &sent)).unwrap();
    }
    played
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Sends bytes and the mark; returns the escaped reply.
fn call(stream: &mut TcpStream, sent: &[u8]) -> String {
    stream.write_all(sent).unwrap();
    // A connection that is closed for what was sent does not take the mark.
    let is_open = stream.write_all(MARK).is_ok();
    let mut reply = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        if let Some(before) = reply.strip_suffix(MARK_REPLY).filter(|_| is_open) {
            return escape(before);
        }
        match stream.read(&mut chunk) {
            Ok(0) => return escape(&reply) + "<closed>",
            Ok(count) => reply.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return escape(&reply) + "<closed>",
            Err(error) => panic!("{error} after {:?}", escape(&reply)),
        }
    }
}

/// Makes bytes a line. The number of the client in HELLO's answer is not kept: it differs from run to run.
fn escape(bytes: &[u8]) -> String {
    let mut line = String::new();
    for &byte in bytes {
        match byte {
            b'\r' => line.push_str("\\r"),
            b'\n' => line.push_str("\\n"),
            b'\\' => line.push_str("\\\\"),
            b' '..=b'~' => line.push(char::from(byte)),
            _ => write!(line, "\\x{byte:02x}").unwrap(),
        }
    }
    match line.split_once("$2\\r\\nid\\r\\n:") {
        Some((before, after)) => {
            let after = after.trim_start_matches(|digit: char| digit.is_ascii_digit());
            format!("{before}$2\\r\\nid\\r\\n:ID{after}")
        }
        None => line,
    }
}

fn unescape(line: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = line.as_bytes();
    while let [byte, after @ ..] = rest {
        (rest, bytes) = match (byte, after) {
            (b'\\', [b'r', after @ ..]) => (after, [&bytes[..], b"\r"].concat()),
            (b'\\', [b'n', after @ ..]) => (after, [&bytes[..], b"\n"].concat()),
            (b'\\', [b'\\', after @ ..]) => (after, [&bytes[..], b"\\"].concat()),
            (b'\\', [b'x', high, low, after @ ..]) => {
                let digits = [*high, *low];
                let byte = u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap();
                (after, [&bytes[..], &[byte]].concat())
            }
            (byte, after) => (after, [&bytes[..], &[*byte]].concat()),
        };
    }
    bytes
}
