//! The hyperparameters of a file, under one name each, whatever file they came from.
//!
//! GGUF metadata and config.json are read into the same flat map; `arch.rs` asks by GGUF's key and
//! [`KEYS`] says how config.json spells it. What nobody asked for is an error ([`Hparams::finish`]):
//! that is what catches a forgotten multiplier.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::hparam_keys::{IGNORED, KEYS, NEUTRAL, NEUTRAL_WORDS};
use crate::{Error, Result};

/// No model has more layers; a file that says so is broken.
const MAX_LAYERS: usize = 10_000;
/// Keys that an error names.
const MAX_NAMED: usize = 40;
/// No key, dotted, is so long.
const MAX_PATH: usize = 256;
/// Bound on any width, so that products of two stay far from overflow.
const MAX_DIM: usize = 1 << 30;

/// The hyperparameters of one model, and which of them were read.
#[derive(Debug)]
pub struct Hparams {
    file: String,
    arch: String,
    gguf: bool,
    fields: BTreeMap<String, Value>,
    read: RefCell<BTreeSet<String>>,
    /// Names and rows of the file's tensors, where they say what the metadata does not.
    tensors: BTreeMap<String, usize>,
}

impl Hparams {
    /// From a parsed config.json. Objects inside are flattened to dotted keys; nulls are absent.
    pub fn from_config(file: &Path, arch: &str, config: &Value) -> Hparams {
        let mut fields = BTreeMap::new();
        flatten("", config, &mut fields);
        // Where ropes differ by kind of layer, that of the layers that see everything is the rope.
        let full = "rope_parameters.full_attention.";
        let hoisted = |k: String| k.strip_prefix(full).map(|k| format!("rope_parameters.{k}")).unwrap_or(k);
        let fields = fields.into_iter().map(|(k, v)| (hoisted(k), v)).collect();
        Hparams::new(file, arch, false, fields)
    }

    /// From a GGUF's metadata: the keys under `arch.`, without the prefix.
    pub fn from_gguf(file: &Path, arch: &str, fields: BTreeMap<String, Value>) -> Hparams {
        Hparams::new(file, arch, true, fields)
    }

    fn new(file: &Path, arch: &str, gguf: bool, fields: BTreeMap<String, Value>) -> Hparams {
        let (file, arch) = (file.display().to_string(), arch.to_string());
        Hparams { file, arch, gguf, fields, read: RefCell::default(), tensors: BTreeMap::new() }
    }

    /// Whether the file is a GGUF, whose conventions differ from the Hub's.
    pub fn is_gguf(&self) -> bool {
        self.gguf
    }

    /// The class of config.json, or the architecture of a GGUF.
    pub fn class(&self) -> &str {
        &self.arch
    }

    /// With the names and rows of a GGUF's tensors.
    pub fn beside(self, tensors: impl Iterator<Item = (String, usize)>) -> Hparams {
        Hparams { tensors: tensors.collect(), ..self }
    }

