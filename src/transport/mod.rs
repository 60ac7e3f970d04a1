//! QUIC between members: endpoints, mutual TLS, streams per class, bounded queues.
#![allow(clippy::disallowed_methods, reason = "an effectful module: certificates have dates, connections have timers")]

pub mod certs;
pub mod identity;
pub mod tls;
