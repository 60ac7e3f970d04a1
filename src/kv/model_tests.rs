//! The state against a model that has no windows, orders or sums: a map, the deadlines in it, and every reply ever given.
//!
//! Random histories hold copies of commands, in any order, and time that jumps. The model says which entries take effect;
//! for those the replies must be equal, for the others nothing may change.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

const MAX_VALUE_BYTES: usize = 12;

#[derive(Clone, Debug, PartialEq)]
struct ModelRow {
    value: Vec<u8>,
    revision: u64,
    deadline_ms: Option<u64>,
}

#[derive(Debug, Default)]
struct Model {
    rows: BTreeMap<Bytes, ModelRow>,
    time_ms: u64,
    opened: BTreeSet<u64>,
    closed: BTreeSet<SessionId>,
    replies: BTreeMap<(SessionId, u64), Reply>,
    /// The highest `first_unanswered` a session has said in a command that took effect or was repeated.
    first_unanswered: BTreeMap<SessionId, u64>,
}

/// What the model expects of an entry.
#[derive(Debug, PartialEq)]
enum Expected {
    Reply(Reply),
    Refused(CommandError),
}

impl Model {
    fn apply(&mut self, input: Input<'_>) -> Expected {
        self.time_ms = self.time_ms.max(input.time_ms);
        self.rows.retain(|_, row| row.deadline_ms.is_none_or(|deadline_ms| deadline_ms > self.time_ms));
        let Some(origin) = input.origin else {
            return Expected::Reply(self.operation(input.index, input.operation));
        };
        let name = (origin.session, origin.seq);
        if let Some(error) = self.refusal(&origin) {
            return Expected::Refused(error);
        }
        let said = self.first_unanswered.entry(origin.session).or_default();
        *said = origin.first_unanswered.min(origin.seq).max(*said);
        if let Some(reply) = self.replies.get(&name) {
            return Expected::Reply(reply.clone());
        }
        let reply = self.operation(input.index, input.operation);
        self.replies.insert(name, reply.clone());
        Expected::Reply(reply)
    }

    fn refusal(&self, origin: &Origin) -> Option<CommandError> {
        let Origin { session, seq, previous, first_unanswered } = *origin;
        let is_reached = |seq| self.replies.range((session, seq)..=(session, u64::MAX)).next().is_some();
        let is_gone =
            if session.node == 0 { !self.opened.contains(&session.number) } else { self.closed.contains(&session) };
        if is_gone {
            return Some(CommandError::SessionExpired);
        }
        if seq < self.first_unanswered.get(&session).copied().unwrap_or(0) {
            return Some(CommandError::SessionStale);
        }
        if session.node == 0 || self.replies.contains_key(&(session, seq)) {
            return None;
        }
        if is_reached(seq) {
            return Some(CommandError::SessionStale);
        }
        let waits = previous > 0 && previous >= first_unanswered;
        (waits && !is_reached(previous)).then_some(CommandError::OutOfOrder)
    }

    fn operation(&mut self, index: u64, operation: &Operation) -> Reply {
        match operation {
            Operation::Command(command) => self.command(index, command),
            Operation::Exec(exec) => {
                let revision = |key: &Bytes| self.rows.get(key).map_or(0, |row| row.revision);
                let holds = |Condition::Revision { key, revision: wanted }: &Condition| revision(key) == *wanted;
                if exec.conditions.iter().all(holds) {
                    Reply::Array(exec.commands.iter().map(|command| self.command(index, command)).collect())
                } else {
                    Reply::Nil
                }
            }
        }
    }

    fn command(&mut self, index: u64, command: &Command) -> Reply {
        match command {
            Command::Set(set) => self.set(index, set),
            Command::Append { key, value } => {
                let mut row =
                    self.rows.get(key).cloned().unwrap_or(ModelRow { value: vec![], revision: 0, deadline_ms: None });
                row.value.extend_from_slice(value);
                row.revision = index;
                if row.value.len() > MAX_VALUE_BYTES {
                    return Reply::Error(CommandError::TooLarge);
                }
                let length = row.value.len() as u64;
                self.rows.insert(key.clone(), row);
                Reply::count(length)
            }
            Command::Delete { keys } => {
                Reply::count(keys.iter().filter_map(|key| self.rows.remove(key)).count() as u64)
            }
            Command::Increment { key, by } => {
                let deadline_ms = self.rows.get(key).and_then(|row| row.deadline_ms);
                let text =
                    self.rows.get(key).map_or("0".into(), |row| String::from_utf8_lossy(&row.value).into_owned());
                let Some(number) = text.parse::<i64>().ok().filter(|number| number.to_string() == text) else {
                    return Reply::Error(CommandError::NotAnInteger);
                };
                let Some(sum) = number.checked_add(*by) else { return Reply::Error(CommandError::Overflow) };
                self.write(index, key, sum.to_string().as_bytes(), deadline_ms);
                Reply::Integer(sum)
            }
            Command::FlushAll => {
                self.rows.clear();
                Reply::Ok
            }
            Command::OpenSession => {
                self.opened.insert(index);
                Reply::count(index)
            }
            Command::CloseSessions { sessions } => {
                self.closed.extend(sessions);
                Reply::Ok
            }
            other => unreachable!("{other:?} is not generated"),
        }
    }

