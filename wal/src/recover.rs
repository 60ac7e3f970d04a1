//! Rebuilds the log from its segments' bytes, one after the other, oldest first. Pure; it writes nothing.
//!
//! Whole batches are kept or dropped. An invalid record below the largest durable position that any valid header or
//! mark names was acknowledged: damage. At or above it is a torn tail.

use std::path::{Path, PathBuf};

use crate::error::{Damage, DamageKind};
use crate::format::{
    DATA_START, FLAG_FIRST, FLAG_LAST, FLAG_RESET, Kind, Mark, Seal, SegmentHeader, decode_hard_state,
    decode_repair_position,
};
use crate::index::{EntryIndex, Place};
use crate::plan::Chain;
use crate::scan::{Scanned, Step, Verdict, Walk};
use crate::types::{EntryMeta, HardState, Index, LogId, Lsn, Term};

/// A tail that was begun but never acknowledged, and is dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The slot file.
    pub file: PathBuf,
    /// Where the dropped batch begins in it.
    pub offset: u64,
    /// The same as a position.
    pub lsn: Lsn,
}

/// Where the log goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The newest segment.
    pub seq: u64,
    /// Where its last whole batch ends.
    pub offset: u64,
    /// The header checksum of its last record.
    pub link: u32,
    /// Its seal, if it ended with one: then the log goes on in the next segment.
    pub seal: Option<Seal>,
}

/// What the segments say. Built by [`Replay::slot`] for each live segment, then [`Replay::finish`].
#[derive(Debug)]
pub struct Replay {
    /// Everything below was acknowledged.
    pub durable: Lsn,
    /// The newest hard state.
    pub hard_state: HardState,
    /// The newest entry that is purged or in a snapshot that the log was told of.
    pub purged: LogId,
    /// The shape of each live entry, in order.
    pub entries: Vec<EntryMeta>,
    /// Where the log goes on; `None` before the first segment.
    pub tail: Option<Tail>,
    /// How the newest segment ended.
    pub verdict: Verdict,
    /// The tail that was dropped.
    pub torn: Option<TornTail>,
    pub(crate) index: EntryIndex,
    hard_state_at: Lsn,
    found: Vec<Found>,
    repairs: Vec<(Lsn, LogId, Place)>,
    lossy: bool,
}

/// A damaged place, with what is needed to tell whether it matters.
#[derive(Debug)]
struct Found {
    damage: Damage,
    seq: u64,
    /// The next entry that was found behind it.
    next: Option<Index>,
    /// Only this entry is hurt, not the stream of records.
    entry_only: bool,
}

/// Damage, sorted by whether the log can go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// Live data is damaged; lowest first.
    pub fatal: Vec<Damage>,
    /// Only what is purged or repaired is damaged.
    pub reported: Vec<Damage>,
}

/// The state of a walk through one segment.
struct SlotReplay<'a> {
    header: &'a SegmentHeader,
    file: &'a Path,
    batch_start: Option<u64>,
    pending: Vec<Scanned<'a>>,
    end: u64,
    link: u32,
    seal: Option<Seal>,
    searched: bool,
}

impl Replay {
    /// Begins before the oldest live segment of `chain`.
    pub fn new(chain: &Chain) -> Replay {
        let base = chain.live.first().map_or(LogId::default(), |(_, header)| header.base);
        Replay {
            durable: chain.durable,
            hard_state: HardState::default(),
            purged: chain.purged,
            entries: Vec::new(),
            tail: None,
            verdict: Verdict::Clean,
            torn: None,
            index: EntryIndex::new(base),
            hard_state_at: Lsn(0),
            found: Vec::new(),
            repairs: Vec::new(),
            lossy: false,
        }
    }

