//! The shape of the log: enough to answer "which term is index i?" and "how many bytes?" without touching the disk.
//!
//! Terms never decrease along a log, so the first index of each term says everything (Raft §5.3).

use std::collections::VecDeque;

use super::message::EntrySpan;
use super::types::{Index, LogId, Term};

/// The (index, term, size) shape of a log.
///
/// - `runs` is sorted; both index and term strictly increase.
/// - `purged.index < first index of runs` and `last.index >= purged.index`.
/// - `sizes` holds one payload size for each index in `purged.index + 1 ..= last.index`.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogIds {
    purged: LogId,
    runs: Vec<LogId>,
    last: LogId,
    sizes: VecDeque<u32>,
}

impl LogIds {
    /// Returns an empty log that continues after `purged`.
    pub(crate) fn new(purged: LogId) -> LogIds {
        LogIds { purged, runs: Vec::new(), last: purged, sizes: VecDeque::new() }
    }

    /// Returns the log id before the first entry that is still here.
    pub(crate) fn purged(&self) -> LogId {
        self.purged
    }

    /// Returns the log id of the last entry, or of the purged one before it if there is none.
    pub(crate) fn last(&self) -> LogId {
        self.last
    }

    /// Returns the term at `index`, or `None` if it is purged or not yet written.
    pub(crate) fn term(&self, index: Index) -> Option<Term> {
        if index == self.purged.index {
            return Some(self.purged.term); // Kept so that the entry after a snapshot can be matched (T34).
        }
        if index < self.purged.index || index > self.last.index {
            return None;
        }
        let after = self.runs.partition_point(|run| run.index <= index);
        assert!(after > 0, "no run covers index {index}, first run {:?}", self.runs.first());
        Some(self.runs[after - 1].term)
    }

    /// Returns the log id at `index`, or `None` if it is purged or not yet written.
    pub(crate) fn log_id(&self, index: Index) -> Option<LogId> {
        self.term(index).map(|term| LogId { term, index })
    }

    /// Appends entries of one term.
    pub(crate) fn append(&mut self, term: Term, sizes: &[u32]) {
        if sizes.is_empty() {
            return;
        }
        assert!(term >= self.last.term, "term {term} appended after {:?}", self.last);
        let first = self.last.index.next();
        // The purged entry's term opens no run: the first entry behind it always does.
        if self.runs.last().is_none_or(|run| run.term < term) {
            self.runs.push(LogId { term, index: first });
        }
        self.sizes.extend(sizes);
        self.last = LogId { term, index: Index(self.last.index.0 + sizes.len() as u64) };
    }

    /// Drops the suffix that starts at `from`. Nothing purged can be dropped.
    pub(crate) fn truncate(&mut self, from: Index) {
        assert!(from > self.purged.index, "truncate from {from}, purged {:?}", self.purged);
        if from > self.last.index {
            return;
        }
        let keep = self.runs.partition_point(|run| run.index < from);
        self.runs.truncate(keep);
        self.sizes.truncate(position(from, self.purged.index));
        let term = self.runs.last().map_or(self.purged.term, |run| run.term);
        self.last = LogId { term, index: Index(from.0 - 1) };
    }

    /// Drops the prefix up to and including `upto`. Does nothing if it is gone already or not yet written.
    pub(crate) fn purge(&mut self, upto: Index) {
        if upto <= self.purged.index {
            return;
        }
        let Some(term) = self.term(upto) else { return };
        self.sizes.drain(..position(upto, self.purged.index) + 1);
        let gone = self.runs.partition_point(|run| run.index <= upto);
        self.runs.drain(..gone);
        if upto < self.last.index && self.runs.first().is_none_or(|run| run.index > upto.next()) {
            self.runs.insert(0, LogId { term, index: upto.next() });
        }
        self.purged = LogId { term, index: upto };
    }