    fn set(&mut self, index: u64, set: &Set) -> Reply {
        if set.value.len() > MAX_VALUE_BYTES {
            return Reply::Error(CommandError::TooLarge);
        }
        let old = self.rows.get(&set.key).cloned();
        let old_value = old.as_ref().map(|row| row.value.clone());
        let is_met = match &set.condition {
            SetCondition::Always => true,
            SetCondition::IfAbsent => old.is_none(),
            SetCondition::IfPresent => old.is_some(),
            SetCondition::IfEqual(value) => old_value.as_deref() == Some(&value[..]),
            SetCondition::IfNotEqual(value) => old_value.as_deref() != Some(&value[..]),
            SetCondition::IfRevision(revision) => old.as_ref().map_or(0, |row| row.revision) == *revision,
        };
        if is_met {
            let kept = if set.keep_deadline { old.and_then(|row| row.deadline_ms) } else { None };
            self.write(index, &set.key, &set.value, set.deadline_ms.or(kept));
        }
        match old_value {
            Some(value) if set.return_old => Reply::Bulk(value.into()),
            _ if set.return_old || !is_met => Reply::Nil,
            _ => Reply::Ok,
        }
    }

    fn write(&mut self, revision: u64, key: &Bytes, value: &[u8], deadline_ms: Option<u64>) {
        if deadline_ms.is_some_and(|deadline_ms| deadline_ms <= self.time_ms) {
            self.rows.remove(key);
        } else {
            self.rows.insert(key.clone(), ModelRow { value: value.to_vec(), revision, deadline_ms });
        }
    }
}

fn key() -> impl Strategy<Value = Bytes> {
    prop::sample::select(vec!["", "a", "b", "c", "k1", "k2"]).prop_map(|key| Bytes::from_static(key.as_bytes()))
}

fn value() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        4 => (-20_i64..20).prop_map(|number| Bytes::from(number.to_string())),
        1 => Just(Bytes::from(i64::MAX.to_string())),
        3 => prop::collection::vec(any::<u8>(), 0..MAX_VALUE_BYTES + 2).prop_map(Bytes::from),
    ]
}

fn set() -> impl Strategy<Value = Set> {
    let condition = prop_oneof![
        4 => Just(SetCondition::Always),
        1 => Just(SetCondition::IfAbsent),
        1 => Just(SetCondition::IfPresent),
        1 => value().prop_map(SetCondition::IfEqual),
        1 => value().prop_map(SetCondition::IfNotEqual),
        1 => (0_u64..40).prop_map(SetCondition::IfRevision),
    ];
    let deadline = prop::option::of(0_u64..300);
    (key(), value(), condition, any::<bool>(), deadline, any::<bool>()).prop_map(
        |(key, value, condition, return_old, deadline_ms, keep_deadline)| Set {
            key,
            value,
            condition,
            return_old,
            deadline_ms,
            keep_deadline,
        },
    )
}

