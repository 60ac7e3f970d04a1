//! `kontiki simulate`: whole clusters in memory, under seeds, with everything that can go wrong.

use std::io;

use serde::Serialize;

use super::exit::{Exit, Failure};
use super::parse;
use super::print::{self, Output};
use crate::sim;

const EXAMPLES: &str = "\
Examples:
  kontiki simulate                         ten clusters, each with seconds of crashes, splits and losses
  kontiki simulate --seed 26               one seed: the same run, byte for byte, every time
  kontiki simulate --seed 26 --trace       every event of it
  kontiki simulate --seed 1 --count 1000   many
  kontiki simulate --output json";

/// The flags.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Run this seed, or begin with it
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Run so many seeds [default: 1 with --seed, else 10]
    #[arg(long, value_name = "N", value_parser = parse::positive)]
    count: Option<u32>,
    /// Let faults happen for so many simulated milliseconds
    #[arg(long, value_name = "MS", default_value_t = sim::Options::default().faults_ms)]
    faults_ms: u64,
    /// So many nodes instead of what the seed says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=9))]
    nodes: Option<u64>,
    /// Print every event
    #[arg(long)]
    trace: bool,
    /// How to print
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Serialize)]
struct Row {
    seed: u64,
    nodes: u64,
    simulated_ms: u64,
    events: u64,
    messages: u64,
    leaders: u64,
    crashes: u64,
    torn_tails: u64,
    committed: u64,
    operations: u64,
    acknowledged: u64,
    trace_hash: String,
}

/// Runs the seeds; the first broken invariant ends it with code 1.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let options = sim::Options::new(args.faults_ms, args.nodes, args.trace);
    let first = args.seed.unwrap_or(1);
    let count = args.count.map_or(if args.seed.is_some() { 1 } else { 10 }, u64::from);
    for seed in first..first.saturating_add(count) {
        let ran = if args.trace {
            sim::run(seed, &options, &mut io::stdout().lock())
        } else {
            sim::run(seed, &options, &mut sim::silence())
        };
        let report = ran.map_err(|failure| Failure::new(Exit::Failed, failure.to_string()))?;
        let row = row(&report);
        match args.output {
            Output::Human => print::line(&human(&row))?,
            Output::Json => print::json(&row)?,
        }
    }
    Ok(())
}

fn row(report: &sim::Report) -> Row {
    Row {
        seed: report.seed,
        nodes: report.nodes,
        simulated_ms: report.simulated_ms,
        events: report.events,
        messages: report.messages,
        leaders: report.leaders,
        crashes: report.crashes,
        torn_tails: report.torn_tails,
        committed: report.committed,
        operations: report.operations,
        acknowledged: report.acknowledged,
        trace_hash: format!("{:016x}", report.trace_hash),
    }
}

fn human(row: &Row) -> String {
    format!(
        "seed {}: ok, {} nodes, {}.{:03} s, {} events, {} crashes, {} leaders, {} of {} operations acknowledged, trace {}",
        row.seed,
        row.nodes,
        row.simulated_ms / 1000,
        row.simulated_ms % 1000,
        row.events,
        row.crashes,
        row.leaders,
        row.acknowledged,
        row.operations,
        row.trace_hash
    )
}
