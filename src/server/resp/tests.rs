//! Commands that need no running node, against what Redis 7.0.15 answers; and what the others are translated to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::dispatch::{Decision, dispatch};
use super::door::{Door, NodeView, RespOptions};
use super::local::Conversation;
use super::translate::{Read, Request, Shape};
use crate::kv::{Command, Query, Reply, Set, SetCondition};
use crate::node::WriteSession;
use crate::proto::resp::{Limits, Output, Parser};
use crate::runtime::{MemberStatus, NodeStatus, Password, Role, StorageState};

fn status() -> Arc<NodeStatus> {
    let member = |id: u64| MemberStatus {
        id,
        peer_addr: format!("127.0.0.1:710{id}"),
        client_addr: format!("127.0.0.1:700{id}"),
        voter: true,
        match_index: (id == 1).then_some(9),
        last_contact_ms: None,
    };
    Arc::new(NodeStatus {
        node_id: 1,
        cluster_id: "0c".repeat(16),
        storage_uuid: "0a".repeat(16),
        role: Role::Leader,
        term: 3,
        leader_id: Some(1),
        commit_index: 9,
        applied_index: 9,
        first_log_index: 1,
        last_log_index: 9,
        snapshot_index: 0,
        members: vec![member(1), member(2)],
        joint: false,
        storage_state: StorageState::Ok,
        state_hash: "0b".repeat(16),
        keys: 42,
        sync_p99_us: 60,
        elections_total: 1,
        repaired_entries: 0,
        process_id: 4711,
        uptime_ms: 61_000,
    })
}

struct Bench {
    door: Door,
    conversation: Conversation,
}

impl Bench {
    fn new(password: Option<&str>) -> Bench {
        let options = RespOptions {
            password: password.map(|password| Password(password.as_bytes().to_vec())),
            max_clients: 2,
            max_value_bytes: 10,
            max_entry_bytes: 1000,
            request_timeout: Duration::from_secs(5),
            registry: Arc::default(),
        };
        let address = "127.0.0.1:7001".parse().expect("an address");
        let view = NodeView { status: Box::new(status), is_loading: Box::new(|| false) };
        let door = Door::new(options, address, 7, view);
        let from = "127.0.0.1:50000".parse().expect("an address");
        let client = door.clients.insert(from, address, Instant::now(), 2).expect("room");
        let conversation = Conversation::new(client, &door);
        Bench { door, conversation }
    }

    /// Hands over an inline command as if it came over the wire.
    fn decide(&mut self, line: &str, is_loading: bool) -> Decision {
        let mut input = BytesMut::from(format!("{line}\r\n").as_bytes());
        let mut arguments = Vec::new();
        let limits = Limits { authenticated: true, ..self.door.limits(true) };
        Parser::default().parse(&mut input, &limits, &mut arguments).expect("a command");
        dispatch(&mut arguments, false, is_loading, &mut self.conversation, &self.door).decision
    }

    /// Returns the answer as it goes over the wire.
    fn say(&mut self, line: &str) -> String {
        match self.decide(line, false) {
            Decision::Answer(answer) => {
                let mut output = Output::default();
                output.push_value(&answer.value, self.conversation.version);
                text(&output)
            }
            Decision::Submit(request) => format!("{request:?}"),
            Decision::Hang => "hang".to_owned(),
        }
    }

    fn request(&mut self, line: &str) -> Request {
        match self.decide(line, false) {
            Decision::Submit(request) => request,
            other => panic!("{line} is {other:?}"),
        }
    }
}

fn text(output: &Output) -> String {
    let mut slices = [std::io::IoSlice::new(&[]); 8];
    let filled = output.slices(&mut slices);
    slices[..filled].iter().map(|slice| String::from_utf8_lossy(slice).into_owned()).collect()
}

fn key(key: &'static str) -> Bytes {
    Bytes::from_static(key.as_bytes())
}

