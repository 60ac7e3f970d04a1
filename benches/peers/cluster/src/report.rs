//! The table of medians, and the same as JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::Sample;
use crate::load::Load;

/// Every sample of one load, by peer, in the order of the rounds.
#[derive(Serialize)]
pub(crate) struct Row {
    pub(crate) load: &'static str,
    pub(crate) samples: BTreeMap<&'static str, Vec<Sample>>,
    pub(crate) medians: BTreeMap<&'static str, Sample>,
    /// Median of Kontiki's rate over the median of etcd's.
    pub(crate) ratio: Option<f64>,
}

/// The whole run.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) etcd_version: Option<String>,
    pub(crate) rounds: u32,
    pub(crate) seconds: u64,
    /// p50 of a 4 KiB overwrite and fdatasync, by round.
    pub(crate) raw_sync_p50_us: Vec<u64>,
    pub(crate) rows: Vec<Row>,
}

impl Row {
    pub(crate) fn new(load: Load) -> Self {
        Self { load: load.name, samples: BTreeMap::new(), medians: BTreeMap::new(), ratio: None }
    }

    fn finish(&mut self) {
        for (peer, samples) in &self.samples {
            let by = |field: fn(&Sample) -> f64| median(samples.iter().map(field).collect());
            let whole = |field: fn(&Sample) -> u64| {
                let mut all: Vec<u64> = samples.iter().map(field).collect();
                all.sort_unstable();
                all[all.len() / 2]
            };
            let sample = Sample {
                ops_per_second: by(|s| s.ops_per_second),
                p50_us: whole(|s| s.p50_us),
                p99_us: whole(|s| s.p99_us),
                cpu_seconds_per_1000: by(|s| s.cpu_seconds_per_1000),
            };
            self.medians.insert(peer, sample);
        }
        if let (Some(ours), Some(theirs)) = (self.medians.get("kontiki"), self.medians.get("etcd")) {
            self.ratio = Some(ours.ops_per_second / theirs.ops_per_second);
        }
    }
}

impl Report {
    /// Computes the medians and ratios and prints the table.
    pub(crate) fn finish(&mut self) {
        println!("\nraw 4 KiB overwrite + fdatasync, p50 by round: {:?} µs", self.raw_sync_p50_us);
        println!("LOAD    PEER     OPS/S  (MIN .. MAX)            P50 µs   P99 µs  CPU s/1000  KONTIKI/ETCD");
        for row in &mut self.rows {
            row.finish();
            for (peer, median) in &row.medians {
                let rates = || row.samples[peer].iter().map(|sample| sample.ops_per_second);
                let min = rates().fold(f64::INFINITY, f64::min);
                let max = rates().fold(0.0, f64::max);
                let ratio =
                    row.ratio.filter(|_| *peer == "kontiki").map_or(String::new(), |ratio| format!("{ratio:.2}"));
                println!(
                    "{:7} {peer:7} {:>6.0}  {:24} {:>6} {:>8}  {:>10.3}  {ratio:>12}",
                    row.load,
                    median.ops_per_second,
                    format!("({min:.0} .. {max:.0})"),
                    median.p50_us,
                    median.p99_us,
                    median.cpu_seconds_per_1000,
                );
            }
        }
    }
}

/// Returns the middle value, the upper one of two.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
