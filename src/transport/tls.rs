//! The TLS side of every door: what a node or a client loads from its directory, and the configurations made of it.
//!
//! - TLS 1.3 only, ring, AES-128-GCM first, no early data and no resumption: each connection proves itself anew.
//! - Between members both sides show a certificate. The dialer verifies the chain and that the name is a node's of this
//!   cluster (which node is compared with the hello later); the acceptor verifies the chain, then the name.
//! - Peers and clients speak different ALPN protocols on different ports, and a client's certificate lacks the name and
//!   the usage of a node's, so neither can pose as the other.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ring::{digest, hmac};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring as suites, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientCertVerifierBuilder, NoServerSessionStorage, ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier,
};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig,
    SignatureScheme,
};
use thiserror::Error;

use crate::raft::NodeId;

use super::certs::{CA_CERT, CLIENT_CERT, CLIENT_KEY, NODE_CERT, NODE_KEY};
use super::identity::{CertIdentity, CertRole, IdentityError, identity_of};

/// What members speak.
pub const PEER_ALPN: &[u8] = b"kontiki-peer/1";
/// What native clients speak.
pub const CLIENT_ALPN: &[u8] = b"kontiki-client/1";

/// Why the TLS files in a directory cannot be used. The text is the whole line for the operator.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file is not there.
    #[error("{0} is missing; make it with `kontiki cert {command}`", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What makes it.
        command: &'static str,
    },
    /// A file cannot be read.
    #[error("{0} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file holds no certificate or key.
    #[error("{0} is not usable: {source}; make it again with `kontiki cert`", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: rustls::pki_types::pem::Error,
    },
    /// A certificate names nobody.
    #[error("{0} is not usable: {source}; make it again with `kontiki cert`", path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: IdentityError,
    },
    /// A certificate names somebody who has no business there.
    #[error("{0} names {found}, but {expected} is needed; make it again with `kontiki cert`", path.display())]
    WrongRole {
        /// The file.
        path: PathBuf,
        /// Who it names.
        found: CertIdentity,
        /// Who it should name.
        expected: &'static str,
    },
    /// Certificate, key and authority do not belong together, or the certificate is out of date.
    #[error("{0} is not usable: {source}; make it again with `kontiki cert`", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
}

/// A SHA-256 over a certificate's DER bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; 32]);

/// What a node proves itself with. Cheap to clone.
#[derive(Clone)]
pub struct NodeTls {
    node: NodeId,
    cluster: String,
    trust: Trust,
    issuer: Fingerprint,
    proof: Arc<Proof>,
}

/// What a client knows its cluster by, and proves itself with if it has a certificate. Cheap to clone.
#[derive(Clone)]
pub struct ClientTls {
    trust: Trust,
    /// The cluster's name, if the authority tells it.
    cluster: Option<String>,
    proof: Option<Arc<Proof>>,
}

/// The authorities of `ca.pem`.
#[derive(Clone)]
struct Trust {
    certs: Arc<Vec<CertificateDer<'static>>>,
    roots: Arc<RootCertStore>,
}

struct Proof {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl NodeTls {
    /// Loads `ca.pem`, `node.pem` and `node.key` from `dir` and checks that they belong together.
    pub fn load(dir: &Path) -> Result<NodeTls, TlsError> {
        let trust = Trust::load(dir)?;
        let proof = Proof::load(dir, NODE_CERT, NODE_KEY, "node --id N")?;
        let path = dir.join(NODE_CERT);
        let identity = proof.identity(&path)?;
        let CertRole::Node(node) = identity.role else {
            return Err(TlsError::WrongRole { path, found: identity, expected: "a node" });
        };
        let unusable = |source| TlsError::Unusable { path: path.clone(), source };
        let issuer = trust.issuer_of(&proof.chain).map_err(unusable)?;
        let tls = NodeTls { node, cluster: identity.cluster, trust, issuer, proof: Arc::new(proof) };
        tls.peer_server().and(tls.peer_client()).map_err(unusable)?; // A key of another certificate shows here.
        Ok(tls)
    }

    /// Returns the node that the certificate names.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Returns the name of the cluster.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Returns the fingerprint of the authority that signed this node's certificate.
    pub fn issuer_fingerprint(&self) -> Fingerprint {
        self.issuer
    }

