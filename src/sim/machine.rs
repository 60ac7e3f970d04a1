//! One machine: a disk that outlives crashes, and while it is up a node with its log, its state and its threads' work.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use kontiki_wal::log::Log;
use kontiki_wal::mem::{Fate, MemDisk, MemSlot};
use kontiki_wal::{Batch, EntryMeta, Lsn, NewEntry, Recovery, SyncJob};

use super::heap::Micros;
use super::knobs::{Dice, Knobs};
use super::report::{Invariant, Violation};
use super::shadow::{EntryId, Shadow};
use crate::kv::{Input, Limits, Query, Reply, Store};
use crate::node::{Actions, Apply, Clock, Event, Node, NodeSettings, PersistAction, RequestId, Waiter};
use crate::proto::codec;
use crate::proto::entry::{self, Body};
use crate::proto::peer::PeerMessage;
use crate::raft::{self, ClusterLimits, Configuration, HardState, Index, LogId, Member, Message, NodeId, Term};

/// Small, so that runs rotate often.
const SEGMENT_BYTES: u64 = 64 * 1024;

/// What the log adds to a payload, rounded up.
const RECORD_BYTES_MAX: u64 = 40;

/// Some entries are refused for their size.
const ENTRY_BYTES_MAX: usize = 4_096;

/// Some values get too long.
const VALUE_BYTES_MAX: u64 = 100_000;

/// Where the wall clocks begin, in milliseconds since the Unix epoch.
const WALL_START_MS: u64 = 1_700_000_000_000;

/// A machine of the cluster.
pub(super) struct Machine {
    pub(super) id: u64,
    disk: MemDisk,
    pub(super) shadow: Shadow,
    /// Counts the starts.
    pub(super) lives: u64,
    pub(super) life: Option<Life>,
    /// Counts the pauses, so that the end of one does not end the next.
    pub(super) pauses: u64,
    pub(super) is_paused: bool,
    pub(super) is_disk_slow: bool,
    /// Its clock's speed in millionths.
    pub(super) rate_ppm: u64,
    /// How far its wall clock is ahead, in milliseconds.
    wall_ahead_ms: u64,
    pub(super) torn_tails: u64,
}

/// A running node.
pub(super) struct Life {
    pub(super) node: Node,
    log: Log<MemDisk>,
    store: Store,
    pub(super) applied: Index,
    pub(super) inbox: Vec<Event>,
    pub(super) is_tick_due: bool,
    pub(super) is_turn_planned: bool,
    sync: Option<SyncJob<MemSlot>>,
    /// Where each batch ends in the log, and its number.
    written: VecDeque<(Lsn, u64)>,
    jobs: VecDeque<Job>,
    pub(super) is_apply_planned: bool,
    reads: BTreeMap<Index, Vec<RequestId>>,
}

enum Job {
    Apply(Apply),
    Readable(Index, Vec<RequestId>),
}

/// What applying a job brought about.
#[derive(Default)]
pub(super) struct Applied {
    /// Each entry's index, with the hash of the state behind it.
    pub(super) hashes: Vec<(Index, u128)>,
    /// Replies for those who wait.
    pub(super) replies: Vec<(Index, Waiter, Reply)>,
    /// Reads that may be served now.
    pub(super) readable: Vec<RequestId>,
}

impl Machine {
    pub(super) fn new(id: u64, dice: &mut Dice) -> Machine {
        Machine {
            id,
            disk: MemDisk::new(),
            shadow: Shadow::default(),
            lives: 0,
            life: None,
            pauses: 0,
            is_paused: false,
            is_disk_slow: false,
            rate_ppm: dice.between(950_000, 1_050_000),
            wall_ahead_ms: dice.below(10_000),
            torn_tails: 0,
        }
    }

