//! A model file mapped into memory, read-only: the weights are used where the file lies.
//!
//! The only `unsafe` of this crate.

use crate::{Error, Result};
use std::fs::{File, FileType};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A multiple of every page size in use (macOS on Apple's processors has 16 KiB, some Linux 64 KiB).
#[cfg(unix)]
const PAGE: usize = 64 << 10;

/// A mapped file. Empty files are never mapped: they hold an empty slice.
#[derive(Debug)]
pub(crate) struct Map {
    path: PathBuf,
    pages: Option<memmap2::Mmap>,
    /// Bytes that were made from a file's, in their place.
    made: Vec<u8>,
}

impl Map {
    /// Maps the whole of a regular file (links are followed).
    pub fn open(path: &Path) -> Result<Map> {
        let file = open_regular(path)?;
        let size = file.metadata().map_err(|e| Error::io(path, e))?.len();
        if size == 0 {
            return Ok(Map { path: path.to_path_buf(), pages: None, made: vec![] });
        }
        if cfg!(sanitized) {
            // A sanitizer does not know where the file ends in a mapping.
            return std::fs::read(path).map(|bytes| Map::made(path, bytes)).map_err(|e| Error::io(path, e));
        }
        // SAFETY: the mapping is private to this process, read-only, and lives as long as `Map`. Another
        // process that writes into the file changes weights under us, as it would for every program that
        // maps models; nothing that bounds an access is read twice from the mapping, except string lengths,
        // which are checked on each reading.
        let pages = unsafe { memmap2::Mmap::map(&file) }.map_err(|e| Error::io(path, e))?;
        Ok(Map { path: path.to_path_buf(), pages: Some(pages), made: vec![] })
    }

    /// Bytes in memory that were made from those of the file at `path`.
    pub fn made(path: &Path, made: Vec<u8>) -> Map {
        Map { path: path.to_path_buf(), pages: None, made }
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        self.pages.as_deref().unwrap_or(&self.made)
    }

    /// Tells the system that the whole pages within `range` are not needed now. They stay readable: a later
    /// look brings them back from the file.
    pub fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Some(pages) = &self.pages {
            let (start, end) = (range.start.next_multiple_of(PAGE), range.end / PAGE * PAGE);
            if start < end {
                // SAFETY: the mapping is read-only and backed by a file, so dropped pages come back as they
                // were; nothing is lost and references stay valid. Advice that is refused changes nothing.
                let _ = unsafe {
                    pages.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, end - start)
                };
            }
        }
        #[cfg(not(unix))]
        let _ = range;
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Opens a file after making sure that it is one: opening a pipe would wait, a device would never end.
pub(crate) fn open_regular(path: &Path) -> Result<File> {
    let kind = std::fs::metadata(path).map_err(|e| Error::io(path, e))?.file_type();
    if !kind.is_file() {
        return Err(Error::NotAFile { path: path.to_path_buf(), found: describe(kind) });
    }
    File::open(path).map_err(|e| Error::io(path, e))
}

fn describe(kind: FileType) -> &'static str {
    if kind.is_dir() { "a folder" } else { "a device, pipe or socket" }
}
