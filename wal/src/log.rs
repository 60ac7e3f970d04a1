//! The log without threads and clocks: append, truncate, purge, read. [`crate::Wal`] runs it on real files; a
//! simulator drives it directly.
//!
//! The caller loops: `append`…, then [`Log::begin_sync`], run the job, [`Log::finish_sync`]; what is below
//! [`Log::durable`] is safe.

use std::collections::VecDeque;
use std::io::IoSlice;

use crate::disk::{Disk, Slot};
use crate::encode::{BatchRecords, Cursor, NewRecord, batch_bytes, hard_state_payload, terminate};
use crate::error::{AppendError, Poisoned, PurgeError, ReadError};
use crate::format::{
    DATA_START, FLAG_FIRST, FLAG_LAST, FLAG_RESET, Kind, MARK_BYTES, SEAL_BYTES, Seal, SegmentHeader, TERMINATOR,
    record_bytes, to_usize,
};
use crate::index::{EntryIndex, Place};
use crate::options::Options;
use crate::pool::{Pool, PrepareTask, Prepared, Spare};
use crate::read::{Located, LogEntry};
use crate::types::{Batch, HardState, Index, LogId, Lsn, Term};

/// Batches of at least this many bytes are stored from where their payloads lie, without a copy in between.
const GATHER_BYTES_MIN: u64 = 16 * 1024;

/// A segment of the log in its slot.
#[derive(Clone, Debug)]
pub(crate) struct Segment<S> {
    pub(crate) slot: S,
    pub(crate) header: SegmentHeader,
    /// Where its records end.
    pub(crate) end: u64,
    /// Whether its header is on the disk. It is stored only after the segment before is durable to its end.
    pub(crate) header_stored: bool,
}

/// The log over some disk.
///
/// - `segments` is never empty; the last one is active. Their sequences are consecutive.
/// - The active segment has room for a mark (unless the last record is one) and a seal.
/// - `durable <= written()`, and `marked <= durable`.
pub struct Log<D: Disk> {
    pub(crate) disk: D,
    pub(crate) options: Options,
    pub(crate) salts: Salts,
    pub(crate) segments: VecDeque<Segment<D::Slot>>,
    pub(crate) pool: Pool<D::Slot>,
    pub(crate) index: EntryIndex,
    pub(crate) hard_state: HardState,
    pub(crate) purged: LogId,
    pub(crate) cursor: Cursor,
    pub(crate) durable: Lsn,
    pub(crate) sync: crate::sync::SyncState,
    pub(crate) poisoned: Option<Poisoned>,
    scratch: Vec<u8>,
    places: Vec<u64>,
    appended_bytes: u64,
}

/// How many slots there are, and what they hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Slots of the log itself.
    pub live_slots: usize,
    /// Slots that are ready to be used, the reserve included.
    pub prepared_slots: usize,
    /// Slots that are free but not yet ready.
    pub free_slots: usize,
    /// The last slot could not be made for want of space.
    pub full: bool,
    /// Only batches that may use the reserve are taken.
    pub exhausted: bool,
}

/// The parts that opening puts together.
pub(crate) struct Parts<D: Disk> {
    pub(crate) disk: D,
    pub(crate) options: Options,
    pub(crate) salts: Salts,
    pub(crate) segments: VecDeque<Segment<D::Slot>>,
    pub(crate) pool: Pool<D::Slot>,
    pub(crate) index: EntryIndex,
    pub(crate) hard_state: HardState,
    pub(crate) purged: LogId,
    pub(crate) link: u32,
}

impl<D: Disk> Log<D> {
    pub(crate) fn assemble(parts: Parts<D>) -> Log<D> {
        let active = parts.segments.back().expect("opening makes a segment");
        let cursor =
            Cursor { salt: active.header.salt, base: active.header.base.index, offset: active.end, link: parts.link };
        let durable = active.header.lsn(active.end);
        Log {
            disk: parts.disk,
            options: parts.options,
            salts: parts.salts,
            segments: parts.segments,
            pool: parts.pool,
            index: parts.index,
            hard_state: parts.hard_state,
            purged: parts.purged,
            cursor,
            durable,
            sync: crate::sync::SyncState::new(parts.purged),
            poisoned: None,
            scratch: Vec::new(),
            places: Vec::new(),
            appended_bytes: 0,
        }
    }

