//! What the tests over the memory disk share: opening, appending, and telling what survived.
#![allow(dead_code, clippy::unwrap_used, missing_docs, reason = "test code, and not every test uses all of it")]

use kontiki_wal::log::Log;
use kontiki_wal::mem::MemDisk;
use kontiki_wal::{Batch, HardState, Index, Lsn, NewEntry, OpenError, Options, Recovery, Term};

pub const SEGMENT: u64 = 64 * 1024;

pub fn options() -> Options {
    Options { segment_bytes: SEGMENT, log_uuid: 0xA1, cluster_id: 0xB2, node_id: 3, ..Options::default() }
}

pub fn open(disk: &MemDisk, seed: u64) -> Result<(Log<MemDisk>, Recovery), OpenError> {
    Log::open(disk.clone(), options(), seed)
}

pub fn append(log: &mut Log<MemDisk>, index: u64, term: u64, payload: &[u8]) -> Lsn {
    let entries = [NewEntry { index: Index(index), term: Term(term), payload }];
    log.append(&Batch { entries: &entries, ..Batch::default() }).unwrap()
}

pub fn vote(log: &mut Log<MemDisk>, term: u64, vote: u64) -> Lsn {
    let state = HardState { term: Term(term), vote, commit: log.hard_state().commit };
    log.append(&Batch { hard_state: Some(state), ..Batch::default() }).unwrap()
}

/// Syncs what was appended. Panics if the disk fails.
pub fn sync(log: &mut Log<MemDisk>) {
    if let Some(job) = log.begin_sync().unwrap() {
        let result = job.run();
        log.finish_sync(job, result).unwrap();
    }
}

/// Does what a quiet moment does: a bare mark, then the headers.
pub fn settle(log: &mut Log<MemDisk>) {
    sync(log);
    if let Some(job) = log.begin_idle_mark().unwrap() {
        let result = job.run();
        log.finish_sync(job, result).unwrap();
    }
    if let Some(job) = log.begin_headers().unwrap() {
        let result = job.run();
        log.finish_sync(job, result).unwrap();
    }
}

/// Returns all entries: term and payload, from the first index on.
pub fn contents(log: &Log<MemDisk>) -> (u64, Vec<(u64, Vec<u8>)>) {
    let first = log.first_index().0;
    let entries = (first..=log.last_index().0).map(|index| {
        let entry = log.entry(Index(index)).unwrap();
        assert_eq!(entry.index(), Index(index));
        (entry.term().0, entry.to_vec())
    });
    (first, entries.collect())
}
