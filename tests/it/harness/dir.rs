//! Directories on a real file system, kept for a look when their story failed.

use std::path::{Path, PathBuf};
use std::{fs, thread};

const TMPFS_MAGIC: u64 = 0x0102_1994;

/// A directory that goes with the story, unless the story failed.
pub struct TestDir {
    directory: Option<tempfile::TempDir>,
}

impl TestDir {
    /// Makes an empty directory under the build directory.
    ///
    /// Refuses a memory file system: there a sync proves nothing.
    pub fn new() -> TestDir {
        let base = env!("CARGO_TARGET_TMPDIR");
        fs::create_dir_all(base).unwrap();
        let kind = rustix::fs::statfs(base).unwrap().f_type;
        assert_ne!(kind as u64, TMPFS_MAGIC, "{base} is in memory: set CARGO_TARGET_DIR to a directory on a disk");
        let directory = tempfile::Builder::new().prefix("it-").tempdir_in(base).unwrap();
        TestDir { directory: Some(directory) }
    }

    pub fn path(&self) -> &Path {
        self.directory.as_ref().unwrap().path()
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        if thread::panicking() {
            let kept = self.directory.take().unwrap().keep();
            eprintln!("kept for a look: {}", kept.display());
        }
    }
}
