//! The commands that exist. What clients ask about them (arity, flags, keys) is as in Redis 7.0.

use super::commands::{Flags, Id, Spec};

const LOCAL: Flags = Flags::LOADING.and(Flags::STALE).and(Flags::FAST);
const DOOR: Flags = LOCAL.and(Flags::NOSCRIPT).and(Flags::NO_AUTH);
const TALK: Flags = Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE);
const ADMIN: Flags = TALK.and(Flags::ADMIN).and(Flags::DANGEROUS);
const ABOUT: Flags = Flags::LOADING.and(Flags::STALE);
const READ: Flags = Flags::READONLY;
const READ_FAST: Flags = Flags::READONLY.and(Flags::FAST);
const WRITE: Flags = Flags::WRITE;
const GROW: Flags = Flags::WRITE.and(Flags::DENYOOM);
const GROW_FAST: Flags = GROW.and(Flags::FAST);

const RO: &[&str] = &["RO"];
const RO_ACCESS: &[&str] = &["RO", "access"];
const RW_SET: &[&str] = &["RW", "access", "update", "variable_flags"];
const RW_UPDATE: &[&str] = &["RW", "access", "update"];
const RW_INSERT: &[&str] = &["RW", "insert"];
const OW_INSERT: &[&str] = &["OW", "insert"];
const OW_UPDATE: &[&str] = &["OW", "update"];
const RM_DELETE: &[&str] = &["RM", "delete"];

const BY_KEYS: &str = "O(N) where N is the number of keys";

