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

use parking_lot::{Condvar, Mutex};
use rustix::fs::FlockOperation;

use crate::disk::{Disk, Slot};
use crate::error::{AppendError, OpenError, Poisoned, PurgeError, ReadError};
use crate::fs::{FsDisk, FsView};
use crate::lane::{Shared, State};
use crate::log::{Log, Space};
use crate::open::Recovery;
use crate::options::Options;
use crate::read::LogEntry;
use crate::types::{Batch, HardState, Index, LogId, Lsn, Term};

/// One entry of a log on files, read in place: bytes of the mapped slot, which stays while this lives.
pub type Entry = LogEntry<FsView>;

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

    /// Returns why the log is poisoned, if it is.
    pub fn poisoned(&self) -> Option<Poisoned> {
        self.shared().state.lock().log.poisoned().cloned()
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
