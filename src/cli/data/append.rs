//! `kontiki append`: adds to the end of a value, exactly once.

use std::ffi::OsString;

use serde::Serialize;

use super::super::exit::Failure;
use super::super::native::OneCall;
use super::super::print::{self, Output};
use super::{Common, JsonBytes};

const EXAMPLES: &str = "\
Examples:
  kontiki append log 'one more line'
  date | kontiki append log -";

/// The flags.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Args {
    /// The key; it is made if it is not there
    key: OsString,
    /// What to add; - reads it from standard input
    #[arg(allow_hyphen_values = true)]
    value: OsString,
    #[command(flatten)]
    common: Common,
}

#[derive(Serialize)]
struct Done {
    key: JsonBytes,
    length: u64,
}

/// Adds to the value and prints its new length.
pub(in crate::cli) async fn run(args: Args) -> Result<(), Failure> {
    let (key, value) = (super::key(args.key), super::value(args.value)?);
    let call = OneCall::connect(&args.common.reach).await?;
    let length = call.end(call.client.append(key.clone(), value)).await?;
    match args.common.output {
        Output::Human => print::line(&length.to_string()),
        Output::Json => print::json(&Done { key: JsonBytes::new(&key), length }),
    }
}
