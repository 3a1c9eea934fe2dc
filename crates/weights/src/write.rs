//! Writes GGUF files, version 3 (ggml/docs/gguf.md): what `gguf.rs` reads.
//!
//! The file grows under another name beside its own and is renamed when it is whole, so that nothing half
//! written is ever taken for a model. Tensors are streamed; memory holds none of them.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::gguf::{Array, Value};
use crate::{DType, Error, Result};

/// Every tensor begins at a multiple of this many bytes (GGUF's default).
const ALIGNMENT: u64 = 32;
/// Bytes collected before the system is asked to write.
const BUFFER: usize = 1 << 20;

/// A metadata value in the type that it will have in the file.
#[derive(Clone, Debug, PartialEq)]
pub enum Field {
    /// UINT32.
    U32(u32),
    /// INT32.
    I32(i32),
    /// FLOAT32.
    F32(f32),
    /// BOOL.
    Bool(bool),
    /// STRING.
    String(String),
    /// UINT64.
    U64(u64),
    /// INT64.
    I64(i64),
    /// FLOAT64.
    F64(f64),
    /// ARRAY of fields of one type, none of them an array.
    List(Vec<Field>),
    /// ARRAY of STRING.
    Strings(Vec<String>),
    /// ARRAY of UINT8.
    Bytes(Vec<u8>),
}

impl Field {
    /// Number of the type in the file.
    fn id(&self) -> u32 {
        match self {
            Field::U32(_) => 4,
            Field::I32(_) => 5,
            Field::F32(_) => 6,
            Field::Bool(_) => 7,
            Field::String(_) => 8,
            Field::U64(_) => 10,
            Field::I64(_) => 11,
            Field::F64(_) => 12,
            Field::List(_) | Field::Strings(_) | Field::Bytes(_) => 9,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Field::U32(n) => out.extend(n.to_le_bytes()),
            Field::I32(n) => out.extend(n.to_le_bytes()),
            Field::F32(x) => out.extend(x.to_le_bytes()),
            Field::Bool(b) => out.push((*b).into()),
            Field::String(s) => string(s, out),
            Field::U64(n) => out.extend(n.to_le_bytes()),
            Field::I64(n) => out.extend(n.to_le_bytes()),
            Field::F64(x) => out.extend(x.to_le_bytes()),
            Field::List(list) => {
                array(list.first().map_or(4, Field::id), list.len(), out);
                list.iter().for_each(|field| field.write(out));
            }
            Field::Strings(list) => {
                array(8, list.len(), out);
                list.iter().for_each(|s| string(s, out));
            }
            Field::Bytes(bytes) => {
                array(0, bytes.len(), out);
                out.extend(bytes);
            }
        }
    }
}

fn array(element: u32, len: usize, out: &mut Vec<u8>) {
    out.extend(element.to_le_bytes());
    out.extend((len as u64).to_le_bytes());
}

fn string(text: &str, out: &mut Vec<u8>) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

/// What a GGUF said, to be said again. The reader widens single integers and floats; they are written in 32
/// bits where they fit, which is the type that GGUF's own keys have.
impl From<&Value> for Field {
    fn from(value: &Value) -> Field {
        match value {
            Value::Bool(b) => Field::Bool(*b),
            Value::Unsigned(n) => u32::try_from(*n).map_or(Field::U64(*n), Field::U32),
            Value::Signed(n) => i32::try_from(*n).map_or(Field::I64(*n), Field::I32),
            Value::Float(x) if f64::from(*x as f32) == *x || x.is_nan() => Field::F32(*x as f32),
            Value::Float(x) => Field::F64(*x),
            Value::String(s) => Field::String(s.clone()),
            Value::Array(a) => again(a, value.kind()),
        }
    }
}

/// Array elements keep their width, up to that integers under 32 bits become 32 (bytes stay).
fn again(list: &Array, kind: &str) -> Field {
    if let Some(strings) = list.strings() {
        return Field::Strings(strings.map(str::to_string).collect());
    }
    let field = |value: Value| match (value, kind) {
        (Value::Unsigned(n), "array of u64") => Field::U64(n),
        (Value::Signed(n), "array of i64") => Field::I64(n),
        (Value::Float(x), "array of f64") => Field::F64(x),
        (Value::Float(x), _) => Field::F32(x as f32),
        (value, _) => Field::from(&value),
    };
    match kind {
        "array of u8" => Field::Bytes(list.integers().unwrap_or_default().iter().map(|&n| n as u8).collect()),
        _ => Field::List(list.iter().map(field).collect()),
    }
}

/// A tensor that is going to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// Its name.
    pub name: String,
    /// How its numbers will be stored.
    pub dtype: DType,
    /// Row-major, outermost first, as in [`crate::Tensor::shape`].
    pub shape: Vec<usize>,
}

impl Planned {
    /// Its bytes; `None` when its rows are not whole blocks.
    pub fn bytes(&self) -> Option<u64> {
        let row = self.shape.last().copied().unwrap_or(1);
        if !row.is_multiple_of(self.dtype.format().block_len) {
            return None;
        }
        self.dtype.bytes(crate::tensor::product(&self.shape)?).map(|n| n as u64)
    }
}

