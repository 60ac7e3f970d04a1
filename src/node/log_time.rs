//! Logged time: the leader's clock as it stands in the entries; it never goes back.

use super::event::Clock;

/// The time a leader writes into entries.
///
/// - Never below any time already in this node's log.
/// - While a node leads, it advances with the monotonic clock: a jump of the wall clock moves it only at an election.
#[derive(Debug)]
pub(super) struct LogTime {
    newest_ms: u64,
    base: Option<Base>,
}

#[derive(Debug)]
struct Base {
    logged_ms: u64,
    monotonic_ms: u64,
}

impl LogTime {
    pub(super) fn new(newest_ms: u64) -> LogTime {
        LogTime { newest_ms, base: None }
    }

    /// Takes note of a time found in an entry of this log.
    pub(super) fn on_logged(&mut self, time_ms: u64) {
        self.newest_ms = self.newest_ms.max(time_ms);
    }

    /// Starts a new leadership at `clock`, or ends one.
    pub(super) fn on_role(&mut self, leads: bool, clock: Clock) {
        self.base =
            leads.then(|| Base { logged_ms: self.newest_ms.max(clock.wall_ms), monotonic_ms: clock.monotonic_ms });
    }

    /// Returns the time for an entry proposed at `clock`.
    pub(super) fn take(&mut self, clock: Clock) -> u64 {
        if let Some(base) = &self.base {
            let elapsed = clock.monotonic_ms.saturating_sub(base.monotonic_ms);
            self.newest_ms = self.newest_ms.max(base.logged_ms.saturating_add(elapsed));
        }
        self.newest_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(monotonic_ms: u64, wall_ms: u64) -> Clock {
        Clock { monotonic_ms, wall_ms }
    }

    /// A wall clock that jumps, either way, moves logged time only at an election and never back.
    #[test]
    fn logged_time_never_goes_back() {
        let mut time = LogTime::new(500);
        time.on_role(true, clock(10, 1_000));
        assert_eq!(time.take(clock(15, 9_000_000)), 1_005);
        assert_eq!(time.take(clock(20, 3)), 1_010);
        time.on_role(false, clock(21, 3));
        time.on_logged(2_000);
        time.on_role(true, clock(30, 100));
        assert_eq!(time.take(clock(31, 100)), 2_001);
    }
}