    /// Returns the fingerprints of all authorities in `ca.pem`.
    pub fn ca_fingerprints(&self) -> Vec<Fingerprint> {
        self.trust.certs.iter().map(|cert| Fingerprint::of(cert)).collect()
    }

    /// Returns 32 bytes that only the holder of this node's key can derive, the same at every start.
    pub fn derive_secret(&self, purpose: &str) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.proof.key.secret_der());
        let mut secret = [0; 32];
        secret.copy_from_slice(hmac::sign(&key, purpose.as_bytes()).as_ref());
        secret
    }

    /// Returns the configuration for accepting members: a certificate is demanded.
    pub fn peer_server(&self) -> Result<ServerConfig, rustls::Error> {
        self.server(self.client_verifier().build(), &[PEER_ALPN])
    }

    /// Returns the configuration for dialing members.
    pub fn peer_client(&self) -> Result<ClientConfig, rustls::Error> {
        client_config(&self.trust, Some(self.cluster.clone()), Some(&self.proof), PEER_ALPN)
    }

    /// Returns the configuration of a door for clients. A certificate is asked for, not demanded: with none shown,
    /// a password may still prove the client. One that is shown must be signed by an authority of the cluster.
    pub fn client_door(&self, alpn: &[&[u8]]) -> Result<ServerConfig, rustls::Error> {
        self.server(self.client_verifier().allow_unauthenticated().build(), alpn)
    }

    fn client_verifier(&self) -> ClientCertVerifierBuilder {
        WebPkiClientVerifier::builder_with_provider(self.trust.roots.clone(), provider())
    }

    fn server(
        &self,
        verifier: Result<Arc<dyn ClientCertVerifier>, VerifierBuilderError>,
        alpn: &[&[u8]],
    ) -> Result<ServerConfig, rustls::Error> {
        let verifier = verifier.map_err(|error| rustls::Error::General(error.to_string()))?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier);
        let mut config = builder.with_single_cert(self.proof.chain.clone(), self.proof.key.clone_key())?;
        harden_server(&mut config);
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Ok(config)
    }
}

impl ClientTls {
    /// Loads `ca.pem` from `dir`, and `client.pem` with `client.key` if they are there.
    pub fn load(dir: &Path) -> Result<ClientTls, TlsError> {
        let trust = Trust::load(dir)?;
        let path = dir.join(CLIENT_CERT);
        let proof = if path.exists() {
            let proof = Proof::load(dir, CLIENT_CERT, CLIENT_KEY, "client --name X")?;
            let identity = proof.identity(&path)?;
            match identity.role {
                CertRole::Client(_) => {}
                CertRole::Node(_) | CertRole::Authority => {
                    return Err(TlsError::WrongRole { path, found: identity, expected: "a client" });
                }
            }
            Some(Arc::new(proof))
        } else {
            None
        };
        let cluster = trust.cluster();
        let tls = ClientTls { trust, cluster, proof };
        tls.config().map_err(|source| TlsError::Unusable { path, source })?;
        Ok(tls)
    }

    /// Returns the configuration for dialing a node's native door.
    pub fn config(&self) -> Result<ClientConfig, rustls::Error> {
        client_config(&self.trust, self.cluster.clone(), self.proof.as_deref(), CLIENT_ALPN)
    }
}

impl Trust {
    fn load(dir: &Path) -> Result<Trust, TlsError> {
        let path = dir.join(CA_CERT);
        let certs = read_certs(&path, "ca")?;
        let mut roots = RootCertStore::empty();
        for cert in &certs {
            roots.add(cert.clone()).map_err(|source| TlsError::Unusable { path: path.clone(), source })?;
        }
        Ok(Trust { certs: Arc::new(certs), roots: Arc::new(roots) })
    }

    /// The cluster's name as the newest authority tells it; one that was not made by `kontiki cert` may not.
    fn cluster(&self) -> Option<String> {
        let identity = identity_of(self.certs.first()?).ok()?;
        (identity.role == CertRole::Authority).then_some(identity.cluster)
    }

