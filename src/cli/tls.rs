//! TLS files as the command line finds or makes them: a node's, a client's, and those of a development cluster.
//!
//! A development cluster keeps its authority and a client's certificate in one directory and each node's files in
//! `node-N` below it.

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rand::Rng;

use super::exit::{Exit, Failure};
use crate::raft::NodeId;
use crate::runtime::StartOptions;
use crate::transport::certs::{Authority, CA_CERT, CA_KEY, CLIENT_CERT, CLIENT_KEY, CertError, NODE_CERT, NODE_KEY};
use crate::transport::tls::NodeTls;

/// Where a client looks if nobody says otherwise: what `kontiki cluster` makes.
const CLIENT_DIR_DEFAULT: &str = "kontiki-data/certs";

/// The name of the client certificate of a development cluster.
const DEVELOPMENT_CLIENT: &str = "local";

/// What a node on this machine is called.
const LOCAL_HOSTS: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Checks that a node's TLS files are there, belong together and speak for it.
pub(super) fn require_node_files(options: &StartOptions) -> Result<(), Failure> {
    let (dir, id) = (&options.tls_dir, options.id);
    let next = format!("make it with 'kontiki cert node --id {id} --tls-dir T --out {}'", dir.display());
    for name in [CA_CERT, NODE_CERT, NODE_KEY] {
        require(&dir.join(name), &next)?;
    }
    let tls = NodeTls::load(dir).map_err(|error| Failure::config(format!("the TLS file {error}")))?;
    if tls.node() == id {
        return Ok(());
    }
    Err(Failure::config(format!(
        "the TLS file {} speaks for node {} of {}, not for node {id}; {next}",
        dir.join(NODE_CERT).display(),
        tls.node(),
        tls.cluster()
    )))
}

/// Finds the directory of a client's TLS files; `given` comes from the flag or `KONTIKI_TLS_DIR`.
pub(super) fn client_dir(given: Option<&Path>) -> Result<PathBuf, Failure> {
    let dir = given.unwrap_or(Path::new(CLIENT_DIR_DEFAULT));
    let next = if given.is_some() {
        "name a directory with the cluster's ca.pem by --tls-dir or KONTIKI_TLS_DIR"
    } else {
        "run this where 'kontiki cluster' runs, or name the directory by --tls-dir or KONTIKI_TLS_DIR"
    };
    require(&dir.join(CA_CERT), next)?;
    Ok(dir.to_owned())
}

/// Makes what is missing of a node's development files, beside its data directory.
pub(super) fn prepare_development(options: &StartOptions) -> Result<(), Failure> {
    let certs_dir = options.tls_dir.parent().unwrap_or(Path::new("."));
    prepare_cluster(certs_dir, [options.id.0].into_iter())
}

/// Makes what is missing of a development cluster's files: authority, a client's and each node's certificate.
///
/// Several processes may do so at once.
pub(super) fn prepare_cluster(certs_dir: &Path, ids: impl Iterator<Item = u64>) -> Result<(), Failure> {
    let make = DirBuilder::new().recursive(true).mode(0o700).create(certs_dir);
    make.map_err(|error| Failure::io("create the directory", certs_dir, &error))?;
    let path = certs_dir.join(".lock");
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let lock = lock.map_err(|error| Failure::io("open", &path, &error))?;
    lock.lock().map_err(|error| Failure::io("lock", &path, &error))?;

    let has = |dir: &Path, names: &[&str]| names.iter().all(|name| dir.join(name).exists());
    let missing: Vec<(u64, PathBuf)> = ids
        .map(|id| (id, certs_dir.join(format!("node-{id}"))))
        .filter(|(_, dir)| !has(dir, &[CA_CERT, NODE_CERT, NODE_KEY]))
        .collect();
    let has_authority = has(certs_dir, &[CA_CERT]);
    let has_client = has(certs_dir, &[CLIENT_CERT, CLIENT_KEY]);
    if has_authority && has_client && missing.is_empty() {
        return Ok(());
    }
    let authority = if has_authority || has(certs_dir, &[CA_KEY]) {
        Authority::open(certs_dir)
    } else {
        // A name of its own keeps the nodes of one directory apart from those of another.
        Authority::create(certs_dir, &format!("local-{:08x}", rand::rng().random::<u32>()))
    };
    let authority = authority.map_err(|error| failure(&error))?;
    if !has_client {
        authority.issue_client(DEVELOPMENT_CLIENT, certs_dir).map_err(|error| failure(&error))?;
    }
    let hosts = LOCAL_HOSTS.map(str::to_owned);
    for (id, dir) in missing {
        authority.issue_node(NodeId(id), &hosts, &dir).map_err(|error| failure(&error))?;
    }
    Ok(())
}

/// Returns the end of a command whose certificate was not made.
pub(super) fn failure(error: &CertError) -> Failure {
    match error {
        CertError::Name(_) | CertError::Host(_) => Failure::config(error),
        CertError::NoAuthority { .. } | CertError::BadAuthority { .. } => Failure::config(error),
        CertError::AuthorityExists { .. } | CertError::Library(_) => Failure::new(Exit::Failed, error),
        CertError::Io { .. } => Failure::new(Exit::Io, error),
    }
}

fn require(path: &Path, next: &str) -> Result<(), Failure> {
    match OpenOptions::new().read(true).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Failure::config(format!("the TLS file {} is missing; {next}", path.display())))
        }
        Err(error) => Err(Failure::config(format!("cannot read the TLS file {}: {error}; {next}", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_development_cluster_gets_all_files_once() {
        let dir = tempfile::tempdir().unwrap();
        let certs = dir.path().join("certs");
        prepare_cluster(&certs, [1, 2].into_iter()).unwrap();
        let read = |name: &str| std::fs::read(certs.join(name)).unwrap();
        let names =
            ["ca.pem", "ca.key", "client.pem", "client.key", "node-1/node.pem", "node-2/node.key", "node-2/ca.pem"];
        let first: Vec<_> = names.iter().map(|name| read(name)).collect();
        prepare_cluster(&certs, [1, 2, 3].into_iter()).unwrap();
        let second: Vec<_> = names.iter().map(|name| read(name)).collect();
        assert_eq!(first, second);
        assert!(certs.join("node-3/node.pem").exists());
    }

    #[test]
    fn an_authority_without_its_key_still_serves_those_it_signed() {
        let dir = tempfile::tempdir().unwrap();
        prepare_cluster(dir.path(), [1].into_iter()).unwrap();
        std::fs::remove_file(dir.path().join("ca.key")).unwrap();
        prepare_cluster(dir.path(), [1].into_iter()).unwrap();
        let failure = prepare_cluster(dir.path(), [2].into_iter()).unwrap_err();
        assert!(failure.exit == Exit::Config && failure.message.contains("ca.key"), "{}", failure.message);
    }

    #[test]
    fn a_missing_client_directory_says_what_to_do() {
        let failure = client_dir(Some(Path::new("/nonexistent"))).unwrap_err();
        assert!(failure.exit == Exit::Config && failure.message.contains("/nonexistent/ca.pem"), "{}", failure.message);
    }
}
