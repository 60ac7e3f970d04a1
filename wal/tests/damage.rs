//! Every flipped bit, every prefix, every subset of lost sectors, slots that vanish or come back: nothing
//! acknowledged is lost in silence.
//!
//! Each test states the property anew: what is recovered is the acknowledged prefix plus possibly what was not
//! acknowledged; anything less is reported.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, missing_docs, unreachable_pub, reason = "test code")]

mod common;

use common::{SEGMENT, append, contents, open, settle, sync, vote};
use kontiki_wal::disk::SlotId;
use kontiki_wal::log::Log;
use kontiki_wal::mem::{Fate, MemDisk, SECTOR};
use kontiki_wal::{Batch, DamageKind, HardState, Index, NewEntry, OpenError, Options, Term};

const SLOT: SlotId = SlotId(0);

/// A small log in one slot: entries of several sizes, a vote, a truncation, several syncs. Returns its entries and
/// where it ends.
fn small_log(disk: &MemDisk) -> (Vec<(u64, Vec<u8>)>, HardState, u64) {
    let (mut log, _) = open(disk, 1).unwrap();
    append(&mut log, 1, 1, b"one");
    append(&mut log, 2, 1, &[2; 100]);
    sync(&mut log);
    vote(&mut log, 2, 3);
    append(&mut log, 3, 1, b"overwritten by the next leader");
    sync(&mut log);
    let entries = [
        NewEntry { index: Index(3), term: Term(2), payload: b"three" },
        NewEntry { index: Index(4), term: Term(2), payload: b"" },
    ];
    log.append(&Batch { truncate_from: Some(Index(3)), entries: &entries, ..Batch::default() }).unwrap();
    sync(&mut log);
    append(&mut log, 5, 2, &[5; 40]);
    settle(&mut log);
    let end = log.written().0 - SEGMENT;
    (contents(&log).1, log.hard_state(), end)
}

#[test]
fn every_flipped_bit_of_a_settled_log_is_reported_or_harmless() {
    let disk = MemDisk::new();
    let (entries, state, end) = small_log(&disk);
    let (mut reported, mut harmless) = (0, 0);
    let header = 0..256u64;
    let tail = SEGMENT - 4096..SEGMENT - 4096 + 256;
    for offset in header.chain(4096..end + 64).chain(tail) {
        for bit in 0..8 {
            let image = disk.image();
            image.rot(SLOT, offset, 1 << bit);
            match open(&image, 2) {
                Err(OpenError::Damaged { first, .. }) => {
                    assert!((4096..end).contains(&offset), "bit {bit} of byte {offset} of a header is fatal: {first}");
                    assert!(first.offset <= offset && offset < first.offset + 200, "{first} for byte {offset}");
                    reported += 1;
                }
                Err(OpenError::Unsupported { .. } | OpenError::Identity { .. }) => panic!("byte {offset} misread"),
                Err(other) => panic!("byte {offset}: {other}"),
                Ok((log, found)) => {
                    assert!(!(4096..end).contains(&offset), "bit {bit} of byte {offset} was lost in silence");
                    assert_eq!(contents(&log).1, entries);
                    assert_eq!(log.hard_state(), state);
                    let in_header = !(4096..SEGMENT - 4096).contains(&offset);
                    assert_eq!(found.reported.len(), usize::from(in_header), "byte {offset}: {found:?}");
                    assert_eq!(found.torn.is_some(), (end..end + 32).contains(&offset), "byte {offset}");
                    harmless += 1;
                }
            }
        }
    }
    println!("{reported} flipped bits reported, {harmless} harmless");
    assert_eq!(reported, (end - 4096) * 8);
}