    /// Finds the authority that signed `chain`.
    fn issuer_of(&self, chain: &[CertificateDer<'static>]) -> Result<Fingerprint, rustls::Error> {
        let mut refused = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        for cert in self.certs.iter() {
            let mut roots = RootCertStore::empty();
            roots.add(cert.clone())?;
            match verify_chain(chain, &roots, UnixTime::now()) {
                Ok(()) => return Ok(Fingerprint::of(cert)),
                // Of several reasons the last that is not merely "somebody else signed it" is the telling one.
                Err(rustls::Error::InvalidCertificate(
                    CertificateError::UnknownIssuer | CertificateError::BadSignature,
                )) => {}
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }
}

impl Proof {
    fn load(dir: &Path, cert: &str, key: &str, command: &'static str) -> Result<Proof, TlsError> {
        let chain = read_certs(&dir.join(cert), command)?;
        let path = dir.join(key);
        let pem = read(&path, command)?;
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|source| TlsError::Pem { path, source })?;
        Ok(Proof { chain, key })
    }

    fn identity(&self, path: &Path) -> Result<CertIdentity, TlsError> {
        identity_of(&self.chain[0]).map_err(|source| TlsError::Identity { path: path.to_owned(), source })
    }
}

impl Fingerprint {
    fn of(cert: &CertificateDer<'_>) -> Fingerprint {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, cert).as_ref());
        Fingerprint(bytes)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Verifies that a server is a node of this cluster, wherever it runs.
///
/// Differs from rustls' own verifier in one thing only: the name that is checked is the URI of a node, not the host name that
/// was dialed. Chain, dates, usage and signatures go through rustls' public functions.
#[derive(Debug)]
struct NodeVerifier {
    roots: Arc<RootCertStore>,
    /// The cluster that the node must belong to, if known.
    cluster: Option<String>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for NodeVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, self.algorithms.all)?;
        let named = identity_of(end_entity).map_err(|error| rustls::Error::General(error.to_string()))?;
        let ours = self.cluster.as_ref().is_none_or(|cluster| *cluster == named.cluster);
        match named.role {
            CertRole::Node(_) if ours => Ok(ServerCertVerified::assertion()),
            CertRole::Node(_) | CertRole::Client(_) | CertRole::Authority => {
                Err(rustls::Error::General(format!("{named} is not a node of this cluster")))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        None
    }
}

fn client_config(
    trust: &Trust,
    cluster: Option<String>,
    proof: Option<&Proof>,
    alpn: &[u8],
) -> Result<ClientConfig, rustls::Error> {
    let provider = provider();
    let algorithms = provider.signature_verification_algorithms;
    let verifier = NodeVerifier { roots: trust.roots.clone(), cluster, algorithms };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous() // Named so because a verifier can be wrong; see `NodeVerifier` for why this one is not.
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match proof {
        Some(proof) => builder.with_client_auth_cert(proof.chain.clone(), proof.key.clone_key())?,
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(config)
}

/// A resumed session would skip the look at the certificate, and early data can be replayed: neither is offered.
fn harden_server(config: &mut ServerConfig) {
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
}

fn verify_chain(chain: &[CertificateDer<'_>], roots: &RootCertStore, now: UnixTime) -> Result<(), rustls::Error> {
    let parsed = ParsedCertificate::try_from(&chain[0])?;
    let algorithms = provider().signature_verification_algorithms;
    verify_server_cert_signed_by_trust_anchor(&parsed, roots, &chain[1..], now, algorithms.all)
}

/// ring with AES-128-GCM first: it is the fastest here, and strong enough.
fn provider() -> Arc<CryptoProvider> {
    let cipher_suites = vec![
        suites::cipher_suite::TLS13_AES_128_GCM_SHA256,
        suites::cipher_suite::TLS13_AES_256_GCM_SHA384,
        suites::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    Arc::new(CryptoProvider { cipher_suites, ..suites::default_provider() })
}

fn read(path: &Path, command: &'static str) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => TlsError::Missing { path: path.to_owned(), command },
        _ => TlsError::Unreadable { path: path.to_owned(), source },
    })
}

/// Reads at least one certificate.
fn read_certs(path: &Path, command: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let unusable = |source| TlsError::Pem { path: path.to_owned(), source };
    let pem = read(path, command)?;
    let certs: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let certs = certs.map_err(unusable)?;
    if certs.is_empty() {
        return Err(unusable(rustls::pki_types::pem::Error::NoItemsFound));
    }
    Ok(certs)
}

#[cfg(test)]
mod tests;
