//! Any node takes any command and answers like Redis.

use crate::harness::{TestCluster, Value};

#[test]
fn three_nodes_answer_like_redis_through_any_of_them() {
    let cluster = TestCluster::start(3);
    let [mut one, mut two, mut three] = [0, 1, 2].map(|at| cluster.nodes[at].client());
    assert_eq!(one.call(&["PING"]).unwrap(), Value::Simple("PONG".to_owned()));
    assert_eq!(one.call(&["SET", "a", "1"]).unwrap(), Value::ok());
    assert_eq!(two.call(&["GET", "a"]).unwrap(), Value::bulk("1"));
    assert_eq!(three.call(&["APPEND", "a", "2"]).unwrap(), Value::Integer(2));
    assert_eq!(one.call(&["GET", "a"]).unwrap(), Value::bulk("12"));
    assert_eq!(two.call(&["STRLEN", "a"]).unwrap(), Value::Integer(2));
    assert_eq!(two.call(&["INCR", "a"]).unwrap(), Value::Integer(13));
    assert_eq!(three.call(&["MSET", "b", "x", "c", "\0\r\n"]).unwrap(), Value::ok());
    let values = [Value::bulk("13"), Value::Nil, Value::bulk("\0\r\n")];
    assert_eq!(one.call(&["MGET", "a", "absent", "c"]).unwrap(), Value::Array(values.to_vec()));
    assert_eq!(two.call(&["DBSIZE"]).unwrap(), Value::Integer(3));
    assert_eq!(three.call(&["EXISTS", "a", "a", "absent"]).unwrap(), Value::Integer(2));
    assert_eq!(one.call(&["DEL", "a", "absent"]).unwrap(), Value::Integer(1));
    assert_eq!(three.call(&["TYPE", "a"]).unwrap(), Value::Simple("none".to_owned()));
    assert_eq!(two.call(&["INCR", "b"]).unwrap(), error("ERR value is not an integer or out of range"));
    assert_eq!(
        three.call(&["LPUSH", "a", "1"]).unwrap(),
        error("ERR unknown command 'LPUSH', with args beginning with: 'a' '1' ")
    );
    assert_eq!(one.call(&["GET"]).unwrap(), error("ERR wrong number of arguments for 'get' command"));
    cluster.assert_converged();
}

/// A retried command of a session is executed once, whichever node it is sent to.
#[test]
fn a_session_executes_each_number_once_on_any_node() {
    let cluster = TestCluster::start(3);
    let [mut one, mut two, mut three] = [0, 1, 2].map(|at| cluster.nodes[at].client());
    let Value::Bulk(session) = one.call(&["SESSION", "OPEN"]).unwrap() else { panic!("SESSION OPEN") };
    let session = std::str::from_utf8(&session).unwrap();
    for client in [&mut one, &mut two, &mut three] {
        let reply = client.call(&["SESSION", "DO", session, "1", "APPEND", "log", "x"]).unwrap();
        assert_eq!(reply, Value::Integer(1));
    }
    assert_eq!(two.call(&["SESSION", "DO", session, "2", "APPEND", "log", "y"]).unwrap(), Value::Integer(2));
    assert_eq!(three.call(&["GET", "log"]).unwrap(), Value::bulk("xy"));
    let Value::Error(text) = one.call(&["SESSION", "DO", "999999999", "1", "SET", "a", "1"]).unwrap() else {
        panic!("an unknown session was served")
    };
    assert!(text.starts_with("SESSIONEXPIRED "), "{text}");
}

/// A pipelined connection gets its replies in order, through a follower as through the leader.
#[test]
fn pipelined_replies_come_in_order() {
    let cluster = TestCluster::start(3);
    for node in &cluster.nodes {
        let mut client = node.client();
        let key = format!("count:{}", node.setup.id);
        for _ in 0..100 {
            client.send(&["INCR", &key]).unwrap();
            client.send(&["GET", &key]).unwrap();
        }
        for number in 1..=100 {
            assert_eq!(client.receive().unwrap(), Value::Integer(number));
            assert_eq!(client.receive().unwrap(), Value::bulk(number.to_string()));
        }
    }
}

fn error(text: &str) -> Value {
    Value::Error(text.to_owned())
}
