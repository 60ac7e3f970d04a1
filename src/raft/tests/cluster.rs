//! A few cores with explicit disks and an explicit network: nothing is written or delivered unless a script says so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;

use super::print;
use crate::raft::{
    Boot, Configuration, HardState, Index, LogId, Member, Message, NodeId, OwnEntry, Persist, Raft, RoleName, Settings,
    Term,
};

/// What stands at one index: enough to tell two entries apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Payload {
    pub(super) term: Term,
    pub(super) label: String,
    pub(super) bytes: u32,
    pub(super) configuration: Option<Configuration>,
}

/// A message under way, with the payloads that travel beside it.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) message: Message,
    pub(super) payloads: Vec<Payload>,
}

/// What survives a crash.
#[derive(Clone, Debug, Default)]
struct Disk {
    hard_state: HardState,
    purged: LogId,
    log: Vec<Payload>,
}

pub(super) struct Node {
    pub(super) raft: Option<Raft>,
    settings: Settings,
    bootstrap: Configuration,
    is_suspect: bool,
    disk: Disk,
    /// Batches that were written and are not durable yet.
    pub(super) writing: VecDeque<(Persist, Vec<Payload>)>,
    /// The log as the node would read it back: written, perhaps not durable.
    pub(super) log: Vec<Payload>,
    /// Payloads of entries that no batch has taken yet.
    staged: BTreeMap<Index, Payload>,
    applied: Vec<String>,
}

#[derive(Default)]
pub(super) struct Cluster {
    pub(super) nodes: BTreeMap<u64, Node>,
    pub(super) network: Vec<Packet>,
    pub(super) output: String,
    /// Links that lose everything.
    pub(super) cut: BTreeSet<(u64, u64)>,
    leaders: BTreeMap<Term, u64>,
    committed: BTreeMap<Index, Payload>,
    /// Questions by number, renamed in the order of appearance so that scripts do not depend on the seed.
    pub(super) questions: Vec<u64>,
}

impl Cluster {
    pub(super) fn new(voters: u64, learners: u64, options: &dyn Fn(&str) -> Option<u64>) -> Cluster {
        let member = |id: u64| Member {
            peer_addr: String::new(),
            client_addr: String::new(),
            storage_uuid: None,
            voter: id <= voters,
        };
        let members = (1..=voters + learners).map(|id| (NodeId(id), member(id))).collect();
        let history = options("history").unwrap_or(1).into();
        let bootstrap = Configuration { history, members, ..Configuration::default() };
        let mut cluster = Cluster::default();
        for id in 1..=voters + learners + options("strangers").unwrap_or(0) {
            let settings = Settings {
                id: NodeId(id),
                heartbeat_ticks: options("heartbeat").unwrap_or(2) as u32,
                election_ticks: options("election").unwrap_or(10) as u32,
                max_append_bytes: options("append-bytes").unwrap_or(1 << 20),
                max_append_entries: options("append-entries").unwrap_or(64) as u32,
                inflight_messages: options("inflight").unwrap_or(4) as u32,
                inflight_bytes: options("inflight-bytes").unwrap_or(1 << 20),
                max_uncommitted_bytes: options("uncommitted").unwrap_or(1 << 20),
                max_pending_reads: options("reads").unwrap_or(16) as u32,
                seed: options("seed").unwrap_or(0),
            };
            let mut node = Node {
                raft: None,
                settings,
                bootstrap: bootstrap.clone(),
                is_suspect: false,
                disk: Disk::default(),
                writing: VecDeque::new(),
                log: Vec::new(),
                staged: BTreeMap::new(),
                applied: Vec::new(),
            };
            node.start().unwrap();
            cluster.nodes.insert(id, node);
        }
        cluster
    }

    pub(super) fn say(&mut self, line: &str) {
        self.output.push_str(line);
        self.output.push('\n');
    }

    pub(super) fn raft(&mut self, id: u64) -> &mut Raft {
        self.nodes.get_mut(&id).unwrap().raft.as_mut().unwrap_or_else(|| panic!("n{id} is down"))
    }

    /// Restarts a node with this disk.
    pub(super) fn install(&mut self, id: u64, terms: &[u64], options: &dyn Fn(&str) -> Option<u64>) {
        let node = self.nodes.get_mut(&id).unwrap();
        let purged = options("purged").unwrap_or(0) as usize;
        let entry = |(at, &term): (usize, &u64)| Payload {
            term: Term(term),
            label: format!("{}.{term}", at + 1),
            bytes: 1,
            configuration: None,
        };
        let log: Vec<Payload> = terms.iter().enumerate().map(entry).collect();
        let last_term = terms.last().copied().unwrap_or(0);
        let hard_state = HardState {
            term: Term(options("term").unwrap_or(last_term)),
            vote: options("vote").map(NodeId),
            commit: Index(options("commit").unwrap_or(0)),
        };
        let purged_term = if purged == 0 { Term(0) } else { log[purged - 1].term };
        node.disk = Disk { hard_state, purged: LogId { term: purged_term, index: Index(purged as u64) }, log };
        node.is_suspect = options("suspect").is_some();
        let applied_on_disk: Vec<String> = node.disk.log[..purged].iter().map(|entry| entry.label.clone()).collect();
        node.applied = applied_on_disk;
        match node.start() {
            Ok(()) => self.settle(id),
            Err(error) => self.say(&format!("n{id} does not start: {error}")),
        }
    }