#[test]
fn a_flipped_payload_bit_names_index_and_term() {
    let disk = MemDisk::new();
    small_log(&disk);
    let content = disk.content(SLOT).unwrap();
    let place = content.windows(5).position(|bytes| bytes == b"three").unwrap() as u64;
    disk.rot(SLOT, place, 1);
    let Err(OpenError::Damaged { first, all }) = open(&disk, 2) else { panic!("opened") };
    assert_eq!((first.index, first.term, all.len()), (Some(Index(3)), Some(Term(2)), 1));
    assert_eq!(first.offset, place - 32);
    assert!(matches!(first.why, DamageKind::Payload { .. }));
    let words = first.to_string();
    assert!(words.contains("slot-0000") && words.contains("index 3, term 2"), "{words}");
}

#[test]
fn a_flipped_header_bit_still_tells_which_entry_it_was() {
    let disk = MemDisk::new();
    small_log(&disk);
    let content = disk.content(SLOT).unwrap();
    let place = content.windows(5).position(|bytes| bytes == b"three").unwrap() as u64 - 32;
    disk.rot(SLOT, place, 1); // Of the header's own checksum.
    let Err(OpenError::Damaged { first, .. }) = open(&disk, 2) else { panic!("opened") };
    assert_eq!((first.index, first.term, first.offset), (Some(Index(3)), Some(Term(2)), place));
}

/// The damaged bit may be in the index itself: then the entry's place in the log says which one it was.
#[test]
fn a_flipped_index_bit_does_not_name_another_entry() {
    let disk = MemDisk::new();
    small_log(&disk);
    let content = disk.content(SLOT).unwrap();
    let place = content.windows(5).position(|bytes| bytes == b"three").unwrap() as u64 - 32;
    disk.rot(SLOT, place + 26, 3); // Of the relative index's third byte.
    let Err(OpenError::Damaged { first, .. }) = open(&disk, 2) else { panic!("opened") };
    assert_eq!((first.index, first.offset), (Some(Index(3)), place));
}

/// Checks what a crash after `acked` acknowledged entries may leave: at least those, at most `all`, and in batches.
fn check_survivors(log: &Log<MemDisk>, all: &[(u64, Vec<u8>)], acked: usize, allowed: &[usize]) {
    let (first, found) = contents(log);
    assert_eq!(first, 1);
    assert!(found.len() >= acked, "{} of {acked} acknowledged entries", found.len());
    assert!(allowed.contains(&found.len()), "{} entries is half a batch", found.len());
    assert_eq!(found, all[..found.len()]);
}

/// Two acknowledged entries, then three unsynced batches of 1, 3 and 1 entries. Returns all entries.
fn unsynced_log(disk: &MemDisk, payload: usize) -> Vec<(u64, Vec<u8>)> {
    let (mut log, _) = open(disk, 1).unwrap();
    append(&mut log, 1, 1, b"acknowledged");
    append(&mut log, 2, 1, &vec![2; payload]);
    sync(&mut log);
    append(&mut log, 3, 1, &vec![3; payload]);
    let payloads = [vec![4; payload], vec![5; 10], vec![6; payload]];
    let entries: Vec<_> = (4u64..)
        .zip(&payloads)
        .map(|(index, payload)| NewEntry { index: Index(index), term: Term(2), payload })
        .collect();
    let state = HardState { term: Term(2), vote: 0, commit: Index(0) };
    log.append(&Batch { hard_state: Some(state), entries: &entries, ..Batch::default() }).unwrap();
    append(&mut log, 7, 2, b"the last");
    let all = contents(&log).1;
    let job = log.begin_sync().unwrap(); // The mark is stored, the power goes before the sync.
    drop(job);
    all
}