/// Commands and replies recorded from redis-server 7.0.15.
#[test]
fn refusals_are_those_of_redis() {
    let recorded = [
        ("foo", "-ERR unknown command 'foo', with args beginning with: \r\n"),
        ("foo a b", "-ERR unknown command 'foo', with args beginning with: 'a' 'b' \r\n"),
        ("GET", "-ERR wrong number of arguments for 'get' command\r\n"),
        ("SELECT 1", "-ERR DB index is out of range\r\n"),
        ("SELECT x", "-ERR value is not an integer or out of range\r\n"),
        ("CLIENT", "-ERR wrong number of arguments for 'client' command\r\n"),
        ("CLIENT foo", "-ERR unknown subcommand 'foo'. Try CLIENT HELP.\r\n"),
        ("CLIENT id x", "-ERR wrong number of arguments for 'client|id' command\r\n"),
        ("CLIENT SETNAME \"a b\"", "-ERR Client names cannot contain spaces, newlines or special characters.\r\n"),
        ("CLIENT LIST TYPE foo", "-ERR Unknown client type 'foo'\r\n"),
        ("CLIENT LIST ID x", "-ERR Invalid client ID\r\n"),
        ("CLIENT KILL foo", "-ERR No such client\r\n"),
        ("CLIENT KILL ID x", "-ERR client-id should be greater than 0\r\n"),
        ("CLIENT KILL ID 1 FOO", "-ERR syntax error\r\n"),
        ("HELLO 4", "-NOPROTO unsupported protocol version\r\n"),
        ("HELLO x", "-ERR Protocol version is not an integer or out of range\r\n"),
        ("HELLO 3 foo", "-ERR Syntax error in HELLO option 'foo'\r\n"),
        ("HELLO 2 SETNAME \"a b\"", "-ERR Client names cannot contain spaces, newlines or special characters.\r\n"),
        (
            "AUTH x",
            "-ERR AUTH <password> called without any password configured for the default user. Are you sure your \
             configuration is correct?\r\n",
        ),
        ("AUTH foo x", "-WRONGPASS invalid username-password pair or user is disabled.\r\n"),
        ("PING a b", "-ERR wrong number of arguments for 'ping' command\r\n"),
        ("SET a 1 FOO", "-ERR syntax error\r\n"),
        ("SET a 1 NX XX", "-ERR syntax error\r\n"),
        ("SET a 1 IFEQ", "-ERR syntax error\r\n"),
        ("SET a 1 IFEQ x NX", "-ERR syntax error\r\n"),
        ("SET a 1 IFREV x", "-ERR value is not an integer or out of range\r\n"),
        ("MSET a 1 b", "-ERR wrong number of arguments for 'mset' command\r\n"),
        ("MSETNX a 1 b", "-ERR wrong number of arguments for 'msetnx' command\r\n"),
        ("INCRBY a x", "-ERR value is not an integer or out of range\r\n"),
        ("DECRBY a -9223372036854775808", "-ERR decrement would overflow\r\n"),
        ("FLUSHALL foo", "-ERR syntax error\r\n"),
        ("FLUSHALL ASYNC x", "-ERR syntax error\r\n"),
        ("FUNCTION FLUSH FOO", "-ERR FUNCTION FLUSH only supports SYNC|ASYNC option\r\n"),
        ("GETRANGE a 0 x", "-ERR value is not an integer or out of range\r\n"),
        ("CONFIG FOO", "-ERR unknown subcommand 'FOO'. Try CONFIG HELP.\r\n"),
        ("CONFIG SET foo 1", "-ERR Unknown option or number of arguments for CONFIG SET - 'foo'\r\n"),
        ("CONFIG SET port", "-ERR wrong number of arguments for 'config|set' command\r\n"),
        (
            "CONFIG SET databases 1",
            "-ERR CONFIG SET failed (possibly related to argument 'databases') - can't set immutable config\r\n",
        ),
        ("COMMAND GETKEYS PING x", "-ERR The command has no key arguments\r\n"),
        ("COMMAND GETKEYS FOO x", "-ERR Invalid command specified\r\n"),
        ("COMMAND LIST FOO", "-ERR syntax error\r\n"),
        ("SCAN x", "-ERR invalid cursor\r\n"),
        ("SCAN 0 COUNT x", "-ERR value is not an integer or out of range\r\n"),
        ("SCAN 0 COUNT 0", "-ERR syntax error\r\n"),
        ("SCAN 0 FOO", "-ERR syntax error\r\n"),
        ("Host: x", "hang"),
        ("POST / HTTP/1.1", "hang"),
    ];
    let mut bench = Bench::new(None);
    for (command, reply) in recorded {
        assert_eq!(bench.say(command), reply, "{command}");
    }
}

