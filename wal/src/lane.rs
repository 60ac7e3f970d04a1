//! The sync lane and the preparer: who syncs, who is woken, what quiet moments are used for.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::disk::Disk;
use crate::error::Poisoned;
use crate::log::Log;
use crate::sync::SyncJob;
use crate::types::Lsn;
use crate::wal::SharedDisk;

/// How often the making of a slot is tried again while the disk is full.
const FULL_RETRY: Duration = Duration::from_secs(1);
/// How many of the newest syncs [`crate::Stats`] looks at.
const SYNC_WINDOW: usize = 1024;

pub(crate) type Callback = Box<dyn FnOnce(Result<(), Poisoned>) + Send>;

/// What the handles and the threads of a log share.
pub(crate) struct Shared<D: Disk> {
    pub(crate) state: Mutex<State<D>>,
    /// Waiters of even and odd syncs: a sync wakes those whom it serves, and one of the others to run the next.
    pub(crate) served: [Condvar; 2],
    pub(crate) lane: Condvar,
    pub(crate) preparer: Condvar,
    pub(crate) slots: Condvar,
    pub(crate) durable: AtomicU64,
    pub(crate) disk: D,
    /// Holds the lock of the directory.
    pub(crate) _dir: Option<File>,
}

pub(crate) struct State<D: Disk> {
    pub(crate) log: Log<D>,
    /// The number and the target of the sync that is under way.
    pub(crate) in_flight: Option<(usize, Lsn)>,
    pub(crate) next_sync: usize,
    pub(crate) callbacks: VecDeque<(Lsn, Callback)>,
    pub(crate) calling: bool,
    /// Whether the lane sleeps without a deadline, so that an append must wake it.
    pub(crate) lane_asleep: bool,
    pub(crate) stopping: bool,
    pub(crate) syncs: u64,
    pub(crate) sync_us: Vec<u64>,
}

impl<D: SharedDisk> Shared<D> {
    /// Runs what stores records, once there is room for more unsynced bytes, and again while it is busy.
    pub(crate) fn stored<T, E>(
        &self,
        mut store: impl FnMut(&mut Log<D>) -> Result<T, E>,
        is_busy: impl Fn(&E) -> bool,
    ) -> Result<T, E> {
        let mut state = self.state.lock();
        loop {
            let log = &state.log;
            if log.unsynced_bytes() > log.options().max_unsynced_bytes && log.poisoned().is_none() {
                let target = log.durable();
                self.sync_or_wait(&mut state, Lsn(target.0 + 1));
                continue;
            }
            let result = store(&mut state.log);
            match &result {
                Err(error) if is_busy(error) => {
                    self.preparer.notify_one();
                    self.slots.wait(&mut state);
                }
                _ => {
                    if state.log.wants_slot() {
                        self.preparer.notify_one();
                    }
                    if state.lane_asleep {
                        state.lane_asleep = false;
                        self.lane.notify_one();
                    }
                    return result;
                }
            }
        }
    }

    /// Runs a sync if none is under way, else waits for the one that serves `upto`.
    pub(crate) fn sync_or_wait(&self, state: &mut MutexGuard<'_, State<D>>, upto: Lsn) {
        match state.in_flight {
            None => {
                self.run_sync(state, Log::begin_sync);
            }
            Some((number, target)) => {
                let serving = if upto <= target { number } else { number + 1 };
                self.served[serving % 2].wait(state);
            }
        }
    }

    /// Begins a job, runs it without the lock, and takes its result. Returns whether there was one.
    pub(crate) fn run_sync(
        &self,
        state: &mut MutexGuard<'_, State<D>>,
        begin: impl FnOnce(&mut Log<D>) -> Result<Option<SyncJob<D::Slot>>, Poisoned>,
    ) -> bool {
        let number = state.next_sync;
        let Ok(Some(job)) = begin(&mut state.log) else {
            self.wake_if_poisoned(state);
            return false;
        };
        state.in_flight = Some((number, job.target()));
        state.next_sync += 1;
        let (result, took) = MutexGuard::unlocked(state, || {
            let started = Instant::now();
            let result = job.run();
            (result, started.elapsed())
        });
        state.in_flight = None;
        state.note_sync(took);
        if let Ok(durable) = state.log.finish_sync(job, result) {
            self.durable.store(durable.0, Ordering::Release);
        }
        self.served[number % 2].notify_all();
        self.served[(number + 1) % 2].notify_one();
        self.wake_if_poisoned(state);
        if !state.callbacks.is_empty() {
            self.lane.notify_one();
        }
        if state.log.wants_slot() {
            self.preparer.notify_one();
        }
        true
    }