    /// Appends a batch, whole or not at all. Not durable before a sync that began after this returns.
    ///
    /// Returns the position that must be durable for the batch to be.
    ///
    /// # Errors
    /// See [`AppendError`]; nothing has changed, unless the log is poisoned.
    pub fn append(&mut self, batch: &Batch<'_>) -> Result<Lsn, AppendError> {
        self.check_poisoned()?;
        let truncate = self.check(batch)?;
        let may_use_reserve = batch.may_use_reserve || batch.entries.is_empty();
        let bytes = batch_bytes(batch);
        let lowest = truncate.map_or(self.index.last(), |(from, _)| from);
        let highest = batch.entries.last().map_or(lowest, |entry| entry.index);
        self.make_room(bytes, [lowest, highest], may_use_reserve)?;
        self.store(batch, truncate, bytes)?;
        if let Some(state) = batch.hard_state {
            self.hard_state = state;
        }
        if let Some((from, term_before)) = truncate {
            self.index.truncate(from, term_before);
        }
        let seq = self.active().header.seq;
        for (entry, &offset) in batch.entries.iter().zip(&self.places) {
            self.index.push(entry.term, Place { seq, offset });
        }
        Ok(self.written())
    }

    /// Declares that everything up to `upto` is in a snapshot that is durable: those entries are gone at once, their
    /// slots as soon as this is durable and whole slots hold nothing else.
    ///
    /// Returns the position that must be durable for slots to be freed, or `None` if nothing was there to purge.
    ///
    /// # Errors
    /// See [`PurgeError`].
    pub fn purge(&mut self, upto: Index) -> Result<Option<Lsn>, PurgeError> {
        if upto < self.index.first() {
            return Ok(None);
        }
        let last = self.index.last();
        let Some(term) = self.index.term(upto) else { return Err(PurgeError::Beyond { upto, last }) };
        let id = LogId { term, index: upto };
        self.append_snapshot(id, 0)?;
        self.index.purge(id);
        Ok(Some(self.written()))
    }

    /// Drops every entry: the log goes on after `last`, the last entry of a snapshot that came from elsewhere and is
    /// durable.
    ///
    /// # Errors
    /// See [`AppendError`]. A reset below what is purged is refused.
    pub fn reset(&mut self, last: LogId) -> Result<Lsn, AppendError> {
        if last.index < self.purged.index {
            return Err(AppendError::Truncates { from: last.index.next(), kept: self.purged.index });
        }
        self.append_snapshot(last, FLAG_RESET)?;
        self.index.reset(last);
        Ok(self.written())
    }

    fn append_snapshot(&mut self, id: LogId, flag: u8) -> Result<(), AppendError> {
        self.check_poisoned()?;
        self.make_room(record_bytes(0), [id.index, id.index], true)?;
        self.append_control(Kind::Snapshot, flag, id, &[])?;
        self.purged = id;
        self.sync.purges.push_back((self.written(), id));
        Ok(())
    }

