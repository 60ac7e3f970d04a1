//! An append on the wire: its counts and sizes first, then the payloads.

use bytes::{BufMut, Bytes};

use crate::proto::entry::{self, Body, Kind};
use crate::raft::{Configuration, EntrySpan, Index, LogId, Message, Term};

use super::super::wire::{COPY_BELOW_BYTES, COUNTER_MAX, FrameReader, FrameWriter, WireError, count};
use super::{PeerMessage, kind, log_id};

/// Bytes of one term run and of one size.
const RUN_BYTES: usize = 12;
const SIZE_BYTES: usize = 4;

/// Where an entry's header tells its kind.
const KIND_AT: usize = 1;

/// What an append says beside its entries.
pub(super) struct Header {
    pub(super) term: Term,
    pub(super) prev: LogId,
    pub(super) commit: Index,
    pub(super) read: u64,
}

pub(super) fn encode(header: &Header, entries: &EntrySpan, payloads: &[Bytes]) -> Vec<Bytes> {
    let sizes: Vec<usize> = payloads.iter().map(Bytes::len).collect();
    assert!(
        sizes.iter().zip(&entries.sizes).all(|(has, says)| *has == *says as usize)
            && sizes.len() == entries.sizes.len(),
        "payloads of {sizes:?} bytes beside entries of {:?}",
        entries.sizes
    );
    let small: usize = sizes.iter().filter(|bytes| **bytes < COPY_BELOW_BYTES).sum();
    let counts = RUN_BYTES * entries.terms.len() + SIZE_BYTES * sizes.len();
    let mut frame = FrameWriter::new(kind::APPEND, 48 + counts + small);
    let fields = frame.fields();
    fields.put_u64_le(header.term.0);
    fields.put_u64_le(header.prev.term.0);
    fields.put_u64_le(header.prev.index.0);
    fields.put_u64_le(header.commit.0);
    fields.put_u64_le(header.read);
    fields.put_u32_le(count(entries.terms.len()));
    fields.put_u32_le(count(sizes.len()));
    for (term, entries) in &entries.terms {
        fields.put_u64_le(term.0);
        fields.put_u32_le(*entries);
    }
    for bytes in &entries.sizes {
        fields.put_u32_le(*bytes);
    }
    for payload in payloads {
        frame.put_payload(payload);
    }
    frame.finish()
}

/// Decodes what follows the type byte. The span and the payloads agree in every count and size.
pub(super) fn decode(fields: &mut FrameReader) -> Result<PeerMessage, WireError> {
    let term = Term(fields.counter("term")?);
    let prev = log_id(fields)?;
    let commit = Index(fields.counter("commit")?);
    let read = fields.counter("read")?;
    let run_count = fields.u32("runs")?;
    let entry_count = fields.items(SIZE_BYTES, "entries")?;
    if run_count as usize > entry_count || prev.index.0 > COUNTER_MAX - entry_count as u64 {
        return Err(WireError::Value { field: "entries" });
    }
    let terms = read_runs(fields, run_count, prev.term, entry_count)?;
    if terms.last().is_some_and(|(newest, _)| *newest > term) {
        return Err(WireError::Value { field: "runs" }); // No entry is newer than its leader.
    }
    let (sizes, payloads) = read_payloads(fields, entry_count)?;
    let configurations = configurations(prev.index, &payloads)?;
    let entries = EntrySpan { terms, sizes, configurations };
    Ok(PeerMessage::Raft { message: Message::Append { term, prev, entries, commit, read }, payloads })
}

fn read_runs(
    fields: &mut FrameReader,
    run_count: u32,
    prev: Term,
    entry_count: usize,
) -> Result<Vec<(Term, u32)>, WireError> {
    let impossible = WireError::Value { field: "runs" };
    if run_count as usize > fields.remaining() / RUN_BYTES {
        return Err(WireError::Truncated { field: "runs" });
    }
    let mut terms: Vec<(Term, u32)> = Vec::with_capacity(run_count as usize);
    let mut covered = 0;
    for _ in 0..run_count {
        let term = Term(fields.counter("runs")?);
        let entries = fields.u32("runs")?;
        let goes_back = terms.last().map_or(term < prev, |(before, _)| term <= *before);
        if goes_back || entries == 0 {
            return Err(impossible);
        }
        covered += u64::from(entries);
        terms.push((term, entries));
    }
    if covered == entry_count as u64 { Ok(terms) } else { Err(impossible) }
}

fn read_payloads(fields: &mut FrameReader, entry_count: usize) -> Result<(Vec<u32>, Vec<Bytes>), WireError> {
    if entry_count > fields.remaining() / SIZE_BYTES {
        return Err(WireError::Truncated { field: "sizes" });
    }
    let mut sizes = Vec::with_capacity(entry_count);
    for _ in 0..entry_count {
        sizes.push(fields.u32("sizes")?);
    }
    let total: u64 = sizes.iter().map(|bytes| u64::from(*bytes)).sum();
    if total > fields.remaining() as u64 {
        return Err(WireError::Truncated { field: "payloads" });
    }
    let mut payloads = Vec::with_capacity(entry_count);
    for bytes in &sizes {
        payloads.push(fields.payload(*bytes as usize, "payloads")?);
    }
    Ok((sizes, payloads))
}

/// Finds the configurations among the payloads: the core must see them as soon as they are appended (thesis §4.1).
fn configurations(prev: Index, payloads: &[Bytes]) -> Result<Vec<(Index, Configuration)>, WireError> {
    let mut found = Vec::new();
    for (index, payload) in (prev.0 + 1..).zip(payloads) {
        if payload.get(KIND_AT) != Some(&(Kind::Configuration as u8)) {
            continue;
        }
        match entry::decode(payload).map(|entry| entry.body) {
            Ok(Body::Configuration(configuration)) => found.push((Index(index), configuration)),
            Ok(_) | Err(_) => return Err(WireError::Value { field: "configuration entry" }),
        }
    }
    Ok(found)
}
