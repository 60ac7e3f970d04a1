//! The errors that Redis 7.0 gives for commands it cannot take, in its words.

use bytes::Bytes;

use crate::proto::resp::Value;

/// Of an unknown command, this many bytes of the name and of all arguments are repeated.
const REPEATED_BYTES_MAX: usize = 128;

pub(super) fn syntax() -> Value {
    Value::error("syntax error")
}

pub(super) fn not_an_integer() -> Value {
    Value::error("value is not an integer or out of range")
}

pub(super) fn value_too_large() -> Value {
    Value::error("string exceeds maximum allowed size (proto-max-bulk-len)")
}

pub(super) fn command_too_large() -> Value {
    Value::error("command too large; not executed")
}

pub(super) fn arity(name: &str) -> Value {
    Value::error(format_args!("wrong number of arguments for '{name}' command"))
}

pub(super) fn not_in_session(name: &str) -> Value {
    Value::error(format_args!("'{name}' cannot be executed in a session; not executed"))
}

pub(super) fn no_auth() -> Value {
    Value::fixed_error("NOAUTH Authentication required.")
}

pub(super) fn wrong_password() -> Value {
    Value::fixed_error("WRONGPASS invalid username-password pair or user is disabled.")
}

/// `arguments` with the name, at least that.
pub(super) fn unknown_command(arguments: &[Bytes]) -> Value {
    let mut repeated = Vec::new();
    for argument in &arguments[1..] {
        if repeated.len() >= REPEATED_BYTES_MAX {
            break;
        }
        let room = REPEATED_BYTES_MAX - repeated.len();
        repeated.push(b'\'');
        repeated.extend_from_slice(c_string(argument, room));
        repeated.extend_from_slice(b"' ");
    }
    let name = c_string(&arguments[0], REPEATED_BYTES_MAX);
    repeating(&[b"unknown command '", name, b"', with args beginning with: ", &repeated])
}

/// `parent` is the container's name in lower case.
pub(super) fn unknown_subcommand(parent: &str, name: &[u8]) -> Value {
    let (name, parent) = (c_string(name, REPEATED_BYTES_MAX), parent.to_uppercase());
    repeating(&[b"unknown subcommand '", name, b"'. Try ", parent.as_bytes(), b" HELP."])
}

/// Makes an error with Redis' general code of text and of what the client sent.
pub(super) fn repeating(parts: &[&[u8]]) -> Value {
    Value::Error(Bytes::from([b"ERR ", &parts.concat()[..]].concat()))
}

/// What C's `%.*s` prints of `text`: up to a NUL, at most `bytes_max`.
fn c_string(text: &[u8], bytes_max: usize) -> &[u8] {
    let text = &text[..text.len().min(bytes_max)];
    text.split(|&byte| byte == 0).next().unwrap_or_default()
}
