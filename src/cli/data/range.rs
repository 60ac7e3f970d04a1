//! `kontiki range`: keys and values in order, at one moment.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use bytes::Bytes;
use serde::Serialize;

use super::super::exit::Failure;
use super::super::native::OneCall;
use super::super::parse;
use super::super::print::{self, Output, escape};
use super::{Common, JsonBytes};
use crate::client;

/// How many keys are asked for at once if there is no limit.
const PAGE_KEYS: u32 = 1_000;

const EXAMPLES: &str = "\
Examples:
  kontiki range user: 'user;'            every key that starts with user:
  kontiki range - + --limit 10           the first ten keys
  kontiki range a b --output json | jq -r .value.text

A key and its value stand on one line with a tab between; bytes that would spoil it are written like \\n or \\xff.";

/// The flags.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Args {
    /// The first key; - starts at the first there is
    #[arg(allow_hyphen_values = true)]
    start: OsString,
    /// The key before which it ends; + goes on to the last there is
    #[arg(allow_hyphen_values = true)]
    end: OsString,
    /// At most so many keys, all of one moment [default: all keys, each 1,000 of one moment]
    #[arg(long, value_name = "N", value_parser = parse::positive)]
    limit: Option<u32>,
    #[command(flatten)]
    common: Common,
}

#[derive(Serialize)]
struct Row {
    key: JsonBytes,
    value: JsonBytes,
    revision: u64,
}

/// Prints the keys and values.
pub(in crate::cli) async fn run(args: Args) -> Result<(), Failure> {
    let mut start = (args.start != "-").then(|| Bytes::from(args.start.into_vec()));
    let end = (args.end != "+").then(|| Bytes::from(args.end.into_vec()));
    let call = OneCall::connect(&args.common.reach).await?;
    let page = args.limit.unwrap_or(PAGE_KEYS);
    loop {
        let found = call.end(call.client.range(start, end.clone(), page.into())).await?;
        show(&found, args.common.output)?;
        match found.last() {
            // The next key after this one in the order of bytes.
            Some(last) if args.limit.is_none() && found.len() >= PAGE_KEYS as usize => {
                start = Some([&last.key, b"\0".as_slice()].concat().into());
            }
            Some(_) | None => return Ok(()),
        }
    }
}

fn show(found: &[client::Row], output: Output) -> Result<(), Failure> {
    let mut text = String::new();
    for client::Row { key, value, revision } in found {
        match output {
            Output::Human => text.extend([&escape(key), "\t", &escape(value), "\n"]),
            Output::Json => {
                let row = Row { key: JsonBytes::new(key), value: JsonBytes::new(value), revision: *revision };
                text.extend([&print::to_json(&row), "\n"]);
            }
        }
    }
    print::raw(text.as_bytes())
}
