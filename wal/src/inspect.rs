//! Looks into a log from outside: read-only, with plain reads, on a live or a damaged directory.
//!
//! Takes no lock and writes nothing. Numbers that come from damaged bytes are never trusted. On a live directory the
//! newest batch may be seen half-written, and so look torn; `durable` tells.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::disk::{HeaderCopy, SlotId};
use crate::error::{DamageKind, OpenError};
use crate::format::{
    DATA_START, HEADER_BLOCK, HEADER_LEN, HeaderFault, Kind, RECORD_LEN, RecordHeader, SegmentHeader,
    decode_hard_state, to_usize,
};
use crate::plan::{Candidate, Chain, plan};
use crate::recover::Replay;
use crate::scan::{Scanned, Step, Verdict as ScanVerdict, Walk};
use crate::types::{HardState, Index, Lsn, Term};

/// What a slot is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// Holds an earlier life that nobody needs.
    Free,
    /// Empty.
    Prepared,
    /// The newest segment.
    Active,
    /// A segment before the newest.
    Sealed,
}

/// What is thought of a slot or a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it was written.
    Ok,
    /// Of an earlier life, or of a tail that was dropped.
    Stale,
    /// Begun, never finished, never acknowledged.
    Torn,
    /// Acknowledged, and damaged.
    Corrupt,
}

/// The sort of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The file is good.
    Clean,
    /// A torn tail: dropped at the next start.
    Torn,
    /// Acknowledged bytes are damaged.
    Corrupt,
    /// The file holds an earlier life.
    Stale,
    /// A segment is missing.
    Gap,
    /// A record or segment does not follow the one before it.
    Link,
}

impl SlotState {
    /// Returns the name that tools print.
    pub fn name(self) -> &'static str {
        match self {
            SlotState::Free => "free",
            SlotState::Prepared => "prepared",
            SlotState::Active => "active",
            SlotState::Sealed => "sealed",
        }
    }
}

impl Verdict {
    /// Returns the name that tools print.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Stale => "stale",
            Verdict::Torn => "torn",
            Verdict::Corrupt => "corrupt",
        }
    }
}

impl Class {
    /// Returns the name that tools print.
    pub fn name(self) -> &'static str {
        match self {
            Class::Clean => "clean",
            Class::Torn => "torn",
            Class::Corrupt => "corrupt",
            Class::Stale => "stale",
            Class::Gap => "gap",
            Class::Link => "link",
        }
    }
}

/// One slot file.
#[derive(Clone, Debug)]
pub struct SlotReport {
    /// The file.
    pub file: PathBuf,
    /// Its length in bytes.
    pub length: u64,
    /// The newer of its good header copies.
    pub header: Option<SegmentHeader>,
    /// Whether the first and the last header copy are good.
    pub header_copies_ok: [bool; 2],
    /// What it is used for.
    pub state: SlotState,
    /// The lowest index of its entries.
    pub first_index: Option<Index>,
    /// The highest index of its entries.
    pub last_index: Option<Index>,
    /// The lowest term of its entries.
    pub first_term: Option<Term>,
    /// The highest term of its entries.
    pub last_term: Option<Term>,
    /// How many good records it holds.
    pub records: u64,
    /// Where its last good record ends: the bytes that are used.
    pub tail_offset: u64,
    /// The largest durable position that its marks and headers name.
    pub durable_mark: Option<Lsn>,
    /// What is thought of it.
    pub verdict: Verdict,
}

/// One record, or the place where one is damaged.
#[derive(Clone, Debug)]
pub struct RecordReport {
    /// The slot file.
    pub file: PathBuf,
    /// Where the record begins in it, in bytes.
    pub offset: u64,
    /// The payload's length in bytes; 0 when the header is damaged.
    pub length: u32,
    /// The record's position.
    pub lsn: Lsn,
    /// The index it names; for a damaged header, what it seems to have been.
    pub index: Option<Index>,
    /// The term it names; likewise.
    pub term: Option<Term>,
    /// What it is; `None` when the header is damaged.
    pub kind: Option<Kind>,
    /// The `FLAG_*` bits.
    pub flags: u8,
    /// Whether the header's checksum is right.
    pub header_crc_ok: bool,
    /// Whether the payload's checksum is right.
    pub payload_crc_ok: bool,
    /// The header's checksum, stored and computed.
    pub header_crc: Checksum,
    /// The payload's checksum, stored and computed; zeros when the header is damaged.
    pub payload_crc: Checksum,
    /// The link, as stored, and the checksum of the record before.
    pub link: Checksum,
    /// Whether it lies below the largest durable position that is known: it was acknowledged.
    pub durable: bool,
    /// What is thought of it.
    pub verdict: Verdict,
}

