//! Opens a log: looks at the slots, replays them, and makes a reopen record durable. Nothing else is written.

use std::collections::VecDeque;
use std::io;

use crate::disk::{Disk, HeaderCopy, Slot, SlotId};
use crate::encode::Cursor;
use crate::error::{AppendError, Damage, DamageKind, OpenError};
use crate::format::{
    DATA_START, HEADER_LEN, HeaderFault, Kind, MARK_BYTES, OLD_SALTS, RECORD_LEN, REOPEN_BYTES, SEAL_BYTES,
    SegmentHeader, TERMINATOR, encode_reopen, segment_bytes_ok, to_usize,
};
use crate::index::EntryIndex;
use crate::log::{Log, Parts, Salts, Segment};
use crate::options::Options;
use crate::plan::{Candidate, Chain, plan};
use crate::pool::{Pool, Spare, is_no_space};
use crate::recover::{Replay, Tail, TornTail};
use crate::scan::{Verdict, Walk};
use crate::sync::salts_after;
use crate::types::{EntryMeta, HardState, Index, LogId, Lsn};

/// What opening found.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// Whether there was nothing, and a new log was made. Whoever knows that a log was here before must then refuse
    /// it.
    pub created: bool,
    /// The newest hard state.
    pub hard_state: HardState,
    /// The entry before the first: the newest that is purged.
    pub purged: LogId,
    /// The first index; one above the last if there is no entry.
    pub first: Index,
    /// The last index.
    pub last: Index,
    /// The shape of every live entry, in order.
    pub entries: Vec<EntryMeta>,
    /// The tail that was dropped: begun but never acknowledged.
    pub torn: Option<TornTail>,
    /// Damage that does no harm: one copy of a header, purged entries, entries that were repaired.
    pub reported: Vec<Damage>,
    /// Everything below was known to be acknowledged.
    pub acknowledged: Lsn,
    /// Where the log goes on.
    pub end: Lsn,
    /// The bytes of a slot of this log.
    pub segment_bytes: u64,
}

/// Reads what is known of a slot before its records.
///
/// # Errors
/// The file system's.
pub(crate) fn read_candidate<D: Disk>(disk: &D, slot: &D::Slot, length: u64) -> io::Result<Candidate> {
    let mut head = [0; HEADER_LEN];
    let mut first = [0; RECORD_LEN];
    let mut tail = [0; HEADER_LEN];
    slot.read(0, &mut head)?;
    slot.read(DATA_START, &mut first)?;
    slot.read(HeaderCopy::Tail.offset(length), &mut tail)?;
    let id = slot.id();
    let (head, tail) = (SegmentHeader::decode(&head), SegmentHeader::decode(&tail));
    Ok(Candidate { id, file: disk.name(id), length, head, tail, first })
}

/// A slot that has not the length of one: only its beginning is looked at.
pub(crate) fn odd_candidate<D: Disk>(disk: &D, id: SlotId, length: u64) -> io::Result<Candidate> {
    let mut bytes = [0; HEADER_LEN + RECORD_LEN];
    disk.peek(id, &mut bytes)?;
    let (head, first) = bytes.split_at(HEADER_LEN);
    let first = *first.first_chunk().expect("as long as a record header");
    let tail = Err(HeaderFault::Blank);
    Ok(Candidate { id, file: disk.name(id), length, head: SegmentHeader::decode(head), tail, first })
}

struct Opener<D: Disk> {
    disk: D,
    options: Options,
    slots: Vec<(SlotId, u64, Option<D::Slot>)>,
    salts: Salts,
}

fn failed<T>(context: impl FnOnce() -> String, result: io::Result<T>) -> Result<T, OpenError> {
    result.map_err(|source| OpenError::Io { context: context(), source })
}

