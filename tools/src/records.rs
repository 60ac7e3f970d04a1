//! `kontiki-inspect records`: a row for each record.

use std::collections::VecDeque;
use std::fmt::Write;

use kontiki::cli::exit::Failure;
use kontiki::cli::print::{self, Output};
use kontiki::kv::glob_matches;
use kontiki_wal::format::Kind;
use kontiki_wal::inspect::{RecordReport, is_live};
use serde::Serialize;

use super::Verdict;
use super::args::Records;
use super::decode::{Decoded, decode};
use super::log::{name, open, unreadable, verdict};

/// Text is handed to the terminal in pieces of this size.
const CHUNK_BYTES: usize = 64 * 1024;

/// One record. Fields that a place without a readable header has not are null.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) file: String,
    pub(crate) offset: u64,
    pub(crate) lsn: u64,
    pub(crate) length: Option<u32>,
    pub(crate) index: Option<u64>,
    pub(crate) term: Option<u64>,
    pub(crate) kind: Option<&'static str>,
    pub(crate) header_crc_ok: bool,
    pub(crate) payload_crc_ok: bool,
    pub(crate) durable: bool,
    pub(crate) verdict: &'static str,
    /// Only with `--decode`, for entries whose payload is intact.
    pub(crate) decoded: Option<Decoded>,
    /// Only with `--hex`.
    pub(crate) payload_hex: Option<String>,
}

impl Row {
    pub(crate) fn new(record: &RecordReport) -> Row {
        Row {
            file: name(&record.file),
            offset: record.offset,
            lsn: record.lsn.0,
            length: Some(record.length).filter(|_| record.header_crc_ok),
            index: record.index.filter(|_| record.kind.is_none_or(names_an_index)).map(|index| index.0),
            term: record.term.map(|term| term.0),
            kind: record.kind.map(Kind::name),
            header_crc_ok: record.header_crc_ok,
            payload_crc_ok: record.payload_crc_ok,
            durable: record.durable,
            verdict: record.verdict.name(),
            decoded: None,
            payload_hex: None,
        }
    }
}

fn names_an_index(kind: Kind) -> bool {
    match kind {
        Kind::Entry | Kind::Truncate | Kind::Snapshot | Kind::Repair => true,
        Kind::HardState | Kind::Mark | Kind::Seal | Kind::Pad | Kind::Reopen => false,
    }
}

/// Prints the records that were asked for.
pub(crate) fn run(args: &Records) -> Result<Verdict, Failure> {
    let log = open(&args.place.dir, |_, _| {})?;
    let mut out = Out { json: args.place.output == Output::Json, text: String::new() };
    if !out.json {
        if is_live(log.dir()) {
            out.text.push_str("live: a process has the log open, its end may move\n");
        }
        out.text.push_str(&header_line(args));
    }
    let limit = args.limit.unwrap_or(usize::MAX);
    let mut newest: VecDeque<Row> = VecDeque::new();
    let mut printed = 0;
    let mut failed = Ok(());
    let walked = log.for_each_record(|record, payload| {
        let Some(row) = select(args, record, payload) else { return true };
        if args.reverse {
            newest.push_front(row);
            newest.truncate(limit);
            return true;
        }
        if printed < limit {
            printed += 1;
            failed = out.row(&row);
        }
        printed < limit && failed.is_ok()
    });
    walked.map_err(|error| unreadable(&log, &error))?;
    failed?;
    for row in &newest {
        out.row(row)?;
    }
    print::raw(out.text.as_bytes())?;
    Ok(verdict(&log.verify()))
}

/// The row of a record, if it was asked for.
fn select(args: &Records, record: &RecordReport, payload: &[u8]) -> Option<Row> {
    let mut row = Row::new(record);
    let in_range = |index: u64| args.from.is_none_or(|from| index >= from) && args.to.is_none_or(|to| index <= to);
    let wants_index = args.from.is_some() || args.to.is_some();
    if wants_index && !row.index.is_some_and(in_range) {
        return None;
    }
    if args.term.is_some_and(|term| row.term != Some(term)) {
        return None;
    }
    if !args.kind.is_empty() && !args.kind.iter().any(|kind| row.kind == Some(kind.name())) {
        return None;
    }
    let is_entry = record.kind == Some(Kind::Entry) && record.payload_crc_ok;
    let decoded = (is_entry && (args.decode || args.key.is_some())).then(|| decode(payload));
    if let Some(glob) = &args.key {
        let matches = |decoded: &Decoded| decoded.raw_keys.iter().any(|key| glob_matches(glob.as_bytes(), key));
        decoded.as_ref().filter(|decoded| matches(decoded))?;
    }
    row.decoded = decoded.filter(|_| args.decode);
    row.payload_hex = (args.hex && record.header_crc_ok).then(|| hex(payload));
    Some(row)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string");
        text
    })
}

struct Out {
    json: bool,
    text: String,
}

impl Out {
    fn row(&mut self, row: &Row) -> Result<(), Failure> {
        if self.json {
            self.text.push_str(&print::to_json(row));
            self.text.push('\n');
        } else {
            self.text.push_str(&human(row));
        }
        if self.text.len() >= CHUNK_BYTES {
            print::raw(self.text.as_bytes())?;
            self.text.clear();
        }
        Ok(())
    }
}

fn header_line(args: &Records) -> String {
    let data = if args.decode || args.hex { "  DATA" } else { "" };
    format!(
        "{:<10} {:>12} {:>14} {:>12} {:>8} {:<10} {:>9} {:<7} {:<7}{data}\n",
        "FILE", "OFFSET", "LSN", "INDEX", "TERM", "KIND", "LENGTH", "DURABLE", "VERDICT"
    )
}

fn human(row: &Row) -> String {
    let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let verdict = match (row.header_crc_ok, row.payload_crc_ok) {
        (true, true) => row.verdict.to_owned(),
        (false, _) => format!("{}: header", row.verdict),
        (true, false) => format!("{}: payload", row.verdict),
    };
    let mut line = format!(
        "{:<10} {:>12} {:>14} {:>12} {:>8} {:<10} {:>9} {:<7} {verdict:<7}",
        row.file,
        row.offset,
        row.lsn,
        number(row.index),
        number(row.term),
        row.kind.unwrap_or("-"),
        number(row.length.map(u64::from)),
        if row.durable { "yes" } else { "no" },
    );
    if let Some(decoded) = &row.decoded {
        line.push_str("  ");
        line.push_str(&decoded.text);
    }
    if let Some(hex) = &row.payload_hex {
        line.push_str("  ");
        line.push_str(hex);
    }
    format!("{}\n", line.trim_end())
}
