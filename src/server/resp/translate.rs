//! From arguments to a command or a query of the state, or to the error Redis would give. Pure.

use bytes::Bytes;

use super::commands::{Flags, Id, Spec, lookup};
use super::errors;
use super::scan::ScanRequest;
use crate::kv::{Command, Query, Reply, Set, SetCondition};
use crate::node::WriteSession;
use crate::proto::resp::{Output, Value, Version, parse_i64};
use crate::server::KEY_BYTES_MAX;

/// Work for the state.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Request {
    /// Through the log.
    Write { command: Command, session: WriteSession, shape: Shape },
    /// From the local state, once that is known to be new enough.
    Read(Read),
}

/// One question.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Read {
    Query(Query, Shape),
    Scan(ScanRequest),
    RandomKey,
}

/// What the client sees of the state's reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// The reply as it is.
    Plain,
    /// Done is 1, nothing done is 0.
    Truth,
    /// A number as a bulk string: ids may not fit a client's integers.
    NumberAsBulk,
    /// No value is an absent array.
    NilAsArray,
    /// A part of the value, by Redis' rules for negative positions; an absent value is empty.
    Slice { start: i64, end: i64 },
}

/// What values may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) value_bytes_max: usize,
}

/// Makes a request of a command whose arity was checked. Takes the arguments out of `arguments`.
pub(super) fn translate(spec: &Spec, arguments: &mut [Bytes], bounds: Bounds) -> Result<Request, Value> {
    if spec.id == Id::SessionDo {
        return translate_session_do(arguments, bounds);
    }
    if spec.keys.positions(arguments.len()).any(|at| arguments[at].len() > KEY_BYTES_MAX) {
        return Err(Value::error("key exceeds maximum allowed size (65536 bytes)"));
    }
    if spec.flags.has(Flags::WRITE) {
        let (command, shape) = translate_write(spec, arguments, bounds)?;
        return Ok(Request::Write { command, session: WriteSession::Connection, shape });
    }
    translate_read(spec, arguments).map(Request::Read)
}

fn translate_write(spec: &Spec, arguments: &mut [Bytes], bounds: Bounds) -> Result<(Command, Shape), Value> {
    let command = match spec.id {
        Id::Set => Command::Set(translate_set(arguments, bounds)?),
        Id::Setnx => {
            let set = Set { condition: SetCondition::IfAbsent, ..plain_set(arguments, bounds)? };
            return Ok((Command::Set(set), Shape::Truth));
        }
        Id::Getset => Command::Set(Set { return_old: true, ..plain_set(arguments, bounds)? }),
        Id::Append => Command::Append { key: take(arguments, 1), value: take_value(arguments, 2, bounds)? },
        Id::Del => Command::Delete { keys: take_from(arguments, 1) },
        Id::Mset | Id::Msetnx => {
            if arguments.len().is_multiple_of(2) {
                return Err(errors::arity(spec.name));
            }
            let only_if_none_exists = spec.id == Id::Msetnx;
            let pairs = take_pairs(arguments, bounds)?;
            let shape = if only_if_none_exists { Shape::Truth } else { Shape::Plain };
            return Ok((Command::SetMany { pairs, only_if_none_exists }, shape));
        }
        Id::Incr => Command::Increment { key: take(arguments, 1), by: 1 },
        Id::Decr => Command::Increment { key: take(arguments, 1), by: -1 },
        Id::Incrby => Command::Increment { by: integer(&arguments[2])?, key: take(arguments, 1) },
        Id::Decrby => {
            let by = integer(&arguments[2])?.checked_neg().ok_or_else(|| Value::error("decrement would overflow"))?;
            Command::Increment { by, key: take(arguments, 1) }
        }
        Id::Flushall => {
            let known =
                |argument: &Bytes| argument.eq_ignore_ascii_case(b"sync") || argument.eq_ignore_ascii_case(b"async");
            match &arguments[1..] {
                [] => {}
                [how] if known(how) => {}
                _ => return Err(errors::syntax()),
            }
            Command::FlushAll
        }
        Id::SessionOpen => return Ok((Command::OpenSession, Shape::NumberAsBulk)),
        other => unreachable!("{other:?} is not a write"),
    };
    Ok((command, Shape::Plain))
}