    fn wake_if_poisoned(&self, state: &State<D>) {
        if state.log.poisoned().is_some() {
            let everyone = [&self.served[0], &self.served[1], &self.lane, &self.preparer, &self.slots];
            for condvar in everyone {
                condvar.notify_all();
            }
        }
    }

    pub(crate) fn run_lane(&self) {
        let mut quiet = Quiet { since: Instant::now(), written: Lsn(0) };
        let mut state = self.state.lock();
        loop {
            self.run_callbacks(&mut state);
            if state.stopping {
                return;
            }
            if state.log.poisoned().is_some() {
                self.lane.wait(&mut state);
                continue;
            }
            if state.in_flight.is_some() {
                let tick = tick(&state);
                self.lane.wait_for(&mut state, tick);
                continue;
            }
            if !state.callbacks.is_empty() {
                self.run_sync(&mut state, Log::begin_sync);
                continue;
            }
            if quiet.is_over(&state) && state.log.is_settled() {
                state.lane_asleep = true;
                self.lane.wait(&mut state);
                state.lane_asleep = false;
                quiet.since = Instant::now();
                continue;
            }
            let tick = tick(&state);
            self.lane.wait_for(&mut state, tick);
            if state.in_flight.is_none() && !state.stopping {
                self.use_quiet(&mut state, &mut quiet);
            }
        }
    }

    /// Does what a quiet moment wants: first a sync, then a bare mark, then the headers.
    fn use_quiet(&self, state: &mut MutexGuard<'_, State<D>>, quiet: &mut Quiet) {
        let written = state.log.written();
        if written != quiet.written {
            // Not quiet. What nobody waits for becomes durable too, a tick later.
            let was_waiting = quiet.written != Lsn(0) && state.log.durable() < quiet.written;
            if was_waiting {
                self.run_sync(state, Log::begin_sync);
            }
            *quiet = Quiet { since: Instant::now(), written: state.log.written() };
            return;
        }
        let options = state.log.options();
        let (mark_after, headers_after) = (options.idle_mark_after, options.idle_headers_after);
        let silence = quiet.since.elapsed();
        if state.log.durable() < written {
            self.run_sync(state, Log::begin_sync);
        } else if silence >= headers_after {
            self.run_sync(state, Log::begin_headers);
        } else if silence >= mark_after {
            self.run_sync(state, Log::begin_idle_mark);
        }
        quiet.written = state.log.written();
    }

    fn run_callbacks(&self, state: &mut MutexGuard<'_, State<D>>) {
        loop {
            let durable = state.log.durable();
            let failed = state.log.check_poisoned();
            let mut ready = Vec::new();
            while let Some((upto, _)) = state.callbacks.front() {
                let outcome = if *upto <= durable { Ok(()) } else { failed.clone() };
                if *upto > durable && failed.is_ok() {
                    break;
                }
                ready.extend(state.callbacks.pop_front().map(|(_, callback)| (callback, outcome)));
            }
            if ready.is_empty() {
                return;
            }
            state.calling = true;
            MutexGuard::unlocked(state, || {
                for (callback, outcome) in ready {
                    callback(outcome);
                }
            });
            state.calling = false;
            self.slots.notify_all();
        }
    }

    pub(crate) fn run_preparer(&self) {
        let mut state = self.state.lock();
        while !state.stopping {
            let Some(task) = state.log.take_prepare_task() else {
                self.preparer.wait(&mut state);
                continue;
            };
            let made = MutexGuard::unlocked(&mut state, || task.run(&self.disk));
            state.log.finish_prepare(made);
            self.slots.notify_all();
            self.wake_if_poisoned(&state);
            if state.log.space().full && !state.stopping {
                self.preparer.wait_for(&mut state, FULL_RETRY);
            }
        }
    }
}

/// What the lane remembers to tell quiet from work.
struct Quiet {
    since: Instant,
    written: Lsn,
}

impl Quiet {
    fn is_over<D: Disk>(&self, state: &State<D>) -> bool {
        state.log.written() == self.written
    }
}

fn tick<D: Disk>(state: &State<D>) -> Duration {
    state.log.options().idle_mark_after.max(Duration::from_millis(1))
}

impl<D: Disk> State<D> {
    fn note_sync(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let place = usize::try_from(self.syncs % SYNC_WINDOW as u64).expect("within the window");
        match self.sync_us.get_mut(place) {
            Some(old) => *old = micros,
            None => self.sync_us.push(micros),
        }
        self.syncs += 1;
    }
}
