//! What does a write or a read cost on three durable nodes, over loopback, as a client sees it?
//!
//! Three real processes and the client share this machine's processors, so the figures compare versions of Kontiki with
//! each other. Each question runs through the leader and through a follower, which forwards.
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench is no API and may panic")]
#![allow(clippy::disallowed_methods, reason = "real processes run on the real clock")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use harness::{Client, TestCluster, Value};

#[path = "../tests/it/harness/mod.rs"]
#[allow(dead_code, unused_imports, unreachable_pub, reason = "the stories use all of it, this bench a part")]
mod harness;

const VALUE_BYTES: usize = 128;

fn doors(cluster: &TestCluster) -> [(&'static str, Client); 2] {
    let leader = cluster.leader();
    let follower = (leader + 1) % cluster.nodes.len();
    [("leader", cluster.nodes[leader].client()), ("follower", cluster.nodes[follower].client())]
}

/// How long does one client wait for one durable write of 128 bytes?
fn lone_put(criterion: &mut Criterion, cluster: &TestCluster) {
    let mut group = criterion.benchmark_group("cluster/put");
    let value = vec![b'v'; VALUE_BYTES];
    for (door, mut client) in doors(cluster) {
        group.bench_function(BenchmarkId::from_parameter(door), |bencher| {
            bencher.iter(|| assert_eq!(client.call(&[b"SET", b"k".as_slice(), &value]).unwrap(), Value::ok()));
        });
    }
    group.finish();
}

/// How many writes a second does one connection get that keeps 64 in flight?
fn pipelined_put(criterion: &mut Criterion, cluster: &TestCluster) {
    const IN_FLIGHT: u64 = 64;
    let mut group = criterion.benchmark_group("cluster/put_pipelined_64");
    group.throughput(Throughput::Elements(IN_FLIGHT));
    let value = vec![b'v'; VALUE_BYTES];
    for (door, mut client) in doors(cluster) {
        group.bench_function(BenchmarkId::from_parameter(door), |bencher| {
            bencher.iter(|| {
                for _ in 0..IN_FLIGHT {
                    client.send(&[b"SET", b"k".as_slice(), &value]).unwrap();
                }
                for _ in 0..IN_FLIGHT {
                    assert_eq!(client.receive().unwrap(), Value::ok());
                }
            });
        });
    }
    group.finish();
}

/// How long does one client wait for a linearizable read?
fn lone_get(criterion: &mut Criterion, cluster: &TestCluster) {
    let mut group = criterion.benchmark_group("cluster/get");
    for (door, mut client) in doors(cluster) {
        assert_eq!(client.call(&["SET", "read", "me"]).unwrap(), Value::ok());
        group.bench_function(BenchmarkId::from_parameter(door), |bencher| {
            bencher.iter(|| assert_eq!(client.call(&["GET", "read"]).unwrap(), Value::bulk("me")));
        });
    }
    group.finish();
}

fn cluster(criterion: &mut Criterion) {
    let cluster = TestCluster::start(3);
    lone_put(criterion, &cluster);
    pipelined_put(criterion, &cluster);
    lone_get(criterion, &cluster);
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = cluster
}
criterion_main!(benches);
