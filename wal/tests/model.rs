//! Long random histories over the memory disk, with crashes anywhere, against a plain list of states.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, missing_docs, unreachable_pub, reason = "test code")]

mod common;

use common::{contents, open};
use kontiki_wal::log::Log;
use kontiki_wal::mem::{Fate, MemDisk};
use kontiki_wal::{AppendError, Batch, HardState, Index, LogId, Lsn, NewEntry, Term};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Append {
        sizes: Vec<usize>,
        newer_term: bool,
    },
    Truncate {
        back: u64,
        sizes: Vec<usize>,
    },
    Vote {
        commit_lag: u64,
    },
    Purge {
        lag: u64,
    },
    Reset {
        ahead: u64,
    },
    Sync,
    /// Appends and purges between the beginning of a sync and its end.
    SyncAround {
        before: bool,
        sizes: Vec<usize>,
        lag: u64,
    },
    /// Runs only some steps of a sync, then the power goes.
    SyncCut {
        steps: usize,
        seed: u64,
    },
    Quiet,
    Prepare,
    Crash {
        seed: u64,
    },
    Kill,
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![4 => 0..200usize, 2 => 200..3000usize, 1 => 15_000..24_000usize], 1..4)
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (sizes(), prop::bool::weighted(0.2)).prop_map(|(sizes, newer_term)| Op::Append { sizes, newer_term }),
        3 => (0..6u64, sizes()).prop_map(|(back, sizes)| Op::Truncate { back, sizes }),
        3 => (0..10u64).prop_map(|commit_lag| Op::Vote { commit_lag }),
        3 => (0..8u64).prop_map(|lag| Op::Purge { lag }),
        1 => (0..40u64).prop_map(|ahead| Op::Reset { ahead }),
        8 => Just(Op::Sync),
        5 => (any::<bool>(), sizes(), 0..8u64)
            .prop_map(|(before, sizes, lag)| Op::SyncAround { before, sizes, lag }),
        2 => (0..4usize, any::<u64>()).prop_map(|(steps, seed)| Op::SyncCut { steps, seed }),
        2 => Just(Op::Quiet),
        6 => Just(Op::Prepare),
        2 => any::<u64>().prop_map(|seed| Op::Crash { seed }),
        1 => Just(Op::Kill),
    ]
}

/// What the log should hold: the entries after `purged`, and the hard state.
#[derive(Clone, Debug, PartialEq)]
struct State {
    purged: LogId,
    entries: Vec<(u64, Vec<u8>)>,
    hard: HardState,
}

impl State {
    fn last(&self) -> LogId {
        let index = Index(self.purged.index.0 + self.entries.len() as u64);
        let term = self.entries.last().map_or(self.purged.term, |(term, _)| Term(*term));
        LogId { term, index }
    }
}

struct Run {
    disk: MemDisk,
    log: Option<Log<MemDisk>>,
    /// Every state since the last one that is certainly durable, and the position at which each is.
    states: Vec<(Lsn, State)>,
    seed: u64,
    crashes: u64,
}

impl Run {
    fn new() -> Run {
        let disk = MemDisk::new();
        let (log, _) = open(&disk, 1).unwrap();
        let state = State { purged: LogId::default(), entries: Vec::new(), hard: HardState::default() };
        Run { disk, states: vec![(log.durable(), state)], log: Some(log), seed: 1, crashes: 0 }
    }

    fn now(&self) -> State {
        self.states.last().unwrap().1.clone()
    }

    fn push(&mut self, state: State) {
        let end = self.log.as_ref().unwrap().written();
        self.states.push((end, state));
    }

