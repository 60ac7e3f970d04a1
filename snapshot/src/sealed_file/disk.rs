//! The four file operations of a replacement, so that a test can cut the power between them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Where sealed files live: the file system, or a test's model of one.
pub(super) trait Disk {
    /// An open file.
    type File;

    /// Creates or empties the file and fills it. Nothing is durable yet.
    fn create(&mut self, path: &Path, bytes: &[u8]) -> io::Result<Self::File>;

    /// Makes the file's bytes durable, but not its name.
    fn sync(&mut self, file: Self::File) -> io::Result<()>;

    /// Gives the file another name, replacing what had it. Durable only with the directory.
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;

    /// Makes the directory's names durable.
    fn sync_directory(&mut self, directory: &Path) -> io::Result<()>;
}

/// The file system.
pub(super) struct RealDisk;

impl Disk for RealDisk {
    type File = File;

    fn create(&mut self, path: &Path, bytes: &[u8]) -> io::Result<File> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        Ok(file)
    }

    fn sync(&mut self, file: File) -> io::Result<()> {
        file.sync_all()
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_directory(&mut self, directory: &Path) -> io::Result<()> {
        File::open(directory)?.sync_all()
    }
}