/// Every command, by group.
pub(super) const TABLE: &[Spec] = &[
    // Connections.
    Spec::new("ping", Id::Ping, -1, Flags::FAST).about("connection", "1.0.0", "O(1)", "Ping the server"),
    Spec::new("echo", Id::Echo, 2, LOCAL).about("connection", "1.0.0", "O(1)", "Echo the given string"),
    Spec::new("hello", Id::Hello, -1, DOOR).about("connection", "6.0.0", "O(1)", "Handshake with Redis"),
    Spec::new("auth", Id::Auth, -2, DOOR).about("connection", "1.0.0", "O(1)", "Authenticate to the server"),
    Spec::new("select", Id::Select, 2, LOCAL).about("connection", "1.0.0", "O(1)", "Change the selected database for the current connection"),
    Spec::new("quit", Id::Quit, -1, DOOR).about("connection", "1.0.0", "O(1)", "Close the connection"),
    Spec::new("reset", Id::Reset, 1, DOOR).about("connection", "6.2.0", "O(1)", "Reset the connection"),
    Spec::new("client", Id::Container, -2, Flags::NONE)
        .about("connection", "2.4.0", "Depends on subcommand.", "A container for client connection commands")
        .subcommands(CLIENT),
    Spec::new("readonly", Id::Readonly, 1, LOCAL).about("cluster", "3.0.0", "O(1)", "Enables possibly stale local reads for a connection"),
    Spec::new("readwrite", Id::Readwrite, 1, LOCAL).about("cluster", "3.0.0", "O(1)", "Disables possibly stale local reads for a connection"),
    // The server.
    Spec::new("time", Id::Time, 1, LOCAL).about("server", "2.6.0", "O(1)", "Return the current server time"),
    Spec::new("info", Id::Info, -1, ABOUT.and(Flags::DANGEROUS)).about("server", "1.0.0", "O(1)", "Get information and statistics about the server"),
    Spec::new("command", Id::Command, -1, ABOUT)
        .about("server", "2.8.13", "O(N) where N is the total number of commands", "Get array of command details")
        .subcommands(COMMAND),
    Spec::new("config", Id::Container, -2, Flags::NONE)
        .about("server", "2.0.0", "Depends on subcommand.", "A container for server configuration commands")
        .subcommands(CONFIG),
    Spec::new("function", Id::Container, -2, Flags::NONE)
        .about("scripting", "7.0.0", "Depends on subcommand.", "A container for function commands; there are no functions")
        .subcommands(FUNCTION),
    Spec::new("dbsize", Id::Dbsize, 1, READ_FAST).about("server", "1.0.0", "O(1)", "Return the number of keys in the selected database"),
    Spec::new("flushall", Id::Flushall, -1, WRITE.and(Flags::DANGEROUS)).about("server", "1.0.0", "O(N) where N is the total number of keys", "Remove all keys from all databases"),
    Spec::new("flushdb", Id::Flushall, -1, WRITE.and(Flags::DANGEROUS)).about("server", "1.0.0", "O(N) where N is the total number of keys", "Remove all keys from the current database"),
    // Strings.
    Spec::new("get", Id::Get, 2, READ_FAST).keys(1, 1, 1, RO_ACCESS).about("string", "1.0.0", "O(1)", "Get the value of a key"),
    Spec::new("set", Id::Set, -3, GROW).keys(1, 1, 1, RW_SET).about("string", "1.0.0", "O(1)", "Set the string value of a key"),
    Spec::new("setnx", Id::Setnx, 3, GROW_FAST).keys(1, 1, 1, OW_INSERT).about("string", "1.0.0", "O(1)", "Set the value of a key, only if the key does not exist"),
    Spec::new("getset", Id::Getset, 3, GROW_FAST).keys(1, 1, 1, RW_UPDATE).about("string", "1.0.0", "O(1)", "Set the string value of a key and return its old value"),
    Spec::new("append", Id::Append, 3, GROW_FAST).keys(1, 1, 1, RW_INSERT).about("string", "2.0.0", "O(N) where N is the length of the value", "Append a value to a key"),
    Spec::new("strlen", Id::Strlen, 2, READ_FAST).keys(1, 1, 1, RO).about("string", "2.2.0", "O(1)", "Get the length of the value stored in a key"),
    Spec::new("mget", Id::Mget, -2, READ_FAST).keys(1, -1, 1, RO_ACCESS).about("string", "1.0.0", BY_KEYS, "Get the values of all the given keys"),
    Spec::new("mset", Id::Mset, -3, GROW).keys(1, -1, 2, OW_UPDATE).about("string", "1.0.1", BY_KEYS, "Set multiple keys to multiple values"),
    Spec::new("msetnx", Id::Msetnx, -3, GROW).keys(1, -1, 2, OW_INSERT).about("string", "1.0.1", BY_KEYS, "Set multiple keys to multiple values, only if none of the keys exist"),
    Spec::new("incr", Id::Incr, 2, GROW_FAST).keys(1, 1, 1, RW_UPDATE).about("string", "1.0.0", "O(1)", "Increment the integer value of a key by one"),
    Spec::new("decr", Id::Decr, 2, GROW_FAST).keys(1, 1, 1, RW_UPDATE).about("string", "1.0.0", "O(1)", "Decrement the integer value of a key by one"),
    Spec::new("incrby", Id::Incrby, 3, GROW_FAST).keys(1, 1, 1, RW_UPDATE).about("string", "1.0.0", "O(1)", "Increment the integer value of a key by the given amount"),
    Spec::new("decrby", Id::Decrby, 3, GROW_FAST).keys(1, 1, 1, RW_UPDATE).about("string", "1.0.0", "O(1)", "Decrement the integer value of a key by the given number"),
    Spec::new("getrange", Id::Getrange, 4, READ).keys(1, 1, 1, RO_ACCESS).about("string", "2.4.0", "O(1)", "Get a substring of the string stored at a key"),
    Spec::new("substr", Id::Getrange, 4, READ).keys(1, 1, 1, RO_ACCESS).about("string", "1.0.0", "O(1)", "Get a substring of the string stored at a key"),
    // Keys.
    Spec::new("del", Id::Del, -2, WRITE).keys(1, -1, 1, RM_DELETE).about("generic", "1.0.0", BY_KEYS, "Delete a key"),
    Spec::new("unlink", Id::Del, -2, WRITE.and(Flags::FAST)).keys(1, -1, 1, RM_DELETE).about("generic", "4.0.0", BY_KEYS, "Delete a key, just as DEL"),
    Spec::new("exists", Id::Exists, -2, READ_FAST).keys(1, -1, 1, RO).about("generic", "1.0.0", BY_KEYS, "Determine if a key exists"),
    Spec::new("touch", Id::Exists, -2, READ_FAST).keys(1, -1, 1, RO).about("generic", "3.2.1", BY_KEYS, "Returns the number of existing keys specified; there are no access times"),
    Spec::new("type", Id::Type, 2, READ_FAST).keys(1, 1, 1, RO).about("generic", "1.0.0", "O(1)", "Determine the type stored at key"),
    Spec::new("keys", Id::Keys, 2, READ.and(Flags::DANGEROUS)).about("generic", "1.0.0", "O(N) where N is the total number of keys", "Find all keys matching the given pattern"),
    Spec::new("scan", Id::Scan, -2, READ).about("generic", "2.8.0", "O(1) for every call. O(N) for a complete iteration.", "Incrementally iterate the keys space, in the order of the keys"),
    Spec::new("randomkey", Id::Randomkey, 1, READ).about("generic", "1.0.0", "O(log N)", "Return a random key from the keyspace"),
    // Ours.
    Spec::new("getrev", Id::Getrev, 2, READ_FAST).keys(1, 1, 1, RO_ACCESS).about("kontiki", "7.0.15", "O(log N)", "Get the value and the revision of a key: [value, revision]; SET key value IFREV revision is its other half"),
    Spec::new("range", Id::Range, -3, READ).about("kontiki", "7.0.15", "O(log N + M) where M is the number of keys returned", "Keys from start (inclusive) to end (exclusive), in order, at one index: RANGE start end [LIMIT n] [REV]; - and + for open ends; key, value, ... (with REV: key, value, revision, ...)"),
    Spec::new("session", Id::Container, -2, Flags::NONE)
        .about("kontiki", "7.0.15", "Depends on subcommand.", "Commands executed exactly once, whatever is retried")
        .subcommands(SESSION),
    Spec::new("raft", Id::Container, -2, Flags::NONE)
        .about("kontiki", "7.0.15", "Depends on subcommand.", "The cluster as this node sees it")
        .subcommands(RAFT),
];

