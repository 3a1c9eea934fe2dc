//! The tensor list of a GGUF file: names, types, shapes, and where the numbers lie.

use super::cursor::Cursor;
use super::{Metadata, Value};
use crate::mmap::Map;
use crate::tensor::product;
use crate::{DType, Error, Result, Tensor, Unreadable};
use std::collections::BTreeMap;
use std::sync::Arc;

/// ggml's own limits: dimensions of a tensor; its names have at most 64 bytes, ours may be longer.
const MAX_DIMS: u32 = 4;
const MAX_NAME: usize = 512;
/// No model has so many layers; a larger index in a name is nonsense that someone may allocate by.
const MAX_BLOCK: u64 = 65_535;
/// ggml's default, and a bound far above any page size.
const DEFAULT_ALIGNMENT: u64 = 32;
const MAX_ALIGNMENT: u64 = 1 << 24;

/// An entry of the list; the offset counts from the start of the data.
pub(super) struct Info {
    name: String,
    shape: Vec<usize>,
    ggml: u32,
    offset: u64,
}

/// Reads the list.
pub(super) fn read_infos(cursor: &mut Cursor<'_>, count: u64) -> Result<Vec<Info>> {
    (0..count).map(|i| read_info(cursor, i)).collect()
}

fn read_info(cursor: &mut Cursor<'_>, i: u64) -> Result<Info> {
    let name = cursor.string(&format!("name of tensor {i}"))?.to_string();
    check_name(cursor, &name, i)?;
    let field = format!("tensor `{name}`");
    let n_dims = cursor.u32(&field)?;
    if n_dims > MAX_DIMS {
        let problem = format!("{n_dims} dimensions, at most {MAX_DIMS} are allowed");
        return Err(Error::malformed(cursor.path(), field, problem));
    }
    let mut shape = (0..n_dims).map(|_| dimension(cursor, &field)).collect::<Result<Vec<_>>>()?;
    shape.reverse();
    Ok(Info { name, shape, ggml: cursor.u32(&field)?, offset: cursor.u64(&field)? })
}

/// A dimension must fit a signed 64-bit number, as ggml has it, and this machine.
fn dimension(cursor: &mut Cursor<'_>, field: &str) -> Result<usize> {
    let d = cursor.u64(field)?;
    i64::try_from(d).ok().and_then(|d| usize::try_from(d).ok()).ok_or_else(|| {
        Error::malformed(cursor.path(), field, format!("dimension {} ({d} unsigned) is negative", d as i64))
    })
}

fn check_name(cursor: &Cursor<'_>, name: &str, i: u64) -> Result<()> {
    if name.is_empty() || name.len() > MAX_NAME {
        let problem = format!("{} bytes long, expected 1 to {MAX_NAME}", name.len());
        return Err(Error::malformed(cursor.path(), format!("name of tensor {i}"), problem));
    }
    let Some(rest) = name.strip_prefix("blk.") else { return Ok(()) };
    let digits = rest.split('.').next().unwrap_or(rest);
    match digits.parse::<u64>() {
        Ok(n) if n <= MAX_BLOCK => Ok(()),
        Ok(n) => {
            let problem = format!("layer {n}, models have at most {MAX_BLOCK}");
            Err(Error::malformed(cursor.path(), format!("tensor `{name}`"), problem))
        }
        Err(_) => {
            let problem = format!("`{digits}` is no layer number");
            Err(Error::malformed(cursor.path(), format!("tensor `{name}`"), problem))
        }
    }
}

/// Where the data begins: the end of the list, rounded up to the file's alignment.
pub(super) fn data_start(cursor: &Cursor<'_>, metadata: &Metadata) -> Result<Data> {
    let alignment = alignment(cursor, metadata)?;
    let start = (cursor.at as u64).checked_next_multiple_of(alignment).unwrap_or(u64::MAX);
    Ok(Data { start, alignment })
}

/// The data part of the file.
pub(super) struct Data {
    start: u64,
    alignment: u64,
}

fn alignment(cursor: &Cursor<'_>, metadata: &Metadata) -> Result<u64> {
    const KEY: &str = "general.alignment";
    let found = match metadata.get(KEY) {
        None => return Ok(DEFAULT_ALIGNMENT),
        Some(Value::Unsigned(n)) => *n,
        Some(other) => {
            let problem = format!("found {}, expected an unsigned integer", other.kind());
            return Err(Error::malformed(cursor.path(), KEY, problem));
        }
    };
    if !found.is_power_of_two() || found > MAX_ALIGNMENT {
        let problem = format!("found {found}, expected a power of two up to {MAX_ALIGNMENT}");
        return Err(Error::malformed(cursor.path(), KEY, problem));
    }
    Ok(found)
}

