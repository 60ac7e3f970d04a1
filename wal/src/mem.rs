//! Slots in memory, of 512-byte sectors that a crash may lose, tear or keep: for simulators and tests.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::disk::{Disk, HeaderCopy, Slot, SlotId};
use crate::format::{DATA_START, HEADER_BLOCK, HEADER_LEN, to_usize};

/// The bytes that a disk writes as one.
pub const SECTOR: usize = 512;

/// What a crash does to a sector that was stored since the last sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The old content is there.
    Lost,
    /// The new content is there.
    Kept,
    /// The first bytes are new, the others old. A kind disk does not do this.
    Torn(u16),
}

/// A disk in memory. Clones are handles of the same disk, which outlives the logs on it.
#[derive(Clone, Debug, Default)]
pub struct MemDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    slots: BTreeMap<SlotId, Content>,
    capacity: Option<usize>,
    fail_sync_in: Option<u64>,
    syncs: u64,
}

#[derive(Debug, Default)]
struct Content {
    /// What the medium holds.
    stable: Vec<u8>,
    /// Sectors stored since the last sync.
    dirty: BTreeMap<usize, Vec<u8>>,
    /// Sectors that a failed sync dropped while the cache still shows them.
    lying: BTreeMap<usize, Vec<u8>>,
    published: u64,
}

/// An open slot of a [`MemDisk`].
#[derive(Clone, Debug)]
pub struct MemSlot {
    disk: MemDisk,
    id: SlotId,
    handles: Arc<()>,
}

impl MemDisk {
    /// Returns an empty disk.
    pub fn new() -> MemDisk {
        MemDisk::default()
    }

    /// Limits how many slots there may be; more are answered with a full disk.
    pub fn set_capacity(&self, slots: Option<usize>) {
        self.state.lock().capacity = slots;
    }

    /// Lets the `n`-th sync from now on fail (1 is the next): its sectors are then lost although reads still show
    /// them.
    pub fn fail_sync_in(&self, n: Option<u64>) {
        self.state.lock().fail_sync_in = n;
    }

    /// Returns how many syncs there were.
    pub fn syncs(&self) -> u64 {
        self.state.lock().syncs
    }

    /// Returns how many slots there are.
    pub fn slots_made(&self) -> usize {
        self.state.lock().slots.len()
    }

    /// Cuts the power: `fate` decides for each sector that was stored since the last sync. Open logs must be dropped.
    pub fn crash(&self, mut fate: impl FnMut(SlotId, usize) -> Fate) {
        for (&id, content) in &mut self.state.lock().slots {
            content.lying.clear();
            for (sector, bytes) in std::mem::take(&mut content.dirty) {
                let target = &mut content.stable[sector * SECTOR..(sector + 1) * SECTOR];
                let new = match fate(id, sector) {
                    Fate::Lost => 0,
                    Fate::Kept => SECTOR,
                    Fate::Torn(new) => usize::from(new).min(SECTOR),
                };
                target[..new].copy_from_slice(&bytes[..new]);
            }
        }
    }

    /// Returns the sectors stored since the last sync.
    pub fn unsynced(&self) -> Vec<(SlotId, usize)> {
        let state = self.state.lock();
        state.slots.iter().flat_map(|(&id, content)| content.dirty.keys().map(move |&sector| (id, sector))).collect()
    }

    /// Changes bits on the medium: `mask` is what to flip at `offset`.
    pub fn rot(&self, id: SlotId, offset: u64, mask: u8) {
        if let Some(content) = self.state.lock().slots.get_mut(&id) {
            content.stable[to_usize(offset)] ^= mask;
        }
    }

    /// Returns what the medium holds of a slot.
    pub fn content(&self, id: SlotId) -> Option<Vec<u8>> {
        self.state.lock().slots.get(&id).map(|content| content.stable.clone())
    }

    /// Replaces what the medium holds of a slot; `None` removes it.
    pub fn set_content(&self, id: SlotId, bytes: Option<Vec<u8>>) {
        let mut state = self.state.lock();
        match bytes {
            Some(stable) => drop(state.slots.insert(id, Content { stable, ..Content::default() })),
            None => drop(state.slots.remove(&id)),
        }
    }

    /// Stores what differs in `bytes` from a slot's content, as if a log had stored it and not synced it.
    pub fn store_unsynced(&self, id: SlotId, bytes: &[u8]) {
        if let Some(content) = self.state.lock().slots.get_mut(&id) {
            for (sector, new) in bytes.chunks_exact(SECTOR).enumerate() {
                if content.stable[sector * SECTOR..(sector + 1) * SECTOR] != *new {
                    content.dirty.insert(sector, new.to_vec());
                }
            }
        }
    }

    /// Returns a copy of the disk as the medium holds it now, unsynced sectors lost.
    pub fn image(&self) -> MemDisk {
        let state = self.state.lock();
        let slots = state
            .slots
            .iter()
            .map(|(&id, content)| (id, Content { stable: content.stable.clone(), ..Content::default() }));
        let copy = State { slots: slots.collect(), capacity: state.capacity, ..State::default() };
        MemDisk { state: Arc::new(Mutex::new(copy)) }
    }

    /// Returns a copy of the disk with its unsynced sectors still unsynced.
    pub fn fork(&self) -> MemDisk {
        let state = self.state.lock();
        let slots = state.slots.iter().map(|(&id, content)| {
            let dirty = content.dirty.clone();
            (id, Content { stable: content.stable.clone(), dirty, ..Content::default() })
        });
        let copy = State { slots: slots.collect(), capacity: state.capacity, ..State::default() };
        MemDisk { state: Arc::new(Mutex::new(copy)) }
    }
}

