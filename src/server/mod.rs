//! The doors for clients: RESP over TCP, the native protocol over QUIC, HTTP for operators.
pub mod http;
pub mod native;
pub mod resp;

/// The longest key in bytes, at every door.
const KEY_BYTES_MAX: usize = 64 * 1024;
