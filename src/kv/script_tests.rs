//! Runs the scripts under `testscripts/`: entries and queries with the replies they get.
//!
//! Each line above `----` is one entry (the next index) or, behind `?`, one query; below stand the replies, one a line.
//! `@TIME` before an entry moves logged time. `conn NODE.BOOT.NUMBER SEQ PREVIOUS FIRST` and `open ID SEQ FIRST` before it
//! say who asks. `state` shows what there is. After each line the hash must equal the one recomputed from everything.
//! `KONTIKI_REWRITE=1` writes the replies into the scripts.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a script that cannot be read is a failed test")]

use std::fmt::Write as _;
use std::path::Path;

use bytes::Bytes;

use super::*;

const SCRIPTS: [&str; 5] = ["commands", "exec", "expiry", "queries", "sessions"];

#[test]
fn every_script_gets_its_replies() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/kv/testscripts");
    let mut files: Vec<String> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_string())
        .collect();
    files.sort();
    assert_eq!(files, SCRIPTS, "every script is named here");
    for name in SCRIPTS {
        let path = dir.join(format!("{name}.script"));
        let recorded = std::fs::read_to_string(&path).unwrap();
        let actual = replay(&recorded);
        if std::env::var_os("KONTIKI_REWRITE").is_some() {
            std::fs::write(&path, &actual).unwrap();
            continue;
        }
        assert!(actual == recorded, "{name}: replies differ; got\n{actual}");
    }
}

/// Returns the script with the replies it gets now.
fn replay(script: &str) -> String {
    let mut machine = Machine { store: Store::new(Limits { max_value_bytes: 20 }), time_ms: 0 };
    let mut output = String::new();
    let mut is_reply = false;
    let mut replies = String::new();
    for line in script.lines().chain([""]) {
        match line {
            "----" => {
                writeln!(output, "----\n{}", replies.trim_end()).unwrap();
                replies.clear();
                is_reply = true;
            }
            "" if is_reply => {
                output.push('\n');
                is_reply = false;
            }
            _ if is_reply => {}
            "" => output.push('\n'),
            comment if comment.starts_with('#') => writeln!(output, "{comment}").unwrap(),
            input => {
                writeln!(output, "{input}").unwrap();
                writeln!(replies, "{}", machine.line(input)).unwrap();
                assert_eq!(machine.store.state_hash(), machine.store.rescanned_hash(), "after {input}");
            }
        }
    }
    format!("{}\n", output.trim_end())
}

struct Machine {
    store: Store,
    time_ms: u64,
}

impl Machine {
    fn line(&mut self, line: &str) -> String {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        if words[0] == "?" {
            return render(&self.store.query(&query(&words[1..])));
        }
        if let Some(time_ms) = words[0].strip_prefix('@') {
            self.time_ms = time_ms.parse().unwrap();
            words.remove(0);
        }
        let origin = origin(&mut words);
        let index = self.store.applied_index() + 1;
        match words[0] {
            "state" => self.state(),
            "time" => {
                self.store.apply_time(index, self.time_ms);
                "OK".into()
            }
            "configuration" => {
                self.store.apply_configuration(index, self.time_ms, words[1].as_bytes());
                "OK".into()
            }
            _ => {
                let operation = operation(&words);
                let input = Input { index, time_ms: self.time_ms, origin, operation: &operation };
                render(&self.store.apply(input))
            }
        }
    }

    fn state(&self) -> String {
        let store = &self.store;
        format!(
            "applied={} time={} keys={} next_deadline={:?} opened={} connections={} hash={:032x}",
            store.applied_index(),
            store.time_ms(),
            store.keys(),
            store.next_deadline(),
            store.opened_sessions(),
            store.connection_sessions(),
            store.state_hash(),
        )
    }
}

fn number(word: &str) -> u64 {
    word.parse().unwrap_or_else(|_| panic!("{word} is no number"))
}

fn bytes(word: &str) -> Bytes {
    Bytes::copy_from_slice(word.trim_matches('\'').as_bytes())
}

fn session(word: &str) -> SessionId {
    let parts: Vec<u64> = word.split('.').map(number).collect();
    SessionId { node: parts[0], boot: parts[1], number: parts[2] }
}

