//! CLIENT: names, ids and the list of connections.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::clients::{Client, End};
use super::commands::Id;
use super::door::Door;
use super::errors;
use super::local::{Answer, Conversation, now};
use super::translate::parse_u64;
use crate::proto::resp::Value;

/// Answers every subcommand but KILL.
pub(super) fn answer(id: Id, arguments: &[Bytes], conversation: &Conversation, door: &Door) -> Value {
    let client = &conversation.client;
    match id {
        Id::ClientId => Value::Integer(i64::try_from(client.id).unwrap_or(i64::MAX)),
        Id::ClientGetname => match client.named.lock().name.clone() {
            name if name.is_empty() => Value::Null,
            name => Value::Bulk(name),
        },
        Id::ClientSetname => {
            if !is_valid_name(&arguments[2]) {
                return invalid_name();
            }
            client.named.lock().name = Bytes::copy_from_slice(&arguments[2]);
            Value::OK
        }
        Id::ClientSetinfo => set_info(&arguments[2], &arguments[3], client),
        Id::ClientInfo => Value::Verbatim(format!("{}\n", client.line(now()))),
        Id::ClientList => list(&arguments[2..], door),
        other => unreachable!("{other:?} is not a subcommand of CLIENT"),
    }
}

/// Names are words: printable ASCII without space. An empty one takes the name away.
pub(super) fn is_valid_name(name: &[u8]) -> bool {
    name.iter().all(|byte| (b'!'..=b'~').contains(byte))
}

pub(super) fn invalid_name() -> Value {
    Value::error("Client names cannot contain spaces, newlines or special characters.")
}

/// `CLIENT SETINFO LIB-NAME|LIB-VER value`
fn set_info(attribute: &[u8], value: &[u8], client: &Client) -> Value {
    let is_name = attribute.eq_ignore_ascii_case(b"lib-name");
    let shown = String::from_utf8_lossy(attribute);
    if !is_name && !attribute.eq_ignore_ascii_case(b"lib-ver") {
        return Value::error(format_args!("Unrecognized option '{shown}'"));
    }
    if !is_valid_name(value) {
        return Value::error(format_args!("{shown} cannot contain spaces, newlines or special characters."));
    }
    let mut named = client.named.lock();
    let field = if is_name { &mut named.library } else { &mut named.library_version };
    *field = Bytes::copy_from_slice(value);
    Value::OK
}

/// `CLIENT LIST [TYPE type | ID id …]`
fn list(options: &[Bytes], door: &Door) -> Value {
    let all = door.clients.all();
    let shown: Vec<Arc<Client>> = match options {
        [] => all,
        [option, kind] if option.eq_ignore_ascii_case(b"TYPE") => match is_normal(kind) {
            Ok(true) => all,
            Ok(false) => Vec::new(),
            Err(error) => return error,
        },
        [option, ids @ ..] if option.eq_ignore_ascii_case(b"ID") && !ids.is_empty() => {
            let mut shown = Vec::new();
            for id in ids {
                let Some(id) = parse_u64(id) else {
                    return Value::error("Invalid client ID");
                };
                shown.extend(all.iter().filter(|client| client.id == id).cloned());
            }
            shown
        }
        _ => return errors::syntax(),
    };
    let now = now();
    let mut text = String::new();
    for client in shown {
        let line = writeln!(text, "{}", client.line(now));
        assert!(line.is_ok(), "writing to a string does not fail");
    }
    Value::Verbatim(text)
}

/// Returns whether a client type is the one that all connections here have.
fn is_normal(kind: &[u8]) -> Result<bool, Value> {
    let is = |word: &[u8]| kind.eq_ignore_ascii_case(word);
    if is(b"normal") {
        Ok(true)
    } else if is(b"master") || is(b"replica") || is(b"slave") || is(b"pubsub") {
        Ok(false)
    } else {
        Err(Value::error(format_args!("Unknown client type '{}'", String::from_utf8_lossy(kind))))
    }
}

/// Which connections CLIENT KILL closes: those for which all that is set holds.
struct KillFilter {
    id: Option<u64>,
    address: Option<Bytes>,
    local_address: Option<Bytes>,
    is_none: bool,
    skips_me: bool,
}

/// `CLIENT KILL address | [ID id] [ADDR address] [LADDR address] [TYPE type] [USER user] [SKIPME yes|no]`
pub(super) fn kill(arguments: &[Bytes], conversation: &Conversation, door: &Door) -> Answer {
    let is_old_style = arguments.len() == 3;
    let filter = if is_old_style {
        let address = Some(arguments[2].clone());
        KillFilter { id: None, address, local_address: None, is_none: false, skips_me: false }
    } else {
        match parse_kill(&arguments[2..]) {
            Ok(filter) => filter,
            Err(error) => return error.into(),
        }
    };
    let mut count = 0;
    let mut closes = false;
    for client in door.clients.all() {
        let is_me = client.id == conversation.client.id;
        if !filter.is_met(&client) || (is_me && filter.skips_me) {
            continue;
        }
        count += 1;
        if is_me {
            closes = true;
        } else {
            client.close(End::Now);
        }
    }
    let value = match (is_old_style, count) {
        (true, 0) => Value::error("No such client"),
        (true, _) => Value::OK,
        (false, _) => Value::Integer(count),
    };
    Answer { value, closes }
}

fn parse_kill(options: &[Bytes]) -> Result<KillFilter, Value> {
    let mut filter = KillFilter { id: None, address: None, local_address: None, is_none: false, skips_me: true };
    for option in options.chunks(2) {
        let [name, value] = option else {
            return Err(errors::syntax());
        };
        let is = |word: &[u8]| name.eq_ignore_ascii_case(word);
        if is(b"ID") {
            let id = parse_u64(value).filter(|&id| id > 0);
            filter.id = Some(id.ok_or_else(|| Value::error("client-id should be greater than 0"))?);
        } else if is(b"TYPE") {
            filter.is_none |= !is_normal(value)?;
        } else if is(b"ADDR") {
            filter.address = Some(value.clone());
        } else if is(b"LADDR") {
            filter.local_address = Some(value.clone());
        } else if is(b"USER") {
            if value != "default" {
                let user = String::from_utf8_lossy(value);
                return Err(Value::error(format_args!("No such user '{user}'")));
            }
        } else if is(b"SKIPME") && (value.eq_ignore_ascii_case(b"yes") || value.eq_ignore_ascii_case(b"no")) {
            filter.skips_me = value.eq_ignore_ascii_case(b"yes");
        } else {
            return Err(errors::syntax());
        }
    }
    Ok(filter)
}

impl KillFilter {
    fn is_met(&self, client: &Client) -> bool {
        let is_at = |wanted: &Option<Bytes>, address: SocketAddr| {
            wanted.as_ref().is_none_or(|wanted| wanted == address.to_string().as_str())
        };
        !self.is_none
            && self.id.is_none_or(|id| id == client.id)
            && is_at(&self.address, client.address)
            && is_at(&self.local_address, client.local_address)
    }
}
