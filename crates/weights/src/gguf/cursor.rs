//! Reads little-endian fields off a mapped file, never past its end.

use crate::mmap::Map;
use crate::{Error, Result};
use std::path::Path;
use std::sync::Arc;

/// A position in a mapped file.
pub(super) struct Cursor<'a> {
    pub map: &'a Arc<Map>,
    pub at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(map: &'a Arc<Map>) -> Cursor<'a> {
        Cursor { map, at: 0 }
    }

    pub fn path(&self) -> &'a Path {
        self.map.path()
    }

    pub fn left(&self) -> usize {
        self.map.bytes().len() - self.at
    }

    /// The next `n` bytes; `field` is named when they are not there.
    pub fn take(&mut self, n: u64, field: &str) -> Result<&'a [u8]> {
        if n > self.left() as u64 {
            let end = (self.at as u64).saturating_add(n);
            return Err(Error::truncated(self.path(), field, end, self.map.bytes().len()));
        }
        let start = self.at;
        self.at += n as usize;
        Ok(&self.map.bytes()[start..self.at])
    }

    pub fn array<const N: usize>(&mut self, field: &str) -> Result<[u8; N]> {
        let bytes = self.take(N as u64, field)?;
        Ok(std::array::from_fn(|i| bytes[i]))
    }

    pub fn u32(&mut self, field: &str) -> Result<u32> {
        self.array(field).map(u32::from_le_bytes)
    }

    pub fn u64(&mut self, field: &str) -> Result<u64> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// A string: its length in bytes as u64, then UTF-8 without terminator.
    pub fn string(&mut self, field: &str) -> Result<&'a str> {
        let length = self.u64(field)?;
        let start = self.at;
        let bytes = self.take(length, field)?;
        std::str::from_utf8(bytes).map_err(|e| {
            let problem = format!("not UTF-8 at byte {}", start + e.valid_up_to());
            Error::malformed(self.path(), field, problem)
        })
    }
}
