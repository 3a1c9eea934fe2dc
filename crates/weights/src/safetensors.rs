//! Safetensors: Hugging Face's file of named tensors, single or split by an index.
//!
//! Layout: eight bytes of header length, a JSON header, then the numbers without gap or overlap
//! (github.com/huggingface/safetensors, "Format"). The header reader is stricter than the reference library:
//! a key that stands twice is refused, as the specification demands.

mod header;
mod index;

use crate::mmap::Map;
use crate::{DType, Error, Result, Tensor, Unreadable, gguf};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// The tensors of one safetensors file or of a folder of them.
#[derive(Clone, Debug)]
pub struct Safetensors {
    /// The folder or file that was opened.
    pub path: PathBuf,
    /// The tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// Tensors of types that are defined but not read here (F8_E4M3, U8 ...). See [`Safetensors::tensor`].
    pub unreadable: BTreeMap<String, Unreadable>,
    /// Of those, the ones of types U8 and F8_E4M3: bytes that stand for numbers in some way, given here as I8.
    pub packed: BTreeMap<String, Tensor>,
    /// `__metadata__` of the first file: free text.
    pub metadata: BTreeMap<String, String>,
    /// Every file opened.
    pub files: Vec<PathBuf>,
}

impl Safetensors {
    /// Opens a model folder: `model.safetensors`, or the shards that `model.safetensors.index.json` names.
    ///
    /// # Errors
    /// Neither is there (what is there is said); shards are missing (all are listed); a shard's name leads out
    /// of the folder; a file is broken or contradicts the index.
    pub fn open_folder(dir: &Path) -> Result<Safetensors> {
        let (single, index) = (dir.join(SINGLE), dir.join(INDEX));
        if single.exists() {
            let mut opened = Self::open_file(&single)?;
            opened.path = dir.to_path_buf();
            return Ok(opened);
        }
        if !index.exists() {
            return Err(no_weights(dir));
        }
        Self::open_index(&index)
    }

    /// Opens the shards that an index file names; they lie beside it.
    pub fn open_index(index: &Path) -> Result<Safetensors> {
        let dir = index.parent().unwrap_or(Path::new(""));
        let map = index::read(index)?;
        let mut all = Self::empty(dir);
        for shard in index::shards(index, &map)? {
            all.absorb(Self::open_file(&dir.join(shard))?, shard, &map)?;
        }
        index::check_complete(index, &map, &all)?;
        Ok(all)
    }

    /// Opens one file.
    pub fn open_file(path: &Path) -> Result<Safetensors> {
        let map = Arc::new(Map::open(path)?);
        let header = header::read(&map)?;
        let mut opened = Self::empty(path);
        opened.files.push(path.to_path_buf());
        opened.metadata = header.metadata;
        for entry in header.entries {
            match entry.dtype {
                Ok(dtype) => {
                    let name = entry.name;
                    let tensor = Tensor::new(name.clone(), dtype, entry.shape, Arc::clone(&map), entry.range);
                    opened.tensors.insert(name, tensor);
                }
                Err(kind) => {
                    let unreadable = Unreadable { kind: kind.to_string(), shape: entry.shape.clone() };
                    opened.unreadable.insert(entry.name.clone(), unreadable);
                    if kind == "U8" || kind == "F8_E4M3" {
                        let name = entry.name;
                        let map = Arc::clone(&map);
                        let bytes = Tensor::new(name.clone(), DType::I8, entry.shape, map, entry.range);
                        opened.packed.insert(name, bytes);
                    }
                }
            }
        }
        Ok(opened)
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// It is not in the files, or its type is not read here: then the type is named.
    pub fn tensor(&self, name: &str) -> Result<&Tensor> {
        gguf::find(&self.path, &self.tensors, &self.unreadable, name)
    }

    fn empty(path: &Path) -> Safetensors {
        Safetensors {
            path: path.to_path_buf(),
            tensors: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            packed: BTreeMap::new(),
            metadata: BTreeMap::new(),
            files: Vec::new(),
        }
    }

    /// Adds a shard. A tensor that stands in two shards is taken from the one that the index names.
    fn absorb(&mut self, shard: Safetensors, name: &str, map: &index::WeightMap) -> Result<()> {
        for key in shard.tensors.keys().chain(shard.unreadable.keys()) {
            let twice = self.tensors.contains_key(key) || self.unreadable.contains_key(key);
            if twice && !map.contains_key(key) {
                let problem = format!("`{name}` and an earlier shard have it, and the index names neither");
                return Err(Error::malformed(&shard.path, format!("tensor `{key}`"), problem));
            }
        }
        let here = |key: &String| map.get(key).is_none_or(|owner| owner == name);
        self.tensors.extend(shard.tensors.into_iter().filter(|(key, _)| here(key)));
        self.unreadable.extend(shard.unreadable.into_iter().filter(|(key, _)| here(key)));
        self.packed.extend(shard.packed.into_iter().filter(|(key, _)| here(key)));
        if self.files.is_empty() {
            self.metadata = shard.metadata;
        }
        self.files.extend(shard.files);
        Ok(())
    }
}

/// Says what a folder has instead of safetensors.
fn no_weights(dir: &Path) -> Error {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) => return Error::io(dir, e),
    };
    let mut found: Vec<String> = entries
        .filter_map(|e| e.ok()?.file_name().into_string().ok())
        .filter(|n| {
            [".safetensors", ".bin", ".pt", ".pth", ".gguf", ".onnx"].iter().any(|ext| n.ends_with(ext))
        })
        .take(20)
        .collect();
    found.sort();
    let there = match found.is_empty() {
        true => "the folder has no weight files".to_string(),
        false => format!("the folder has {}", found.join(", ")),
    };
    let problem = format!("expected {SINGLE} or {INDEX}; {there}");
    Error::NoWeights { path: dir.to_path_buf(), problem }
}
