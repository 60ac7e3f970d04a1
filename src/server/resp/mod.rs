//! The door for Redis clients: RESP over TCP.
//!
//! A connection's bytes are parsed into commands (`crate::proto::resp`), checked against the table of commands, and either
//! answered here (`local` and its like) or translated into a command or query of the state, which the node takes
//! (`connection`). Replies leave in the order of the commands (`pipeline`).
#![allow(clippy::disallowed_methods, reason = "a door has a clock: it measures latencies and ages")]

mod client_command;
mod clients;
mod command_command;
mod commands;
mod config_command;
mod connection;
mod dispatch;
mod door;
mod errors;
mod help;
mod info;
mod listener;
mod local;
mod pipeline;
mod raft_command;
mod random_key;
mod read;
mod scan;
mod table;
#[cfg(test)]
mod test_store;
#[cfg(test)]
mod tests;
mod translate;

pub use door::RespOptions;
pub use listener::serve;
