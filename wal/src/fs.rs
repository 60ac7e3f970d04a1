//! Slots as real files: one mapping for small stores and all reads of entries, `pwritev` for large stores,
//! `fdatasync`.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::Advice;

use crate::disk::{Disk, HeaderCopy, Slot, SlotId};
use crate::format::{DATA_START, HEADER_BLOCK, HEADER_LEN, to_usize};
use crate::mmap::Mapping;

/// Stores of at least this many bytes go through `pwritev`: above it one system call costs less than a page fault per
/// 4 KiB.
pub const VECTORED_BYTES_MIN: usize = 16 * 1024;

/// How many bytes of a new slot are written between syncs.
const FILL_BYTES: u64 = 4 << 20;
/// How many parts one `pwritev` takes (`IOV_MAX`).
const PARTS_MAX: usize = 1024;
const PREFIX: &str = "slot-";

/// A directory of slot files named `slot-0000`, `slot-0001`, ….
#[derive(Clone, Debug)]
pub struct FsDisk {
    dir: PathBuf,
    stores_mapped: bool,
}

impl FsDisk {
    /// Looks at a directory, making it (mode 0700) if it is not there. Durable when this returns.
    ///
    /// # Errors
    /// The file system's.
    pub fn new(dir: &Path) -> io::Result<FsDisk> {
        if !dir.exists() {
            std::os::unix::fs::DirBuilderExt::mode(std::fs::DirBuilder::new().recursive(true), 0o700).create(dir)?;
            if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                File::open(parent)?.sync_all()?;
            }
        }
        let stores_mapped = overwrites_in_place(&File::open(dir)?)?;
        Ok(FsDisk { dir: dir.to_path_buf(), stores_mapped })
    }

    /// Returns whether small stores go through the mapping here; not on copy-on-write file systems, where an
    /// overwrite allocates.
    pub fn stores_mapped(&self) -> bool {
        self.stores_mapped
    }

    fn path(&self, id: SlotId) -> PathBuf {
        self.dir.join(format!("{PREFIX}{:04}", id.0))
    }

    fn slot(&self, id: SlotId, file: File, segment_bytes: u64, made_here: bool) -> io::Result<FsSlot> {
        // Reads then bring single pages into the cache, which later stores through the mapping want.
        rustix::fs::fadvise(&file, 0, None, Advice::Random)?;
        let ceiling = to_usize(segment_bytes - HEADER_BLOCK);
        let mapping = Mapping::new(&file, to_usize(segment_bytes), to_usize(DATA_START), ceiling)?;
        let stores_mapped = self.stores_mapped;
        Ok(FsSlot(Arc::new(Inner { id, file, mapping, segment_bytes, stores_mapped, made_here })))
    }

    fn fill(&self, file: &File, from: u64, segment_bytes: u64) -> io::Result<()> {
        // 4 KiB at a time, so that the cache holds single pages: a large folio would be written back whole at every
        // sync.
        let zeros = [0; 4096];
        let mut at = from / 4096 * 4096;
        while at < segment_bytes {
            file.write_all_at(&zeros, at)?;
            at += 4096;
            if at.is_multiple_of(FILL_BYTES) {
                file.sync_data()?; // In small portions, so that the log's own syncs never wait behind a whole slot.
            }
        }
        file.sync_data()?;
        File::open(&self.dir)?.sync_all()
    }
}

/// Returns whether an overwrite of written blocks needs no allocation on this file system, so that a store can never
/// fail for space.
fn overwrites_in_place(dir: &File) -> io::Result<bool> {
    const EXT: u64 = 0xEF53;
    const XFS: u64 = 0x5846_5342;
    const TMPFS: u64 = 0x0102_1994;
    let found = rustix::fs::fstatfs(dir)?;
    let magic = u64::try_from(found.f_type).unwrap_or(0);
    Ok(matches!(magic, EXT | XFS | TMPFS))
}

/// Returns the slot that a file name names.
pub(crate) fn slot_number(name: &OsStr) -> Option<SlotId> {
    name.to_str()?.strip_prefix(PREFIX)?.parse().ok().map(SlotId)
}

impl Disk for FsDisk {
    type Slot = FsSlot;