#[test]
fn every_subset_of_lost_sectors_keeps_the_acknowledged_prefix() {
    for payload in [100, 700, 1400] {
        let disk = MemDisk::new();
        let all = unsynced_log(&disk, payload);
        let sectors = disk.unsynced();
        assert!(sectors.len() <= 12, "{} sectors", sectors.len());
        let mut lengths = std::collections::BTreeSet::new();
        for lost in 0..1u32 << sectors.len() {
            let image = disk.fork();
            let mut number = 0;
            image.crash(|_, _| {
                let fate = if lost >> number & 1 == 1 { Fate::Lost } else { Fate::Kept };
                number += 1;
                fate
            });
            let (log, _) = open(&image, 2).unwrap_or_else(|error| panic!("subset {lost:b}: {error}"));
            check_survivors(&log, &all, 2, &[2, 3, 6, 7]);
            lengths.insert(log.last_index().0);
        }
        println!("payload {payload}: {} subsets, surviving lengths {lengths:?}", 1u32 << sectors.len());
        assert!(lengths.contains(&2) && lengths.contains(&7));
    }
}

#[test]
fn every_torn_sector_keeps_the_acknowledged_prefix() {
    let disk = MemDisk::new();
    let all = unsynced_log(&disk, 300);
    let sectors = disk.unsynced();
    for (victim, &place) in sectors.iter().enumerate() {
        for cut in 0..=SECTOR as u16 {
            for others in [Fate::Lost, Fate::Kept] {
                let image = disk.fork();
                image.crash(|slot, sector| if (slot, sector) == place { Fate::Torn(cut) } else { others });
                let (log, _) = open(&image, 2).unwrap_or_else(|error| panic!("sector {victim} cut at {cut}: {error}"));
                check_survivors(&log, &all, 2, &[2, 3, 6, 7]);
            }
        }
    }
}

#[test]
fn every_prefix_is_a_torn_tail_or_reported() {
    let disk = MemDisk::new();
    let (entries, _, end) = small_log(&disk);
    let content = disk.content(SLOT).unwrap();
    for cut in 4096..=end {
        let mut bytes = content.clone();
        bytes[cut as usize..(SEGMENT - 4096) as usize].fill(0);
        let changed = bytes.iter().zip(&content).position(|(new, old)| new != old);
        disk.set_content(SLOT, Some(bytes));
        match open(&disk.image(), 2) {
            Err(OpenError::Damaged { first, .. }) => {
                let lost = changed.expect("nothing was cut") as u64;
                assert!(first.offset <= lost && lost < first.offset + 200, "{first} for cut {cut}");
            }
            Err(other) => panic!("cut {cut}: {other}"),
            Ok((log, _)) => {
                assert!(changed.is_none(), "a log settled at {end} was cut at {cut} in silence");
                assert_eq!(contents(&log).1, entries);
            }
        }
    }
}

#[test]
fn recovery_survives_crashes_inside_itself() {
    let disk = MemDisk::new();
    let all = unsynced_log(&disk, 300);
    let mut number = 0;
    disk.crash(|_, _| {
        number += 1;
        if number == 2 { Fate::Lost } else { Fate::Kept } // A hole in the unsynced tail.
    });
    // The second opening is cut short at its sync; what it stored survives in every combination.
    for lost in 0..1u32 << 6 {
        let image = disk.image();
        image.fail_sync_in(Some(2)); // The first is the sync before reading.
        assert!(matches!(open(&image, 3), Err(OpenError::Io { .. })), "recovery syncs its reopen record");
        let image = disk.fork();
        image.fail_sync_in(None);
        let half = half_opened(&disk, 3);
        let mut number = 0;
        half.crash(|_, _| {
            let fate = if lost >> number & 1 == 1 { Fate::Lost } else { Fate::Kept };
            number += 1;
            fate
        });
        let (mut log, _) = open(&half, 4).unwrap();
        check_survivors(&log, &all, 2, &[2, 3, 6, 7]);
        // And the log is usable: new entries never meet the leftovers of the dropped tail.
        let next = log.last_index().0 + 1;
        append(&mut log, next, 3, b"after");
        sync(&mut log);
        drop(log);
        let (log, _) = open(&half, 5).unwrap();
        assert_eq!(log.last_index(), Index(next));
        assert_eq!(&log.entry(Index(next)).unwrap()[..], b"after");
    }
}

