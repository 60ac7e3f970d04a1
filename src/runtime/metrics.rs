//! Counters, gauges and histograms that any thread may touch, and their text for Prometheus.
//!
//! A series is registered before its first event, so that it is there, at zero, from the first scrape on.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// A number that only grows.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

/// A number that goes up and down, never below 0.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicU64>);

/// Durations, counted by how long they took.
///
/// - `counts` has one more place than `bounds`, for what is longer than the last.
#[derive(Clone, Debug)]
pub struct Histogram(Arc<Buckets>);

#[derive(Debug)]
struct Buckets {
    bounds: &'static [Duration],
    counts: Vec<AtomicU64>,
    sum_ns: AtomicU64,
}

/// Upper bounds for latencies from a memory access to a timeout.
pub const LATENCY_BOUNDS: &[Duration] = &[
    Duration::from_micros(25),
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(1000),
    Duration::from_millis(5000),
];

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Returns the sum so far.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Gauge {
    /// Replaces the number.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Returns the number.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Histogram {
    fn new(bounds: &'static [Duration]) -> Histogram {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram(Arc::new(Buckets { bounds, counts, sum_ns: AtomicU64::new(0) }))
    }

    /// Counts `times` events that took `duration` each.
    pub fn observe(&self, duration: Duration, times: u64) {
        let bucket = self.0.bounds.partition_point(|bound| *bound < duration);
        self.0.counts[bucket].fetch_add(times, Ordering::Relaxed);
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).saturating_mul(times);
        self.0.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }
}

/// All series of one process.
#[derive(Debug, Default)]
pub struct Registry {
    families: Mutex<BTreeMap<&'static str, Family>>,
}

#[derive(Debug)]
struct Family {
    help: &'static str,
    series: BTreeMap<String, Series>,
}

#[derive(Debug)]
enum Series {
    Counter(Counter),
    Gauge(Gauge),
    Histogram(Histogram),
}

impl Registry {
    /// Returns the counter of this name (ending in `_total`) and labels (such as `class="write"`), made at the first call.
    pub fn counter(&self, name: &'static str, labels: &str, help: &'static str) -> Counter {
        match self.series(name, labels, help, || Series::Counter(Counter::default())) {
            Series::Counter(counter) => counter,
            other => panic!("{name} is registered as {other:?}"),
        }
    }

    /// Returns the gauge of this name and labels, made at the first call.
    pub fn gauge(&self, name: &'static str, labels: &str, help: &'static str) -> Gauge {
        match self.series(name, labels, help, || Series::Gauge(Gauge::default())) {
            Series::Gauge(gauge) => gauge,
            other => panic!("{name} is registered as {other:?}"),
        }
    }

    /// Returns the histogram of this name (ending in `_seconds`) and labels, made at the first call.
    pub fn histogram(&self, name: &'static str, labels: &str, help: &'static str) -> Histogram {
        match self.series(name, labels, help, || Series::Histogram(Histogram::new(LATENCY_BOUNDS))) {
            Series::Histogram(histogram) => histogram,
            other => panic!("{name} is registered as {other:?}"),
        }
    }

    fn series(&self, name: &'static str, labels: &str, help: &'static str, make: impl FnOnce() -> Series) -> Series {
        let mut families = self.families.lock();
        let family = families.entry(name).or_insert_with(|| Family { help, series: BTreeMap::new() });
        family.series.entry(labels.to_owned()).or_insert_with(make).handle()
    }

    /// Appends every series in Prometheus' text format.
    pub fn write_text(&self, text: &mut String) {
        for (name, family) in self.families.lock().iter() {
            let kind = match family.series.values().next() {
                Some(Series::Counter(_)) => "counter",
                Some(Series::Gauge(_)) | None => "gauge",
                Some(Series::Histogram(_)) => "histogram",
            };
            write_head(text, name, kind, family.help);
            for (labels, series) in &family.series {
                match series {
                    Series::Counter(Counter(value)) | Series::Gauge(Gauge(value)) => {
                        write_sample(text, name, labels, value.load(Ordering::Relaxed));
                    }
                    Series::Histogram(histogram) => histogram.write_text(text, name, labels),
                }
            }
        }
    }
}

impl Series {
    fn handle(&self) -> Series {
        match self {
            Series::Counter(counter) => Series::Counter(counter.clone()),
            Series::Gauge(gauge) => Series::Gauge(gauge.clone()),
            Series::Histogram(histogram) => Series::Histogram(histogram.clone()),
        }
    }
}

impl Histogram {
    fn write_text(&self, text: &mut String, name: &str, labels: &str) {
        let separator = if labels.is_empty() { "" } else { "," };
        let mut total = 0;
        for (at, count) in self.0.counts.iter().enumerate() {
            total += count.load(Ordering::Relaxed);
            let bound =
                self.0.bounds.get(at).map_or_else(|| "+Inf".to_owned(), |bound| bound.as_secs_f64().to_string());
            write_sample(text, &format!("{name}_bucket"), &format!("{labels}{separator}le=\"{bound}\""), total);
        }
        // Not `as f64`: whole seconds and nine digits are exact.
        let sum_ns = self.0.sum_ns.load(Ordering::Relaxed);
        let sum = format!("{}.{:09}", sum_ns / 1_000_000_000, sum_ns % 1_000_000_000);
        write_sample(text, &format!("{name}_sum"), labels, sum);
        write_sample(text, &format!("{name}_count"), labels, total);
    }
}

/// Appends the comment lines before a metric's samples. `kind` is `counter`, `gauge` or `histogram`.
pub fn write_head(text: &mut String, name: &str, kind: &str, help: &str) {
    text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
}

/// Appends one sample; `labels` without braces, empty for none.
pub fn write_sample(text: &mut String, name: &str, labels: &str, value: impl std::fmt::Display) {
    let braces = if labels.is_empty() { ("", "") } else { ("{", "}") };
    let line = writeln!(text, "{name}{}{labels}{} {value}", braces.0, braces.1);
    assert!(line.is_ok(), "writing to a string does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_what_prometheus_reads() {
        let registry = Registry::default();
        let writes = registry.counter("kontiki_commands_total", "class=\"write\"", "Commands.");
        registry.counter("kontiki_commands_total", "class=\"read\"", "Commands.");
        registry.counter("kontiki_commands_total", "class=\"write\"", "Commands.").add(2);
        writes.increment();
        registry.gauge("kontiki_connections", "", "Open connections.").set(7);
        let latency = registry.histogram("kontiki_latency_seconds", "", "Latency.");
        latency.observe(Duration::from_micros(25), 2);
        latency.observe(Duration::from_secs(6), 1);
        let mut text = String::new();
        registry.write_text(&mut text);
        let expected = "# HELP kontiki_commands_total Commands.\n# TYPE kontiki_commands_total counter\n\
            kontiki_commands_total{class=\"read\"} 0\nkontiki_commands_total{class=\"write\"} 3\n\
            # HELP kontiki_connections Open connections.\n# TYPE kontiki_connections gauge\nkontiki_connections 7\n\
            # HELP kontiki_latency_seconds Latency.\n# TYPE kontiki_latency_seconds histogram\n\
            kontiki_latency_seconds_bucket{le=\"0.000025\"} 2\n";
        assert!(text.starts_with(expected), "{text}");
        let end = "kontiki_latency_seconds_bucket{le=\"5\"} 2\nkontiki_latency_seconds_bucket{le=\"+Inf\"} 3\n\
            kontiki_latency_seconds_sum 6.000050000\nkontiki_latency_seconds_count 3\n";
        assert!(text.ends_with(end), "{text}");
    }
}
