//! When operations start, and when the run is over.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use tokio::sync::Semaphore;

use super::report::Progress;
use super::worker::Shared;

/// How long a run lasts if nothing is said.
const DURATION_DEFAULT: Duration = Duration::from_secs(10);
/// How often the conductor looks at what is not urgent.
const BEAT: Duration = Duration::from_millis(5);
/// The finest grain of an open loop's schedule: a sleep takes about as long.
const GRAIN: Duration = Duration::from_micros(50);
/// How long late operations of an open loop may take once the time is over.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(10);

/// Gives out operations by number, each with its intended start.
pub(super) struct Schedule {
    rate: Option<u32>,
    total: u64,
    duration: Option<Duration>,
    /// Set when every client is connected.
    started: RwLock<Option<Instant>>,
    taken: AtomicU64,
    is_over: AtomicBool,
    /// Wakes the clients: at the start (closed loop), or one by one as starts fall due (open loop).
    gate: Semaphore,
}

impl Schedule {
    /// As fast as the clients go.
    pub(super) fn closed(total: Option<u32>, duration: Option<Duration>) -> Schedule {
        Schedule::new(None, total, duration)
    }

    /// `rate` operations a second.
    pub(super) fn open(rate: u32, total: Option<u32>, duration: Option<Duration>) -> Schedule {
        Schedule::new(Some(rate), total, duration)
    }

    fn new(rate: Option<u32>, total: Option<u32>, duration: Option<Duration>) -> Schedule {
        let duration = duration.or(if total.is_none() { Some(DURATION_DEFAULT) } else { None });
        // An open loop of a given length has a number of operations of its own.
        let by_time = rate.zip(duration).map(|(rate, duration)| (intended_by(rate, duration) - 1).max(1));
        Schedule {
            rate,
            total: total.map(u64::from).or(by_time).unwrap_or(u64::MAX),
            duration,
            started: RwLock::new(None),
            taken: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            gate: Semaphore::new(0),
        }
    }

    /// Waits for the next operation: its number and its intended start; `None` once the run is over.
    pub(super) async fn next(&self) -> Option<(u64, Instant)> {
        if self.rate.is_some() {
            self.gate.acquire().await.ok()?.forget();
        }
        if self.is_over.load(Ordering::Relaxed) {
            return None;
        }
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        if number >= self.total {
            self.gate.close();
            return None;
        }
        let intended = match (self.rate, *self.started.read()) {
            (Some(rate), Some(started)) => started + start_of(rate, number),
            (Some(_), None) | (None, _) => Instant::now(),
        };
        Some((number, intended))
    }

    /// Waits until the run begins.
    pub(super) async fn wait_start(&self) {
        if self.rate.is_none() {
            // Closed once, at the start: every client passes.
            self.gate.acquire().await.ok();
        }
    }

    /// Returns how many operations there will be, if that is known.
    pub(super) fn total(&self) -> Option<u64> {
        (self.total != u64::MAX).then_some(self.total)
    }

    /// Returns how long the run lasts, if that is known.
    pub(super) fn duration(&self) -> Option<Duration> {
        self.duration
    }

    /// Returns when the run began.
    pub(super) fn started(&self) -> Option<Instant> {
        *self.started.read()
    }

    fn begin(&self) {
        *self.started.write() = Some(Instant::now());
        if self.rate.is_none() {
            self.gate.close();
        }
    }

    /// Ends the run: nobody gets another operation.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.gate.close();
    }
}

/// Starts the run once all clients are connected, keeps its time, and ends it.
///
/// `has_ended` tells that a thread has ended before the start, so it has failed: then nothing starts.
pub(super) fn conduct(shared: &Shared, clients: u32, has_ended: impl Fn() -> bool, progress: &Progress) {
    while shared.connected() < clients {
        if has_ended() {
            return shared.schedule.end();
        }
        std::thread::sleep(BEAT);
    }
    let schedule = &shared.schedule;
    schedule.begin();
    let begun = Instant::now();
    let mut released = 0;
    while shared.working() > 0 {
        let elapsed = begun.elapsed();
        let mut pause = BEAT;
        if let Some(rate) = schedule.rate {
            let due = intended_by(rate, elapsed).min(schedule.total);
            schedule.gate.add_permits(usize::try_from(due - released).unwrap_or(0));
            released = due;
            pause = start_of(rate, due).saturating_sub(elapsed).clamp(GRAIN, BEAT);
        }
        if is_over(schedule, elapsed) {
            schedule.end();
        }
        progress.tell(shared, elapsed);
        std::thread::sleep(pause);
    }
}

fn is_over(schedule: &Schedule, elapsed: Duration) -> bool {
    match (schedule.duration, schedule.rate) {
        (Some(duration), None) => elapsed >= duration,
        // What fell due in time is still done, unless the cluster is far behind.
        (Some(duration), Some(_)) => elapsed >= duration + DRAIN_TIME_MAX,
        (None, _) => false,
    }
}

/// Returns how many operations should have started `elapsed` after the beginning: the first one starts at once.
fn intended_by(rate: u32, elapsed: Duration) -> u64 {
    let count = elapsed.as_nanos() * u128::from(rate) / 1_000_000_000 + 1;
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn start_of(rate: u32, number: u64) -> Duration {
    let nanos = u128::from(number) * 1_000_000_000 / u128::from(rate);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_loop_starts_on_a_grid() {
        assert_eq!([0, 1, 2_000].map(|number| start_of(1_000, number).as_millis()), [0, 1, 2_000]);
        assert_eq!(intended_by(1_000, Duration::ZERO), 1);
        assert_eq!(intended_by(1_000, Duration::from_micros(2_500)), 3);
        assert_eq!(intended_by(3, Duration::from_secs(1)), 4);
    }

    #[tokio::test]
    async fn a_late_operation_keeps_its_intended_start() {
        let schedule = Schedule::open(1_000, Some(3), None);
        schedule.begin();
        let begun = schedule.started().unwrap();
        schedule.gate.add_permits(4);
        for number in 0..3 {
            let (got, intended) = schedule.next().await.unwrap();
            assert_eq!((got, intended), (number, begun + Duration::from_millis(number)));
        }
        assert!(schedule.next().await.is_none());
    }

    #[tokio::test]
    async fn a_closed_loop_ends_by_number_or_by_time() {
        let schedule = Schedule::closed(Some(2), None);
        schedule.begin();
        schedule.wait_start().await;
        assert!(schedule.next().await.is_some() && schedule.next().await.is_some());
        assert!(schedule.next().await.is_none());
        let schedule = Schedule::closed(None, Some(Duration::from_secs(1)));
        assert!(schedule.next().await.is_some());
        assert!(is_over(&schedule, Duration::from_secs(1)));
        schedule.end();
        assert!(schedule.next().await.is_none());
    }
}