fn command() -> impl Strategy<Value = Command> {
    let session = (1_u64..3, 1_u64..4).prop_map(|(node, number)| SessionId { node, boot: 9, number });
    prop_oneof![
        6 => set().prop_map(Command::Set),
        6 => (key(), value()).prop_map(|(key, value)| Command::Append { key, value }),
        2 => prop::collection::vec(key(), 1..3).prop_map(|keys| Command::Delete { keys }),
        3 => (key(), prop_oneof![(-3_i64..3), Just(i64::MAX)]).prop_map(|(key, by)| Command::Increment { key, by }),
        1 => Just(Command::FlushAll),
        1 => Just(Command::OpenSession),
        1 => prop::collection::vec(session, 1..2).prop_map(|sessions| Command::CloseSessions { sessions }),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    let condition = (key(), 0_u64..20).prop_map(|(key, revision)| Condition::Revision { key, revision });
    let exec = (prop::collection::vec(condition, 0..2), prop::collection::vec(command(), 0..4))
        .prop_map(|(conditions, commands)| Operation::Exec(Exec { conditions, commands }));
    prop_oneof![5 => command().prop_map(Operation::Command), 1 => exec]
}

/// Few sessions and few numbers, so that copies, gaps and late commands are common.
fn origin() -> impl Strategy<Value = Option<Origin>> {
    let opened = (1_u64..12, 1_u64..9, 0_u64..4).prop_map(|(number, seq, first_unanswered)| Origin {
        session: SessionId { node: 0, boot: 0, number },
        seq,
        previous: 0,
        first_unanswered,
    });
    let numbers = (1_u64..9, prop_oneof![2 => Just(1), 1 => 2_u64..9], 0_u64..9);
    let connection = (1_u64..3, 1_u64..4, numbers).prop_map(|(node, number, (seq, behind, first_unanswered))| Origin {
        session: SessionId { node, boot: 9, number },
        seq,
        previous: seq.saturating_sub(behind),
        first_unanswered,
    });
    prop_oneof![1 => Just(None), 2 => opened.prop_map(Some), 3 => connection.prop_map(Some)]
}

fn assert_same_rows(store: &Store, model: &Model) {
    let all = Query::Range { start: None, end: None, limit: u64::MAX, with_revision: true };
    let mut expected = Vec::new();
    for (key, row) in &model.rows {
        let (key, value) = (Reply::Bulk(key.clone()), Reply::Bulk(row.value.clone().into()));
        expected.extend([key, value, Reply::count(row.revision)]);
    }
    assert_eq!(store.query(&all), Reply::Array(expected));
    for (key, row) in &model.rows {
        assert_eq!(store.deadline_ms(key), row.deadline_ms);
    }
    assert_eq!(store.next_deadline(), model.rows.values().filter_map(|row| row.deadline_ms).min());
    assert_eq!(store.keys(), model.rows.len() as u64);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn the_state_does_what_the_model_does(
        entries in prop::collection::vec((operation(), origin(), 0_u64..12), 1..80)
    ) {
        let mut store = Store::new(Limits { max_value_bytes: MAX_VALUE_BYTES as u64 });
        let mut replica = Store::new(Limits { max_value_bytes: MAX_VALUE_BYTES as u64 });
        let mut model = Model::default();
        let mut time_ms = 0;
        for (index, (operation, origin, elapsed_ms)) in (1..).zip(&entries) {
            time_ms += elapsed_ms;
            let input = Input { index, time_ms, origin: *origin, operation };
            let reply = store.apply(input);
            match model.apply(input) {
                Expected::Reply(expected) => prop_assert_eq!(&reply, &expected, "entry {}", index),
                Expected::Refused(error) => prop_assert_eq!(&reply, &Reply::Error(error), "entry {}", index),
            }
            prop_assert_eq!(store.state_hash(), store.rescanned_hash(), "entry {}", index);
            prop_assert_eq!(replica.apply(input), reply);
            prop_assert_eq!(replica.state_hash(), store.state_hash());
            assert_same_rows(&store, &model);
        }
    }

    /// Copies of a whole history, cut anywhere and mixed in behind, change no row.
    #[test]
    fn a_history_sent_again_changes_nothing(
        operations in prop::collection::vec(operation(), 1..20),
        copies in prop::collection::vec((0_usize..20, any::<bool>()), 1..40),
    ) {
        let operations: Vec<Operation> = operations
            .into_iter()
            .filter(|operation| !format!("{operation:?}").contains("Close"))
            .collect();
        let mut store = Store::default();
        store.apply(Input { index: 1, time_ms: 0, origin: None, operation: &Operation::Command(Command::OpenSession) });
        let origin = |seq: usize, is_opened: bool| Origin {
            session: if is_opened { SessionId { node: 0, boot: 0, number: 1 } } else { SessionId { node: 1, boot: 1, number: 1 } },
            seq: seq as u64 + 1,
            previous: seq as u64,
            first_unanswered: 1,
        };
        let mut replies = Vec::new();
        let mut index = 1;
        for (seq, operation) in operations.iter().enumerate() {
            for is_opened in [false, true] {
                index += 1;
                replies.push(store.apply(Input { index, time_ms: 0, origin: Some(origin(seq, is_opened)), operation }));
            }
        }
        let all = Query::Range { start: None, end: None, limit: u64::MAX, with_revision: true };
        let rows = store.query(&all);
        for (seq, is_opened) in copies {
            if seq < operations.len() {
                index += 1;
                let input = Input { index, time_ms: 0, origin: Some(origin(seq, is_opened)), operation: &operations[seq] };
                prop_assert_eq!(store.apply(input), replies[2 * seq + usize::from(is_opened)].clone());
                prop_assert_eq!(store.query(&all), rows.clone());
            }
        }
        prop_assert_eq!(store.state_hash(), store.rescanned_hash());
    }
}
