//! The log on real files: reopening, group commit, purging and recycling, reading in place.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, missing_docs, reason = "test code")]

use std::sync::mpsc;

use kontiki_wal::{AppendError, Batch, HardState, Index, Lsn, NewEntry, OpenError, Options, ReadError, Term, Wal};

const SMALL: u64 = 64 * 1024;

fn options() -> Options {
    Options { segment_bytes: SMALL, log_uuid: 7, cluster_id: 8, node_id: 1, ..Options::default() }
}

fn put(wal: &Wal, index: u64, payload: &[u8]) -> Lsn {
    let entries = [NewEntry { index: Index(index), term: Term(1), payload }];
    wal.append(&Batch { entries: &entries, ..Batch::default() }).unwrap()
}

#[test]
fn what_was_acknowledged_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, found) = Wal::open(dir.path(), options()).unwrap();
    assert!(found.created);
    let state = HardState { term: Term(1), vote: 2, commit: Index(0) };
    wal.append(&Batch { hard_state: Some(state), ..Batch::default() }).unwrap();
    let mut end = Lsn(0);
    for index in 1..=1000u64 {
        end = put(&wal, index, format!("payload of {index}").as_bytes());
    }
    wal.wait_durable(end).unwrap();
    assert!(wal.durable() >= end);
    drop(wal); // No clean stop.
    for round in 0..3 {
        let (wal, found) = Wal::open(dir.path(), options()).unwrap();
        assert!(!found.created && found.torn.is_none(), "{found:?}");
        assert_eq!((found.first, found.last, found.hard_state), (Index(1), Index(1000), state));
        assert_eq!(found.entries.len(), 1000);
        for index in 1..=1000u64 {
            let entry = wal.entry(Index(index)).unwrap();
            assert_eq!(&entry[..], format!("payload of {index}").as_bytes());
        }
        assert!(matches!(wal.entry(Index(1001)), Err(ReadError::Beyond { .. })));
        if round == 1 {
            wal.close().unwrap();
        }
    }
}

#[test]
fn a_second_process_and_a_foreign_directory_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = Wal::open(dir.path(), options()).unwrap();
    assert!(matches!(Wal::open(dir.path(), options()), Err(OpenError::Locked { .. })));
    wal.close().unwrap();
    let foreign = Options { node_id: 2, ..options() };
    let refused = Wal::open(dir.path(), foreign).unwrap_err();
    assert!(matches!(refused, OpenError::Identity { what: "node id", .. }), "{refused}");
}

#[test]
fn slots_are_recycled_once_purged_and_no_longer_read() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = Wal::open(dir.path(), options()).unwrap();
    let payload = vec![b'x'; 1000];
    let mut end = put(&wal, 1, b"the first");
    let first = wal.entry(Index(1)).unwrap();
    for index in 2..=2000u64 {
        end = put(&wal, index, &payload);
        if index % 100 == 0 {
            wal.wait_durable(end).unwrap();
            let at = wal.purge(Index(index - 50)).unwrap().unwrap();
            wal.wait_durable(at).unwrap();
        }
    }
    wal.wait_durable(end).unwrap();
    assert_eq!(&first[..], b"the first", "a slot was recycled under a reader");
    let stats = wal.stats();
    let slots = stats.space.live_slots + stats.space.prepared_slots + stats.space.free_slots;
    assert!(slots <= 12, "2 MB went through {slots} slots of 64 KiB");
    assert!(matches!(wal.entry(Index(1)), Err(ReadError::Purged { .. })));
    drop((wal, first));
    let (wal, found) = Wal::open(dir.path(), options()).unwrap();
    assert_eq!((found.first, found.last), (Index(1951), Index(2000)));
    assert_eq!(found.purged.index, Index(1950));
    assert_eq!(wal.term(Index(1950)), Some(Term(1)));
    wal.close().unwrap();
}

#[test]
fn callbacks_come_in_order_and_many_threads_share_syncs() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = Wal::open(dir.path(), options()).unwrap();
    let (sender, receiver) = mpsc::channel();
    for index in 1..=200u64 {
        let end = put(&wal, index, b"asynchronous");
        let sender = sender.clone();
        wal.on_durable(end, move |outcome| sender.send((index, outcome)).unwrap());
    }
    for index in 1..=200u64 {
        assert_eq!(receiver.recv().unwrap(), (index, Ok(())));
    }
    let next = parking_lot::Mutex::new(201u64);
    let before = wal.stats().syncs;
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..20 {
                    let end = {
                        let mut index = next.lock();
                        let end = put(&wal, *index, b"grouped");
                        *index += 1;
                        end
                    };
                    wal.wait_durable(end).unwrap();
                    assert!(wal.durable() >= end);
                }
            });
        }
    });
    let syncs = wal.stats().syncs - before;
    assert!(syncs <= 320, "{syncs} syncs for 320 appends of 16 threads");
    assert_eq!(wal.last_index(), Index(520));
    wal.close().unwrap();
}

#[test]
fn large_and_small_entries_live_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let (wal, _) = Wal::open(dir.path(), options()).unwrap();
    let limit = wal.options().entry_bytes_max() as usize;
    let sizes = [0, 1, 7, 8, 9, 4095, 4096, 16_000, 16_384, 20_001, limit];
    for (index, size) in (1u64..).zip(sizes) {
        let payload: Vec<u8> = (0..size).map(|at| (at % 251) as u8 ^ index as u8).collect();
        put(&wal, index, &payload);
    }
    let check = |wal: &Wal| {
        for (index, size) in (1u64..).zip(sizes) {
            let entry = wal.entry(Index(index)).unwrap();
            assert_eq!(entry.len(), size);
            assert!(entry.iter().enumerate().all(|(at, &byte)| byte == (at % 251) as u8 ^ index as u8));
        }
    };
    check(&wal);
    let too_large = vec![0; limit + 1];
    let entries = [NewEntry { index: Index(12), term: Term(1), payload: &too_large }];
    let refused = wal.append(&Batch { entries: &entries, ..Batch::default() });
    assert!(matches!(refused, Err(AppendError::TooLarge { .. })), "{refused:?}");
    wal.close().unwrap();
    let (wal, found) = Wal::open(dir.path(), options()).unwrap();
    assert_eq!(found.last, Index(11));
    check(&wal);
}
