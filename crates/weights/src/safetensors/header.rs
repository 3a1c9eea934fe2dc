//! The JSON header of a safetensors file, strictly.

use crate::mmap::Map;
use crate::tensor::product;
use crate::{DType, Error, Result, sniff};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// The reference library's own limit.
const MAX_HEADER: u64 = 100_000_000;

/// Types of the format: name, bits per number, and ours where it is read.
const TYPES: &[(&str, usize, Option<DType>)] = &[
    ("F32", 32, Some(DType::F32)),
    ("F16", 16, Some(DType::F16)),
    ("BF16", 16, Some(DType::BF16)),
    ("F64", 64, Some(DType::F64)),
    ("I8", 8, Some(DType::I8)),
    ("I16", 16, Some(DType::I16)),
    ("I32", 32, Some(DType::I32)),
    ("I64", 64, Some(DType::I64)),
    ("BOOL", 8, None),
    ("U8", 8, None),
    ("U16", 16, None),
    ("U32", 32, None),
    ("U64", 64, None),
    ("F4", 4, None),
    ("F6_E2M3", 6, None),
    ("F6_E3M2", 6, None),
    ("F8_E4M3", 8, None),
    ("F8_E5M2", 8, None),
    ("F8_E8M0", 8, None),
    ("F8_E4M3FNUZ", 8, None),
    ("F8_E5M2FNUZ", 8, None),
    ("C64", 64, None),
];

/// A checked header.
pub(super) struct Header {
    pub metadata: BTreeMap<String, String>,
    pub entries: Vec<Entry>,
}

/// A checked entry: `range` lies in the file and has the size that type and shape demand.
pub(super) struct Entry {
    pub name: String,
    pub dtype: std::result::Result<DType, &'static str>,
    pub shape: Vec<usize>,
    pub range: Range<usize>,
}

/// Reads and checks the header of a mapped file.
pub(super) fn read(map: &Map) -> Result<Header> {
    let (json, data) = split(map)?;
    let raw = parse(map, json)?;
    let mut entries = Vec::with_capacity(raw.tensors.len());
    for (name, raw) in raw.tensors {
        let field = format!("tensor `{name}`");
        let problem = |problem| Error::malformed(map.path(), field.as_str(), problem);
        entries.push(check(name, raw, data, map.bytes().len()).map_err(problem)?);
    }
    check_cover(map, &mut entries, data)?;
    Ok(Header { metadata: raw.metadata, entries })
}

/// The header's JSON and where the data begins.
fn split(map: &Map) -> Result<(&[u8], usize)> {
    let bytes = map.bytes();
    let Some(length) = bytes.first_chunk::<8>().map(|b| u64::from_le_bytes(*b)) else {
        return Err(Error::truncated(map.path(), "header length", 8, bytes.len()));
    };
    let room = bytes.len() as u64 - 8;
    if length <= room && length <= MAX_HEADER {
        let end = 8 + length as usize;
        return Ok((&bytes[8..end], end));
    }
    if let Some(found) = sniff::looks_like(bytes) {
        return Err(Error::OtherKind { path: map.path().to_path_buf(), wanted: "safetensors", found });
    }
    if length > MAX_HEADER {
        let problem = format!("{length} bytes, at most {MAX_HEADER} are accepted; is it a safetensors file?");
        return Err(Error::malformed(map.path(), "header length", problem));
    }
    Err(Error::truncated(map.path(), "header", length + 8, bytes.len()))
}

fn parse(map: &Map, json: &[u8]) -> Result<RawHeader> {
    if let Err(e) = std::str::from_utf8(json) {
        let problem = format!("not UTF-8 at byte {} of the file", 8 + e.valid_up_to());
        return Err(Error::malformed(map.path(), "header", problem));
    }
    serde_json::from_slice(json).map_err(|e| Error::malformed(map.path(), "header", e.to_string()))
}

fn check(name: String, raw: RawEntry, data: usize, file: usize) -> std::result::Result<Entry, String> {
    let Some(&(kind, bits, dtype)) = TYPES.iter().find(|row| row.0 == raw.dtype) else {
        return Err(format!("dtype `{}` is unknown to the format", raw.dtype.escape_debug()));
    };
    let shape: Option<Vec<usize>> = raw.shape.iter().map(|&d| usize::try_from(d).ok()).collect();
    let expected = shape.as_deref().and_then(product).and_then(|n| n.checked_mul(bits));
    let (Some(shape), Some(expected)) = (shape, expected) else {
        return Err(format!("shape {:?} of {kind} overflows", raw.shape));
    };
    let [begin, end] = raw.data_offsets;
    if begin > end {
        return Err(format!("data_offsets [{begin}, {end}] end before they begin"));
    }
    if end > (file - data) as u64 {
        let (needed, whole) = (end.saturating_add(data as u64), file);
        return Err(format!(
            "data_offsets [{begin}, {end}] need {needed} bytes in the file, found {whole}; \
            the file is truncated: download it again"
        ));
    }
    if expected % 8 != 0 || (end - begin) as usize != expected / 8 {
        let found = end - begin;
        return Err(format!(
            "data_offsets hold {found} bytes, but shape {shape:?} of {kind} takes {}",
            expected / 8
        ));
    }
    let range = data + begin as usize..data + end as usize;
    Ok(Entry { name, dtype: dtype.ok_or(kind), shape, range })
}

/// The data must be covered from end to end, without gap or overlap.
fn check_cover(map: &Map, entries: &mut [Entry], data: usize) -> Result<()> {
    entries.sort_by_key(|e| (e.range.start, e.range.end));
    let mut at = data;
    for entry in entries.iter() {
        if entry.range.start != at {
            let how =
                if entry.range.start < at { "overlaps the one before it" } else { "leaves a gap before it" };
            let problem = format!("begins at data offset {}, which {how}", entry.range.start - data);
            return Err(Error::malformed(map.path(), format!("tensor `{}`", entry.name), problem));
        }
        at = entry.range.end;
    }
    let trailing = map.bytes().len() - at;
    if trailing > 0 {
        let problem = format!("{trailing} bytes follow the last tensor; the format allows none");
        return Err(Error::malformed(map.path(), "data", problem));
    }
    Ok(())
}

/// A tensor's entry as it stands in the JSON. Unknown and repeated fields are refused.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

struct RawHeader {
    metadata: BTreeMap<String, String>,
    tensors: BTreeMap<String, RawEntry>,
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<RawHeader, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = RawHeader;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<RawHeader, A::Error> {
        let (mut metadata, mut tensors) = (None, BTreeMap::new());
        while let Some(key) = map.next_key::<String>()? {
            let named = |e: A::Error| A::Error::custom(format!("`{}`: {e}", key.escape_debug()));
            let twice = if key == "__metadata__" {
                metadata.replace(map.next_value::<BTreeMap<String, String>>().map_err(named)?).is_some()
            } else {
                let entry = map.next_value().map_err(named)?;
                tensors.insert(key.clone(), entry).is_some()
            };
            if twice {
                return Err(A::Error::custom(format!("`{}` stands twice", key.escape_debug())));
            }
        }
        Ok(RawHeader { metadata: metadata.unwrap_or_default(), tensors })
    }
}
