//! GGUF: llama.cpp's file of metadata and tensors (ggml/docs/gguf.md), versions 2 and 3.
//!
//! A path becomes checked [`Metadata`] and [`Tensor`]s in place. A model split over several files is opened
//! by naming any of them.

mod cursor;
mod header;
mod metadata;
mod split;
mod tensors;

pub use metadata::{Array, Metadata, Value};

use crate::error::printable;
use crate::mmap::Map;
use crate::{Error, Result, Tensor, Unreadable};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A GGUF model: one file, or all files of a split.
#[derive(Clone, Debug)]
pub struct Gguf {
    /// The file that holds the metadata (the first one of a split).
    pub path: PathBuf,
    /// What the file says about the model, in its order. `general.architecture` is there and is a string.
    pub metadata: Metadata,
    /// The tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// Tensors whose type number ggml did not define when this was written. See [`Gguf::tensor`].
    pub unreadable: BTreeMap<String, Unreadable>,
    /// Every file of the model.
    pub files: Vec<PathBuf>,
}

impl Gguf {
    /// Opens a model. `path` is a `.gguf` file, any one of a split model's files.
    ///
    /// # Errors
    /// A file that is no GGUF (told apart from ZIP, HTML, git-LFS pointers and older formats), one that is cut
    /// short, or that contradicts itself; siblings of a split that are missing, all at once.
    pub fn open(path: &Path) -> Result<Gguf> {
        let first = open_one(path)?;
        let model = match split::siblings(path, &first.metadata)? {
            None => first,
            Some(shards) => split::join(first, &shards)?,
        };
        model.architecture()?;
        Ok(model)
    }

    /// `general.architecture`.
    pub fn architecture(&self) -> Result<&str> {
        self.metadata.string("general.architecture")?.ok_or_else(|| {
            Error::malformed(
                &self.path,
                "general.architecture",
                "missing; every GGUF model names its architecture",
            )
        })
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// It is not in the file, or its type is unknown here: then the type is named.
    pub fn tensor(&self, name: &str) -> Result<&Tensor> {
        find(&self.path, &self.tensors, &self.unreadable, name)
    }
}

/// The tensor of a name, or the reason why there is none: shared by both file formats.
pub(crate) fn find<'a>(
    path: &Path,
    tensors: &'a BTreeMap<String, Tensor>,
    unreadable: &BTreeMap<String, Unreadable>,
    name: &str,
) -> Result<&'a Tensor> {
    tensors.get(name).ok_or_else(|| match unreadable.get(name) {
        Some(u) => {
            Error::UnreadableTensor { path: path.to_path_buf(), name: printable(name), kind: u.kind.clone() }
        }
        None => Error::NoTensor { path: path.to_path_buf(), name: printable(name) },
    })
}

/// Opens one file without regard to a split.
fn open_one(path: &Path) -> Result<Gguf> {
    let map = Arc::new(Map::open(path)?);
    let mut cursor = cursor::Cursor::new(&map);
    let counts = header::read(&mut cursor)?;
    let metadata = metadata::read(&mut cursor, counts.metadata)?;
    let infos = tensors::read_infos(&mut cursor, counts.tensors)?;
    let data = tensors::data_start(&cursor, &metadata)?;
    let (tensors, unreadable) = tensors::place(&map, infos, data)?;
    Ok(Gguf { path: path.to_path_buf(), metadata, tensors, unreadable, files: vec![path.to_path_buf()] })
}
