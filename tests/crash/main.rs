//! Power cuts under the running log: its threads, its sync lane, its recycled slots, its real files.
//!
//! A recorder between the log and the file system notes every store, sync and acknowledgement. Then the power fails at
//! many moments: of what no sync had covered, each sector keeps the version of some moment. The log is opened on what
//! is left, and must have all that was acknowledged before the cut, and nothing that was never written.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test that fails may panic")]

mod recorder;

use std::path::Path;
use std::sync::Mutex;
use std::thread;

use kontiki_wal::fs::FsDisk;
use kontiki_wal::{Batch, HardState, Index, NewEntry, Options, Term, Wal};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use recorder::{Event, Keep, Recorder};

const WRITERS: u64 = 3;
const ENTRIES: u64 = 360;
const CUTS: usize = 240;

fn options() -> Options {
    Options { segment_bytes: 64 << 10, log_uuid: 1, node_id: 1, ..Options::default() }
}

/// What entry `index` holds: mostly small, now and then larger than a page, so that slots fill and large stores happen.
fn payload(index: u64) -> Vec<u8> {
    let bytes = if index.is_multiple_of(29) { 20_000 } else { 40 + index % 700 };
    (0..bytes).map(|at| (index.wrapping_mul(31).wrapping_add(at) % 251).to_le_bytes()[0]).collect()
}

fn term_of(index: u64) -> Term {
    Term(1 + index / 50)
}

/// Runs several writers against one log on `dir`, and returns everything that happened.
fn record(dir: &Path) -> Recorder {
    let recorder = Recorder::new(FsDisk::new(dir).unwrap());
    let (wal, _) = Wal::open_on(recorder.clone(), options()).unwrap();
    let next = Mutex::new(1);
    thread::scope(|scope| {
        for _ in 0..WRITERS {
            let (wal, next, recorder) = (&wal, &next, &recorder);
            scope.spawn(move || {
                loop {
                    let mut turn = next.lock().unwrap();
                    let index = *turn;
                    if index > ENTRIES {
                        return;
                    }
                    *turn += 1;
                    let term = term_of(index);
                    let payload = payload(index);
                    let entry = NewEntry { index: Index(index), term, payload: &payload };
                    let state = HardState { term, vote: 1 + term.0 % 3, commit: Index(index / 2) };
                    let hard_state = index.is_multiple_of(7).then_some(state);
                    let batch = Batch { hard_state, entries: &[entry], ..Batch::default() };
                    let end = wal.append(&batch).unwrap();
                    drop(turn);
                    wal.wait_durable(end).unwrap();
                    recorder.note(Event::Acknowledged { index, term: hard_state.map_or(0, |state| state.term.0) });
                    if index.is_multiple_of(60) {
                        wal.purge(Index(index - 50)).unwrap();
                    }
                }
            });
        }
    });
    // Not closed: the cut comes while the log runs.
    recorder
}

/// Opens what is left after a cut, and says what is missing of what was acknowledged before, or wrong.
fn complaint(dir: &Path, acknowledged: u64, voted: u64) -> Option<String> {
    let (wal, recovery) = match Wal::open(dir, options()) {
        Ok(opened) => opened,
        Err(error) => return Some(error.to_string()),
    };
    let (first, last) = (wal.first_index().0, wal.last_index().0);
    if last < acknowledged || first > acknowledged + 1 {
        return Some(format!("entries {first} to {last} are left, {acknowledged} was acknowledged"));
    }
    if recovery.hard_state.term.0 < voted {
        return Some(format!("term {} is left, a vote in term {voted} was acknowledged", recovery.hard_state.term));
    }
    for index in first..=last {
        let intact = |entry: kontiki_wal::Entry| entry.term() == term_of(index) && entry.payload() == payload(index);
        if index > ENTRIES || !wal.entry(Index(index)).is_ok_and(intact) {
            return Some(format!("entry {index} is not what was written"));
        }
    }
    wal.close().err().map(|error| error.to_string())
}

/// What the log promised in `events`: the last entry, and the term of the last vote.
fn promises(events: &[Event]) -> (u64, u64) {
    let promised = events.iter().filter_map(|event| match event {
        Event::Acknowledged { index, term } => Some((*index, *term)),
        _ => None,
    });
    promised.fold((0, 0), |(last, voted), (index, term)| (last.max(index), voted.max(term)))
}

#[test]
fn whenever_the_power_fails_what_was_acknowledged_is_there() {
    let base = env!("CARGO_TARGET_TMPDIR");
    let live = tempfile::tempdir_in(base).unwrap();
    let recorder = record(live.path());
    let events = recorder.events();
    let mut random = Xoshiro256PlusPlus::seed_from_u64(42);
    let mut torn = 0;
    for cut in 0..CUTS {
        // Spread over the run; the last one is behind its end.
        let upto = (events.len() * (cut + 1)).div_ceil(CUTS);
        let keep = match cut % 4 {
            0 => Keep::Nothing,
            1 => Keep::Everything,
            _ => Keep::Some(random.next_u64()),
        };
        let dir = tempfile::tempdir_in(base).unwrap();
        torn += usize::from(recorder.leave_behind(&events[..upto], keep, dir.path()) > 0);
        let (last, voted) = promises(&events[..upto]);
        if let Some(complaint) = complaint(dir.path(), last, voted) {
            panic!("cut after event {upto} of {}, {keep:?}: {complaint}", events.len());
        }
    }
    assert!(torn > CUTS / 4, "only {torn} of {CUTS} cuts found anything unsynced: the test shows nothing");
}

/// The check above can fail: on a disk whose syncs did nothing it finds the loss.
#[test]
fn a_disk_that_lies_about_syncs_is_noticed() {
    let base = env!("CARGO_TARGET_TMPDIR");
    let live = tempfile::tempdir_in(base).unwrap();
    let recorder = record(live.path());
    let events = recorder.events();
    let (last, voted) = promises(&events);
    let is_lie = |(at, event): &(usize, Event)| *at > events.len() / 2 && matches!(event, Event::SyncEnded { .. });
    let numbered = events.iter().cloned().enumerate();
    let lied_to: Vec<Event> = numbered.filter(|event| !is_lie(event)).map(|(_, event)| event).collect();
    let dir = tempfile::tempdir_in(base).unwrap();
    recorder.leave_behind(&lied_to, Keep::Nothing, dir.path());
    assert!(complaint(dir.path(), last, voted).is_some(), "half of the log is gone and nobody noticed");
}