fn translate_read(spec: &Spec, arguments: &mut [Bytes]) -> Result<Read, Value> {
    let query = match spec.id {
        Id::Get => Query::Get { key: take(arguments, 1) },
        Id::Exists => Query::Exists { keys: take_from(arguments, 1) },
        Id::Strlen => Query::Length { key: take(arguments, 1) },
        Id::Mget => Query::GetMany { keys: take_from(arguments, 1) },
        Id::Getrange => {
            let shape = Shape::Slice { start: integer(&arguments[2])?, end: integer(&arguments[3])? };
            return Ok(Read::Query(Query::Get { key: take(arguments, 1) }, shape));
        }
        Id::Type => Query::Type { key: take(arguments, 1) },
        Id::Dbsize => Query::Count,
        Id::Keys => Query::Keys { pattern: take(arguments, 1) },
        Id::Getrev => return Ok(Read::Query(Query::GetRevision { key: take(arguments, 1) }, Shape::NilAsArray)),
        Id::Range => translate_range(arguments)?,
        Id::Scan => return ScanRequest::parse(arguments).map(Read::Scan),
        Id::Randomkey => return Ok(Read::RandomKey),
        other => unreachable!("{other:?} is not a read"),
    };
    Ok(Read::Query(query, Shape::Plain))
}

/// `SESSION DO id seq command [arg …]`
fn translate_session_do(arguments: &mut [Bytes], bounds: Bounds) -> Result<Request, Value> {
    let session = parse_u64(&arguments[2]).ok_or_else(errors::not_an_integer)?;
    let seq = parse_u64(&arguments[3]).filter(|&seq| seq > 0).ok_or_else(errors::not_an_integer)?;
    let inner = &mut arguments[4..];
    let spec = lookup(&inner[0]).ok_or_else(|| errors::unknown_command(inner))?;
    if !spec.takes(inner.len()) {
        return Err(errors::arity(spec.name));
    }
    let inner = match (spec.id, spec.flags.has(Flags::WRITE) || spec.flags.has(Flags::READONLY)) {
        (Id::Container, _) | (_, false) => Err(errors::not_in_session(spec.name)),
        (_, true) => translate(spec, inner, bounds),
    }?;
    let session = WriteSession::Opened { session, seq, first_unanswered: 0 };
    match inner {
        Request::Write { command, shape, .. } => Ok(Request::Write { command, session, shape }),
        Request::Read(Read::Query(query, shape)) => {
            Ok(Request::Write { command: Command::Query(query), session, shape })
        }
        Request::Read(Read::Scan(_) | Read::RandomKey) => Err(errors::not_in_session(spec.name)),
    }
}

/// `SET key value [NX | XX | IFEQ value | IFNE value | IFREV revision] [GET] [KEEPTTL]`
fn translate_set(arguments: &mut [Bytes], bounds: Bounds) -> Result<Set, Value> {
    let mut set = plain_set(arguments, bounds)?;
    let mut at = 3;
    while at < arguments.len() {
        let option = &arguments[at];
        let is = |word: &[u8]| option.eq_ignore_ascii_case(word);
        let condition = if is(b"NX") {
            SetCondition::IfAbsent
        } else if is(b"XX") {
            SetCondition::IfPresent
        } else if is(b"GET") {
            set.return_old = true;
            at += 1;
            continue;
        } else if is(b"KEEPTTL") {
            set.keep_deadline = true;
            at += 1;
            continue;
        } else if at + 1 == arguments.len() {
            return Err(errors::syntax());
        } else if is(b"IFREV") {
            at += 1;
            SetCondition::IfRevision(parse_u64(&arguments[at]).ok_or_else(errors::not_an_integer)?)
        } else if is(b"IFEQ") {
            at += 1;
            SetCondition::IfEqual(take_value(arguments, at, bounds)?)
        } else if is(b"IFNE") {
            at += 1;
            SetCondition::IfNotEqual(take_value(arguments, at, bounds)?)
        } else {
            return Err(errors::syntax());
        };
        // The same word twice is what Redis takes too; two different conditions are not.
        let plain_repeat =
            set.condition == condition && matches!(condition, SetCondition::IfAbsent | SetCondition::IfPresent);
        if set.condition != SetCondition::Always && !plain_repeat {
            return Err(errors::syntax());
        }
        set.condition = condition;
        at += 1;
    }
    Ok(set)
}

