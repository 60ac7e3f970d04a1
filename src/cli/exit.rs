//! How a command ends: one exit code of a short list, and one line on standard error.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::runtime::{FailureClass, NodeFailure};

/// The exit codes of `kontiki`. Scripts rely on the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// The operation failed; also: key not found, condition false.
    Failed = 1,
    /// Unknown flag or command, missing argument.
    Usage = 2,
    /// A bad value in a flag, variable or file, an unknown key, a TLS file, a refused listening address.
    Config = 64,
    /// Acknowledged data is damaged.
    Damaged = 65,
    /// The data directory is in use by another process.
    Locked = 66,
    /// The data directory belongs to another node, cluster or storage.
    Identity = 67,
    /// No leader, unreachable, or a port already taken.
    Unavailable = 69,
    /// A data directory that cannot be used, a failed sync, standard input or output that failed.
    Io = 74,
}

/// The end of a command that did not go well.
///
/// `message` says what, where and what to do, in one line; empty where nothing needs saying.
#[derive(Debug)]
pub struct Failure {
    /// The code.
    pub exit: Exit,
    /// The line.
    pub message: String,
}

impl Exit {
    /// Returns the number that the shell sees.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// Returns what `code` of a node means, for people.
    pub(crate) fn describe(code: i32) -> &'static str {
        match code {
            0 => "stopped",
            1 => "failed",
            2 => "usage",
            64 => "configuration",
            65 => "data damaged",
            66 => "data directory locked",
            67 => "identity mismatch",
            69 => "unavailable",
            74 => "I/O error",
            101 => "panicked",
            _ => "unknown",
        }
    }
}

impl From<FailureClass> for Exit {
    fn from(class: FailureClass) -> Exit {
        match class {
            FailureClass::Configuration => Exit::Config,
            FailureClass::Damaged => Exit::Damaged,
            FailureClass::Locked => Exit::Locked,
            FailureClass::Identity => Exit::Identity,
            FailureClass::Unavailable => Exit::Unavailable,
            FailureClass::Io => Exit::Io,
        }
    }
}

impl From<NodeFailure> for Failure {
    fn from(failure: NodeFailure) -> Failure {
        Failure::new(failure.class.into(), failure.message)
    }
}

impl Failure {
    /// Makes a failure; line breaks in `message` become spaces.
    pub fn new(exit: Exit, message: impl Display) -> Failure {
        let message = message.to_string();
        let words: Vec<&str> = message.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect();
        Failure { exit, message: words.join(" ") }
    }

    /// Makes a failure that says nothing.
    pub(crate) fn silent(exit: Exit) -> Failure {
        Failure { exit, message: String::new() }
    }

    /// Makes a configuration failure (64).
    pub fn config(message: impl Display) -> Failure {
        Failure::new(Exit::Config, message)
    }

    /// Makes an I/O failure (74) that names the file.
    pub fn io(what: &str, path: &std::path::Path, error: &io::Error) -> Failure {
        Failure::new(Exit::Io, format!("cannot {what} {}: {error}", path.display()))
    }

    /// Makes the end of a command whose output went wrong: quiet if the reader has gone.
    pub(crate) fn output(error: &io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure::silent(Exit::Ok);
        }
        Failure::new(Exit::Io, format!("cannot write to standard output: {error}"))
    }

    /// Says the line, if there is one, in the name of `program`, and returns the code.
    pub fn report(&self, program: &str) -> ExitCode {
        if !self.message.is_empty() {
            // Nobody is left to tell if standard error is gone.
            writeln!(io::stderr().lock(), "{program}: {}", self.message).ok();
        }
        ExitCode::from(self.exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_published_ones() {
        let codes = [
            (Exit::Ok, 0),
            (Exit::Failed, 1),
            (Exit::Usage, 2),
            (Exit::Config, 64),
            (Exit::Damaged, 65),
            (Exit::Locked, 66),
            (Exit::Identity, 67),
            (Exit::Unavailable, 69),
            (Exit::Io, 74),
        ];
        for (exit, code) in codes {
            assert_eq!(exit.code(), code);
        }
    }

    #[test]
    fn a_message_is_one_line() {
        assert_eq!(Failure::config("a\n  b\n\nc\n").message, "a b c");
    }

    #[test]
    fn a_reader_that_left_is_no_error() {
        let failure = Failure::output(&io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((failure.exit, failure.message.as_str()), (Exit::Ok, ""));
    }
}
