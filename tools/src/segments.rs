//! `kontiki-inspect segments`: a row for each slot.

use kontiki::cli::exit::Failure;
use kontiki::cli::print::{self, Output, Table, grouped};
use kontiki_wal::inspect::SlotReport;
use serde::Serialize;

use super::Verdict;
use super::args::Place;
use super::log::{headline, name, open, verdict};

/// One slot.
#[derive(Debug, Serialize)]
struct Row {
    file: String,
    seq: Option<u64>,
    state: &'static str,
    first_index: Option<u64>,
    last_index: Option<u64>,
    first_term: Option<u64>,
    last_term: Option<u64>,
    records: u64,
    tail_offset: u64,
    salt: Option<String>,
    durable_mark: Option<u64>,
    header_copies_ok: [bool; 2],
    verdict: &'static str,
}

/// Prints the slots.
pub(crate) fn run(place: &Place) -> Result<Verdict, Failure> {
    let log = open(&place.dir, |_, _| {})?;
    let rows: Vec<Row> = log.slots().iter().map(Row::new).collect();
    if place.output == Output::Json {
        for row in &rows {
            print::json(row)?;
        }
    } else {
        print::line(&headline(&log))?;
        print::raw(table(&rows).render(print::has_colour()).as_bytes())?;
    }
    Ok(verdict(&log.verify()))
}

impl Row {
    fn new(slot: &SlotReport) -> Row {
        Row {
            file: name(&slot.file),
            seq: slot.header.map(|header| header.seq),
            state: slot.state.name(),
            first_index: slot.first_index.map(|index| index.0),
            last_index: slot.last_index.map(|index| index.0),
            first_term: slot.first_term.map(|term| term.0),
            last_term: slot.last_term.map(|term| term.0),
            records: slot.records,
            tail_offset: slot.tail_offset,
            salt: slot.header.map(|header| format!("{:08x}", header.salt)),
            durable_mark: slot.durable_mark.map(|mark| mark.0),
            header_copies_ok: slot.header_copies_ok,
            verdict: slot.verdict.name(),
        }
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(&[
        "FILE",
        ">SEQ",
        "STATE",
        ">FIRST INDEX",
        ">LAST INDEX",
        "TERMS",
        ">RECORDS",
        ">USED",
        "SALT",
        ">DURABLE",
        "VERDICT",
    ]);
    let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), grouped);
    for row in rows {
        let terms = match (row.first_term, row.last_term) {
            (Some(first), Some(last)) if first != last => format!("{first}-{last}"),
            (Some(first), _) => first.to_string(),
            (None, _) => "-".to_owned(),
        };
        table.row(vec![
            row.file.clone(),
            number(row.seq),
            row.state.to_owned(),
            number(row.first_index),
            number(row.last_index),
            terms,
            grouped(row.records),
            grouped(row.tail_offset),
            row.salt.clone().unwrap_or_else(|| "-".to_owned()),
            number(row.durable_mark),
            row.verdict.to_owned(),
        ]);
    }
    table
}
