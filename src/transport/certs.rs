//! Makes the certificates of a cluster: its authority, and those of nodes and clients that the authority signs.
//!
//! ECDSA P-256 throughout. An authority lives for 20 years, what it signs for 10; `ca.pem` may hold several authorities
//! so that an old and a new one are both trusted while certificates are replaced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use thiserror::Error;

use crate::raft::NodeId;

use super::identity::{CertIdentity, CertRole, IdentityError, identity_of, is_name};

/// The authority's certificate, or a bundle of old and new ones.
pub const CA_CERT: &str = "ca.pem";
/// The authority's key; no node needs it.
pub const CA_KEY: &str = "ca.key";
/// A node's certificate.
pub const NODE_CERT: &str = "node.pem";
/// A node's key.
pub const NODE_KEY: &str = "node.key";
/// A client's certificate.
pub const CLIENT_CERT: &str = "client.pem";
/// A client's key.
pub const CLIENT_KEY: &str = "client.key";

const CA_YEARS: i32 = 20;
const LEAF_YEARS: i32 = 10;

/// Only the owner of the process reads and writes keys.
const KEY_MODE: u32 = 0o600;
const CERT_MODE: u32 = 0o644;

/// Why a certificate was not made.
#[derive(Debug, Error)]
pub enum CertError {
    /// A cluster or client name that cannot stand in a certificate.
    #[error("the name {0:?} must be 1 to 64 letters, digits, dots, underscores or hyphens")]
    Name(String),
    /// A host that is neither an address nor a host name.
    #[error("the host {0:?} is neither an IP address nor a host name")]
    Host(String),
    /// An authority is there already; making another one would orphan all certificates.
    #[error("{0} is there already; a new authority would void every certificate it has signed (remove it first if that is meant)", path.display())]
    AuthorityExists {
        /// Its key or certificate.
        path: PathBuf,
    },
    /// There is no authority to sign with.
    #[error("{0} is missing; make an authority with `kontiki cert ca --tls-dir {1}`", path.display(), dir.display())]
    NoAuthority {
        /// The file that is missing.
        path: PathBuf,
        /// Where an authority was looked for.
        dir: PathBuf,
    },
    /// The authority's files do not hold what they should.
    #[error("{0} is not usable: {why}", path.display())]
    BadAuthority {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: AuthorityFault,
    },
    /// A file cannot be read or written.
    #[error("{0}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The certificate library refused.
    #[error("cannot make a certificate: {0}")]
    Library(#[from] rcgen::Error),
}

/// What is wrong with an authority's file.
#[derive(Debug, Error)]
pub enum AuthorityFault {
    /// No certificate or key is in it.
    #[error("{0}")]
    Pem(rustls::pki_types::pem::Error),
    /// The key does not parse.
    #[error("{0}")]
    Key(rcgen::Error),
    /// The certificate's name is not an authority's.
    #[error("{0}")]
    Identity(#[from] IdentityError),
    /// The certificate is somebody's, not an authority's.
    #[error("it names {0}, not an authority")]
    NotAnAuthority(CertIdentity),
    /// The first certificate was not made for this key.
    #[error("its first certificate does not belong to {CA_KEY}")]
    KeyMismatch,
}

/// Who signs the certificates of one cluster.
pub struct Authority {
    cluster: String,
    issuer: Issuer<'static, KeyPair>,
    /// What `ca.pem` holds: a bundle stays a bundle.
    bundle_pem: String,
}

impl Authority {
    /// Makes an authority for a new cluster and writes `ca.pem` and `ca.key` into `dir`, which is made if needed.
    pub fn create(dir: &Path, cluster: &str) -> Result<Authority, CertError> {
        if !is_name(cluster) {
            return Err(CertError::Name(cluster.to_owned()));
        }
        fs::create_dir_all(dir).map_err(|source| CertError::Io { path: dir.to_owned(), source })?;
        for name in [CA_KEY, CA_CERT] {
            let path = dir.join(name);
            if path.exists() {
                return Err(CertError::AuthorityExists { path });
            }
        }
        let identity = CertIdentity { cluster: cluster.to_owned(), role: CertRole::Authority };
        let mut params = params(&identity, &[], CA_YEARS)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let cert = params.self_signed(&key)?;
        write(&dir.join(CA_KEY), &key.serialize_pem(), KEY_MODE)?;
        write(&dir.join(CA_CERT), &cert.pem(), CERT_MODE)?;
        Ok(Authority { cluster: cluster.to_owned(), issuer: Issuer::new(params, key), bundle_pem: cert.pem() })
    }

