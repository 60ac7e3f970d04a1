//! Kontiki: a persistent storage engine with a Raft-replicated write-ahead log.
//!
//! The path of one write, by module:
//!
//! 1. [`server`] parses a command from a Redis or native client into a [`kv`] command.
//! 2. [`runtime`] hands it to the consensus thread's inbox.
//! 3. [`node`] decides: propose it (leader) or forward it (follower). It is a value: events in, actions out.
//! 4. [`raft`] gives it an index and a term, and says what must be on disk before which message may leave.
//! 5. [`storage`] appends it to the log (crate `kontiki-wal`) while [`transport`] carries it to the peers over QUIC.
//! 6. When a majority has it on disk, [`kv`] applies it and the client gets its reply.
//!
//! [`proto`] knows the bytes of every message, [`sim`] runs whole clusters of the same code deterministically,
//! [`client`] is the native client and [`cli`] the command line.

pub mod cli;
pub mod client;
pub mod kv;
pub mod node;
pub mod proto;
pub mod raft;
pub mod runtime;
pub mod server;
pub mod sim;
pub mod storage;
pub mod transport;