    /// Starts the node from what is on its disk.
    pub(super) fn start(&mut self, knobs: &Knobs, dice: &mut Dice) -> Result<(), Violation> {
        self.lives += 1;
        let options = kontiki_wal::Options {
            segment_bytes: SEGMENT_BYTES,
            log_uuid: u128::from(self.id),
            cluster_id: 1,
            node_id: self.id,
            ..kontiki_wal::Options::default()
        };
        let (mut log, recovery) = Log::open(self.disk.clone(), options, dice.any())
            .map_err(|error| Violation::new(Invariant::Boot, format!("node {}: {error}", self.id)))?;
        log.prepare();
        self.torn_tails += u64::from(recovery.torn.is_some());
        let (boot, entries, newest_log_time_ms) = recovered(&log, &recovery, knobs.nodes);
        self.shadow
            .on_recovered(&recovery, entries)
            .map_err(|details| Violation::new(Invariant::Recovery, format!("node {}: {details}", self.id)))?;
        let settings = NodeSettings {
            raft: self.raft_settings(knobs, dice.any()),
            boot: dice.any(),
            storage_uuid: u128::from(self.id) << 64,
            client_addr: format!("client-{}", self.id),
            newest_log_time_ms,
            max_entry_bytes: ENTRY_BYTES_MAX,
        };
        let node = Node::new(settings, boot)
            .map_err(|error| Violation::new(Invariant::Boot, format!("node {}: {error}", self.id)))?;
        self.life = Some(Life {
            node,
            log,
            store: Store::default(),
            applied: Index(0),
            inbox: Vec::new(),
            is_tick_due: false,
            is_turn_planned: false,
            sync: None,
            written: VecDeque::new(),
            jobs: VecDeque::new(),
            is_apply_planned: false,
            reads: BTreeMap::new(),
        });
        Ok(())
    }

    fn raft_settings(&self, knobs: &Knobs, seed: u64) -> raft::Settings {
        raft::Settings {
            id: NodeId(self.id),
            heartbeat_ticks: knobs.heartbeat_ticks,
            election_ticks: knobs.election_ticks,
            max_append_bytes: knobs.max_append_bytes,
            max_append_entries: knobs.max_append_entries,
            inflight_messages: knobs.inflight_messages,
            inflight_bytes: knobs.inflight_bytes,
            max_uncommitted_bytes: knobs.max_uncommitted_bytes,
            max_pending_reads: knobs.max_pending_reads,
            seed,
        }
    }

    /// Cuts the power: whatever was not synced may be lost, torn or kept, sector by sector.
    pub(super) fn crash(&mut self, dice: &mut Dice) {
        self.life = None;
        self.is_paused = false;
        let mood = dice.below(5); // 4: every sector is torn.
        self.disk.crash(|_, _| match (mood, dice.below(3)) {
            (0, _) | (3, 0) => Fate::Lost,
            (1, _) | (3, 1) => Fate::Kept,
            (2, n) if n > 0 => Fate::Lost,
            _ => Fate::Torn(u16::try_from(dice.below(512)).unwrap_or(0)),
        });
    }

    /// Returns what this machine's clocks show.
    pub(super) fn clock(&self, now: Micros) -> Clock {
        let monotonic_ms = now * (self.rate_ppm / 1_000) / 1_000_000;
        Clock { monotonic_ms, wall_ms: WALL_START_MS + self.wall_ahead_ms + monotonic_ms }
    }

    /// Lets the node take in what waits for it.
    pub(super) fn turn(&mut self, now: Micros) -> Actions {
        let clock = self.clock(now);
        let Some(life) = &mut self.life else { return Actions::default() };
        life.is_turn_planned = false;
        life.node.begin_turn(clock, life.applied);
        for event in std::mem::take(&mut life.inbox) {
            life.node.on_event(event);
        }
        if std::mem::take(&mut life.is_tick_due) {
            life.node.tick();
        }
        life.node.take_actions()
    }