/// Commands and replies recorded from redis-server 7.0.15.
#[test]
fn answers_are_those_of_redis() {
    let recorded = [
        ("PING", "+PONG\r\n"),
        ("PING a", "$1\r\na\r\n"),
        ("ECHO a", "$1\r\na\r\n"),
        ("SELECT 0", "+OK\r\n"),
        ("CLIENT ID", ":1\r\n"),
        ("CLIENT GETNAME", "$-1\r\n"),
        ("CLIENT SETNAME x", "+OK\r\n"),
        ("CLIENT GETNAME", "$1\r\nx\r\n"),
        ("AUTH default x", "+OK\r\n"),
        ("CONFIG GET foo", "*0\r\n"),
        ("CONFIG GET maxclients save", "*4\r\n$10\r\nmaxclients\r\n$1\r\n2\r\n$4\r\nsave\r\n$0\r\n\r\n"),
        ("COMMAND GETKEYS MSET a 1 b 2", "*2\r\n$1\r\na\r\n$1\r\nb\r\n"),
        (
            "COMMAND INFO get foo",
            "*2\r\n*10\r\n$3\r\nget\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n*3\r\n+@read\r\n+@string\r\n\
             +@fast\r\n*0\r\n*1\r\n*6\r\n$5\r\nflags\r\n*2\r\n+RO\r\n+access\r\n$12\r\nbegin_search\r\n*4\r\n$4\r\ntype\r\n\
             $5\r\nindex\r\n$4\r\nspec\r\n*2\r\n$5\r\nindex\r\n:1\r\n$9\r\nfind_keys\r\n*4\r\n$4\r\ntype\r\n$5\r\nrange\r\n\
             $4\r\nspec\r\n*6\r\n$7\r\nlastkey\r\n:0\r\n$7\r\nkeystep\r\n:1\r\n$5\r\nlimit\r\n:0\r\n*0\r\n$-1\r\n",
        ),
        ("FUNCTION FLUSH", "+OK\r\n"),
        (
            "HELLO 3",
            "%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:1\r\n\
             $4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n",
        ),
        ("CONFIG GET save", "%1\r\n$4\r\nsave\r\n$0\r\n\r\n"),
        (
            "COMMAND INFO ping",
            "*1\r\n*10\r\n$4\r\nping\r\n:-1\r\n~1\r\n+fast\r\n:0\r\n:0\r\n:0\r\n~2\r\n+@fast\r\n+@connection\r\n~0\r\n~0\r\n~0\r\n",
        ),
        ("RESET", "+RESET\r\n"),
        ("CLIENT GETNAME", "$-1\r\n"),
    ];
    let mut bench = Bench::new(None);
    for (command, reply) in recorded {
        assert_eq!(bench.say(command), reply, "{command}");
    }
}

