//! Which slots make up the log, judged by their headers alone. Pure.

use std::path::PathBuf;

use crate::disk::SlotId;
use crate::error::{Damage, DamageKind, OpenError};
use crate::format::{HeaderFault, RECORD_LEN, SegmentHeader};
use crate::types::{LogId, Lsn};

/// What is known of one slot file before its records are read.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The slot.
    pub id: SlotId,
    /// Its name in reports.
    pub file: PathBuf,
    /// Its length in bytes.
    pub length: u64,
    /// The header at its beginning.
    pub head: Result<SegmentHeader, HeaderFault>,
    /// The copy at its end.
    pub tail: Result<SegmentHeader, HeaderFault>,
    /// The bytes where its first record begins.
    pub first: [u8; RECORD_LEN],
}

impl Candidate {
    /// Returns the newer of the header's copies that are good.
    pub fn header(&self) -> Option<&SegmentHeader> {
        match (&self.head, &self.tail) {
            (Ok(head), Ok(tail)) => {
                let tail_is_newer = (tail.seq, tail.generation) > (head.seq, head.generation);
                Some(if tail_is_newer { tail } else { head })
            }
            (Ok(header), Err(_)) | (Err(_), Ok(header)) => Some(header),
            (Err(_), Err(_)) => None,
        }
    }

    /// Returns whether no log was ever begun here: the header's copy and the first record are stored only after the
    /// header is durable.
    pub fn is_blank(&self) -> bool {
        matches!(self.tail, Err(HeaderFault::Blank)) && self.first.iter().all(|&byte| byte == 0)
    }

    fn damage(&self, offset: u64, why: DamageKind) -> Damage {
        Damage { file: self.file.clone(), offset, lsn: None, index: None, term: None, why }
    }
}

/// Whose log it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The log's own id.
    pub log_uuid: u128,
    /// The cluster.
    pub cluster_id: u128,
    /// The node.
    pub node_id: u64,
}

impl Identity {
    fn check(&self, candidate: &Candidate, header: &SegmentHeader) -> Result<(), OpenError> {
        let pairs = [
            ("log uuid", format!("{:032x}", header.log_uuid), format!("{:032x}", self.log_uuid)),
            ("cluster id", format!("{:032x}", header.cluster_id), format!("{:032x}", self.cluster_id)),
            ("node id", header.node_id.to_string(), self.node_id.to_string()),
        ];
        for (what, found, expected) in pairs {
            if found != expected {
                return Err(OpenError::Identity { file: candidate.file.clone(), what, found, expected });
            }
        }
        Ok(())
    }
}

/// The log's slots, in order, and the others.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    /// The segments that follow one another up to the newest, oldest first. Empty: a new log.
    pub live: Vec<(Candidate, SegmentHeader)>,
    /// Slots that can take a new life, with the header of the old one.
    pub free: Vec<(Candidate, Option<SegmentHeader>)>,
    /// Slots whose making was interrupted: too short, without a header.
    pub unfinished: Vec<Candidate>,
    /// Everything below was durable, as the headers say.
    pub durable: Lsn,
    /// The newest entry that the headers call purged.
    pub purged: LogId,
    /// The bytes of a slot; `None` when no header says it.
    pub segment_bytes: Option<u64>,
    /// What is damaged but does not stop the log: single copies of headers.
    pub reported: Vec<Damage>,
    /// Damage that stops it.
    pub damaged: Vec<Damage>,
}

/// Orders the slots of a directory. With `identity`, every header must name it.
///
/// # Errors
/// A slot of another log or of an unknown format. Damage is not an error here: it is listed in the chain.
pub fn plan(candidates: Vec<Candidate>, identity: Option<&Identity>) -> Result<Chain, OpenError> {
    let mut chain = Chain::default();
    let mut named = Vec::new();
    let mut nameless = Vec::new();
    for candidate in candidates {
        for copy in [&candidate.head, &candidate.tail] {
            if let Err(HeaderFault::Version(version)) = copy {
                return Err(OpenError::Unsupported { file: candidate.file, version: *version });
            }
        }
        match candidate.header().copied() {
            Some(header) => {
                if let Some(identity) = identity {
                    identity.check(&candidate, &header)?;
                }
                named.push((candidate, header));
            }
            None => nameless.push(candidate),
        }
    }
    named.sort_by_key(|(_, header)| header.seq);
    chain.segment_bytes = named.first().map(|(_, header)| header.segment_bytes);
    chain.take_named(named);
    chain.take_nameless(nameless);
    Ok(chain)
}

impl Chain {
    fn take_named(&mut self, named: Vec<(Candidate, SegmentHeader)>) {
        for (candidate, header) in named.into_iter().rev() {
            self.durable = self.durable.max(header.durable).max(header.prev_end);
            if header.purged.index > self.purged.index {
                self.purged = header.purged;
            }
            let follows = self.live.last().is_none_or(|(_, newer)| newer.seq == header.seq + 1);
            let twice = self.live.last().filter(|(_, newer)| newer.seq == header.seq);
            if let Some((other, _)) = twice {
                self.damaged.push(other.damage(0, DamageKind::Duplicate { seq: header.seq }));
            }
            let expected = self.segment_bytes.unwrap_or(header.segment_bytes);
            if candidate.length != expected || header.segment_bytes != expected {
                let why = DamageKind::Length { found: candidate.length, expected };
                self.damaged.push(candidate.damage(candidate.length.min(expected), why));
            } else if follows {
                self.live.push((candidate, header));
            } else {
                self.free.push((candidate, Some(header)));
            }
        }
        self.live.reverse();
        for (candidate, header) in &self.live {
            let copies = [(&candidate.head, 0), (&candidate.tail, header.limit())];
            for (copy, offset) in copies {
                if copy.is_err() {
                    self.reported.push(candidate.damage(offset, DamageKind::HeaderCopy));
                }
            }
        }
    }

    fn take_nameless(&mut self, nameless: Vec<Candidate>) {
        for candidate in nameless {
            let short = self.segment_bytes.is_some_and(|bytes| candidate.length < bytes)
                || !crate::format::segment_bytes_ok(candidate.length);
            if short && matches!(candidate.head, Err(HeaderFault::Blank)) {
                self.unfinished.push(candidate);
                continue;
            }
            // A log without any good header was never begun, unless a slot holds something.
            if self.live.is_empty() && self.damaged.is_empty() && !candidate.is_blank() {
                let fault = candidate.head.err().unwrap_or(HeaderFault::Blank);
                self.damaged.push(candidate.damage(0, DamageKind::Header(fault)));
            }
            self.free.push((candidate, None));
        }
    }

    /// Returns the missing sequence if the log has a hole that purging does not explain.
    ///
    /// Everything before the oldest live segment is purged if its base is.
    pub fn gap(&self, purged: LogId) -> Option<Damage> {
        let (candidate, oldest) = self.live.first()?;
        if oldest.seq == 1 || oldest.base.index <= purged.index {
            return None;
        }
        // Name the file whose header is lost, if there is just one that can be it.
        let mut headless = self.free.iter().filter(|(found, header)| header.is_none() && !found.is_blank());
        let file = headless.next().map_or(candidate, |(candidate, _)| candidate);
        Some(Damage {
            index: Some(oldest.base.index),
            term: Some(oldest.base.term),
            ..file.damage(0, DamageKind::Gap { seq: oldest.seq - 1 })
        })
    }
}