/// A checksum as it is stored and as it should be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checksum {
    /// As stored.
    pub stored: u32,
    /// As computed.
    pub computed: u32,
}

/// One thing that verifying found.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What sort it is.
    pub class: Class,
    /// The file.
    pub file: PathBuf,
    /// The byte offset in it: of the damage, or where a clean file's records end.
    pub offset: u64,
    /// The index that is hurt, as far as known.
    pub index: Option<Index>,
    /// Its term.
    pub term: Option<Term>,
    /// Whether what is hurt was acknowledged.
    pub acknowledged: bool,
    /// Whether the log does not open because of it.
    pub fatal: bool,
    /// The checksum as stored, and as computed, where the damage is one of checksums.
    pub checksum: Option<Checksum>,
    /// In words.
    pub message: String,
}

/// A log directory, looked at once.
#[derive(Debug)]
pub struct LogDir {
    dir: PathBuf,
    chain: Chain,
    segment_bytes: u64,
    replay: Replay,
    fatal: Vec<crate::error::Damage>,
    reported: Vec<crate::error::Damage>,
    slots: Vec<SlotReport>,
}

/// Returns the log's directory: `dir` itself, or its `wal` if `dir` is a node's data directory.
pub fn log_dir(dir: &Path) -> PathBuf {
    let inner = dir.join("wal");
    if inner.is_dir() { inner } else { dir.to_path_buf() }
}

/// Returns whether a process has the log in this directory open, as far as this machine can tell.
pub fn is_live(dir: &Path) -> bool {
    let (Ok(locks), Ok(found)) = (std::fs::read_to_string("/proc/locks"), std::fs::metadata(log_dir(dir))) else {
        return false;
    };
    let inode = format!(":{}", found.ino());
    locks.lines().any(|line| line.contains("FLOCK") && line.split_whitespace().any(|word| word.ends_with(&inode)))
}

impl LogDir {
    /// Looks at a node's data directory or a bare log directory: every header, every record.
    ///
    /// # Errors
    /// The file system's, as text with the file; a log of a later format. Damage is not an error here.
    pub fn open(dir: &Path) -> Result<LogDir, OpenError> {
        LogDir::open_watched(dir, |_, _| {})
    }

    /// As [`LogDir::open`]. `watch` hears again and again how many bytes of how many were read.
    ///
    /// # Errors
    /// As [`LogDir::open`].
    pub fn open_watched(dir: &Path, mut watch: impl FnMut(u64, u64)) -> Result<LogDir, OpenError> {
        let dir = log_dir(dir);
        let failed = |source| OpenError::Io { context: format!("reading {}", dir.display()), source };
        let chain = plan(candidates(&dir).map_err(failed)?, None)?;
        let segment_bytes = chain.segment_bytes.unwrap_or(0);
        let mut look = LogDir {
            dir: dir.clone(),
            replay: Replay::new(&chain),
            chain,
            segment_bytes,
            fatal: Vec::new(),
            reported: Vec::new(),
            slots: Vec::new(),
        };
        look.replay_all(&mut watch).map_err(failed)?;
        Ok(look)
    }

    fn replay_all(&mut self, watch: &mut impl FnMut(u64, u64)) -> io::Result<()> {
        let chain = std::mem::take(&mut self.chain);
        // Twice: what a record is worth is known only when the largest mark is.
        let total = 2 * self.segment_bytes * chain.live.len() as u64;
        let mut read = 0;
        let mut note = |bytes: &[u8]| {
            read += bytes.len() as u64;
            watch(read, total);
        };
        for (number, (candidate, header)) in chain.live.iter().enumerate() {
            let bytes = read_slot(&candidate.file, self.segment_bytes)?;
            let successor = chain.live.get(number + 1).map(|(_, header)| header);
            self.replay.slot(header, &candidate.file, &bytes, successor);
            note(&bytes);
        }
        let judged = self.replay.finish(&chain);
        (self.fatal, self.reported) = (judged.fatal, judged.reported);
        for (number, (candidate, header)) in chain.live.iter().enumerate() {
            let bytes = read_slot(&candidate.file, self.segment_bytes)?;
            let successor = chain.live.get(number + 1).map(|(_, header)| header);
            let state = if successor.is_some() { SlotState::Sealed } else { SlotState::Active };
            let report = self.report_live(candidate, header, state, &bytes, successor);
            self.slots.push(report);
            note(&bytes);
        }
        for (candidate, header) in &chain.free {
            let state = if header.is_some() { SlotState::Free } else { SlotState::Prepared };
            self.slots.push(report_empty(candidate, *header, state));
        }
        self.slots.extend(chain.unfinished.iter().map(|found| report_empty(found, None, SlotState::Prepared)));
        self.chain = chain;
        Ok(())
    }