const CLIENT: &[Spec] = &[
    Spec::new("client|id", Id::ClientId, 2, TALK).about(
        "connection",
        "5.0.0",
        "O(1)",
        "Returns the client ID for the current connection",
    ),
    Spec::new("client|getname", Id::ClientGetname, 2, TALK).about(
        "connection",
        "2.6.9",
        "O(1)",
        "Get the current connection name",
    ),
    Spec::new("client|setname", Id::ClientSetname, 3, TALK).about(
        "connection",
        "2.6.9",
        "O(1)",
        "Set the current connection name",
    ),
    Spec::new("client|setinfo", Id::ClientSetinfo, 4, TALK).about(
        "connection",
        "7.2.0",
        "O(1)",
        "Set client or connection specific info",
    ),
    Spec::new("client|info", Id::ClientInfo, 2, TALK).about(
        "connection",
        "6.2.0",
        "O(1)",
        "Returns information about the current client connection.",
    ),
    Spec::new("client|list", Id::ClientList, -2, ADMIN).about(
        "connection",
        "2.4.0",
        "O(N) where N is the number of client connections",
        "Get the list of client connections",
    ),
    Spec::new("client|kill", Id::ClientKill, -3, ADMIN).about(
        "connection",
        "2.4.0",
        "O(N) where N is the number of client connections",
        "Kill the connection of a client",
    ),
    Spec::new("client|help", Id::Help, 2, ABOUT).about(
        "connection",
        "5.0.0",
        "O(1)",
        "Show helpful text about the different subcommands",
    ),
];

