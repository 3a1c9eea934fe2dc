//! Opens whichever kind of model a path leads to.

use crate::{Gguf, Result, Safetensors, Tensor, Unreadable};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A model's weights, in either file format.
#[derive(Clone, Debug)]
pub enum Checkpoint {
    /// A `.gguf` file or a split one.
    Gguf(Gguf),
    /// A folder of safetensors, or one such file.
    Safetensors(Safetensors),
}

impl Checkpoint {
    /// Opens a folder (safetensors, as [`Safetensors::open_folder`]), a `.safetensors` file, an index of shards
    /// (`*.index.json`), or else a GGUF file.
    pub fn open(path: &Path) -> Result<Checkpoint> {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_ascii_lowercase();
        if path.is_dir() {
            Safetensors::open_folder(path).map(Checkpoint::Safetensors)
        } else if name.ends_with(".safetensors") {
            Safetensors::open_file(path).map(Checkpoint::Safetensors)
        } else if name.ends_with(".index.json") {
            Safetensors::open_index(path).map(Checkpoint::Safetensors)
        } else {
            Gguf::open(path).map(Checkpoint::Gguf)
        }
    }

    /// The tensors by the names their file has.
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        match self {
            Checkpoint::Gguf(g) => &g.tensors,
            Checkpoint::Safetensors(s) => &s.tensors,
        }
    }

    /// The tensors whose types are not read here.
    pub fn unreadable(&self) -> &BTreeMap<String, Unreadable> {
        match self {
            Checkpoint::Gguf(g) => &g.unreadable,
            Checkpoint::Safetensors(s) => &s.unreadable,
        }
    }

    /// Every file of the model.
    pub fn files(&self) -> &[PathBuf] {
        match self {
            Checkpoint::Gguf(g) => &g.files,
            Checkpoint::Safetensors(s) => &s.files,
        }
    }

    /// The tensor of this name, or why it cannot be had.
    pub fn tensor(&self, name: &str) -> Result<&Tensor> {
        match self {
            Checkpoint::Gguf(g) => g.tensor(name),
            Checkpoint::Safetensors(s) => s.tensor(name),
        }
    }
}
