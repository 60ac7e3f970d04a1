//! Answers to queries, and how much one answer may hold.

use std::ops::Bound;

use bytes::Bytes;

use super::command::Query;
use super::glob::{glob_matches, literal_prefix};
use super::reply::{CommandError, Reply};
use super::rows::{Row, Rows};

/// What one element of a reply costs beside its bytes; no less than any wire format of ours takes.
const ELEMENT_BYTES: u64 = 16;

/// What is left for a reply, so that no query can ask for more than a node can hold and send.
#[derive(Debug)]
pub(super) struct Budget {
    left_bytes: u64,
}

/// One step of an ordered scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanStep {
    /// The keys of this step that match, in order.
    pub keys: Vec<Bytes>,
    /// Where the next step goes on: after this key. `None` if no key is left.
    pub next: Option<Bytes>,
}

impl Budget {
    pub(super) fn new(bytes: u64) -> Budget {
        Budget { left_bytes: bytes }
    }

    /// Takes room for one element of `bytes`.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), CommandError> {
        let needed = (bytes as u64).saturating_add(ELEMENT_BYTES);
        self.left_bytes = self.left_bytes.checked_sub(needed).ok_or(CommandError::ReplyTooLarge)?;
        Ok(())
    }

    /// Returns `bytes` as an element of the reply.
    fn bulk(&mut self, bytes: &Bytes) -> Result<Reply, CommandError> {
        self.take(bytes.len())?;
        Ok(Reply::Bulk(bytes.clone()))
    }

    fn key(&mut self, key: &[u8]) -> Result<Reply, CommandError> {
        self.take(key.len())?;
        Ok(Reply::Bulk(Bytes::copy_from_slice(key)))
    }

    fn value(&mut self, row: Option<&Row>) -> Result<Reply, CommandError> {
        match row {
            Some(row) => self.bulk(row.value()),
            None => {
                self.take(0)?;
                Ok(Reply::Nil)
            }
        }
    }
}

/// Answers `query` from `rows`.
pub(super) fn answer(rows: &Rows, query: &Query, budget: &mut Budget) -> Reply {
    try_answer(rows, query, budget).unwrap_or_else(Reply::Error)
}

fn try_answer(rows: &Rows, query: &Query, budget: &mut Budget) -> Result<Reply, CommandError> {
    Ok(match query {
        Query::Get { key } => budget.value(rows.row(key))?,
        Query::GetMany { keys } => {
            let values = keys.iter().map(|key| budget.value(rows.row(key)));
            Reply::Array(values.collect::<Result<_, _>>()?)
        }
        Query::Exists { keys } => Reply::count(keys.iter().filter(|key| rows.row(key).is_some()).count() as u64),
        Query::Length { key } => Reply::count(rows.row(key).map_or(0, |row| row.value().len() as u64)),
        Query::Type { key } => {
            let name: &'static [u8] = if rows.row(key).is_some() { b"string" } else { b"none" };
            Reply::Simple(Bytes::from_static(name))
        }
        Query::GetRevision { key } => match rows.row(key) {
            Some(row) => Reply::Array(vec![budget.bulk(row.value())?, Reply::count(row.revision())]),
            None => Reply::Nil,
        },
        Query::Count => Reply::count(rows.count()),
        Query::Keys { pattern } => keys(rows, pattern, budget)?,
        Query::Range { start, end, limit, with_revision } => {
            let start = start.as_deref().map_or(Bound::Unbounded, Bound::Included);
            let end = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            range(rows, (start, end), *limit, *with_revision, budget)?
        }
        Query::Scan { after, count, pattern } => {
            let step = scan(rows, after.as_deref(), *count, pattern.as_deref(), budget)?;
            let next = step.next.map_or(Reply::Nil, Reply::Bulk);
            Reply::Array(vec![next, Reply::Array(step.keys.into_iter().map(Reply::Bulk).collect())])
        }
    })
}

fn keys(rows: &Rows, pattern: &[u8], budget: &mut Budget) -> Result<Reply, CommandError> {
    let prefix = literal_prefix(pattern);
    let candidates = rows.range(Bound::Included(prefix), Bound::Unbounded);
    let candidates = candidates.take_while(|(key, _)| key.starts_with(prefix));
    let matching = candidates.filter(|(key, _)| glob_matches(pattern, key));
    Ok(Reply::Array(matching.map(|(key, _)| budget.key(key)).collect::<Result<_, _>>()?))
}

fn range(
    rows: &Rows,
    (start, end): (Bound<&[u8]>, Bound<&[u8]>),
    limit: u64,
    with_revision: bool,
    budget: &mut Budget,
) -> Result<Reply, CommandError> {
    let mut flat = Vec::new();
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    for (key, row) in rows.range(start, end).take(limit) {
        flat.push(budget.key(key)?);
        flat.push(budget.bulk(row.value())?);
        if with_revision {
            budget.take(0)?;
            flat.push(Reply::count(row.revision()));
        }
    }
    Ok(Reply::Array(flat))
}

/// Looks at up to `count` keys after `after` (at least one), fewer if the budget ends before.
pub(super) fn scan(
    rows: &Rows,
    after: Option<&[u8]>,
    count: u64,
    pattern: Option<&[u8]>,
    budget: &mut Budget,
) -> Result<ScanStep, CommandError> {
    let prefix = pattern.map(literal_prefix).unwrap_or_default();
    let start = match after {
        Some(after) if after >= prefix => Bound::Excluded(after),
        Some(_) | None => Bound::Included(prefix),
    };
    let mut candidates = rows.range(start, Bound::Unbounded).take_while(|(key, _)| key.starts_with(prefix)).peekable();
    let mut keys = Vec::new();
    let mut last = None;
    for _ in 0..count.max(1) {
        let Some(&(key, _)) = candidates.peek() else { break };
        if pattern.is_none_or(|pattern| glob_matches(pattern, key)) {
            match budget.take(key.len()) {
                Ok(()) => keys.push(Bytes::copy_from_slice(key)),
                Err(_) if last.is_some() => break,
                Err(error) => return Err(error),
            }
        }
        last = Some(key);
        candidates.next();
    }
    let next = if candidates.peek().is_some() { last.map(Bytes::copy_from_slice) } else { None };
    Ok(ScanStep { keys, next })
}
