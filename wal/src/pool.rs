//! Empty slots: free ones, ones made ready, and the reserve.

use std::collections::VecDeque;
use std::io;

use crate::disk::{Disk, Slot, SlotId};
use crate::format::OLD_SALTS;

/// An empty slot and the salts of its earlier lives, newest first.
#[derive(Clone, Debug)]
pub(crate) struct Spare<S> {
    pub(crate) slot: S,
    pub(crate) old_salts: [u32; OLD_SALTS],
}

/// The slots without a life.
///
/// - The last slot of `prepared` is the reserve: only batches that may use it take it.
/// - `full` is true from a preparation that failed for want of space until one that succeeds.
#[derive(Debug)]
pub(crate) struct Pool<S> {
    prepared: VecDeque<Spare<S>>,
    free: Vec<Spare<S>>,
    unfinished: Vec<SlotId>,
    next_id: u32,
    wanted: usize,
    preparing: bool,
    full: bool,
}

/// The making of one empty slot: slow, and to be run without any lock.
pub struct PrepareTask<S> {
    work: Work<S>,
    segment_bytes: u64,
}

enum Work<S> {
    Warm(Spare<S>),
    Create(SlotId),
}

/// What a [`PrepareTask`] made.
pub struct Prepared<S>(Result<Spare<S>, (Option<SlotId>, io::Error)>);

impl<S: Slot> PrepareTask<S> {
    /// Makes the slot. Blocks for as long as writing a slot takes.
    pub fn run<D: Disk<Slot = S>>(self, disk: &D) -> Prepared<S> {
        match self.work {
            Work::Warm(spare) => match spare.slot.warm() {
                Ok(()) => Prepared(Ok(spare)),
                Err(error) => Prepared(Err((None, error))),
            },
            Work::Create(id) => match disk.create(id, self.segment_bytes) {
                Ok(slot) => Prepared(Ok(Spare { slot, old_salts: [0; OLD_SALTS] })),
                Err(error) => Prepared(Err((Some(id), error))),
            },
        }
    }
}

impl<S: Slot> Pool<S> {
    /// `next_id` is above every slot that exists; `spare_slots` are wanted besides the reserve.
    pub(crate) fn new(free: Vec<Spare<S>>, unfinished: Vec<SlotId>, next_id: u32, spare_slots: usize) -> Pool<S> {
        Pool {
            prepared: VecDeque::new(),
            free,
            unfinished,
            next_id,
            wanted: spare_slots + 1,
            preparing: false,
            full: false,
        }
    }

    /// Takes an empty slot, the reserve only if allowed.
    pub(crate) fn take(&mut self, may_use_reserve: bool) -> Option<Spare<S>> {
        let reserve = usize::from(!may_use_reserve);
        if self.prepared.len() > reserve { self.prepared.pop_front() } else { None }
    }

    /// Takes any empty slot that exists, ready or not: for recovery, which cannot wait.
    pub(crate) fn take_any(&mut self) -> Option<Spare<S>> {
        if let Some(spare) = self.prepared.pop_front() {
            return Some(spare);
        }
        let position = self.free.iter_mut().position(|spare| spare.slot.recycle())?;
        Some(self.free.swap_remove(position))
    }

    /// Returns whether the disk is full and the reserve is used up.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.full && self.prepared.is_empty()
    }

    /// Returns whether the last preparation failed for want of space.
    pub(crate) fn is_full(&self) -> bool {
        self.full
    }

    /// Adds a slot whose life ended.
    pub(crate) fn add_free(&mut self, spare: Spare<S>) {
        self.free.push(spare);
    }

    /// Returns whether a slot is wanted, none is being prepared, and the last attempt gives hope.
    pub(crate) fn wants(&self) -> bool {
        !self.preparing && self.prepared.len() < self.wanted && (!self.full || !self.free.is_empty())
    }

    /// Returns how many slots are free and how many are prepared.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.free.len(), self.prepared.len())
    }

    /// Returns the id of the next slot to make.
    pub(crate) fn new_id(&mut self) -> SlotId {
        self.unfinished.pop().unwrap_or_else(|| {
            let id = SlotId(self.next_id);
            self.next_id += 1;
            id
        })
    }

    /// Returns what is to be prepared next, if anything is and nothing is being prepared.
    pub(crate) fn take_task(&mut self, segment_bytes: u64) -> Option<PrepareTask<S>> {
        if self.preparing || self.prepared.len() >= self.wanted {
            return None;
        }
        self.preparing = true;
        let recycled = self.free.iter_mut().position(|spare| spare.slot.recycle());
        let work = match recycled {
            Some(position) => Work::Warm(self.free.swap_remove(position)),
            None => Work::Create(self.new_id()),
        };
        Some(PrepareTask { work, segment_bytes })
    }

    /// Takes what a task made. A full disk is remembered, any other failure returned.
    pub(crate) fn finish_task(&mut self, made: Prepared<S>) -> io::Result<()> {
        self.preparing = false;
        match made.0 {
            Ok(spare) => {
                self.prepared.push_back(spare);
                self.full = false;
                Ok(())
            }
            Err((id, error)) => {
                self.unfinished.extend(id);
                if !is_no_space(&error) {
                    return Err(error);
                }
                self.full = true;
                Ok(())
            }
        }
    }
}

/// Returns whether the failure means a full disk or quota.
pub(crate) fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
