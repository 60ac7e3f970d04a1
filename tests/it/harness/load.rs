//! Clients that write until told to stop and remember what was acknowledged.
//!
//! Each client does two things in turn: it sets a key that it never used before, and it appends to its own list inside
//! a session, with the same sequence number again and again until that is answered.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use super::{Client, TestNode, Value, pause};

/// What the cluster promised to keep.
#[derive(Debug, Default)]
pub struct Acknowledged {
    /// Keys whose SET was answered with OK, and their values.
    pub keys: BTreeMap<String, String>,
    /// For each list: how many appends were answered.
    pub lists: BTreeMap<String, u64>,
    /// When each acknowledged SET was sent and answered.
    pub sets: Vec<(Instant, Instant)>,
}

/// Running clients.
pub struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Acknowledged>>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts `clients` clients that spread over `nodes`. `name` keeps their keys apart from other loads'.
    pub fn start(name: &str, nodes: &[TestNode], clients: usize) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(Mutex::new(Acknowledged::default()));
        let addresses: Vec<SocketAddr> = nodes.iter().map(|node| node.setup.client).collect();
        let clients = (0..clients).map(|number| {
            let mut writer = Writer {
                name: format!("{name}:{number}"),
                addresses: addresses.clone(),
                at: number,
                connection: None,
                stop: Arc::clone(&stop),
                acknowledged: Arc::clone(&acknowledged),
            };
            thread::spawn(move || writer.run())
        });
        Load { clients: clients.collect(), stop, acknowledged }
    }

    /// Returns how long after `moment` the first write was acknowledged that was sent after `moment`.
    pub fn first_write_after(&self, moment: Instant) -> Option<std::time::Duration> {
        let acknowledged = self.acknowledged.lock().unwrap();
        let after = acknowledged.sets.iter().filter(|(sent, _)| *sent >= moment);
        after.map(|(_, answered)| *answered - moment).min()
    }

    /// Returns how many SETs were acknowledged so far.
    pub fn sets(&self) -> usize {
        self.acknowledged.lock().unwrap().sets.len()
    }

    /// Lets every client finish what it is doing and returns what was acknowledged.
    pub fn finish(mut self) -> Acknowledged {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            client.join().unwrap();
        }
        std::mem::take(&mut self.acknowledged.lock().unwrap())
    }
}

struct Writer {
    name: String,
    addresses: Vec<SocketAddr>,
    at: usize,
    connection: Option<Client>,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Mutex<Acknowledged>>,
}

impl Writer {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn run(&mut self) {
        let Some(session) = self.until_answered(&["SESSION", "OPEN"]) else { return };
        let Value::Bulk(session) = session else { panic!("SESSION OPEN: {session:?}") };
        let session = String::from_utf8(session).unwrap();
        let list = format!("list:{}", self.name);
        let mut length = 0;
        for number in 1u64.. {
            let (key, value) = (format!("key:{}:{number}", self.name), format!("value of {number}"));
            let sent = Instant::now();
            if self.call(&["SET", &key, &value]) == Some(Value::ok()) {
                let mut acknowledged = self.acknowledged.lock().unwrap();
                acknowledged.keys.insert(key, value);
                acknowledged.sets.push((sent, Instant::now()));
            }
            let (seq, item) = (number.to_string(), format!("{number};"));
            length += i64::try_from(item.len()).unwrap();
            let Some(reply) = self.until_answered(&["SESSION", "DO", &session, &seq, "APPEND", &list, &item]) else {
                return;
            };
            assert_eq!(reply, Value::Integer(length), "{list}: an append was lost or taken twice");
            self.acknowledged.lock().unwrap().lists.insert(list.clone(), number);
            if self.stopped() {
                return;
            }
        }
    }

    /// Sends a command until it has a reply other than an error that allows to try again; `None` if stopped before.
    fn until_answered(&mut self, args: &[&str]) -> Option<Value> {
        let again = ["CLUSTERDOWN", "UNCERTAIN", "OVERLOADED", "LOADING"];
        loop {
            match self.call(args) {
                Some(Value::Error(text)) if again.iter().any(|word| text.starts_with(word)) => {}
                Some(reply) => return Some(reply),
                None => {}
            }
            if self.stopped() {
                return None;
            }
        }
    }

    /// Sends a command once; `None` if the connection broke. The next call uses the next node then.
    fn call(&mut self, args: &[&str]) -> Option<Value> {
        if self.connection.is_none() {
            self.at += 1;
            self.connection = Client::connect(self.addresses[self.at % self.addresses.len()]).ok();
        }
        let Some(connection) = &mut self.connection else {
            pause();
            return None;
        };
        let reply = connection.call(args);
        if reply.is_err() {
            self.connection = None;
        }
        reply.ok()
    }
}

impl Acknowledged {
    /// Adds what a later load was promised.
    pub fn extend(&mut self, later: Acknowledged) {
        self.keys.extend(later.keys);
        self.lists.extend(later.lists);
        self.sets.extend(later.sets);
    }

    /// Asserts that a node has every acknowledged key, and every list item once and in order.
    #[track_caller]
    pub fn assert_kept_by(&self, node: &TestNode) {
        let mut client = node.client();
        let keys: Vec<_> = self.keys.iter().collect();
        for chunk in keys.chunks(500) {
            let args: Vec<&str> = ["MGET"].into_iter().chain(chunk.iter().map(|(key, _)| key.as_str())).collect();
            let expected = chunk.iter().map(|(_, value)| Value::bulk(value)).collect();
            let found = client.call(&args).unwrap();
            assert_eq!(found, Value::Array(expected), "node {} lost acknowledged keys", node.setup.id);
        }
        for (list, count) in &self.lists {
            let Value::Bulk(found) = client.call(&["GET", list]).unwrap() else {
                panic!("node {} lost {list}", node.setup.id)
            };
            // One item more than acknowledged is possible: sent, taken, but the client was stopped before the reply.
            let items = |count: u64| (1..=count).map(|number| format!("{number};")).collect::<String>().into_bytes();
            assert!(
                found == items(*count) || found == items(count + 1),
                "node {}: {list} is not 1;2;…{count}; once each: {}",
                node.setup.id,
                found.escape_ascii()
            );
        }
    }
}
