//! The log on real files with its threads: many appenders, one sync lane, one preparer of slots.
//!
//! The lane is a right, not a thread: whoever waits while nobody syncs runs the sync himself, which saves a lone
//! writer two thread hops. The lane's thread syncs for callbacks, runs them, and writes what quiet moments want.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use rustix::fs::FlockOperation;

use crate::disk::{Disk, Slot};
use crate::error::{AppendError, OpenError, Poisoned, PurgeError, ReadError};
use crate::fs::{FsDisk, FsView};
use crate::log::{Log, LogEntry, Space};
use crate::open::Recovery;
use crate::options::Options;
use crate::sync::SyncJob;
use crate::types::{Batch, HardState, Index, LogId, Lsn, Term};

/// How often the making of a slot is tried again while the disk is full.
const FULL_RETRY: Duration = Duration::from_secs(1);
/// How many of the newest syncs [`Stats`] looks at.
const SYNC_WINDOW: usize = 1024;

/// One entry of a log on files, read in place: bytes of the mapped slot, which stays while this lives.
pub type Entry = LogEntry<FsView>;

type Callback = Box<dyn FnOnce(Result<(), Poisoned>) + Send>;

/// A disk that threads can share.
pub trait SharedDisk: Disk<Slot: Send + Sync + 'static> + Clone + Send + Sync + 'static {}

impl<D: Disk<Slot: Send + Sync + 'static> + Clone + Send + Sync + 'static> SharedDisk for D {}

/// A write-ahead log. Clones are handles of the same log.
///
/// - What is below [`Wal::durable`] survives a power cut; it only grows.
/// - After a failed sync or write everything answers [`Poisoned`], for the rest of the process.
pub struct Wal<D: SharedDisk = FsDisk> {
    handle: Arc<Handle<D>>,
}

impl<D: SharedDisk> Clone for Wal<D> {
    fn clone(&self) -> Self {
        Wal { handle: Arc::clone(&self.handle) }
    }
}

impl<D: SharedDisk> std::fmt::Debug for Wal<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wal").field("durable", &self.durable()).finish_non_exhaustive()
    }
}

/// Figures of a running log.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Syncs since the log was opened.
    pub syncs: u64,
    /// The median of the newest 1024 syncs, in microseconds.
    pub sync_p50_us: u64,
    /// The 99th percentile of the newest 1024 syncs, in microseconds.
    pub sync_p99_us: u64,
    /// The longest of the newest 1024 syncs, in microseconds.
    pub sync_max_us: u64,
    /// Record bytes stored since the log was opened.
    pub appended_bytes: u64,
    /// Bytes that are stored but not durable.
    pub unsynced_bytes: u64,
    /// Memory that the index takes, in bytes.
    pub index_bytes: u64,
    /// The slots.
    pub space: Space,
    /// Bytes of a slot.
    pub segment_bytes: u64,
    /// Why the log is poisoned, if it is.
    pub poisoned: Option<Poisoned>,
}

/// Ends the threads with the last handle.
struct Handle<D: SharedDisk> {
    shared: Arc<Shared<D>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared<D: Disk> {
    state: Mutex<State<D>>,
    /// Waiters of even and odd syncs: a sync wakes those whom it serves, and one of the others to run the next.
    served: [Condvar; 2],
    lane: Condvar,
    preparer: Condvar,
    slots: Condvar,
    durable: AtomicU64,
    disk: D,
    /// Holds the lock of the directory.
    _dir: Option<File>,
}

struct State<D: Disk> {
    log: Log<D>,
    /// The number and the target of the sync that is under way.
    in_flight: Option<(usize, Lsn)>,
    next_sync: usize,
    callbacks: VecDeque<(Lsn, Callback)>,
    calling: bool,
    /// Whether the lane sleeps without a deadline, so that an append must wake it.
    lane_asleep: bool,
    stopping: bool,
    syncs: u64,
    sync_us: Vec<u64>,
}

impl Wal {
    /// Opens the log in a directory, making both if they are not there.
    ///
    /// Blocks for as long as reading every live segment takes. When it returns, what it reports is on the disk.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(dir: &Path, options: Options) -> Result<(Wal, Recovery), OpenError> {
        let failed = |source| OpenError::Io { context: format!("opening {}", dir.display()), source };
        let disk = FsDisk::new(dir).map_err(failed)?;
        let lock = File::open(dir).map_err(failed)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(OpenError::Locked { dir: dir.to_path_buf() }),
            Err(error) => return Err(failed(error.into())),
        }
        Wal::start(disk, options, Some(lock))
    }
}

