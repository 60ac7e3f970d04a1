//! `kontiki del`: deletes a key.

use std::ffi::OsString;

use serde::Serialize;

use super::super::exit::Failure;
use super::super::native::OneCall;
use super::super::print::{self, Output};
use super::{Common, JsonBytes};

const EXAMPLES: &str = "\
Examples:
  kontiki del greeting

Exit codes: 0 deleted, 1 not found.";

/// The flags.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Args {
    /// The key
    key: OsString,
    #[command(flatten)]
    common: Common,
}

#[derive(Serialize)]
struct Done {
    key: JsonBytes,
    deleted: bool,
}

/// Deletes the key.
pub(in crate::cli) async fn run(args: Args) -> Result<(), Failure> {
    let key = super::key(args.key);
    let call = OneCall::connect(&args.common.reach).await?;
    if call.end(call.client.delete(vec![key.clone()])).await? == 0 {
        return Err(super::not_found(&key));
    }
    match args.common.output {
        Output::Human => print::line("deleted"),
        Output::Json => print::json(&Done { key: JsonBytes::new(&key), deleted: true }),
    }
}
