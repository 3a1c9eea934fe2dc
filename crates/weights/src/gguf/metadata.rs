//! What a GGUF file says about its model: keys and typed values.
//!
//! Arrays stay in the mapped file: a vocabulary of 150,000 strings costs eight bytes each.

use super::cursor::Cursor;
use crate::mmap::Map;
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The longest key the format allows.
const MAX_KEY: usize = 65_535;

/// A metadata value. The integer types of the file are widened.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// BOOL.
    Bool(bool),
    /// UINT8, UINT16, UINT32, UINT64.
    Unsigned(u64),
    /// INT8, INT16, INT32, INT64.
    Signed(i64),
    /// FLOAT32, FLOAT64.
    Float(f64),
    /// STRING.
    String(String),
    /// ARRAY, of any of the above.
    Array(Array),
}

impl Value {
    /// The kind, as error messages name it.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Bool(_) => "bool",
            Value::Unsigned(_) => "unsigned integer",
            Value::Signed(_) => "signed integer",
            Value::Float(_) => "float",
            Value::String(_) => "string",
            Value::Array(a) => a.element.array_name(),
        }
    }
}

/// The element types, by their numbers in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Element {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    U64,
    I64,
    F64,
}

/// One row per element: number in the file, bytes each (0: varying), the name of an array of it.
const ELEMENTS: &[(Element, u32, usize, &str)] = &[
    (Element::U8, 0, 1, "array of u8"),
    (Element::I8, 1, 1, "array of i8"),
    (Element::U16, 2, 2, "array of u16"),
    (Element::I16, 3, 2, "array of i16"),
    (Element::U32, 4, 4, "array of u32"),
    (Element::I32, 5, 4, "array of i32"),
    (Element::F32, 6, 4, "array of f32"),
    (Element::Bool, 7, 1, "array of bool"),
    (Element::String, 8, 0, "array of strings"),
    (Element::U64, 10, 8, "array of u64"),
    (Element::I64, 11, 8, "array of i64"),
    (Element::F64, 12, 8, "array of f64"),
];
const ARRAY: u32 = 9;

impl Element {
    fn from_id(id: u32) -> Option<Element> {
        ELEMENTS.iter().find(|row| row.1 == id).map(|row| row.0)
    }

    fn row(self) -> &'static (Element, u32, usize, &'static str) {
        ELEMENTS.iter().find(|row| row.0 == self).unwrap_or(&ELEMENTS[0])
    }

    fn size(self) -> usize {
        self.row().2
    }

    fn array_name(self) -> &'static str {
        self.row().3
    }

    /// A number or bool from exactly `size()` bytes. The bytes of a bool were checked to be 0 or 1.
    fn decode(self, b: &[u8]) -> Option<Value> {
        Some(match self {
            Element::U8 => Value::Unsigned((*b.first()?).into()),
            Element::I8 => Value::Signed((*b.first()? as i8).into()),
            Element::U16 => Value::Unsigned(u16::from_le_bytes(b.try_into().ok()?).into()),
            Element::I16 => Value::Signed(i16::from_le_bytes(b.try_into().ok()?).into()),
            Element::U32 => Value::Unsigned(u32::from_le_bytes(b.try_into().ok()?).into()),
            Element::I32 => Value::Signed(i32::from_le_bytes(b.try_into().ok()?).into()),
            Element::F32 => Value::Float(f32::from_le_bytes(b.try_into().ok()?).into()),
            Element::Bool => Value::Bool(*b.first()? != 0),
            Element::U64 => Value::Unsigned(u64::from_le_bytes(b.try_into().ok()?)),
            Element::I64 => Value::Signed(i64::from_le_bytes(b.try_into().ok()?)),
            Element::F64 => Value::Float(f64::from_le_bytes(b.try_into().ok()?)),
            Element::String => return None,
        })
    }
}

/// An array that lies in the mapped file. Cloning copies only the places of strings.
#[derive(Clone)]
pub struct Array {
    element: Element,
    len: usize,
    map: Arc<Map>,
    start: usize,
    /// Where each string's length stands; empty for numbers.
    strings: Vec<u64>,
}