impl<D: Disk> Log<D> {
    /// Opens the log on a disk, making it if the disk is empty. `seed` feeds the salts and nonces: it should not
    /// repeat.
    ///
    /// Syncs every slot and forgets the cached bytes of the newest before reading, so that it judges the medium. When
    /// this returns, a reopen record is durable: what was dropped can never come back.
    ///
    /// # Errors
    /// See [`OpenError`]. Acknowledged data that is damaged is an error that names the place.
    pub fn open(disk: D, options: Options, seed: u64) -> Result<(Log<D>, Recovery), OpenError> {
        options.check()?;
        let mut opener = Opener { disk, options, slots: Vec::new(), salts: Salts(seed) };
        opener.open_slots()?;
        let chain = opener.plan()?;
        if let Some(bytes) = chain.segment_bytes {
            opener.options.segment_bytes = bytes;
        }
        if chain.live.is_empty() && chain.damaged.is_empty() {
            return opener.create(chain);
        }
        opener.recover(chain)
    }
}

impl<D: Disk> Opener<D> {
    fn open_slots(&mut self) -> Result<(), OpenError> {
        let found = failed(|| "listing the log's slots".into(), self.disk.slots())?;
        for (id, length) in found {
            let name = || format!("opening {}", self.disk.name(id).display());
            let usable = segment_bytes_ok(length);
            let slot = if usable { Some(failed(name, self.disk.open(id, length))?) } else { None };
            if let Some(slot) = &slot {
                failed(|| format!("syncing {}", self.disk.name(id).display()), slot.sync())?;
            }
            self.slots.push((id, length, slot));
        }
        Ok(())
    }

    fn plan(&self) -> Result<Chain, OpenError> {
        let identity = self.options.identity();
        let chain = plan(self.candidates()?, Some(&identity))?;
        // The newest segment is where a failed sync of an earlier process may have left the cache lying: ask the
        // medium.
        let Some((newest, _)) = chain.live.last() else { return Ok(chain) };
        let slot = self.slot(newest.id).expect("it was read");
        failed(|| format!("dropping the cache of {}", newest.file.display()), slot.drop_cache())?;
        plan(self.candidates()?, Some(&identity))
    }

    fn candidates(&self) -> Result<Vec<Candidate>, OpenError> {
        let mut candidates = Vec::new();
        for (id, length, slot) in &self.slots {
            let candidate = match slot {
                None => odd_candidate(&self.disk, *id, *length),
                Some(slot) => read_candidate(&self.disk, slot, *length),
            };
            candidates.push(failed(|| format!("reading {}", self.disk.name(*id).display()), candidate)?);
        }
        Ok(candidates)
    }

    fn slot(&self, id: SlotId) -> Option<&D::Slot> {
        self.slots.iter().find(|(found, _, _)| *found == id).and_then(|(_, _, slot)| slot.as_ref())
    }

    fn pool(&mut self, chain: &Chain) -> Pool<D::Slot> {
        let mut free = Vec::new();
        let mut unfinished: Vec<SlotId> = chain.unfinished.iter().map(|candidate| candidate.id).collect();
        for (candidate, header) in &chain.free {
            let entry = self.slots.iter_mut().find(|(id, _, _)| *id == candidate.id);
            let slot = entry.and_then(|(_, _, slot)| slot.take());
            match slot {
                Some(slot) if candidate.length == self.options.segment_bytes => {
                    let old_salts = header.as_ref().map_or([0; OLD_SALTS], salts_after);
                    free.push(Spare { slot, old_salts });
                }
                // A blank slot of another size is left alone, unless it is just unfinished.
                _ if candidate.length < self.options.segment_bytes => unfinished.push(candidate.id),
                _ => {}
            }
        }
        let next_id = self.slots.iter().map(|(id, _, _)| id.0 + 1).max().unwrap_or(0);
        Pool::new(free, unfinished, next_id, self.options.spare_slots)
    }

    fn spare(&self, pool: &mut Pool<D::Slot>) -> Result<Spare<D::Slot>, OpenError> {
        if let Some(spare) = pool.take_any() {
            return Ok(spare);
        }
        let id = pool.new_id();
        match self.disk.create(id, self.options.segment_bytes) {
            Ok(slot) => Ok(Spare { slot, old_salts: [0; OLD_SALTS] }),
            Err(error) if is_no_space(&error) => Err(OpenError::NoSpace),
            Err(source) => Err(OpenError::Io { context: format!("making {}", self.disk.name(id).display()), source }),
        }
    }