/// `RANGE start end [LIMIT n] [REV]`
fn translate_range(arguments: &mut [Bytes]) -> Result<Query, Value> {
    let mut limit = u64::MAX;
    let mut with_revision = false;
    let mut at = 3;
    while at < arguments.len() {
        if arguments[at].eq_ignore_ascii_case(b"REV") {
            with_revision = true;
            at += 1;
        } else if arguments[at].eq_ignore_ascii_case(b"LIMIT") && at + 1 < arguments.len() {
            limit = parse_u64(&arguments[at + 1]).ok_or_else(errors::not_an_integer)?;
            at += 2;
        } else {
            return Err(errors::syntax());
        }
    }
    let mut bound = |at: usize, open: &[u8]| Some(take(arguments, at)).filter(|bound| bound != open);
    Ok(Query::Range { start: bound(1, b"-"), end: bound(2, b"+"), limit, with_revision })
}

fn plain_set(arguments: &mut [Bytes], bounds: Bounds) -> Result<Set, Value> {
    let value = take_value(arguments, 2, bounds)?;
    let key = take(arguments, 1);
    Ok(Set { key, value, condition: SetCondition::Always, return_old: false, deadline_ms: None, keep_deadline: false })
}

fn take(arguments: &mut [Bytes], at: usize) -> Bytes {
    std::mem::take(&mut arguments[at])
}

fn take_from(arguments: &mut [Bytes], from: usize) -> Vec<Bytes> {
    arguments[from..].iter_mut().map(std::mem::take).collect()
}

fn take_value(arguments: &mut [Bytes], at: usize, bounds: Bounds) -> Result<Bytes, Value> {
    if arguments[at].len() > bounds.value_bytes_max {
        return Err(errors::value_too_large());
    }
    Ok(take(arguments, at))
}

fn take_pairs(arguments: &mut [Bytes], bounds: Bounds) -> Result<Vec<(Bytes, Bytes)>, Value> {
    (1..arguments.len())
        .step_by(2)
        .map(|at| Ok((take(arguments, at), take_value(arguments, at + 1, bounds)?)))
        .collect()
}

fn integer(argument: &[u8]) -> Result<i64, Value> {
    parse_i64(argument).ok_or_else(errors::not_an_integer)
}

/// Reads a decimal number without sign.
pub(super) fn parse_u64(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 20 {
        return None;
    }
    text.iter().try_fold(0_u64, |value, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

impl Shape {
    /// Appends the state's reply in this shape.
    pub(super) fn push(self, reply: &Reply, output: &mut Output, version: Version) {
        match (self, reply) {
            (Shape::Truth, Reply::Ok) => output.push_value(&Value::Integer(1), version),
            (Shape::Truth, Reply::Nil) => output.push_value(&Value::Integer(0), version),
            (Shape::NumberAsBulk, Reply::Integer(number)) => {
                output.push_value(&Value::text(number.to_string()), version)
            }
            (Shape::NilAsArray, Reply::Nil) => output.push_value(&Value::NullArray, version),
            (Shape::Slice { .. }, Reply::Nil) => output.push_bulk(&Bytes::new()),
            (Shape::Slice { start, end }, Reply::Bulk(value)) => output.push_bulk(&slice(value, start, end)),
            (Shape::Plain | Shape::Truth | Shape::NumberAsBulk | Shape::NilAsArray | Shape::Slice { .. }, reply) => {
                output.push_reply(reply, version)
            }
        }
    }
}

/// Cuts `start..=end` out of a value; negative positions count from its end.
fn slice(value: &Bytes, start: i64, end: i64) -> Bytes {
    let length = i64::try_from(value.len()).unwrap_or(i64::MAX);
    if start < 0 && end < 0 && start > end {
        return Bytes::new();
    }
    let absolute = |position: i64| if position < 0 { (length + position).max(0) } else { position };
    let (start, end) = (absolute(start), absolute(end).min(length - 1));
    match (usize::try_from(start), usize::try_from(end)) {
        (Ok(start), Ok(end)) if start <= end => value.slice(start..=end),
        _ => Bytes::new(),
    }
}
