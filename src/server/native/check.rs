//! What a client may write: only what is meant for clients, within the limits.

use bytes::BytesMut;

use crate::kv::{Command, Condition, Operation};
use crate::proto::entry::{self, Body};
use crate::proto::native::Refusal;
use crate::server::KEY_BYTES_MAX;

/// The limits of one node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) value_bytes: usize,
    pub(super) entry_bytes: usize,
}

/// Why an entry is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// It is well-formed, but not within the limits: the call fails.
    Refused(Refusal),
    /// No client of ours sends such a thing: the connection ends.
    Violation(&'static str),
}

impl Bounds {
    /// Checks a client's encoded entry and returns it for proposing.
    pub(super) fn check(&self, encoded: bytes::Bytes) -> Result<BytesMut, Unfit> {
        if encoded.len() > self.entry_bytes {
            return Err(Unfit::Refused(Refusal::TooLarge));
        }
        let decoded = entry::decode(&encoded).map_err(|_| Unfit::Violation("a write is no entry of this version"))?;
        if decoded.origin.is_some() || decoded.time_ms != 0 {
            return Err(Unfit::Violation("a write says who asked or when"));
        }
        match &decoded.body {
            Body::Operation(Operation::Command(command)) => self.check_command(command)?,
            Body::Operation(Operation::Exec(exec)) => {
                for Condition::Revision { key, .. } in &exec.conditions {
                    self.check_key(key)?;
                }
                for command in &exec.commands {
                    self.check_command(command)?;
                }
            }
            Body::Noop | Body::Configuration(_) | Body::Time | Body::ClusterVersion(_) => {
                return Err(Unfit::Violation("a write is no operation"));
            }
        }
        Ok(encoded.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..])))
    }

    fn check_command(&self, command: &Command) -> Result<(), Unfit> {
        match command {
            Command::Set(set) => self.check_pair(&set.key, &set.value),
            Command::Append { key, value } => self.check_pair(key, value),
            Command::Delete { keys } => keys.iter().try_for_each(|key| self.check_key(key)),
            Command::SetMany { pairs, .. } => pairs.iter().try_for_each(|(key, value)| self.check_pair(key, value)),
            Command::Increment { key, .. } => self.check_key(key),
            Command::FlushAll | Command::Query(_) => Ok(()),
            Command::OpenSession | Command::CloseSessions { .. } | Command::CloseOtherBoots { .. } => {
                Err(Unfit::Violation("a write is about sessions"))
            }
        }
    }

    fn check_pair(&self, key: &[u8], value: &[u8]) -> Result<(), Unfit> {
        if value.len() > self.value_bytes {
            return Err(Unfit::Refused(Refusal::TooLarge));
        }
        self.check_key(key)
    }

    #[allow(clippy::unused_self, reason = "all limits are asked of the bounds")]
    fn check_key(&self, key: &[u8]) -> Result<(), Unfit> {
        if key.len() > KEY_BYTES_MAX { Err(Unfit::Refused(Refusal::TooLarge)) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use crate::kv::{Exec, Origin, SessionId};

    use super::*;

    const BOUNDS: Bounds = Bounds { value_bytes: 100, entry_bytes: 200_000 };

    fn encoded(command: Command) -> Bytes {
        entry::encode(&Body::Operation(Operation::Command(command))).freeze()
    }

    fn append(key_bytes: usize, value_bytes: usize) -> Command {
        Command::Append { key: vec![b'k'; key_bytes].into(), value: vec![b'v'; value_bytes].into() }
    }

    #[test]
    fn limits_are_met_exactly() {
        let refused = Err(Unfit::Refused(Refusal::TooLarge));
        assert!(BOUNDS.check(encoded(append(KEY_BYTES_MAX, 100))).is_ok());
        assert_eq!(BOUNDS.check(encoded(append(KEY_BYTES_MAX + 1, 100))), refused);
        assert_eq!(BOUNDS.check(encoded(append(KEY_BYTES_MAX, 101))), refused);
        let many = Command::Delete { keys: vec![vec![0; 50_000].into(); 5] };
        assert_eq!(BOUNDS.check(encoded(many)), refused, "longer than an entry may be");
        let inside = Exec { conditions: vec![], commands: vec![append(1, 101)] };
        assert_eq!(BOUNDS.check(entry::encode(&Body::Operation(Operation::Exec(inside))).freeze()), refused);
    }

    #[test]
    fn what_nodes_write_themselves_is_no_clients_business() {
        let id = SessionId { node: 1, boot: 2, number: 3 };
        for command in [
            Command::OpenSession,
            Command::CloseSessions { sessions: vec![id] },
            Command::CloseOtherBoots { node: 1, boot: 2 },
        ] {
            assert!(matches!(BOUNDS.check(encoded(command)), Err(Unfit::Violation(_))));
        }
        assert!(matches!(BOUNDS.check(entry::encode(&Body::Noop).freeze()), Err(Unfit::Violation(_))));
        assert!(matches!(BOUNDS.check(Bytes::from_static(b"garbage")), Err(Unfit::Violation(_))));
        let mut stamped = entry::encode(&Body::Operation(Operation::Command(append(1, 1))));
        entry::stamp_origin(&mut stamped, &Origin { session: id, seq: 1, previous: 0, first_unanswered: 0 });
        assert!(matches!(BOUNDS.check(stamped.freeze()), Err(Unfit::Violation(_))));
    }
}