    fn report_live(
        &self,
        candidate: &Candidate,
        header: &SegmentHeader,
        state: SlotState,
        bytes: &[u8],
        successor: Option<&SegmentHeader>,
    ) -> SlotReport {
        let mut report = SlotReport { tail_offset: DATA_START, ..report_empty(candidate, Some(*header), state) };
        report.durable_mark = Some(header.durable.max(header.prev_end));
        let damaged = self.fatal.iter().any(|damage| damage.file == candidate.file);
        let mut verdict = if damaged { Verdict::Corrupt } else { Verdict::Ok };
        walk_all(header, &candidate.file, bytes, successor, self.bounds(), |record, payload| {
            verdict = verdict.max(record.verdict);
            if !record.header_crc_ok || record.verdict == Verdict::Torn {
                return;
            }
            report.records += 1;
            report.tail_offset = record.offset + crate::format::record_bytes(u64::from(record.length));
            match record.kind {
                Some(Kind::Entry) => {
                    report.first_index =
                        report.first_index.map_or(record.index, |low| record.index.map(|i| i.min(low)));
                    report.last_index = report.last_index.max(record.index);
                    report.first_term = report.first_term.map_or(record.term, |low| record.term.map(|t| t.min(low)));
                    report.last_term = report.last_term.max(record.term);
                }
                Some(Kind::Mark) => {
                    let mark = crate::format::Mark::decode(payload, record.lsn);
                    report.durable_mark = report.durable_mark.max(mark.map(|mark| mark.durable));
                }
                _ => {}
            }
        });
        report.verdict = verdict;
        report
    }

    /// Returns the largest position that is known to have been acknowledged.
    pub fn durable(&self) -> Lsn {
        self.replay.durable
    }

    fn bounds(&self) -> Bounds {
        let torn = self.replay.torn.as_ref().map_or(Lsn(u64::MAX), |torn| torn.lsn);
        Bounds { durable: self.replay.durable, torn }
    }

    /// Returns the newest hard state that the log holds.
    pub fn hard_state(&self) -> HardState {
        self.replay.hard_state
    }

    /// Returns the range of the entries that are live: first and last index; the last is below the first when there
    /// is none.
    pub fn entries(&self) -> (Index, Index) {
        (self.replay.index.first(), self.replay.index.last())
    }

    /// Returns one report a slot: the log's segments, oldest first, then the others.
    pub fn slots(&self) -> &[SlotReport] {
        &self.slots
    }

