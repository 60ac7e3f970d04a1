//! Lays the records of a batch out as bytes. Pure.

use std::io::IoSlice;

use crate::format::{
    FLAG_FIRST, FLAG_LAST, Kind, RECORD_LEN, RecordHeader, encode_hard_state, narrow, padding, payload_crc,
    record_bytes,
};
use crate::types::{Batch, HardState, Index, Term};

/// The zeros behind every store.
static ZEROS: [u8; RECORD_LEN] = [0; RECORD_LEN];

/// Where the next record goes and what it links to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The salt of the segment.
    pub(crate) salt: u32,
    /// The base index of the segment.
    pub(crate) base: Index,
    /// The offset of the next record.
    pub(crate) offset: u64,
    /// The header checksum of the last record.
    pub(crate) link: u32,
}

/// A record to be laid out.
pub(crate) struct NewRecord<'a> {
    pub(crate) kind: Kind,
    pub(crate) flags: u8,
    pub(crate) term: Term,
    pub(crate) index: Index,
    pub(crate) payload: &'a [u8],
}

impl Cursor {
    /// Returns whether a record may name this index in this segment.
    pub(crate) fn can_name(&self, index: Index) -> bool {
        self.relative(index).is_some()
    }

    fn relative(&self, index: Index) -> Option<i32> {
        let distance = i128::from(index.0) - i128::from(self.base.0);
        i32::try_from(distance).ok()
    }

    /// Returns the header of a record at the cursor, and moves the cursor behind the record.
    pub(crate) fn header(&mut self, record: &NewRecord<'_>) -> [u8; RECORD_LEN] {
        let header = RecordHeader {
            payload_crc: payload_crc(&[record.payload]),
            link: self.link,
            length: narrow(record.payload.len() as u64),
            term: record.term,
            relative_index: self.relative(record.index).expect("checked by can_name"),
            kind: record.kind,
            flags: record.flags,
            group: 0,
        };
        let (bytes, check) = header.encode(self.salt, self.offset);
        self.offset += header.bytes();
        self.link = check;
        bytes
    }

    /// Lays a record out at the end of `out`.
    pub(crate) fn append(&mut self, record: &NewRecord<'_>, out: &mut Vec<u8>) {
        let header = self.header(record);
        out.extend_from_slice(&header);
        out.extend_from_slice(record.payload);
        out.extend_from_slice(padding(record.payload.len()));
    }
}

/// Ends what is to be stored with the zeros that keep older bytes away from the log's end.
pub(crate) fn terminate(out: &mut Vec<u8>) {
    out.extend_from_slice(&ZEROS);
}

/// Returns the bytes that the records of a batch take.
pub(crate) fn batch_bytes(batch: &Batch<'_>) -> u64 {
    let hard_state = batch.hard_state.map_or(0, |_| record_bytes(16));
    let truncate = batch.truncate_from.map_or(0, |_| record_bytes(0));
    let entries: u64 = batch.entries.iter().map(|entry| record_bytes(entry.payload.len() as u64)).sum();
    hard_state + truncate + entries
}

/// The records of a batch, in order, with their flags.
pub(crate) struct BatchRecords<'a> {
    control: Vec<NewRecord<'a>>,
    batch: Batch<'a>,
}

impl<'a> BatchRecords<'a> {
    /// `hard_state` must be the encoding of the batch's hard state, if it has one; `truncate` its truncation and the
    /// term before it.
    pub(crate) fn new(
        batch: Batch<'a>,
        hard_state: &'a [u8; 16],
        truncate: Option<(Index, Term)>,
        last: Index,
    ) -> Self {
        let mut control = Vec::new();
        if let Some(HardState { term, .. }) = batch.hard_state {
            control.push(NewRecord { kind: Kind::HardState, flags: 0, term, index: last, payload: hard_state });
        }
        if let Some((index, term)) = truncate {
            control.push(NewRecord { kind: Kind::Truncate, flags: 0, term, index, payload: &[] });
        }
        let no_entries = batch.entries.is_empty();
        if let Some(first) = control.first_mut() {
            first.flags |= FLAG_FIRST;
        }
        if let Some(last) = control.last_mut().filter(|_| no_entries) {
            last.flags |= FLAG_LAST;
        }
        BatchRecords { control, batch }
    }

    /// Returns how many records there are.
    pub(crate) fn len(&self) -> usize {
        self.control.len() + self.batch.entries.len()
    }

    fn entry(&self, number: usize) -> NewRecord<'a> {
        let entry = &self.batch.entries[number];
        let first = if number == 0 && self.control.is_empty() { FLAG_FIRST } else { 0 };
        let last = if number + 1 == self.batch.entries.len() { FLAG_LAST } else { 0 };
        NewRecord {
            kind: Kind::Entry,
            flags: first | last,
            term: entry.term,
            index: entry.index,
            payload: entry.payload,
        }
    }

    /// Lays all of it out in one piece, with the zeros behind.
    pub(crate) fn copy(&self, cursor: &mut Cursor, out: &mut Vec<u8>, places: &mut Vec<u64>) {
        for record in &self.control {
            cursor.append(record, out);
        }
        for number in 0..self.batch.entries.len() {
            places.push(cursor.offset);
            cursor.append(&self.entry(number), out);
        }
        terminate(out);
    }

    /// Lays only the headers out, for a store that takes the payloads from where they are.
    pub(crate) fn headers(&self, cursor: &mut Cursor, out: &mut Vec<u8>, places: &mut Vec<u64>) {
        for record in &self.control {
            out.extend_from_slice(&cursor.header(record));
        }
        for number in 0..self.batch.entries.len() {
            places.push(cursor.offset);
            out.extend_from_slice(&cursor.header(&self.entry(number)));
        }
    }

    /// Returns the parts to store in order, given the headers that [`BatchRecords::headers`] made.
    pub(crate) fn parts<'b>(&'b self, headers: &'b [u8]) -> Vec<IoSlice<'b>> {
        let mut parts = Vec::with_capacity(self.len() * 3 + 1);
        let entries = self.batch.entries.iter().map(|entry| entry.payload);
        let payloads = self.control.iter().map(|record| record.payload).chain(entries);
        for (header, payload) in headers.chunks_exact(ZEROS.len()).zip(payloads) {
            let pieces = [header, payload, padding(payload.len())];
            parts.extend(pieces.into_iter().filter(|piece| !piece.is_empty()).map(IoSlice::new));
        }
        parts.push(IoSlice::new(&ZEROS));
        parts
    }
}

/// Returns the payload of the batch's hard state record; zeros if it has none.
pub(crate) fn hard_state_payload(batch: &Batch<'_>) -> [u8; 16] {
    batch.hard_state.map_or([0; 16], |state| encode_hard_state(&state))
}
