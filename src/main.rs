//! The `kontiki` binary: a node, its client and its operator commands.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    kontiki::cli::main()
}
