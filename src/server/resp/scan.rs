//! SCAN: steps through the keys in their order, with cursors that are numbers.
//!
//! A cursor stands for the last key seen, kept on this node for ten minutes. A full scan returns every key that was there
//! throughout, once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::errors;
use super::translate::parse_u64;
use crate::kv::Store;
use crate::proto::resp::{Value, parse_i64};

/// How long a cursor is good.
const CURSOR_AGE_MAX: Duration = Duration::from_secs(600);

/// Cursors kept; the oldest goes first.
const CURSORS_MAX: usize = 64 * 1024;

/// Bytes of the keys that cursors stand for; the oldest goes first.
const CURSOR_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Keys looked at in one call, whatever COUNT says: the state is locked meanwhile.
const COUNT_MAX: u64 = 10_000;

/// Numbers start below this, so that even after 2^51 calls they fit into a double, which is what some clients keep them in.
const FIRST_CURSOR_MAX: u64 = 1 << 52;

/// `SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ScanRequest {
    cursor: u64,
    pattern: Option<Bytes>,
    count: u64,
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
                let count = parse_i64(value).ok_or_else(errors::not_an_integer)?;
                if count < 1 {
                    return Err(errors::syntax());
                }
                request.count = count.unsigned_abs().min(COUNT_MAX);
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
        let after = match request.cursor {
            0 => None,
            cursor => match self.find(cursor, now) {
                Some(key) => Some(key),
                None => return invalid_cursor(),
            },
        };
        let step = store.scan(after.as_deref(), request.count, request.pattern.as_deref());
        let cursor = step.next.map_or(0, |last| self.insert(last, now));
        let is_other_type = request.type_name.as_ref().is_some_and(|name| !name.eq_ignore_ascii_case(b"string"));
        let keys = if is_other_type { Vec::new() } else { step.keys };
        Value::Array(vec![Value::text(cursor.to_string()), Value::Array(keys.into_iter().map(Value::Bulk).collect())])
    }
}

fn invalid_cursor() -> Value {
    Value::error("invalid cursor")
}

#[cfg(test)]
mod tests {
    use super::super::test_store::store_of;
    use super::*;

    fn request(arguments: &str) -> ScanRequest {
        let mut arguments: Vec<Bytes> = arguments.split(' ').map(|word| Bytes::from(word.to_owned())).collect();
        ScanRequest::parse(&mut arguments).expect("a request")
    }

    /// Returns the cursor and the keys, joined.
    fn scan(cursors: &mut Cursors, store: &Store, arguments: &str, now: Instant) -> (u64, String) {
        let Value::Array(parts) = cursors.scan(&request(arguments), store, now) else {
            return (0, "refused".to_owned());
        };
        let [Value::Bulk(cursor), Value::Array(keys)] = &parts[..] else { panic!("{parts:?}") };
        let keys = keys.iter().map(|key| match key {
            Value::Bulk(key) => String::from_utf8_lossy(key).into_owned(),
            other => panic!("{other:?}"),
        });
        (parse_u64(cursor).expect("a number"), keys.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn steps_visit_every_key_once() {
        let (mut cursors, now) = (Cursors::new(7), Instant::now());
        let store = store_of(&["a", "b", "c", "d", "e"]);
        let (first, keys) = scan(&mut cursors, &store, "SCAN 0 COUNT 2", now);
        assert_eq!((first, keys.as_str()), (8, "a b"));
        let (second, keys) = scan(&mut cursors, &store, &format!("SCAN {first} COUNT 2"), now);
        assert_eq!(keys, "c d");
        // A client that did not get the reply asks again.
        assert_eq!(scan(&mut cursors, &store, &format!("SCAN {first} COUNT 2"), now).1, "c d");
        assert_eq!(scan(&mut cursors, &store, &format!("SCAN {second} COUNT 2"), now), (0, "e".to_owned()));
    }

    #[test]
    fn filters_choose_among_the_keys_of_a_step() {
        let (mut cursors, now) = (Cursors::new(7), Instant::now());
        let store = store_of(&["a1", "b1", "b2", "c1"]);
        assert_eq!(scan(&mut cursors, &store, "SCAN 0 MATCH *1 COUNT 9", now), (0, "a1 b1 c1".to_owned()));
        assert_eq!(scan(&mut cursors, &store, "SCAN 0 TYPE string", now).1, "a1 b1 b2 c1");
        assert_eq!(scan(&mut cursors, &store, "SCAN 0 TYPE list", now), (0, String::new()));
    }

    #[test]
    fn a_cursor_is_good_for_ten_minutes_and_the_oldest_make_room() {
        let (mut cursors, now) = (Cursors::new(7), Instant::now());
        let store = store_of(&["a", "b"]);
        let (cursor, _) = scan(&mut cursors, &store, "SCAN 0 COUNT 1", now);
        let again = format!("SCAN {cursor} COUNT 1");
        assert_eq!(scan(&mut cursors, &store, &again, now + CURSOR_AGE_MAX).1, "b");
        assert_eq!(scan(&mut cursors, &store, &again, now + CURSOR_AGE_MAX + Duration::from_millis(1)).1, "refused");
        assert_eq!(scan(&mut cursors, &store, "SCAN 12345", now).1, "refused");
        for _ in 0..=CURSORS_MAX {
            scan(&mut cursors, &store, "SCAN 0 COUNT 1", now);
        }
        assert_eq!((cursors.after.len(), cursors.bytes), (CURSORS_MAX, CURSORS_MAX));
    }
}