    /// Returns how many of the `count` entries from `first` on are here with this term; purged ones count as such.
    pub(crate) fn agreeing(&self, first: Index, term: Term, count: u64) -> u64 {
        let purged = self.purged.index.0.saturating_sub(first.0 - 1).min(count);
        let first = Index(first.0 + purged);
        if purged == count || first > self.last.index || self.term(first) != Some(term) {
            return purged;
        }
        let after = self.runs.partition_point(|run| run.index <= first);
        let end = self.runs.get(after).map_or(self.last.index.0 + 1, |run| run.index.0);
        purged + (end - first.0).min(count - purged)
    }

    /// Returns the last log id at or below `from` whose term is not above `term`: where two logs may still agree
    /// (etcd's find-conflict-by-term). Never goes below the purged entry.
    pub(crate) fn last_not_above(&self, from: Index, term: Term) -> LogId {
        let from = from.min(self.last.index);
        if from <= self.purged.index {
            return self.purged;
        }
        let covering = self.runs.partition_point(|run| run.index <= from);
        let not_above = self.runs[..covering].partition_point(|run| run.term <= term);
        if not_above == 0 {
            return self.purged;
        }
        let end = if not_above == covering { from } else { Index(self.runs[not_above].index.0 - 1) };
        LogId { term: self.runs[not_above - 1].term, index: end }
    }

    /// Returns the payload bytes of the entries in `first..=last`, which must be here.
    pub(crate) fn bytes(&self, first: Index, last: Index) -> u64 {
        if first > last {
            return 0;
        }
        let start = position(first, self.purged.index);
        self.sizes.range(start..=position(last, self.purged.index)).map(|&size| u64::from(size)).sum()
    }

    /// Returns the (term, count) runs of `first..=last`, which must be here.
    pub(crate) fn terms(&self, first: Index, last: Index) -> Vec<(Term, u32)> {
        let mut terms = Vec::new();
        if first > last {
            return terms;
        }
        assert!(first > self.purged.index && last <= self.last.index, "terms of {first}..={last} are not here");
        let mut at = self.runs.partition_point(|run| run.index <= first) - 1;
        let mut start = first;
        while start <= last {
            let end = self.runs.get(at + 1).map_or(last, |next| last.min(Index(next.index.0 - 1)));
            let count = u32::try_from(end.0 - start.0 + 1).unwrap_or(u32::MAX);
            terms.push((self.runs[at].term, count));
            start = end.next();
            at += 1;
        }
        terms
    }

    /// Returns the span from `first` on: at most `max_entries`, at most `max_bytes` unless the first entry alone is
    /// larger (T36). The caller adds the configurations.
    pub(crate) fn span(&self, first: Index, max_entries: usize, max_bytes: u64) -> EntrySpan {
        if first > self.last.index {
            return EntrySpan::default();
        }
        let start = position(first, self.purged.index);
        let mut bytes = 0;
        let mut within = |&size: &u32| {
            bytes += u64::from(size);
            bytes <= max_bytes
        };
        let count = self.sizes.range(start..).take(max_entries.max(1)).take_while(|size| within(size)).count().max(1);
        EntrySpan {
            terms: self.terms(first, Index(first.0 + count as u64 - 1)),
            sizes: self.sizes.range(start..start + count).copied().collect(),
            configurations: Vec::new(),
        }
    }
}

