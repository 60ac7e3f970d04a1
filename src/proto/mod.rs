//! The bytes of every message: log entries, peers, native clients, RESP. Decoders are bounded and never panic.
pub mod codec;
pub mod entry;
pub mod native;
pub mod peer;
mod reply;
pub mod resp;
mod wire;
