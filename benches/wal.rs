//! The log: what one append costs, what a sync costs beside the bare system calls, what grouping gains, how fast it
//! opens.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a bench")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kontiki_wal::{Batch, Index, Lsn, NewEntry, Options, Term, Wal};
use parking_lot::Mutex;
use tempfile::TempDir;

/// Appends the next entries of a log, whoever asks.
struct Writer {
    wal: Wal,
    next: Mutex<u64>,
    _dir: TempDir,
}

fn directory() -> TempDir {
    // Beside the build, not in /tmp, which is often no disk at all.
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

impl Writer {
    fn new(options: Options) -> Writer {
        let dir = directory();
        let (wal, found) = Wal::open(dir.path(), options).unwrap();
        let writer = Writer { wal, next: Mutex::new(found.last.0 + 1), _dir: dir };
        while writer.wal.stats().space.prepared_slots < 2 {
            std::thread::sleep(Duration::from_millis(5));
        }
        writer
    }

    fn append(&self, payload: &[u8], count: usize) -> Lsn {
        let mut next = self.next.lock();
        let numbered = (*next..).take(count);
        let entries: Vec<_> = numbered.map(|index| NewEntry { index: Index(index), term: Term(1), payload }).collect();
        *next += count as u64;
        self.wal.append(&Batch { entries: &entries, ..Batch::default() }).unwrap()
    }

    /// Makes everything durable and drops it, so that slots go round.
    fn clear(&self) {
        let last = self.wal.last_index();
        if let Ok(Some(end)) = self.wal.purge(last) {
            self.wal.wait_durable(end).unwrap();
        }
    }
}

/// Appends from `threads` threads that each wait for their own entry.
fn waiting_threads(writer: &Writer, threads: u64, iterations: u64) -> Duration {
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                for _ in 0..iterations.div_ceil(threads) {
                    let end = writer.append(&[7; 128], 1);
                    writer.wal.wait_durable(end).unwrap();
                }
            });
        }
    });
    let took = started.elapsed();
    writer.clear();
    took
}

/// How many small entries a second can one thread hand to the log, the disk aside?
fn append_unsynced(c: &mut Criterion) {
    let mut group = c.benchmark_group("wal/append_unsynced");
    for bytes in [128usize, 1024] {
        let writer = Writer::new(Options { max_unsynced_bytes: 1 << 40, ..Options::default() });
        let payload = vec![7; bytes];
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::from_parameter(bytes), |bench| {
            bench.iter_custom(|iterations| {
                let mut took = Duration::ZERO;
                let mut left = iterations;
                while left > 0 {
                    let round = left.min(20_000);
                    let mut index = *writer.next.lock();
                    let started = Instant::now();
                    for _ in 0..round {
                        let entries = [NewEntry { index: Index(index), term: Term(1), payload: &payload }];
                        writer.wal.append(&Batch { entries: &entries, ..Batch::default() }).unwrap();
                        index += 1;
                    }
                    took += started.elapsed();
                    *writer.next.lock() = index;
                    writer.clear();
                    left -= round;
                }
                took
            });
        });
    }
    group.finish();
}

/// What does a lone durable record of 128 bytes cost beyond the bare overwrite and fdatasync of as many bytes?
///
/// Both take turns, whichever is being timed, so that a disk that drifts drifts for both.
fn lone_sync(c: &mut Criterion) {
    let mut group = c.benchmark_group("wal/lone_sync_128");
    let dir = directory();
    let file = zeroed(dir.path(), 16 << 20);
    let writer = Writer::new(Options::default());
    let mut at = 0;
    let mut raw = || {
        file.write_all_at(&[7; 224], at).unwrap();
        file.sync_data().unwrap();
        at = (at + 224) % (15 << 20);
    };
    let mut log = || {
        let end = writer.append(&[7; 128], 1);
        writer.wal.wait_durable(end).unwrap();
    };
    group.bench_function("raw_pwrite_fdatasync", |bench| bench.iter_custom(|n| in_turns(n, &mut raw, &mut log)));
    group.bench_function("log", |bench| bench.iter_custom(|n| in_turns(n, &mut log, &mut raw)));
    group.finish();
}

/// Runs both `iterations` times in turns, and returns the time that the first took.
fn in_turns(iterations: u64, timed: &mut dyn FnMut(), other: &mut dyn FnMut()) -> Duration {
    let mut took = Duration::ZERO;
    for _ in 0..iterations {
        let started = Instant::now();
        timed();
        took += started.elapsed();
        other();
    }
    took
}

fn zeroed(dir: &Path, bytes: u64) -> File {
    let file = File::create_new(dir.join("raw")).unwrap();
    for at in (0..bytes).step_by(4096) {
        file.write_all_at(&[0; 4096], at).unwrap();
    }
    file.sync_all().unwrap();
    file
}

/// How much do writers gain that share a sync: waiting threads, batches, and completions that nobody waits for?
fn group_commit(c: &mut Criterion) {
    let mut group = c.benchmark_group("wal/group_commit_128");
    group.throughput(Throughput::Elements(1));
    let writer = Writer::new(Options::default());
    for threads in [16, 64] {
        group.bench_function(BenchmarkId::new("waiting_threads", threads), |bench| {
            bench.iter_custom(|iterations| waiting_threads(&writer, threads, iterations));
        });
    }
    group.bench_function("outstanding_256", |bench| {
        bench.iter_custom(|iterations| {
            let (sender, receiver) = mpsc::channel::<()>();
            let started = Instant::now();
            for number in 0..iterations {
                if number >= 256 {
                    receiver.recv().unwrap();
                }
                let end = writer.append(&[7; 128], 1);
                let sender = sender.clone();
                writer.wal.on_durable(end, move |outcome| {
                    outcome.unwrap();
                    sender.send(()).unwrap();
                });
            }
            for _ in 0..iterations.min(256) {
                receiver.recv().unwrap();
            }
            let took = started.elapsed();
            writer.clear();
            took
        });
    });
    for batch in [64usize, 256] {
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(BenchmarkId::new("batch", batch), |bench| {
            bench.iter(|| {
                let end = writer.append(&[7; 128], batch);
                writer.wal.wait_durable(end).unwrap();
            });
            writer.clear();
        });
    }
    group.finish();
}

/// How long does a log of 64 MiB take to open, with every record checked?
fn recovery(c: &mut Criterion) {
    let mut group = c.benchmark_group("wal/recovery");
    group.throughput(Throughput::Bytes(64 << 20));
    let dir = directory();
    let options = Options { segment_bytes: 16 << 20, ..Options::default() };
    let (wal, _) = Wal::open(dir.path(), options.clone()).unwrap();
    let payload = [7; 1024];
    let mut next = 1;
    while next * (1024 + 32) < 64 << 20 {
        let entries = [NewEntry { index: Index(next), term: Term(1), payload: &payload }];
        wal.append(&Batch { entries: &entries, ..Batch::default() }).unwrap();
        next += 1;
    }
    wal.close().unwrap();
    group.bench_function("open_64MiB", |bench| {
        bench.iter_custom(|iterations| {
            let mut took = Duration::ZERO;
            for _ in 0..iterations {
                let started = Instant::now();
                let (wal, found) = Wal::open(dir.path(), options.clone()).unwrap();
                took += started.elapsed();
                assert_eq!(found.last, Index(next - 1));
                drop(wal);
            }
            took
        });
    });
    group.finish();
}

fn configured() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(4))
        .without_plots()
}

criterion_group! {
    name = benches;
    config = configured();
    targets = append_unsynced, lone_sync, group_commit, recovery
}
criterion_main!(benches);
