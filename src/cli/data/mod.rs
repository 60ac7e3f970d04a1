//! The commands that read and write keys through the native client: each takes effect exactly once.

pub(super) mod append;
pub(super) mod cas;
pub(super) mod del;
pub(super) mod get;
pub(super) mod put;
pub(super) mod range;

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;

use bytes::Bytes;
use serde::Serialize;

use super::exit::{Exit, Failure};
use super::print::{self, Output, base64};
use super::reach::Reach;

/// The most bytes read from standard input: no segment takes a longer value.
const STDIN_BYTES_MAX: u64 = 256 << 20;

/// What every command of this kind takes.
#[derive(Debug, clap::Args)]
pub(super) struct Common {
    #[command(flatten)]
    pub(super) reach: Reach,
    /// How to print
    #[arg(long, short, value_enum, default_value_t)]
    pub(super) output: Output,
}

/// Bytes in JSON: as text if they are UTF-8, and always in base64.
#[derive(Debug, Serialize)]
pub(super) struct JsonBytes {
    text: Option<String>,
    base64: String,
}

impl JsonBytes {
    pub(super) fn new(bytes: &[u8]) -> JsonBytes {
        JsonBytes { text: std::str::from_utf8(bytes).ok().map(str::to_owned), base64: base64(bytes) }
    }
}

/// Returns a key: any bytes, as they are on the line.
fn key(word: OsString) -> Bytes {
    word.into_vec().into()
}

/// Returns a value: the word itself, or standard input for `-`.
fn value(word: OsString) -> Result<Bytes, Failure> {
    if word != "-" {
        return Ok(word.into_vec().into());
    }
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(STDIN_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::new(Exit::Io, format!("cannot read standard input: {error}")))?;
    if bytes.len() as u64 > STDIN_BYTES_MAX {
        return Err(Failure::config(format!(
            "standard input has more than {STDIN_BYTES_MAX} bytes; no value is so long"
        )));
    }
    Ok(bytes.into())
}

fn not_found(key: &[u8]) -> Failure {
    Failure::new(Exit::Failed, format!("key not found: {}", print::escape(key)))
}
