//! What each command does to the rows, with the answers of Redis 7.0.

use bytes::Bytes;

use super::command::{Command, Condition, Exec, Operation, Set, SetCondition};
use super::query::{self, Budget};
use super::reply::{CommandError, Reply};
use super::rows::{Row, Rows};
use super::sessions::{Now, Sessions};

/// Values up to here are copied on writing: a handle that was shared once costs more memory than it saves.
const COPIED_BYTES_MAX: usize = 1024;

/// The execution of one entry's operation.
pub(super) struct Execution<'a> {
    pub(super) rows: &'a mut Rows,
    pub(super) sessions: &'a mut Sessions,
    pub(super) now: Now,
    pub(super) max_value_bytes: u64,
    /// What the replies of this operation may hold together.
    pub(super) budget: Budget,
}

impl Execution<'_> {
    pub(super) fn run(mut self, operation: &Operation) -> Reply {
        match operation {
            Operation::Command(command) => self.command(command),
            Operation::Exec(exec) => self.exec(exec),
        }
    }

    /// Like EXEC of Redis: a command that is refused undoes nothing, the others are executed all the same.
    fn exec(&mut self, exec: &Exec) -> Reply {
        if exec.conditions.iter().all(|condition| self.holds(condition)) {
            Reply::Array(exec.commands.iter().map(|command| self.command(command)).collect())
        } else {
            Reply::Nil
        }
    }

    fn holds(&self, condition: &Condition) -> bool {
        match condition {
            Condition::Revision { key, revision } => self.revision(key) == *revision,
        }
    }

    fn command(&mut self, command: &Command) -> Reply {
        self.try_command(command).unwrap_or_else(Reply::Error)
    }

    fn try_command(&mut self, command: &Command) -> Result<Reply, CommandError> {
        Ok(match command {
            Command::Set(set) => self.set(set)?,
            Command::Append { key, value } => self.append(key, value)?,
            Command::Delete { keys } => Reply::count(keys.iter().filter(|key| self.rows.remove(key)).count() as u64),
            Command::SetMany { pairs, only_if_none_exists } => self.set_many(pairs, *only_if_none_exists)?,
            Command::Increment { key, by } => self.increment(key, *by)?,
            Command::FlushAll => {
                self.rows.clear();
                Reply::Ok
            }
            Command::OpenSession => Reply::count(self.sessions.open(self.now)),
            Command::CloseSessions { sessions } => {
                sessions.iter().for_each(|session| self.sessions.close(*session));
                Reply::Ok
            }
            Command::CloseOtherBoots { node, boot } => {
                self.sessions.close_other_boots(*node, *boot);
                Reply::Ok
            }
            Command::Query(query) => query::answer(self.rows, query, &mut self.budget),
        })
    }

    fn set(&mut self, set: &Set) -> Result<Reply, CommandError> {
        self.check_length(set.value.len() as u64)?;
        let old = self.rows.row(&set.key);
        let is_met = is_met(&set.condition, old);
        let kept_deadline_ms = if set.keep_deadline { old.and_then(Row::deadline_ms) } else { None };
        let reply = match old {
            Some(row) if set.return_old => {
                self.budget.take(row.value().len())?;
                Reply::Bulk(row.value().clone())
            }
            Some(_) | None if set.return_old || !is_met => Reply::Nil,
            Some(_) | None => Reply::Ok,
        };
        if is_met {
            self.write(&set.key, &set.value, set.deadline_ms.or(kept_deadline_ms));
        }
        Ok(reply)
    }

    fn append(&mut self, key: &[u8], tail: &Bytes) -> Result<Reply, CommandError> {
        let old_bytes = self.rows.row(key).map_or(0, |row| row.value().len() as u64);
        self.check_length(old_bytes.saturating_add(tail.len() as u64))?;
        let length = self.rows.append(key, tail, self.now.index).unwrap_or_else(|| {
            self.rows.set(key, owned(tail), self.now.index, None);
            tail.len()
        });
        Ok(Reply::count(length as u64))
    }

    fn set_many(&mut self, pairs: &[(Bytes, Bytes)], only_if_none_exists: bool) -> Result<Reply, CommandError> {
        for (_, value) in pairs {
            self.check_length(value.len() as u64)?;
        }
        if only_if_none_exists && pairs.iter().any(|(key, _)| self.rows.row(key).is_some()) {
            return Ok(Reply::Nil);
        }
        for (key, value) in pairs {
            self.write(key, value, None);
        }
        Ok(Reply::Ok)
    }

    fn increment(&mut self, key: &[u8], by: i64) -> Result<Reply, CommandError> {
        let old = self.rows.row(key);
        let number = old.map_or(Ok(0), |row| integer(row.value()).ok_or(CommandError::NotAnInteger))?;
        let deadline_ms = old.and_then(Row::deadline_ms);
        let sum = number.checked_add(by).ok_or(CommandError::Overflow)?;
        self.write(key, &Bytes::from(sum.to_string()), deadline_ms);
        Ok(Reply::Integer(sum))
    }

    /// Writes a row; one whose deadline has come already is gone at once.
    fn write(&mut self, key: &[u8], value: &Bytes, deadline_ms: Option<u64>) {
        if deadline_ms.is_some_and(|deadline_ms| deadline_ms <= self.now.time_ms) {
            self.rows.remove(key);
        } else {
            self.rows.set(key, owned(value), self.now.index, deadline_ms);
        }
    }

    fn revision(&self, key: &[u8]) -> u64 {
        self.rows.row(key).map_or(0, Row::revision)
    }

    fn check_length(&self, bytes: u64) -> Result<(), CommandError> {
        if bytes > self.max_value_bytes { Err(CommandError::TooLarge) } else { Ok(()) }
    }
}

fn owned(value: &Bytes) -> Bytes {
    if value.len() <= COPIED_BYTES_MAX { Bytes::copy_from_slice(value) } else { value.clone() }
}

fn is_met(condition: &SetCondition, old: Option<&Row>) -> bool {
    match condition {
        SetCondition::Always => true,
        SetCondition::IfAbsent => old.is_none(),
        SetCondition::IfPresent => old.is_some(),
        SetCondition::IfEqual(value) => old.is_some_and(|row| row.value() == value),
        SetCondition::IfNotEqual(value) => old.is_none_or(|row| row.value() != value),
        SetCondition::IfRevision(revision) => old.map_or(0, Row::revision) == *revision,
    }
}

/// Reads a decimal as Redis does: the one way in which it would write that number, nothing else.
fn integer(value: &[u8]) -> Option<i64> {
    let digits = value.strip_prefix(b"-").unwrap_or(value);
    let is_canonical = match digits {
        [b'0'] => digits.len() == value.len(),
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !is_canonical {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::integer;

    #[test]
    fn integers_are_read_as_redis_reads_them() {
        for (text, number) in
            [("0", 0), ("7", 7), ("-7", -7), ("9223372036854775807", i64::MAX), ("-9223372036854775808", i64::MIN)]
        {
            assert_eq!(integer(text.as_bytes()), Some(number), "{text}");
        }
        for text in [
            "",
            "-",
            "-0",
            "00",
            "01",
            "-01",
            "+1",
            " 1",
            "1 ",
            "1.0",
            "a",
            "9223372036854775808",
            "-9223372036854775809",
        ] {
            assert_eq!(integer(text.as_bytes()), None, "{text}");
        }
    }
}
