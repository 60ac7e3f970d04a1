//! Whole clusters of the production code under seeds: no invariant breaks, and the same seed gives the same run.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use kontiki::sim::{Options, Report, run, silence};

#[cfg(feature = "mutants")]
mod mutants;

/// Runs one seed; a panic of the code under test is a finding like any other, and names its seed.
fn play(seed: u64, options: &Options) -> Result<Report, String> {
    match catch_unwind(AssertUnwindSafe(|| run(seed, options, &mut silence()))) {
        Ok(Ok(report)) => Ok(report),
        Ok(Err(failure)) => Err(failure.to_string()),
        Err(_) => Err(format!("seed {seed} panicked\nreplay: kontiki simulate --seed {seed}")),
    }
}

#[test]
fn seeds_break_nothing() {
    let options = Options::default();
    let mut sum = Report::default();
    for seed in 1..=60 {
        let report = play(seed, &options).unwrap_or_else(|failure| panic!("{failure}"));
        sum.operations += report.operations;
        sum.acknowledged += report.acknowledged;
        sum.crashes += report.crashes;
        sum.leaders += report.leaders;
        sum.torn_tails += report.torn_tails;
    }
    println!("{sum:?}");
    // Runs in which nothing happens prove nothing.
    assert!(sum.acknowledged > 4_000 && sum.crashes > 100 && sum.leaders > 100 && sum.torn_tails > 10, "{sum:?}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let options = Options { faults_ms: 3_000, ..Options::default() };
    for seed in [1, 2, 3] {
        assert_eq!(play(seed, &options).unwrap(), play(seed, &options).unwrap());
    }
    assert_ne!(play(1, &options).unwrap().trace_hash, play(2, &options).unwrap().trace_hash);
}