    fn create(mut self, chain: Chain) -> Result<(Log<D>, Recovery), OpenError> {
        let mut pool = self.pool(&chain);
        let spare = self.spare(&mut pool)?;
        let salt = self.salts.next_salt(&[]);
        let segment_bytes = self.options.segment_bytes;
        let header = SegmentHeader {
            log_uuid: self.options.log_uuid,
            cluster_id: self.options.cluster_id,
            node_id: self.options.node_id,
            segment_bytes,
            seq: 1,
            salt,
            ..SegmentHeader::default()
        };
        // One after the other, and both before the first record: a crash in between leaves what is told from a
        // damaged log.
        for copy in [HeaderCopy::Head, HeaderCopy::Tail] {
            let stored = spare.slot.write_header(copy, &header.encode()).and_then(|()| spare.slot.sync());
            failed(|| format!("writing the header of {}", self.disk.name(spare.slot.id()).display()), stored)?;
        }
        let segment = Segment { slot: spare.slot, header, end: DATA_START, header_stored: true };
        let recovery = Recovery {
            created: true,
            hard_state: HardState::default(),
            purged: LogId::default(),
            first: Index(1),
            last: Index(0),
            entries: Vec::new(),
            torn: None,
            reported: Vec::new(),
            acknowledged: Lsn(0),
            end: header.lsn(DATA_START),
            segment_bytes,
        };
        let parts = Parts {
            disk: self.disk,
            options: self.options,
            salts: self.salts,
            segments: VecDeque::from([segment]),
            pool,
            index: EntryIndex::new(LogId::default()),
            hard_state: HardState::default(),
            purged: LogId::default(),
            link: 0,
        };
        let mut log = Log::assemble(parts);
        log.reopen()?;
        Ok((log, recovery))
    }

    fn recover(mut self, chain: Chain) -> Result<(Log<D>, Recovery), OpenError> {
        let mut replay = Replay::new(&chain);
        let mut bytes = vec![0; to_usize(self.options.segment_bytes)];
        let mut ends = Vec::new();
        for (number, (candidate, header)) in chain.live.iter().enumerate() {
            let slot = self.slot(candidate.id).expect("live slots are open");
            failed(|| format!("reading {}", candidate.file.display()), slot.read(0, &mut bytes))?;
            let successor = chain.live.get(number + 1).map(|(_, header)| header);
            replay.slot(header, &candidate.file, &bytes, successor);
            ends.push(replay.tail.map_or(DATA_START, |tail| tail.offset));
        }
        let mut judged = replay.finish(&chain);
        judged.fatal.extend(self.headless_successor(&chain, &replay, &mut bytes)?);
        drop(bytes);
        if let Some(first) = judged.fatal.first() {
            return Err(OpenError::Damaged { first: Box::new(first.clone()), all: judged.fatal });
        }
        let mut segments = VecDeque::new();
        for ((candidate, header), end) in chain.live.iter().zip(ends) {
            let entry = self.slots.iter_mut().find(|(id, _, _)| *id == candidate.id);
            let slot = entry.and_then(|(_, _, slot)| slot.take()).expect("live slots are open");
            slot.publish(end);
            segments.push_back(Segment { slot, header: *header, end, header_stored: true });
        }
        self.assemble(chain, replay, judged.reported, segments)
    }