    /// Replays one segment. `successor` is the header of the next one, if there is one: it says where this one ends.
    pub fn slot(&mut self, header: &SegmentHeader, file: &Path, bytes: &[u8], successor: Option<&SegmentHeader>) {
        self.hard_state_from(header.durable, header.hard_state);
        self.check_predecessor(header, file);
        if std::mem::take(&mut self.lossy) && self.index.last_id() != header.base {
            // The end of what came before is not known; the header says where it was. Damage that hurts live entries
            // is fatal anyway.
            self.index.reset(header.base);
            self.entries.clear();
        }
        let limit = successor.map(|next| next.prev_end.0.saturating_sub(header.lsn(0).0));
        let mut walk = Walk::new(header, bytes, limit);
        let mut slot = SlotReplay {
            header,
            file,
            batch_start: None,
            pending: Vec::new(),
            end: DATA_START,
            link: header.prev_check,
            seal: None,
            searched: successor.is_some(),
        };
        loop {
            let at = walk.offset();
            let link = walk.link();
            let step = walk.step();
            if let Step::Record(record) = step
                && record.payload_ok()
            {
                self.take(&mut slot, record);
                if slot.seal.is_some() {
                    self.verdict = Verdict::Clean;
                    if let Some(next) = successor {
                        self.check_sealed_by(next, &slot);
                    }
                    break;
                }
                continue;
            }
            if let (Step::Full, Some(next)) = (step, successor) {
                self.check_sealed_by(next, &slot);
                break;
            }
            if !slot.searched {
                slot.searched = true;
                self.durable = self.durable.max(walk.largest_mark_ahead().unwrap_or_default());
            }
            let durable = self.durable.0.saturating_sub(header.lsn(0).0);
            let verdict = step.judge(at, slot.batch_start, durable, link);
            match verdict {
                Some(Verdict::Corrupt { why, .. }) => {
                    if !self.step_over(&mut walk, &mut slot, step, at, why) {
                        break;
                    }
                }
                Some(verdict) => {
                    self.end(verdict, &slot);
                    break;
                }
                None => unreachable!("a good record was taken above"),
            }
        }
        self.tail = Some(Tail { seq: header.seq, offset: slot.end, link: slot.link, seal: slot.seal });
    }

    fn check_predecessor(&mut self, header: &SegmentHeader, file: &Path) {
        let Some(tail) = self.tail else { return };
        let known = self.found.last().is_none_or(|found| found.seq != tail.seq);
        if known && tail.link != header.prev_check {
            let why = DamageKind::Link { expected: tail.link, stored: header.prev_check };
            self.push_damage(header, file, DATA_START, why, None, false);
        }
    }

    fn check_sealed_by(&mut self, next: &SegmentHeader, slot: &SlotReplay<'_>) {
        let hurt = self.found.last().is_some_and(|found| found.seq == slot.header.seq);
        if !hurt && (slot.link != next.prev_check || slot.header.lsn(slot.end) != next.prev_end) {
            let why = DamageKind::Link { expected: next.prev_check, stored: slot.link };
            self.push_damage(slot.header, slot.file, slot.end, why, None, false);
        }
    }

    /// Notes damage and moves behind it. Returns whether anything is left to walk.
    fn step_over(
        &mut self,
        walk: &mut Walk<'_>,
        slot: &mut SlotReplay<'_>,
        step: Step<'_>,
        at: u64,
        why: DamageKind,
    ) -> bool {
        if let Step::Record(record) = step {
            // The header is good: we know what was lost, and where the next record is.
            let index = record.header.index(slot.header.base.index);
            let is_entry = matches!(record.header.kind, Kind::Entry | Kind::Repair);
            let id = index.filter(|_| is_entry).map(|index| LogId { term: record.header.term, index });
            self.push_damage(slot.header, slot.file, at, why, id, is_entry);
            self.take_damaged(slot, &record, is_entry);
            return true;
        }
        // The damage may be in the index or the term, so only their fit to what came before makes them believable.
        let guess = walk.guess().filter(|header| header.kind == Kind::Entry);
        let guessed = guess.and_then(|header| Some((header.index(slot.header.base.index)?, header.term)));
        let expected = expected_entry(self.index.last(), slot.header.base.index, &slot.pending);
        let before = self.index.last_id().term;
        let id = match guessed.filter(|(index, term)| *index == expected && *term >= before) {
            Some((index, term)) => LogId { term, index },
            None => LogId { term: before, index: expected },
        };
        self.push_damage(slot.header, slot.file, at, why, Some(id), false);
        self.lossy = true;
        slot.batch_start = None;
        slot.pending.clear();
        if let Step::Unlinked(_) = step {
            walk.relink();
            return true;
        }
        walk.resync()
    }

