//! What goes to standard output: lines, tables, JSON, colour, and text made of arbitrary bytes.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use serde::Serialize;

use super::exit::Failure;

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line, every field always present.
    Json,
}

/// Writes `bytes` to standard output and flushes.
///
/// # Errors
///
/// An I/O failure (74), or a silent success if the reader has gone.
pub fn raw(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| Failure::output(&error))
}

/// Writes one line to standard output and flushes.
///
/// # Errors
///
/// As [`raw`].
pub fn line(text: &str) -> Result<(), Failure> {
    raw(format!("{text}\n").as_bytes())
}

/// Writes one JSON object as a line.
///
/// # Errors
///
/// As [`raw`].
pub fn json(value: &impl Serialize) -> Result<(), Failure> {
    line(&to_json(value))
}

/// Returns `value` as JSON in one line.
pub fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("our own structs have string keys and no failing serializers")
}

/// Returns whether standard output wants colour: a terminal, and neither `NO_COLOR` nor a dumb terminal.
pub fn has_colour() -> bool {
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    !no_colour && !dumb && io::stdout().is_terminal()
}

/// Rows under a header, in columns as wide as their longest cell.
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

/// One column: its title, and whether its cells are numbers (set to the right).
struct Column {
    title: &'static str,
    is_number: bool,
}

impl Table {
    /// Makes a table; a title that starts with `>` heads a column of numbers.
    pub fn new(titles: &[&'static str]) -> Table {
        let column = |title: &&'static str| match title.strip_prefix('>') {
            Some(title) => Column { title, is_number: true },
            None => Column { title, is_number: false },
        };
        Table { columns: titles.iter().map(column).collect(), rows: Vec::new() }
    }

    /// Adds a row with one cell a column.
    ///
    /// # Panics
    ///
    /// If there are more cells than columns, or fewer.
    pub fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.columns.len(), "a row has a cell for each column");
        self.rows.push(cells);
    }

    /// Returns the table as lines, the header in bold if `colour`.
    pub fn render(&self, colour: bool) -> String {
        let width = |at: usize| {
            let cells = self.rows.iter().map(|row| row[at].chars().count());
            cells.chain([self.columns[at].title.chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let put = |cells: Vec<&str>| {
            let mut text = String::new();
            for ((cell, column), width) in cells.iter().zip(&self.columns).zip(&widths) {
                if column.is_number {
                    write!(text, "{cell:>width$}  ").expect("writing to a string");
                } else {
                    write!(text, "{cell:<width$}  ").expect("writing to a string");
                }
            }
            text.trim_end().to_owned()
        };
        let header = put(self.columns.iter().map(|column| column.title).collect());
        let mut text = if colour { format!("\x1b[1m{header}\x1b[0m\n") } else { format!("{header}\n") };
        for row in &self.rows {
            text.push_str(&put(row.iter().map(String::as_str).collect()));
            text.push('\n');
        }
        text
    }
}

/// Returns bytes as text for people: control characters, backslashes and broken UTF-8 as `\xNN` and the like.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character == '\\' || character.is_control() {
                text.extend(character.escape_default());
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            write!(text, "\\x{byte:02x}").expect("writing to a string");
        }
    }
    text
}

/// Returns bytes in base64 (RFC 4648, with padding).
pub(crate) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |place: usize| u32::from(chunk.get(place).copied().unwrap_or(0));
        let group = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4_u32 {
            let digit = (group >> (18 - 6 * place)) & 63;
            let is_padding = place as usize > chunk.len();
            text.push(if is_padding { '=' } else { char::from(ALPHABET[digit as usize]) });
        }
    }
    text
}

/// Returns a number with thin groups of three digits: `1 204 883`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// Returns microseconds with three significant digits: `74us`, `1.25ms`, `2.10s`.
pub(crate) fn micros(us: u64) -> String {
    let three = |whole: u64, part: u64, unit: &str| {
        // `whole` of `part` to the unit: 1250 of 1000 is 1.25.
        let hundredths = whole.saturating_mul(100) / part;
        match hundredths {
            0..1_000 => format!("{}.{:02}{unit}", hundredths / 100, hundredths % 100),
            1_000..10_000 => format!("{}.{}{unit}", hundredths / 100, hundredths % 100 / 10),
            _ => format!("{}{unit}", hundredths / 100),
        }
    };
    match us {
        0..1_000 => format!("{us}us"),
        1_000..1_000_000 => three(us, 1_000, "ms"),
        _ => three(us, 1_000_000, "s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_aligns_words_left_and_numbers_right() {
        let mut table = Table::new(&["NODE", ">TERM"]);
        table.row(vec!["1 leader".into(), "7".into()]);
        table.row(vec!["2".into(), "12345".into()]);
        assert_eq!(table.render(false), "NODE       TERM\n1 leader      7\n2         12345\n");
    }

    #[test]
    fn bytes_become_readable_text() {
        assert_eq!(escape("a\\b\n\u{1b}[1m€".as_bytes()), "a\\\\b\\n\\u{1b}[1m€");
        assert_eq!(escape(&[b'x', 0xff, b'y']), "x\\xffy");
    }

    #[test]
    fn base64_is_the_standard_one() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn numbers_are_grouped_and_times_have_three_digits() {
        assert_eq!([0, 999, 1_000, 1_204_883].map(grouped), ["0", "999", "1 000", "1 204 883"]);
        assert_eq!([74, 1_250, 12_340, 250_000, 2_100_000].map(micros), ["74us", "1.25ms", "12.3ms", "250ms", "2.10s"]);
    }
}