    /// Returns the entry with its payload checked.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn entry(&self, index: Index) -> Result<LogEntry<<D::Slot as Slot>::View>, ReadError> {
        self.locate(index)?.read(&self.disk)
    }

    /// Returns where the entry is, to be read without holding the log. Until then its slot is not recycled.
    pub(crate) fn locate(&self, index: Index) -> Result<Located<D::Slot>, ReadError> {
        let Some(place) = self.index.place(index) else {
            let (first, last) = (self.index.first(), self.index.last());
            return Err(if index < first {
                ReadError::Purged { index, first }
            } else {
                ReadError::Beyond { index, last }
            });
        };
        let segment = self.segment(place.seq);
        let lsn = segment.header.lsn(place.offset);
        if let Some(poisoned) = &self.poisoned
            && lsn >= self.durable
        {
            return Err(poisoned.clone().into());
        }
        let term = self.index.term(index).unwrap_or_default();
        let (slot, salt) = (segment.slot.clone(), segment.header.salt);
        Ok(Located { slot, salt, offset: place.offset, lsn, id: LogId { term, index } })
    }

    /// Returns the term of an entry, or of the last purged one.
    pub fn term(&self, index: Index) -> Option<Term> {
        self.index.term(index)
    }

    /// Returns the index of the first entry; one above the last if there is none.
    pub fn first_index(&self) -> Index {
        self.index.first()
    }

    /// Returns the index of the last entry; one below the first if there is none.
    pub fn last_index(&self) -> Index {
        self.index.last()
    }

    /// Returns the entry before the first: the newest that is purged.
    pub fn purged(&self) -> LogId {
        self.index.before()
    }

    /// Returns the newest hard state, durable or not.
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// Returns the position up to which everything is on the disk.
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// Returns the position up to which everything is stored, durable or not.
    pub fn written(&self) -> Lsn {
        self.active().header.lsn(self.cursor.offset)
    }

    /// Returns how many bytes are stored but not durable.
    pub fn unsynced_bytes(&self) -> u64 {
        self.written().0 - self.durable.0
    }

    /// Returns how many bytes were stored since the log was opened.
    pub fn appended_bytes(&self) -> u64 {
        self.appended_bytes
    }

    /// Returns why the log is poisoned, if it is.
    pub fn poisoned(&self) -> Option<&Poisoned> {
        self.poisoned.as_ref()
    }

    /// Returns the options, with the segment size that the log has.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Returns the state of the slots.
    pub fn space(&self) -> Space {
        let (free_slots, prepared_slots) = self.pool.counts();
        Space {
            live_slots: self.segments.len(),
            prepared_slots,
            free_slots,
            full: self.pool.is_full(),
            exhausted: self.pool.is_exhausted(),
        }
    }

    /// Returns the bytes of memory that the index takes.
    pub fn index_bytes(&self) -> u64 {
        self.index.memory_bytes()
    }

    /// Returns the disk.
    pub fn disk(&self) -> &D {
        &self.disk
    }

    /// Ends the log at once, saying why: nothing more is appended or synced.
    pub fn poison(&mut self, why: Poisoned) {
        self.poisoned.get_or_insert(why);
    }

    /// Returns whether there is an empty slot to make that may succeed now.
    pub fn wants_slot(&self) -> bool {
        self.poisoned.is_none() && self.pool.wants()
    }

    /// Returns the making of an empty slot, if one is wanted. One at a time.
    pub fn take_prepare_task(&mut self) -> Option<PrepareTask<D::Slot>> {
        if self.poisoned.is_some() {
            return None;
        }
        self.pool.take_task(self.options.segment_bytes)
    }

    /// Takes the slot that a task made. A full disk is remembered (see [`Space`]); any other failure poisons the log.
    pub fn finish_prepare(&mut self, made: Prepared<D::Slot>) {
        if let Err(error) = self.pool.finish_task(made) {
            self.poison(Poisoned::from(&error));
        }
    }

    /// Makes all slots that are wanted, here and now: for callers without a thread for it.
    pub fn prepare(&mut self) {
        while let Some(task) = self.take_prepare_task() {
            let made = task.run(&self.disk);
            self.finish_prepare(made);
            if self.pool.is_full() {
                return;
            }
        }
    }

    pub(crate) fn active(&self) -> &Segment<D::Slot> {
        self.segments.back().expect("never empty")
    }

    fn segment(&self, seq: u64) -> &Segment<D::Slot> {
        let oldest = self.segments.front().expect("never empty").header.seq;
        &self.segments[to_usize(seq - oldest)]
    }

    pub(crate) fn check_poisoned(&self) -> Result<(), Poisoned> {
        self.poisoned.clone().map_or(Ok(()), Err)
    }

    /// Checks that a batch continues the log. Returns the truncation with the term of the entry before it, if there
    /// is anything to drop.
    fn check(&self, batch: &Batch<'_>) -> Result<Option<(Index, Term)>, AppendError> {
        if let Some(new) = batch.hard_state {
            let old = self.hard_state;
            let revoted = new.term == old.term && old.vote != 0 && new.vote != old.vote;
            if new.term < old.term || new.commit < old.commit || revoted {
                return Err(AppendError::HardState);
            }
        }
        let mut last = self.index.last_id();
        let mut truncate = None;
        if let Some(from) = batch.truncate_from.filter(|&from| from <= last.index) {
            let kept = self.hard_state.commit.max(self.index.before().index);
            if from <= kept {
                return Err(AppendError::Truncates { from, kept });
            }
            let term = self.index.term(from.previous()).unwrap_or_default();
            truncate = Some((from, term));
            last = LogId { term, index: from.previous() };
        }
        let limit = self.options.entry_bytes_max();
        for entry in batch.entries {
            if entry.index != last.index.next() || entry.term < last.term {
                return Err(AppendError::Misordered { found: entry.index, term: entry.term, last: last.index });
            }
            let bytes = entry.payload.len() as u64;
            if bytes > limit {
                return Err(AppendError::TooLarge { bytes, limit });
            }
            last = LogId { term: entry.term, index: entry.index };
        }
        Ok(truncate)
    }

    pub(crate) fn fits(&self, bytes: u64) -> bool {
        self.cursor.offset + bytes + MARK_BYTES + SEAL_BYTES + TERMINATOR <= self.active().header.limit()
    }

    /// Makes sure that `bytes` fit into the active segment, by a new one if need be.
    fn make_room(&mut self, bytes: u64, indexes: [Index; 2], may_use_reserve: bool) -> Result<(), AppendError> {
        let limit = self.options.batch_bytes_max();
        if bytes > limit {
            return Err(AppendError::TooLarge { bytes, limit });
        }
        if !may_use_reserve && self.pool.is_exhausted() {
            return Err(AppendError::NoSpace);
        }
        let nameable = indexes.iter().all(|&index| self.cursor.can_name(index));
        if self.fits(bytes) && nameable {
            return Ok(());
        }
        let Some(spare) = self.pool.take(may_use_reserve) else {
            return Err(if self.pool.is_full() { AppendError::NoSpace } else { AppendError::Busy });
        };
        let base = if nameable { self.index.last_id() } else { LogId { index: indexes[1], ..self.index.last_id() } };
        self.rotate(spare, base)
    }

    /// Seals the active segment and goes on in `spare`.
    pub(crate) fn rotate(&mut self, spare: Spare<D::Slot>, base: LogId) -> Result<(), AppendError> {
        let next_seq = self.active().header.seq + 1;
        let next_salt = self.salts.next_salt(&spare.old_salts);
        let seal = Seal { next_seq, next_salt, index_words: 0 }.encode();
        let id = LogId { index: self.cursor.base, term: Term(0) };
        self.append_control(Kind::Seal, 0, id, &seal)?;
        self.begin_segment(spare, next_salt, base);
        Ok(())
    }

    /// Goes on in `spare`, after the seal of the active segment.
    pub(crate) fn begin_segment(&mut self, spare: Spare<D::Slot>, salt: u32, base: LogId) {
        let before = &self.active().header;
        let header = SegmentHeader {
            seq: before.seq + 1,
            base,
            prev_end: self.written(),
            prev_check: self.cursor.link,
            salt,
            old_salts: spare.old_salts,
            hard_state: self.hard_state,
            durable: self.written(),
            purged: self.purged,
            generation: 0,
            ..*before
        };
        self.cursor = Cursor { salt, base: base.index, offset: DATA_START, link: self.cursor.link };
        self.segments.push_back(Segment { slot: spare.slot, header, end: DATA_START, header_stored: false });
    }

    /// Appends one record that is a batch of its own. The caller has made room.
    pub(crate) fn append_control(&mut self, kind: Kind, flag: u8, id: LogId, payload: &[u8]) -> Result<(), Poisoned> {
        let flags = FLAG_FIRST | FLAG_LAST | flag;
        let mut out = std::mem::take(&mut self.scratch);
        out.clear();
        let start = self.cursor.offset;
        self.cursor.append(&NewRecord { kind, flags, term: id.term, index: id.index, payload }, &mut out);
        terminate(&mut out);
        let stored = self.active().slot.store(start, &[IoSlice::new(&out)]);
        self.scratch = out;
        self.publish(start, stored)
    }

    fn store(&mut self, batch: &Batch<'_>, truncate: Option<(Index, Term)>, bytes: u64) -> Result<(), Poisoned> {
        let hard_state = hard_state_payload(batch);
        let records = BatchRecords::new(*batch, &hard_state, truncate, self.index.last());
        self.places.clear();
        if records.len() == 0 {
            return Ok(());
        }
        self.scratch.clear();
        let start = self.cursor.offset;
        let stored = if bytes < GATHER_BYTES_MIN {
            records.copy(&mut self.cursor, &mut self.scratch, &mut self.places);
            self.active().slot.store(start, &[IoSlice::new(&self.scratch)])
        } else {
            records.headers(&mut self.cursor, &mut self.scratch, &mut self.places);
            self.active().slot.store(start, &records.parts(&self.scratch))
        };
        assert!(self.cursor.offset == start + bytes, "laid out {} bytes of {bytes}", self.cursor.offset - start);
        self.publish(start, stored)
    }

    fn publish(&mut self, start: u64, stored: std::io::Result<()>) -> Result<(), Poisoned> {
        if let Err(error) = stored {
            // What the slot now holds is unknown, and so is what a later sync would make durable.
            let why = Poisoned::from(&error);
            self.poison(why.clone());
            return Err(why);
        }
        let end = self.cursor.offset;
        let active = self.segments.back_mut().expect("never empty");
        active.slot.publish(end);
        active.end = end;
        self.appended_bytes += end - start;
        Ok(())
    }
}

/// A stream of salts and nonces (`SplitMix64`): unlikely to repeat, not secret.
#[derive(Clone, Debug)]
pub(crate) struct Salts(pub(crate) u64);

impl Salts {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    /// Returns a salt that no remembered life of the slot had.
    pub(crate) fn next_salt(&mut self, old: &[u32]) -> u32 {
        loop {
            let salt = crate::format::narrow(self.next() >> 32);
            if salt != 0 && !old.contains(&salt) {
                return salt;
            }
        }
    }
}