    fn push_damage(
        &mut self,
        header: &SegmentHeader,
        file: &Path,
        offset: u64,
        why: DamageKind,
        id: Option<LogId>,
        entry_only: bool,
    ) {
        self.found.push(Found {
            damage: Damage {
                file: file.to_path_buf(),
                offset,
                lsn: Some(header.lsn(offset)),
                index: id.map(|id| id.index),
                term: id.map(|id| id.term),
                why,
            },
            seq: header.seq,
            next: None,
            entry_only,
        });
    }

    fn end(&mut self, verdict: Verdict, slot: &SlotReplay<'_>) {
        if let Verdict::Torn { .. } = verdict {
            self.torn =
                Some(TornTail { file: slot.file.to_path_buf(), offset: slot.end, lsn: slot.header.lsn(slot.end) });
        }
        self.verdict = verdict;
    }

    /// Takes a good record: applies its batch once it is whole.
    fn take<'a>(&mut self, slot: &mut SlotReplay<'a>, record: Scanned<'a>) {
        let begins = record.header.flags & FLAG_FIRST != 0;
        if begins && slot.batch_start.is_some() && !self.lossy {
            // A batch was left open, yet the chain goes on: nothing that we write looks like this.
            self.push_damage(slot.header, slot.file, record.offset, DamageKind::Order, None, false);
        }
        if begins || slot.batch_start.is_none() {
            slot.pending.clear();
            slot.batch_start = Some(record.offset);
        }
        slot.pending.push(record);
        if record.header.flags & FLAG_LAST == 0 {
            return;
        }
        let batch = std::mem::take(&mut slot.pending);
        for record in &batch {
            self.apply(slot, record);
        }
        slot.pending = batch;
        slot.pending.clear();
        slot.batch_start = None;
        slot.end = record.end();
        slot.link = record.check;
    }

    /// Takes the place of a record with a good header and a bad payload, so that what follows still fits.
    fn take_damaged(&mut self, slot: &mut SlotReplay<'_>, record: &Scanned<'_>, is_entry: bool) {
        for record in std::mem::take(&mut slot.pending) {
            self.apply(slot, &record);
        }
        if is_entry {
            self.apply_entry(slot, record, record.header.length);
        } else {
            self.lossy = true;
        }
        slot.batch_start = (record.header.flags & FLAG_LAST == 0).then_some(record.offset);
        slot.end = record.end();
        slot.link = record.check;
    }

    fn apply(&mut self, slot: &mut SlotReplay<'_>, record: &Scanned<'_>) {
        let header = &record.header;
        let lsn = slot.header.lsn(record.offset);
        let id = header.index(slot.header.base.index).map(|index| LogId { term: header.term, index });
        match (header.kind, id) {
            (Kind::Entry, _) => self.apply_entry(slot, record, header.length),
            (Kind::HardState, _) => {
                if let Some(state) = decode_hard_state(header.term, record.payload) {
                    self.hard_state_from(lsn, state);
                }
            }
            (Kind::Truncate, Some(LogId { term, index })) => self.truncate(index, term),
            (Kind::Snapshot, Some(id)) if header.flags & FLAG_RESET != 0 => {
                self.purged = id;
                self.index.reset(id);
                self.entries.clear();
            }
            (Kind::Snapshot, Some(id)) => self.purged = self.purged.max_index(id),
            (Kind::Mark, _) => {
                if let Some(mark) = Mark::decode(record.payload, lsn) {
                    self.durable = self.durable.max(mark.durable);
                    let state = HardState { term: header.term, vote: mark.vote, commit: mark.commit };
                    self.hard_state_from(lsn, state);
                }
            }
            (Kind::Seal, _) => slot.seal = Seal::decode(record.payload),
            (Kind::Repair, Some(id)) => {
                let place = Place { seq: slot.header.seq, offset: record.offset };
                let position = decode_repair_position(record.payload);
                self.repairs.extend(position.map(|position| (position, id, place)));
            }
            (Kind::Pad | Kind::Reopen, _) | (Kind::Truncate | Kind::Snapshot | Kind::Repair, None) => {}
        }
    }

    fn apply_entry(&mut self, slot: &SlotReplay<'_>, record: &Scanned<'_>, payload_bytes: u32) {
        let term = record.header.term;
        let Some(index) = record.header.index(slot.header.base.index) else { return };
        for found in self.found.iter_mut().rev().take_while(|found| found.next.is_none()) {
            found.next = Some(index);
        }
        let last = self.index.last_id();
        if index != last.index.next() || term < last.term {
            if !self.lossy {
                let id = LogId { term, index };
                self.push_damage(slot.header, slot.file, record.offset, DamageKind::Order, Some(id), false);
            }
            if index <= last.index {
                self.truncate(index, self.index.term(index.previous()).unwrap_or(term));
            } else {
                self.index.reset(LogId { term, index: index.previous() });
                self.entries.clear();
            }
        }
        self.index.push(term, Place { seq: slot.header.seq, offset: record.offset });
        self.entries.push(EntryMeta { index, term, payload_bytes });
    }

    fn truncate(&mut self, from: Index, term_before: Term) {
        self.index.truncate(from, term_before);
        let keep = self.entries.partition_point(|entry| entry.index < from);
        self.entries.truncate(keep);
    }

    fn hard_state_from(&mut self, lsn: Lsn, state: HardState) {
        if lsn >= self.hard_state_at {
            self.hard_state_at = lsn;
            self.hard_state = state;
        }
    }

    /// Ends the replay: purges, heals what was repaired, and judges the damage that was found.
    pub fn finish(&mut self, chain: &Chain) -> Judged {
        let mut judged = Judged { fatal: chain.damaged.clone(), reported: chain.reported.clone() };
        judged.fatal.extend(chain.gap(self.purged));
        let start = chain.live.iter().rev().find(|(_, header)| header.base.index <= self.purged.index);
        let start_seq = start.map_or(0, |(_, header)| header.seq);
        for (position, id, place) in &self.repairs {
            let hurt = self.found.iter_mut().find(|found| found.damage.lsn == Some(*position) && found.entry_only);
            if let Some(hurt) = hurt.filter(|hurt| hurt.damage.index == Some(id.index)) {
                hurt.next = Some(Index(0)); // Healed: nothing live depends on the damaged bytes.
            }
            if self.index.term(id.index) == Some(id.term) {
                self.index.replace(id.index, *place);
            }
        }
        for found in self.found.drain(..) {
            let entry_purged = found.entry_only && found.damage.index.is_some_and(|index| index <= self.purged.index);
            let excused = entry_purged || found.next.is_some_and(|next| next <= self.purged.index);
            if found.seq < start_seq {
                continue; // The slot is free: whatever it holds, nobody reads it again.
            }
            if excused { judged.reported.push(found.damage) } else { judged.fatal.push(found.damage) }
        }
        if judged.fatal.is_empty() {
            judged.fatal.extend(self.missing_end(chain));
        }
        judged.fatal.sort_by_key(|damage| (damage.lsn, damage.offset));
        self.purge();
        judged
    }

    /// Names the end of the log as damaged if more than it has was acknowledged.
    fn missing_end(&self, chain: &Chain) -> Option<Damage> {
        let tail = self.tail?;
        let (candidate, header) = chain.live.last()?;
        (header.lsn(tail.offset) < self.durable).then(|| Damage {
            file: candidate.file.clone(),
            offset: tail.offset,
            lsn: Some(header.lsn(tail.offset)),
            index: Some(self.index.last().next()),
            term: None,
            why: if tail.seal.is_some() { DamageKind::Gap { seq: tail.seq + 1 } } else { DamageKind::Missing },
        })
    }

    fn purge(&mut self) {
        self.index.purge(self.purged);
        let gone = self.entries.partition_point(|entry| entry.index < self.index.first());
        self.entries.drain(..gone);
    }
}

/// Returns the index of the entry that would follow: after `last`, and what the batch under way does to it.
fn expected_entry(last: Index, base: Index, pending: &[Scanned<'_>]) -> Index {
    pending.iter().fold(last.next(), |next, record| match record.header.kind {
        Kind::Entry => next.next(),
        Kind::Truncate => record.header.index(base).unwrap_or(next),
        _ => next,
    })
}

impl LogId {
    fn max_index(self, other: LogId) -> LogId {
        if other.index > self.index { other } else { self }
    }
}
