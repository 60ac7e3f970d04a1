//! The state machine: applies committed operations in log order, answers queries.

use super::execute::Execution;
use super::hash::{RowHasher, RowKind};
use super::query::{self, Budget, ScanStep};
use super::rows::Rows;
use super::sessions::{Admission, Now, Sessions};
use super::{Operation, Origin, Query, Reply};

/// Bytes that the reply of one logged operation may hold, or one value of the greatest size: it is kept in memory and sent
/// to the front node.
pub const LOGGED_REPLY_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Bytes that the reply of one local query may hold, or one value of the greatest size.
pub const QUERY_REPLY_BYTES_MAX: u64 = 60 * 1024 * 1024;

/// What one reply holds at least, so that a single value always fits.
const REPLY_SLACK_BYTES: u64 = 1024;

/// What the state refuses to hold. Decides what entries do, so it must be the same on every member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the longest value.
    pub max_value_bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { max_value_bytes: 8 * 1024 * 1024 }
    }
}

/// The replicated state at one index.
///
/// - A pure function of the entries applied: replicas at equal index answer alike and have the same hash.
/// - Every deadline is later than the logged time: what is over is gone, for queries and hash alike.
#[derive(Debug)]
pub struct Store {
    limits: Limits,
    applied: u64,
    time_ms: u64,
    rows: Rows,
    sessions: Sessions,
    /// The hash of the configuration that is in force; 0 before the first.
    configuration_hash: u128,
}

/// One committed entry, as the state sees it.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The entry's index: the revision of whatever it writes.
    pub index: u64,
    /// Logged time in milliseconds since the Unix epoch; never goes back.
    pub time_ms: u64,
    /// Who asked, if a session did.
    pub origin: Option<Origin>,
    /// What to do.
    pub operation: &'a Operation,
}

impl Default for Store {
    fn default() -> Store {
        Store::new(Limits::default())
    }
}

impl Store {
    /// Creates the state before the first entry.
    pub fn new(limits: Limits) -> Store {
        Store {
            limits,
            applied: 0,
            time_ms: 0,
            rows: Rows::default(),
            sessions: Sessions::new(),
            configuration_hash: 0,
        }
    }

    /// Replaces the limits, by an entry that every replica applies at the same index.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Applies one entry and returns its reply. O(log n) for each key named; expiry and FLUSHALL cost what they remove.
    ///
    /// [`super::CommandError::SessionExpired`], [`super::CommandError::SessionStale`] and [`super::CommandError::OutOfOrder`] mean that this
    /// entry executed nothing and used up no sequence number.
    ///
    /// # Panics
    ///
    /// If `input.index` is not above the applied index: entries are applied once, in order.
    pub fn apply(&mut self, input: Input<'_>) -> Reply {
        let now = self.advance(input.index, input.time_ms);
        let Some(origin) = input.origin else { return self.execute(input.operation, now) };
        match self.sessions.admit(&origin, now) {
            Admission::Execute => {
                let reply = self.execute(input.operation, now);
                self.sessions.on_executed(&origin, now, &reply);
                reply
            }
            Admission::Repeat(reply) => reply,
            Admission::Refuse(error) => Reply::Error(error),
        }
    }

    /// Applies an entry that only carries the time: what is due ends.
    ///
    /// # Panics
    ///
    /// Like [`Store::apply`].
    pub fn apply_time(&mut self, index: u64, time_ms: u64) {
        self.advance(index, time_ms);
    }

    /// Applies a configuration entry. Its bytes are part of the hash. Index 0 stands for the bootstrap configuration.
    ///
    /// # Panics
    ///
    /// Like [`Store::apply`].
    pub fn apply_configuration(&mut self, index: u64, time_ms: u64, configuration: &[u8]) {
        if index > 0 {
            self.advance(index, time_ms);
        }
        self.configuration_hash = RowHasher::new(RowKind::Configuration).u64(index).bytes(configuration).finish();
    }

    /// Answers a query from this state; [`super::CommandError::ReplyTooLarge`] above 60 MiB.
    pub fn query(&self, query: &Query) -> Reply {
        query::answer(&self.rows, query, &mut self.query_budget())
    }

    /// Looks at up to `count` keys (at least one) after `after`, from the first if `None`, and returns those that match.
    pub fn scan(&self, after: Option<&[u8]>, count: u64, pattern: Option<&[u8]>) -> ScanStep {
        // One key always fits the budget, so a step never fails.
        let step = query::scan(&self.rows, after, count, pattern, &mut self.query_budget());
        step.unwrap_or_else(|error| panic!("a scan step of one key fits any budget, got {error}"))
    }

    /// Returns the order-independent hash of the state at the applied index: rows, sessions and configuration. O(1).
    pub fn state_hash(&self) -> u128 {
        let mut sum = self.rows.sum();
        sum.add(self.sessions.sum().value());
        sum.add(self.configuration_hash);
        sum.value()
    }

    /// Returns the index of the newest entry applied.
    pub fn applied_index(&self) -> u64 {
        self.applied
    }

    /// Returns the logged time in milliseconds since the Unix epoch.
    pub fn time_ms(&self) -> u64 {
        self.time_ms
    }

    /// Returns how many keys there are.
    pub fn keys(&self) -> u64 {
        self.rows.count()
    }

    /// Returns the logged time in milliseconds at which the next key ends, for the leader to log a time entry.
    pub fn next_deadline(&self) -> Option<u64> {
        self.rows.next_deadline()
    }

    /// Returns the logged time in milliseconds at which `key` ends; `None` if it is absent or has no end.
    pub fn deadline_ms(&self, key: &[u8]) -> Option<u64> {
        self.rows.row(key)?.deadline_ms()
    }

    /// Returns how many sessions were opened and have not ended.
    pub fn opened_sessions(&self) -> usize {
        self.sessions.counts().0
    }

    /// Returns how many connections have a session.
    pub fn connection_sessions(&self) -> usize {
        self.sessions.counts().1
    }

    /// Returns the memory in bytes that replies kept for retries take.
    pub fn session_reply_bytes(&self) -> u64 {
        self.sessions.reply_bytes()
    }

    fn execute(&mut self, operation: &Operation, now: Now) -> Reply {
        let budget = Budget::new(LOGGED_REPLY_BYTES_MAX.max(self.value_reply_bytes()));
        let (rows, sessions) = (&mut self.rows, &mut self.sessions);
        Execution { rows, sessions, now, max_value_bytes: self.limits.max_value_bytes, budget }.run(operation)
    }

    fn advance(&mut self, index: u64, time_ms: u64) -> Now {
        assert!(index > self.applied, "entries are applied once and in order: {index} after {}", self.applied);
        self.applied = index;
        if time_ms > self.time_ms {
            self.time_ms = time_ms;
            self.rows.expire(time_ms);
            self.sessions.expire(time_ms);
        }
        Now { index, time_ms: self.time_ms }
    }

    fn query_budget(&self) -> Budget {
        Budget::new(QUERY_REPLY_BYTES_MAX.max(self.value_reply_bytes()))
    }

    fn value_reply_bytes(&self) -> u64 {
        self.limits.max_value_bytes.saturating_add(REPLY_SLACK_BYTES)
    }

    /// Returns the hash recomputed from everything, with every invariant checked on the way.
    #[cfg(test)]
    pub(super) fn rescanned_hash(&self) -> u128 {
        assert!(self.next_deadline().is_none_or(|deadline_ms| deadline_ms > self.time_ms));
        let mut sum = self.rows.rescan();
        sum.add(self.sessions.rescan().value());
        sum.add(self.configuration_hash);
        sum.value()
    }
}