    /// Appends a batch to the log.
    pub(super) fn persist(&mut self, persist: &PersistAction) -> Result<(), Violation> {
        let Some(life) = &mut self.life else { return Ok(()) };
        let new_entry = |(index, term, payload): &(Index, Term, Bytes)| (*index, *term, payload.clone());
        let owned: Vec<_> = persist.entries.iter().map(new_entry).collect();
        let entries: Vec<NewEntry<'_>> = owned
            .iter()
            .map(|(index, term, payload)| NewEntry {
                index: kontiki_wal::Index(index.0),
                term: kontiki_wal::Term(term.0),
                payload,
            })
            .collect();
        let mut batch = Batch {
            hard_state: persist.hard_state.map(|state| kontiki_wal::HardState {
                term: kontiki_wal::Term(state.term.0),
                vote: state.vote.map_or(0, |node| node.0),
                commit: kontiki_wal::Index(state.commit.0),
            }),
            truncate_from: persist.truncate_from.map(|index| kontiki_wal::Index(index.0)),
            ..Batch::default()
        };
        let mut rest = entries.as_slice();
        loop {
            (batch.entries, rest) = rest.split_at(batch_length(rest));
            let end = life
                .log
                .append(&batch)
                .map_err(|error| Violation::new(Invariant::Boot, format!("node {}: append: {error}", self.id)))?;
            life.log.prepare();
            self.shadow.on_append(end, &batch);
            if rest.is_empty() {
                life.written.push_back((end, persist.seq));
                return Ok(());
            }
            batch = Batch::default();
        }
    }

    /// Puts the payloads beside an append.
    pub(super) fn with_payloads(&self, mut message: Message) -> PeerMessage {
        let mut payloads = Vec::new();
        if let (Message::Append { prev, entries, .. }, Some(life)) = (&mut message, &self.life) {
            let mut index = prev.index;
            for bytes in &mut entries.sizes {
                index = index.next();
                let stored = life.log.entry(kontiki_wal::Index(index.0));
                let stored = stored.unwrap_or_else(|error| panic!("node {} sends entry {index}: {error}", self.id));
                *bytes = u32::try_from(stored.payload().len()).unwrap_or(u32::MAX);
                payloads.push(Bytes::copy_from_slice(stored.payload()));
            }
        }
        PeerMessage::Raft { message, payloads }
    }

    /// Begins a sync of what was appended, unless one is under way or nothing is. Returns whether it did.
    pub(super) fn maybe_begin_sync(&mut self) -> bool {
        let Some(life) = &mut self.life else { return false };
        if life.sync.is_some() {
            return false;
        }
        life.sync = life.log.begin_sync().ok().flatten();
        life.sync.is_some()
    }

    pub(super) fn is_syncing(&self) -> bool {
        self.life.as_ref().is_some_and(|life| life.sync.is_some())
    }

    /// Does one step of the sync. Returns whether there is another one.
    pub(super) fn sync_step(&mut self, step: usize) -> Result<bool, Violation> {
        let Some(life) = &mut self.life else { return Ok(false) };
        let Some(job) = &life.sync else { return Ok(false) };
        let result = if job.steps() > 0 { job.run_step(step) } else { Ok(()) };
        if result.is_ok() && step + 1 < job.steps() {
            return Ok(true);
        }
        let Some(job) = life.sync.take() else { return Ok(false) };
        let failed = |error| Violation::new(Invariant::Boot, format!("node {}: sync: {error}", self.id));
        let durable = life.log.finish_sync(job, result).map_err(failed)?;
        life.log.prepare();
        self.shadow.on_durable(durable);
        let mut newest = None;
        while life.written.front().is_some_and(|(end, _)| *end <= durable) {
            newest = life.written.pop_front().map(|(_, seq)| seq);
        }
        life.inbox.extend(newest.map(|seq| Event::Persisted { seq }));
        Ok(false)
    }

    /// Answers a query from the state.
    pub(super) fn query(&self, query: &Query) -> Reply {
        self.life.as_ref().map_or(Reply::Nil, |life| life.store.query(query))
    }
}

impl Life {
    /// Queues what a turn wants applied or read.
    pub(super) fn push_jobs(&mut self, apply: Option<Apply>, readable: Vec<(Index, Vec<RequestId>)>) {
        self.jobs.extend(apply.map(Job::Apply));
        self.jobs.extend(readable.into_iter().map(|(index, requests)| Job::Readable(index, requests)));
    }

