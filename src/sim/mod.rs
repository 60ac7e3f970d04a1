//! Whole clusters of the production code under a seed: network, disks, clocks and faults, with invariants. Pure.
//!
//! What runs is production code: [`crate::node::Node`], the peers' codec, the log with its recovery on a disk in memory,
//! and the state machine. Around it one heap of events stands for time. A run has two phases: faults, then quiet, in
//! which the cluster must come together again.
//!
//! | file | duty |
//! |---|---|
//! | `world`, `turns`, `quiet` | the event loop, a node at work, the end of a run |
//! | `machine` | one node with its disk and its state: turns, syncs, apply, boot |
//! | `shadow` | what a disk was told and what it promised: recovery is checked against it |
//! | `network`, `faults` | what gets lost, late, twice; what crashes, stops and splits |
//! | `clients`, `history` | the load, and whether its answers can be explained by one copy of the data |
//! | `invariants` | what must be true after every event |
//!
//! The same seed gives the same run, byte for byte: [`Report::trace_hash`] tells.

mod clients;
mod faults;
mod heap;
mod history;
mod invariants;
mod knobs;
mod machine;
mod network;
mod quiet;
mod report;
mod shadow;
mod turns;
mod world;

pub use report::{Failure, Invariant, Options, Report};

use std::io::{self, Write};

use world::World;

/// Runs one seed. With [`Options::trace`] every event becomes a line of `out`.
///
/// # Errors
///
/// The first invariant that was broken, and how to see it again. Failures to write to `out` are told as broken too.
///
/// # Panics
///
/// If the code under test panics: that is a finding as well; the seed is the caller's to tell.
pub fn run(seed: u64, options: &Options, out: &mut dyn Write) -> Result<Report, Failure> {
    let mut world = World::new(seed, options, out);
    world.run()
}

/// Returns an `out` that swallows everything.
pub fn silence() -> impl Write {
    io::sink()
}
