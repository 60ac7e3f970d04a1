//! `kontiki cas`: compares and sets.

use std::ffi::OsString;

use serde::Serialize;

use super::super::exit::{Exit, Failure};
use super::super::native::OneCall;
use super::super::print::{self, Output};
use super::{Common, JsonBytes};
use crate::client::Expected;

const EXAMPLES: &str = "\
Examples:
  kontiki cas lock free mine && echo got it

Exit codes: 0 set, 1 the value is another one, or the key is not there.";

/// The flags.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct Args {
    /// The key
    key: OsString,
    /// The value it must have
    #[arg(allow_hyphen_values = true)]
    old: OsString,
    /// The value it gets; - reads it from standard input
    #[arg(allow_hyphen_values = true)]
    new: OsString,
    #[command(flatten)]
    common: Common,
}

#[derive(Serialize)]
struct Done {
    key: JsonBytes,
    set: bool,
}

/// Sets the key if it has the old value.
pub(in crate::cli) async fn run(args: Args) -> Result<(), Failure> {
    use std::os::unix::ffi::OsStringExt;
    let (key, old, new) = (super::key(args.key), Expected::Value(args.old.into_vec().into()), super::value(args.new)?);
    let call = OneCall::connect(&args.common.reach).await?;
    let set = call.end(call.client.compare_and_set(key.clone(), old, new)).await?;
    if args.common.output == Output::Json {
        print::json(&Done { key: JsonBytes::new(&key), set })?;
    }
    if !set {
        let key = print::escape(&key);
        return Err(Failure::new(Exit::Failed, format!("not set: the value of {key} is not the one that was given")));
    }
    if args.common.output == Output::Human { print::line("OK") } else { Ok(()) }
}
