//! `kontiki-inspect`: looks into the log of a node; never writes, takes no lock.

#![forbid(unsafe_code)]

mod args;
mod decode;
mod get;
mod hard_state;
mod log;
mod records;
mod segments;
mod verify;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use kontiki::cli::exit::Failure;
use kontiki::cli::{print, usage};

use args::{Cli, Command};

const PROGRAM: &str = "kontiki-inspect";

/// How an inspection ends when it could read what it was asked to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing to complain of.
    Clean,
    /// A torn tail, which was never acknowledged, and nothing else.
    Torn,
    /// Acknowledged data is damaged.
    Damaged,
}

impl Verdict {
    fn code(self) -> u8 {
        match self {
            Verdict::Clean => 0,
            Verdict::Torn => 3,
            Verdict::Damaged => 65,
        }
    }
}

fn main() -> ExitCode {
    let parsed = Cli::command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return usage::report(&error, PROGRAM),
    };
    match run(cli.command) {
        Ok(verdict) => ExitCode::from(verdict.code()),
        Err(failure) => failure.report(PROGRAM),
    }
}

fn run(command: Command) -> Result<Verdict, Failure> {
    match command {
        Command::Segments(place) => segments::run(&place),
        Command::Records(args) => records::run(&args),
        Command::Get(args) => get::run(&args),
        Command::Verify(place) => verify::run(&place),
        Command::HardState(place) => hard_state::run(&place),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), PROGRAM, &mut text);
            print::raw(&text).map(|()| Verdict::Clean)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_tree_is_sound_and_shows_examples() {
        Cli::command().debug_assert();
        for command in Cli::command().get_subcommands() {
            let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(examples.contains(command.get_name()), "{} shows no example of itself", command.get_name());
        }
    }
}