/// Returns a disk on which an opening stored its reopen record and mark, but lost power before their sync.
fn half_opened(disk: &MemDisk, seed: u64) -> MemDisk {
    let image = disk.image();
    // A failing sync drops the sectors to the medium's old state; take them from a log that was opened fully.
    let (log, _) = open(&image, seed).unwrap();
    drop(log);
    let before = disk.content(SLOT).unwrap();
    let after = image.content(SLOT).unwrap();
    let half = disk.image();
    half.set_content(SLOT, Some(before));
    half.store_unsynced(SLOT, &after);
    half
}

#[test]
fn leftovers_of_a_dropped_tail_never_come_back() {
    let disk = MemDisk::new();
    let (mut log, _) = open(&disk, 1).unwrap();
    append(&mut log, 1, 1, b"kept");
    sync(&mut log);
    let end = log.written().0 - SEGMENT;
    append(&mut log, 2, 1, &[b'x'; 1000]);
    append(&mut log, 3, 1, &[b'y'; 1000]);
    sync(&mut log);
    drop(log);
    // The first unacknowledged record is lost, the others are there: as after a crash before the sync.
    let mut content = disk.content(SLOT).unwrap();
    content[end as usize..end as usize + 8].fill(0);
    disk.set_content(SLOT, Some(content));
    // Entry 3's mark shows that 2 was acknowledged only if it was: here its claim is `end`, so this is a torn tail.
    let (mut log, found) = open(&disk, 2).unwrap();
    assert_eq!(found.last, Index(1));
    append(&mut log, 2, 2, &[b'z'; 1000 - 48 - 64]); // Reopen and mark counted, ends where 3 began.
    sync(&mut log);
    drop(log);
    let (log, found) = open(&disk, 3).unwrap();
    assert_eq!((found.last, log.term(Index(2))), (Index(2), Some(Term(2))));
}

#[test]
fn an_erased_or_missing_slot_is_reported() {
    let disk = MemDisk::new();
    let (mut log, _) = open(&disk, 1).unwrap();
    for index in 1..=300 {
        while log.space().prepared_slots < 2 {
            log.prepare();
        }
        append(&mut log, index, 1, &[9; 1000]);
        if index % 10 == 0 {
            sync(&mut log);
        }
    }
    settle(&mut log);
    let entries = contents(&log).1;
    let live = log.space().live_slots as u32;
    assert!(live >= 4);
    drop(log);
    for slot in 0..live {
        let erased = disk.image();
        erased.set_content(SlotId(slot), Some(vec![0; SEGMENT as usize]));
        let missing = disk.image();
        missing.set_content(SlotId(slot), None);
        let short = disk.image();
        let mut content = disk.content(SlotId(slot)).unwrap();
        content.truncate(40_000);
        short.set_content(SlotId(slot), Some(content));
        let doubled = disk.image();
        doubled.set_content(SlotId(99), disk.content(SlotId(slot)));
        for (what, image) in [("erased", erased), ("missing", missing), ("short", short), ("doubled", doubled)] {
            let refused = open(&image, 2).map(|(log, _)| log.last_index());
            assert!(matches!(refused, Err(OpenError::Damaged { .. })), "slot {slot} {what}: {refused:?}");
        }
    }
    // Names mean nothing: swapped files are the same log.
    let swapped = disk.image();
    swapped.set_content(SlotId(0), disk.content(SlotId(1)));
    swapped.set_content(SlotId(1), disk.content(SlotId(0)));
    assert_eq!(contents(&open(&swapped, 2).unwrap().0).1, entries);
    // A slot of another log is refused by name.
    let other = MemDisk::new();
    let options = Options { log_uuid: 0xFF, ..common::options() };
    Log::open(other.clone(), options, 1).unwrap();
    let foreign = disk.image();
    foreign.set_content(SlotId(50), other.content(SLOT));
    assert!(matches!(open(&foreign, 2), Err(OpenError::Identity { what: "log uuid", .. })));
}

