//! Answers to reads, from the state at the moment it may be read.

use super::door::Door;
use super::local::now;
use super::pipeline::Done;
use super::random_key::random_key;
use super::translate::Read;
use crate::kv::Store;
use crate::proto::resp::Value;

/// Answers one read.
pub(super) fn answer(read: &Read, store: &Store, door: &Door) -> Done {
    match read {
        Read::Query(query, shape) => Done::Reply(store.query(query), *shape),
        Read::Scan(request) => Done::Value(door.cursors.lock().scan(request, store, now())),
        Read::RandomKey => Done::Value(random_key(store, &mut rand::rng()).map_or(Value::Null, Value::Bulk)),
    }
}
