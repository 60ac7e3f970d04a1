//! How does Kontiki compare with etcd? Three nodes of each on one machine, the same closed-loop load in one run.
//!
//! ```sh
//! cargo build --release                                  # in the repository's root: the binary under test
//! cd benches/peers/cluster && cargo run --release -- --rounds 3 --seconds 5
//! ```
//!
//! Both clusters run side by side on one file system, fsync on (etcd as Debian's `etcd-server` has it; without it only
//! Kontiki is measured), and take turns in each round. Clients connect to the leader, each with a connection of its own
//! and one outstanding operation: put 128 B and linearizable get. The load generator shares the machine's cores.
//! A loop of write and fdatasync in each round tells what the disk does. All samples go to `cluster-peers.json` in
//! `--dir`; the data of the run is removed at its end.

mod etcd;
mod kontiki;
mod load;
mod process;
mod report;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use load::{LOADS, Load, Peer};
use report::{Report, Row};

/// What went wrong; the run ends with it.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How long a cluster may take to have a leader.
pub(crate) const START_TIME_MAX: Duration = Duration::from_secs(60);

/// One load on one peer in one round.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Sample {
    ops_per_second: f64,
    p50_us: u64,
    p99_us: u64,
    /// Of the three servers together.
    cpu_seconds_per_1000: f64,
}

/// Kontiki and etcd, three nodes each, under the same load in one run.
#[derive(Parser)]
struct Args {
    /// How often each load runs on each peer
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long each load runs
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// A release binary
    #[arg(long, default_value = "../../../target/release/kontiki")]
    kontiki: PathBuf,
    /// Where data and the JSON go: a real file system
    #[arg(long, default_value = "target/peers")]
    dir: PathBuf,
    /// Which loads: put-1, put-64, get-1, get-64
    #[arg(long, value_delimiter = ',', value_parser = parse_load)]
    loads: Vec<Load>,
}

fn parse_load(name: &str) -> Result<Load, String> {
    LOADS.into_iter().find(|load| load.name == name).ok_or_else(|| "no such load".to_owned())
}

/// The data of this run, removed when this is dropped.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{} stays: {error}", self.0.display());
        }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::from).and_then(|runtime| {
            runtime.block_on(async {
                let mut terminate = signal(SignalKind::terminate())?;
                // Whoever loses is dropped, and with it every process that was started.
                tokio::select! {
                    outcome = run(&args) => outcome,
                    _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
                    _ = terminate.recv() => Err("terminated".into()),
                }
            })
        });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cluster-peers: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<(), Failure> {
    let scratch = Scratch(args.dir.join(format!("run-{}", std::process::id())));
    fs::create_dir_all(&scratch.0)?;
    refuse_memory(&scratch.0)?;
    let mut peers = vec![Peer::Kontiki(kontiki::Kontiki::start(&args.kontiki, &scratch.0).await?)];
    let etcd_version = etcd::version();
    match &etcd_version {
        Some(_) => peers.push(Peer::Etcd(etcd::Etcd::start(&scratch.0).await?)),
        None => eprintln!("etcd is not installed (Debian: etcd-server): only Kontiki is measured"),
    }
    for peer in &mut peers {
        peer.fill().await?;
    }
    let loads = if args.loads.is_empty() { LOADS.to_vec() } else { args.loads.clone() };
    let mut report = Report {
        etcd_version,
        rounds: args.rounds,
        seconds: args.seconds,
        raw_sync_p50_us: Vec::new(),
        rows: loads.iter().copied().map(Row::new).collect(),
    };
    for round in 1..=args.rounds {
        report.raw_sync_p50_us.push(raw_sync_p50_us(&scratch.0)?);
        for (load, row) in loads.iter().zip(&mut report.rows) {
            for peer in &mut peers {
                let sample = peer.run(*load, Duration::from_secs(args.seconds)).await?;
                eprintln!("round {round} {} {}: {:.0} ops/s", load.name, peer.name(), sample.ops_per_second);
                row.samples.entry(peer.name()).or_default().push(sample);
            }
        }
        peers.reverse(); // Nobody is always first.
    }
    report.finish();
    let json = args.dir.join("cluster-peers.json");
    fs::write(&json, serde_json::to_vec_pretty(&report)?)?;
    println!("\n{}", json.display());
    drop(peers); // Before the data that they use.
    Ok(())
}

/// Refuses a file system in memory: a sync there says nothing.
fn refuse_memory(dir: &Path) -> Result<(), Failure> {
    const TMPFS_MAGIC: i64 = 0x0102_1994;
    if i128::from(rustix::fs::statfs(dir)?.f_type) == i128::from(TMPFS_MAGIC) {
        return Err(format!("{} is in memory; choose a disk with --dir", dir.display()).into());
    }
    Ok(())
}

/// Overwrites 4 KiB of a 1 MiB file and syncs, for a second; returns the p50 in µs.
fn raw_sync_p50_us(dir: &Path) -> Result<u64, Failure> {
    const BLOCK_BYTES: usize = 4096;
    const BLOCKS: u64 = 256;
    let file = File::create(dir.join("raw"))?;
    file.write_all_at(&[1; BLOCK_BYTES * 256], 0)?;
    file.sync_all()?;
    let mut latencies = hdrhistogram::Histogram::<u64>::new(3)?;
    let since = Instant::now();
    let mut at = 0;
    while since.elapsed() < Duration::from_secs(1) {
        let sent = Instant::now();
        file.write_all_at(&[2; BLOCK_BYTES], at % BLOCKS * 4096)?;
        file.sync_data()?;
        latencies.record(u64::try_from(sent.elapsed().as_micros())?.max(1))?;
        at += 1;
    }
    Ok(latencies.value_at_quantile(0.5))
}
