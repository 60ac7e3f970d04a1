//! What popular Redis clients say before their first command, as recorded, and that a node takes it.

use crate::harness::{Certificates, NodeSetup, TestDir, Value};

/// A client, and the commands of its handshake.
const RECORDED: &[(&str, &[&str])] = &[
    ("redis-cli 7.0", &["COMMAND DOCS"]),
    ("redis-cli 7.0, if DOCS is refused", &["COMMAND", "INFO SERVER"]),
    ("redis-benchmark 7.0", &["CONFIG GET save", "CONFIG GET appendonly"]),
    ("redis-py 7.4", &["CLIENT SETINFO LIB-NAME redis-py", "CLIENT SETINFO LIB-VER 7.4.1"]),
    ("redis-py 8.1", &["HELLO 3", "CLIENT SETINFO LIB-NAME redis-py", "CLIENT SETINFO LIB-VER 8.1.0"]),
    ("ioredis 6.0", &["HELLO 3", "CLIENT SETINFO LIB-NAME ioredis", "CLIENT SETINFO LIB-VER 6.0.0", "INFO"]),
    ("node-redis 6.3", &["HELLO 3", "CLIENT SETINFO LIB-NAME node-redis", "CLIENT SETINFO LIB-VER 6.3.1"]),
    (
        "valkey-glide 2.5",
        &["HELLO 3", "CLIENT SETINFO lib-name GlideRust", "CLIENT SETINFO lib-ver 2.5.3", "INFO REPLICATION"],
    ),
    ("redis-rs 1.8", &["CLIENT SETINFO LIB-NAME redis-rs", "CLIENT SETINFO LIB-VER 1.8.0"]),
    ("rq", &["INFO server"]),
    ("Redis' own test suite", &["FLUSHALL", "FUNCTION FLUSH", "CONFIG GET save", "SELECT 0", "PING"]),
];

/// Commands of handshakes that may be refused, and the words that clients expect then.
const MAY_BE_REFUSED: &[(&str, &str)] = &[(
    "CLIENT MAINT_NOTIFICATIONS ON moving-endpoint-type external-ip",
    "ERR unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP.",
)];

#[test]
fn handshakes_of_popular_clients_are_taken() {
    let dir = TestDir::new();
    let certificates = Certificates::new(dir.path(), "handshakes");
    let mut node = NodeSetup::alone(dir.path(), &certificates.node(1)).start();
    node.wait_ready();
    for (client, commands) in RECORDED {
        let mut connection = node.client();
        for command in *commands {
            let words: Vec<&str> = command.split(' ').collect();
            let reply = connection.call(&words).unwrap();
            assert!(!matches!(reply, Value::Error(_)), "{client}: {command}: {reply:?}");
        }
        assert_eq!(connection.call(&["SET", "a", "1"]).unwrap(), Value::ok(), "{client}");
    }
    for (command, refusal) in MAY_BE_REFUSED {
        let words: Vec<&str> = command.split(' ').collect();
        assert_eq!(node.client().call(&words).unwrap(), Value::Error((*refusal).to_owned()));
    }
}