#[test]
fn nothing_is_done_before_the_password() {
    let mut bench = Bench::new(Some("secret"));
    assert_eq!(bench.say("GET a"), "-NOAUTH Authentication required.\r\n");
    assert_eq!(bench.say("PING"), "-NOAUTH Authentication required.\r\n");
    assert!(bench.say("HELLO 3").starts_with("-NOAUTH HELLO must be called with the client already authenticated"));
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
    assert_eq!(bench.say("AUTH secre"), wrong);
    assert_eq!(bench.say("AUTH other secret"), wrong);
    assert_eq!(bench.say("HELLO 3 AUTH default no"), wrong);
    assert_eq!(bench.say("PING"), "-NOAUTH Authentication required.\r\n");
    assert_eq!(bench.say("AUTH secret"), "+OK\r\n");
    assert_eq!(bench.say("PING"), "+PONG\r\n");
    assert_eq!(bench.say("RESET"), "+RESET\r\n");
    assert_eq!(bench.say("PING"), "-NOAUTH Authentication required.\r\n");
    assert!(bench.say("HELLO 2 AUTH default secret SETNAME me").starts_with("*14\r\n"));
    assert_eq!(bench.say("CLIENT GETNAME"), "$2\r\nme\r\n");
}

#[test]
fn a_node_that_recovers_says_so() {
    let mut bench = Bench::new(None);
    let loading = |decision| match decision {
        Decision::Answer(answer) => format!("{:?}", answer.value).contains("LOADING"),
        Decision::Submit(_) | Decision::Hang => false,
    };
    for refused in ["PING", "GET a", "SET a 1", "DBSIZE"] {
        assert!(loading(bench.decide(refused, true)), "{refused}");
    }
    for answered in ["HELLO", "INFO", "COMMAND COUNT", "CLIENT ID", "RAFT STATUS"] {
        assert!(!loading(bench.decide(answered, true)), "{answered}");
    }
}

#[test]
fn writes_are_translated() {
    let set = Set {
        key: key("a"),
        value: key("1"),
        condition: SetCondition::Always,
        return_old: false,
        deadline_ms: None,
        keep_deadline: false,
    };
    let with = |condition| Set { condition, ..set.clone() };
    let cases = [
        ("set a 1", Command::Set(set.clone()), Shape::Plain),
        ("SET a 1 nx", Command::Set(with(SetCondition::IfAbsent)), Shape::Plain),
        ("SET a 1 XX GET", Command::Set(Set { return_old: true, ..with(SetCondition::IfPresent) }), Shape::Plain),
        (
            "SET a 1 IFEQ b KEEPTTL",
            Command::Set(Set { keep_deadline: true, ..with(SetCondition::IfEqual(key("b"))) }),
            Shape::Plain,
        ),
        ("SET a 1 IFNE b", Command::Set(with(SetCondition::IfNotEqual(key("b")))), Shape::Plain),
        ("SET a 1 IFREV 0", Command::Set(with(SetCondition::IfRevision(0))), Shape::Plain),
        ("SETNX a 1", Command::Set(with(SetCondition::IfAbsent)), Shape::Truth),
        ("GETSET a 1", Command::Set(Set { return_old: true, ..set.clone() }), Shape::Plain),
        ("APPEND a 1", Command::Append { key: key("a"), value: key("1") }, Shape::Plain),
        ("UNLINK a b a", Command::Delete { keys: vec![key("a"), key("b"), key("a")] }, Shape::Plain),
        (
            "MSET a 1 b 2",
            Command::SetMany { pairs: vec![(key("a"), key("1")), (key("b"), key("2"))], only_if_none_exists: false },
            Shape::Plain,
        ),
        ("MSETNX a 1", Command::SetMany { pairs: vec![(key("a"), key("1"))], only_if_none_exists: true }, Shape::Truth),
        ("DECRBY a 5", Command::Increment { key: key("a"), by: -5 }, Shape::Plain),
        ("FLUSHDB async", Command::FlushAll, Shape::Plain),
        ("SESSION OPEN", Command::OpenSession, Shape::NumberAsBulk),
    ];
    let mut bench = Bench::new(None);
    for (line, command, shape) in cases {
        assert_eq!(bench.request(line), Request::Write { command, session: WriteSession::Connection, shape }, "{line}");
    }
}

