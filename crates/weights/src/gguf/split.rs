//! A model split over several GGUF files, as `gguf-split` of llama.cpp makes them:
//! `NAME-00001-of-00003.gguf`, each with `split.no` and `split.count`; the first has the model's metadata.

use super::{Gguf, Metadata, open_one};
use crate::{Error, Result};
use std::path::{Path, PathBuf};

const NO: &str = "split.no";
const COUNT: &str = "split.count";
const TENSORS: &str = "split.tensors.count";

/// The files of a split model in order; `None` for a model in one file.
///
/// # Errors
/// `split.no` is not below `split.count`, the file's name does not say the same, or siblings are missing.
pub(super) fn siblings(path: &Path, metadata: &Metadata) -> Result<Option<Vec<PathBuf>>> {
    let count = metadata.unsigned(COUNT)?.unwrap_or(1);
    let no = metadata.unsigned(NO)?.unwrap_or(0);
    if no >= count.max(1) || count > u64::from(u16::MAX) {
        let problem = format!("found {no} with {COUNT} {count}; it must be below, and {COUNT} below 65536");
        return Err(Error::malformed(path, NO, problem));
    }
    if count <= 1 {
        return Ok(None);
    }
    let shards = shard_paths(path, no, count)?;
    let files: Vec<PathBuf> = shards.iter().filter(|p| !p.is_file()).cloned().collect();
    if files.is_empty() {
        Ok(Some(shards))
    } else {
        Err(Error::MissingFiles { path: path.to_path_buf(), files })
    }
}

/// The names of all shards, from the name of shard `no`.
fn shard_paths(path: &Path, no: u64, count: u64) -> Result<Vec<PathBuf>> {
    let suffix = |i: u64| format!("-{:05}-of-{count:05}.gguf", i + 1);
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let Some(stem) = name.strip_suffix(&suffix(no)) else {
        let problem = format!(
            "the file is part {} of {count}, so its name must end in `{}` for the others to be found; rename it",
            no + 1,
            suffix(no)
        );
        return Err(Error::malformed(path, COUNT, problem));
    };
    Ok((0..count).map(|i| path.with_file_name(format!("{stem}{}", suffix(i)))).collect())
}

/// Opens all shards and puts their tensors together. `opened` is the one that was named.
pub(super) fn join(opened: Gguf, shards: &[PathBuf]) -> Result<Gguf> {
    let mut model: Option<Gguf> = None;
    for (no, path) in shards.iter().enumerate() {
        let shard = if *path == opened.path { opened.clone() } else { open_one(path)? };
        check_place(&shard, no as u64, shards.len() as u64)?;
        match &mut model {
            None => model = Some(shard),
            Some(model) => absorb(model, shard)?,
        }
    }
    let model = model.unwrap_or(opened);
    check_total(&model)?;
    Ok(model)
}

fn check_place(shard: &Gguf, no: u64, count: u64) -> Result<()> {
    let found = (shard.metadata.unsigned(NO)?, shard.metadata.unsigned(COUNT)?);
    if found == (Some(no), Some(count)) {
        return Ok(());
    }
    let problem = format!("found {found:?} for ({NO}, {COUNT}), expected ({no}, {count}) by the file's name");
    Err(Error::malformed(&shard.path, NO, problem))
}

fn absorb(model: &mut Gguf, shard: Gguf) -> Result<()> {
    for name in shard.tensors.keys().chain(shard.unreadable.keys()) {
        if model.tensors.contains_key(name) || model.unreadable.contains_key(name) {
            let problem = "an earlier part of the split model has it too";
            return Err(Error::malformed(&shard.path, format!("tensor `{name}`"), problem));
        }
    }
    model.tensors.extend(shard.tensors);
    model.unreadable.extend(shard.unreadable);
    model.files.push(shard.path);
    Ok(())
}

fn check_total(model: &Gguf) -> Result<()> {
    let found = (model.tensors.len() + model.unreadable.len()) as u64;
    match model.metadata.unsigned(TENSORS)? {
        Some(expected) if expected != found => {
            let problem = format!("the parts have {found} tensors together, expected {expected}");
            Err(Error::malformed(&model.path, TENSORS, problem))
        }
        _ => Ok(()),
    }
}