    /// Returns the directory that holds the slots.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Calls `see` for each record of the log in order, with its payload, damaged places included. Stops when `see`
    /// returns `false`.
    ///
    /// # Errors
    /// The file system's.
    pub fn for_each_record(&self, mut see: impl FnMut(&RecordReport, &[u8]) -> bool) -> io::Result<()> {
        for (number, (candidate, header)) in self.chain.live.iter().enumerate() {
            let bytes = read_slot(&candidate.file, self.segment_bytes)?;
            let successor = self.chain.live.get(number + 1).map(|(_, header)| header);
            let mut go_on = true;
            walk_all(header, &candidate.file, &bytes, successor, self.bounds(), |record, payload| {
                go_on = go_on && see(record, payload);
            });
            if !go_on {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Returns every record of the log in order, without payloads.
    ///
    /// # Errors
    /// The file system's.
    pub fn records(&self) -> io::Result<Vec<RecordReport>> {
        let mut records = Vec::new();
        self.for_each_record(|record, _| {
            records.push(record.clone());
            true
        })?;
        Ok(records)
    }

    /// Returns the newest record of an entry with its payload.
    ///
    /// # Errors
    /// The file system's.
    pub fn entry(&self, index: Index) -> io::Result<Option<(RecordReport, Vec<u8>)>> {
        let mut newest = None;
        self.for_each_record(|record, payload| {
            if record.index == Some(index) && record.kind.is_none_or(|kind| kind == Kind::Entry) {
                newest = Some((record.clone(), payload.to_vec()));
            }
            true
        })?;
        Ok(newest)
    }

    /// Returns what verifying finds: at least one finding for each slot that is not empty.
    pub fn verify(&self) -> Vec<Finding> {
        let mut findings: Vec<Finding> = Vec::new();
        for (damages, fatal) in [(&self.fatal, true), (&self.reported, false)] {
            findings.extend(damages.iter().map(|damage| Finding {
                class: class_of(&damage.why),
                file: damage.file.clone(),
                offset: damage.offset,
                index: damage.index,
                term: damage.term,
                acknowledged: damage.why != DamageKind::HeaderCopy,
                fatal,
                checksum: checksum_of(&damage.why),
                message: damage.why.to_string(),
            }));
        }
        if let Some(torn) = self.replay.torn.as_ref().filter(|_| self.fatal.is_empty()) {
            findings.push(Finding {
                class: Class::Torn,
                file: torn.file.clone(),
                offset: torn.offset,
                index: Some(self.replay.index.last().next()),
                term: None,
                acknowledged: false,
                fatal: false,
                checksum: None,
                message: "a begun but incomplete batch, never acknowledged".into(),
            });
        }
        for slot in &self.slots {
            let free = slot.state == SlotState::Free;
            if slot.state == SlotState::Prepared || findings.iter().any(|finding| finding.file == slot.file) {
                continue;
            }
            findings.push(Finding {
                class: if free { Class::Stale } else { Class::Clean },
                file: slot.file.clone(),
                offset: slot.tail_offset,
                index: slot.last_index,
                term: slot.last_term,
                acknowledged: false,
                fatal: false,
                checksum: None,
                message: if free { "an earlier life of the slot, free" } else { "clean" }.into(),
            });
        }
        findings
    }
}

fn class_of(why: &DamageKind) -> Class {
    match why {
        DamageKind::Gap { .. } => Class::Gap,
        DamageKind::Link { .. } | DamageKind::Order | DamageKind::Duplicate { .. } => Class::Link,
        DamageKind::RecordHeader { .. }
        | DamageKind::Payload { .. }
        | DamageKind::Missing
        | DamageKind::HeaderCopy
        | DamageKind::Header(_)
        | DamageKind::Length { .. } => Class::Corrupt,
    }
}

fn checksum_of(why: &DamageKind) -> Option<Checksum> {
    match *why {
        DamageKind::RecordHeader { stored, computed }
        | DamageKind::Payload { stored, computed }
        | DamageKind::Header(HeaderFault::Checksum { stored, computed }) => Some(Checksum { stored, computed }),
        DamageKind::Link { expected, stored } => Some(Checksum { stored, computed: expected }),
        DamageKind::Missing
        | DamageKind::Order
        | DamageKind::HeaderCopy
        | DamageKind::Header(_)
        | DamageKind::Gap { .. }
        | DamageKind::Duplicate { .. }
        | DamageKind::Length { .. } => None,
    }
}

fn report_empty(candidate: &Candidate, header: Option<SegmentHeader>, state: SlotState) -> SlotReport {
    SlotReport {
        file: candidate.file.clone(),
        length: candidate.length,
        header,
        header_copies_ok: [candidate.head.is_ok(), candidate.tail.is_ok()],
        state,
        first_index: None,
        last_index: None,
        first_term: None,
        last_term: None,
        records: 0,
        tail_offset: 0,
        durable_mark: header.map(|header| header.durable),
        verdict: if state == SlotState::Free { Verdict::Stale } else { Verdict::Ok },
    }
}

/// Reads the headers of all slots in a directory.
fn candidates(dir: &Path) -> io::Result<Vec<Candidate>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let Some(id) = crate::fs::slot_number(&entry.file_name()) else { continue };
        found.push((id, entry.path(), entry.metadata()?.len()));
    }
    found.sort();
    found.into_iter().map(|(id, file, length)| candidate(id, file, length)).collect()
}

fn candidate(id: SlotId, path: PathBuf, length: u64) -> io::Result<Candidate> {
    let file = File::open(&path)?;
    let mut block = [0; HEADER_LEN];
    let mut first = [0; RECORD_LEN];
    read_up_to(&file, 0, &mut block)?;
    read_up_to(&file, DATA_START, &mut first)?;
    let head = SegmentHeader::decode(&block);
    read_up_to(&file, HeaderCopy::Tail.offset(length.max(HEADER_BLOCK)), &mut block)?;
    Ok(Candidate { id, file: path, length, head, tail: SegmentHeader::decode(&block), first })
}

fn read_slot(path: &Path, segment_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; to_usize(segment_bytes)];
    read_up_to(&File::open(path)?, 0, &mut bytes)?;
    Ok(bytes)
}

