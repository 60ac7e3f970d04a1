//! `kontiki-inspect get`: one entry, every field, checksums computed again, bytes.

use std::fmt::Write;

use kontiki::cli::exit::{Exit, Failure};
use kontiki::cli::print::{self, Output};
use kontiki_wal::Index;
use kontiki_wal::inspect::{self, Checksum};
use serde::Serialize;

use super::Verdict;
use super::args::Get;
use super::decode::decode;
use super::log::{open, unreadable};
use super::records::{Row, hex};

/// Everything about one record.
#[derive(Debug, Serialize)]
struct Whole {
    #[serde(flatten)]
    row: Row,
    header_crc_stored: String,
    header_crc_computed: String,
    payload_crc_stored: String,
    payload_crc_computed: String,
    link_stored: String,
    link_expected: String,
    flags: u8,
    #[serde(skip)]
    payload: Vec<u8>,
}

/// Prints the newest record of an entry.
pub(crate) fn run(args: &Get) -> Result<Verdict, Failure> {
    let log = open(&args.place.dir, |_, _| {})?;
    let found = log.entry(Index(args.index)).map_err(|error| unreadable(&log, &error))?;
    let Some((record, payload)) = found else {
        let dir = args.place.dir.display();
        let message =
            format!("{dir} has no entry {}; see 'kontiki-inspect segments {dir}' for what it has", args.index);
        return Err(Failure::new(Exit::Failed, message));
    };
    let crc = |checksum: Checksum| (format!("{:08x}", checksum.stored), format!("{:08x}", checksum.computed));
    let (header_crc_stored, header_crc_computed) = crc(record.header_crc);
    let (payload_crc_stored, payload_crc_computed) = crc(record.payload_crc);
    let (link_stored, link_expected) = crc(record.link);
    let mut row = Row::new(&record);
    row.decoded = record.payload_crc_ok.then(|| decode(&payload));
    row.payload_hex = Some(hex(&payload));
    let flags = record.flags;
    let whole = Whole {
        row,
        header_crc_stored,
        header_crc_computed,
        payload_crc_stored,
        payload_crc_computed,
        link_stored,
        link_expected,
        flags,
        payload,
    };
    if args.place.output == Output::Json {
        print::json(&whole)?;
    } else {
        print::raw(human(&whole).as_bytes())?;
    }
    Ok(match record.verdict {
        inspect::Verdict::Ok | inspect::Verdict::Stale => Verdict::Clean,
        inspect::Verdict::Torn => Verdict::Torn,
        inspect::Verdict::Corrupt => Verdict::Damaged,
    })
}

fn human(whole: &Whole) -> String {
    let row = &whole.row;
    let number = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let agrees = |ok: bool| if ok { "ok" } else { "DOES NOT FIT" };
    let Whole { header_crc_stored, header_crc_computed, payload_crc_stored, payload_crc_computed, .. } = whole;
    let mut fields = vec![
        ("file", row.file.clone()),
        ("offset", format!("{} (lsn {})", row.offset, row.lsn)),
        ("index", number(row.index)),
        ("term", number(row.term)),
        ("length", number(row.length.map(u64::from))),
        ("flags", format!("{:08b}", whole.flags)),
        (
            "header crc",
            format!("{header_crc_stored} stored, {header_crc_computed} computed: {}", agrees(row.header_crc_ok)),
        ),
        (
            "payload crc",
            format!("{payload_crc_stored} stored, {payload_crc_computed} computed: {}", agrees(row.payload_crc_ok)),
        ),
        ("link", format!("{} stored, {} before it", whole.link_stored, whole.link_expected)),
        ("durable", if row.durable { "yes" } else { "not known to be" }.to_owned()),
        ("verdict", row.verdict.to_owned()),
    ];
    if let Some(decoded) = &row.decoded {
        let session = decoded.session.clone().unwrap_or_else(|| "none".to_owned());
        fields.push(("time", number(decoded.time_ms) + " ms"));
        fields.push(("session", format!("{session}, number {}", number(decoded.seq))));
        fields.push(("says", decoded.text.clone()));
    }
    let mut text = String::new();
    for (name, value) in fields {
        writeln!(text, "{name:<12} {value}").expect("writing to a string");
    }
    text.push_str(&dump(&whole.payload));
    text
}

/// Sixteen bytes a line: offset, digits, letters.
fn dump(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (line, chunk) in bytes.chunks(16).enumerate() {
        let digits: Vec<String> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
        let letter = |byte: &u8| if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '.' };
        let letters: String = chunk.iter().map(letter).collect();
        writeln!(text, "{:08x}  {:<47}  {letters}", line * 16, digits.join(" ")).expect("writing to a string");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_shows_digits_and_letters() {
        let expected = "\
00000000  00 61 62 63 64 65 66 67 68 69 6a 6b 6c 6d 6e 6f  .abcdefghijklmno
00000010  ff                                               .
";
        assert_eq!(dump(b"\0abcdefghijklmno\xff"), expected);
    }
}
