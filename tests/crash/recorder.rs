//! A disk that notes what is done to it, and can tell what a power cut would have left.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use kontiki_wal::disk::{Disk, HeaderCopy, Slot, SlotId};
use kontiki_wal::format::HEADER_BLOCK;
use kontiki_wal::fs::{FsDisk, FsSlot};
use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};

const SECTOR: usize = 512;

/// What happened, in the order in which it did.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A slot of zeros, durable.
    Created { slot: SlotId, bytes: u64 },
    /// Bytes in the cache.
    Stored { slot: SlotId, offset: u64, bytes: Vec<u8> },
    /// From here on a sync of this slot is under way; it covers what was stored before.
    SyncBegan { slot: SlotId, number: u64 },
    /// That sync succeeded.
    SyncEnded { number: u64 },
    /// The log promised this entry, and with it a vote in `term` (0: none).
    Acknowledged { index: u64, term: u64 },
}

/// Which version of each unsynced sector a cut leaves.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Keep {
    /// The synced one.
    Nothing,
    /// The newest.
    Everything,
    /// Any, drawn from this seed.
    Some(u64),
}

/// The real file system, watched.
#[derive(Clone)]
pub(crate) struct Recorder {
    disk: FsDisk,
    segment_bytes: Arc<Mutex<u64>>,
    events: Arc<Mutex<Vec<Event>>>,
}

/// A watched slot.
#[derive(Clone)]
pub(crate) struct RecordedSlot {
    slot: FsSlot,
    recorder: Recorder,
}

impl Recorder {
    pub(crate) fn new(disk: FsDisk) -> Recorder {
        Recorder { disk, segment_bytes: Arc::default(), events: Arc::default() }
    }

    pub(crate) fn note(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }

    /// Writes into `dir` the slots as a cut after `events` leaves them. Returns how many sectors were unsynced.
    pub(crate) fn leave_behind(&self, events: &[Event], keep: Keep, dir: &Path) -> usize {
        let mut random = SplitMix64::seed_from_u64(if let Keep::Some(seed) = keep { seed } else { 0 });
        let mut unsynced = 0;
        for (id, mut slot) in replay(events) {
            for (sector, mut versions) in slot.unsynced_sectors() {
                unsynced += 1;
                let count = versions.len() as u64;
                let chosen = match keep {
                    Keep::Nothing => 0,
                    Keep::Everything => count,
                    Keep::Some(_) => random.next_u64() % (count + 1),
                };
                if let Some(version) = usize::try_from(chosen).unwrap().checked_sub(1) {
                    slot.synced[sector * SECTOR..][..SECTOR].copy_from_slice(&versions.swap_remove(version));
                }
            }
            let name = self.disk.name(id);
            fs::write(dir.join(name.file_name().unwrap()), &slot.synced).unwrap();
        }
        unsynced
    }
}

/// One slot while events are replayed.
#[derive(Default)]
struct Replayed {
    synced: Vec<u8>,
    /// Stores that no finished sync covers, with the number of the event.
    pending: Vec<(usize, usize, Vec<u8>)>,
}

impl Replayed {
    fn sync(&mut self, began: usize) {
        let covered = self.pending.partition_point(|(at, ..)| *at < began);
        for (_, offset, bytes) in self.pending.drain(..covered) {
            self.synced[offset..][..bytes.len()].copy_from_slice(&bytes);
        }
    }

    /// For each sector that changed since the last sync: what it held after each change, oldest first.
    fn unsynced_sectors(&self) -> BTreeMap<usize, Vec<Vec<u8>>> {
        let mut cached = self.synced.clone();
        let mut versions: BTreeMap<usize, Vec<Vec<u8>>> = BTreeMap::new();
        for (_, offset, bytes) in &self.pending {
            cached[*offset..][..bytes.len()].copy_from_slice(bytes);
            for sector in offset / SECTOR..(offset + bytes.len()).div_ceil(SECTOR) {
                versions.entry(sector).or_default().push(cached[sector * SECTOR..][..SECTOR].to_vec());
            }
        }
        versions
    }
}

