//! The fixed head of a GGUF file: magic, version, how many tensors and keys.

use super::cursor::Cursor;
use crate::{Error, Result, sniff};

/// Limits far above any real model, which keep a hostile count from costing memory.
const MAX_TENSORS: u64 = 65_536;
const MAX_KEYS: u64 = 65_536;

/// How many entries follow.
pub(super) struct Counts {
    pub tensors: u64,
    pub metadata: u64,
}

/// Reads and checks the head.
pub(super) fn read(cursor: &mut Cursor<'_>) -> Result<Counts> {
    check_magic(cursor)?;
    check_version(cursor)?;
    let tensors = count(cursor, "tensor count", MAX_TENSORS)?;
    let metadata = count(cursor, "metadata key count", MAX_KEYS)?;
    Ok(Counts { tensors, metadata })
}

fn check_magic(cursor: &mut Cursor<'_>) -> Result<()> {
    let bytes = cursor.map.bytes();
    if bytes.is_empty() {
        return Err(Error::truncated(cursor.path(), "GGUF header", 24, 0));
    }
    if bytes.starts_with(b"GGUF") {
        cursor.at = 4;
        return Ok(());
    }
    let head = &bytes[..bytes.len().min(4)];
    let found =
        sniff::looks_like(bytes).unwrap_or_else(|| format!("nothing known: it begins with {head:02x?}"));
    Err(Error::OtherKind { path: cursor.path().to_path_buf(), wanted: "GGUF", found })
}

fn check_version(cursor: &mut Cursor<'_>) -> Result<()> {
    let version = cursor.u32("GGUF version")?;
    let problem = match version {
        2 | 3 => return Ok(()),
        v if v & 0xffff == 0 && v != 0 => {
            format!("the file is big-endian (version {}); only little-endian files are read", v.swap_bytes())
        }
        v => format!("found version {v}, versions 2 and 3 are read"),
    };
    Err(Error::malformed(cursor.path(), "GGUF version", problem))
}

/// A count that no real file exceeds.
fn count(cursor: &mut Cursor<'_>, field: &str, max: u64) -> Result<u64> {
    let n = cursor.u64(field)?;
    if n > max {
        return Err(Error::malformed(cursor.path(), field, format!("{n}, at most {max} are accepted")));
    }
    Ok(n)
}
