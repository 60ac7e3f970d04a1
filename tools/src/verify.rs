//! `kontiki-inspect verify`: every checksum, link and mark, with a verdict a file.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kontiki::cli::exit::Failure;
use kontiki::cli::print::{self, Output, grouped};
use kontiki_wal::inspect::{self, Class, SlotState};
use serde::Serialize;

use super::Verdict;
use super::args::Place;
use super::log::{headline, name, open, verdict};

/// What was found in one place, or that a file is clean.
#[derive(Debug, Serialize)]
struct Finding {
    class: &'static str,
    file: String,
    offset: u64,
    index: Option<u64>,
    term: Option<u64>,
    acknowledged: bool,
    expected: Option<String>,
    computed: Option<String>,
    message: String,
    next: Option<String>,
}

/// Checks the log and prints what was found.
pub(crate) fn run(place: &Place) -> Result<Verdict, Failure> {
    let bar = progress();
    #[allow(clippy::disallowed_methods, reason = "the speed of the check is part of its answer")]
    let start = Instant::now();
    let log = open(&place.dir, |read, total| {
        bar.set_length(total);
        bar.set_position(read);
    })?;
    let seconds = start.elapsed().as_secs_f64();
    bar.finish_and_clear();

    let found = log.verify();
    let verdict = verdict(&found);
    let findings = found.iter().map(|finding| Finding::new(finding, &place.dir));
    if place.output == Output::Json {
        for finding in findings {
            print::json(&finding)?;
        }
        return Ok(verdict);
    }
    print::line(&headline(&log))?;
    for finding in findings {
        print::line(&finding.describe())?;
    }
    let live = |state: SlotState| matches!(state, SlotState::Active | SlotState::Sealed);
    let segments: Vec<_> = log.slots().iter().filter(|slot| live(slot.state)).collect();
    let bytes: u64 = segments.iter().map(|slot| slot.length).sum();
    #[allow(clippy::cast_precision_loss, reason = "a speed with three digits")]
    let speed = bytes as f64 / 1e9 / seconds.max(1e-9);
    let result = match verdict {
        Verdict::Clean => "clean",
        Verdict::Torn => "torn tail only",
        Verdict::Damaged => "DAMAGED",
    };
    let (count, bytes) = (segments.len(), grouped(bytes));
    let segments = if count == 1 { "segment" } else { "segments" };
    print::line(&format!("{result}; {count} {segments}, {bytes} bytes in {seconds:.2} s ({speed:.2} GB/s)"))?;
    Ok(verdict)
}

fn progress() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    match ProgressStyle::with_template("[{bar:40}] {bytes}/{total_bytes} {bytes_per_sec} {eta}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

impl Finding {
    fn new(finding: &inspect::Finding, dir: &Path) -> Finding {
        let hex = |crc: u32| format!("{crc:08x}");
        Finding {
            class: finding.class.name(),
            file: name(&finding.file),
            offset: finding.offset,
            index: finding.index.map(|index| index.0),
            term: finding.term.map(|term| term.0),
            acknowledged: finding.acknowledged,
            expected: finding.checksum.map(|checksum| hex(checksum.stored)),
            computed: finding.checksum.map(|checksum| hex(checksum.computed)),
            message: finding.message.clone(),
            next: next(finding, dir),
        }
    }

    fn describe(&self) -> String {
        let Finding { file, class, offset, message, .. } = self;
        let entry = match (self.index, self.term) {
            (Some(index), Some(term)) => format!(" (index {index}, term {term})"),
            (Some(index), None) => format!(" (index {index})"),
            (None, _) => String::new(),
        };
        let Some(next) = &self.next else { return format!("{file}  {class}") };
        let what = if *class == "torn" { "torn tail" } else { class };
        let checksums = match (&self.expected, &self.computed) {
            (Some(expected), Some(computed)) if !message.contains(computed.as_str()) => {
                format!(", expected {expected}, computed {computed}")
            }
            _ => String::new(),
        };
        let acknowledged = if self.acknowledged { "; it was acknowledged" } else { "" };
        format!("{file}  {what} at byte {offset}{entry}: {message}{checksums}{acknowledged}\n  next: {next}")
    }
}

/// What to do about it; `None` where there is nothing to do anything about.
fn next(finding: &inspect::Finding, dir: &Path) -> Option<String> {
    let dir = dir.display();
    match finding.class {
        Class::Clean | Class::Stale => None,
        Class::Torn => Some("nothing; the node drops it when it starts".to_owned()),
        Class::Corrupt | Class::Gap | Class::Link if !finding.fatal => {
            Some("nothing; no live entry depends on it, and the node mends it".to_owned())
        }
        Class::Corrupt | Class::Gap | Class::Link => Some(match finding.index {
            Some(index) => {
                let (from, to) = (index.0.saturating_sub(2), index.0 + 2);
                format!("kontiki-inspect records {dir} --decode --from {from} --to {to}")
            }
            None => format!("kontiki-inspect segments {dir}"),
        }),
    }
}
