//! What is shown while a run goes on, and what is printed at its end.

use std::cell::Cell;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::super::exit::Failure;
use super::super::print::{self, Output, grouped, micros};
use super::worker::{Shared, Tally};
use super::{Args, Protocol};

/// Between two looks of the progress bar.
const TELL_INTERVAL_MS: u64 = 200;

/// A progress bar on standard error, if that is a terminal.
pub(super) struct Progress {
    bar: ProgressBar,
    /// The elapsed milliseconds at which it was last told.
    told_ms: Cell<u64>,
}

/// The result as JSON.
#[derive(Serialize)]
struct Summary<'a> {
    load: &'a str,
    protocol: &'a str,
    value_bytes: u64,
    clients: u32,
    keys: u32,
    rate: Option<u32>,
    latency_from_intended_start: bool,
    ops: u64,
    errors: u64,
    uncertain: u64,
    seconds: f64,
    ops_per_second: f64,
    latency_us: Latency,
}

/// Latencies in microseconds.
#[derive(Serialize)]
struct Latency {
    mean: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    p99_9: f64,
    max: f64,
}

impl Progress {
    /// Makes the bar of a run; indicatif hides it where there is no terminal.
    pub(super) fn new(args: &Args) -> Progress {
        if args.output == Output::Json {
            return Progress::hidden();
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(5));
        let template = "{elapsed_precise} [{bar:30}] {msg}";
        bar.set_style(ProgressStyle::with_template(template).expect("the template is ours").progress_chars("=> "));
        Progress { bar, told_ms: Cell::new(0) }
    }

    /// Makes a bar that nobody sees.
    pub(super) fn hidden() -> Progress {
        Progress { bar: ProgressBar::hidden(), told_ms: Cell::new(0) }
    }

    /// Shows how far the run is.
    pub(super) fn tell(&self, shared: &Shared, elapsed: Duration) {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        if self.bar.is_hidden() || millis(elapsed) < self.told_ms.get() + TELL_INTERVAL_MS {
            return;
        }
        self.told_ms.set(millis(elapsed));
        let done = shared.done();
        match (shared.schedule.total(), shared.schedule.duration()) {
            (Some(total), _) => {
                self.bar.set_length(total);
                self.bar.set_position(done.min(total));
            }
            (None, Some(duration)) => {
                self.bar.set_length(millis(duration));
                self.bar.set_position(millis(elapsed.min(duration)));
            }
            (None, None) => {}
        }
        self.bar.set_message(format!("{} ops, {:.0}/s", grouped(done), per_second(done, elapsed)));
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Prints the result.
pub(super) fn print(args: &Args, tally: &Tally) -> Result<(), Failure> {
    match args.output {
        Output::Human => print::raw(human(args, tally).as_bytes()),
        Output::Json => print::json(&result(args, tally)),
    }
}

fn human(args: &Args, tally: &Tally) -> String {
    let at = |quantile: f64| micros(tally.latency.value_at_quantile(quantile) / 1_000);
    let pace = match args.rate {
        Some(rate) => format!("open loop at {}/s, latency from the intended start", grouped(rate.into())),
        None => "closed loop".to_owned(),
    };
    format!(
        "{} {} B, {} clients, {}, {pace}\n{} ops in {:.2} s  {:.0} ops/s  errors {}  uncertain {}\n\
         latency  p50 {}  p90 {}  p99 {}  p99.9 {}  max {}\n",
        args.load.name(),
        args.value_bytes,
        args.clients,
        protocol_name(args.protocol),
        grouped(tally.done()),
        tally.elapsed.as_secs_f64(),
        per_second(tally.done(), tally.elapsed),
        tally.errors,
        tally.uncertain,
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        micros(tally.latency.max() / 1_000),
    )
}

fn result<'a>(args: &'a Args, tally: &Tally) -> Summary<'a> {
    #[allow(clippy::cast_precision_loss, reason = "microseconds of a run fit a double's 53 bits")]
    let us = |nanos: u64| nanos as f64 / 1_000.0;
    let at = |quantile: f64| us(tally.latency.value_at_quantile(quantile));
    Summary {
        load: args.load.name(),
        protocol: protocol_name(args.protocol),
        value_bytes: args.value_bytes,
        clients: args.clients,
        keys: args.keys,
        rate: args.rate,
        latency_from_intended_start: args.rate.is_some(),
        ops: tally.done(),
        errors: tally.errors,
        uncertain: tally.uncertain,
        seconds: tally.elapsed.as_secs_f64(),
        ops_per_second: per_second(tally.done(), tally.elapsed),
        latency_us: Latency {
            mean: tally.latency.mean() / 1_000.0,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: us(tally.latency.max()),
        },
    }
}

fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Native => "native",
        Protocol::Resp => "resp",
    }
}

#[allow(clippy::cast_precision_loss, reason = "a rate for people")]
fn per_second(count: u64, elapsed: Duration) -> f64 {
    if elapsed.is_zero() { 0.0 } else { count as f64 / elapsed.as_secs_f64() }
}
