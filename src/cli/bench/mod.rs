//! `kontiki bench`: load on a cluster, and how long each operation took.
//!
//! Closed loop: each client sends its next operation when the last one is answered. Open loop (`--rate`): operations
//! have intended starts on a schedule, and the latency counts from there, so that a stall is felt by every operation
//! it delayed and not by one (no coordinated omission).

mod load;
mod pace;
mod report;
mod target;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;

use super::exit::{Exit, Failure};
use super::parse;
use super::print::Output;
use super::reach::Reach;
use load::Load;
use pace::Schedule;
use target::Target;
use worker::{Shared, Tally};

const EXAMPLES: &str = "\
Examples:
  kontiki bench                                            puts of 128 B, 64 clients, 10 seconds
  kontiki bench --load get --clients 256 --protocol resp
  kontiki bench --load append --rate 5000 --duration 30s   open loop: latency from the intended start
  kontiki bench --load mixed --total 100000 --output json";

/// How operations travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    /// The native client over QUIC, with sessions.
    Native,
    /// RESP over TCP, as Redis clients speak.
    Resp,
}

/// The flags.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// What to do
    #[arg(long, value_enum, default_value_t = Load::Put)]
    pub(super) load: Load,
    /// Length of a value, or of what is appended
    #[arg(long, value_name = "BYTES", default_value = "128", value_parser = parse::bytes)]
    pub(super) value_bytes: u64,
    /// Clients, each with a connection of its own
    #[arg(long, short, value_name = "N", default_value = "64", value_parser = parse::positive)]
    pub(super) clients: u32,
    /// Stop after so many operations
    #[arg(long, value_name = "N", value_parser = parse::positive, conflicts_with = "duration")]
    pub(super) total: Option<u32>,
    /// Stop after so long [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = parse::duration)]
    pub(super) duration: Option<Duration>,
    /// Open loop with so many operations a second in all
    #[arg(long, value_name = "N", value_parser = parse::positive)]
    pub(super) rate: Option<u32>,
    /// How many different keys
    #[arg(long, value_name = "N", default_value = "10000", value_parser = parse::positive)]
    pub(super) keys: u32,
    /// How operations travel
    #[arg(long, value_enum, default_value_t = Protocol::Native)]
    pub(super) protocol: Protocol,
    /// Threads of the load generator
    #[arg(long, value_name = "N", default_value = "1", value_parser = parse::positive)]
    pub(super) threads: u32,
    #[command(flatten)]
    pub(super) reach: Reach,
    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    pub(super) output: Output,
}

/// The longest value that may be asked for.
const VALUE_BYTES_MAX: u64 = 64 << 20;
/// The most clients.
const CLIENTS_MAX: u32 = 100_000;

/// Loads the cluster and prints what came of it.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    if args.value_bytes > VALUE_BYTES_MAX {
        return Err(Failure::config(format!("--value-bytes {} is more than {VALUE_BYTES_MAX}", args.value_bytes)));
    }
    if args.clients > CLIENTS_MAX {
        return Err(Failure::config(format!("--clients {} is more than {CLIENTS_MAX}", args.clients)));
    }
    let target = Arc::new(Target::new(args.protocol, &args.reach)?);
    if args.load.reads() {
        prefill(args, &target)?;
    }
    let progress = report::Progress::new(args);
    let schedule = match args.rate {
        Some(rate) => Schedule::open(rate, args.total, args.duration),
        None => Schedule::closed(args.total, args.duration),
    };
    let shared = Arc::new(Shared::new(schedule, args.load, args.keys, args.value_bytes));
    let tally = drive(args, &target, &shared, &progress)?;
    progress.finish();
    report::print(args, &tally)?;
    match (&tally.first_error, tally.done()) {
        (Some(error), 0) => Err(Failure::new(Exit::Failed, format!("no operation succeeded: {error}"))),
        (Some(error), _) => {
            Failure::new(Exit::Failed, format!("the first error was: {error}")).report(super::PROGRAM);
            Ok(())
        }
        (None, _) => Ok(()),
    }
}

/// Writes every key once, so that reads find something.
fn prefill(args: &Args, target: &Arc<Target>) -> Result<(), Failure> {
    let schedule = Schedule::closed(Some(args.keys), None);
    let shared = Arc::new(Shared::new(schedule, Load::Fill, args.keys, args.value_bytes));
    let tally = drive(args, target, &shared, &report::Progress::hidden())?;
    match tally.first_error {
        None => Ok(()),
        Some(error) => Err(Failure::new(Exit::Failed, format!("cannot write the keys to read: {error}"))),
    }
}

/// Connects all clients, lets them run together, and adds up what they did.
fn drive(
    args: &Args,
    target: &Arc<Target>,
    shared: &Arc<Shared>,
    progress: &report::Progress,
) -> Result<Tally, Failure> {
    let threads = args.threads.min(args.clients);
    let mut running = Vec::new();
    for thread in 0..threads {
        let (target, shared) = (Arc::clone(target), Arc::clone(shared));
        let clients: Vec<u32> = (thread..args.clients).step_by(threads as usize).collect();
        let work = move || super::block_on(worker::run_all(target, shared, clients));
        let spawned = std::thread::Builder::new().name(format!("load-{thread}")).spawn(work);
        running.push(spawned.map_err(|error| Failure::new(Exit::Io, format!("cannot start a thread: {error}")))?);
    }
    pace::conduct(shared, args.clients, || running.iter().any(|thread| thread.is_finished()), progress);
    let mut tally = Tally::new();
    for thread in running {
        let of_thread = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        tally.add(&of_thread);
    }
    tally.close(shared);
    Ok(tally)
}
