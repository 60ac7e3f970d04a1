//! Commands that the node answers by itself: about the connection, the server and its commands.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::clients::Client;
use super::commands::{Id, Spec};
use super::door::Door;
use super::{client_command, command_command, config_command, errors, help, info, raft_command};
use crate::proto::resp::{Value, Version, parse_i64};
use crate::runtime::Role;

/// The version of Redis whose commands and replies are spoken.
pub(super) const REDIS_VERSION: &str = "7.0.15";

/// What one connection has told and been granted.
pub(super) struct Conversation {
    pub(super) client: Arc<Client>,
    pub(super) version: Version,
    pub(super) is_authenticated: bool,
    /// Reads are answered from the local state at once, possibly stale.
    pub(super) is_readonly: bool,
}

/// The node's own answer.
#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) value: Value,
    /// Close the connection once the answer is sent.
    pub(super) closes: bool,
}

impl From<Value> for Answer {
    fn from(value: Value) -> Answer {
        Answer { value, closes: false }
    }
}

impl Conversation {
    /// Begins one: nothing said, and only trusted if there is no password.
    pub(super) fn new(client: Arc<Client>, door: &Door) -> Conversation {
        let mut conversation =
            Conversation { client, version: Version::Two, is_authenticated: false, is_readonly: false };
        conversation.set_authenticated(door.options.password.is_none());
        conversation
    }

    fn set_authenticated(&mut self, is_authenticated: bool) {
        self.is_authenticated = is_authenticated;
        self.client.is_authenticated.store(is_authenticated, Ordering::Relaxed);
    }

    fn set_version(&mut self, version: Version) {
        self.version = version;
        self.client.version.store(if version == Version::Three { 3 } else { 2 }, Ordering::Relaxed);
    }

    fn set_readonly(&mut self, is_readonly: bool) {
        self.is_readonly = is_readonly;
        self.client.is_readonly.store(is_readonly, Ordering::Relaxed);
    }
}

/// Answers a command whose arity was checked and that needs neither state nor log.
pub(super) fn answer(spec: &'static Spec, arguments: &[Bytes], conversation: &mut Conversation, door: &Door) -> Answer {
    let value = match spec.id {
        Id::Ping => match arguments {
            [_] => Value::Simple("PONG"),
            [_, message] => Value::Bulk(message.clone()),
            _ => errors::arity("ping"),
        },
        Id::Echo => Value::Bulk(arguments[1].clone()),
        Id::Hello => hello(arguments, conversation, door),
        Id::Auth => auth(arguments, conversation, door),
        Id::Select => match parse_i64(&arguments[1]) {
            Some(0) => Value::OK,
            Some(index) if i32::try_from(index).is_ok() => Value::error("DB index is out of range"),
            Some(_) => Value::error("value is out of range, value must between -2147483648 and 2147483647"),
            None => errors::not_an_integer(),
        },
        Id::Quit => return Answer { value: Value::OK, closes: true },
        Id::Reset => reset(conversation, door),
        Id::Time => time(SystemTime::now()),
        Id::Readonly | Id::Readwrite => {
            conversation.set_readonly(spec.id == Id::Readonly);
            Value::OK
        }
        Id::Info => info::info(&arguments[1..], door),
        Id::ClientKill => return client_command::kill(arguments, conversation, door),
        Id::ClientId | Id::ClientGetname | Id::ClientSetname | Id::ClientSetinfo | Id::ClientInfo | Id::ClientList => {
            client_command::answer(spec.id, arguments, conversation, door)
        }
        Id::Command | Id::CommandCount | Id::CommandInfo | Id::CommandDocs | Id::CommandList | Id::CommandGetkeys => {
            command_command::answer(spec.id, arguments)
        }
        Id::ConfigGet => config_command::get(&arguments[2..], door),
        Id::ConfigSet => config_command::set(&arguments[2..], door),
        Id::ConfigResetstat => {
            door.counters.reset();
            Value::OK
        }
        Id::FunctionFlush => function_flush(&arguments[2..]),
        Id::RaftStatus => raft_command::status(&door.status()),
        Id::RaftMembers => raft_command::members(&door.status()),
        Id::Help => help::help(spec.name),
        other => unreachable!("{other:?} is not answered locally"),
    };
    value.into()
}

