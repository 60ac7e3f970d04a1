//! Syncs of the thread-free log: which slots, what must come first, and what is known afterwards.

use std::collections::VecDeque;
use std::io;

use crate::disk::{Disk, HeaderCopy, Slot};
use crate::error::Poisoned;
use crate::format::{HEADER_LEN, Kind, Mark, OLD_SALTS, SegmentHeader};
use crate::log::{Log, Segment};
use crate::pool::Spare;
use crate::types::{LogId, Lsn};

/// What the log knows about its own durability.
#[derive(Clone, Debug)]
pub(crate) struct SyncState {
    /// The largest durable position that is claimed on the disk itself, by a mark or by both header copies.
    marked: Lsn,
    /// The durable position that both header copies name.
    headers: Lsn,
    /// The end of the last record that is more than a bare mark.
    content: Lsn,
    in_flight: bool,
    /// Purges that are stored: where their record ends, and what is purged.
    pub(crate) purges: VecDeque<(Lsn, LogId)>,
    purged_durable: LogId,
}

impl SyncState {
    pub(crate) fn new(purged: LogId) -> SyncState {
        SyncState {
            marked: Lsn(0),
            headers: Lsn(0),
            content: Lsn(u64::MAX),
            in_flight: false,
            purges: VecDeque::new(),
            purged_durable: purged,
        }
    }
}

type Block = Box<[u8; HEADER_LEN]>;

enum Effect<S> {
    Header(S, HeaderCopy, Block),
    Sync(S),
}

/// A sync to be run: slow, and without any lock. Appends may go on meanwhile; they belong to the next one.
pub struct SyncJob<S> {
    effects: Vec<Effect<S>>,
    target: Lsn,
    purpose: Purpose,
}

#[derive(Clone, Copy)]
enum Purpose {
    Batch { marked: Lsn, content: Option<Lsn> },
    Headers,
}

impl<S: Slot> SyncJob<S> {
    /// Does the work. After an error nothing is known but that the log must end: hand the result to
    /// [`Log::finish_sync`] either way.
    ///
    /// # Errors
    /// The first failure of the file system.
    pub fn run(&self) -> io::Result<()> {
        for effect in &self.effects {
            match effect {
                Effect::Header(slot, copy, block) => slot.write_header(*copy, block)?,
                Effect::Sync(slot) => slot.sync()?,
            }
        }
        Ok(())
    }

    /// Returns what will be durable once this succeeded.
    pub fn target(&self) -> Lsn {
        self.target
    }

    /// Returns how many single steps the job has.
    pub fn steps(&self) -> usize {
        self.effects.len()
    }

    /// Does one step alone, so that a simulator can crash between them.
    ///
    /// # Errors
    /// The failure of the file system.
    pub fn run_step(&self, step: usize) -> io::Result<()> {
        match &self.effects[step] {
            Effect::Header(slot, copy, block) => slot.write_header(*copy, block),
            Effect::Sync(slot) => slot.sync(),
        }
    }
}

impl<D: Disk> Log<D> {
    /// Closes what was appended with a mark and returns the sync that makes it durable; `None` if all of it is.
    ///
    /// # Errors
    /// When the log is poisoned.
    ///
    /// # Panics
    /// When the last job was not finished.
    pub fn begin_sync(&mut self) -> Result<Option<SyncJob<D::Slot>>, Poisoned> {
        self.check_poisoned()?;
        if self.written() == self.durable {
            return Ok(None);
        }
        let content = self.written();
        self.begin_marked(Some(content)).map(Some)
    }

    /// Returns the sync of a bare mark, which covers the last batch; `None` if a mark or the headers cover it
    /// already. For quiet moments.
    ///
    /// # Errors
    /// When the log is poisoned.
    pub fn begin_idle_mark(&mut self) -> Result<Option<SyncJob<D::Slot>>, Poisoned> {
        self.check_poisoned()?;
        let covered = self.sync.marked >= self.sync.content || self.sync.content == Lsn(u64::MAX);
        if self.written() != self.durable || covered || !self.fits(0) {
            return Ok(None);
        }
        self.begin_marked(None).map(Some)
    }

    fn begin_marked(&mut self, content: Option<Lsn>) -> Result<SyncJob<D::Slot>, Poisoned> {
        assert!(!self.sync.in_flight, "one sync at a time");
        let position = self.written();
        let (durable, state) = (self.durable, self.hard_state);
        let mark = Mark { position, durable, vote: state.vote, commit: state.commit };
        let id = LogId { term: state.term, index: self.cursor.base };
        self.append_control(Kind::Mark, 0, id, &mark.encode())?;
        self.sync.in_flight = true;
        let mut effects = Vec::with_capacity(1);
        let first = self.segments.partition_point(|segment| segment.header.lsn(segment.end) <= durable);
        for segment in self.segments.iter().skip(first) {
            if !segment.header_stored {
                let block = segment.header.encode();
                effects.push(Effect::Header(segment.slot.clone(), HeaderCopy::Head, block.clone()));
                effects.push(Effect::Header(segment.slot.clone(), HeaderCopy::Tail, block));
            }
            effects.push(Effect::Sync(segment.slot.clone()));
        }
        Ok(SyncJob { effects, target: self.written(), purpose: Purpose::Batch { marked: durable, content } })
    }