/// Fills what the file has; the rest is zeros.
fn read_up_to(file: &File, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    buffer.fill(0);
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What parts a log into acknowledged, not known to be, and dropped at the next start.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    durable: Lsn,
    torn: Lsn,
}

/// Walks through one segment to its very end, over damage too, and reports each record.
fn walk_all(
    header: &SegmentHeader,
    file: &Path,
    bytes: &[u8],
    successor: Option<&SegmentHeader>,
    bounds: Bounds,
    mut see: impl FnMut(&RecordReport, &[u8]),
) {
    let limit = successor.map(|next| next.prev_end.0.saturating_sub(header.lsn(0).0));
    let mut walk = Walk::new(header, bytes, limit);
    let below = bounds.durable.0.saturating_sub(header.lsn(0).0);
    loop {
        let (at, link) = (walk.offset(), walk.link());
        let step = walk.step();
        let verdict = match step.judge(at, None, below, link) {
            // A good record of a batch whose end is missing goes with its batch.
            None if header.lsn(at) >= bounds.torn => Verdict::Torn,
            None => Verdict::Ok,
            Some(ScanVerdict::Corrupt { .. }) => Verdict::Corrupt,
            Some(ScanVerdict::Torn { .. }) => Verdict::Torn,
            Some(ScanVerdict::Clean | ScanVerdict::Unwritten | ScanVerdict::Stale) => return,
        };
        let place = Place { header, file, at, link, acknowledged: at < below, verdict };
        match step {
            Step::Record(record) => {
                see(&place.record(&record), record.payload);
                if record.header.kind == Kind::Seal && record.payload_ok() {
                    return;
                }
            }
            Step::Full => return,
            Step::Unlinked(record) => {
                see(&place.record(&record), record.payload);
                walk.relink();
                if walk.step().judge(at, None, below, None).is_some() {
                    return;
                }
            }
            Step::Garbage { .. } | Step::Unwritten | Step::Stale => {
                let raw = raw_at(bytes, at);
                see(&place.damaged(raw, walk.guess()), &[]);
                if !walk.resync() {
                    return;
                }
            }
        }
    }
}

fn raw_at(bytes: &[u8], at: u64) -> [u8; RECORD_LEN] {
    bytes.get(to_usize(at)..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default()
}

struct Place<'a> {
    header: &'a SegmentHeader,
    file: &'a Path,
    at: u64,
    link: Option<u32>,
    acknowledged: bool,
    verdict: Verdict,
}

impl Place<'_> {
    fn record(&self, record: &Scanned<'_>) -> RecordReport {
        let RecordHeader { payload_crc, link, length, term, kind, flags, .. } = record.header;
        RecordReport {
            file: self.file.to_path_buf(),
            offset: self.at,
            length,
            lsn: self.header.lsn(self.at),
            index: record.header.index(self.header.base.index),
            term: Some(term),
            kind: Some(kind),
            flags,
            header_crc_ok: true,
            payload_crc_ok: record.payload_ok(),
            header_crc: Checksum { stored: record.check, computed: record.check },
            payload_crc: Checksum { stored: payload_crc, computed: record.payload_computed },
            link: Checksum { stored: link, computed: self.link.unwrap_or(link) },
            durable: self.acknowledged,
            verdict: self.verdict,
        }
    }

    fn damaged(&self, raw: [u8; RECORD_LEN], guess: Option<RecordHeader>) -> RecordReport {
        let stored = u32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]);
        RecordReport {
            file: self.file.to_path_buf(),
            offset: self.at,
            length: 0,
            lsn: self.header.lsn(self.at),
            index: guess.and_then(|header| header.index(self.header.base.index)),
            term: guess.map(|header| header.term),
            kind: None,
            flags: 0,
            header_crc_ok: false,
            payload_crc_ok: false,
            header_crc: Checksum { stored, computed: crate::format::header_crc(&raw, self.header.salt, self.at) },
            payload_crc: Checksum::default(),
            link: Checksum::default(),
            durable: self.acknowledged,
            verdict: self.verdict,
        }
    }
}

/// Decodes the hard state that a record holds, if it is one.
pub fn record_hard_state(record: &RecordReport, payload: &[u8]) -> Option<HardState> {
    match (record.kind, record.term) {
        (Some(Kind::HardState), Some(term)) if record.payload_crc_ok => decode_hard_state(term, payload),
        _ => None,
    }
}
