//! The rows: keys in order, each with its value, revision and deadline; the deadlines in order; the sum of the hashes.
//!
//! All rows are in memory. Immutable runs will lie beneath: this type is where a lookup will go on to them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::{Bytes, BytesMut};

use super::hash::{RowHasher, RowKind, Sum, appended_value_hash, value_hash};
use super::key::Key;

/// The deadline of a row that has none.
const NEVER: u64 = u64::MAX;

/// One key's content.
///
/// - `deadline_ms` is [`NEVER`] or in the deadlines, and later than the logged time.
/// - `value_hash` is the hash of `value`, so that neither overwriting nor appending reads the old value.
#[derive(Clone, Debug)]
pub(super) struct Row {
    value: Bytes,
    revision: u64,
    deadline_ms: u64,
    value_hash: u128,
}

/// Every row there is.
#[derive(Debug, Default)]
pub(super) struct Rows {
    rows: BTreeMap<Key, Row>,
    deadlines: BTreeSet<(u64, Key)>,
    sum: Sum,
}

impl Row {
    pub(super) fn value(&self) -> &Bytes {
        &self.value
    }

    /// Returns the index of the entry that last wrote the row.
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// Returns the logged time in milliseconds at which the row ends.
    pub(super) fn deadline_ms(&self) -> Option<u64> {
        (self.deadline_ms != NEVER).then_some(self.deadline_ms)
    }

    fn new(value: Bytes, revision: u64, deadline_ms: Option<u64>) -> Row {
        let value_hash = value_hash(&value);
        Row { value, revision, deadline_ms: deadline_ms.unwrap_or(NEVER), value_hash }
    }

    fn hash(&self, key: &[u8]) -> u128 {
        RowHasher::new(RowKind::Key)
            .bytes(key)
            .u64(self.revision)
            .u64(self.deadline_ms)
            .u64(self.value.len() as u64)
            .u128(self.value_hash)
            .finish()
    }
}

impl Rows {
    pub(super) fn row(&self, key: &[u8]) -> Option<&Row> {
        self.rows.get(key)
    }

    /// Returns how many rows there are.
    pub(super) fn count(&self) -> u64 {
        self.rows.len() as u64
    }

    /// Returns the sum of the rows' hashes.
    pub(super) fn sum(&self) -> Sum {
        self.sum
    }

    /// Returns the earliest deadline.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.deadlines.first().map(|(deadline_ms, _)| *deadline_ms)
    }

    /// Returns the rows from `start` on, in order, up to `end`; none if they are crossed.
    pub(super) fn range(&self, start: Bound<&[u8]>, end: Bound<&[u8]>) -> impl Iterator<Item = (&[u8], &Row)> {
        let is_crossed = match (start, end) {
            (Bound::Included(start), Bound::Excluded(end)) => start >= end,
            (Bound::Excluded(start), Bound::Excluded(end)) => start >= end,
            (Bound::Included(start) | Bound::Excluded(start), Bound::Included(end)) => start > end,
            (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        };
        let range = (!is_crossed).then(|| self.rows.range::<[u8], _>((start, end)));
        range.into_iter().flatten().map(|(key, row)| (key.as_bytes(), row))
    }

    /// Writes one row, whether it is there or not.
    pub(super) fn set(&mut self, key: &[u8], value: Bytes, revision: u64, deadline_ms: Option<u64>) {
        let row = Row::new(value, revision, deadline_ms);
        self.sum.add(row.hash(key));
        let deadline_ms = row.deadline_ms;
        let old_deadline_ms = if let Some(place) = self.rows.get_mut(key) {
            self.sum.remove(place.hash(key));
            std::mem::replace(place, row).deadline_ms
        } else {
            self.rows.insert(key.into(), row);
            NEVER
        };
        self.move_deadline(key, old_deadline_ms, deadline_ms);
    }

    /// Appends to the value of a row that is there, keeping its deadline; returns the new length in bytes, or `None` if
    /// there is no such row. Costs what is appended, unless the old value is also held by a reader.
    pub(super) fn append(&mut self, key: &[u8], tail: &[u8], revision: u64) -> Option<usize> {
        let row = self.rows.get_mut(key)?;
        self.sum.remove(row.hash(key));
        let old_bytes = row.value.len();
        row.value = extended(std::mem::take(&mut row.value), tail);
        row.value_hash = appended_value_hash(row.value_hash, old_bytes, &row.value);
        row.revision = revision;
        self.sum.add(row.hash(key));
        Some(row.value.len())
    }

    /// Removes one row; returns whether it was there.
    pub(super) fn remove(&mut self, key: &[u8]) -> bool {
        let Some(row) = self.rows.remove(key) else { return false };
        self.sum.remove(row.hash(key));
        self.move_deadline(key, row.deadline_ms, NEVER);
        true
    }

    /// Removes every row.
    pub(super) fn clear(&mut self) {
        *self = Rows::default();
    }

    /// Removes the rows whose deadline is at or before `time_ms`, in the order of their deadlines.
    pub(super) fn expire(&mut self, time_ms: u64) {
        while self.next_deadline().is_some_and(|deadline_ms| deadline_ms <= time_ms) {
            let Some((_, key)) = self.deadlines.pop_first() else { return };
            let Some(row) = self.rows.remove(key.as_bytes()) else { panic!("the deadline of {key:?} has no row") };
            self.sum.remove(row.hash(key.as_bytes()));
        }
    }

    fn move_deadline(&mut self, key: &[u8], old_ms: u64, new_ms: u64) {
        if old_ms == new_ms {
            return;
        }
        if old_ms != NEVER {
            let was_there = self.deadlines.remove(&(old_ms, Key::from(key)));
            assert!(was_there, "the row {key:?} had deadline {old_ms}, the deadlines did not");
        }
        if new_ms != NEVER {
            self.deadlines.insert((new_ms, key.into()));
        }
    }

    /// Returns the sum recomputed from every row.
    #[cfg(test)]
    pub(super) fn rescan(&self) -> Sum {
        let mut sum = Sum::default();
        for (key, row) in &self.rows {
            assert_eq!(row.value_hash, value_hash(&row.value), "value hash of {key:?}");
            sum.add(row.hash(key.as_bytes()));
        }
        let with_deadline = self.rows.values().filter(|row| row.deadline_ms != NEVER).count();
        assert_eq!(with_deadline, self.deadlines.len());
        sum
    }
}

/// Returns `value` with `tail` behind it: in place if nobody else holds it, with room to grow.
fn extended(value: Bytes, tail: &[u8]) -> Bytes {
    let mut value = value.try_into_mut().unwrap_or_else(|shared| {
        let mut copy = BytesMut::with_capacity(shared.len() + tail.len());
        copy.extend_from_slice(&shared);
        copy
    });
    value.extend_from_slice(tail);
    value.freeze()
}