fn replay(events: &[Event]) -> BTreeMap<SlotId, Replayed> {
    let mut slots: BTreeMap<SlotId, Replayed> = BTreeMap::new();
    let mut under_way = BTreeMap::new();
    for (at, event) in events.iter().enumerate() {
        match event {
            Event::Created { slot, bytes } => {
                let synced = vec![0; usize::try_from(*bytes).unwrap()];
                slots.insert(*slot, Replayed { synced, pending: Vec::new() });
            }
            Event::Stored { slot, offset, bytes } => {
                let pending = &mut slots.get_mut(slot).unwrap().pending;
                pending.push((at, usize::try_from(*offset).unwrap(), bytes.clone()));
            }
            Event::SyncBegan { slot, number } => {
                under_way.insert(number, (*slot, at));
            }
            Event::SyncEnded { number } => {
                let (slot, began) = under_way[number];
                slots.get_mut(&slot).unwrap().sync(began);
            }
            Event::Acknowledged { .. } => {}
        }
    }
    slots
}

impl Disk for Recorder {
    type Slot = RecordedSlot;

    fn slots(&self) -> io::Result<Vec<(SlotId, u64)>> {
        self.disk.slots()
    }

    fn open(&self, id: SlotId, segment_bytes: u64) -> io::Result<RecordedSlot> {
        panic!("slot {id:?} of {segment_bytes} bytes: a recording begins in an empty directory")
    }

    fn peek(&self, id: SlotId, buffer: &mut [u8]) -> io::Result<()> {
        self.disk.peek(id, buffer)
    }

    fn create(&self, id: SlotId, segment_bytes: u64) -> io::Result<RecordedSlot> {
        let slot = self.disk.create(id, segment_bytes)?;
        *self.segment_bytes.lock().unwrap() = segment_bytes;
        self.note(Event::Created { slot: id, bytes: segment_bytes });
        Ok(RecordedSlot { slot, recorder: self.clone() })
    }

    fn name(&self, id: SlotId) -> PathBuf {
        self.disk.name(id)
    }
}

impl Slot for RecordedSlot {
    type View = <FsSlot as Slot>::View;

    fn id(&self) -> SlotId {
        self.slot.id()
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.slot.read(offset, buffer)
    }

    fn store(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let bytes = parts.iter().flat_map(|part| part.iter().copied()).collect();
        // Noted and done as one: a sync that begins later covers it, one that began earlier does not.
        let mut events = self.recorder.events.lock().unwrap();
        events.push(Event::Stored { slot: self.id(), offset, bytes });
        self.slot.store(offset, parts)
    }

    fn publish(&self, offset: u64) {
        self.slot.publish(offset);
    }

    fn view(&self, offset: u64, length: u64) -> io::Result<Self::View> {
        self.slot.view(offset, length)
    }

    fn write_header(&self, copy: HeaderCopy, block: &[u8; HEADER_BLOCK as usize]) -> io::Result<()> {
        let offset = copy.offset(*self.recorder.segment_bytes.lock().unwrap());
        let mut events = self.recorder.events.lock().unwrap();
        events.push(Event::Stored { slot: self.id(), offset, bytes: block.to_vec() });
        self.slot.write_header(copy, block)
    }

    fn sync(&self) -> io::Result<()> {
        let number = {
            let mut events = self.recorder.events.lock().unwrap();
            let number = events.len() as u64;
            events.push(Event::SyncBegan { slot: self.id(), number });
            number
        };
        self.slot.sync()?;
        self.recorder.note(Event::SyncEnded { number });
        Ok(())
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.slot.drop_cache()
    }

    fn warm(&self) -> io::Result<()> {
        self.slot.warm()
    }

    fn recycle(&mut self) -> bool {
        self.slot.recycle()
    }
}
