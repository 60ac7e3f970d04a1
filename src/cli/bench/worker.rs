//! The clients of a run, and what they count.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use parking_lot::Mutex;

use super::super::exit::Failure;
use super::load::{Draw, Load, Operation};
use super::pace::Schedule;
use super::target::{Connection, Fate, Target};

/// The longest latency that is told apart: ten minutes.
const LATENCY_NANOS_MAX: u64 = 600_000_000_000;

/// What all clients share.
pub(super) struct Shared {
    pub(super) schedule: Schedule,
    load: Load,
    keys: u32,
    value_bytes: u64,
    connected: AtomicU32,
    working: AtomicU32,
    done: AtomicU64,
}

/// What was done: by one client, or by all.
pub(super) struct Tally {
    /// Latencies of what succeeded, in nanoseconds.
    pub(super) latency: Histogram<u64>,
    pub(super) errors: u64,
    pub(super) uncertain: u64,
    pub(super) first_error: Option<String>,
    /// From the start to the last answer.
    pub(super) elapsed: Duration,
    last_answer: Option<Instant>,
}

impl Shared {
    pub(super) fn new(schedule: Schedule, load: Load, keys: u32, value_bytes: u64) -> Shared {
        Shared {
            schedule,
            load,
            keys,
            value_bytes,
            connected: AtomicU32::new(0),
            working: AtomicU32::new(0),
            done: AtomicU64::new(0),
        }
    }

    /// Returns how many clients are connected.
    pub(super) fn connected(&self) -> u32 {
        self.connected.load(Ordering::Acquire)
    }

    /// Returns how many clients have not ended.
    pub(super) fn working(&self) -> u32 {
        self.working.load(Ordering::Acquire)
    }

    /// Returns how many operations have ended, well or not.
    pub(super) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }
}

/// Connects `clients` and lets them work on this thread until the run is over.
pub(super) async fn run_all(target: Arc<Target>, shared: Arc<Shared>, clients: Vec<u32>) -> Result<Tally, Failure> {
    let mut running = tokio::task::JoinSet::new();
    // One tally a thread: a histogram is large, and clients may be many.
    let tally = Arc::new(Mutex::new(Tally::new()));
    for client in clients {
        let mut connection = target.connect(client).await?;
        if shared.load.writes() {
            // Opens the client's session, which is no part of what is measured. If it fails, so does what follows.
            connection.execute(Operation::Put, b"bench:warm".to_vec(), &Bytes::from_static(b"x")).await;
        }
        shared.working.fetch_add(1, Ordering::Release);
        shared.connected.fetch_add(1, Ordering::Release);
        let (shared, tally) = (Arc::clone(&shared), Arc::clone(&tally));
        running.spawn(async move {
            work(&shared, connection, client, &tally).await;
            shared.working.fetch_sub(1, Ordering::Release);
        });
    }
    while let Some(ended) = running.join_next().await {
        ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    }
    let tally = std::mem::replace(&mut *tally.lock(), Tally::new());
    Ok(tally)
}

/// One client's work.
async fn work(shared: &Shared, mut connection: Connection, client: u32, tally: &Mutex<Tally>) {
    let mut draw = Draw::new(shared.load, shared.keys, shared.value_bytes, client);
    shared.schedule.wait_start().await;
    while let Some((number, intended)) = shared.schedule.next().await {
        let (operation, key) = draw.next(number);
        let fate = connection.execute(operation, key, draw.value()).await;
        tally.lock().record(intended, fate);
        shared.done.fetch_add(1, Ordering::Relaxed);
    }
}

impl Tally {
    pub(super) fn new() -> Tally {
        Tally {
            latency: Histogram::new_with_max(LATENCY_NANOS_MAX, 3).expect("the bounds are good"),
            errors: 0,
            uncertain: 0,
            first_error: None,
            elapsed: Duration::ZERO,
            last_answer: None,
        }
    }

    /// Returns how many operations succeeded.
    pub(super) fn done(&self) -> u64 {
        self.latency.len()
    }

    /// Adds what another did.
    pub(super) fn add(&mut self, other: &Tally) {
        self.latency += &other.latency;
        self.errors += other.errors;
        self.uncertain += other.uncertain;
        self.first_error = self.first_error.take().or_else(|| other.first_error.clone());
        self.last_answer = self.last_answer.max(other.last_answer);
    }

    /// Sets the length of the run.
    pub(super) fn close(&mut self, shared: &Shared) {
        let ends = shared.schedule.started().zip(self.last_answer);
        self.elapsed = ends.map_or(Duration::ZERO, |(started, last)| last.saturating_duration_since(started));
    }

    /// Counts an operation that was to start at `intended` and has just ended.
    fn record(&mut self, intended: Instant, fate: Fate) {
        let now = Instant::now();
        self.last_answer = Some(now);
        match fate {
            Fate::Done => {
                let nanos = u64::try_from((now - intended).as_nanos()).unwrap_or(u64::MAX);
                self.latency.saturating_record(nanos);
            }
            Fate::Refused(why) => {
                self.errors += 1;
                self.first_error.get_or_insert(why);
            }
            Fate::Uncertain(why) => {
                self.uncertain += 1;
                self.first_error.get_or_insert(why);
            }
        }
    }
}
