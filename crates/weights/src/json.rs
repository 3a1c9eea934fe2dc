//! JSON side files of a model: config.json, tokenizer_config.json, an index of shards.

use crate::mmap::open_regular;
use crate::{Error, Result};
use std::io::Read;
use std::path::Path;

/// Reads a JSON file of at most `max_bytes`, nested at most 128 deep; a byte order mark is accepted.
///
/// Errors name the file and the line and column.
pub fn read_json(path: &Path, max_bytes: u64) -> Result<serde_json::Value> {
    let bytes = read_bounded(path, max_bytes)?;
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    std::str::from_utf8(text).map_err(|e| {
        Error::malformed(path, format!("byte {}", e.valid_up_to()), "not UTF-8; JSON must be")
    })?;
    serde_json::from_slice(text).map_err(|e| Error::malformed(path, "JSON", explain(&e, text)))
}

/// A whole file in memory, refused when it is larger than `max_bytes` (also when it grows meanwhile).
fn read_bounded(path: &Path, max_bytes: u64) -> Result<Vec<u8>> {
    let file = open_regular(path)?;
    let mut bytes = Vec::new();
    file.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
    if bytes.len() as u64 > max_bytes {
        let problem = format!("larger than the {max_bytes} bytes that such a file may have");
        return Err(Error::malformed(path, "size", problem));
    }
    Ok(bytes)
}

fn explain(error: &serde_json::Error, text: &[u8]) -> String {
    if let Some(found) = crate::sniff::looks_like(text).filter(|_| text.first() != Some(&b'{')) {
        return format!("{error} (the file looks like {found})");
    }
    error.to_string()
}
