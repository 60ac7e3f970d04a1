//! A node's log lines: to standard output or a file, for people or as JSON, never in the way of the node.
//!
//! A thread of its own writes them, so a reader that does not read (a stopped pipe) cannot stop the node: lines beyond
//! the queue are dropped and counted.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::exit::{Exit, Failure};

/// Lines that wait for the writer; more are dropped.
const QUEUE_LINES: usize = 4_096;

/// How long the end of the process waits for the lines to be written.
const FLUSH_TIME_MAX: Duration = Duration::from_millis(500);

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// What is logged, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogOptions {
    pub(crate) format: LogFormat,
    /// A level (`info`), or directives of tracing (`warn,kontiki::raft=debug`).
    pub(crate) level: String,
    /// Standard output if `None`.
    pub(crate) file: Option<PathBuf>,
}

/// Writes what is still queued when it is dropped.
pub(crate) struct LogGuard {
    sender: SyncSender<Line>,
}

/// The door to the writing thread.
#[derive(Clone)]
struct LineQueue {
    sender: SyncSender<Line>,
    dropped: Arc<AtomicU64>,
}

/// What the writing thread is told.
enum Line {
    Text(Vec<u8>),
    /// Answer when everything before this is written.
    Flush(SyncSender<()>),
}

/// Checks a level: one word, or directives.
pub(crate) fn level(text: &str) -> Result<String, String> {
    let wanted = "not a level (error, warn, info, debug, trace) nor a list such as warn,kontiki::raft=debug";
    let is_word = text.chars().all(|c| c.is_ascii_alphanumeric());
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    if text.is_empty() || (is_word && !levels.contains(&text)) {
        return Err(wanted.to_owned());
    }
    EnvFilter::builder().parse(text).map_err(|_| wanted.to_owned())?;
    Ok(text.to_owned())
}

/// Parses a format.
pub(crate) fn format(text: &str) -> Result<LogFormat, String> {
    LogFormat::from_str(text, false).map_err(|_| "neither human nor json".to_owned())
}

/// Starts logging for the life of the process.
pub(crate) fn start(options: &LogOptions) -> Result<LogGuard, Failure> {
    let (out, colour): (Box<dyn Write + Send>, bool) = match &options.file {
        None => (Box::new(io::stdout()), super::print::has_colour() && io::stdout().is_terminal()),
        Some(path) => (Box::new(open(path)?), false),
    };
    let (sender, receiver) = sync_channel(QUEUE_LINES);
    let lines = LineQueue { sender, dropped: Arc::new(AtomicU64::new(0)) };
    let guard = LogGuard { sender: lines.sender.clone() };
    let dropped = Arc::clone(&lines.dropped);
    std::thread::Builder::new()
        .name("log-lines".to_owned())
        .spawn(move || write_lines(&receiver, out, &dropped))
        .map_err(|error| Failure::new(Exit::Io, format!("cannot start the logging thread: {error}")))?;
    let filter = filter(&options.level).map_err(Failure::config)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colour)
        .log_internal_errors(false)
        .with_writer(lines);
    match options.format {
        LogFormat::Human => builder.init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(guard)
}

/// A bare level counts for our own modules; libraries say only what is wrong.
fn filter(level: &str) -> Result<EnvFilter, String> {
    let is_word = level.chars().all(|c| c.is_ascii_alphanumeric());
    let directives = if is_word { format!("warn,kontiki={level}") } else { level.to_owned() };
    EnvFilter::builder().parse(directives).map_err(|error| error.to_string())
}

fn open(path: &Path) -> Result<std::fs::File, Failure> {
    OpenOptions::new().create(true).append(true).open(path).map_err(|error| {
        Failure::config(format!("cannot open the log file {}: {error}; see --log-file", path.display()))
    })
}

/// Writes lines until all senders are gone. What cannot be written is lost: a node does not stop for its log.
fn write_lines(lines: &Receiver<Line>, mut out: Box<dyn Write + Send>, dropped: &AtomicU64) {
    while let Ok(first) = lines.recv() {
        for line in std::iter::once(first).chain(lines.try_iter()) {
            match line {
                Line::Text(text) => drop(out.write_all(&text)),
                Line::Flush(done) => {
                    out.flush().ok();
                    done.try_send(()).ok();
                }
            }
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            writeln!(out, "log lines dropped={lost}: the reader is too slow").ok();
        }
        out.flush().ok();
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let (done, written) = sync_channel(1);
        if self.sender.try_send(Line::Flush(done)).is_ok() {
            // A reader that does not read must not keep the process.
            written.recv_timeout(FLUSH_TIME_MAX).ok();
        }
    }
}

impl Write for LineQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match self.sender.try_send(Line::Text(line.to_vec())) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LineQueue {
    type Writer = LineQueue;

    fn make_writer(&'a self) -> LineQueue {
        self.clone()
    }
}