/// A GGUF file in the making. Dropped before [`GgufWriter::finish`], it leaves nothing behind.
#[derive(Debug)]
pub struct GgufWriter {
    target: PathBuf,
    part: PathBuf,
    file: Option<BufWriter<File>>,
    /// Name and bytes of each tensor that has been announced.
    sizes: Vec<(String, u64)>,
    /// The tensor that is being written, and how many of its bytes are.
    at: usize,
    written: u64,
}

impl GgufWriter {
    /// Starts the file `target`: metadata and the list of tensors, whose bytes follow in the same order.
    ///
    /// # Errors
    /// The folder cannot be written to; a tensor whose rows are not whole blocks of its type.
    pub fn create(target: &Path, metadata: &[(String, Field)], tensors: &[Planned]) -> Result<GgufWriter> {
        let mut sizes = Vec::with_capacity(tensors.len());
        for tensor in tensors {
            let bytes = tensor.bytes().ok_or_else(|| {
                let problem =
                    format!("shape {:?} is no whole blocks of {}", tensor.shape, tensor.dtype.format().name);
                Error::malformed(target, format!("tensor `{}`", tensor.name), problem)
            })?;
            sizes.push((tensor.name.clone(), bytes));
        }
        let head = head(metadata, tensors, &sizes);
        let part = part_name(target);
        let file = File::create(&part).map_err(|e| Error::io(target, e))?;
        let file = Some(BufWriter::with_capacity(BUFFER, file));
        let mut writer = GgufWriter { target: target.to_path_buf(), part, file, sizes, at: 0, written: 0 };
        writer.put(&head)?;
        Ok(writer)
    }

    /// Appends bytes of the tensor whose turn it is: all of them or some, in order.
    ///
    /// # Errors
    /// The disk is full or gone; more bytes than the tensors were announced with.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        loop {
            let Some(size) = self.sizes.get(self.at).map(|(_, size)| *size) else {
                return if bytes.is_empty() {
                    Ok(())
                } else {
                    Err(self.wrong("more bytes than were announced"))
                };
            };
            let now = usize::try_from(size - self.written).unwrap_or(usize::MAX).min(bytes.len());
            self.put(&bytes[..now])?;
            self.written += now as u64;
            bytes = &bytes[now..];
            if self.written < size {
                return Ok(());
            }
            self.put(&vec![0; padding(size) as usize])?;
            (self.at, self.written) = (self.at + 1, 0);
        }
    }

    /// Makes the file whole: on disk, checked by being read, and under its name.
    ///
    /// # Errors
    /// A tensor lacks bytes; the disk is full or gone.
    pub fn finish(mut self) -> Result<()> {
        self.write(&[])?;
        if let Some((name, size)) = self.sizes.get(self.at) {
            let problem = format!("tensor `{name}` has {} of its {size} bytes", self.written);
            return Err(self.wrong(&problem));
        }
        let Some(file) = self.file.take() else { return Ok(()) };
        let io = |e| Error::io(&self.target, e);
        let file = file.into_inner().map_err(|e| io(e.into_error()))?;
        file.sync_all().map_err(io)?;
        drop(file);
        crate::Gguf::open(&self.part)?;
        std::fs::rename(&self.part, &self.target).map_err(io)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let target = &self.target;
        self.file.as_mut().map_or(Ok(()), |file| file.write_all(bytes)).map_err(|e| Error::io(target, e))
    }

    fn wrong(&self, problem: &str) -> Error {
        Error::malformed(&self.target, "writing", problem)
    }
}

impl Drop for GgufWriter {
    fn drop(&mut self) {
        // What is still buffered is not worth writing; after a rename there is nothing of this name.
        if let Some(file) = self.file.take() {
            drop(file.into_parts());
        }
        let _ = std::fs::remove_file(&self.part);
    }
}

/// Beside the target, so that the rename stays on one disk; of this process, so that two do not meet.
fn part_name(target: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}.{}.part", std::process::id()))
}

/// Zeros after `size` bytes up to the next tensor.
fn padding(size: u64) -> u64 {
    size.next_multiple_of(ALIGNMENT) - size
}

fn head(metadata: &[(String, Field)], tensors: &[Planned], sizes: &[(String, u64)]) -> Vec<u8> {
    let mut out = b"GGUF\x03\0\0\0".to_vec();
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    for (key, field) in metadata {
        string(key, &mut out);
        out.extend(field.id().to_le_bytes());
        field.write(&mut out);
    }
    let mut offset = 0;
    for (tensor, (_, size)) in tensors.iter().zip(sizes) {
        string(&tensor.name, &mut out);
        out.extend((tensor.shape.len() as u32).to_le_bytes());
        // GGUF counts the innermost dimension first.
        tensor.shape.iter().rev().for_each(|&d| out.extend((d as u64).to_le_bytes()));
        out.extend(tensor.dtype.format().ggml.to_le_bytes());
        out.extend(u64::to_le_bytes(offset));
        offset += size + padding(*size);
    }
    out.resize(out.len().next_multiple_of(ALIGNMENT as usize), 0);
    out
}
