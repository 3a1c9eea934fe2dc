//! The small model that comes inside the program, for a first minute without a network.
//!
//! It is loaded through the same code as any other: the program writes it once to the user's cache
//! folder and names that file.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cache;

/// What `-m` calls it.
pub const NAME: &str = "influence-tiny";

const BYTES: &[u8] = include_bytes!("../../../assets/influence-tiny.gguf");

/// The model as a file.
///
/// # Errors
/// No folder can be written to, neither the user's cache nor the one for temporary files.
pub fn path() -> Result<PathBuf> {
    let mut last = None;
    for folder in cache::folders() {
        match place(&folder) {
            Ok(path) => return Ok(path),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| anyhow::anyhow!("there is no folder for temporary files")))
}

/// Writes the file unless it is there already, whole: each release has a folder of its own.
fn place(folder: &Path) -> Result<PathBuf> {
    let folder = &folder.join(format!("{}-{:016x}", env!("CARGO_PKG_VERSION"), fingerprint(BYTES)));
    let path = folder.join(format!("{NAME}.gguf"));
    let there = std::fs::metadata(&path).is_ok_and(|m| m.is_file() && m.len() == BYTES.len() as u64);
    if !there {
        let what = || format!("{}: cannot write the model that ships with influence", path.display());
        write_whole(folder, &path).with_context(what)?;
    }
    Ok(path)
}

/// Another start of the program may be writing it too; the rename makes one of them win.
fn write_whole(folder: &Path, path: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let part = folder.join(format!("{NAME}.{}.part", std::process::id()));
    let mut file = std::fs::File::create(&part)?;
    file.write_all(BYTES)?;
    file.sync_all()?;
    std::fs::rename(&part, path)
}

/// FNV-1a, 64 bits: tells one release's file from another's, the same on every machine.
pub fn fingerprint(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ byte as u64).wrapping_mul(0x0100_0000_01b3))
}
