//! QUIC between members: endpoints, mutual TLS, streams per class, bounded queues.
#![allow(clippy::disallowed_methods, reason = "an effectful module: certificates have dates, connections have timers")]

mod accept;
pub mod certs;
mod dial;
pub mod identity;
mod link;
mod members;
mod network;
mod outbox;
mod peer;
pub(crate) mod probe;
pub(crate) mod quic;
mod refusal;
pub mod tls;

pub use members::PeerMember;
pub use network::{NetworkError, PeerConfig, PeerEvent, PeerNetwork};
pub use outbox::Sent;
pub use peer::PeerStats;
pub use refusal::{Refusal, RefusalReason, Refuser};
