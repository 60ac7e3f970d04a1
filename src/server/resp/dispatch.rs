//! What becomes of one command: an answer of the node, or a request to the state.

use bytes::Bytes;

use super::commands::{Flags, Id, Spec, lookup};
use super::door::Door;
use super::errors;
use super::local::{self, Answer, Conversation};
use super::translate::{Request, translate};
use crate::node::RequestError;
use crate::proto::resp::Value;

/// A command that was looked at.
#[derive(Debug, PartialEq)]
pub(super) struct Dispatched {
    /// The command's name, if it is one.
    pub(super) name: Option<&'static str>,
    pub(super) decision: Decision,
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub(super) enum Decision {
    Answer(Answer),
    Submit(Request),
    /// Close without a word: somebody makes a browser talk to us, and whatever follows is not meant.
    Hang,
}

/// Decides about a command (its name first; empty only if `is_too_large`), in the order of checks that Redis has.
pub(super) fn dispatch(
    arguments: &mut [Bytes],
    is_too_large: bool,
    is_loading: bool,
    conversation: &mut Conversation,
    door: &Door,
) -> Dispatched {
    let spec = match find(arguments, is_too_large) {
        Ok(spec) => spec,
        Err(Refusal::Error(error)) => return Dispatched { name: None, decision: Decision::Answer(error.into()) },
        Err(Refusal::Hang) => return Dispatched { name: None, decision: Decision::Hang },
    };
    let decision = if !conversation.is_authenticated && !spec.flags.has(Flags::NO_AUTH) {
        Decision::Answer(errors::no_auth().into())
    } else if is_loading && !spec.flags.has(Flags::LOADING) {
        Decision::Answer(Value::Error(RequestError::Loading.to_string().into()).into())
    } else if spec.flags.has(Flags::WRITE) || spec.flags.has(Flags::READONLY) {
        match translate(spec, arguments, door.bounds()) {
            Ok(request) => Decision::Submit(request),
            Err(error) => Decision::Answer(error.into()),
        }
    } else {
        Decision::Answer(local::answer(spec, arguments, conversation, door))
    };
    Dispatched { name: Some(spec.name), decision }
}

/// Why a command is none.
enum Refusal {
    Error(Value),
    Hang,
}

/// Finds a command and checks its arity.
fn find(arguments: &[Bytes], is_too_large: bool) -> Result<&'static Spec, Refusal> {
    let Some(name) = arguments.first() else {
        return Err(Refusal::Error(errors::value_too_large()));
    };
    let Some(spec) = lookup(name) else {
        if name.eq_ignore_ascii_case(b"POST") || name.eq_ignore_ascii_case(b"Host:") {
            return Err(Refusal::Hang);
        }
        return Err(Refusal::Error(errors::unknown_command(arguments)));
    };
    if is_too_large {
        return Err(Refusal::Error(errors::value_too_large()));
    }
    let found = match arguments.get(1) {
        Some(name) if !spec.subcommands.is_empty() => {
            let found = spec.subcommand(name);
            found.ok_or_else(|| Refusal::Error(errors::unknown_subcommand(spec.name, name)))?
        }
        Some(_) | None => spec,
    };
    if !found.takes(arguments.len()) || found.id == Id::Container {
        return Err(Refusal::Error(errors::arity(found.name)));
    }
    Ok(found)
}
