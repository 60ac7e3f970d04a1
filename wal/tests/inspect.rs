//! Looking into a directory from outside: clean, live, torn, damaged, recycled.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, missing_docs, reason = "test code")]

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use kontiki_wal::format::Kind;
use kontiki_wal::inspect::{Class, LogDir, SlotState, Verdict, is_live};
use kontiki_wal::{Batch, HardState, Index, NewEntry, OpenError, Options, Term, Wal};

fn options() -> Options {
    Options { segment_bytes: 64 * 1024, log_uuid: 7, ..Options::default() }
}

/// Writes a log of a vote and `count` entries, and stops it cleanly.
fn write(dir: &Path, count: u64) {
    let (wal, _) = Wal::open(dir, options()).unwrap();
    let state = HardState { term: Term(2), vote: 3, commit: Index(0) };
    wal.append(&Batch { hard_state: Some(state), ..Batch::default() }).unwrap();
    for index in 1..=count {
        let payload = format!("value number {index}").into_bytes();
        let entries = [NewEntry { index: Index(index), term: Term(2), payload: &payload }];
        let end = wal.append(&Batch { entries: &entries, ..Batch::default() }).unwrap();
        wal.wait_durable(end).unwrap();
    }
    assert!(is_live(dir));
    assert_eq!(LogDir::open(dir).unwrap().entries().1, Index(count), "seen while it runs");
    wal.close().unwrap();
    assert!(!is_live(dir));
}

fn find(dir: &Path, needle: &[u8]) -> (PathBuf, u64) {
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        if let Some(at) = bytes.windows(needle.len()).position(|window| window == needle) {
            return (file, at as u64);
        }
    }
    panic!("not there");
}

fn flip(file: &Path, offset: u64) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
}

#[test]
fn a_clean_log_shows_its_slots_and_records() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("wal");
    write(&dir, 1000);
    let look = LogDir::open(home.path()).unwrap(); // A node's data directory does too.
    assert_eq!(look.dir(), dir);
    assert_eq!(look.hard_state().term, Term(2));
    let slots = look.slots();
    let live: Vec<_> =
        slots.iter().filter(|slot| matches!(slot.state, SlotState::Active | SlotState::Sealed)).collect();
    assert!(live.len() >= 2);
    assert!(live.iter().all(|slot| slot.verdict == Verdict::Ok && slot.header_copies_ok == [true, true]));
    assert_eq!(live[0].first_index, Some(Index(1)));
    assert_eq!(live.last().unwrap().last_index, Some(Index(1000)));
    assert!(slots.iter().any(|slot| slot.state == SlotState::Prepared));
    let records = look.records().unwrap();
    assert!(records.iter().all(|record| record.verdict == Verdict::Ok && record.durable));
    assert!(records.is_sorted_by_key(|record| record.lsn));
    let count = |kind| records.iter().filter(|record| record.kind == Some(kind)).count();
    assert_eq!((count(Kind::Entry), count(Kind::HardState), count(Kind::Reopen)), (1000, 1, 1));
    assert_eq!(count(Kind::Seal), live.len() - 1);
    assert!(look.verify().iter().all(|finding| finding.class == Class::Clean));
    let (record, payload) = look.entry(Index(77)).unwrap().unwrap();
    assert_eq!((record.term, &payload[..]), (Some(Term(2)), &b"value number 77"[..]));
}

#[test]
fn damage_is_found_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 500);
    for (needle, shift) in [("value number 33", 0), ("value number 499", 0), ("value number 33", -30)] {
        let (file, at) = find(dir.path(), needle.as_bytes());
        let place = at.checked_add_signed(shift).unwrap();
        flip(&file, place);
        let look = LogDir::open(dir.path()).unwrap();
        let findings = look.verify();
        let hurt: Vec<_> = findings.iter().filter(|finding| finding.class == Class::Corrupt).collect();
        assert_eq!(hurt.len(), 1, "{findings:?}");
        assert_eq!((&hurt[0].file, hurt[0].offset), (&file, at - 32));
        assert!(hurt[0].acknowledged && hurt[0].fatal && hurt[0].checksum.is_some());
        let index: u64 = needle.rsplit(' ').next().unwrap().parse().unwrap();
        assert_eq!((hurt[0].index, hurt[0].term), (Some(Index(index)), Some(Term(2))));
        let records = look.records().unwrap();
        let bad: Vec<_> = records.iter().filter(|record| record.verdict == Verdict::Corrupt).collect();
        assert_eq!(bad.len(), 1);
        assert_eq!(bad[0].header_crc_ok, shift == 0);
        assert!(!bad[0].payload_crc_ok);
        let Err(OpenError::Damaged { first, .. }) = Wal::open(dir.path(), options()) else { panic!("opened") };
        assert_eq!((first.index, first.offset), (Some(Index(index)), at - 32));
        flip(&file, place);
    }
    assert!(Wal::open(dir.path(), options()).is_ok());
}

#[test]
fn a_torn_tail_and_an_ordinary_end_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 20);
    let look = LogDir::open(dir.path()).unwrap();
    let slot = look.slots().iter().find(|slot| slot.state == SlotState::Active).unwrap().clone();
    let file = std::fs::OpenOptions::new().write(true).open(&slot.file).unwrap();
    let classes = || -> Vec<_> { LogDir::open(dir.path()).unwrap().verify().iter().map(|f| f.class).collect() };
    assert_eq!(classes(), [Class::Clean]);
    file.write_all_at(b"begun, but never finished", slot.tail_offset).unwrap();
    assert_eq!(classes(), [Class::Torn]);
    let findings = LogDir::open(dir.path()).unwrap().verify();
    assert_eq!((findings[0].offset, findings[0].acknowledged, findings[0].fatal), (slot.tail_offset, false, false));
    let (wal, found) = Wal::open(dir.path(), options()).unwrap();
    assert_eq!(found.torn.unwrap().offset, slot.tail_offset);
    assert_eq!(wal.last_index(), Index(20));
    wal.close().unwrap();
    assert_eq!(classes(), [Class::Clean]);
}

#[test]
fn nonsense_in_a_directory_is_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    assert!(LogDir::open(dir.path()).unwrap().slots().is_empty());
    std::fs::write(dir.path().join("slot-0000"), b"short").unwrap();
    std::fs::write(dir.path().join("slot-0001"), vec![0xEE; 64 * 1024]).unwrap();
    std::fs::write(dir.path().join("slot-x"), b"not a slot").unwrap();
    let look = LogDir::open(dir.path()).unwrap();
    assert!(look.verify().iter().any(|finding| finding.fatal));
    assert!(look.records().unwrap().is_empty());
    assert!(matches!(Wal::open(dir.path(), options()), Err(OpenError::Damaged { .. })));
    assert!(LogDir::open(&dir.path().join("not there")).is_err());
}
