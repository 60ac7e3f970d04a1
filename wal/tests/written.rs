//! How much reaches the disk when one small record is made durable: the trap of mappings with large pages.
#![allow(clippy::unwrap_used, missing_docs, reason = "test code")]

use kontiki_wal::{Batch, Index, NewEntry, Options, Term, Wal};

/// Returns what this thread has dirtied so far; `None` where the kernel does not count it.
fn written_bytes() -> Option<u64> {
    let io = std::fs::read_to_string("/proc/thread-self/io").ok()?;
    io.lines().find_map(|line| line.strip_prefix("write_bytes: "))?.parse().ok()
}

/// Appends and syncs lone records of 128 bytes, and returns the bytes written for each on average.
fn cost(wal: &Wal, from: u64, count: u64) -> Option<u64> {
    let before = written_bytes()?;
    for index in from..from + count {
        let entries = [NewEntry { index: Index(index), term: Term(1), payload: &[7; 128] }];
        let end = wal.append(&Batch { entries: &entries, ..Batch::default() }).unwrap();
        wal.wait_durable(end).unwrap();
    }
    Some((written_bytes()? - before) / count)
}

#[test]
fn a_lone_record_costs_little_more_than_a_page() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { segment_bytes: 4 << 20, ..Options::default() };
    for start in [0, 300, 600] {
        // Fresh slot, reopened slots (their cache was dropped and read again), and again.
        let (wal, found) = Wal::open(dir.path(), options.clone()).unwrap();
        assert_eq!(found.last, Index(start));
        let Some(cost) = cost(&wal, start + 1, 300) else { return };
        assert!(cost <= 4500, "{cost} bytes for each lone record, from {start} on");
        println!("{cost} bytes for each lone record of 128 bytes, from {start} on");
        wal.close().unwrap();
    }
}