const COMMAND: &[Spec] = &[
    Spec::new("command|count", Id::CommandCount, 2, ABOUT).about(
        "server",
        "2.8.13",
        "O(1)",
        "Get total number of commands",
    ),
    Spec::new("command|docs", Id::CommandDocs, -2, ABOUT).about(
        "server",
        "7.0.0",
        "O(N) where N is the number of commands to look up",
        "Get array of specific command documentation",
    ),
    Spec::new("command|getkeys", Id::CommandGetkeys, -4, ABOUT).about(
        "server",
        "2.8.13",
        "O(N) where N is the number of arguments to the command",
        "Extract keys given a full command",
    ),
    Spec::new("command|info", Id::CommandInfo, -2, ABOUT).about(
        "server",
        "2.8.13",
        "O(N) where N is the number of commands to look up",
        "Get array of specific command details, or all when no argument is given.",
    ),
    Spec::new("command|list", Id::CommandList, -2, ABOUT).about(
        "server",
        "7.0.0",
        "O(N) where N is the total number of commands",
        "Get an array of command names",
    ),
    Spec::new("command|help", Id::Help, 2, ABOUT).about(
        "server",
        "5.0.0",
        "O(1)",
        "Show helpful text about the different subcommands",
    ),
];

const CONFIG: &[Spec] = &[
    Spec::new("config|get", Id::ConfigGet, -3, ADMIN).about(
        "server",
        "2.0.0",
        "O(N) where N is the number of configuration parameters provided",
        "Get the values of configuration parameters",
    ),
    Spec::new("config|set", Id::ConfigSet, -4, ADMIN).about(
        "server",
        "2.0.0",
        "O(N) where N is the number of configuration parameters provided",
        "Set configuration parameters to the given values",
    ),
    Spec::new("config|resetstat", Id::ConfigResetstat, 2, ADMIN).about(
        "server",
        "2.0.0",
        "O(1)",
        "Reset the stats returned by INFO",
    ),
    Spec::new("config|help", Id::Help, 2, ABOUT).about(
        "server",
        "5.0.0",
        "O(1)",
        "Show helpful text about the different subcommands",
    ),
];

const FUNCTION: &[Spec] = &[
    Spec::new("function|flush", Id::FunctionFlush, -2, Flags::NOSCRIPT).about(
        "scripting",
        "7.0.0",
        "O(1)",
        "Deleting all functions: there are none",
    ),
    Spec::new("function|help", Id::Help, 2, ABOUT).about(
        "scripting",
        "7.0.0",
        "O(1)",
        "Show helpful text about the different subcommands",
    ),
];

const SESSION: &[Spec] = &[
    Spec::new("session|open", Id::SessionOpen, 2, WRITE).about(
        "kontiki",
        "7.0.15",
        "O(log N)",
        "Open a replicated session; returns its id",
    ),
    Spec::new("session|do", Id::SessionDo, -5, WRITE).about(
        "kontiki",
        "7.0.15",
        "That of the command.",
        "SESSION DO id seq command [arg ...]: execute a command exactly once per (id, seq)",
    ),
    Spec::new("session|help", Id::Help, 2, ABOUT).about(
        "kontiki",
        "7.0.15",
        "O(1)",
        "Show helpful text about the different subcommands",
    ),
];

const RAFT: &[Spec] = &[
    Spec::new("raft|status", Id::RaftStatus, 2, ABOUT).about(
        "kontiki",
        "7.0.15",
        "O(N) where N is the number of members",
        "The fields of /status, as a map",
    ),
    Spec::new("raft|members", Id::RaftMembers, 2, ABOUT).about(
        "kontiki",
        "7.0.15",
        "O(N) where N is the number of members",
        "Arrays of id, peer address, client address, voter or learner, match index",
    ),
    Spec::new("raft|help", Id::Help, 2, ABOUT).about(
        "kontiki",
        "7.0.15",
        "O(1)",
        "Show helpful text about the different subcommands",
    ),
];
