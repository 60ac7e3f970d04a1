//! Small files that are replaced whole: after a crash a reader finds the old content or the new, never a mixture.
//!
//! A file is a header of 32 bytes and a body; all numbers are little-endian.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | magic, `KONTSEAL` |
//! | 8 | 8 | kind: what the body is; chosen by the caller |
//! | 16 | 4 | format version, 1 |
//! | 20 | 4 | CRC-32 of the body |
//! | 24 | 4 | bytes of the body |
//! | 28 | 4 | CRC-32 of bytes 0 to 27 |
//! | 32 | … | body; the file ends with it |
//!
//! Writing goes through a temporary name in the same directory: write, sync the file, rename, sync the directory.
//! Every step matters: without the first sync the new name may point to missing bytes, without the second a power cut
//! may bring the old file back after the write was reported.

mod disk;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

use disk::{Disk, RealDisk};

/// Says what the body of a file is, so that one file cannot be taken for another.
pub type Kind = [u8; 8];

/// The version this code writes, and the only one it reads.
pub const FORMAT_VERSION: u32 = 1;

/// Bytes before the body.
pub const HEADER_BYTES: usize = 32;

const MAGIC: [u8; 8] = *b"KONTSEAL";

/// What is wrong with the bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Damage {
    /// The file ends inside the header.
    #[error("the header needs 32 bytes, the file has {found}")]
    ShortHeader {
        /// Bytes of the file.
        found: usize,
    },
    /// The first eight bytes are not the magic.
    #[error("the magic is wrong")]
    Magic,
    /// The header does not match its checksum.
    #[error("header checksum: expected {expected:08x}, computed {computed:08x}")]
    HeaderChecksum {
        /// As stored.
        expected: u32,
        /// Over what was read.
        computed: u32,
    },
    /// The body is shorter or longer than the header says.
    #[error("the body should have {expected} bytes, the file has {found}")]
    Length {
        /// As stored.
        expected: usize,
        /// Bytes after the header; counted no further than the reader's limit.
        found: usize,
    },
    /// The body does not match its checksum.
    #[error("body checksum: expected {expected:08x}, computed {computed:08x}")]
    BodyChecksum {
        /// As stored.
        expected: u32,
        /// Over what was read.
        computed: u32,
    },
}

impl Damage {
    /// Returns the byte of the file from which on it cannot be trusted.
    pub fn offset(&self) -> u64 {
        match self {
            Damage::ShortHeader { found } => *found as u64,
            Damage::Magic | Damage::HeaderChecksum { .. } => 0,
            Damage::Length { expected, found } => (HEADER_BYTES + expected.min(found)) as u64,
            Damage::BodyChecksum { .. } => HEADER_BYTES as u64,
        }
    }
}

/// Why a file could not be read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// There is no file of that name.
    #[error("{}: no such file", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The bytes are not what was written.
    #[error("{}: damaged at byte {}: {damage}", path.display(), damage.offset())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where and how.
        damage: Damage,
    },
    /// An intact file of another kind.
    #[error("{}: holds {:?}, not {:?}", path.display(), found.escape_ascii().to_string(), wanted.escape_ascii().to_string())]
    WrongKind {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: Kind,
        /// What was asked for.
        wanted: Kind,
    },
    /// An intact header of a version that this code does not know.
    #[error("{}: format version {found}; this program reads version {FORMAT_VERSION}", path.display())]
    UnknownVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// An intact header that announces more than the caller accepts.
    #[error("{}: {found} bytes, more than the {limit} allowed", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes of the body.
        found: u32,
        /// The caller's limit.
        limit: u32,
    },
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
}

/// Why a file could not be replaced. The old content may or may not be gone: read it again to know.
#[derive(Debug, Error)]
#[error("{}: {step}: {source}", path.display())]
pub struct WriteError {
    /// The file that was to be replaced.
    pub path: PathBuf,
    /// What was being done.
    pub step: WriteStep,
    /// The file system's answer.
    pub source: io::Error,
}

/// The steps of a replacement, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WriteStep {
    /// Creating and filling the temporary file.
    #[error("writing the temporary file")]
    Write,
    /// Syncing it.
    #[error("syncing the temporary file")]
    Sync,
    /// Giving it the name.
    #[error("renaming the temporary file")]
    Rename,
    /// Syncing the directory that holds the name.
    #[error("syncing the directory")]
    SyncDirectory,
}

