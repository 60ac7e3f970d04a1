//! A walk through one segment that reports every record, and goes on over damage.

use std::path::Path;

use crate::format::{Kind, RECORD_LEN, RecordHeader, SegmentHeader, to_usize};
use crate::inspect::report::{Checksum, RecordReport, Verdict};
use crate::scan::{Scanned, Step, Verdict as ScanVerdict, Walk};
use crate::types::Lsn;

/// What parts a log into acknowledged, not known to be, and dropped at the next start.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) durable: Lsn,
    pub(super) torn: Lsn,
}

/// Walks through one segment to its very end, over damage too, and reports each record.
pub(super) fn walk_all(
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
