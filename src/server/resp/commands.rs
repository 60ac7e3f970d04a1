//! What a command is to the server: name, arity, flags and key positions; finding it by name.

use super::table::TABLE;

/// A command's handler. Commands with subcommands have one for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Id {
    // Answered by the node itself.
    Ping,
    Echo,
    Hello,
    Auth,
    Select,
    Quit,
    Reset,
    Time,
    Readonly,
    Readwrite,
    Info,
    #[allow(clippy::enum_variant_names, reason = "the command is called so")]
    ClientId,
    ClientGetname,
    ClientSetname,
    ClientSetinfo,
    ClientInfo,
    ClientList,
    ClientKill,
    Command,
    CommandCount,
    CommandInfo,
    CommandDocs,
    CommandList,
    CommandGetkeys,
    ConfigGet,
    ConfigSet,
    ConfigResetstat,
    FunctionFlush,
    RaftStatus,
    RaftMembers,
    Help,
    // Questions to the state.
    Dbsize,
    Get,
    Exists,
    Strlen,
    Mget,
    Getrange,
    Scan,
    Keys,
    Type,
    Randomkey,
    Getrev,
    Range,
    // Changes of the state.
    Set,
    Setnx,
    Getset,
    Append,
    Del,
    Mset,
    Msetnx,
    Incr,
    Decr,
    Incrby,
    Decrby,
    Flushall,
    SessionOpen,
    SessionDo,
    /// Only its subcommands do something.
    Container,
}

/// Properties of a command, as `COMMAND INFO` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flags(u16);

/// Flag names in the order in which Redis lists them.
const FLAG_NAMES: [(Flags, &str); 9] = [
    (Flags::WRITE, "write"),
    (Flags::READONLY, "readonly"),
    (Flags::DENYOOM, "denyoom"),
    (Flags::ADMIN, "admin"),
    (Flags::NOSCRIPT, "noscript"),
    (Flags::LOADING, "loading"),
    (Flags::STALE, "stale"),
    (Flags::FAST, "fast"),
    (Flags::NO_AUTH, "no_auth"),
];

impl Flags {
    pub(super) const NONE: Flags = Flags(0);
    /// Changes the state, through the log.
    pub(super) const WRITE: Flags = Flags(1);
    /// Asks the state.
    pub(super) const READONLY: Flags = Flags(2);
    pub(super) const DENYOOM: Flags = Flags(4);
    pub(super) const ADMIN: Flags = Flags(8);
    pub(super) const NOSCRIPT: Flags = Flags(16);
    /// Allowed while the node recovers.
    pub(super) const LOADING: Flags = Flags(32);
    pub(super) const STALE: Flags = Flags(64);
    pub(super) const FAST: Flags = Flags(128);
    /// Allowed before AUTH.
    pub(super) const NO_AUTH: Flags = Flags(256);
    /// Not a flag of its own for clients: in the category `dangerous`.
    pub(super) const DANGEROUS: Flags = Flags(512);

    pub(super) const fn and(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    pub(super) const fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    pub(super) fn names(self) -> impl Iterator<Item = &'static str> {
        FLAG_NAMES.into_iter().filter(move |(flag, _)| self.has(*flag)).map(|(_, name)| name)
    }
}

/// Where the keys are among the arguments: every `step`-th from `first` to `last`, counted from the end if negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Keys {
    /// The first one, 0 if there are none; the command's name is argument 0.
    pub(super) first: usize,
    pub(super) last: i8,
    pub(super) step: usize,
    /// What is done to them, in the words of key specifications.
    pub(super) access: &'static [&'static str],
}

impl Keys {
    const NONE: Keys = Keys { first: 0, last: 0, step: 0, access: &[] };

    /// Returns the positions of keys in a command of `count` arguments.
    pub(super) fn positions(self, count: usize) -> impl Iterator<Item = usize> {
        let end = match usize::try_from(self.last) {
            Ok(last) => last + 1,
            Err(_) => (count + 1).saturating_sub(usize::from(self.last.unsigned_abs())),
        };
        let range = if self.first == 0 { 0..0 } else { self.first..end.min(count) };
        range.step_by(self.step.max(1))
    }
}

/// One command or subcommand.
#[derive(Debug)]
pub(super) struct Spec {
    /// In lower case; of a subcommand with its parent: `client|id`.
    pub(super) name: &'static str,
    pub(super) id: Id,
    /// The exact number of arguments with the name, or, negative, the least.
    pub(super) arity: i8,
    pub(super) flags: Flags,
    pub(super) keys: Keys,
    pub(super) subcommands: &'static [Spec],
    pub(super) group: &'static str,
    pub(super) since: &'static str,
    pub(super) complexity: &'static str,
    pub(super) summary: &'static str,
}

