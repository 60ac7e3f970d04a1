//! What the log refuses, and how it ends: failed syncs, a full disk, batches out of order, repaired entries.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, missing_docs, unreachable_pub, reason = "test code")]

mod common;

use std::sync::mpsc;

use common::{SEGMENT, append, contents, open, options, settle, sync, vote};
use kontiki_wal::disk::SlotId;
use kontiki_wal::format::{FLAG_FIRST, FLAG_LAST, Kind, RecordHeader, SegmentHeader, payload_crc};
use kontiki_wal::mem::{Fate, MemDisk};
use kontiki_wal::scan::{Step, Walk};
use kontiki_wal::{
    AppendError, Batch, HardState, Index, LogId, NewEntry, OpenError, Options, Poisoned, PurgeError, ReadError, Term,
    Wal,
};

fn batch<'a>(entries: &'a [NewEntry<'a>]) -> Batch<'a> {
    Batch { entries, ..Batch::default() }
}

#[test]
fn a_failed_sync_ends_the_log_for_good() {
    let disk = MemDisk::new();
    let (mut log, _) = open(&disk, 1).unwrap();
    append(&mut log, 1, 1, b"acknowledged");
    sync(&mut log);
    append(&mut log, 2, 1, b"never acknowledged");
    disk.fail_sync_in(Some(1));
    let durable = log.durable();
    let job = log.begin_sync().unwrap().unwrap();
    let result = job.run();
    assert!(log.finish_sync(job, result).is_err());
    assert_eq!(log.durable(), durable);
    let entries = [NewEntry { index: Index(3), term: Term(1), payload: b"no" }];
    assert!(matches!(log.append(&batch(&entries)), Err(AppendError::Poisoned(_))));
    assert!(log.begin_sync().is_err(), "there is no second try");
    assert!(matches!(log.entry(Index(2)), Err(ReadError::Poisoned(_))), "what the disk may not have is not served");
    assert_eq!(&log.entry(Index(1)).unwrap()[..], b"acknowledged");
    drop(log);
    // The cache still shows entry 2; the medium does not have it, and recovery asks the medium.
    let (log, _) = open(&disk, 2).unwrap();
    assert_eq!(log.last_index(), Index(1));
}

#[test]
fn everybody_who_waits_is_told_of_a_failed_sync() {
    let disk = MemDisk::new();
    let (wal, _) = Wal::open_on(disk.clone(), options()).unwrap();
    let entries = [NewEntry { index: Index(1), term: Term(1), payload: b"one" }];
    let end = wal.append(&batch(&entries)).unwrap();
    wal.wait_durable(end).unwrap();
    let entries = [NewEntry { index: Index(2), term: Term(1), payload: b"two" }];
    let (sender, receiver) = mpsc::channel::<Result<(), Poisoned>>();
    disk.fail_sync_in(Some(1));
    // The lane may sync the append before anybody asks, so that it is already poisoned: either way, all are told.
    let Ok(end) = wal.append(&batch(&entries)) else { panic!("the failure is at the sync") };
    for _ in 0..3 {
        let sender = sender.clone();
        wal.on_durable(end, move |outcome| sender.send(outcome).unwrap());
    }
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert!(wal.wait_durable(end).is_err()));
        }
    });
    for _ in 0..3 {
        assert!(receiver.recv().unwrap().is_err());
    }
    assert!(wal.stats().poisoned.is_some());
    assert!(wal.durable() < end);
    assert!(wal.close().is_err());
}