/// `HELLO [2|3 [AUTH user password] [SETNAME name]]`
fn hello(arguments: &[Bytes], conversation: &mut Conversation, door: &Door) -> Value {
    let version = match arguments.get(1).map(|version| parse_i64(version)) {
        None => conversation.version,
        Some(None) => return Value::error("Protocol version is not an integer or out of range"),
        Some(Some(2)) => Version::Two,
        Some(Some(3)) => Version::Three,
        Some(Some(_)) => return Value::fixed_error("NOPROTO unsupported protocol version"),
    };
    let mut rest = arguments.get(2..).unwrap_or_default();
    let (mut credentials, mut name) = (None, None);
    while let [option, after @ ..] = rest {
        rest = match after {
            [user, password, after @ ..] if option.eq_ignore_ascii_case(b"AUTH") => {
                credentials = Some((user, password));
                after
            }
            [given, after @ ..] if option.eq_ignore_ascii_case(b"SETNAME") => {
                if !client_command::is_valid_name(given) {
                    return client_command::invalid_name();
                }
                name = Some(given);
                after
            }
            _ => {
                return errors::repeating(&[b"Syntax error in HELLO option '", option, b"'"]);
            }
        };
    }
    if let Some((user, password)) = credentials
        && let Err(refusal) = authenticate(user, password, conversation, door)
    {
        return refusal;
    }
    if !conversation.is_authenticated {
        return Value::fixed_error(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> \
             option can be used to authenticate the client and select the RESP protocol version at the same time",
        );
    }
    if let Some(name) = name {
        conversation.client.named.lock().name = Bytes::copy_from_slice(name);
    }
    conversation.set_version(version);
    let id = i64::try_from(conversation.client.id).unwrap_or(i64::MAX);
    let role = if door.status().role == Role::Leader { "master" } else { "replica" };
    Value::Map(vec![
        (Value::text("server"), Value::text("redis")),
        (Value::text("version"), Value::text(REDIS_VERSION)),
        (Value::text("proto"), Value::Integer(if version == Version::Three { 3 } else { 2 })),
        (Value::text("id"), Value::Integer(id)),
        (Value::text("mode"), Value::text("standalone")),
        (Value::text("role"), Value::text(role)),
        (Value::text("modules"), Value::Array(Vec::new())),
    ])
}

/// `AUTH [user] password`
fn auth(arguments: &[Bytes], conversation: &mut Conversation, door: &Door) -> Value {
    let (user, password) = match arguments {
        [_, _] if door.options.password.is_none() => {
            return Value::error(
                "AUTH <password> called without any password configured for the default user. Are you sure your configuration is \
                 correct?",
            );
        }
        [_, password] => (&Bytes::from_static(b"default"), password),
        [_, user, password] => (user, password),
        _ => return errors::syntax(),
    };
    match authenticate(user, password, conversation, door) {
        Ok(()) => Value::OK,
        Err(refusal) => refusal,
    }
}

/// The only user is `default`; without a password set, any will do.
fn authenticate(user: &[u8], given: &[u8], conversation: &mut Conversation, door: &Door) -> Result<(), Value> {
    let is_right = door.options.password.as_ref().is_none_or(|password| password.is(given));
    if user != b"default" || !is_right {
        return Err(errors::wrong_password());
    }
    conversation.set_authenticated(true);
    Ok(())
}

fn reset(conversation: &mut Conversation, door: &Door) -> Value {
    conversation.set_authenticated(door.options.password.is_none());
    conversation.client.challenged_ms.store(conversation.client.age_ms(now()), Ordering::Relaxed);
    conversation.set_version(Version::Two);
    conversation.set_readonly(false);
    conversation.client.named.lock().name = Bytes::new();
    Value::Simple("RESET")
}

fn time(now: SystemTime) -> Value {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    Value::Array(vec![Value::text(since.as_secs().to_string()), Value::text(since.subsec_micros().to_string())])
}

/// There are no functions, so flushing them is done at once.
fn function_flush(arguments: &[Bytes]) -> Value {
    let is_known = |how: &Bytes| how.eq_ignore_ascii_case(b"sync") || how.eq_ignore_ascii_case(b"async");
    match arguments {
        [] => Value::OK,
        [how] if is_known(how) => Value::OK,
        _ => Value::error("FUNCTION FLUSH only supports SYNC|ASYNC option"),
    }
}

/// Returns the moment for ages in CLIENT LIST and cursors.
pub(super) fn now() -> Instant {
    Instant::now()
}