#[test]
fn a_flipped_bit_anywhere_in_many_segments_is_reported_or_harmless() {
    let disk = MemDisk::new();
    let (mut log, _) = open(&disk, 1).unwrap();
    let mut index = 0;
    for round in 0..60u64 {
        while log.space().prepared_slots < 2 {
            log.prepare();
        }
        for size in [3, 700, 2000, 20_000 * (round % 4 / 3)] {
            index += 1;
            append(&mut log, index, 1 + round / 9, &vec![round as u8; size as usize]);
        }
        if round % 7 == 0 {
            vote(&mut log, 1 + round / 9, 2);
        }
        if round == 30 {
            log.purge(Index(40)).unwrap();
        }
        sync(&mut log);
    }
    settle(&mut log);
    let (known, state) = (contents(&log), log.hard_state());
    let slots = log.space().live_slots + log.space().free_slots;
    drop(log);
    let (mut reported, mut harmless, mut word) = (0, 0, 1u64);
    for _ in 0..1500 {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let slot = SlotId((word >> 60) as u32 % slots as u32);
        let (offset, mask) = ((word >> 20) % SEGMENT, 1 << (word >> 57 & 7));
        let image = disk.image();
        image.rot(slot, offset, mask);
        match open(&image, 2) {
            Err(OpenError::Damaged { first, .. }) => {
                assert!(first.offset <= offset && first.file.ends_with(format!("slot-{:04}", slot.0)), "{first}");
                reported += 1;
            }
            Err(other) => panic!("{slot:?} byte {offset}: {other}"),
            Ok((log, found)) => {
                assert_eq!(contents(&log), known, "{slot:?} byte {offset}");
                assert_eq!((log.hard_state(), found.torn.is_some()), (state, false));
                harmless += 1;
            }
        }
    }
    println!("{reported} reported, {harmless} harmless");
    assert!(reported > 400 && harmless > 20);
}

#[test]
fn both_headers_of_the_newest_segment_lost_is_damage() {
    let disk = MemDisk::new();
    let (mut log, _) = open(&disk, 1).unwrap();
    log.prepare();
    let mut index = 0;
    while log.space().live_slots == 1 {
        index += 1;
        append(&mut log, index, 1, &[9; 1000]);
    }
    sync(&mut log);
    append(&mut log, index + 1, 1, b"acknowledged in the second segment");
    sync(&mut log);
    append(&mut log, index + 2, 1, b"its mark covers the one before");
    sync(&mut log);
    drop(log);
    for slot in [SlotId(0), SlotId(1)] {
        let image = disk.image();
        let mut content = image.content(slot).unwrap();
        content[..4096].fill(0xAA);
        content[(SEGMENT - 4096) as usize..].fill(0xAA);
        image.set_content(slot, Some(content));
        let refused = open(&image, 2).map(|(log, _)| log.last_index());
        let Err(OpenError::Damaged { first, .. }) = refused else { panic!("{slot:?}: {refused:?}") };
        assert!(first.file.ends_with(format!("slot-{:04}", slot.0)), "{first}");
    }
}

#[test]
fn garbage_never_panics_the_scanner() {
    let disk = MemDisk::new();
    small_log(&disk);
    let content = disk.content(SLOT).unwrap();
    let mut seed = 0x1234_5678_u64;
    for _ in 0..300 {
        let mut bytes = content.clone();
        for _ in 0..20 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = 4096 + (seed >> 33) as usize % 2000;
            bytes[at] = (seed >> 20) as u8;
        }
        let image = disk.image();
        image.set_content(SLOT, Some(bytes));
        let refused = open(&image, 2).map(|(log, _)| log.last_index());
        assert!(matches!(refused, Err(OpenError::Damaged { .. })), "{refused:?}");
    }
}
