//! Answers to reads, from the state at the moment it may be read.

use super::door::Door;
use super::local::now;
use super::pipeline::Done;
use super::translate::{Read, Shape};
use crate::kv::{Query, Reply, Store};
use crate::proto::resp::Value;

/// Up to this many keys RANDOMKEY draws fairly; above, it looks this far from a random place.
const FAIR_KEYS_MAX: u64 = 1024;

/// Answers one read.
pub(super) fn answer(read: &Read, store: &Store, door: &Door) -> Done {
    match read {
        Read::Query(query, shape) => Done::Reply(store.query(query), *shape),
        Read::Scan(request) => Done::Value(door.cursors.lock().scan(request, store, now())),
        Read::RandomKey => random_key(store, rand::random()),
    }
}

/// Draws a key: from all if they are few, else from those that follow a random place between the first and the last.
fn random_key(store: &Store, random: [u64; 2]) -> Done {
    let from = |start, limit| match store.query(&Query::Range { start, end: None, limit, with_revision: false }) {
        Reply::Array(row) => row.into_iter().step_by(2).collect::<Vec<Reply>>(),
        other => unreachable!("a range is {other:?}"),
    };
    let mut keys = Vec::new();
    if store.keys() > FAIR_KEYS_MAX {
        let place = random[0].to_be_bytes();
        keys = from(Some(bytes::Bytes::copy_from_slice(&place)), FAIR_KEYS_MAX);
    }
    if keys.is_empty() {
        keys = from(None, FAIR_KEYS_MAX);
    }
    let count = keys.len() as u64;
    if count == 0 {
        return Done::Value(Value::Null);
    }
    let chosen = usize::try_from(random[1] % count).unwrap_or(0);
    Done::Reply(keys.swap_remove(chosen), Shape::Plain)
}