/// The tensors by name, and those of unknown type.
pub(super) type Placed = (BTreeMap<String, Tensor>, BTreeMap<String, Unreadable>);

/// Checks every entry against the file and the others, and makes tensors of them.
pub(super) fn place(map: &Arc<Map>, infos: Vec<Info>, data: Data) -> Result<Placed> {
    let spans = infos.iter().map(|info| span(map, info, &data)).collect::<Result<Vec<_>>>()?;
    check_size(map, &infos, &spans)?;
    let (mut tensors, mut unreadable) = (BTreeMap::new(), BTreeMap::new());
    for (info, &(start, end, dtype)) in infos.iter().zip(&spans) {
        if tensors.contains_key(&info.name) || unreadable.contains_key(&info.name) {
            let problem = "the name stands twice in the file";
            return Err(Error::malformed(map.path(), format!("tensor `{}`", info.name), problem));
        }
        let (name, shape) = (info.name.clone(), info.shape.clone());
        match dtype {
            Some(dtype) => {
                let range = start as usize..end as usize;
                tensors.insert(name.clone(), Tensor::new(name, dtype, shape, Arc::clone(map), range));
            }
            None => {
                unreadable.insert(name, Unreadable { kind: format!("ggml type {}", info.ggml), shape });
            }
        }
    }
    check_overlap(map, &infos, &spans)?;
    Ok((tensors, unreadable))
}

/// Start and end in the file, and the type. A tensor of unknown type is taken to have no bytes.
type Span = (u64, u64, Option<DType>);

fn span(map: &Map, info: &Info, data: &Data) -> Result<Span> {
    let bad = |problem: String| Error::malformed(map.path(), format!("tensor `{}`", info.name), problem);
    if !info.offset.is_multiple_of(data.alignment) {
        return Err(bad(format!(
            "offset {} is no multiple of the alignment {}",
            info.offset, data.alignment
        )));
    }
    let elements = product(&info.shape).ok_or_else(|| bad(format!("shape {:?} overflows", info.shape)))?;
    let dtype = DType::from_ggml(info.ggml);
    let bytes = dtype.map_or(Ok(0), |dtype| size(dtype, &info.shape, elements).map_err(bad))?;
    let start = data.start.checked_add(info.offset);
    match start.and_then(|start| Some((start, start.checked_add(bytes as u64)?))) {
        Some((start, end)) => Ok((start, end, dtype)),
        None => Err(bad(format!("offset {} lies outside the file", info.offset))),
    }
}

/// Bytes of a tensor: each row must be whole blocks.
fn size(dtype: DType, shape: &[usize], elements: usize) -> std::result::Result<usize, String> {
    let format = dtype.format();
    let row = shape.last().copied().unwrap_or(1);
    if row % format.block_len != 0 {
        return Err(format!(
            "rows of {row} numbers are no whole {} blocks of {}",
            format.name, format.block_len
        ));
    }
    dtype.bytes(elements).ok_or_else(|| format!("the bytes of shape {shape:?} as {} overflow", format.name))
}

/// The file must reach to the end of its last tensor; the message says how long it should be.
fn check_size(map: &Map, infos: &[Info], spans: &[Span]) -> Result<()> {
    let size = map.bytes().len();
    let last = infos.iter().zip(spans).max_by_key(|(_, span)| span.1);
    match last {
        Some((info, &(_, end, _))) if end > size as u64 => {
            Err(Error::truncated(map.path(), format!("tensor `{}` {:?}", info.name, info.shape), end, size))
        }
        _ => Ok(()),
    }
}

fn check_overlap(map: &Map, infos: &[Info], spans: &[Span]) -> Result<()> {
    let mut order: Vec<usize> = (0..infos.len()).filter(|&i| spans[i].0 < spans[i].1).collect();
    order.sort_by_key(|&i| spans[i].0);
    for pair in order.windows(2) {
        let (a, b) = (pair[0], pair[1]);
        if spans[b].0 < spans[a].1 {
            let problem = format!("its bytes overlap those of tensor `{}`", infos[a].name);
            return Err(Error::malformed(map.path(), format!("tensor `{}`", infos[b].name), problem));
        }
    }
    Ok(())
}
