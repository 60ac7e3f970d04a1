//! Who a certificate speaks for: the cluster, and a node or a client in it.
//!
//! Names are URIs in the subject alternative names: `kontiki://NAME/node/3`, `kontiki://NAME/client/X`, and `kontiki://NAME/ca`
//! in the authority itself. Host names play no part: a node is who it is wherever it runs.

use std::fmt;

use rustls::pki_types::CertificateDer;
use thiserror::Error;
use webpki::EndEntityCert;

use crate::raft::NodeId;

const SCHEME: &str = "kontiki://";

/// Longest cluster or client name in bytes.
const NAME_BYTES_MAX: usize = 64;

/// Who a certificate speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertIdentity {
    /// The cluster's name.
    pub cluster: String,
    /// The part in it.
    pub role: CertRole,
}

/// What the holder of a certificate may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertRole {
    /// The authority of the cluster.
    Authority,
    /// This member.
    Node(NodeId),
    /// A client by this name.
    Client(String),
}

/// Why a certificate names nobody in a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IdentityError {
    /// The bytes are no X.509 certificate.
    #[error("the certificate cannot be read: {0}")]
    Unreadable(webpki::Error),
    /// No URI of ours is in it.
    #[error("the certificate has no name like {SCHEME}CLUSTER/node/1")]
    Nameless,
    /// More than one is in it: it could be taken for either.
    #[error("the certificate has more than one {SCHEME} name")]
    Ambiguous,
    /// The URI is malformed.
    #[error("the certificate's name {0:?} is not like {SCHEME}CLUSTER/node/1")]
    Malformed(String),
}

/// Returns who `cert` speaks for. Says nothing about who signed it.
pub fn identity_of(cert: &CertificateDer<'_>) -> Result<CertIdentity, IdentityError> {
    let parsed = EndEntityCert::try_from(cert).map_err(IdentityError::Unreadable)?;
    let mut names = parsed.valid_uri_names().filter(|uri| uri.starts_with(SCHEME));
    let name = names.next().ok_or(IdentityError::Nameless)?;
    if names.next().is_some() {
        return Err(IdentityError::Ambiguous);
    }
    CertIdentity::parse(name).ok_or_else(|| IdentityError::Malformed(name.to_owned()))
}

/// Returns whether `name` may name a cluster or a client: 1 to 64 of `A-Z a-z 0-9 . _ -`.
pub fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed)
}

impl CertIdentity {
    fn parse(uri: &str) -> Option<CertIdentity> {
        let mut parts = uri.strip_prefix(SCHEME)?.split('/');
        let cluster = parts.next().filter(|name| is_name(name))?.to_owned();
        let role = match (parts.next()?, parts.next()) {
            ("ca", None) => CertRole::Authority,
            ("node", Some(id)) => CertRole::Node(parse_id(id)?),
            ("client", Some(name)) if is_name(name) => CertRole::Client(name.to_owned()),
            _ => return None,
        };
        parts.next().is_none().then_some(CertIdentity { cluster, role })
    }
}

/// Only the way [`fmt::Display`] writes it: `1` and `01` must not be two names of one node.
fn parse_id(text: &str) -> Option<NodeId> {
    let id: u64 = text.parse().ok()?;
    (id != 0 && id.to_string() == text).then_some(NodeId(id))
}

impl fmt::Display for CertIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/", self.cluster)?;
        match &self.role {
            CertRole::Authority => f.write_str("ca"),
            CertRole::Node(id) => write!(f, "node/{id}"),
            CertRole::Client(name) => write!(f, "client/{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written_and_no_other_way() {
        for uri in ["kontiki://blue/node/3", "kontiki://a.b_c-d/client/ops", "kontiki://blue/ca"] {
            assert_eq!(CertIdentity::parse(uri).unwrap().to_string(), uri);
        }
        for uri in [
            "kontiki://blue/node/0",
            "kontiki://blue/node/03",
            "kontiki://blue/node/+3",
            "kontiki://blue/node/3/",
            "kontiki://blue/node",
            "kontiki://blue/client/",
            "kontiki://blue/client/a/b",
            "kontiki://blue/ca/",
            "kontiki:///node/3",
            "kontiki://bl ue/node/3",
            "https://blue/node/3",
        ] {
            assert_eq!(CertIdentity::parse(uri), None, "{uri}");
        }
    }
}
