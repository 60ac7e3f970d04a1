//! RANDOMKEY: any key may come, without counting through all of them.
//!
//! Keys are ordered but not numbered. So the draw goes down their common prefixes: at each it finds the bytes that follow and
//! takes one of them. Keys with rare prefixes are favoured; every key has a chance.

use bytes::Bytes;
use rand::Rng;

use crate::kv::{Query, Reply, Store};

/// Among up to this many keys the draw is fair.
const FAIR_KEYS_MAX: u64 = 256;

/// Looks into the state, each O(log n), after which the draw takes one of the next keys.
const LOOKS_MAX: usize = 2048;

/// Draws a key; `None` if there are none.
pub(super) fn random_key(store: &Store, random: &mut impl Rng) -> Option<Bytes> {
    let mut prefix = Vec::new();
    if store.keys() > FAIR_KEYS_MAX {
        let mut looks = 0;
        while looks < LOOKS_MAX {
            let found = continuations(store, &prefix, &mut looks);
            match found[random.random_range(0..found.len())] {
                Some(byte) => prefix.push(byte),
                None => return Some(Bytes::from(prefix)),
            }
        }
    }
    let mut near = store.scan(None, FAIR_KEYS_MAX, None).keys;
    if !prefix.is_empty() {
        near = store.scan(Some(&prefix), FAIR_KEYS_MAX, None).keys;
        near.extend(first_key_from(store, &prefix));
    }
    let chosen = random.random_range(0..near.len().max(1));
    near.get(chosen).cloned()
}

/// Returns what follows `prefix` in some key: a byte, or `None` where the key ends. There is such a key.
fn continuations(store: &Store, prefix: &[u8], looks: &mut usize) -> Vec<Option<u8>> {
    let mut found = Vec::new();
    let mut from = prefix.to_vec();
    loop {
        *looks += 1;
        let key = first_key_from(store, &from).filter(|key| key.starts_with(prefix));
        let Some(key) = key else { return found };
        let next = key.get(prefix.len()).copied();
        found.push(next);
        from.truncate(prefix.len());
        match next {
            None => from.push(0),
            Some(u8::MAX) => return found,
            Some(byte) => from.push(byte + 1),
        }
    }
}

/// Returns the first key that is `start` or after it.
fn first_key_from(store: &Store, start: &[u8]) -> Option<Bytes> {
    let start = Some(Bytes::copy_from_slice(start));
    match store.query(&Query::Range { start, end: None, limit: 1, with_revision: false }) {
        Reply::Array(row) => match row.into_iter().next() {
            Some(Reply::Bulk(key)) => Some(key),
            _ => None,
        },
        other => unreachable!("one row fits into a reply, not {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::super::test_store::store_of;
    use super::*;

    fn drawn(store: &Store, times: usize) -> BTreeSet<Bytes> {
        let mut random = StdRng::seed_from_u64(1);
        (0..times).filter_map(|_| random_key(store, &mut random)).collect()
    }

    #[test]
    fn few_keys_come_fairly_and_none_from_nothing() {
        assert_eq!(drawn(&store_of(&[]), 10).len(), 0);
        assert_eq!(drawn(&store_of(&["a", "b", "c"]), 100).len(), 3);
    }

    #[test]
    fn of_many_keys_every_one_may_come() {
        let names: Vec<String> = (0..1000).map(|number| format!("key:{number}")).chain(["key:".to_owned()]).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let store = store_of(&names);
        let drawn = drawn(&store, 20_000);
        assert!(drawn.iter().all(|key| names.contains(&std::str::from_utf8(key).expect("text"))));
        assert!(drawn.len() > 950, "{} of 1001 keys were drawn", drawn.len());
    }

    #[test]
    fn long_common_prefixes_end_the_draw_early() {
        let long = "x".repeat(10_000);
        let names: Vec<String> = (0..300).map(|number| format!("{long}{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert!(drawn(&store_of(&names), 20).len() > 5);
    }
}