impl Array {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The element at `i`; `None` past the end.
    pub fn get(&self, i: usize) -> Option<Value> {
        if i >= self.len {
            return None;
        }
        if self.element == Element::String {
            return self.string(i).map(|s| Value::String(s.to_string()));
        }
        let size = self.element.size();
        let at = self.start + i * size;
        self.element.decode(self.map.bytes().get(at..at + size)?)
    }

    /// All elements in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Value> + '_ {
        // `get` is None only past the end, or if the file was changed under us.
        (0..self.len).map(|i| self.get(i).unwrap_or(Value::Bool(false)))
    }

    /// The strings, in place; `None` when the elements are something else.
    pub fn strings(&self) -> Option<impl ExactSizeIterator<Item = &str> + '_> {
        (self.element == Element::String).then(|| (0..self.len).map(|i| self.string(i).unwrap_or("")))
    }

    /// Integers of any width; `None` when the elements are no integers or one does not fit.
    pub fn integers(&self) -> Option<Vec<i64>> {
        self.collect(|v| match v {
            Value::Unsigned(n) => i64::try_from(n).ok(),
            Value::Signed(n) => Some(n),
            _ => None,
        })
    }

    /// Floats (f64 rounded to f32); `None` when the elements are no floats.
    pub fn floats(&self) -> Option<Vec<f32>> {
        self.collect(|v| if let Value::Float(x) = v { Some(x as f32) } else { None })
    }

    /// Booleans; `None` when the elements are something else.
    pub fn bools(&self) -> Option<Vec<bool>> {
        self.collect(|v| if let Value::Bool(b) = v { Some(b) } else { None })
    }

    fn collect<T>(&self, pick: impl Fn(Value) -> Option<T>) -> Option<Vec<T>> {
        if self.element == Element::String {
            return None;
        }
        (0..self.len).map(|i| self.get(i).and_then(&pick)).collect()
    }

    /// Checked again on each reading, because another program may have changed the file.
    fn string(&self, i: usize) -> Option<&str> {
        let at = usize::try_from(*self.strings.get(i)?).ok()?;
        let bytes = self.map.bytes().get(at..)?;
        let length = usize::try_from(u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?)).ok()?;
        std::str::from_utf8(bytes.get(8..)?.get(..length)?).ok()
    }
}

impl fmt::Debug for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {}", self.element.array_name(), self.len)
    }
}

impl PartialEq for Array {
    fn eq(&self, other: &Array) -> bool {
        self.element == other.element && self.len == other.len && self.iter().eq(other.iter())
    }
}

/// Keys and values in the file's order.
#[derive(Clone, Debug)]
pub struct Metadata {
    path: PathBuf,
    entries: Vec<(String, Value)>,
    index: BTreeMap<String, usize>,
}

impl Metadata {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.index.get(key).map(|&i| &self.entries[i].1)
    }

    /// Keys and values in the file's order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> + '_ {
        self.entries.iter().map(|(k, v)| (k.as_str(), v))
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The file it was read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A string; an error when the key holds something else.
    pub fn string(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "string", |v| if let Value::String(s) = v { Some(s.as_str()) } else { None })
    }

    /// An integer of any type that is not negative; an error when the key holds something else.
    pub fn unsigned(&self, key: &str) -> Result<Option<u64>> {
        self.typed(key, "unsigned integer", |v| match v {
            Value::Unsigned(n) => Some(*n),
            Value::Signed(n) => u64::try_from(*n).ok(),
            _ => None,
        })
    }

    /// A float; an error when the key holds something else.
    pub fn float(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "float", |v| if let Value::Float(x) = v { Some(*x) } else { None })
    }

    /// A bool; an error when the key holds something else.
    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "bool", |v| if let Value::Bool(b) = v { Some(*b) } else { None })
    }

    /// An array of strings, in place; an error when the key holds something else.
    pub fn strings(&self, key: &str) -> Result<Option<Vec<&str>>> {
        self.array(key, "array of strings", |a| a.strings().map(Iterator::collect))
    }

    /// An array of floats; an error when the key holds something else.
    pub fn floats(&self, key: &str) -> Result<Option<Vec<f32>>> {
        self.array(key, "array of f32", Array::floats)
    }

    /// An array of integers; an error when the key holds something else.
    pub fn integers(&self, key: &str) -> Result<Option<Vec<i64>>> {
        self.array(key, "array of integers", Array::integers)
    }

    fn array<'a, T>(
        &'a self,
        key: &str,
        wanted: &str,
        pick: impl Fn(&'a Array) -> Option<T>,
    ) -> Result<Option<T>> {
        self.typed(key, wanted, |v| if let Value::Array(a) = v { pick(a) } else { None })
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        wanted: &str,
        pick: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        pick(value).map(Some).ok_or_else(|| {
            Error::malformed(&self.path, key, format!("found {}, expected {wanted}", value.kind()))
        })
    }
}

