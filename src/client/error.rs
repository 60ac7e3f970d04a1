//! How a call of the client can fail, and what that says about its effect.

use thiserror::Error;

use crate::kv::CommandError;
use crate::transport::tls::TlsError;

/// Why a call has no result.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The deadline passed after the write was sent: it may or may not take effect, once.
    #[error("the deadline passed; the write may or may not take effect, once")]
    Uncertain,
    /// The deadline passed and the call certainly had no effect.
    #[error("not executed: {0}")]
    Unavailable(Trouble),
    /// The disks of the cluster are full. Not executed.
    #[error("not executed: the disk is full")]
    NoSpace,
    /// The key, value or transaction is beyond the cluster's limits. Not executed.
    #[error("not executed: larger than the cluster allows")]
    TooLarge,
    /// The nodes do not let this client in. Not executed.
    #[error("{0}")]
    Denied(Denied),
    /// The state refused the command; it changed nothing.
    #[error("{0}")]
    Command(CommandError),
    /// The session ended, or forgot this write, between two attempts: an earlier attempt may have taken effect, once.
    #[error("the session does not remember this write any more; it may or may not have taken effect, once")]
    SessionLost,
    /// The TLS files cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A node answered what no node of this version answers.
    #[error("unexpected answer: {0}")]
    Unexpected(String),
}

/// What stood in the way until the deadline.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Trouble {
    /// No node answered.
    #[error("no node answered; the last attempt: {0}")]
    Unreachable(String),
    /// Nodes answered, but none leads.
    #[error("the cluster has no leader")]
    NoLeader,
    /// The node still recovers its state.
    #[error("the node is recovering its state")]
    Loading,
    /// Too much is in flight.
    #[error("the cluster is overloaded")]
    Overloaded,
    /// No answer came in time.
    #[error("no answer in time")]
    Late,
}

/// Why nodes do not let this client in.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Denied {
    /// Neither the certificate nor the password proves this client.
    #[error("the cluster wants a client certificate or the password; name --tls-dir or --password-file")]
    Proof,
    /// No version of the protocol is spoken by both.
    #[error("the node speaks no version of the protocol that this client speaks")]
    Version,
    /// The certificates do not lead to a common authority, or the node is of another cluster.
    #[error("the node and this client do not accept each other's certificates: {0}")]
    Certificate(String),
}
