//! `--quant TYPE` of the verbs that run a model: its weights in another format, made at the first start and
//! kept for the next ones.
//!
//! The first start does what `influence quantize` does, into the cache folder; every start then maps that file. Its
//! name holds a fingerprint of the source's files, so that a model that has changed is quantized anew.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result};
use models::{Checkpoint, Target};

use crate::interrupt::{Interrupted, end_at_once};
use crate::shipped::fingerprint;
use crate::terminal::spelled;
use crate::{cache, quantize};

/// Raised whenever a file of the same source would be written otherwise.
const VERSION: u32 = 1;

/// The GGUF that holds the weights of the model at `path` as `target`, made now if it is not there yet.
///
/// # Errors
/// A model that cannot be written as GGUF, a disk without room, Ctrl-C ([`Interrupted`]).
pub fn weights(path: &Path, target: &Target, threads: Option<u16>) -> Result<PathBuf> {
    let checkpoint = Checkpoint::open(path)?;
    let name = format!("{}-{}-{:016x}.gguf", stem(path), target.name, key(&checkpoint, target)?);
    let known = cache::folders().into_iter().map(|f| cache::in_folder(&f).join(&name));
    if let Some(file) = known.into_iter().find(|f| f.is_file()) {
        return Ok(file);
    }
    let conversion = checkpoint.convert(target, false).context("--quant")?;
    let file = cache::quantized()?.join(&name);
    eprintln!("note: quantizing to {}, once; kept as {}", target.name, file.display());
    conversion.notes.iter().for_each(|note| eprintln!("note: {}", spelled(note)));
    let advice = "--quant keeps its result there; INFLUENCE_CACHE names another folder";
    let warnings = quantize::write(&conversion, &file, threads).context(advice)?.ok_or(Interrupted)?;
    warnings.iter().for_each(|warning| eprintln!("warning: {}", spelled(warning)));
    end_at_once()?;
    Ok(file)
}

/// What to call the file, for people: the model's name as far as it is fit for a file name.
fn stem(path: &Path) -> String {
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    // A folder's name may have points; a file's end is its format.
    let name = if whole.is_dir() { path.file_name().or(whole.file_name()) } else { whole.file_stem() };
    let fit = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let name: String = name.unwrap_or_default().to_string_lossy().chars().map(fit).take(80).collect();
    name.trim_start_matches('.').to_owned()
}

/// Changes with the type, and with the name, place, size and time of every file that a conversion reads.
fn key(checkpoint: &Checkpoint, target: &Target) -> Result<u64> {
    let mut said = format!("{VERSION}\0{}\0", target.name);
    for file in sources(checkpoint) {
        let what = || format!("{}: cannot read it", file.display());
        let place = file.canonicalize().with_context(what)?;
        let meta = std::fs::metadata(&place).with_context(what)?;
        said += &format!("{}\0{}\0{}\0", place.display(), meta.len(), nanoseconds(&meta));
    }
    Ok(fingerprint(said.as_bytes()))
}

/// The weights and, of a folder, the small files beside them, in order.
fn sources(checkpoint: &Checkpoint) -> Vec<PathBuf> {
    let mut files = checkpoint.weight_files().to_vec();
    if checkpoint.gguf().is_none() {
        let beside = std::fs::read_dir(&checkpoint.path).into_iter().flatten().flatten().map(|e| e.path());
        let said = |p: &PathBuf| p.extension().is_some_and(|e| e == "json" || e == "jinja") && p.is_file();
        files.extend(beside.filter(said));
    }
    files.sort();
    files
}

fn nanoseconds(meta: &Metadata) -> u128 {
    let since = meta.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |d| d.as_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_fit_for_any_disk() {
        assert_eq!(stem(Path::new("/none/Qwen3-0.6B.gguf")), "Qwen3-0.6B");
        assert_eq!(stem(Path::new("/none/a:b c?.gguf")), "a_b_c_");
        assert_eq!(stem(&std::env::temp_dir().join("..").join(".hidden.gguf")), "hidden");
    }
}
