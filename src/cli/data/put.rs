//! `kontiki put`: sets a key.

use std::ffi::OsString;

use serde::Serialize;

use super::super::exit::Failure;
use super::super::native::OneCall;
use super::super::print::{self, Output};
use super::{Common, JsonBytes};

const EXAMPLES: &str = "\
Examples:
  kontiki put greeting hello
  kontiki put picture - < picture.png
  kontiki put greeting hello --endpoints 10.0.0.1:7001,10.0.0.2:7001 --tls-dir tls/reports";

/// The flags.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Args {
    /// The key
    key: OsString,
    /// The value; - reads it from standard input
    #[arg(allow_hyphen_values = true)]
    value: OsString,
    #[command(flatten)]
    common: Common,
}

#[derive(Serialize)]
struct Done {
    key: JsonBytes,
}

/// Sets the key.
pub(in crate::cli) async fn run(args: Args) -> Result<(), Failure> {
    let (key, value) = (super::key(args.key), super::value(args.value)?);
    let call = OneCall::connect(&args.common.reach).await?;
    call.end(call.client.put(key.clone(), value)).await?;
    match args.common.output {
        Output::Human => print::line("OK"),
        Output::Json => print::json(&Done { key: JsonBytes::new(&key) }),
    }
}