    fn slots(&self) -> io::Result<Vec<(SlotId, u64)>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            if let Some(id) = slot_number(&entry.file_name()) {
                found.push((id, entry.metadata()?.len()));
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    fn peek(&self, id: SlotId, buffer: &mut [u8]) -> io::Result<()> {
        let file = File::open(self.path(id))?;
        buffer.fill(0);
        let mut at = 0;
        while at < buffer.len() {
            match file.read_at(&mut buffer[at..], at as u64) {
                Ok(0) => break,
                Ok(read) => at += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn open(&self, id: SlotId, segment_bytes: u64) -> io::Result<FsSlot> {
        let file = OpenOptions::new().read(true).write(true).open(self.path(id))?;
        if file.metadata()?.len() < segment_bytes {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the slot is shorter than a segment"));
        }
        self.slot(id, file, segment_bytes, false)
    }

    fn create(&self, id: SlotId, segment_bytes: u64) -> io::Result<FsSlot> {
        let path = self.path(id);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        let filled = file.metadata().and_then(|found| self.fill(&file, found.len(), segment_bytes));
        if let Err(error) = filled {
            // A half-made slot would hold the space that others now need. Should this fail too, the next start
            // completes the slot.
            drop(std::fs::remove_file(&path));
            return Err(error);
        }
        self.slot(id, file, segment_bytes, true)
    }

    fn name(&self, id: SlotId) -> PathBuf {
        self.path(id)
    }
}

struct Inner {
    id: SlotId,
    file: File,
    mapping: Mapping,
    segment_bytes: u64,
    stores_mapped: bool,
    /// Whether this process made the file, and so knows the shape of its cached pages.
    made_here: bool,
}

/// An open slot file.
#[derive(Clone)]
pub struct FsSlot(Arc<Inner>);

/// A piece of a mapped slot; keeps the slot from being recycled.
#[derive(Clone)]
pub struct FsView {
    slot: Arc<Inner>,
    offset: usize,
    len: usize,
}

impl AsRef<[u8]> for FsView {
    fn as_ref(&self) -> &[u8] {
        self.slot.mapping.slice(self.offset, self.len)
    }
}

impl Slot for FsSlot {
    type View = FsView;

    fn id(&self) -> SlotId {
        self.0.id
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.file.read_exact_at(buffer, offset)
    }

    fn store(&self, offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        if self.0.stores_mapped && total < VECTORED_BYTES_MIN {
            self.0.mapping.store(to_usize(offset), parts);
            return Ok(());
        }
        // The other half of the mapping's contract (M3): the file is not written below what is published either.
        let published = self.0.mapping.published() as u64;
        let end = offset + total as u64;
        assert!(
            published <= offset && end <= self.0.segment_bytes - HEADER_BLOCK,
            "write at {offset}..{end}: {published}"
        );
        write_vectored_at(&self.0.file, offset, parts)
    }

    fn publish(&self, offset: u64) {
        self.0.mapping.publish(to_usize(offset));
    }

    fn view(&self, offset: u64, length: u64) -> io::Result<FsView> {
        let (offset, len) = (to_usize(offset), to_usize(length));
        assert!(self.0.mapping.slice(offset, len).len() == len, "checked by the mapping");
        Ok(FsView { slot: Arc::clone(&self.0), offset, len })
    }

    fn write_header(&self, copy: HeaderCopy, block: &[u8; HEADER_LEN]) -> io::Result<()> {
        self.0.file.write_all_at(block, copy.offset(self.0.segment_bytes))
    }

    fn sync(&self) -> io::Result<()> {
        self.0.file.sync_data()
    }

    fn drop_cache(&self) -> io::Result<()> {
        Ok(rustix::fs::fadvise(&self.0.file, 0, None, Advice::DontNeed)?)
    }

    fn warm(&self) -> io::Result<()> {
        if !self.0.made_here {
            self.drop_cache()?; // Whoever read the file before us may have left large folios.
        }
        let mut buffer = vec![0; 256 * 1024];
        let mut at = 0;
        while at < self.0.segment_bytes {
            let piece = to_usize((self.0.segment_bytes - at).min(buffer.len() as u64));
            self.0.file.read_exact_at(&mut buffer[..piece], at)?;
            at += piece as u64;
        }
        Ok(())
    }

    fn recycle(&mut self) -> bool {
        let Some(inner) = Arc::get_mut(&mut self.0) else { return false };
        inner.mapping.recycle();
        true
    }
}

fn write_vectored_at(file: &File, mut offset: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
    for group in parts.chunks(PARTS_MAX) {
        let mut owned = group.to_vec();
        let mut rest = &mut owned[..];
        while !rest.is_empty() {
            let written = match rustix::io::pwritev(file, rest, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            offset += written as u64;
            IoSlice::advance_slices(&mut rest, written);
        }
    }
    Ok(())
}