    pub(super) fn crash(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).unwrap();
        node.raft = None;
        node.writing.clear();
        node.staged.clear();
        node.applied.truncate(node.disk.purged.index.0 as usize);
    }

    pub(super) fn restart(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id).unwrap();
        node.settings.seed += 1000;
        node.start().unwrap();
        self.settle(id);
    }

    pub(super) fn propose(&mut self, id: u64, labels: &[&str], bytes: u32) {
        let sizes = vec![bytes; labels.len()];
        match self.raft(id).propose(&sizes) {
            Ok(first) => {
                let node = self.nodes.get_mut(&id).unwrap();
                let term = node.raft.as_ref().unwrap().term();
                for (at, label) in labels.iter().enumerate() {
                    let label = (*label).to_owned();
                    let payload = Payload { term, label, bytes, configuration: None };
                    node.staged.insert(Index(first.0 + at as u64), payload);
                }
            }
            Err(error) => self.say(&format!("n{id} refuses: {error}")),
        }
        self.settle(id);
    }

    /// Makes the oldest `count` batches of a node durable.
    pub(super) fn persist(&mut self, id: u64, count: usize) {
        let node = self.nodes.get_mut(&id).unwrap();
        let mut newest = None;
        for _ in 0..count {
            let Some((persist, payloads)) = node.writing.pop_front() else { break };
            if let Some(hard_state) = persist.hard_state {
                node.disk.hard_state = hard_state;
            }
            cut(&mut node.disk.log, &persist);
            node.disk.log.extend(payloads);
            newest = Some(persist.seq);
        }
        if let (Some(seq), Some(raft)) = (newest, &mut node.raft) {
            raft.on_persisted(seq);
            self.settle(id);
        }
    }

    pub(super) fn deliver(&mut self, packet: Packet) {
        let Packet { from, to, message, payloads } = packet;
        if self.cut.contains(&(from, to)) || self.nodes[&to].raft.is_none() {
            return;
        }
        let prev = match &message {
            Message::Append { prev, .. } => prev.index.0,
            _ => 0,
        };
        let node = self.nodes.get_mut(&to).unwrap();
        match node.raft.as_mut().unwrap().step(NodeId(from), message) {
            Ok(stepped) => {
                if let Some(range) = stepped.append {
                    let keep = *range.start();
                    node.staged.retain(|&index, _| index < keep);
                    for index in range.start().0..=range.end().0 {
                        node.staged.insert(Index(index), payloads[(index - prev - 1) as usize].clone());
                    }
                }
            }
            Err(violation) => self.say(&format!("n{to} refuses a message of n{from}: {violation}")),
        }
        self.settle(to);
    }

    /// Does what a node wants done, and tells it; then checks what must always be true.
    pub(super) fn settle(&mut self, id: u64) {
        loop {
            let ready = self.raft(id).take_ready();
            let has_committed = ready.committed.is_some();
            if let Some(role) = ready.role {
                let leader = role.leader.filter(|&leader| leader.0 != id).map(|leader| format!(" of n{leader}"));
                let line = format!("n{id} {}{} t{}", print::role(role.role), leader.unwrap_or_default(), role.term);
                self.say(&line);
                if role.role == RoleName::Leader {
                    let other = *self.leaders.entry(role.term).or_insert(id);
                    assert_eq!(other, id, "two leaders in term {}\n{}", role.term, self.output);
                }
            }
            if let Some(persist) = ready.persist {
                self.write(id, persist);
            }
            for out in ready.messages {
                let payloads = self.payloads(id, &out.message);
                let packet = Packet { from: id, to: out.to.0, message: out.message, payloads };
                let line = print::packet(&packet, &mut self.questions);
                self.say(&line);
                self.network.push(packet);
            }
            if let Some(range) = ready.committed {
                self.commit(id, range.start().0, range.end().0);
            }
            for read in ready.reads {
                let line = match read.result {
                    Ok(index) => format!("n{id} serves read {} at {index}", read.id),
                    Err(error) => format!("n{id} fails read {}: {error}", read.id),
                };
                self.say(&line);
            }
            if !has_committed {
                return;
            }
        }
    }

    fn write(&mut self, id: u64, persist: Persist) {
        let node = self.nodes.get_mut(&id).unwrap();
        let mut payloads = Vec::new();
        if let Some(range) = &persist.append {
            let own: BTreeMap<Index, OwnEntry> = persist.own.iter().cloned().collect();
            let term = node.raft.as_ref().unwrap().term();
            for index in (range.start().0..=range.end().0).map(Index) {
                let payload = match own.get(&index) {
                    Some(OwnEntry::Noop) => Payload { term, label: "noop".to_owned(), bytes: 64, configuration: None },
                    Some(OwnEntry::Configuration(configuration)) => Payload {
                        term,
                        label: "configuration".to_owned(),
                        bytes: 64,
                        configuration: Some(configuration.clone()),
                    },
                    None => node.staged.remove(&index).unwrap(),
                };
                payloads.push(payload);
            }
            let flat = persist.terms.iter().flat_map(|&(term, count)| std::iter::repeat_n(term, count as usize));
            assert!(flat.eq(payloads.iter().map(|payload| payload.term)), "n{id}: terms of {persist:?}, {payloads:?}");
        }
        cut(&mut node.log, &persist);
        node.log.extend(payloads.clone());
        let line = print::persist(id, &persist, &payloads);
        node.writing.push_back((persist, payloads));
        self.say(&line);
    }

    fn payloads(&self, id: u64, message: &Message) -> Vec<Payload> {
        match message {
            Message::Append { prev, entries, .. } => {
                let first = prev.index.0 as usize;
                self.nodes[&id].log[first..first + entries.sizes.len()].to_vec()
            }
            _ => Vec::new(),
        }
    }

    fn commit(&mut self, id: u64, first: u64, last: u64) {
        let node = self.nodes.get_mut(&id).unwrap();
        let mut line = format!("n{id} commits");
        for index in first..=last {
            let payload = node.log[index as usize - 1].clone();
            write!(line, " {index}:{}", payload.label).unwrap();
            node.applied.push(payload.label.clone());
            let other = self.committed.entry(Index(index)).or_insert_with(|| payload.clone());
            assert_eq!(*other, payload, "n{id} commits another entry at {index}\n{}", self.output);
        }
        node.raft.as_mut().unwrap().on_applied(Index(last));
        self.say(&line);
    }

    /// Delivers and persists until nothing is left to do.
    pub(super) fn stabilize(&mut self) {
        for round in 0.. {
            assert!(round < 1000, "never stable\n{}", self.output);
            let ids: Vec<u64> = self.nodes.keys().copied().collect();
            for id in ids {
                let count = self.nodes[&id].writing.len();
                self.persist(id, count);
            }
            if self.network.is_empty() {
                return;
            }
            for packet in std::mem::take(&mut self.network) {
                self.deliver(packet);
            }
        }
    }
}

