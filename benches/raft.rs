//! What does consensus itself cost, without disk, wire and clients?
//!
//! Three cores in memory: bytes never enter them, so payload size does not matter.
#![allow(clippy::unwrap_used, missing_docs, reason = "a bench that fails may panic")]

use std::collections::BTreeMap;
use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use kontiki::raft::{
    Boot, Configuration, EntrySpan, HardState, Index, LogId, Member, Message, NodeId, Outgoing, Raft, Settings, Term,
};

fn core(id: u64) -> Raft {
    let settings = Settings {
        id: NodeId(id),
        heartbeat_ticks: 5,
        election_ticks: 50,
        max_append_bytes: 1 << 20,
        max_append_entries: 4096,
        inflight_messages: 4,
        inflight_bytes: 8 << 20,
        max_uncommitted_bytes: 64 << 20,
        max_pending_reads: 4096,
        seed: 1,
    };
    let member = Member { peer_addr: String::new(), client_addr: String::new(), storage_uuid: None, voter: true };
    let members: BTreeMap<_, _> = (1..=3).map(|id| (NodeId(id), member.clone())).collect();
    let bootstrap = Configuration { history: 1, members, ..Configuration::default() };
    Raft::new(settings, Boot { configurations: vec![(Index(0), bootstrap)], ..Boot::default() }).unwrap()
}

/// Three cores whose disks are instant.
struct Trio(BTreeMap<NodeId, Raft>);

impl Trio {
    fn led_by_one() -> Trio {
        let mut trio = Trio((1..=3).map(|id| (NodeId(id), core(id))).collect());
        trio.0.get_mut(&NodeId(1)).unwrap().campaign();
        trio.run();
        trio
    }

    /// Lets messages and writes flow until nothing is left to do.
    fn run(&mut self) {
        let mut queue: Vec<(NodeId, Outgoing)> = Vec::new();
        loop {
            for (&id, raft) in &mut self.0 {
                let ready = raft.take_ready();
                queue.extend(ready.messages.into_iter().map(|out| (id, out)));
                if let Some(persist) = ready.persist {
                    raft.on_persisted(persist.seq);
                    queue.extend(raft.take_ready().messages.into_iter().map(|out| (id, out)));
                }
                if let Some(range) = ready.committed {
                    raft.on_applied(*range.end());
                }
            }
            if queue.is_empty() {
                return;
            }
            for (from, out) in queue.drain(..) {
                self.0.get_mut(&out.to).unwrap().step(from, out.message).unwrap();
            }
        }
    }
}

/// How much CPU does the consensus of a batch take, all three nodes together?
fn propose_to_commit(c: &mut Criterion) {
    let mut group = c.benchmark_group("raft/propose-replicate-ack-commit");
    for batch in [1usize, 64] {
        group.throughput(Throughput::Elements(batch as u64));
        let sizes = vec![128; batch];
        let mut trio = Trio::led_by_one();
        group.bench_function(format!("{batch}"), |b| {
            b.iter(|| {
                trio.0.get_mut(&NodeId(1)).unwrap().propose(black_box(&sizes)).unwrap();
                trio.run();
            });
        });
        let leader = &trio.0[&NodeId(1)];
        assert_eq!(leader.commit(), leader.last().index, "the batches were committed");
    }
    group.finish();
}

/// What does a follower pay to take a large append?
fn step_append(c: &mut Criterion) {
    let mut follower = core(2);
    let first = Message::Append {
        term: Term(1),
        prev: LogId::default(),
        entries: EntrySpan { terms: vec![(Term(1), 1)], sizes: vec![64], configurations: Vec::new() },
        commit: Index(0),
        read: 0,
    };
    follower.step(NodeId(1), first).unwrap();
    let persist = follower.take_ready().persist.unwrap();
    assert_eq!(persist.hard_state.map(|HardState { term, .. }| term), Some(Term(1)));
    follower.on_persisted(persist.seq);
    let append = Message::Append {
        term: Term(1),
        prev: LogId { term: Term(1), index: Index(1) },
        entries: EntrySpan { terms: vec![(Term(1), 256)], sizes: vec![128; 256], configurations: Vec::new() },
        commit: Index(1),
        read: 0,
    };
    let mut group = c.benchmark_group("raft/step-append");
    group.throughput(Throughput::Elements(256));
    group.bench_function("256", |b| {
        b.iter_batched(
            || (follower.clone(), append.clone()),
            |(mut follower, append)| {
                follower.step(NodeId(1), append).unwrap();
                let ready = follower.take_ready();
                (follower, ready)
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, propose_to_commit, step_append);
criterion_main!(benches);
