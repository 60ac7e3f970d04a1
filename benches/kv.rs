//! What applying a committed entry costs, and how much of it is the codec, the rows and the sessions.
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench is a program that may fail")]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

use kontiki::kv::{Command, Exec, Input, Limits, Operation, Origin, Query, SessionId, Set, SetCondition, Store};
use kontiki::proto::entry::{self, Body};

const KEYS: u64 = 1_000_000;
const VALUE_BYTES: usize = 128;

fn key(number: u64) -> Bytes {
    Bytes::from(format!("key:{number:012}"))
}

/// The key of step `step` in an order that is random enough for the caches and the same each time.
fn random_key(step: u64) -> Bytes {
    key(step.wrapping_mul(0x9E37_79B9_7F4A_7C15) % KEYS)
}

fn set(key: Bytes) -> Operation {
    Operation::Command(Command::Set(Set {
        key,
        value: Bytes::from(vec![b'v'; VALUE_BYTES]),
        condition: SetCondition::Always,
        return_old: false,
        deadline_ms: None,
        keep_deadline: false,
    }))
}

fn filled() -> Store {
    let mut store = Store::new(Limits::default());
    for number in 0..KEYS {
        store.apply(Input { index: number + 1, time_ms: 0, origin: None, operation: &set(random_key(number)) });
    }
    store
}

fn origin(step: u64, sessions: u64) -> Origin {
    let (number, seq) = (step % sessions + 1, step / sessions + 1);
    Origin { session: SessionId { node: 1, boot: 1, number }, seq, previous: seq - 1, first_unanswered: seq }
}

/// How many entries a second can one node apply to a million keys, alone and under a connection's session?
fn apply(c: &mut Criterion) {
    let mut store = filled();
    let mut index = store.applied_index();
    let mut group = c.benchmark_group("kv/apply");
    group.throughput(Throughput::Elements(1));
    group.bench_function("set_128B_of_1M", |b| {
        b.iter_batched(
            || {
                index += 1;
                (index, set(random_key(index)))
            },
            |(index, operation)| store.apply(Input { index, time_ms: index, origin: None, operation: &operation }),
            BatchSize::SmallInput,
        );
    });
    let mut step = 0;
    group.bench_function("set_128B_of_1M_in_256_connection_sessions", |b| {
        b.iter_batched(
            || {
                (index, step) = (index + 1, step + 1);
                (index, origin(step, 256), set(random_key(index)))
            },
            |(index, origin, operation)| {
                store.apply(Input { index, time_ms: index, origin: Some(origin), operation: &operation })
            },
            BatchSize::SmallInput,
        );
    });
    group.bench_function("set_128B_of_1M_in_10000_connection_sessions", |b| {
        b.iter_batched(
            || {
                (index, step) = (index + 1, step + 1);
                let session = SessionId { boot: 2, ..origin(step, 10_000).session };
                (index, Origin { session, ..origin(step, 10_000) }, set(random_key(index)))
            },
            |(index, origin, operation)| {
                store.apply(Input { index, time_ms: index, origin: Some(origin), operation: &operation })
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// Does an append cost what it appends, however long the value, and what does its exactly-once window cost?
fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("kv/append");
    group.throughput(Throughput::Elements(1));
    for (name, start_bytes) in [("16B_in_opened_session_to_1KiB", 1024), ("16B_in_opened_session_to_4MiB", 4 << 20)] {
        group.bench_function(name, |b| {
            let mut store = Store::new(Limits { max_value_bytes: 1 << 40 });
            let open = Operation::Command(Command::OpenSession);
            store.apply(Input { index: 1, time_ms: 0, origin: None, operation: &open });
            let log = Bytes::from_static(b"log");
            let value = Bytes::from(vec![b'x'; start_bytes]);
            let start = Operation::Command(Command::Append { key: log.clone(), value });
            store.apply(Input { index: 2, time_ms: 0, origin: None, operation: &start });
            let value = Bytes::from_static(&[b'y'; 16]);
            let operation = Operation::Command(Command::Append { key: log, value });
            let mut index = 2;
            b.iter(|| {
                index += 1;
                let session = SessionId { node: 0, boot: 0, number: 1 };
                let origin = Origin { session, seq: index, previous: 0, first_unanswered: 0 };
                store.apply(Input { index, time_ms: 0, origin: Some(origin), operation: &operation })
            });
        });
    }
    group.finish();
}

/// What does a read of the local state cost once it is known to be new enough?
fn query(c: &mut Criterion) {
    let store = filled();
    let mut step = 0;
    let mut group = c.benchmark_group("kv/query");
    group.throughput(Throughput::Elements(1));
    group.bench_function("get_of_1M", |b| {
        b.iter_batched(
            || {
                step += 1;
                Query::Get { key: random_key(step) }
            },
            |query| store.query(&query),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("range_100_of_1M", |b| {
        b.iter_batched(
            || {
                step += 1;
                Query::Range { start: Some(random_key(step)), end: None, limit: 100, with_revision: false }
            },
            |query| store.query(&query),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("scan_100_of_1M", |b| {
        b.iter_batched(
            || {
                step += 1;
                random_key(step)
            },
            |after| store.scan(Some(&after), 100, None),
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// What does an entry's body cost on its way into the log and out of it?
fn codec(c: &mut Criterion) {
    let Operation::Command(command) = set(key(1)) else { unreachable!("set makes a command") };
    let exec = Exec { conditions: Vec::new(), commands: vec![command.clone(); 16] };
    let bodies = [
        ("set_128B", Body::Operation(Operation::Command(command))),
        ("exec_16_sets_128B", Body::Operation(Operation::Exec(exec))),
    ];
    let mut group = c.benchmark_group("entry");
    for (name, body) in bodies {
        let encoded = entry::encode(&body).freeze();
        assert!(entry::decode(&encoded).is_ok());
        group.throughput(Throughput::Bytes(encoded.len() as u64));
        group.bench_function(format!("encode_{name}"), |b| b.iter(|| entry::encode(black_box(&body))));
        group.bench_function(format!("decode_{name}"), |b| b.iter(|| entry::decode(black_box(&encoded))));
    }
    group.finish();
}

criterion_group!(benches, apply, append, query, codec);
criterion_main!(benches);
