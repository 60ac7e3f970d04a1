//! Stories with real processes: what users of the `kontiki` binary were promised, kept while nodes are killed.
//!
//! `KONTIKI_SOAK=1` repeats the stories that kill nodes as often as a release asks for; without it they are short.
#![allow(clippy::unwrap_used, clippy::too_many_lines, reason = "a test that fails may panic; a story may be long")]
#![allow(clippy::disallowed_methods, reason = "real processes run on the real clock")]
#![allow(unreachable_pub, reason = "a test binary has no API")]

mod harness;

mod any_node;
mod cluster_command;
mod command_line;
mod damage;
mod handshakes;
mod kills;
mod native;
mod redis_replies;
mod refusals;
mod resp_connections;
mod resp_limits;
mod signals;
mod sync_error;
