//! Why a connection between members was not made, or ended: close codes on the wire and their meaning.

use std::fmt;

use quinn::{ApplicationClose, ConnectionClose, ConnectionError, TransportErrorCode, VarInt};

/// Why one member refuses another. The code travels in the QUIC close frame; the numbers are part of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefusalReason {
    /// No version of the protocol is spoken by both.
    Version,
    /// Another cluster, by the certificate's name or the cluster id.
    Cluster,
    /// The certificate is not of the node that the hello names, or that was dialed.
    Identity,
    /// Not a member of the configuration that the refuser knows.
    NotAMember,
    /// The id is bound to another storage: this one was wiped or copied.
    Storage,
    /// The same cluster, but another history of it: restored, recovered or bootstrapped twice.
    History,
    /// The certificates do not lead to a common authority, or are out of date.
    Tls,
}

/// Which side refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refuser {
    /// This node.
    Us,
    /// The other one.
    Them,
}

/// One refusal, for the node's policy and for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Who refused.
    pub by: Refuser,
    /// Why.
    pub reason: RefusalReason,
    /// The same in words, as the refuser put it.
    pub text: String,
}

/// A frame or a stream that the protocol does not allow.
pub(super) const PROTOCOL_VIOLATION: VarInt = VarInt::from_u32(5);
/// Another connection between the two took this one's place.
pub(super) const DUPLICATE: VarInt = VarInt::from_u32(7);
/// The process ends.
pub(super) const SHUTTING_DOWN: VarInt = VarInt::from_u32(8);

/// Where TLS alerts stand among QUIC's error codes (RFC 9001 §4.8).
const CRYPTO_ERRORS: std::ops::Range<u64> = 0x100..0x200;

impl RefusalReason {
    /// Returns the close code. TLS refuses with an alert of its own, before there is anything to close.
    pub(super) fn code(self) -> VarInt {
        VarInt::from_u32(match self {
            RefusalReason::Version => 1,
            RefusalReason::Cluster => 2,
            RefusalReason::Identity => 3,
            RefusalReason::NotAMember => 9,
            RefusalReason::Storage => 10,
            RefusalReason::History => 11,
            RefusalReason::Tls => 12,
        })
    }

    fn of_code(code: VarInt) -> Option<RefusalReason> {
        [
            RefusalReason::Version,
            RefusalReason::Cluster,
            RefusalReason::Identity,
            RefusalReason::NotAMember,
            RefusalReason::Storage,
            RefusalReason::History,
        ]
        .into_iter()
        .find(|reason| reason.code() == code)
    }
}

impl Refusal {
    /// Returns the refusal that ended a connection, or `None` if it ended for another reason.
    pub(super) fn of_error(error: &ConnectionError) -> Option<Refusal> {
        match error {
            ConnectionError::ApplicationClosed(ApplicationClose { error_code, reason }) => {
                let text = String::from_utf8_lossy(reason).into_owned();
                RefusalReason::of_code(*error_code).map(|reason| Refusal { by: Refuser::Them, reason, text })
            }
            ConnectionError::ConnectionClosed(ConnectionClose { error_code, reason, .. }) => {
                let text = format!("{error_code}: {}", String::from_utf8_lossy(reason));
                is_tls(*error_code).then_some(Refusal { by: Refuser::Them, reason: RefusalReason::Tls, text })
            }
            ConnectionError::TransportError(error) => is_tls(error.code).then(|| Refusal {
                by: Refuser::Us,
                reason: RefusalReason::Tls,
                text: error.reason.clone(),
            }),
            ConnectionError::VersionMismatch
            | ConnectionError::Reset
            | ConnectionError::TimedOut
            | ConnectionError::LocallyClosed
            | ConnectionError::CidsExhausted => None,
        }
    }
}

fn is_tls(code: TransportErrorCode) -> bool {
    CRYPTO_ERRORS.contains(&u64::from(code))
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.by {
            Refuser::Us => write!(f, "refused: {}", self.text),
            Refuser::Them => write!(f, "refused by it: {}", self.text),
        }
    }
}
