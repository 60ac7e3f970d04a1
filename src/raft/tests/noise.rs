//! Whatever arrives, in whatever order: the core answers or refuses, and never panics (T37).

use proptest::prelude::*;

use super::cluster::Cluster;
use crate::raft::{AppendOutcome, Configuration, EntrySpan, Index, LogId, Member, Message, NodeId, Term};

/// Small numbers meet each other often; the large ones sit at the edges.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![20 => 0u64..6, 1 => Just(i64::MAX as u64), 1 => Just(u64::MAX - 1), 1 => Just(u64::MAX)]
}

fn log_id() -> impl Strategy<Value = LogId> {
    (number(), number()).prop_map(|(term, index)| LogId { term: Term(term), index: Index(index) })
}

fn configuration() -> impl Strategy<Value = Configuration> {
    let member = any::<bool>().prop_map(|voter| Member {
        peer_addr: String::new(),
        client_addr: String::new(),
        storage_uuid: None,
        voter,
    });
    let members = prop::collection::btree_map((0u64..6).prop_map(NodeId), member, 0..5);
    let outgoing = prop::option::of(prop::collection::btree_set((0u64..6).prop_map(NodeId), 0..4));
    (members, outgoing).prop_map(|(members, outgoing)| Configuration {
        history: 1,
        members,
        outgoing,
        ..Configuration::default()
    })
}

fn span() -> impl Strategy<Value = EntrySpan> {
    let runs = prop::collection::vec((number(), 0u32..3), 0..4);
    let configurations = prop::collection::vec((number(), configuration()), 0..3);
    (runs, 0usize..2, configurations).prop_map(|(mut runs, extra, configurations)| {
        runs.sort_unstable();
        let count: usize = runs.iter().map(|run| run.1 as usize).sum();
        EntrySpan {
            terms: runs.into_iter().map(|(term, count)| (Term(term), count)).collect(),
            sizes: vec![1; count + extra / 2],
            configurations: configurations.into_iter().map(|(index, c)| (Index(index), c)).collect(),
        }
    })
}

fn message() -> impl Strategy<Value = Message> {
    let outcome = prop_oneof![
        number().prop_map(|index| AppendOutcome::Matched(Index(index))),
        (number(), log_id()).prop_map(|(rejected, hint)| AppendOutcome::Rejected { rejected: Index(rejected), hint }),
    ];
    let term = || number().prop_map(Term);
    let index = || number().prop_map(Index);
    prop_oneof![
        (term(), log_id()).prop_map(|(term, last)| Message::PreVote { term, last }),
        (term(), any::<bool>()).prop_map(|(term, granted)| Message::PreVoteReply { term, granted }),
        (term(), log_id(), any::<bool>()).prop_map(|(term, last, transfer)| Message::Vote { term, last, transfer }),
        (term(), any::<bool>()).prop_map(|(term, granted)| Message::VoteReply { term, granted }),
        (term(), log_id(), span(), index(), number())
            .prop_map(|(term, prev, entries, commit, read)| { Message::Append { term, prev, entries, commit, read } }),
        (term(), outcome, number()).prop_map(|(term, outcome, read)| Message::AppendReply { term, outcome, read }),
        (term(), index(), number()).prop_map(|(term, commit, read)| Message::Heartbeat { term, commit, read }),
        (term(), number()).prop_map(|(term, read)| Message::HeartbeatReply { term, read }),
        (term(), number()).prop_map(|(term, id)| Message::ReadIndex { term, id }),
        (term(), number(), prop::option::of(index())).prop_map(|(term, id, index)| Message::ReadIndexReply {
            term,
            id,
            index
        }),
        term().prop_map(|term| Message::TimeoutNow { term }),
    ]
}

#[derive(Clone, Debug)]
enum Input {
    Message(u64, Message),
    Ticks(u8),
    Propose,
    Read(u64),
    Persist,
    Transfer(u64),
    Campaign,
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        12 => (0u64..5, message()).prop_map(|(from, message)| Input::Message(from, message)),
        2 => (1u8..12).prop_map(Input::Ticks),
        2 => Just(Input::Propose),
        1 => (0u64..9).prop_map(Input::Read),
        4 => Just(Input::Persist),
        1 => (0u64..5).prop_map(Input::Transfer),
        1 => Just(Input::Campaign),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn no_input_panics(inputs in prop::collection::vec(input(), 1..80)) {
        let mut cluster = Cluster::new(3, 1, &|_| None);
        let raft = cluster.raft(1);
        let mut newest = 0;
        for input in inputs {
            match input {
                Input::Message(from, message) => drop(raft.step(NodeId(from), message)),
                Input::Ticks(count) => (0..count).for_each(|_| raft.tick()),
                Input::Propose => drop(raft.propose(&[3, 4])),
                Input::Read(id) => drop(raft.read(id)),
                Input::Persist => raft.on_persisted(newest),
                Input::Transfer(to) => drop(raft.transfer(NodeId(to))),
                Input::Campaign => raft.campaign(),
            }
            let ready = raft.take_ready();
            newest = ready.persist.map_or(newest, |persist| persist.seq);
            if let Some(range) = ready.committed {
                raft.on_applied(*range.end());
            }
        }
    }
}
