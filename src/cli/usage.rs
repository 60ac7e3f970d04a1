//! What clap found wrong, as one line with the right exit code; help and version go to standard output.

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::exit::{Exit, Failure};
use super::print;

/// Prints help or version, or reports what is wrong with the line in the name of `program`.
pub fn report(error: &clap::Error, program: &str) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let text = error.render();
            let text = if print::has_colour() { text.ansi().to_string() } else { text.to_string() };
            match print::raw(text.as_bytes()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(failure) => failure.report(program),
            }
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // The whole help, as clap gives it: a bare command asks what there is.
            error.print().ok();
            ExitCode::from(Exit::Usage.code())
        }
        _ => Failure::new(exit(error), one_line(error, program)).report(program),
    }
}

/// A value that is wrong is configuration; a flag that is unknown or has no value is usage.
fn exit(error: &clap::Error) -> Exit {
    let is_empty = matches!(error.get(ContextKind::InvalidValue), Some(ContextValue::String(text)) if text.is_empty());
    match error.kind() {
        ErrorKind::InvalidValue if is_empty => Exit::Usage,
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => Exit::Config,
        _ => Exit::Usage,
    }
}

/// Drops clap's usage block and joins the rest.
fn one_line(error: &clap::Error, program: &str) -> String {
    let text = error.render().to_string();
    let mut command = program.to_owned();
    let mut parts = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(usage) = line.strip_prefix("Usage: ") {
            let words = usage.split(' ').take_while(|word| word.starts_with(|c: char| c.is_ascii_lowercase()));
            command = words.collect::<Vec<_>>().join(" ");
        } else if line.starts_with("For more information") {
            break;
        } else {
            let line = line.strip_prefix("error: ").unwrap_or(line);
            parts.push(line.strip_prefix("tip: ").map_or_else(|| line.to_owned(), |tip| format!("({tip})")));
        }
    }
    format!("{}; see '{command} --help'", parts.join(" "))
}
