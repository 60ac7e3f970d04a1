//! Real nodes for stories: directories, ports, processes, clients and load.

mod cluster;
mod dir;
mod http;
mod load;
mod node;
mod ports;
mod process;
mod resp;

use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

pub use cluster::{Certificates, TestCluster};
pub use dir::TestDir;
pub use http::{Status, get};
pub use load::{Acknowledged, Load};
pub use node::{NodeSetup, TestNode};
pub use ports::free_ports;
pub use process::{Output, Process, Signal, kontiki, run};
pub use resp::{Client, Value};

/// How long anything may take before a story fails. Generous: two cores may run everything at once.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks `question` until it has an answer, or fails the story after [`PATIENCE`].
///
/// Another process gives no event to await, so stories poll, here only.
#[track_caller]
pub fn wait_for<T>(what: &str, mut question: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = question() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "no {what} within {PATIENCE:?}");
        pause();
    }
}

/// Lets the processes under test have the processors before they are asked again.
fn pause() {
    thread::park_timeout(Duration::from_millis(5));
}

/// Returns how often a story repeats: `soak` times under `KONTIKI_SOAK=1`, else `short` times.
pub fn rounds(short: usize, soak: usize) -> usize {
    if std::env::var_os("KONTIKI_SOAK").is_some_and(|value| value == "1") { soak } else { short }
}

/// Whether `program` can be run here. If not, says so in the form that continuous integration refuses.
pub fn has_program(program: &str, story: &str) -> bool {
    let found = std::process::Command::new(program).arg("--version").output().is_ok();
    if !found {
        tell(&format!("SKIPPED {story}: {program} is not installed"));
    }
    found
}

/// Says something that is to be seen although the story passes: the test harness keeps what `eprintln` writes.
pub fn tell(line: &str) {
    let mut stderr = io::stderr().lock();
    writeln!(stderr, "{line}").unwrap();
}
