//! The log that a command looks at, and what is said of it as a whole.

use std::path::Path;

use kontiki::cli::exit::{Exit, Failure};
use kontiki::cli::print::grouped;
use kontiki_wal::OpenError;
use kontiki_wal::inspect::{Class, Finding, LogDir, SlotState, is_live};

use super::Verdict;

/// Looks at the log in a node's data directory or log directory. `watch` hears how many bytes of how many were read.
pub(crate) fn open(dir: &Path, watch: impl FnMut(u64, u64)) -> Result<LogDir, Failure> {
    let log = LogDir::open_watched(dir, watch).map_err(|error| {
        let exit = if matches!(error, OpenError::Io { .. }) { Exit::Io } else { Exit::Damaged };
        Failure::new(exit, with_source(&error))
    })?;
    if log.slots().is_empty() {
        let dir = dir.display();
        let message = format!("{dir} holds no log; name a node's data directory, such as kontiki-data/node-1");
        return Err(Failure::new(Exit::Io, message));
    }
    Ok(log)
}

/// One line about the whole log.
pub(crate) fn headline(log: &LogDir) -> String {
    let newest = log.slots().iter().filter(|slot| slot.state == SlotState::Active).find_map(|slot| slot.header);
    let uuid = newest.map_or_else(|| "none".to_owned(), |header| format!("{:032x}", header.log_uuid));
    let node = newest.map_or(0, |header| header.node_id);
    let (first, last) = log.entries();
    let entries = if last < first { "no entries".to_owned() } else { format!("entries {first} to {last}") };
    let live = if is_live(log.dir()) { ", live: a process has it open, its end may move" } else { "" };
    format!("log {uuid} of node {node}: {entries}, durable below {}{live}", grouped(log.durable().0))
}

/// The exit of an inspection that read the whole log.
pub(crate) fn verdict(findings: &[Finding]) -> Verdict {
    let has = |classes: &[Class]| findings.iter().any(|finding| classes.contains(&finding.class));
    if has(&[Class::Corrupt, Class::Gap, Class::Link]) {
        Verdict::Damaged
    } else if has(&[Class::Torn]) {
        Verdict::Torn
    } else {
        Verdict::Clean
    }
}

/// A failure to read slots that were there a moment ago.
pub(crate) fn unreadable(log: &LogDir, error: &std::io::Error) -> Failure {
    Failure::io("read", log.dir(), error)
}

/// What people call a slot: its file's name.
pub(crate) fn name(file: &Path) -> String {
    file.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn with_source(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) if !error.to_string().contains(&source.to_string()) => format!("{error}: {source}"),
        _ => error.to_string(),
    }
}