    /// Reads the authority in `dir` back. In a bundle the first certificate is the one that signs.
    pub fn open(dir: &Path) -> Result<Authority, CertError> {
        let read = |name: &str| {
            let path = dir.join(name);
            match fs::read_to_string(&path) {
                Ok(text) => Ok((path, text)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    Err(CertError::NoAuthority { path, dir: dir.to_owned() })
                }
                Err(source) => Err(CertError::Io { path, source }),
            }
        };
        let (cert_path, bundle_pem) = read(CA_CERT)?;
        let (key_path, key_pem) = read(CA_KEY)?;
        let bad_cert = |why| CertError::BadAuthority { path: cert_path.clone(), why };
        let key = KeyPair::from_pem(&key_pem)
            .map_err(|error| CertError::BadAuthority { path: key_path, why: AuthorityFault::Key(error) })?;
        let cert = CertificateDer::from_pem_slice(bundle_pem.as_bytes())
            .map_err(|error| bad_cert(AuthorityFault::Pem(error)))?;
        let identity = identity_of(&cert).map_err(|error| bad_cert(error.into()))?;
        if identity.role != CertRole::Authority {
            return Err(bad_cert(AuthorityFault::NotAnAuthority(identity)));
        }
        if !certifies(&cert, &key) {
            return Err(bad_cert(AuthorityFault::KeyMismatch));
        }
        let issuer = Issuer::from_ca_cert_der(&cert, key)?;
        Ok(Authority { cluster: identity.cluster, issuer, bundle_pem })
    }

    /// Returns the name of the cluster.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Signs a certificate for node `id` and writes `node.pem`, `node.key` and a copy of `ca.pem` into `out`.
    ///
    /// Peers go by the id; `hosts` (names or addresses) serve HTTP and RESP clients that check host names.
    pub fn issue_node(&self, id: NodeId, hosts: &[String], out: &Path) -> Result<(), CertError> {
        let identity = CertIdentity { cluster: self.cluster.clone(), role: CertRole::Node(id) };
        let mut params = params(&identity, hosts, LEAF_YEARS)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params, out, NODE_CERT, NODE_KEY)
    }

    /// Signs a certificate for a client and writes `client.pem`, `client.key` and a copy of `ca.pem` into `out`.
    pub fn issue_client(&self, name: &str, out: &Path) -> Result<(), CertError> {
        if !is_name(name) {
            return Err(CertError::Name(name.to_owned()));
        }
        let identity = CertIdentity { cluster: self.cluster.clone(), role: CertRole::Client(name.to_owned()) };
        let mut params = params(&identity, &[], LEAF_YEARS)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params, out, CLIENT_CERT, CLIENT_KEY)
    }

    fn issue(&self, mut params: CertificateParams, out: &Path, cert: &str, key: &str) -> Result<(), CertError> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let pair = KeyPair::generate()?;
        let signed = params.signed_by(&pair, &self.issuer)?;
        fs::create_dir_all(out).map_err(|source| CertError::Io { path: out.to_owned(), source })?;
        write(&out.join(key), &pair.serialize_pem(), KEY_MODE)?;
        write(&out.join(cert), &signed.pem(), CERT_MODE)?;
        write(&out.join(CA_CERT), &self.bundle_pem, CERT_MODE)
    }
}

/// Returns whether `cert` was made for `key`: the key's public half stands in the certificate.
fn certifies(cert: &CertificateDer<'_>, key: &KeyPair) -> bool {
    let public = rcgen::PublicKeyData::subject_public_key_info(key);
    webpki::EndEntityCert::try_from(cert)
        .is_ok_and(|parsed| parsed.subject_public_key_info().as_ref() == public.as_slice())
}

fn params(identity: &CertIdentity, hosts: &[String], years: i32) -> Result<CertificateParams, CertError> {
    let uri = identity.to_string();
    let mut params = CertificateParams::default();
    params.subject_alt_names.push(SanType::URI(uri.as_str().try_into()?));
    for host in hosts {
        let name = match host.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(host.as_str().try_into().map_err(|_| CertError::Host(host.clone()))?),
        };
        params.subject_alt_names.push(name);
    }
    params.distinguished_name.push(DnType::CommonName, uri);
    params.distinguished_name.push(DnType::OrganizationName, "Kontiki");
    let year = this_year();
    params.not_before = date_time_ymd(year - 1, 1, 1); // A clock that is a little behind must not void it.
    params.not_after = date_time_ymd(year + years, 12, 31);
    Ok(params)
}

fn this_year() -> i32 {
    /// Of the Gregorian calendar; a day off at New Year does no harm here.
    const SECONDS_PER_YEAR: u64 = 31_556_952;
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    i32::try_from(1970 + seconds / SECONDS_PER_YEAR).unwrap_or(i32::MAX - 100)
}

/// Writes a whole file under another name first, so that nobody reads half of it, then renames it.
fn write(path: &Path, text: &str, mode: u32) -> Result<(), CertError> {
    let failed = |source| CertError::Io { path: path.to_owned(), source };
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {} // A leftover must not lend its mode to a key.
    }
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&temporary, path).map_err(failed)
}