    /// Whether a GGUF has this tensor: some features have no key of their own there.
    pub fn has_tensor(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// How many rows a GGUF's tensor has: some sizes have no key of their own there.
    pub fn rows_of(&self, name: &str) -> Option<usize> {
        self.tensors.get(name).copied()
    }

    /// The spellings of `key` in this file, best first.
    fn spellings(&self, key: &str) -> Vec<&str> {
        match KEYS.iter().find(|(canonical, _)| *canonical == key) {
            Some((_, names)) if !self.gguf => names.to_vec(),
            _ if self.gguf => vec![KEYS.iter().find(|(k, _)| *k == key).map_or("", |(k, _)| k)],
            _ => vec![],
        }
    }

    /// The value under the first spelling that is present; all spellings count as read.
    fn value(&self, key: &str) -> Option<(&str, &Value)> {
        debug_assert!(KEYS.iter().any(|(k, _)| *k == key), "{key} has no row in KEYS");
        let mut found = None;
        for name in self.spellings(key) {
            if let Some((name, value)) = self.fields.get_key_value(name) {
                self.read.borrow_mut().insert(name.clone());
                found = found.or(Some((name.as_str(), value)));
            }
        }
        found
    }

    /// Everything that the file says, under GGUF's keys.
    pub fn said(&self) -> BTreeMap<String, Value> {
        let row = |(key, _): &(&str, _)| self.value(key).map(|(_, value)| (key.to_string(), value.clone()));
        KEYS.iter().filter_map(row).collect()
    }

    /// The keys that nobody asked about.
    pub fn unread(&self) -> Vec<String> {
        let read = self.read.borrow();
        self.fields.keys().filter(|key| !read.contains(*key)).cloned().collect()
    }

    /// Whether the file says anything at `key`.
    pub fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// How the file spells `key`, for error messages.
    fn spelled(&self, key: &str) -> String {
        let spellings = self.spellings(key);
        let present = spellings.iter().find(|name| self.fields.contains_key(**name));
        let first = present.or(spellings.first()).map_or(key, |n| *n).to_string();
        if self.gguf { format!("{}.{first}", self.arch) } else { first }
    }

    /// An error about `key`.
    pub fn bad(&self, key: &str, found: impl ToString, expected: impl ToString) -> Error {
        let (found, expected) = (found.to_string(), expected.to_string());
        Error::Hparam {
            file: self.file.clone(),
            arch: self.arch.clone(),
            key: self.spelled(key),
            found,
            expected,
        }
    }

    fn missing(&self, key: &str, expected: &str) -> Error {
        self.bad(key, "nothing", expected)
    }

    fn parsed<T>(&self, key: &str, expected: &str, parse: impl Fn(&Value) -> Option<T>) -> Result<Option<T>> {
        let Some((_, value)) = self.value(key) else { return Ok(None) };
        match parse(value) {
            Some(parsed) => Ok(Some(parsed)),
            None => Err(self.bad(key, brief(value), expected)),
        }
    }

    /// A whole number of at least one, if present.
    pub fn opt_usize(&self, key: &str) -> Result<Option<usize>> {
        self.parsed(key, "a whole number of at least 1", |v| whole(v).filter(|&n| n > 0))
    }

    /// A whole number of at least one.
    pub fn usize(&self, key: &str) -> Result<usize> {
        self.opt_usize(key)?.ok_or_else(|| self.missing(key, "a whole number of at least 1"))
    }

    /// A width: a whole number small enough that products of two do not overflow.
    pub fn dim(&self, key: &str) -> Result<usize> {
        let n = self.usize(key)?;
        if n > MAX_DIM { Err(self.bad(key, n, format!("at most {MAX_DIM}"))) } else { Ok(n) }
    }

    /// The number of layers.
    pub fn layers(&self) -> Result<usize> {
        let n = self.usize("block_count")?;
        if n > MAX_LAYERS { Err(self.bad("block_count", n, format!("at most {MAX_LAYERS}"))) } else { Ok(n) }
    }

    /// A whole number that may be zero, if present.
    pub fn opt_count(&self, key: &str) -> Result<Option<usize>> {
        self.parsed(key, "a whole number", whole)
    }

    /// A width, where a list may give the same one for each layer.
    pub fn same_dim(&self, key: &str) -> Result<usize> {
        let one = |v: &Value| match v {
            Value::Array(list) => {
                let first = whole(list.first()?)?;
                list.iter().all(|v| whole(v) == Some(first)).then_some(first)
            }
            one => whole(one),
        };
        let expected = "a whole number of at least 1, the same for all layers";
        let found = self.parsed(key, expected, |v| one(v).filter(|&n| n > 0 && n <= MAX_DIM))?;
        found.ok_or_else(|| self.missing(key, expected))
    }

    /// An error unless the file has `value` at `key`, or nothing.
    pub fn must_be(&self, key: &str, value: bool) -> Result<()> {
        match self.opt_bool(key)? {
            Some(other) if other != value => Err(self.bad(key, other, value)),
            _ => Ok(()),
        }
    }

    /// A finite number, if present.
    pub fn opt_f32(&self, key: &str) -> Result<Option<f32>> {
        self.parsed(key, "a finite number", |v| v.as_f64().map(|f| f as f32).filter(|f| f.is_finite()))
    }

    /// A finite number over zero, if present.
    pub fn opt_positive(&self, key: &str) -> Result<Option<f32>> {
        match self.opt_f32(key)? {
            Some(f) if f <= 0.0 => Err(self.bad(key, f, "a number over 0")),
            other => Ok(other),
        }
    }

    /// A finite number over zero.
    pub fn positive(&self, key: &str) -> Result<f32> {
        self.opt_positive(key)?.ok_or_else(|| self.missing(key, "a number over 0"))
    }

    /// A whole number of at least one, if present as a number: some files write a word for "work it out".
    pub fn opt_number(&self, key: &str) -> Result<Option<usize>> {
        match self.value(key) {
            Some((_, Value::String(_))) => Ok(None),
            _ => self.opt_usize(key),
        }
    }

    /// A least and a greatest number, if present; null or `Infinity` stand for no bound.
    pub fn opt_range(&self, key: &str) -> Result<Option<(f32, f32)>> {
        let end = |v: Option<&Value>, open: f32| match v? {
            // transformers 5 writes {"__float__": "Infinity"}.
            Value::Null | Value::String(_) | Value::Object(_) => Some(open),
            other => other.as_f64().map(|f| f as f32),
        };
        self.parsed(key, "a list of two numbers", |v| {
            let list = v.as_array().filter(|l| l.len() == 2)?;
            let (low, high) = (end(list.first(), 0.0)?, end(list.get(1), f32::INFINITY)?);
            (low <= high).then_some((low, high))
        })
    }

    /// A list of whole numbers, if present.
    pub fn opt_counts(&self, key: &str) -> Result<Option<Vec<usize>>> {
        self.parsed(key, "a list of whole numbers", |v| v.as_array()?.iter().map(whole).collect())
    }

    /// A whole number of at least one, if present; of a list with one for each layer, the greatest.
    pub fn opt_most(&self, key: &str) -> Result<Option<usize>> {
        let most = |v: &Value| match v {
            Value::Array(list) => list.iter().map(whole).try_fold(0, |a, b| b.map(|b| a.max(b))),
            one => whole(one),
        };
        self.parsed(key, "a whole number of at least 1", |v| most(v).filter(|&n| n > 0))
    }

    /// A whole number for each of `n` layers; one number stands for all.
    pub fn counts(&self, key: &str, n: usize) -> Result<Vec<usize>> {
        let each = |v: &Value| match v {
            Value::Array(list) if list.len() == n => list.iter().map(whole).collect(),
            Value::Array(_) => None,
            one => whole(one).map(|count| vec![count; n]),
        };
        let expected = format!("a whole number, or one for each of {n} layers");
        self.parsed(key, &expected, each)?.ok_or_else(|| self.missing(key, &expected))
    }

    /// A width for each of `n` layers; one number stands for all.
    pub fn dims(&self, key: &str, n: usize) -> Result<Vec<usize>> {
        let widths = self.counts(key, n)?;
        match widths.iter().find(|w| !(1..=MAX_DIM).contains(*w)) {
            Some(odd) => Err(self.bad(key, odd, format!("numbers from 1 to {MAX_DIM}"))),
            None => Ok(widths),
        }
    }

    /// The whole number of at least one that transformers' `per_layer_config` has at `key` for every layer that is not `but`, if
    /// it has any.
    pub fn of_layers(&self, key: &str, but: &[bool]) -> Result<Option<usize>> {
        let path = |i: usize| format!("per_layer_config.{i}.{key}");
        let said: Vec<Option<&Value>> = (0..but.len()).map(|i| self.fields.get(&path(i))).collect();
        if said.iter().all(Option::is_none) {
            return Ok(None);
        }
        self.read.borrow_mut().extend((0..but.len()).map(path));
        let one = said.iter().flatten().next().and_then(|v| whole(v)).filter(|&n| n > 0);
        let alike = said.iter().zip(but).all(|(v, but)| v.and_then(whole) == one.filter(|_| !but));
        match one.filter(|_| alike) {
            Some(n) => Ok(Some(n)),
            None => {
                let found = said.iter().map(|v| v.map_or("nothing".into(), brief)).collect::<Vec<_>>();
                let expected = "one number for all layers that see everything, and none for the others";
                Err(self.bad(&format!("per_layer_config.*.{key}"), found.join(", "), expected))
            }
        }
    }

    /// A truth value, if present.
    pub fn opt_bool(&self, key: &str) -> Result<Option<bool>> {
        self.parsed(key, "true or false", Value::as_bool)
    }

    /// A truth value for each of `n` layers, if present: as a list, as a period whose last layer is false (0 is none true), or as
    /// letters that repeat (`LLLG`, of which `L` is true).
    pub fn opt_pattern(&self, key: &str, n: usize) -> Result<Option<Vec<bool>>> {
        self.parsed(key, "a period, letters L and G, or a truth value for each layer", |v| match v {
            Value::Array(list) if list.len() == n => list.iter().map(Value::as_bool).collect(),
            Value::String(word) if !word.is_empty() && word.chars().all(|c| c == 'L' || c == 'G') => {
                Some(word.chars().cycle().take(n).map(|c| c == 'L').collect())
            }
            one => whole(one).map(|p| (1..=n).map(|i| p > 0 && i % p != 0).collect()),
        })
    }

    /// A truth value, which may be written as a number, if present.
    pub fn opt_switch(&self, key: &str) -> Result<Option<bool>> {
        self.parsed(key, "true or false", |v| v.as_bool().or_else(|| whole(v).map(|n| n > 0)))
    }

    /// A word, if present.
    pub fn opt_str(&self, key: &str) -> Result<Option<String>> {
        self.parsed(key, "a string", |v| v.as_str().map(str::to_string))
    }

    /// A list of finite numbers, if present.
    pub fn opt_f32s(&self, key: &str) -> Result<Option<Vec<f32>>> {
        let number = |v: &Value| v.as_f64().map(|f| f as f32).filter(|f| f.is_finite());
        self.parsed(key, "a list of finite numbers", |v| v.as_array()?.iter().map(number).collect())
    }

    /// A number for each of `n` layers, if present; those that are not finite are none.
    pub fn opt_numbers(&self, key: &str, n: usize) -> Result<Option<Vec<Option<f32>>>> {
        let number = |v: &Value| match v {
            Value::Null => Some(None),
            other => other.as_f64().map(|f| Some(f as f32).filter(|f| f.is_finite())),
        };
        self.parsed(key, &format!("a number for each of {n} layers"), |v| {
            v.as_array().filter(|list| list.len() == n)?.iter().map(number).collect()
        })
    }

    /// A list of words, if present.
    pub fn opt_strs(&self, key: &str) -> Result<Option<Vec<String>>> {
        let word = |v: &Value| v.as_str().map(str::to_string);
        self.parsed(key, "a list of strings", |v| v.as_array()?.iter().map(word).collect())
    }

    /// Marks `key` as read because the file's tensors show what it says.
    pub fn shown_by_tensors(&self, keys: &[&str]) {
        for key in keys {
            self.value(key);
        }
    }

    /// An error if the file says something that nobody asked about.
    pub fn finish(&self) -> Result<()> {
        let read = self.read.borrow();
        let unread = self.fields.iter().filter(|(k, v)| !read.contains(*k) && !self.ignored(k, v));
        let mut keys: Vec<String> = unread.map(|(k, v)| format!("{k} = {}", brief(v))).collect();
        if keys.is_empty() {
            return Ok(());
        }
        let more = keys.len().saturating_sub(MAX_NAMED);
        if more > 0 {
            keys.truncate(MAX_NAMED);
            keys.push(format!("{more} more"));
        }
        Err(Error::Unread { file: self.file.clone(), arch: self.arch.clone(), keys: keys.join(", ") })
    }

    fn ignored(&self, key: &str, value: &Value) -> bool {
        if self.gguf {
            return false;
        }
        // MPT's attention is a config of its own, with what every config has.
        let key = key.strip_prefix("attn_config.").unwrap_or(key);
        let under = |name: &&&str| {
            key.strip_prefix(**name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let neutral = NEUTRAL.iter().any(|(name, at)| *name == key && value.as_f64() == Some(*at));
        let word = value.to_string();
        let word = word.trim_matches('"');
        neutral
            || NEUTRAL_WORDS.iter().any(|(name, at)| *name == key && word == *at)
            || IGNORED.iter().any(|name| under(&name))
    }
}

fn flatten(prefix: &str, value: &Value, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                if path.len() > MAX_PATH {
                    // Each value below would have the whole of it before its own key.
                    into.insert(shortened(&path, MAX_PATH), brief(value).into());
                } else {
                    flatten(&path, value, into);
                }
            }
        }
        Value::Null => {}
        other => drop(into.insert(prefix.to_string(), other.clone())),
    }
}

fn whole(value: &Value) -> Option<usize> {
    // A float that is whole (64.0) is how some exporters write counts.
    let float = || value.as_f64().filter(|f| f.fract() == 0.0 && *f >= 0.0 && *f < 9e15).map(|f| f as usize);
    value.as_u64().and_then(|n| usize::try_from(n).ok()).or_else(float)
}

/// A value short enough for an error message.
fn brief(value: &Value) -> String {
    shortened(&value.to_string(), 60)
}

fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        text.to_string()
    } else {
        format!("{}...", text.chars().take(most - 3).collect::<String>())
    }
}