#[test]
fn a_session_takes_one_command_and_its_number() {
    let mut bench = Bench::new(None);
    let session = WriteSession::Opened { session: 7, seq: 3, first_unanswered: 0 };
    let command = Command::Append { key: key("a"), value: key("1") };
    assert_eq!(bench.request("SESSION DO 7 3 APPEND a 1"), Request::Write { command, session, shape: Shape::Plain });
    let command = Command::Query(Query::Get { key: key("a") });
    let shape = Shape::Slice { start: 0, end: 1 };
    assert_eq!(bench.request("SESSION DO 7 3 GETRANGE a 0 1"), Request::Write { command, session, shape });
    for (line, error) in [
        ("SESSION DO 7 3", "-ERR wrong number of arguments for 'session|do' command\r\n"),
        ("SESSION DO x 3 GET a", "-ERR value is not an integer or out of range\r\n"),
        ("SESSION DO 7 0 GET a", "-ERR value is not an integer or out of range\r\n"),
        ("SESSION DO 7 3 GET", "-ERR wrong number of arguments for 'get' command\r\n"),
        ("SESSION DO 7 3 MULTI", "-ERR unknown command 'MULTI', with args beginning with: \r\n"),
        ("SESSION DO 7 3 PING", "-ERR 'ping' cannot be executed in a session; not executed\r\n"),
        ("SESSION DO 7 3 SCAN 0", "-ERR 'scan' cannot be executed in a session; not executed\r\n"),
        ("SESSION DO 7 3 SESSION OPEN", "-ERR 'session' cannot be executed in a session; not executed\r\n"),
    ] {
        assert_eq!(bench.say(line), error, "{line}");
    }
}

#[test]
fn reads_are_translated() {
    let mut bench = Bench::new(None);
    let range = |start, end, limit, with_revision| Query::Range { start, end, limit, with_revision };
    let cases = [
        ("GET a", Query::Get { key: key("a") }, Shape::Plain),
        ("TOUCH a b", Query::Exists { keys: vec![key("a"), key("b")] }, Shape::Plain),
        ("GETREV a", Query::GetRevision { key: key("a") }, Shape::NilAsArray),
        ("RANGE - +", range(None, None, u64::MAX, false), Shape::Plain),
        ("RANGE a z LIMIT 2 rev", range(Some(key("a")), Some(key("z")), 2, true), Shape::Plain),
    ];
    for (line, query, shape) in cases {
        assert_eq!(bench.request(line), Request::Read(Read::Query(query, shape)), "{line}");
    }
    assert_eq!(bench.request("RANDOMKEY"), Request::Read(Read::RandomKey));
}

#[test]
fn a_part_of_a_value_is_cut_as_redis_cuts_it() {
    let recorded = [
        (0, 3, "Hell"),
        (-3, -1, "rld"),
        (0, -1, "Hello World"),
        (4, 2, ""),
        (-1, -5, ""),
        (-100, 2, "Hel"),
        (9, 100, "ld"),
        (20, 30, ""),
        (i64::MIN, i64::MAX, "Hello World"),
    ];
    let value = Reply::Bulk(key("Hello World"));
    for (start, end, part) in recorded {
        let mut output = Output::default();
        Shape::Slice { start, end }.push(&value, &mut output, crate::proto::resp::Version::Two);
        assert_eq!(text(&output), format!("${}\r\n{part}\r\n", part.len()), "{start} {end}");
    }
}

#[test]
fn keys_and_values_have_a_greatest_size() {
    let mut bench = Bench::new(None);
    let error = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n";
    for line in ["SET a 12345678901", "APPEND a 12345678901", "MSET b 1 a 12345678901", "SET a 1 IFEQ 12345678901"] {
        assert_eq!(bench.say(line), error, "{line}");
    }
    assert!(matches!(bench.request("SET a 1234567890"), Request::Write { .. }));
    let long = "k".repeat(64 * 1024);
    let mut arguments = [key("MGET"), key("a"), Bytes::from(format!("{long}k"))];
    let refused = dispatch(&mut arguments, false, false, &mut bench.conversation, &bench.door).decision;
    assert!(format!("{refused:?}").contains("key exceeds maximum allowed size"), "{refused:?}");
    let mut arguments = [key("GET"), Bytes::from(long)];
    let taken = dispatch(&mut arguments, false, false, &mut bench.conversation, &bench.door).decision;
    assert!(matches!(taken, Decision::Submit(_)), "{taken:?}");
}