impl Node {
    fn start(&mut self) -> Result<(), crate::raft::BootError> {
        self.log = self.disk.log.clone();
        let purged = self.disk.purged;
        let kept = || self.disk.log.iter().enumerate().skip(purged.index.0 as usize);
        let mut configurations = vec![(Index(0), self.bootstrap.clone())];
        configurations
            .extend(kept().filter_map(|(at, entry)| Some((Index(at as u64 + 1), entry.configuration.clone()?))));
        let boot = Boot {
            hard_state: self.disk.hard_state,
            purged,
            entries: kept().map(|(_, entry)| (entry.term, entry.bytes)).collect(),
            configurations,
            applied: purged.index,
            is_suspect: self.is_suspect,
        };
        self.raft = None;
        self.raft = Some(Raft::new(self.settings.clone(), boot)?);
        Ok(())
    }

    /// One line: role, term, vote, log with marks, commit.
    pub(super) fn line(&self, id: u64) -> String {
        let Some(raft) = &self.raft else { return format!("n{id} down") };
        let hard_state = raft.hard_state();
        let vote = hard_state.vote.map(|vote| format!(" voted n{vote}")).unwrap_or_default();
        let terms: Vec<String> = self.log.iter().map(|entry| entry.term.to_string()).collect();
        let mut line = format!(
            "n{id} {} t{}{vote} log [{}] durable {} commit {}",
            print::role(raft.role()),
            raft.term(),
            terms.join(" "),
            raft.durable(),
            raft.commit()
        );
        if raft.configuration_index() > Index(0) {
            write!(line, " configuration at {}", raft.configuration_index()).unwrap();
        }
        for peer in raft.peers() {
            let pace = print::pace(peer.pace);
            write!(line, "; n{} matched {} next {} {pace}", peer.id, peer.matched, peer.next).unwrap();
        }
        line
    }
}

fn cut(log: &mut Vec<Payload>, persist: &Persist) {
    if let Some(from) = persist.truncate_from {
        log.truncate(from.0 as usize - 1);
    }
    if let Some(range) = &persist.append {
        assert_eq!(log.len() as u64 + 1, range.start().0, "a batch leaves a hole or overlaps: {persist:?}");
    }
}
