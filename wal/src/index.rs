//! Where each live entry is: four bytes an entry, one word per segment, one per term.

use std::collections::{BTreeMap, VecDeque};

use crate::format::{ALIGN, narrow};
use crate::types::{Index, LogId, Term};

/// Entries in one block of offsets.
const BLOCK: u64 = 4096;

/// The places and terms of the live entries.
///
/// - `before` is the entry before the first; the log is empty when `last == before.index`.
/// - Block `i` of `blocks` holds the offsets (in units of 8 bytes) of entries `(first_block + i) * BLOCK ..`; the
///   last one is filled only as far as the log goes.
/// - `segments` and `terms` are sorted by first index; their first element covers the first entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct EntryIndex {
    before: LogId,
    last: u64,
    first_block: u64,
    blocks: VecDeque<Vec<u32>>,
    segments: VecDeque<(u64, u64)>,
    terms: VecDeque<(u64, Term)>,
    /// Entries whose record was replaced by a repair record elsewhere.
    repaired: BTreeMap<u64, Place>,
}

/// Where an entry's record begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The segment's sequence.
    pub(crate) seq: u64,
    /// The byte offset in the slot.
    pub(crate) offset: u64,
}

impl EntryIndex {
    /// Returns an empty index whose first entry will follow `before`.
    pub(crate) fn new(before: LogId) -> EntryIndex {
        let mut index = EntryIndex::default();
        index.reset(before);
        index
    }

    /// Forgets everything; the next entry follows `before`.
    pub(crate) fn reset(&mut self, before: LogId) {
        let next = before.index.0 + 1;
        let partial = vec![0; usize::try_from(next % BLOCK).expect("below the block size")];
        *self = EntryIndex {
            before,
            last: before.index.0,
            first_block: next / BLOCK,
            blocks: VecDeque::from([partial]),
            ..EntryIndex::default()
        };
    }

    pub(crate) fn before(&self) -> LogId {
        self.before
    }

    pub(crate) fn first(&self) -> Index {
        self.before.index.next()
    }

    pub(crate) fn last(&self) -> Index {
        Index(self.last)
    }

    /// Returns the last entry, or what stands before the first.
    pub(crate) fn last_id(&self) -> LogId {
        match self.terms.back() {
            Some(&(_, term)) => LogId { term, index: self.last() },
            None => self.before,
        }
    }

    /// Adds the entry after the last.
    pub(crate) fn push(&mut self, term: Term, place: Place) {
        let index = self.last + 1;
        if self.blocks.back().is_none_or(|block| block.len() as u64 == BLOCK) {
            self.blocks.push_back(Vec::with_capacity(usize::try_from(BLOCK).expect("small")));
        }
        let block = self.blocks.back_mut().expect("just made");
        block.push(narrow(place.offset / ALIGN));
        if self.segments.back().is_none_or(|&(_, seq)| seq != place.seq) {
            self.segments.push_back((index, place.seq));
        }
        if self.terms.back().is_none_or(|&(_, last)| last != term) {
            self.terms.push_back((index, term));
        }
        self.last = index;
    }

    /// Returns where the entry's record is.
    pub(crate) fn place(&self, index: Index) -> Option<Place> {
        if index.0 <= self.before.index.0 || index.0 > self.last {
            return None;
        }
        if let Some(&place) = self.repaired.get(&index.0) {
            return Some(place);
        }
        let block = self.blocks.get(usize::try_from(index.0 / BLOCK - self.first_block).ok()?)?;
        let units = *block.get(usize::try_from(index.0 % BLOCK).ok()?)?;
        let after = self.segments.partition_point(|&(first, _)| first <= index.0);
        assert!(after > 0, "no segment covers index {index}, first {:?}", self.segments.front());
        Some(Place { seq: self.segments[after - 1].1, offset: u64::from(units) * ALIGN })
    }

    /// Returns the term of a live entry, or of the one before the first.
    pub(crate) fn term(&self, index: Index) -> Option<Term> {
        if index == self.before.index {
            return Some(self.before.term);
        }
        if index.0 < self.before.index.0 || index.0 > self.last {
            return None;
        }
        let after = self.terms.partition_point(|&(first, _)| first <= index.0);
        assert!(after > 0, "no term covers index {index}, first {:?}", self.terms.front());
        Some(self.terms[after - 1].1)
    }