/// Returns where the size of `index` is kept.
fn position(index: Index, purged: Index) -> usize {
    assert!(index > purged, "index {index} is purged, up to {purged}");
    usize::try_from(index.0 - purged.0 - 1).expect("a log in memory has fewer entries than the address space")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Builds a log from one term per entry, as the notes write it: `[1,1,2]`.
    fn log(terms: &[u64]) -> LogIds {
        let mut log = LogIds::new(LogId::default());
        for (i, &term) in terms.iter().enumerate() {
            log.append(Term(term), &[u32::try_from(i).unwrap() + 1]);
        }
        log
    }

    #[test]
    fn a_truncated_suffix_takes_its_terms_along() {
        let mut log = log(&[1, 1, 2, 2, 5]);
        log.truncate(Index(4));
        assert_eq!(log.last(), LogId { term: Term(2), index: Index(3) });
        log.append(Term(3), &[9]);
        assert_eq!(log.terms(Index(1), Index(4)), [(Term(1), 2), (Term(2), 1), (Term(3), 1)]);
        log.truncate(Index(1));
        assert_eq!(log.last(), LogId::default());
    }

    #[test]
    fn a_purged_prefix_leaves_its_last_term() {
        let mut log = log(&[1, 1, 2, 2, 5]);
        log.purge(Index(3));
        assert_eq!(log.term(Index(3)), Some(Term(2)));
        assert_eq!(log.term(Index(2)), None);
        assert_eq!(log.terms(Index(4), Index(5)), [(Term(2), 1), (Term(5), 1)]);
        assert_eq!(log.last_not_above(Index(5), Term(4)), LogId { term: Term(2), index: Index(4) });
        assert_eq!(log.last_not_above(Index(5), Term(1)), LogId { term: Term(2), index: Index(3) });
    }

    #[test]
    fn an_entry_larger_than_the_limit_travels_alone() {
        let log = log(&[1, 1, 1]);
        assert_eq!(log.span(Index(1), 8, 3).sizes, [1, 2]);
        assert_eq!(log.span(Index(3), 8, 1).sizes, [3]);
        assert_eq!(log.span(Index(1), 2, 99).sizes, [1, 2]);
        assert_eq!(log.span(Index(4), 2, 99), EntrySpan::default());
    }

    proptest! {
        #[test]
        fn equals_a_plain_list(steps in prop::collection::vec((0u8..3, 0u64..12, 1u32..9), 1..60)) {
            let mut log = LogIds::new(LogId::default());
            let mut plain: Vec<(u64, u32)> = vec![(0, 0)]; // By index; 0 stands before the first.
            let mut purged = 0usize;
            for (kind, number, size) in steps {
                let last = plain.len() - 1;
                match kind {
                    0 => {
                        let term = plain[last].0 + number / 6;
                        log.append(Term(term), &[size]);
                        plain.push((term, size));
                    }
                    1 => {
                        let from = purged + 1 + usize::try_from(number).unwrap();
                        log.truncate(Index(from as u64));
                        plain.truncate(from.max(purged + 1));
                    }
                    _ => {
                        let upto = purged + usize::try_from(number / 4).unwrap();
                        log.purge(Index(upto as u64));
                        if upto <= last { purged = upto; }
                    }
                }
                let last = plain.len() - 1;
                prop_assert_eq!(log.last().index.0, last as u64);
                prop_assert_eq!(log.purged().index.0, purged as u64);
                for (i, entry) in plain.iter().enumerate() {
                    let term = (i >= purged).then_some(Term(entry.0));
                    prop_assert_eq!(log.term(Index(i as u64)), term);
                }
                if last > purged {
                    let sum: u64 = plain[purged + 1..].iter().map(|entry| u64::from(entry.1)).sum();
                    prop_assert_eq!(log.bytes(Index(purged as u64 + 1), Index(last as u64)), sum);
                    let flat: Vec<u64> = log
                        .terms(Index(purged as u64 + 1), Index(last as u64))
                        .iter()
                        .flat_map(|&(term, count)| std::iter::repeat_n(term.0, count as usize))
                        .collect();
                    let terms: Vec<u64> = plain[purged + 1..].iter().map(|entry| entry.0).collect();
                    prop_assert_eq!(flat, terms);
                }
                let bound = Term(number);
                let expected = (purged..=last).rev().find(|&i| plain[i].0 <= bound.0).unwrap_or(purged);
                prop_assert_eq!(log.last_not_above(Index(last as u64), bound).index.0, expected as u64);
            }
        }
    }
}