    fn append(&mut self, truncate_from: Option<Index>, sizes: &[usize], newer_term: bool) {
        let mut state = self.now();
        if let Some(from) = truncate_from {
            state.entries.truncate((from.0 - state.purged.index.0 - 1) as usize);
        }
        let last = state.last();
        let term = Term(last.term.0.max(1) + u64::from(newer_term));
        let payloads: Vec<Vec<u8>> =
            sizes.iter().enumerate().map(|(n, &size)| vec![(last.index.0 + n as u64) as u8 ^ 0x5A; size]).collect();
        let entries: Vec<NewEntry<'_>> = (last.index.0 + 1..)
            .zip(&payloads)
            .map(|(index, payload)| NewEntry { index: Index(index), term, payload })
            .collect();
        let batch = Batch { truncate_from, entries: &entries, ..Batch::default() };
        match self.log.as_mut().unwrap().append(&batch) {
            Ok(_) => {
                state.entries.extend(payloads.into_iter().map(|payload| (term.0, payload)));
                self.push(state);
            }
            Err(AppendError::Busy | AppendError::TooLarge { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }

    fn control(&mut self, op: &Op) {
        let mut state = self.now();
        let log = self.log.as_mut().unwrap();
        let done = match *op {
            Op::Vote { commit_lag } => {
                let commit = Index(state.last().index.0.saturating_sub(commit_lag)).max(state.hard.commit);
                let hard = HardState { term: Term(state.hard.term.0 + 1), vote: self.seed, commit };
                state.hard = hard;
                log.append(&Batch { hard_state: Some(hard), ..Batch::default() }).map(|_| ())
            }
            Op::Purge { lag } => {
                let upto = Index(state.last().index.0.saturating_sub(lag));
                if upto <= state.purged.index {
                    return;
                }
                let gone = (upto.0 - state.purged.index.0) as usize;
                state.purged = LogId { term: Term(state.entries[gone - 1].0), index: upto };
                state.entries.drain(..gone);
                log.purge(upto).map(|_| ()).map_err(|error| match error {
                    kontiki_wal::PurgeError::Append(error) => error,
                    other => panic!("{other}"),
                })
            }
            Op::Reset { ahead } => {
                let last = state.last();
                let index = Index((last.index.0 + ahead).saturating_sub(20).max(state.purged.index.0));
                state.purged = LogId { term: Term(last.term.0 + 1), index };
                state.entries.clear();
                log.reset(state.purged).map(|_| ())
            }
            _ => unreachable!("not a control record"),
        };
        match done {
            Ok(()) => self.push(state),
            Err(AppendError::Busy) => {}
            Err(other) => panic!("{other}"),
        }
    }

    fn acknowledge(&mut self) {
        let durable = self.log.as_ref().unwrap().durable();
        let acked = self.states.iter().rposition(|(end, _)| *end <= durable).unwrap();
        self.states.drain(..acked);
    }

    fn sync(&mut self) {
        let log = self.log.as_mut().unwrap();
        if let Some(job) = log.begin_sync().unwrap() {
            let result = job.run();
            log.finish_sync(job, result).unwrap();
            self.acknowledge();
        }
    }

    fn crash(&mut self, seed: u64) {
        self.log = None;
        let mut word = seed;
        self.disk.crash(|_, _| {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            match (seed % 4, word >> 61) {
                (0, _) | (1 | 2, 0..=3) | (3, 0) => Fate::Lost,
                (2, 4) => Fate::Torn((word >> 40) as u16 % 512),
                _ => Fate::Kept,
            }
        });
        self.reopen();
    }

    fn reopen(&mut self) {
        self.log = None;
        self.seed += 1;
        self.crashes += 1;
        let (log, found) = open(&self.disk, self.seed).unwrap_or_else(|error| panic!("{error}"));
        let (first, entries) = contents(&log);
        let state = State { purged: log.purged(), entries, hard: log.hard_state() };
        assert_eq!(first, state.purged.index.0 + 1);
        let shapes: Vec<_> = found.entries.iter().map(|entry| (entry.term.0, entry.payload_bytes as usize)).collect();
        let expected: Vec<_> = state.entries.iter().map(|(term, payload)| (*term, payload.len())).collect();
        assert_eq!(shapes, expected);
        let survived = self.states.iter().position(|(_, known)| *known == state);
        let Some(survived) = survived else {
            let brief = |state: &State| (state.purged, state.entries.len(), state.hard);
            let known: Vec<_> = self.states.iter().map(|(lsn, state)| (*lsn, brief(state))).collect();
            panic!("recovered {:?}, which is none of {known:?}; {:?}", brief(&state), found.torn);
        };
        self.states = vec![(log.durable(), self.states.swap_remove(survived).1)];
        self.log = Some(log);
    }

    fn step(&mut self, op: &Op) {
        match op {
            Op::Append { sizes, newer_term } => self.append(None, sizes, *newer_term),
            Op::Truncate { back, sizes } => {
                let state = self.now();
                let kept = state.hard.commit.max(state.purged.index).0;
                let from = Index(state.last().index.0.saturating_sub(*back).max(kept + 1));
                if from <= state.last().index {
                    self.append(Some(from), sizes, true);
                }
            }
            Op::Vote { .. } | Op::Purge { .. } | Op::Reset { .. } => self.control(op),
            Op::Sync => self.sync(),
            Op::SyncAround { before, sizes, lag } => {
                let Some(job) = self.log.as_mut().unwrap().begin_sync().unwrap() else { return };
                let early = before.then(|| job.run());
                for _ in 0..3 {
                    self.append(None, sizes, false);
                }
                self.control(&Op::Purge { lag: *lag });
                let result = early.unwrap_or_else(|| job.run());
                self.log.as_mut().unwrap().finish_sync(job, result).unwrap();
                self.acknowledge();
            }
            Op::SyncCut { steps, seed } => {
                if let Some(job) = self.log.as_mut().unwrap().begin_sync().unwrap() {
                    for step in 0..job.steps().min(*steps) {
                        job.run_step(step).unwrap();
                    }
                }
                self.crash(*seed);
            }
            Op::Quiet => {
                self.sync();
                let log = self.log.as_mut().unwrap();
                if let Some(job) = log.begin_idle_mark().unwrap() {
                    let result = job.run();
                    log.finish_sync(job, result).unwrap();
                }
                if let Some(job) = log.begin_headers().unwrap() {
                    let result = job.run();
                    log.finish_sync(job, result).unwrap();
                }
            }
            Op::Prepare => self.log.as_mut().unwrap().prepare(),
            Op::Crash { seed } => self.crash(*seed),
            Op::Kill => self.reopen(),
        }
    }
}

/// `PROPTEST_CASES` asks for more than the usual few.
fn config() -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig { cases: asked.unwrap_or(150), failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_a_crash_leaves_is_a_state_that_was_no_older_than_what_was_acknowledged(
        ops in prop::collection::vec(op(), 1..120),
    ) {
        let mut run = Run::new();
        for op in &ops {
            run.step(op);
        }
        run.crash(1);
        prop_assert!(run.disk.slots_made() < 40, "slots are recycled");
    }
}
