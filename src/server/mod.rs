//! The doors for clients: RESP over TCP, the native protocol over QUIC, HTTP for operators.
pub mod http;
pub mod native;
pub mod resp;
