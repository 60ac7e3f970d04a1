//! A torn tail is dropped; damage to what was acknowledged is told with its address, and never served.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{Certificates, NodeSetup, TestCluster, TestDir, TestNode, Value};

const DAMAGED: i32 = 65;
const NEEDLE: &str = "a value that is easily found in a segment file";

/// Starts a node alone, with acknowledged keys before, at and after the needle.
fn node_with_needle(dir: &TestDir) -> TestNode {
    let certificates = Certificates::new(dir.path(), "it");
    let mut node = NodeSetup::alone(dir.path(), &certificates.node(1)).start();
    node.wait_ready();
    fill(&node);
    node
}

fn fill(node: &TestNode) {
    let mut client = node.client();
    for number in 0..40 {
        let value = if number == 20 { NEEDLE.to_owned() } else { format!("value {number}") };
        assert_eq!(client.call(&["SET", &format!("key {number}"), &value]).unwrap(), Value::ok());
    }
}

#[track_caller]
fn assert_filled(node: &TestNode) {
    let mut client = node.client();
    for number in 0..40 {
        let value = if number == 20 { NEEDLE.to_owned() } else { format!("value {number}") };
        assert_eq!(client.call(&["GET", &format!("key {number}")]).unwrap(), Value::bulk(value));
    }
}

/// The slot file that holds the needle, and where.
fn find_needle(data_dir: &Path) -> (PathBuf, usize) {
    for entry in fs::read_dir(data_dir.join("wal")).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(NEEDLE.len()).position(|window| window == NEEDLE.as_bytes()) {
            return (path, at);
        }
    }
    panic!("no slot holds the needle");
}

fn change(file: &Path, change: impl FnOnce(&mut [u8])) {
    let mut bytes = fs::read(file).unwrap();
    change(&mut bytes);
    fs::write(file, bytes).unwrap();
}

#[test]
fn a_flipped_bit_is_reported_with_its_address_and_not_served() {
    let dir = TestDir::new();
    let mut node = node_with_needle(&dir);
    node.stop();
    let (file, at) = find_needle(&node.setup.data_dir);
    change(&file, |bytes| bytes[at + 3] ^= 0x10);

    node.restart();
    let output = node.process.wait();
    let name = file.file_name().unwrap().to_str().unwrap();
    output.assert_refused(DAMAGED, &[name, "byte", "index", "term", "kontiki-inspect verify"]);
    let number_after = |word: &str| -> u64 {
        let (_, rest) = output.stderr.split_once(word).unwrap();
        let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or_else(|_| panic!("no number after {word}: {}", output.stderr))
    };
    let at = at as u64;
    assert!((at - 256..at).contains(&number_after("byte")), "the record begins shortly before {at}: {}", output.stderr);
    assert!(number_after("index") > 20 && number_after("term") > 0, "{}", output.stderr);

    // Nothing was repaired or dropped behind the operator's back: with the bit put right, all is there.
    change(&file, |bytes| bytes[usize::try_from(at).unwrap() + 3] ^= 0x10);
    node.restart();
    node.wait_ready();
    assert_filled(&node);
}

#[test]
fn zeros_in_place_of_acknowledged_data_are_damage() {
    let dir = TestDir::new();
    let mut node = node_with_needle(&dir);
    node.stop();
    let (file, at) = find_needle(&node.setup.data_dir);
    // From the needle to the end of the data: what a lost write leaves behind.
    change(&file, |bytes| {
        let end = bytes.len() - 4096;
        bytes[at..end].fill(0);
    });
    node.restart();
    node.process.wait().assert_refused(DAMAGED, &["index"]);
}

#[test]
fn a_torn_tail_is_dropped_and_nothing_else() {
    let dir = TestDir::new();
    let mut node = node_with_needle(&dir);
    for round in 0..3 {
        node.kill();
        let (file, _) = find_needle(&node.setup.data_dir);
        change(&file, |bytes| {
            let end = bytes.len() - 4096;
            let last = bytes[..end].iter().rposition(|byte| *byte != 0).unwrap();
            let tail = (last + 1).next_multiple_of(8);
            bytes[tail..tail + 100 + round].fill(0xa5);
        });
        node.restart();
        node.wait_ready();
        assert_filled(&node);
    }
    let mut client = node.client();
    assert_eq!(client.call(&["SET", "after", "all"]).unwrap(), Value::ok());
}

/// Two intact members serve everything while the damaged one stops.
#[test]
fn a_damaged_member_stops_and_the_others_go_on() {
    let mut cluster = TestCluster::start(3);
    fill(&cluster.nodes[0]);
    cluster.assert_converged();
    let leader = cluster.leader();
    cluster.nodes[leader].stop();
    let (file, at) = find_needle(&cluster.nodes[leader].setup.data_dir);
    change(&file, |bytes| bytes[at] ^= 1);
    cluster.nodes[leader].restart();
    cluster.nodes[leader].process.wait().assert_refused(DAMAGED, &["index"]);
    for at in (0..3).filter(|at| *at != leader) {
        cluster.nodes[at].wait_ready();
        assert_filled(&cluster.nodes[at]);
    }
}