/// Replaces `directory/name` by a sealed file with `body`, durably.
///
/// When it returns `Ok` the new content survives a power cut. After an error or a crash the file holds the old content
/// or the new, whole. Files are created with mode 0600. One writer at a time for a name: the temporary file is
/// `name.tmp`; a leftover of a crash is overwritten by the next replacement.
///
/// # Panics
///
/// If `name` is not a plain file name, or the body has 4 GiB or more.
pub fn write(directory: &Path, name: &str, kind: Kind, body: &[u8]) -> Result<(), WriteError> {
    replace(&mut RealDisk, directory, name, kind, body)
}

/// Reads the body of a sealed file of `kind` with at most `max_body_bytes`.
///
/// Reads no more than the limit allows, whatever the header says.
pub fn read(path: &Path, kind: Kind, max_body_bytes: u32) -> Result<Vec<u8>, ReadError> {
    let io_error = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => ReadError::Missing { path: path.to_owned() },
        _ => ReadError::Io { path: path.to_owned(), source },
    };
    let file = File::open(path).map_err(io_error)?;
    let mut bytes = Vec::new();
    // One byte more than allowed, so that a file that goes on after its body is noticed.
    let limit = HEADER_BYTES as u64 + u64::from(max_body_bytes) + 1;
    file.take(limit).read_to_end(&mut bytes).map_err(io_error)?;

    let path = path.to_owned();
    let header = match Header::decode(&bytes) {
        Ok(header) => header,
        Err(damage) => return Err(ReadError::Damaged { path, damage }),
    };
    if header.version != FORMAT_VERSION {
        return Err(ReadError::UnknownVersion { path, found: header.version });
    }
    if header.kind != kind {
        return Err(ReadError::WrongKind { path, found: header.kind, wanted: kind });
    }
    if header.body_bytes > max_body_bytes {
        return Err(ReadError::TooLarge { path, found: header.body_bytes, limit: max_body_bytes });
    }
    let body = bytes.split_off(HEADER_BYTES);
    match header.check(&body) {
        Ok(()) => Ok(body),
        Err(damage) => Err(ReadError::Damaged { path, damage }),
    }
}

/// A header whose checksum holds.
struct Header {
    kind: Kind,
    version: u32,
    body_crc: u32,
    body_bytes: u32,
}

impl Header {
    fn of(kind: Kind, body: &[u8]) -> Header {
        let body_bytes = u32::try_from(body.len()).unwrap_or_else(|_| panic!("a body of {} bytes", body.len()));
        Header { kind, version: FORMAT_VERSION, body_crc: crc32fast::hash(body), body_bytes }
    }

    fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&self.kind);
        bytes[16..20].copy_from_slice(&self.version.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.body_crc.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.body_bytes.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..28]);
        bytes[28..32].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(file: &[u8]) -> Result<Header, Damage> {
        let Some(bytes) = file.first_chunk::<HEADER_BYTES>() else {
            return Err(Damage::ShortHeader { found: file.len() });
        };
        if bytes[0..8] != MAGIC {
            return Err(Damage::Magic);
        }
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let (expected, computed) = (word(28), crc32fast::hash(&bytes[..28]));
        if expected != computed {
            return Err(Damage::HeaderChecksum { expected, computed });
        }
        let mut kind = Kind::default();
        kind.copy_from_slice(&bytes[8..16]);
        Ok(Header { kind, version: word(16), body_crc: word(20), body_bytes: word(24) })
    }

    fn check(&self, body: &[u8]) -> Result<(), Damage> {
        let expected = self.body_bytes as usize;
        if body.len() != expected {
            return Err(Damage::Length { expected, found: body.len() });
        }
        let (expected, computed) = (self.body_crc, crc32fast::hash(body));
        if expected != computed {
            return Err(Damage::BodyChecksum { expected, computed });
        }
        Ok(())
    }
}

fn replace(disk: &mut impl Disk, directory: &Path, name: &str, kind: Kind, body: &[u8]) -> Result<(), WriteError> {
    assert!(Path::new(name).file_name().is_some_and(|file| file == name), "{name:?} is not a plain file name");
    let path = directory.join(name);
    let temporary = directory.join(format!("{name}.tmp"));
    let failed = |step: WriteStep| {
        let path = path.clone();
        move |source: io::Error| WriteError { path, step, source }
    };

    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    bytes.extend_from_slice(&Header::of(kind, body).encode());
    bytes.extend_from_slice(body);

    let file = disk.create(&temporary, &bytes).map_err(failed(WriteStep::Write))?;
    disk.sync(file).map_err(failed(WriteStep::Sync))?;
    disk.rename(&temporary, &path).map_err(failed(WriteStep::Rename))?;
    disk.sync_directory(directory).map_err(failed(WriteStep::SyncDirectory))
}
