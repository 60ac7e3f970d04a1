//! The subcommands of `kontiki`.
//!
//! Results go to standard output, one line of failure to standard error, and the exit code says which kind it was
//! ([`exit`]).

#![allow(clippy::disallowed_methods, reason = "the command line owns the clock, the signals and the processes")]

mod bench;
mod cert;
mod cluster;
mod completions;
mod config;
mod data;
pub mod exit;
mod http;
mod logging;
mod native;
mod parse;
pub mod print;
mod reach;
mod resp;
#[cfg(test)]
mod sample;
mod simulate;
mod start;
mod status;
mod tls;
pub mod usage;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use exit::Failure;

const PROGRAM: &str = "kontiki";

const EXAMPLES: &str = "\
Examples:
  kontiki cluster                          three durable nodes on this machine, until Ctrl-C
  redis-cli -p 7001 SET greeting hello     any Redis client, any node
  kontiki put greeting hello               the native client: exactly once
  kontiki status --watch                   who leads, who lags
  kontiki start --help                     one node of a cluster over several machines

Exit codes: 0 ok, 1 failed (also: key not found, condition false), 2 usage, 64 configuration, 65 data damaged,
66 data directory locked, 67 identity mismatch, 69 no leader, unreachable or port taken, 74 I/O error.";

/// A key-value store on a Raft-replicated write-ahead log
///
/// Kontiki keeps keys and values on the disks of a majority before it answers. Any node takes any command, from Redis
/// clients over TCP and from its own client over QUIC.
#[derive(Parser)]
#[command(name = "kontiki", version, propagate_version = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start nodes on this machine, watch over them, stop them with Ctrl-C
    Cluster(cluster::Args),
    /// Start one node
    Start(Box<start::Args>),
    /// Make the certificates of a cluster
    Cert(cert::Args),
    /// Set a key
    Put(data::put::Args),
    /// Add to the end of a key's value
    Append(data::append::Args),
    /// Read a key
    Get(data::get::Args),
    /// Delete a key
    Del(data::del::Args),
    /// Compare and set: give a key a new value if it has the old one
    Cas(data::cas::Args),
    /// List keys and values in order
    Range(data::range::Args),
    /// Show the members of a cluster: roles, terms, lag, disks
    Status(status::Args),
    /// Load a cluster and measure how long each operation takes
    Bench(bench::Args),
    /// Run whole clusters in memory under seeds, with everything that can go wrong
    Simulate(simulate::Args),
    /// Print the completions of a shell
    Completions(completions::Args),
}

/// Runs the command line of this process and returns its exit code.
pub fn main() -> ExitCode {
    let parsed = Cli::command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return usage::report(&error, PROGRAM),
    };
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(PROGRAM),
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Cluster(args) => cluster::run(args),
        Command::Start(args) => start::run(*args),
        Command::Cert(args) => cert::run(args),
        Command::Put(args) => block_on(data::put::run(args)),
        Command::Append(args) => block_on(data::append::run(args)),
        Command::Get(args) => block_on(data::get::run(args)),
        Command::Del(args) => block_on(data::del::run(args)),
        Command::Cas(args) => block_on(data::cas::run(args)),
        Command::Range(args) => block_on(data::range::run(args)),
        Command::Status(args) => status::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Simulate(args) => simulate::run(&args),
        Command::Completions(args) => completions::run(&args, &mut Cli::command()),
    }
}

/// Turns that other tasks get after the last one: a QUIC connection that was dropped says goodbye in its own.
const LAST_TURNS: u32 = 8;

/// Runs a future on this thread.
fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(exit::Exit::Io, format!("cannot start a runtime: {error}")))?;
    runtime.block_on(async {
        let ended = future.await;
        for _ in 0..LAST_TURNS {
            tokio::task::yield_now().await;
        }
        ended
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_tree_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_help_with_examples() {
        fn walk(command: &clap::Command, path: &str) {
            for sub in command.get_subcommands() {
                let path = format!("{path} {}", sub.get_name());
                assert!(sub.get_about().is_some(), "{path} does not say what it does");
                let examples = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(examples.contains(&path), "{path} shows no example of itself");
                walk(sub, &path);
            }
        }
        walk(&Cli::command(), "kontiki");
    }
}