/// Reads `count` keys and values.
pub(super) fn read(cursor: &mut Cursor<'_>, count: u64) -> Result<Metadata> {
    let mut metadata =
        Metadata { path: cursor.path().to_path_buf(), entries: Vec::new(), index: BTreeMap::new() };
    for i in 0..count {
        let key = read_key(cursor, i)?;
        let value = read_value(cursor, &key)?;
        if metadata.index.insert(key.clone(), metadata.entries.len()).is_some() {
            return Err(Error::malformed(cursor.path(), key, "the key stands twice in the file"));
        }
        metadata.entries.push((key, value));
    }
    Ok(metadata)
}

fn read_key(cursor: &mut Cursor<'_>, i: u64) -> Result<String> {
    let field = format!("metadata key {i}");
    let key = cursor.string(&field)?;
    if key.len() > MAX_KEY {
        let problem = format!("{} bytes long, at most {MAX_KEY} are allowed", key.len());
        return Err(Error::malformed(cursor.path(), field, problem));
    }
    Ok(key.to_string())
}

fn read_value(cursor: &mut Cursor<'_>, key: &str) -> Result<Value> {
    let id = cursor.u32(key)?;
    if id == ARRAY {
        return read_array(cursor, key).map(Value::Array);
    }
    let element = element(cursor, key, id, "value type")?;
    if element == Element::String {
        return Ok(Value::String(cursor.string(key)?.to_string()));
    }
    let bytes = cursor.take(element.size() as u64, key)?;
    check_bools(cursor, key, element, bytes)?;
    element.decode(bytes).ok_or_else(|| Error::malformed(cursor.path(), key, "unreadable value"))
}

fn read_array(cursor: &mut Cursor<'_>, key: &str) -> Result<Array> {
    let id = cursor.u32(key)?;
    if id == ARRAY {
        let problem = "an array of arrays; GGUF arrays hold numbers, bools or strings";
        return Err(Error::malformed(cursor.path(), key, problem));
    }
    let element = element(cursor, key, id, "array element type")?;
    let len = cursor.u64(key)?;
    let start = cursor.at;
    let mut strings = Vec::new();
    if element == Element::String {
        strings = skip_strings(cursor, key, len)?;
    } else {
        let bytes = cursor.take(len.saturating_mul(element.size() as u64), key)?;
        check_bools(cursor, key, element, bytes)?;
    }
    Ok(Array { element, len: len as usize, map: Arc::clone(cursor.map), start, strings })
}

/// The places of `len` strings, each checked. A string takes eight bytes at least, so `len` is checked first.
fn skip_strings(cursor: &mut Cursor<'_>, key: &str, len: u64) -> Result<Vec<u64>> {
    if len > cursor.left() as u64 / 8 {
        let needed = (cursor.at as u64).saturating_add(len.saturating_mul(8));
        return Err(Error::truncated(cursor.path(), key, needed, cursor.map.bytes().len()));
    }
    let mut places = Vec::with_capacity(len as usize);
    for _ in 0..len {
        places.push(cursor.at as u64);
        cursor.string(key)?;
    }
    Ok(places)
}

fn element(cursor: &Cursor<'_>, key: &str, id: u32, what: &str) -> Result<Element> {
    Element::from_id(id).ok_or_else(|| {
        Error::malformed(cursor.path(), key, format!("{what} {id} is unknown; types 0 to 12 are defined"))
    })
}

fn check_bools(cursor: &Cursor<'_>, key: &str, element: Element, bytes: &[u8]) -> Result<()> {
    match bytes.iter().find(|&&b| element == Element::Bool && b > 1) {
        Some(b) => {
            Err(Error::malformed(cursor.path(), key, format!("a bool stored as {b}, expected 0 or 1")))
        }
        None => Ok(()),
    }
}