    /// Says that a live entry is now found elsewhere.
    pub(crate) fn replace(&mut self, index: Index, place: Place) {
        if index > self.before.index && index.0 <= self.last {
            self.repaired.insert(index.0, place);
        }
    }

    /// Drops the entries from `from` on; `term_before` is the term of the entry before it, needed when none is left.
    pub(crate) fn truncate(&mut self, from: Index, term_before: Term) {
        if from.0 > self.last {
            return;
        }
        if from <= self.first() {
            self.reset(LogId { term: term_before, index: from.previous() });
            return;
        }
        let blocks = usize::try_from(from.0 / BLOCK - self.first_block).expect("in memory") + 1;
        self.blocks.truncate(blocks);
        let last = self.blocks.back_mut().expect("at least one block");
        last.truncate(usize::try_from(from.0 % BLOCK).expect("below the block size"));
        self.segments.truncate(self.segments.partition_point(|&(first, _)| first < from.0));
        self.terms.truncate(self.terms.partition_point(|&(first, _)| first < from.0));
        self.repaired.split_off(&from.0);
        self.last = from.0 - 1;
    }

    /// Drops the entries up to `upto`, which must be live or before the first.
    pub(crate) fn purge(&mut self, upto: LogId) {
        if upto.index <= self.before.index {
            return;
        }
        if upto.index.0 >= self.last {
            self.reset(upto);
            return;
        }
        self.before = upto;
        let first = upto.index.0 + 1;
        while self.first_block < first / BLOCK {
            self.blocks.pop_front();
            self.first_block += 1;
        }
        let segments = self.segments.partition_point(|&(start, _)| start <= first);
        self.segments.drain(..segments - 1);
        let terms = self.terms.partition_point(|&(start, _)| start <= first);
        self.terms.drain(..terms - 1);
        self.repaired = self.repaired.split_off(&first);
    }

    /// Returns the bytes of memory that the index takes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let offsets: usize = self.blocks.iter().map(|block| block.capacity() * 4).sum();
        (offsets + (self.segments.capacity() + self.terms.capacity()) * 16 + self.repaired.len() * 48) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u64, term: u64) -> LogId {
        LogId { term: Term(term), index: Index(index) }
    }

    #[test]
    fn entries_are_found_after_truncations_and_purges() {
        let mut index = EntryIndex::new(id(0, 0));
        for i in 1..=10_000u64 {
            index.push(Term(1 + i / 3000), Place { seq: 1 + i / 1000, offset: 4096 + (i % 1000) * 8 });
        }
        index.truncate(Index(9_001), Term(0));
        index.push(Term(9), Place { seq: 77, offset: 8000 });
        index.purge(id(5_000, 2));
        assert_eq!((index.first(), index.last()), (Index(5_001), Index(9_001)));
        assert_eq!(index.place(Index(5_000)), None);
        assert_eq!(index.term(Index(5_000)), Some(Term(2)));
        assert_eq!(index.place(Index(5_001)), Some(Place { seq: 6, offset: 4104 }));
        assert_eq!(index.term(Index(5_999)), Some(Term(2)));
        assert_eq!(index.term(Index(6_000)), Some(Term(3)));
        assert_eq!(index.place(Index(9_000)), Some(Place { seq: 10, offset: 4096 }));
        assert_eq!(index.place(Index(9_001)), Some(Place { seq: 77, offset: 8000 }));
        assert_eq!(index.last_id(), id(9_001, 9));
        assert_eq!(index.place(Index(9_002)), None);
        assert!(index.memory_bytes() <= 8 * 4_001 + 16 * 4096, "{} bytes", index.memory_bytes());
    }

    #[test]
    fn truncating_below_the_first_entry_moves_the_beginning() {
        let mut index = EntryIndex::new(id(100, 3));
        index.push(Term(3), Place { seq: 1, offset: 4096 });
        index.truncate(Index(50), Term(2));
        assert_eq!(index.last_id(), id(49, 2));
        index.push(Term(4), Place { seq: 2, offset: 4096 });
        assert_eq!(index.place(Index(50)), Some(Place { seq: 2, offset: 4096 }));
        index.purge(id(50, 4));
        assert_eq!((index.first(), index.last()), (Index(51), Index(50)));
    }
}