impl<D: SharedDisk> Wal<D> {
    /// Opens the log on any disk.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open_on(disk: D, options: Options) -> Result<(Wal<D>, Recovery), OpenError> {
        Wal::start(disk, options, None)
    }

    fn start(disk: D, options: Options, dir: Option<File>) -> Result<(Wal<D>, Recovery), OpenError> {
        let seed = options.seed.unwrap_or_else(seed_from_system);
        let (log, recovery) = Log::open(disk.clone(), options, seed)?;
        let shared = Arc::new(Shared {
            durable: AtomicU64::new(log.durable().0),
            state: Mutex::new(State {
                log,
                in_flight: None,
                next_sync: 0,
                callbacks: VecDeque::new(),
                calling: false,
                lane_asleep: false,
                stopping: false,
                syncs: 0,
                sync_us: Vec::new(),
            }),
            served: [Condvar::new(), Condvar::new()],
            lane: Condvar::new(),
            preparer: Condvar::new(),
            slots: Condvar::new(),
            disk,
            _dir: dir,
        });
        let handle = Arc::new(Handle { shared: Arc::clone(&shared), threads: Mutex::new(Vec::new()) });
        let (lane, preparer) = (Arc::clone(&shared), shared);
        let threads = [
            std::thread::Builder::new().name("wal-sync".into()).spawn(move || lane.run_lane()),
            std::thread::Builder::new().name("wal-slots".into()).spawn(move || preparer.run_preparer()),
        ];
        for thread in threads {
            let thread = thread.map_err(|source| OpenError::Io { context: "starting a log thread".into(), source })?;
            handle.threads.lock().push(thread);
        }
        Ok((Wal { handle }, recovery))
    }

    fn shared(&self) -> &Shared<D> {
        &self.handle.shared
    }

    /// Appends a batch, whole or not at all, and returns the position that must be durable for it to be. Not durable
    /// yet.
    ///
    /// Waits while too many bytes are unsynced, or while the next slot is being made.
    ///
    /// # Errors
    /// See [`AppendError`]; nothing has changed, unless the log is poisoned.
    pub fn append(&self, batch: &Batch<'_>) -> Result<Lsn, AppendError> {
        self.shared().stored(|log| log.append(batch), |error| matches!(error, AppendError::Busy))
    }

    /// Returns the position up to which everything is on the disk.
    pub fn durable(&self) -> Lsn {
        Lsn(self.shared().durable.load(Ordering::Acquire))
    }

    /// Returns once everything below `upto` is on the disk; runs the sync in this thread if nobody else does.
    ///
    /// # Errors
    /// When the log is poisoned.
    ///
    /// # Panics
    /// When `upto` is beyond what was appended.
    pub fn wait_durable(&self, upto: Lsn) -> Result<(), Poisoned> {
        if self.durable() >= upto {
            return Ok(());
        }
        let mut state = self.shared().state.lock();
        assert!(upto <= state.log.written(), "waiting for {upto}, written {}", state.log.written());
        while state.log.durable() < upto {
            state.log.check_poisoned()?;
            self.shared().sync_or_wait(&mut state, upto);
        }
        Ok(())
    }

    /// Calls `f` once everything below `upto` is on the disk, or the log is poisoned.
    ///
    /// Calls come in the order of the requests, from the log's own thread, or from this one if nothing is left to
    /// wait for. `f` must not block, and must not wait for the log.
    pub fn on_durable(&self, upto: Lsn, f: impl FnOnce(Result<(), Poisoned>) + Send + 'static) {
        let shared = self.shared();
        let mut state = shared.state.lock();
        let ready = state.log.durable() >= upto || state.log.poisoned().is_some();
        if ready && state.callbacks.is_empty() && !state.calling {
            let outcome = if state.log.durable() >= upto { Ok(()) } else { state.log.check_poisoned() };
            drop(state);
            f(outcome);
            return;
        }
        state.callbacks.push_back((upto, Box::new(f)));
        if state.in_flight.is_none() && !state.calling {
            shared.lane.notify_one();
        }
    }

    /// Returns the entry as bytes of its mapped slot, checked against both its checksums.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn entry(&self, index: Index) -> Result<LogEntry<<D::Slot as Slot>::View>, ReadError> {
        let located = self.shared().state.lock().log.locate(index)?;
        located.read(&self.shared().disk)
    }

    /// Returns the term of an entry, or of the last purged one.
    pub fn term(&self, index: Index) -> Option<Term> {
        self.shared().state.lock().log.term(index)
    }

    /// Returns the index of the first entry; one above the last if there is none.
    pub fn first_index(&self) -> Index {
        self.shared().state.lock().log.first_index()
    }

    /// Returns the index of the last entry; one below the first if there is none.
    pub fn last_index(&self) -> Index {
        self.shared().state.lock().log.last_index()
    }

    /// Returns the entry before the first: the newest that is purged.
    pub fn purged(&self) -> LogId {
        self.shared().state.lock().log.purged()
    }

    /// Returns the newest hard state, durable or not.
    pub fn hard_state(&self) -> HardState {
        self.shared().state.lock().log.hard_state()
    }

    /// Returns the options, with the segment size that the log has.
    pub fn options(&self) -> Options {
        self.shared().state.lock().log.options().clone()
    }

    /// Drops the entries up to `upto`, which must be in a durable snapshot. Slots are freed once this is durable;
    /// returns the position for that, or `None` if there was nothing to drop.
    ///
    /// # Errors
    /// See [`PurgeError`].
    pub fn purge(&self, upto: Index) -> Result<Option<Lsn>, PurgeError> {
        let busy = |error: &PurgeError| matches!(error, PurgeError::Append(AppendError::Busy));
        self.shared().stored(|log| log.purge(upto), busy)
    }

    /// Drops every entry: the log goes on after `last`, the last entry of a durable snapshot that came from elsewhere.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub fn reset(&self, last: LogId) -> Result<Lsn, AppendError> {
        self.shared().stored(|log| log.reset(last), |error| matches!(error, AppendError::Busy))
    }

    /// Returns figures of the log.
    pub fn stats(&self) -> Stats {
        let state = self.shared().state.lock();
        let mut sorted = state.sync_us.clone();
        let log = &state.log;
        let mut stats = Stats {
            syncs: state.syncs,
            appended_bytes: log.appended_bytes(),
            unsynced_bytes: log.unsynced_bytes(),
            index_bytes: log.index_bytes(),
            space: log.space(),
            segment_bytes: log.options().segment_bytes,
            poisoned: log.poisoned().cloned(),
            ..Stats::default()
        };
        drop(state);
        sorted.sort_unstable();
        let at = |percent: usize| sorted.get(sorted.len() * percent / 100).or(sorted.last()).copied().unwrap_or(0);
        (stats.sync_p50_us, stats.sync_p99_us, stats.sync_max_us) = (at(50), at(99), at(100));
        stats
    }

    /// Stops cleanly: everything is durable and covered by both header copies when this returns. Other handles then
    /// find the log closed.
    ///
    /// # Errors
    /// When the log is poisoned.
    pub fn close(self) -> Result<(), Poisoned> {
        let shared = self.shared();
        let mut state = shared.state.lock();
        while !state.log.is_settled() {
            state.log.check_poisoned()?;
            if state.in_flight.is_some() {
                let target = state.log.written();
                shared.sync_or_wait(&mut state, target);
            } else if !shared.run_sync(&mut state, Log::begin_sync) {
                shared.run_sync(&mut state, Log::begin_headers);
            }
        }
        state.log.check_poisoned()?;
        // The callbacks of what is durable still run, on the lane's thread, before it ends.
        while state.calling || state.callbacks.iter().any(|(upto, _)| *upto <= state.log.durable()) {
            shared.lane.notify_one();
            shared.slots.wait(&mut state);
        }
        state.log.poison(Poisoned { message: "the log is closed".into(), os_error: None });
        drop(state);
        self.handle.stop();
        Ok(())
    }
}

impl<D: SharedDisk> Shared<D> {
    /// Runs what stores records, once there is room for more unsynced bytes, and again while it is busy.
    fn stored<T, E>(
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
    fn sync_or_wait(&self, state: &mut MutexGuard<'_, State<D>>, upto: Lsn) {
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
    fn run_sync(
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

    fn run_lane(&self) {
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

    fn run_preparer(&self) {
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

impl<D: SharedDisk> Handle<D> {
    fn stop(&self) {
        self.shared.state.lock().stopping = true;
        self.shared.lane.notify_all();
        self.shared.preparer.notify_all();
        for thread in std::mem::take(&mut *self.threads.lock()) {
            // The last handle may be dropped by a callback, on the lane's own thread.
            if thread.thread().id() != std::thread::current().id() {
                thread.join().ok();
            }
        }
    }
}

impl<D: SharedDisk> Drop for Handle<D> {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Draws a number that does not repeat from the operating system, by way of the standard library.
fn seed_from_system() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

/// Tells a poisoned log from one that was never opened.
impl From<Poisoned> for io::Error {
    fn from(poisoned: Poisoned) -> io::Error {
        io::Error::other(poisoned)
    }
}