#[test]
fn info_has_what_clients_parse() {
    let mut bench = Bench::new(None);
    let all = bench.say("INFO");
    for line in [
        "redis_version:7.0.15",
        "kontiki_version:",
        "arch_bits:64",
        "process_id:4711",
        "role:master",
        "cluster_enabled:0",
        "connected_clients:1",
        "used_memory_human:",
        "db0:keys=42",
        "# Raft",
        "leader_id:1",
        "state_hash:0b0b",
        "member0:id=1,peer_addr=127.0.0.1:7101,client_addr=127.0.0.1:7001,voter=true,match_index=9,last_contact_ms=null",
        "loading:0",
    ] {
        assert!(all.contains(&format!("\r\n{line}")), "{line} is not in {all}");
    }
    assert_eq!(all.matches("\r\nrole:").count(), 1, "clients that flatten sections take the last");
    assert!(all.contains("\r\nraft_role:leader\r\n"), "{all}");
    assert!(bench.say("INFO raft").contains("\r\nrole:leader\r\n"));
    let some = bench.say("INFO raft replication");
    assert!(some.contains("# Replication") && some.contains("# Raft") && !some.contains("# Server"), "{some}");
    assert_eq!(bench.say("INFO foo"), "$0\r\n\r\n");
}

#[test]
fn counts_may_be_reset_and_the_client_limit_set() {
    let mut bench = Bench::new(None);
    bench.door.counters.reads.add(5);
    assert!(bench.say("INFO stats").contains("total_commands_processed:5\r\n"));
    assert_eq!(bench.say("CONFIG RESETSTAT"), "+OK\r\n");
    assert!(bench.say("INFO stats").contains("total_commands_processed:0\r\n"));
    assert_eq!(bench.say("CONFIG SET maxclients 1"), "+OK\r\n");
    let from = "127.0.0.1:50001".parse().expect("an address");
    assert!(bench.door.clients.insert(from, from, Instant::now(), bench.door.max_clients()).is_none());
}

#[test]
fn a_client_can_end_another_and_itself() {
    let mut bench = Bench::new(None);
    let from = "127.0.0.1:50001".parse().expect("an address");
    let other = bench.door.clients.insert(from, from, Instant::now(), 9).expect("room");
    assert_eq!(bench.say("CLIENT KILL ID 2"), ":1\r\n");
    assert_eq!(other.end(), super::clients::End::Now);
    assert_eq!(bench.say("CLIENT KILL ID 1"), ":0\r\n");
    match bench.decide("CLIENT KILL ID 1 SKIPME no", false) {
        Decision::Answer(answer) => assert!(answer.closes),
        other => panic!("{other:?}"),
    }
    let list = bench.say("CLIENT LIST");
    assert!(list.contains("id=1 addr=127.0.0.1:50000 laddr=127.0.0.1:7001 "), "{list}");
    assert!(list.contains("\nid=2 addr=127.0.0.1:50001 "), "{list}");
}

#[test]
fn raft_status_has_the_fields_of_http() {
    let mut bench = Bench::new(None);
    let json = serde_json::to_value(&*status()).expect("JSON");
    let names: Vec<&String> = json.as_object().expect("an object").keys().collect();
    let said = bench.say("RAFT STATUS");
    assert!(said.starts_with(&format!("*{}\r\n", names.len() * 2)), "{said}");
    for name in names {
        assert!(said.contains(&format!("${}\r\n{name}\r\n", name.len())), "{name} is not in {said}");
    }
    let members = bench.say("RAFT MEMBERS");
    assert!(
        members
            .starts_with("*2\r\n*5\r\n:1\r\n$14\r\n127.0.0.1:7101\r\n$14\r\n127.0.0.1:7001\r\n$5\r\nvoter\r\n:9\r\n"),
        "{members}"
    );
}