impl Content {
    fn read(&self, offset: usize, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.stable[offset..offset + buffer.len()]);
        let end = offset + buffer.len();
        for layer in [&self.lying, &self.dirty] {
            for (&sector, bytes) in layer.range(offset / SECTOR..end.div_ceil(SECTOR)) {
                let start = (sector * SECTOR).max(offset);
                let stop = ((sector + 1) * SECTOR).min(end);
                let from = start - sector * SECTOR;
                buffer[start - offset..stop - offset].copy_from_slice(&bytes[from..from + stop - start]);
            }
        }
    }

    fn store(&mut self, mut offset: usize, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let sector = offset / SECTOR;
            let within = offset % SECTOR;
            let piece = bytes.len().min(SECTOR - within);
            if !self.dirty.contains_key(&sector) {
                let mut old = vec![0; SECTOR];
                self.read(sector * SECTOR, &mut old);
                self.dirty.insert(sector, old);
            }
            let content = self.dirty.get_mut(&sector).expect("just there");
            content[within..within + piece].copy_from_slice(&bytes[..piece]);
            offset += piece;
            bytes = &bytes[piece..];
        }
    }
}

impl Disk for MemDisk {
    type Slot = MemSlot;

    fn slots(&self) -> io::Result<Vec<(SlotId, u64)>> {
        let state = self.state.lock();
        Ok(state.slots.iter().map(|(&id, content)| (id, content.stable.len() as u64)).collect())
    }

    fn peek(&self, id: SlotId, buffer: &mut [u8]) -> io::Result<()> {
        let state = self.state.lock();
        let content = state.slots.get(&id).ok_or(io::ErrorKind::NotFound)?;
        let there = buffer.len().min(content.stable.len());
        buffer.fill(0);
        buffer[..there].copy_from_slice(&content.stable[..there]);
        Ok(())
    }

    fn open(&self, id: SlotId, _segment_bytes: u64) -> io::Result<MemSlot> {
        let mut state = self.state.lock();
        let content = state.slots.get_mut(&id).ok_or(io::ErrorKind::NotFound)?;
        content.published = DATA_START;
        drop(state);
        Ok(MemSlot { disk: self.clone(), id, handles: Arc::new(()) })
    }

    fn create(&self, id: SlotId, segment_bytes: u64) -> io::Result<MemSlot> {
        let mut state = self.state.lock();
        let others = state.slots.keys().filter(|&&other| other != id).count();
        if state.capacity.is_some_and(|capacity| others >= capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let stable = vec![0; to_usize(segment_bytes)];
        state.slots.insert(id, Content { stable, published: DATA_START, ..Content::default() });
        drop(state);
        Ok(MemSlot { disk: self.clone(), id, handles: Arc::new(()) })
    }

    fn name(&self, id: SlotId) -> PathBuf {
        PathBuf::from(format!("slot-{:04}", id.0))
    }
}

impl MemSlot {
    fn with<T>(&self, act: impl FnOnce(&mut Content) -> T) -> io::Result<T> {
        let mut state = self.disk.state.lock();
        Ok(act(state.slots.get_mut(&self.id).ok_or(io::ErrorKind::NotFound)?))
    }
}

impl Slot for MemSlot {
    type View = Arc<[u8]>;

    fn id(&self) -> SlotId {
        self.id
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.with(|content| content.read(to_usize(offset), buffer))
    }

    fn store(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        self.with(|content| {
            let mut at = to_usize(offset);
            let room = content.stable.len() - to_usize(HEADER_BLOCK);
            assert!(content.published <= offset, "store at {offset}: published {}", content.published);
            for part in parts {
                content.store(at, part);
                at += part.len();
            }
            assert!(at <= room, "store up to {at} of {room}");
        })
    }

    fn publish(&self, offset: u64) {
        let published = self.with(|content| {
            assert!(content.published <= offset, "publishing {offset} after {}", content.published);
            content.published = offset;
        });
        published.expect("an open slot exists");
    }

    fn view(&self, offset: u64, length: u64) -> io::Result<Arc<[u8]>> {
        self.with(|content| {
            assert!(offset + length <= content.published, "view up to {}", offset + length);
            let mut bytes = vec![0; to_usize(length)];
            content.read(to_usize(offset), &mut bytes);
            bytes.into()
        })
    }

    fn write_header(&self, copy: HeaderCopy, block: &[u8; HEADER_LEN]) -> io::Result<()> {
        self.with(|content| {
            let offset = copy.offset(content.stable.len() as u64);
            content.store(to_usize(offset), block);
        })
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state.lock();
        state.syncs += 1;
        let fails = match &mut state.fail_sync_in {
            Some(left) => {
                *left = left.saturating_sub(1);
                *left == 0
            }
            None => false,
        };
        if fails {
            state.fail_sync_in = None;
        }
        let content = state.slots.get_mut(&self.id).ok_or(io::ErrorKind::NotFound)?;
        let dirty = std::mem::take(&mut content.dirty);
        if fails {
            content.lying.extend(dirty);
            return Err(io::Error::other("injected sync failure"));
        }
        for (sector, bytes) in dirty {
            content.lying.remove(&sector);
            content.stable[sector * SECTOR..(sector + 1) * SECTOR].copy_from_slice(&bytes);
        }
        Ok(())
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.with(|content| content.lying.clear())
    }

    fn warm(&self) -> io::Result<()> {
        Ok(())
    }

    fn recycle(&mut self) -> bool {
        if Arc::get_mut(&mut self.handles).is_none() {
            return false;
        }
        self.with(|content| content.published = DATA_START).is_ok()
    }
}