    /// Returns the rewrite of the header copies, one after the other, with the durable position at the log's end;
    /// `None` if they name it, or if something is not durable. For quiet moments, and before closing.
    ///
    /// # Errors
    /// When the log is poisoned.
    pub fn begin_headers(&mut self) -> Result<Option<SyncJob<D::Slot>>, Poisoned> {
        self.check_poisoned()?;
        if self.written() != self.durable || self.sync.headers == self.durable {
            return Ok(None);
        }
        assert!(!self.sync.in_flight, "one sync at a time");
        self.sync.in_flight = true;
        let (durable, hard_state, purged) = (self.durable, self.hard_state, self.purged);
        // The segment before names the end too, so that the loss of the whole active slot shows.
        let first = self.segments.len().saturating_sub(2);
        let mut blocks = Vec::new();
        for segment in self.segments.iter_mut().skip(first) {
            let generation = segment.header.generation + 1;
            segment.header = SegmentHeader { durable, hard_state, purged, generation, ..segment.header };
            blocks.push((segment.slot.clone(), segment.header.encode()));
        }
        let mut effects = Vec::new();
        for copy in [HeaderCopy::Head, HeaderCopy::Tail] {
            for (slot, block) in &blocks {
                effects.push(Effect::Header(slot.clone(), copy, block.clone()));
                effects.push(Effect::Sync(slot.clone()));
            }
        }
        Ok(Some(SyncJob { effects, target: durable, purpose: Purpose::Headers }))
    }

    /// Takes the result of a job: moves the durable position, or poisons the log for good. Frees the slots that
    /// purging emptied.
    ///
    /// # Errors
    /// When the job failed, or the log was poisoned meanwhile.
    pub fn finish_sync(&mut self, job: SyncJob<D::Slot>, result: io::Result<()>) -> Result<Lsn, Poisoned> {
        assert!(self.sync.in_flight, "no sync was begun");
        self.sync.in_flight = false;
        if let Err(error) = result {
            self.poison(Poisoned::from(&error));
        }
        self.check_poisoned()?;
        self.durable = job.target;
        match job.purpose {
            Purpose::Batch { marked, content } => {
                self.sync.marked = self.sync.marked.max(marked);
                self.sync.content = content.unwrap_or(self.sync.content);
                for segment in &mut self.segments {
                    segment.header_stored |= segment.header.lsn(0) < job.target;
                }
            }
            Purpose::Headers => {
                self.sync.headers = job.target;
                self.sync.marked = job.target;
            }
        }
        drop(job); // It holds slots that may now be freed.
        self.reclaim();
        Ok(self.durable)
    }

    /// Returns whether a job is under way.
    pub fn is_syncing(&self) -> bool {
        self.sync.in_flight
    }

    /// Returns whether a mark or the headers on the disk cover everything, so that quiet needs no more writes.
    pub fn is_settled(&self) -> bool {
        self.written() == self.durable && self.sync.headers == self.durable
    }

    /// Frees the segments that hold nothing but purged entries, once the purge itself is durable.
    fn reclaim(&mut self) {
        while let Some(&(end, id)) = self.sync.purges.front()
            && end <= self.durable
        {
            self.sync.purged_durable = id;
            self.sync.purges.pop_front();
        }
        let purged = self.sync.purged_durable.index;
        // What is live lies in the newest segment that begins at or below the purged entry, and in those after it.
        let keep = self.segments.iter().rposition(|s| s.header.base.index <= purged && s.header_stored);
        for _ in 0..keep.unwrap_or(0) {
            if let Some(segment) = self.segments.pop_front() {
                self.pool.add_free(retired(segment));
            }
        }
    }
}

/// Turns a segment into an empty slot that remembers its salts.
pub(crate) fn retired<S>(segment: Segment<S>) -> Spare<S> {
    Spare { slot: segment.slot, old_salts: salts_after(&segment.header) }
}

/// Returns the salts that the next life of a slot with this header remembers.
pub(crate) fn salts_after(header: &SegmentHeader) -> [u32; OLD_SALTS] {
    let mut salts = [header.salt; OLD_SALTS];
    salts[1..].copy_from_slice(&header.old_salts[..OLD_SALTS - 1]);
    salts
}
