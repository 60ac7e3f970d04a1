//! Who a data directory is: written once, checked at every start.

use std::path::{Path, PathBuf};

use kontiki_snapshot::sealed_file::{self, ReadError};
use serde::{Deserialize, Serialize};

use crate::proto::codec;

use super::error::BootError;

const FILE_NAME: &str = "identity";
const KIND: sealed_file::Kind = *b"identity";
const MAX_BYTES: u32 = 64 * 1024;

/// The ids of one node's storage.
///
/// - `storage_uuid` is drawn when the directory is made and never changes: a wiped directory is another storage.
/// - `history` is 0 until the first configuration entry of the cluster is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Layout version of the data directory.
    pub format_version: u32,
    /// The node.
    pub node_id: u64,
    /// The cluster it belongs to.
    pub cluster_id: u128,
    /// The cluster's name in certificates, for messages to people.
    pub cluster_name: String,
    /// The members at bootstrap, as written, for messages to people.
    pub bootstrap: String,
    /// This storage.
    pub storage_uuid: u128,
    /// Whether the log was made: from then on a directory without a log has lost it.
    pub has_log: bool,
    /// The history of the cluster that this storage is part of; 0 if not known yet.
    pub history: u128,
    /// Fingerprint of the CA that the node was made under.
    pub ca_fingerprint: [u8; 32],
}

/// The identity file of one directory.
#[derive(Clone, Debug)]
pub struct IdentityFile {
    dir: PathBuf,
}

impl Identity {
    /// The layout this code writes and reads.
    pub const FORMAT_VERSION: u32 = 1;
}

impl IdentityFile {
    /// Names the identity file of `dir`.
    pub fn new(dir: &Path) -> IdentityFile {
        IdentityFile { dir: dir.to_owned() }
    }

    /// Reads it; `None` if the directory has none yet.
    pub fn read(&self) -> Result<Option<Identity>, BootError> {
        let path = self.dir.join(FILE_NAME);
        let body = match sealed_file::read(&path, KIND, MAX_BYTES) {
            Ok(body) => body,
            Err(ReadError::Missing { .. }) => return Ok(None),
            Err(source) => return Err(BootError::IdentityUnreadable { source }),
        };
        let identity: Identity =
            codec::decode(&body).map_err(|_| BootError::IdentityMalformed { path: path.clone() })?;
        if identity.format_version != Identity::FORMAT_VERSION {
            return Err(BootError::UnknownFormat { path, version: identity.format_version });
        }
        Ok(Some(identity))
    }

    /// Writes it. Durable when this returns.
    pub fn write(&self, identity: &Identity) -> Result<(), BootError> {
        sealed_file::write(&self.dir, FILE_NAME, KIND, &codec::encode(identity))
            .map_err(|source| BootError::IdentityUnwritable { source })
    }
}
