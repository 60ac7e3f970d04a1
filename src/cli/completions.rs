//! `kontiki completions`: the completions of a shell on standard output.

use clap_complete::Shell;

use super::exit::Failure;
use super::print;

const EXAMPLES: &str = "\
Examples:
  kontiki completions bash > /etc/bash_completion.d/kontiki
  kontiki completions zsh > ~/.zfunc/_kontiki
  kontiki completions fish > ~/.config/fish/completions/kontiki.fish";

/// The flags.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

/// Prints the completions.
pub(crate) fn run(args: &Args, command: &mut clap::Command) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, command, "kontiki", &mut text);
    print::raw(&text)
}