fn origin(words: &mut Vec<&str>) -> Option<Origin> {
    match words[0] {
        "conn" => {
            let taken: Vec<&str> = words.drain(..5).collect();
            let [seq, previous, first_unanswered] = [2, 3, 4].map(|at| number(taken[at]));
            Some(Origin { session: session(taken[1]), seq, previous, first_unanswered })
        }
        "open" => {
            let taken: Vec<&str> = words.drain(..4).collect();
            let session = SessionId { node: 0, boot: 0, number: number(taken[1]) };
            Some(Origin { session, seq: number(taken[2]), previous: 0, first_unanswered: number(taken[3]) })
        }
        _ => None,
    }
}

fn operation(words: &[&str]) -> Operation {
    if words[0] != "exec" {
        return Operation::Command(command(words));
    }
    let mut exec = Exec { conditions: Vec::new(), commands: Vec::new() };
    for words in words[1..].split(|word| *word == ";") {
        if words[0] == "if" {
            exec.conditions.push(Condition::Revision { key: bytes(words[1]), revision: number(words[2]) });
        } else {
            exec.commands.push(command(words));
        }
    }
    Operation::Exec(exec)
}

fn command(words: &[&str]) -> Command {
    let keys = || words[1..].iter().map(|word| bytes(word)).collect();
    let pairs = || words[1..].chunks(2).map(|pair| (bytes(pair[0]), bytes(pair[1]))).collect();
    match words[0] {
        "set" => set(words),
        "append" => Command::Append { key: bytes(words[1]), value: bytes(words[2]) },
        "del" => Command::Delete { keys: keys() },
        "mset" => Command::SetMany { pairs: pairs(), only_if_none_exists: false },
        "msetnx" => Command::SetMany { pairs: pairs(), only_if_none_exists: true },
        "incrby" => Command::Increment { key: bytes(words[1]), by: words[2].parse().unwrap() },
        "flushall" => Command::FlushAll,
        "session-open" => Command::OpenSession,
        "close" => Command::CloseSessions { sessions: words[1..].iter().map(|word| session(word)).collect() },
        "close-other-boots" => Command::CloseOtherBoots { node: number(words[1]), boot: number(words[2]) },
        _ => Command::Query(query(words)),
    }
}

fn set(words: &[&str]) -> Command {
    let mut set = Set {
        key: bytes(words[1]),
        value: bytes(words[2]),
        condition: SetCondition::Always,
        return_old: false,
        deadline_ms: None,
        keep_deadline: false,
    };
    let mut rest = words[3..].iter();
    while let Some(option) = rest.next() {
        let mut argument = || rest.next().unwrap();
        match *option {
            "nx" => set.condition = SetCondition::IfAbsent,
            "xx" => set.condition = SetCondition::IfPresent,
            "ifeq" => set.condition = SetCondition::IfEqual(bytes(argument())),
            "ifne" => set.condition = SetCondition::IfNotEqual(bytes(argument())),
            "ifrev" => set.condition = SetCondition::IfRevision(number(argument())),
            "get" => set.return_old = true,
            "until" => set.deadline_ms = Some(number(argument())),
            "keepttl" => set.keep_deadline = true,
            unknown => panic!("unknown option {unknown}"),
        }
    }
    Command::Set(set)
}

fn query(words: &[&str]) -> Query {
    let keys = || words[1..].iter().map(|word| bytes(word)).collect();
    let bound = |word: &str| if matches!(word, "-" | "+") { None } else { Some(bytes(word)) };
    match words[0] {
        "get" => Query::Get { key: bytes(words[1]) },
        "mget" => Query::GetMany { keys: keys() },
        "exists" => Query::Exists { keys: keys() },
        "strlen" => Query::Length { key: bytes(words[1]) },
        "type" => Query::Type { key: bytes(words[1]) },
        "getrev" => Query::GetRevision { key: bytes(words[1]) },
        "count" => Query::Count,
        "keys" => Query::Keys { pattern: bytes(words[1]) },
        "range" => Query::Range {
            start: bound(words[1]),
            end: bound(words[2]),
            limit: words.get(3).map_or(u64::MAX, |word| number(word)),
            with_revision: words.get(4).is_some(),
        },
        "scan" => Query::Scan {
            after: bound(words[1]),
            count: number(words[2]),
            pattern: words.get(3).map(|word| bytes(word)),
        },
        unknown => panic!("unknown command {unknown}"),
    }
}

fn render(reply: &Reply) -> String {
    match reply {
        Reply::Ok => "OK".into(),
        Reply::Nil => "nil".into(),
        Reply::Integer(number) => number.to_string(),
        Reply::Bulk(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
        Reply::Simple(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Reply::Array(items) => format!("[{}]", items.iter().map(render).collect::<Vec<_>>().join(", ")),
        Reply::Error(error) => format!("-{error}"),
    }
}