    /// After a seal the next segment's headers must be there if anything in it was acknowledged. Both lost: look for
    /// its marks.
    fn headless_successor(
        &self,
        chain: &Chain,
        replay: &Replay,
        bytes: &mut [u8],
    ) -> Result<Option<Damage>, OpenError> {
        let (Some(Tail { seal: Some(seal), link, .. }), Some((_, last))) = (replay.tail, chain.live.last()) else {
            return Ok(None);
        };
        let header = SegmentHeader { seq: seal.next_seq, salt: seal.next_salt, prev_check: link, ..*last };
        for (candidate, _) in chain.free.iter().filter(|(_, header)| header.is_none()) {
            let Some(slot) = self.slot(candidate.id).filter(|_| candidate.length == last.segment_bytes) else {
                continue;
            };
            failed(|| format!("reading {}", candidate.file.display()), slot.read(0, bytes))?;
            let mark = Walk::new(&header, bytes, None).largest_mark_ahead();
            if mark.is_some_and(|mark| mark > header.lsn(DATA_START)) {
                let fault = candidate.head.err().unwrap_or(HeaderFault::Blank);
                return Ok(Some(Damage {
                    file: candidate.file.clone(),
                    offset: 0,
                    lsn: Some(header.lsn(0)),
                    index: Some(replay.index.last().next()),
                    term: None,
                    why: DamageKind::Header(fault),
                }));
            }
        }
        Ok(None)
    }

    fn assemble(
        mut self,
        chain: Chain,
        replay: Replay,
        reported: Vec<Damage>,
        segments: VecDeque<Segment<D::Slot>>,
    ) -> Result<(Log<D>, Recovery), OpenError> {
        let tail = replay.tail.expect("a log has a segment");
        let mut pool = self.pool(&chain);
        let limit = segments.back().expect("a log has a segment").header.limit();
        let room = tail.offset + REOPEN_BYTES + MARK_BYTES + SEAL_BYTES + TERMINATOR <= limit;
        let spare = if room && tail.seal.is_none() { None } else { Some(self.spare(&mut pool)?) };
        let end = segments.back().expect("a log has a segment").header.lsn(tail.offset);
        let recovery = Recovery {
            created: false,
            hard_state: replay.hard_state,
            purged: replay.index.before(),
            first: replay.index.first(),
            last: replay.index.last(),
            entries: replay.entries,
            torn: replay.torn,
            reported,
            acknowledged: replay.durable,
            end,
            segment_bytes: self.options.segment_bytes,
        };
        let mut log = Log::assemble(Parts {
            disk: self.disk,
            options: self.options,
            salts: self.salts,
            segments,
            pool,
            index: replay.index,
            hard_state: replay.hard_state,
            purged: replay.purged,
            link: tail.link,
        });
        let base = log.index.last_id();
        match (spare, tail.seal) {
            (None, _) => {}
            (Some(spare), Some(seal)) => log.begin_segment(spare, seal.next_salt, base),
            (Some(spare), None) => log.rotate(spare, base).map_err(append_failed)?,
        }
        log.reopen()?;
        Ok((log, recovery))
    }
}

fn append_failed(error: AppendError) -> OpenError {
    OpenError::Io { context: "writing the reopen record".into(), source: io::Error::other(error.to_string()) }
}

impl<D: Disk> Log<D> {
    /// Makes a reopen record with a fresh nonce durable, so that the chain differs from anything that was dropped
    /// here.
    fn reopen(&mut self) -> Result<(), OpenError> {
        let nonce = self.salts.next();
        let payload = encode_reopen(nonce, self.written());
        let id = LogId { term: self.hard_state.term, index: Cursor { ..self.cursor }.base };
        let context = || "making the reopen record durable".to_string();
        self.append_control(Kind::Reopen, 0, id, &payload).map_err(|error| append_failed(error.into()))?;
        let job = self.begin_sync().map_err(|error| append_failed(error.into()))?;
        let Some(job) = job else { return Ok(()) };
        let result = job.run();
        let outcome = result.as_ref().map_or_else(|error| Err(io::Error::from(error.kind())), |()| Ok(()));
        self.finish_sync(job, outcome).ok();
        failed(context, result)
    }
}

/// How a log that could not be opened for writing ends, for reports.
impl Recovery {
    /// Returns whether the log ended as a log does that was stopped cleanly or ended between batches.
    pub fn is_clean(&self) -> bool {
        self.torn.is_none()
    }
}

impl Verdict {
    /// Returns whether this is an ordinary end of a log.
    pub fn is_ordinary_end(&self) -> bool {
        matches!(self, Verdict::Clean | Verdict::Unwritten | Verdict::Stale)
    }
}
