//! `kontiki get`: reads a key, linearizably.

use std::ffi::OsString;

use serde::Serialize;

use super::super::exit::Failure;
use super::super::native::OneCall;
use super::super::print::{self, Output};
use super::{Common, JsonBytes};
use crate::client::Versioned;

const EXAMPLES: &str = "\
Examples:
  kontiki get greeting
  kontiki get picture --raw > picture.png
  kontiki get greeting --output json | jq -r .value.text

Exit codes: 0 found, 1 not found.";

/// The flags.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Args {
    /// The key
    key: OsString,
    /// Print the value alone, without a line end after it
    #[arg(long)]
    raw: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Serialize)]
struct Found {
    key: JsonBytes,
    value: JsonBytes,
    revision: u64,
}

/// Prints the value.
pub(in crate::cli) async fn run(args: Args) -> Result<(), Failure> {
    let key = super::key(args.key);
    let call = OneCall::connect(&args.common.reach).await?;
    let found = call.end(call.client.get_versioned(key.clone())).await?;
    let Some(Versioned { value, revision }) = found else { return Err(super::not_found(&key)) };
    match args.common.output {
        Output::Human if args.raw => print::raw(&value),
        Output::Human => print::raw(&[&value, b"\n".as_slice()].concat()),
        Output::Json => print::json(&Found { key: JsonBytes::new(&key), value: JsonBytes::new(&value), revision }),
    }
}
