//! Every prefix, every flipped bit, every power cut.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::disk::Disk;
use super::{Damage, FORMAT_VERSION, HEADER_BYTES, Kind, ReadError, WriteStep, read, replace, write};

const KIND: Kind = *b"identity";
const OLD: &[u8] = b"the raft left Callao on 28 April";
const NEW: &[u8] = b"and reached Raroia after 101 days at sea";

#[test]
fn what_was_written_is_read_and_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("identity");
    assert!(matches!(read(&path, KIND, 64), Err(ReadError::Missing { .. })));
    for body in [b"".as_slice(), OLD, NEW] {
        write(directory.path(), "identity", KIND, body).unwrap();
        assert_eq!(read(&path, KIND, 64).unwrap(), body);
    }
    let names: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["identity"], "a temporary file stayed behind");
}

#[test]
fn a_leftover_temporary_file_is_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("identity.tmp"), [7; 4096]).unwrap();
    write(directory.path(), "identity", KIND, NEW).unwrap();
    assert_eq!(read(&directory.path().join("identity"), KIND, 64).unwrap(), NEW);
}

/// A reader never takes damaged bytes for content: all prefixes, all flipped bits, and bytes behind the end.
#[test]
fn every_prefix_every_flipped_bit_and_every_tail_is_damage() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("identity");
    write(directory.path(), "identity", KIND, OLD).unwrap();
    let whole = fs::read(&path).unwrap();
    let damage_of = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        match read(&path, KIND, 64) {
            Err(ReadError::Damaged { damage, .. }) => damage,
            other => panic!("{} bytes: {other:?}", bytes.len()),
        }
    };
    for length in 0..whole.len() {
        let damage = damage_of(&whole[..length]);
        assert_eq!(damage.offset(), length as u64, "the damage of a prefix is where it ends");
    }
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let damage = damage_of(&flipped);
        assert_eq!(damage.offset() < HEADER_BYTES as u64, bit / 8 < HEADER_BYTES, "bit {bit}: {damage}");
    }
    let tail = [whole.as_slice(), b"x"].concat();
    assert_eq!(damage_of(&tail), Damage::Length { expected: OLD.len(), found: OLD.len() + 1 });
    assert_eq!(damage_of(&[0; 64]), Damage::Magic);
}

#[test]
fn an_intact_file_of_another_kind_version_or_size_is_told_apart_from_damage() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("identity");
    write(directory.path(), "identity", *b"manifest", OLD).unwrap();
    let text = read(&path, KIND, 64).unwrap_err().to_string();
    assert!(text.ends_with(r#"holds "manifest", not "identity""#), "{text}");

    write(directory.path(), "identity", KIND, OLD).unwrap();
    match read(&path, KIND, 8) {
        Err(ReadError::TooLarge { found: 32, limit: 8, .. }) => {}
        other => panic!("{other:?}"),
    }

    let mut bytes = fs::read(&path).unwrap();
    bytes[16..20].copy_from_slice(&(FORMAT_VERSION + 1).to_le_bytes());
    let crc = crc32fast::hash(&bytes[..28]);
    bytes[28..32].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, &bytes).unwrap();
    match read(&path, KIND, 64) {
        Err(ReadError::UnknownVersion { found: 2, .. }) => {}
        other => panic!("{other:?}"),
    }
}

/// The bytes are a format: this test fails when they change, and then the version must.
#[test]
fn the_bytes_are_the_documented_ones() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "identity", KIND, b"abc").unwrap();
    let bytes = fs::read(directory.path().join("identity")).unwrap();
    let expected = b"KONTSEALidentity\x01\0\0\0\xc2\x41\x24\x35\x03\0\0\0\x39\x3a\xe6\x54abc";
    assert_eq!(bytes.escape_ascii().to_string(), expected.escape_ascii().to_string());
}

#[test]
fn a_refusing_file_system_is_named_by_step_and_path() {
    let directory = tempfile::tempdir().unwrap();
    let error = write(&directory.path().join("absent"), "identity", KIND, OLD).unwrap_err();
    assert_eq!(error.step, WriteStep::Write);
    assert!(error.to_string().contains("absent/identity: writing the temporary file: "), "{error}");

    fs::create_dir(directory.path().join("identity")).unwrap();
    let error = write(directory.path(), "identity", KIND, OLD).unwrap_err();
    assert_eq!(error.step, WriteStep::Rename);
}

/// A file system that has promised nothing before a sync: bytes and names each have a durable and a volatile side.
#[derive(Clone, Default)]
struct PowerCutDisk {
    /// Contents by inode: durable bytes, if any, and the bytes a running system sees.
    inodes: Vec<(Option<Vec<u8>>, Vec<u8>)>,
    durable_names: BTreeMap<PathBuf, usize>,
    names: BTreeMap<PathBuf, usize>,
    /// Operations left before the power goes.
    operations_left: usize,
}

impl PowerCutDisk {
    fn spend(&mut self) -> io::Result<()> {
        if self.operations_left == 0 {
            return Err(io::Error::other("the power is gone"));
        }
        self.operations_left -= 1;
        Ok(())
    }

    /// Every content `path` may have after the cut: old or new names, and for unsynced bytes nothing, half or all.
    fn survivors(&self, path: &Path) -> Vec<Option<Vec<u8>>> {
        let mut found = Vec::new();
        for names in [&self.durable_names, &self.names] {
            let Some(&inode) = names.get(path) else {
                found.push(None);
                continue;
            };
            match &self.inodes[inode] {
                (Some(durable), _) => found.push(Some(durable.clone())),
                (None, bytes) => {
                    found.extend([0, bytes.len() / 2, bytes.len()].map(|kept| Some(bytes[..kept].to_vec())));
                }
            }
        }
        found
    }
}

impl Disk for PowerCutDisk {
    type File = usize;

    fn create(&mut self, path: &Path, bytes: &[u8]) -> io::Result<usize> {
        self.spend()?;
        self.inodes.push((None, bytes.to_vec()));
        self.names.insert(path.to_owned(), self.inodes.len() - 1);
        Ok(self.inodes.len() - 1)
    }

    fn sync(&mut self, file: usize) -> io::Result<()> {
        self.spend()?;
        let bytes = self.inodes[file].1.clone();
        self.inodes[file].0 = Some(bytes);
        Ok(())
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.spend()?;
        let inode = self.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        self.names.insert(to.to_owned(), inode);
        Ok(())
    }

    fn sync_directory(&mut self, _directory: &Path) -> io::Result<()> {
        self.spend()?;
        self.durable_names = self.names.clone();
        Ok(())
    }
}

/// Whenever the power goes, the file is the old one or the new one; once the write was reported, only the new one.
#[test]
fn a_power_cut_leaves_the_old_or_the_new_file() {
    let (directory, path) = (Path::new("d"), Path::new("d/identity"));
    let sealed = |body: &[u8]| {
        let mut disk = PowerCutDisk { operations_left: usize::MAX, ..PowerCutDisk::default() };
        replace(&mut disk, directory, "identity", KIND, body).unwrap();
        (disk.inodes[disk.names[path]].1.clone(), disk)
    };
    let ((old, before), (new, _)) = (sealed(OLD), sealed(NEW));
    for operations in 0..=5 {
        let mut disk = PowerCutDisk { operations_left: operations, ..before.clone() };
        let reported = replace(&mut disk, directory, "identity", KIND, NEW).is_ok();
        assert_eq!(reported, operations >= 4, "a replacement is four operations");
        for content in disk.survivors(path) {
            let content = content.expect("the file was there before");
            assert!(content == new || (content == old && !reported), "cut after {operations} operations");
        }
    }
}
