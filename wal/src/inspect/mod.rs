//! Looks into a log from outside: read-only, with plain reads, on a live or a damaged directory.
//!
//! Takes no lock and writes nothing. Numbers that come from damaged bytes are never trusted. On a live directory the
//! newest batch may be seen half-written, and so look torn; `durable` tells.

mod report;
mod walk;

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::disk::{HeaderCopy, SlotId};
use crate::error::{DamageKind, OpenError};
use crate::format::{
    DATA_START, HEADER_BLOCK, HEADER_LEN, HeaderFault, Kind, RECORD_LEN, SegmentHeader, decode_hard_state, to_usize,
};
use crate::plan::{Candidate, Chain, plan};
use crate::recover::Replay;
use crate::types::{HardState, Index, Lsn};

pub use report::{Checksum, Class, Finding, RecordReport, SlotReport, SlotState, Verdict};
use walk::{Bounds, walk_all};

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

/// Decodes the hard state that a record holds, if it is one.
pub fn record_hard_state(record: &RecordReport, payload: &[u8]) -> Option<HardState> {
    match (record.kind, record.term) {
        (Some(Kind::HardState), Some(term)) if record.payload_crc_ok => decode_hard_state(term, payload),
        _ => None,
    }
}