#[test]
fn a_full_disk_refuses_entries_but_takes_votes_and_opens() {
    let disk = MemDisk::new();
    disk.set_capacity(Some(3));
    let (mut log, _) = open(&disk, 1).unwrap();
    log.prepare();
    let payload = [7; 4000];
    let mut index = 0;
    let refused = loop {
        let entries = [NewEntry { index: Index(index + 1), term: Term(1), payload: &payload }];
        match log.append(&batch(&entries)) {
            Ok(_) => index += 1,
            Err(AppendError::Busy) => log.prepare(),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, AppendError::NoSpace);
    assert_eq!(log.last_index(), Index(index), "nothing was changed");
    sync(&mut log);
    let before = contents(&log).1;
    for term in 1..200 {
        vote(&mut log, term, 2);
        sync(&mut log);
    }
    let entries = [NewEntry { index: Index(index + 1), term: Term(199), payload: b"no-op of a new leader" }];
    log.append(&Batch { may_use_reserve: true, ..batch(&entries) }).unwrap();
    settle(&mut log);
    drop(log);
    // It opens on the full disk, still takes a vote, and recovers when there is room.
    let (mut log, found) = open(&disk, 2).unwrap();
    assert_eq!((found.last, found.hard_state.term), (Index(index + 1), Term(199)));
    log.prepare();
    vote(&mut log, 200, 1);
    sync(&mut log);
    let entries = [NewEntry { index: Index(index + 2), term: Term(200), payload: &payload }];
    assert_eq!(log.append(&batch(&entries)), Err(AppendError::NoSpace));
    assert!(log.space().exhausted);
    disk.set_capacity(None);
    log.prepare();
    log.append(&batch(&entries)).unwrap();
    assert_eq!(contents(&log).1[..before.len()], before);
}

#[test]
fn a_new_log_on_a_full_disk_says_so() {
    let disk = MemDisk::new();
    disk.set_capacity(Some(0));
    assert!(matches!(open(&disk, 1), Err(OpenError::NoSpace)));
}

#[test]
fn slots_are_freed_only_when_the_purge_is_durable() {
    let disk = MemDisk::new();
    let (mut log, _) = open(&disk, 1).unwrap();
    for index in 1..=150 {
        while log.space().prepared_slots < 2 {
            log.prepare();
        }
        append(&mut log, index, 1, &[1; 1500]);
    }
    let live = log.space().live_slots;
    assert!(live >= 4);
    let job = log.begin_sync().unwrap().unwrap();
    let result = job.run();
    log.purge(Index(140)).unwrap().unwrap(); // After the sync, before its end is known.
    log.finish_sync(job, result).unwrap();
    assert_eq!(log.space().live_slots, live, "the purge is not durable yet");
    sync(&mut log);
    assert!(log.space().live_slots <= 2);
    assert!(matches!(log.purge(Index(151)), Err(PurgeError::Beyond { .. })));
    assert_eq!(log.purge(Index(140)), Ok(None));
}

#[test]
fn what_does_not_continue_the_log_is_refused_and_changes_nothing() {
    let disk = MemDisk::new();
    let (mut log, _) = open(&disk, 1).unwrap();
    append(&mut log, 1, 3, b"one");
    append(&mut log, 2, 3, b"two");
    let state = HardState { term: Term(3), vote: 1, commit: Index(1) };
    log.append(&Batch { hard_state: Some(state), ..Batch::default() }).unwrap();
    let written = log.written();
    let entry = |index, term| [NewEntry { index: Index(index), term: Term(term), payload: b"x" }];
    for entries in [entry(2, 3), entry(4, 3), entry(3, 2)] {
        assert!(matches!(log.append(&batch(&entries)), Err(AppendError::Misordered { .. })));
    }
    let below_commit = Batch { truncate_from: Some(Index(1)), ..Batch::default() };
    let refused = AppendError::Truncates { from: Index(1), kept: Index(1) };
    assert_eq!(log.append(&below_commit), Err(refused));
    for worse in
        [HardState { term: Term(2), ..state }, HardState { vote: 2, ..state }, HardState { commit: Index(0), ..state }]
    {
        let batch = Batch { hard_state: Some(worse), ..Batch::default() };
        assert_eq!(log.append(&batch), Err(AppendError::HardState));
    }
    assert_eq!(log.append(&Batch::default()), Ok(written), "an empty batch is nothing");
    assert_eq!((log.written(), log.last_index()), (written, Index(2)));
}

#[test]
fn a_reset_continues_after_a_snapshot_far_away() {
    let disk = MemDisk::new();
    let (mut log, _) = open(&disk, 1).unwrap();
    log.prepare();
    append(&mut log, 1, 1, b"one");
    let far = LogId { term: Term(9), index: Index(10_000_000_000) };
    log.reset(far).unwrap();
    append(&mut log, far.index.0 + 1, 9, b"after the snapshot");
    sync(&mut log);
    drop(log);
    let (mut log, found) = open(&disk, 2).unwrap();
    assert_eq!((found.purged, found.last), (far, Index(far.index.0 + 1)));
    assert_eq!(log.term(far.index), Some(Term(9)));
    assert!(log.reset(LogId { term: Term(9), index: Index(5) }).is_err());
}

#[test]
fn an_entry_with_a_repair_record_is_healed() {
    let disk = MemDisk::new();
    let (mut log, _) = open(&disk, 1).unwrap();
    append(&mut log, 1, 1, b"one");
    append(&mut log, 2, 1, b"to be damaged");
    append(&mut log, 3, 1, b"three");
    settle(&mut log);
    drop(log);
    let slot = SlotId(0);
    let mut content = disk.content(slot).unwrap();
    let place = content.windows(13).position(|bytes| bytes == b"to be damaged").unwrap();
    content[place] ^= 0x40;
    disk.set_content(slot, Some(content.clone()));
    assert!(matches!(open(&disk, 2), Err(OpenError::Damaged { .. })));
    // What a repair appends: the entry's position, then its payload as a peer had it.
    let header = SegmentHeader::decode(&content).unwrap();
    let mut walk = Walk::new(&header, &content, None);
    while let Step::Record(_) = walk.step() {}
    let position = header.lsn(place as u64 - 32);
    let payload = [&position.0.to_le_bytes()[..], b"to be damaged", &[0; 3]].concat();
    let record = RecordHeader {
        payload_crc: payload_crc(&[&payload]),
        link: walk.link().unwrap(),
        length: payload.len() as u32 - 3,
        term: Term(1),
        relative_index: 2,
        kind: Kind::Repair,
        flags: FLAG_FIRST | FLAG_LAST,
        group: 0,
    };
    let at = walk.offset() as usize;
    let (bytes, _) = record.encode(header.salt, walk.offset());
    content[at..at + 32].copy_from_slice(&bytes);
    content[at + 32..at + 32 + payload.len()].copy_from_slice(&payload);
    disk.set_content(slot, Some(content));
    let (log, found) = open(&disk, 2).unwrap();
    assert_eq!(found.reported.len(), 1, "a healed entry is reported");
    assert_eq!(&log.entry(Index(2)).unwrap()[..], b"to be damaged");
    assert_eq!(log.last_index(), Index(3));
}

#[test]
fn damage_in_purged_entries_is_reported_and_does_no_harm() {
    let disk = MemDisk::new();
    let (mut log, _) = open(&disk, 1).unwrap();
    append(&mut log, 1, 1, b"purged and damaged");
    append(&mut log, 2, 1, b"purged");
    append(&mut log, 3, 1, b"live");
    log.purge(Index(2)).unwrap();
    settle(&mut log);
    drop(log);
    let content = disk.content(SlotId(0)).unwrap();
    let place = content.windows(18).position(|bytes| bytes == b"purged and damaged").unwrap() as u64;
    for offset in [place, place - 20] {
        let image = disk.image();
        image.rot(SlotId(0), offset, 4);
        let (log, found) = open(&image, 2).unwrap();
        assert_eq!(found.reported.len(), 1, "{found:?}");
        assert_eq!(contents(&log), (3, vec![(1, b"live".to_vec())]));
    }
}

#[test]
fn an_existing_log_keeps_its_segment_size() {
    let disk = MemDisk::new();
    open(&disk, 1).unwrap();
    let larger = Options { segment_bytes: 4 * SEGMENT, ..options() };
    let (log, found) = kontiki_wal::log::Log::open(disk, larger, 2).unwrap();
    assert_eq!((found.segment_bytes, log.options().segment_bytes), (SEGMENT, SEGMENT));
}

#[test]
fn a_crash_in_the_very_first_opening_leaves_an_empty_directory() {
    for syncs in 1..=3 {
        for fate in [Fate::Lost, Fate::Kept, Fate::Torn(100)] {
            let disk = MemDisk::new();
            disk.fail_sync_in(Some(syncs));
            assert!(open(&disk, 1).is_err());
            disk.crash(|_, _| fate);
            let (log, _) = open(&disk, 2).unwrap_or_else(|error| panic!("after {syncs} syncs, {fate:?}: {error}"));
            assert_eq!(log.last_index(), Index(0));
        }
    }
}
