//! SCAN: steps through the keys in their order, with cursors that are numbers.
//!
//! A cursor stands for the last key seen, kept on this node for ten minutes. A full scan returns every key that was there
//! throughout, once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::errors;
use super::translate::parse_u64;
use crate::kv::{Query, Reply, Store, glob_matches};
use crate::proto::resp::{Value, parse_i64};

/// How long a cursor is good.
const CURSOR_AGE_MAX: Duration = Duration::from_secs(600);

/// Cursors kept; the oldest goes first.
const CURSORS_MAX: usize = 64 * 1024;

/// Bytes of the keys that cursors stand for; the oldest goes first.
const CURSOR_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Keys looked at in one call, whatever COUNT says: the state is locked meanwhile.
const COUNT_MAX: i64 = 10_000;

/// Numbers start below this, so that even after 2^51 calls they fit into a double, which is what some clients keep them in.
const FIRST_CURSOR_MAX: u64 = 1 << 52;

/// `SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ScanRequest {
    cursor: u64,
    pattern: Option<Bytes>,
    count: i64,
    type_name: Option<Bytes>,
}

impl ScanRequest {
    /// Reads the arguments, the command's name included.
    pub(super) fn parse(arguments: &mut [Bytes]) -> Result<ScanRequest, Value> {
        let cursor = parse_u64(&arguments[1]).ok_or_else(invalid_cursor)?;
        let mut request = ScanRequest { cursor, pattern: None, count: 10, type_name: None };
        for option in arguments[2..].chunks_mut(2) {
            let [name, value] = option else { return Err(errors::syntax()) };
            if name.eq_ignore_ascii_case(b"COUNT") {
                request.count = parse_i64(value).ok_or_else(errors::not_an_integer)?;
                if request.count < 1 {
                    return Err(errors::syntax());
                }
            } else if name.eq_ignore_ascii_case(b"MATCH") {
                request.pattern = Some(std::mem::take(value));
            } else if name.eq_ignore_ascii_case(b"TYPE") {
                request.type_name = Some(std::mem::take(value));
            } else {
                return Err(errors::syntax());
            }
        }
        Ok(request)
    }
}

/// The cursors of one node.
///
/// - Ids grow, so the first is the oldest; 0 is never one.
/// - `bytes` is the sum of the keys' lengths.
#[derive(Debug)]
pub(super) struct Cursors {
    after: BTreeMap<u64, (Instant, Bytes)>,
    next: u64,
    bytes: usize,
}

impl Cursors {
    /// Returns an empty table. `random` keeps the cursors of different nodes and lives apart.
    pub(super) fn new(random: u64) -> Cursors {
        Cursors { after: BTreeMap::new(), next: random % FIRST_CURSOR_MAX + 1, bytes: 0 }
    }

    /// Makes a cursor for what comes after `key`.
    fn insert(&mut self, key: Bytes, now: Instant) -> u64 {
        self.bytes += key.len();
        let cursor = self.next;
        self.next += 1;
        self.after.insert(cursor, (now, key));
        while self.after.len() > CURSORS_MAX || self.bytes > CURSOR_BYTES_MAX {
            self.remove_first();
        }
        cursor
    }

    /// Returns the key that `cursor` stands for.
    fn find(&mut self, cursor: u64, now: Instant) -> Option<Bytes> {
        while self.after.first_key_value().is_some_and(|(_, (since, _))| now.duration_since(*since) > CURSOR_AGE_MAX) {
            self.remove_first();
        }
        self.after.get(&cursor).map(|(_, key)| key.clone())
    }

    fn remove_first(&mut self) {
        if let Some((_, (_, key))) = self.after.pop_first() {
            self.bytes -= key.len();
        }
    }

    /// Answers one SCAN from the state.
    pub(super) fn scan(&mut self, request: &ScanRequest, store: &Store, now: Instant) -> Value {
        let start = match request.cursor {
            0 => None,
            cursor => match self.find(cursor, now) {
                Some(key) => Some(successor(&key)),
                None => return invalid_cursor(),
            },
        };
        let count = request.count.min(COUNT_MAX).unsigned_abs();
        let reply = store.query(&Query::Range { start, end: None, limit: count, with_revision: false });
        let Reply::Array(row) = reply else { unreachable!("a range is an array") };
        let mut keys: Vec<Bytes> = row
            .into_iter()
            .step_by(2)
            .filter_map(|reply| if let Reply::Bulk(key) = reply { Some(key) } else { None })
            .collect();
        let cursor = match keys.last() {
            Some(last) if keys.len() as u64 == count => {
                // A copy, so that the cursor does not hold on to the memory of a log segment.
                self.insert(Bytes::copy_from_slice(last), now)
            }
            Some(_) | None => 0,
        };
        if request.type_name.as_ref().is_some_and(|name| !name.eq_ignore_ascii_case(b"string")) {
            keys.clear();
        }
        if let Some(pattern) = &request.pattern {
            keys.retain(|key| glob_matches(pattern, key));
        }
        Value::Array(vec![Value::text(cursor.to_string()), Value::Array(keys.into_iter().map(Value::Bulk).collect())])
    }
}

/// Returns the first key after `key` in the order of bytes.
fn successor(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    Bytes::from(next)
}

fn invalid_cursor() -> Value {
    Value::error("invalid cursor")
}
