//! A state with some keys, for tests.

use bytes::Bytes;

use crate::kv::{Command, Input, Operation, Store};

/// Returns a state that holds these keys, each with itself as value.
pub(super) fn store_of(keys: &[&str]) -> Store {
    let pairs = keys.iter().map(|key| (Bytes::from((*key).to_owned()), Bytes::from((*key).to_owned()))).collect();
    let operation = Operation::Command(Command::SetMany { pairs, only_if_none_exists: false });
    let mut store = Store::default();
    store.apply(Input { index: 1, time_ms: 1, origin: None, operation: &operation });
    store
}
