//! Runs `testscripts/*.txt`: blocks of commands, then `---`, then what they printed.
//!
//! | command | does |
//! |---|---|
//! | `cluster V [learners=L] [name=value …]` | a new cluster of V voters, and settings |
//! | `log N 1,1,2 [term= vote= commit= purged= suspect=]` | restarts a node with this log on its disk |
//! | `campaign N`, `tick N [count]`, `transfer N to`, `unreachable N peer`, `gone N peer` | inputs of a node |
//! | `propose N label… [bytes=]`, `read N id…` | inputs of a node |
//! | `readdress N` | proposes the active configuration with new addresses |
//! | `persist N [count]` | makes the oldest write batches durable; all without a count |
//! | `deliver [A->B] [Kind] [count]`, `drop …`, `hold …`, `release` | the network: in order of sending |
//! | `inject A->B kind name=value …` | a message out of nowhere |
//! | `crash N`, `restart N`, `cut A B`, `cut A->B`, `heal` | faults |
//! | `stabilize [quiet]`, `state [N…]`, `print text` | everything delivered and durable; the nodes, one line each |

use std::fs;
use std::path::Path;

use super::cluster::{Cluster, Packet, Payload};
use super::print;
use crate::raft::{AppendOutcome, EntrySpan, Index, LogId, Message, NodeId, Term};

#[test]
fn scripts_say_what_they_said() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/raft/testscripts");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 40, "scripts are missing");
    let mut failures = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let recorded = fs::read_to_string(&path).unwrap();
        let played = play(&recorded, &name);
        if std::env::var_os("KONTIKI_REWRITE_SCRIPTS").is_some() {
            fs::write(&path, &played).unwrap();
        } else if played != recorded {
            let at = played.lines().zip(recorded.lines()).position(|(new, old)| new != old);
            let at = at.unwrap_or_else(|| played.lines().count().min(recorded.lines().count()));
            let line = |text: &str| text.lines().nth(at).unwrap_or("(end)").to_owned();
            failures.push(format!("{name}:{}\n  was {}\n  is  {}", at + 1, line(&recorded), line(&played)));
        }
    }
    assert!(failures.is_empty(), "scripts differ:\n{}", failures.join("\n"));
}

/// Plays a script and returns it with what it prints now.
fn play(script: &str, name: &str) -> String {
    let mut cluster = Cluster::default();
    let mut held = Vec::new();
    let mut played = String::new();
    let mut in_output = false;
    let mut block = Vec::new();
    for line in script.lines().chain([""]) {
        if line == "---" {
            in_output = true;
            played.push_str("---\n");
            for command in block.drain(..) {
                run(&mut cluster, &mut held, command, name);
            }
            if cluster.output.is_empty() {
                cluster.output.push_str("ok\n");
            }
            played.push_str(&std::mem::take(&mut cluster.output));
        } else if line.is_empty() {
            assert!(block.is_empty(), "{name}: commands without a `---` after them: {block:?}");
            in_output = false;
            if !played.ends_with("\n\n") {
                played.push('\n');
            }
        } else if !in_output {
            played.push_str(line);
            played.push('\n');
            if !line.starts_with('#') {
                block.push(line);
            }
        }
    }
    format!("{}\n", played.trim_end())
}

/// The words of a command: plain ones, and `name=value` ones.
struct Words<'a> {
    plain: Vec<&'a str>,
    named: Vec<(&'a str, &'a str)>,
}