impl Spec {
    pub(super) const fn new(name: &'static str, id: Id, arity: i8, flags: Flags) -> Spec {
        Spec {
            name,
            id,
            arity,
            flags,
            keys: Keys::NONE,
            subcommands: &[],
            group: "",
            since: "",
            complexity: "",
            summary: "",
        }
    }

    pub(super) const fn keys(mut self, first: usize, last: i8, step: usize, access: &'static [&'static str]) -> Spec {
        self.keys = Keys { first, last, step, access };
        self
    }

    pub(super) const fn about(
        mut self,
        group: &'static str,
        since: &'static str,
        complexity: &'static str,
        summary: &'static str,
    ) -> Spec {
        self.group = group;
        self.since = since;
        self.complexity = complexity;
        self.summary = summary;
        self
    }

    pub(super) const fn subcommands(mut self, subcommands: &'static [Spec]) -> Spec {
        self.subcommands = subcommands;
        self
    }

    /// Returns whether a command may have `count` arguments, its name included.
    pub(super) fn takes(&self, count: usize) -> bool {
        let least = usize::from(self.arity.unsigned_abs());
        if self.arity >= 0 { count == least } else { count >= least }
    }

    /// Returns the subcommand of this name, in any case.
    pub(super) fn subcommand(&self, name: &[u8]) -> Option<&'static Spec> {
        self.subcommands.iter().find(|spec| spec.short_name().as_bytes().eq_ignore_ascii_case(name))
    }

    /// Returns the name without its parent's.
    pub(super) fn short_name(&self) -> &'static str {
        self.name.split_once('|').map_or(self.name, |(_, short)| short)
    }
}

/// The longest name of a command in [`TABLE`].
const NAME_BYTES_MAX: usize = 16;

/// Slots of the hash table; a power of two, at most half of them used.
const SLOTS: usize = 256;
const _: () = assert!(TABLE.len() * 2 <= SLOTS);

/// Position in [`TABLE`] plus one, by hash, with linear probing; 0 is empty. Made by the compiler.
static INDEX: [u8; SLOTS] = index();

#[allow(clippy::cast_possible_truncation, reason = "there are fewer than 128 rows, asserted above")]
const fn index() -> [u8; SLOTS] {
    let mut slots = [0; SLOTS];
    let mut row = 0;
    while row < TABLE.len() {
        let name = TABLE[row].name.as_bytes();
        assert!(name.len() <= NAME_BYTES_MAX);
        let mut slot = hash(name);
        while slots[slot] != 0 {
            slot = (slot + 1) % SLOTS;
        }
        row += 1;
        slots[slot] = row as u8;
    }
    slots
}

const fn hash(name: &[u8]) -> usize {
    let mut hash: u32 = 0x811c_9dc5;
    let mut at = 0;
    while at < name.len() {
        hash = (hash ^ name[at].to_ascii_lowercase() as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    (hash ^ (hash >> 15)) as usize % SLOTS
}

/// Returns the command of this name, in any case.
pub(super) fn lookup(name: &[u8]) -> Option<&'static Spec> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let mut slot = hash(name);
    loop {
        let row = usize::from(INDEX[slot]).checked_sub(1)?;
        if TABLE[row].name.as_bytes().eq_ignore_ascii_case(name) {
            return Some(&TABLE[row]);
        }
        slot = (slot + 1) % SLOTS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_found_in_any_case() {
        for spec in TABLE {
            assert_eq!(lookup(spec.name.as_bytes()).map(|found| found.name), Some(spec.name));
            assert_eq!(lookup(spec.name.to_uppercase().as_bytes()).map(|found| found.name), Some(spec.name));
            for subcommand in spec.subcommands {
                assert!(subcommand.name.starts_with(&format!("{}|", spec.name)), "{}", subcommand.name);
            }
        }
        assert!(lookup(b"").is_none());
        assert!(lookup(b"GETT").is_none());
        assert!(lookup(&[b'x'; 100]).is_none());
    }

    #[test]
    fn key_positions_are_those_of_redis() {
        let positions = |name: &[u8], count| lookup(name).map(|spec| spec.keys.positions(count).collect::<Vec<_>>());
        assert_eq!(positions(b"get", 2), Some(vec![1]));
        assert_eq!(positions(b"del", 4), Some(vec![1, 2, 3]));
        assert_eq!(positions(b"mset", 5), Some(vec![1, 3]));
        assert_eq!(positions(b"ping", 2), Some(vec![]));
    }

    #[test]
    fn arity_counts_the_name() {
        let takes = |name: &[u8], count| lookup(name).is_some_and(|spec| spec.takes(count));
        assert!(takes(b"get", 2) && !takes(b"get", 1) && !takes(b"get", 3));
        assert!(takes(b"set", 3) && takes(b"set", 9) && !takes(b"set", 2));
    }
}
