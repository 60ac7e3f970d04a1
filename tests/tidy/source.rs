//! The house as text: its files, and Rust code with comments and literals blanked.

use std::fs;
use std::path::{Path, PathBuf};

/// One file of the house.
pub(crate) struct Source {
    /// Relative to the workspace, with `/`.
    pub(crate) name: String,
    pub(crate) text: String,
    /// For Rust: the text with comments and literals blanked, line by line.
    pub(crate) code: Vec<String>,
    /// For Rust: the line (from 0) where the tests inside the file begin.
    pub(crate) tests_from: usize,
}

impl Source {
    pub(crate) fn new(name: String, text: String) -> Source {
        let code: Vec<String> = blank(&text).lines().map(str::to_owned).collect();
        let opens_tests =
            |pair: &[String]| pair[0].trim() == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{');
        let tests_from = code.windows(2).position(opens_tests).unwrap_or(code.len());
        Source { name, text, code, tests_from }
    }

    pub(crate) fn is_test(&self) -> bool {
        let parts: Vec<&str> = self.name.split('/').collect();
        let of_tests = |part: &&str| matches!(*part, "tests" | "benches" | "tests.rs" | "testing.rs");
        parts.iter().any(of_tests) || self.name.ends_with("_tests.rs")
    }

    /// The module of `src/` it belongs to.
    pub(crate) fn module(&self) -> Option<&str> {
        let first = self.name.strip_prefix("src/")?.split('/').next()?;
        Some(first.strip_suffix(".rs").unwrap_or(first))
    }

    /// Lines of code that ship, with their numbers from 1.
    pub(crate) fn shipped(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = if self.is_test() { 0 } else { self.tests_from };
        self.code[..end].iter().enumerate().map(|(at, line)| (at + 1, line.as_str()))
    }
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file of the house whose name ends in one of `endings`, sorted; build products and data are not of the house.
pub(crate) fn files(endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                if !matches!(name, "target" | ".git" | "kontiki-data") {
                    folders.push(path);
                }
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

pub(crate) fn name_of(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/")
}

/// Every Rust file of the house.
pub(crate) fn rust() -> Vec<Source> {
    files(&[".rs"]).into_iter().map(|path| Source::new(name_of(&path), fs::read_to_string(&path).unwrap())).collect()
}

/// Replaces what stands in comments and in string and character literals by spaces; line breaks stay.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let end = if rest.starts_with(b"//") {
            rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len())
        } else if rest.starts_with(b"/*") {
            find(rest, b"*/", 2)
        } else if let Some(hashes) = raw_string_hashes(bytes, at) {
            let mut close = vec![b'#'; hashes + 1];
            close[0] = b'"';
            find(rest, &close, hashes + 2)
        } else if rest[0] == b'"' {
            let mut end = 1;
            while end < rest.len() && rest[end] != b'"' {
                end += if rest[end] == b'\\' { 2 } else { 1 };
            }
            end + 1
        } else if rest.starts_with(b"'\\") {
            find(rest, b"'", 3)
        } else if rest[0] == b'\'' && rest.get(2) == Some(&b'\'') {
            3
        } else {
            at += 1;
            continue;
        };
        let end = (at + end).min(bytes.len());
        out[at..end].iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
        at = end;
    }
    String::from_utf8(out).unwrap()
}

/// Returns where `needle` ends in `text`, looking from `from` on.
fn find(text: &[u8], needle: &[u8], from: usize) -> usize {
    let from = from.min(text.len());
    let place = text[from..].windows(needle.len()).position(|window| window == needle);
    place.map_or(text.len(), |place| from + place + needle.len())
}

fn raw_string_hashes(bytes: &[u8], at: usize) -> Option<usize> {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let starts_word =
        at == 0 || !is_word(bytes[at - 1]) || (bytes[at - 1] == b'b' && (at < 2 || !is_word(bytes[at - 2])));
    if bytes[at] != b'r' || !starts_word {
        return None;
    }
    let hashes = bytes[at + 1..].iter().take_while(|&&b| b == b'#').count();
    (bytes.get(at + 1 + hashes) == Some(&b'"')).then_some(hashes)
}

/// Returns whether `line` has `word` with no letter, digit or `_` beside it.
pub(crate) fn has_word(line: &str, word: &str) -> bool {
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let starts = word.starts_with(|c: char| c.is_alphanumeric());
    let ends = word.ends_with(|c: char| c.is_alphanumeric());
    line.match_indices(word).any(|(at, _)| {
        let goes_on_before = starts && is_word(line[..at].chars().next_back());
        let goes_on_after = ends && is_word(line[at + word.len()..].chars().next());
        !goes_on_before && !goes_on_after
    })
}