    pub(super) fn has_jobs(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Does the oldest job.
    pub(super) fn apply_next(&mut self) -> Applied {
        let mut applied = Applied::default();
        match self.jobs.pop_front() {
            Some(Job::Apply(apply)) => {
                let mut waiters = apply.waiters.into_iter().peekable();
                for index in (apply.range.start().0..=apply.range.end().0).map(Index) {
                    let reply = self.apply_entry(index);
                    self.applied = index;
                    applied.hashes.push((index, self.store.state_hash()));
                    if let Some((_, waiter)) = waiters.next_if(|(at, _)| *at == index) {
                        applied.replies.push((index, waiter, reply));
                    }
                }
            }
            Some(Job::Readable(index, requests)) => self.reads.entry(index).or_default().extend(requests),
            None => {}
        }
        while let Some(first) = self.reads.first_entry().filter(|first| *first.key() <= self.applied) {
            applied.readable.extend(first.remove());
        }
        applied
    }

    fn apply_entry(&mut self, index: Index) -> Reply {
        let stored = self.log.entry(kontiki_wal::Index(index.0));
        let stored = stored.unwrap_or_else(|error| panic!("committed entry {index}: {error}"));
        let decoded = entry::decode(&stored).unwrap_or_else(|error| panic!("committed entry {index}: {error}"));
        let time_ms = decoded.time_ms;
        match &decoded.body {
            Body::Operation(operation) => {
                self.store.apply(Input { index: index.0, time_ms, origin: decoded.origin, operation })
            }
            Body::Configuration(configuration) => {
                self.store.apply_configuration(index.0, time_ms, &codec::encode(configuration));
                self.store.set_limits(Limits { max_value_bytes: configuration.limits.value_bytes_max });
                Reply::Ok
            }
            Body::Noop | Body::Time | Body::ClusterVersion(_) => {
                self.store.apply_time(index.0, time_ms);
                Reply::Ok
            }
        }
    }
}

/// Returns how many of the entries go into one batch of the log, as in production: a quarter of a segment.
fn batch_length(entries: &[NewEntry<'_>]) -> usize {
    let mut bytes = 0;
    let fitting = entries.iter().take_while(|entry| {
        bytes += entry.payload.len() as u64 + RECORD_BYTES_MAX;
        bytes <= SEGMENT_BYTES / 4
    });
    fitting.count().max(1).min(entries.len())
}

/// Returns what the core needs of a log, who each entry is, and the newest time in it.
fn recovered(log: &Log<MemDisk>, recovery: &Recovery, nodes: u64) -> (raft::Boot, Vec<EntryId>, u64) {
    let mut boot = raft::Boot {
        hard_state: HardState {
            term: Term(recovery.hard_state.term.0),
            vote: (recovery.hard_state.vote != 0).then_some(NodeId(recovery.hard_state.vote)),
            commit: Index(recovery.hard_state.commit.0),
        },
        purged: LogId::default(),
        entries: Vec::new(),
        configurations: vec![(Index(0), bootstrap(nodes))],
        applied: Index(0),
        is_suspect: false,
    };
    let mut ids = Vec::new();
    let mut newest_ms = 0;
    for &EntryMeta { index, term, payload_bytes } in &recovery.entries {
        let stored = log.entry(index).unwrap_or_else(|error| panic!("recovered entry {index}: {error}"));
        let decoded = entry::decode(&stored).unwrap_or_else(|error| panic!("recovered entry {index}: {error}"));
        newest_ms = newest_ms.max(decoded.time_ms);
        ids.push(EntryId::of(Term(term.0), &stored));
        boot.entries.push((Term(term.0), payload_bytes));
        if let Body::Configuration(configuration) = decoded.body {
            boot.configurations.push((Index(index.0), configuration));
        }
    }
    (boot, ids, newest_ms)
}

fn bootstrap(nodes: u64) -> Configuration {
    let member = |id: u64| Member {
        peer_addr: format!("peer-{id}"),
        client_addr: String::new(),
        storage_uuid: None,
        voter: true,
    };
    let members = (1..=nodes).map(|id| (NodeId(id), member(id))).collect();
    let limits = ClusterLimits { value_bytes_max: VALUE_BYTES_MAX, entry_bytes_max: ENTRY_BYTES_MAX as u64 };
    Configuration { history: 0, limits, members, outgoing: None }
}
