//! COMMAND: what the server can tell about its commands.

use bytes::Bytes;

use super::commands::{Flags, Id, Spec, lookup};
use super::errors;
use super::table::TABLE;
use crate::kv::glob_matches;
use crate::proto::resp::Value;

/// Answers COMMAND and its subcommands.
pub(super) fn answer(id: Id, arguments: &[Bytes]) -> Value {
    match id {
        Id::Command => Value::Array(TABLE.iter().map(details).collect()),
        Id::CommandCount => Value::Integer(i64::try_from(TABLE.len()).unwrap_or(i64::MAX)),
        Id::CommandInfo if arguments.len() == 2 => Value::Array(TABLE.iter().map(details).collect()),
        Id::CommandInfo => {
            let found = arguments[2..].iter().map(|name| find(name).map_or(Value::Null, details));
            Value::Array(found.collect())
        }
        Id::CommandDocs if arguments.len() == 2 => Value::Map(TABLE.iter().map(docs).collect()),
        Id::CommandDocs => Value::Map(arguments[2..].iter().filter_map(|name| find(name)).map(docs).collect()),
        Id::CommandList => list(&arguments[2..]),
        Id::CommandGetkeys => getkeys(&arguments[2..]),
        other => unreachable!("{other:?} is not a subcommand of COMMAND"),
    }
}

/// Finds `get` as well as `client|id`.
fn find(name: &[u8]) -> Option<&'static Spec> {
    match name.iter().position(|&byte| byte == b'|') {
        None => lookup(name),
        Some(at) => lookup(&name[..at])?.subcommand(&name[at + 1..]),
    }
}

/// The ten fields of COMMAND INFO.
fn details(spec: &Spec) -> Value {
    let is_container = spec.id == Id::Container;
    let flags = if is_container { Vec::new() } else { spec.flags.names().map(Value::Simple).collect() };
    let keys = spec.keys;
    let number = |value: usize| Value::Integer(i64::try_from(value).unwrap_or(i64::MAX));
    Value::Array(vec![
        Value::text(spec.name),
        Value::Integer(spec.arity.into()),
        Value::Set(flags),
        number(keys.first),
        Value::Integer(keys.last.into()),
        number(keys.step),
        Value::Set(categories(spec)),
        Value::Set(Vec::new()),
        Value::Set(key_specification(spec).into_iter().collect()),
        match spec.subcommands {
            [] => Value::Set(Vec::new()),
            some => Value::Array(some.iter().map(details).collect()),
        },
    ])
}

/// The categories of access lists, in the order of Redis.
fn categories(spec: &Spec) -> Vec<Value> {
    let flags = spec.flags;
    let in_group = |group: &str| spec.group == group;
    let is_keyspace = in_group("generic") || matches!(spec.id, Id::Dbsize | Id::Flushall);
    let is_connection =
        (in_group("connection") && spec.id != Id::Container) || matches!(spec.id, Id::Readonly | Id::Readwrite);
    let categories = [
        (is_keyspace, "@keyspace"),
        (flags.has(Flags::READONLY), "@read"),
        (flags.has(Flags::WRITE), "@write"),
        (in_group("string"), "@string"),
        (flags.has(Flags::ADMIN), "@admin"),
        (flags.has(Flags::FAST), "@fast"),
        (!flags.has(Flags::FAST), "@slow"),
        (flags.has(Flags::DANGEROUS), "@dangerous"),
        (is_connection || spec.name.starts_with("command"), "@connection"),
        (in_group("scripting") && spec.id != Id::Container, "@scripting"),
    ];
    categories.into_iter().filter(|(is_in, _)| *is_in).map(|(_, name)| Value::Simple(name)).collect()
}

fn key_specification(spec: &Spec) -> Option<Value> {
    let keys = spec.keys;
    if keys.first == 0 {
        return None;
    }
    let number = |value: usize| Value::Integer(i64::try_from(value).unwrap_or(i64::MAX));
    let last = if keys.last < 0 { Value::Integer(keys.last.into()) } else { Value::Integer(0) };
    let typed = |kind: &str, fields: Vec<(Value, Value)>| {
        Value::Map(vec![(Value::text("type"), Value::text(kind)), (Value::text("spec"), Value::Map(fields))])
    };
    Some(Value::Map(vec![
        (Value::text("flags"), Value::Set(keys.access.iter().copied().map(Value::Simple).collect())),
        (Value::text("begin_search"), typed("index", vec![(Value::text("index"), number(keys.first))])),
        (
            Value::text("find_keys"),
            typed(
                "range",
                vec![
                    (Value::text("lastkey"), last),
                    (Value::text("keystep"), number(keys.step)),
                    (Value::text("limit"), Value::Integer(0)),
                ],
            ),
        ),
    ]))
}

fn docs(spec: &Spec) -> (Value, Value) {
    let mut fields = vec![
        (Value::text("summary"), Value::text(spec.summary)),
        (Value::text("since"), Value::text(spec.since)),
        (Value::text("group"), Value::text(spec.group)),
        (Value::text("complexity"), Value::text(spec.complexity)),
    ];
    if !spec.subcommands.is_empty() {
        fields.push((Value::text("subcommands"), Value::Map(spec.subcommands.iter().map(docs).collect())));
    }
    (Value::text(spec.name), Value::Map(fields))
}

/// `COMMAND LIST [FILTERBY MODULE name | ACLCAT category | PATTERN pattern]`
fn list(filter: &[Bytes]) -> Value {
    let is_wanted: Box<dyn Fn(&Spec) -> bool> = match filter {
        [] => Box::new(|_| true),
        [by, how, what] if by.eq_ignore_ascii_case(b"FILTERBY") => {
            if how.eq_ignore_ascii_case(b"PATTERN") {
                let pattern = what.to_ascii_lowercase();
                Box::new(move |spec| glob_matches(&pattern, spec.name.as_bytes()))
            } else if how.eq_ignore_ascii_case(b"ACLCAT") {
                let category = format!("@{}", String::from_utf8_lossy(what).to_ascii_lowercase());
                Box::new(move |spec| {
                    categories(spec).iter().any(|value| matches!(value, Value::Simple(name) if *name == category))
                })
            } else if how.eq_ignore_ascii_case(b"MODULE") {
                Box::new(|_| false)
            } else {
                return errors::syntax();
            }
        }
        _ => return errors::syntax(),
    };
    let all = TABLE.iter().flat_map(|spec| std::iter::once(spec).chain(spec.subcommands));
    Value::Array(all.filter(|spec| is_wanted(spec)).map(|spec| Value::text(spec.name)).collect())
}

/// `COMMAND GETKEYS command [arg …]`
fn getkeys(command: &[Bytes]) -> Value {
    let found = lookup(&command[0])
        .and_then(|spec| if spec.id == Id::Container { spec.subcommand(command.get(1)?) } else { Some(spec) });
    let Some(spec) = found else {
        return Value::error("Invalid command specified");
    };
    if spec.keys.first == 0 {
        return Value::error("The command has no key arguments");
    }
    if !spec.takes(command.len()) {
        return Value::error("Invalid number of arguments specified for command");
    }
    Value::Array(spec.keys.positions(command.len()).map(|at| Value::Bulk(command[at].clone())).collect())
}
