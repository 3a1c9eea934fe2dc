//! A model file mapped into memory, read-only: the weights are used where the file lies.
//!
//! The only `unsafe` of this crate.

use crate::{Error, Result};
use std::fs::{File, FileType};
use std::path::{Path, PathBuf};

/// A mapped file. Empty files are never mapped: they hold an empty slice.
#[derive(Debug)]
pub(crate) struct Map {
    path: PathBuf,
    pages: Option<memmap2::Mmap>,
}

impl Map {
    /// Maps the whole of a regular file (links are followed).
    pub fn open(path: &Path) -> Result<Map> {
        let file = open_regular(path)?;
        let size = file.metadata().map_err(|e| Error::io(path, e))?.len();
        if size == 0 {
            return Ok(Map { path: path.to_path_buf(), pages: None });
        }
        // SAFETY: the mapping is private to this process, read-only, and lives as long as `Map`. Another
        // process that writes into the file changes weights under us, as it would for every program that
        // maps models; nothing that bounds an access is read twice from the mapping, except string lengths,
        // which are checked on each reading.
        let pages = unsafe { memmap2::Mmap::map(&file) }.map_err(|e| Error::io(path, e))?;
        Ok(Map { path: path.to_path_buf(), pages: Some(pages) })
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        self.pages.as_deref().unwrap_or(&[])
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
