//! CONFIG: the parameters that exist, under the names Redis gives them.

use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::door::Door;
use super::errors;
use crate::kv::glob_matches;
use crate::proto::resp::{Value, parse_i64};

/// The most connections that CONFIG SET accepts.
const MAX_CLIENTS_MAX: usize = 1_000_000;

/// Returns every parameter with its value now.
fn parameters(door: &Door) -> Vec<(&'static str, String)> {
    vec![
        ("appendfsync", "always".to_owned()),
        ("appendonly", "yes".to_owned()),
        ("bind", door.address.ip().to_string()),
        ("client-query-buffer-limit", door.limits(true).command_bytes.to_string()),
        ("cluster-enabled", "no".to_owned()),
        ("databases", "1".to_owned()),
        ("maxclients", door.max_clients().to_string()),
        ("maxmemory", "0".to_owned()),
        ("maxmemory-policy", "noeviction".to_owned()),
        ("port", door.address.port().to_string()),
        ("proto-max-bulk-len", door.options.max_value_bytes.to_string()),
        ("save", String::new()),
        ("timeout", "0".to_owned()),
    ]
}

/// `CONFIG GET pattern …`. A parameter asked for by its name is called as it was asked for, in whatever case.
pub(super) fn get(patterns: &[Bytes], door: &Door) -> Value {
    let found = parameters(door).into_iter().filter_map(|(name, value)| {
        let exact = patterns.iter().find(|pattern| pattern.eq_ignore_ascii_case(name.as_bytes()));
        let is_matched = || patterns.iter().any(|pattern| glob_matches(&pattern.to_ascii_lowercase(), name.as_bytes()));
        let shown = match exact {
            Some(asked) => Value::Bulk(asked.clone()),
            None if is_matched() => Value::text(name),
            None => return None,
        };
        Some((shown, Value::text(value)))
    });
    Value::Map(found.collect())
}

/// `CONFIG SET parameter value …`: all or nothing. Only `maxclients` can change while a node runs.
pub(super) fn set(arguments: &[Bytes], door: &Door) -> Value {
    if !arguments.len().is_multiple_of(2) {
        return errors::arity("config|set");
    }
    let known = parameters(door);
    let mut max_clients = None;
    for pair in arguments.chunks(2) {
        let name = String::from_utf8_lossy(&pair[0]);
        let refused =
            |why: &str| Value::error(format_args!("CONFIG SET failed (possibly related to argument '{name}') - {why}"));
        if !known.iter().any(|(known, _)| name.eq_ignore_ascii_case(known)) {
            return Value::error(format_args!("Unknown option or number of arguments for CONFIG SET - '{name}'"));
        }
        if !name.eq_ignore_ascii_case("maxclients") {
            return refused("can't set immutable config");
        }
        if max_clients.is_some() {
            return refused("duplicate parameter");
        }
        match parse_i64(&pair[1]).map(usize::try_from) {
            None => return refused("argument couldn't be parsed into an integer"),
            Some(Ok(count)) if (1..=MAX_CLIENTS_MAX).contains(&count) => max_clients = Some(count),
            Some(_) => return refused("argument must be between 1 and 1000000 inclusive"),
        }
    }
    if let Some(count) = max_clients {
        door.max_clients.store(count, Ordering::Relaxed);
    }
    Value::OK
}