impl<'a> Words<'a> {
    fn of(line: &'a str) -> Words<'a> {
        let (mut plain, mut named) = (Vec::new(), Vec::new());
        for word in line.split_whitespace() {
            match word.split_once('=') {
                Some(pair) => named.push(pair),
                None => plain.push(word),
            }
        }
        Words { plain, named }
    }

    fn number(&self, at: usize) -> u64 {
        self.plain[at].parse().unwrap_or_else(|_| panic!("{:?} is no number", self.plain[at]))
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        self.named.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    fn option(&self, name: &str) -> Option<u64> {
        self.text(name).map(|value| value.parse().unwrap())
    }

    fn link(&self) -> Option<(u64, u64)> {
        let (from, to) = self.plain.iter().find_map(|word| word.split_once("->"))?;
        Some((from.parse().unwrap(), to.parse().unwrap()))
    }
}

fn run(cluster: &mut Cluster, held: &mut Vec<Packet>, command: &str, name: &str) {
    let words = Words::of(command);
    let option = |name: &str| words.option(name);
    match words.plain[0] {
        "cluster" => *cluster = Cluster::new(words.number(1), option("learners").unwrap_or(0), &option),
        "log" => {
            let terms =
                words.plain.get(2).map_or(Vec::new(), |list| list.split(',').map(|t| t.parse().unwrap()).collect());
            cluster.install(words.number(1), &terms, &option);
        }
        "campaign" => input(cluster, words.number(1), crate::raft::Raft::campaign),
        "tick" => {
            for _ in 0..words.plain.get(2).map_or(1, |_| words.number(2)) {
                input(cluster, words.number(1), crate::raft::Raft::tick);
            }
        }
        "transfer" => {
            let (id, to) = (words.number(1), NodeId(words.number(2)));
            if let Err(error) = cluster.raft(id).transfer(to) {
                cluster.say(&format!("n{id} refuses: {error}"));
            }
            cluster.settle(id);
        }
        "unreachable" => input(cluster, words.number(1), |raft| raft.on_unreachable(NodeId(words.number(2)))),
        "gone" => input(cluster, words.number(1), |raft| raft.on_process_gone(NodeId(words.number(2)))),
        "propose" => cluster.propose(words.number(1), &words.plain[2..], option("bytes").unwrap_or(10) as u32),
        "readdress" => {
            let id = words.number(1);
            let mut configuration = cluster.raft(id).configuration().clone();
            for member in configuration.members.values_mut() {
                member.peer_addr.push('x');
                member.voter |= option("promote").is_some();
            }
            if let Err(error) = cluster.raft(id).propose_configuration(configuration) {
                cluster.say(&format!("n{id} refuses: {error}"));
            }
            cluster.settle(id);
        }
        "read" => {
            let id = words.number(1);
            for at in 2..words.plain.len() {
                if let Err(error) = cluster.raft(id).read(words.number(at)) {
                    cluster.say(&format!("n{id} refuses read {}: {error}", words.number(at)));
                }
            }
            cluster.settle(id);
        }
        "persist" => {
            cluster.persist(words.number(1), words.plain.get(2).map_or(usize::MAX, |_| words.number(2) as usize))
        }
        "deliver" => {
            for packet in select(cluster, &words) {
                cluster.deliver(packet);
            }
        }
        "repeat" => {
            for packet in select(cluster, &words) {
                cluster.network.push(packet.clone());
                cluster.deliver(packet);
            }
        }
        "drop" => drop(select(cluster, &words)),
        "hold" => held.extend(select(cluster, &words)),
        "release" => {
            for packet in std::mem::take(held) {
                cluster.deliver(packet);
            }
        }
        "inject" => inject(cluster, &words),
        "crash" => cluster.crash(words.number(1)),
        "restart" => cluster.restart(words.number(1)),
        "cut" => match words.link() {
            Some(link) => drop(cluster.cut.insert(link)),
            None => cluster.cut.extend([(words.number(1), words.number(2)), (words.number(2), words.number(1))]),
        },
        "isolate" => {
            let id = words.number(1);
            let others: Vec<u64> = cluster.nodes.keys().copied().filter(|&other| other != id).collect();
            cluster.cut.extend(others.iter().flat_map(|&other| [(id, other), (other, id)]));
        }
        "heal" => cluster.cut.clear(),
        "stabilize" => {
            let before = cluster.output.len();
            cluster.stabilize();
            if words.plain.get(1) == Some(&"quiet") {
                cluster.output.truncate(before);
            }
        }
        "state" => {
            let is_asked = |id: u64| words.plain.len() == 1 || words.plain[1..].contains(&id.to_string().as_str());
            let nodes = cluster.nodes.iter().filter(|(id, _)| is_asked(**id));
            let lines: Vec<String> = nodes.map(|(&id, node)| node.line(id)).collect();
            lines.iter().for_each(|line| cluster.say(line));
        }
        "print" => cluster.say(&words.plain[1..].join(" ")),
        other => panic!("{name}: unknown command {other:?}"),
    }
}

fn input(cluster: &mut Cluster, id: u64, f: impl FnOnce(&mut crate::raft::Raft)) {
    f(cluster.raft(id));
    cluster.settle(id);
}

/// Takes the packets that a command names out of the network.
fn select(cluster: &mut Cluster, words: &Words<'_>) -> Vec<Packet> {
    let link = words.link();
    let kind = words.plain[1..].iter().find(|word| word.starts_with(|c: char| c.is_ascii_uppercase()));
    let count = words.plain[1..].iter().find_map(|word| word.parse().ok()).unwrap_or(usize::MAX);
    let matches = |packet: &Packet| {
        link.is_none_or(|link| link == (packet.from, packet.to))
            && kind.is_none_or(|kind| *kind == print::kind(&packet.message))
    };
    let mut taken = Vec::new();
    for packet in std::mem::take(&mut cluster.network) {
        if taken.len() < count && matches(&packet) {
            taken.push(packet);
        } else {
            cluster.network.push(packet);
        }
    }
    taken
}

/// Parses `(index,term)` written as `index,term`.
fn log_id(text: &str) -> LogId {
    let (index, term) = text.split_once(',').unwrap();
    LogId { index: Index(index.parse().unwrap()), term: Term(term.parse().unwrap()) }
}

fn inject(cluster: &mut Cluster, words: &Words<'_>) {
    let (from, to) = words.link().unwrap();
    let term = Term(words.option("term").unwrap_or(0));
    let granted = words.text("granted") == Some("yes");
    let read = words.option("round").unwrap_or(0);
    let commit = Index(words.option("commit").unwrap_or(0));
    let mut payloads = Vec::new();
    let message = match words.plain[2] {
        "PreVote" => Message::PreVote { term, last: log_id(words.text("last").unwrap()) },
        "PreVoteReply" => Message::PreVoteReply { term, granted },
        "Vote" => {
            let transfer = words.text("transfer").is_some();
            Message::Vote { term, last: log_id(words.text("last").unwrap()), transfer }
        }
        "VoteReply" => Message::VoteReply { term, granted },
        "Append" => {
            let prev = log_id(words.text("prev").unwrap());
            let terms = words
                .text("terms")
                .map_or(Vec::new(), |list| list.split(',').map(|t| Term(t.parse().unwrap())).collect());
            payloads.extend(terms.iter().enumerate().map(|(at, &term): (usize, &Term)| {
                let label = format!("{}.{term}", prev.index.0.wrapping_add(at as u64 + 1));
                Payload { term, label, bytes: 1, configuration: None }
            }));
            let entries = EntrySpan {
                sizes: vec![1; words.option("sizes").map_or(terms.len(), |count| count as usize)],
                terms: terms.into_iter().map(|term| (term, 1)).collect(),
                configurations: Vec::new(),
            };
            Message::Append { term, prev, entries, commit, read }
        }
        "AppendReply" => {
            let outcome = match words.option("matched") {
                Some(matched) => AppendOutcome::Matched(Index(matched)),
                None => AppendOutcome::Rejected {
                    rejected: Index(words.option("rejected").unwrap()),
                    hint: log_id(words.text("hint").unwrap()),
                },
            };
            Message::AppendReply { term, outcome, read }
        }
        "Heartbeat" => Message::Heartbeat { term, commit, read },
        "HeartbeatReply" => Message::HeartbeatReply { term, read },
        "ReadIndex" => Message::ReadIndex { term, id: words.option("id").unwrap() },
        "TimeoutNow" => Message::TimeoutNow { term },
        other => panic!("unknown message {other:?}"),
    };
    cluster.deliver(Packet { from, to, message, payloads });
}
