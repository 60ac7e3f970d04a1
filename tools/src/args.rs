//! The command line of `kontiki-inspect`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use clap_complete::Shell;
use kontiki::cli::print::Output;

const EXAMPLES: &str = "\
Examples:
  kontiki-inspect segments kontiki-data/node-1
  kontiki-inspect records kontiki-data/node-1 --decode --reverse --limit 10
  kontiki-inspect verify kontiki-data/node-1 --output json

Exit codes: 0 clean, 1 failed (also: no such entry), 2 usage, 3 a torn tail and nothing else, 64 a bad value,
65 data damaged, 74 the directory cannot be read.";

/// Looks into the log of a Kontiki node
///
/// DIR is a node's data directory or its log directory. Reading takes no lock and writes nothing, so the node may be
/// running; what it writes meanwhile may be missing from the answer.
#[derive(Debug, Parser)]
#[command(name = "kontiki-inspect", version, propagate_version = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the slots of a log, a row each
    #[command(
        after_help = "Examples:\n  kontiki-inspect segments kontiki-data/node-1\n  kontiki-inspect segments wal --output json"
    )]
    Segments(Place),
    /// Show the records of a log, a row each
    #[command(after_help = RECORDS_EXAMPLES)]
    Records(Records),
    /// Show one entry: every field, checksums computed again, bytes
    #[command(after_help = "Examples:\n  kontiki-inspect get kontiki-data/node-1 120")]
    Get(Get),
    /// Check every checksum and link
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(Place),
    /// Show term, vote and commit index as the log has them
    #[command(after_help = "Examples:\n  kontiki-inspect hard-state kontiki-data/node-1")]
    HardState(Place),
    /// Print the completions of a shell
    #[command(after_help = "Examples:\n  kontiki-inspect completions bash > kontiki-inspect.bash")]
    Completions {
        /// The shell
        shell: Shell,
    },
}

const RECORDS_EXAMPLES: &str = "\
Examples:
  kontiki-inspect records kontiki-data/node-1 --from 100 --to 120 --decode
  kontiki-inspect records kontiki-data/node-1 --kind mark --reverse --limit 5
  kontiki-inspect records kontiki-data/node-1 --key 'user:*' --output json";

const VERIFY_EXAMPLES: &str = "\
Examples:
  kontiki-inspect verify kontiki-data/node-1
  kontiki-inspect verify kontiki-data/node-1 --output json

Exit codes: 0 clean, 3 a torn tail and nothing else, 65 damaged.";

/// Where to look, and how to print.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Place {
    /// A node's data directory or its log directory
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// How to print
    #[arg(long, value_enum, default_value_t, env = "KONTIKI_OUTPUT")]
    pub(crate) output: Output,
}

/// Which records, and how much of each.
#[derive(Debug, clap::Args)]
pub(crate) struct Records {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Only entries from this index on
    #[arg(long, value_name = "INDEX")]
    pub(crate) from: Option<u64>,
    /// Only entries up to this index
    #[arg(long, value_name = "INDEX")]
    pub(crate) to: Option<u64>,
    /// Only records of this term
    #[arg(long)]
    pub(crate) term: Option<u64>,
    /// Only these kinds: entry, hard_state, truncate, snapshot, mark, seal, pad, reopen, repair
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = kind)]
    pub(crate) kind: Vec<kontiki_wal::format::Kind>,
    /// Only entries that name a key that matches this glob
    #[arg(long, value_name = "GLOB")]
    pub(crate) key: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    /// Newest first
    #[arg(long)]
    pub(crate) reverse: bool,
    /// Tell what entries say
    #[arg(long)]
    pub(crate) decode: bool,
    /// Show payloads in hexadecimal digits
    #[arg(long)]
    pub(crate) hex: bool,
}

/// Which entry.
#[derive(Debug, clap::Args)]
pub(crate) struct Get {
    #[command(flatten)]
    pub(crate) place: Place,
    /// The entry's index
    pub(crate) index: u64,
}

fn kind(text: &str) -> Result<kontiki_wal::format::Kind, String> {
    let all = (1..=u8::MAX).map_while(kontiki_wal::format::Kind::from_u8);
    let mut kinds = all.clone().filter(|kind| kind.name() == text);
    kinds.next().ok_or_else(|| format!("one of {}", all.map(|kind| kind.name()).collect::<Vec<_>>().join(", ")))
}
