//! `model.safetensors.index.json`: which shard holds which tensor.

use super::Safetensors;
use crate::{Error, Result, read_json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The index of the largest models has some fifteen megabytes.
const MAX_BYTES: u64 = 48 << 20;

/// Tensor name -> shard's file name.
pub(super) type WeightMap = BTreeMap<String, String>;

/// Reads `weight_map`.
pub(super) fn read(path: &Path) -> Result<WeightMap> {
    let json = read_json(path, MAX_BYTES)?;
    let bad = |problem: String| Error::malformed(path, "weight_map", problem);
    let map = json.get("weight_map").ok_or_else(|| bad("missing; it maps tensor names to files".into()))?;
    let map = map.as_object().ok_or_else(|| bad(format!("found {}, expected an object", kind(map))))?;
    if map.is_empty() {
        return Err(bad("empty: it names no tensor".into()));
    }
    let entry = |(name, shard): (&String, &serde_json::Value)| match shard.as_str() {
        Some(shard) => Ok((name.clone(), shard.to_string())),
        None => Err(bad(format!("tensor `{name}`: found {}, expected a file name", kind(shard)))),
    };
    map.iter().map(entry).collect()
}

/// The names of all shards, each once, each a plain file name of a file that is there.
pub(super) fn shards<'a>(index: &Path, map: &'a WeightMap) -> Result<Vec<&'a str>> {
    let names: BTreeSet<&str> = map.values().map(String::as_str).collect();
    if let Some(name) = names.iter().find(|name| !is_plain_file_name(name)) {
        let problem = format!("shard `{}` is not the plain name of a .safetensors file", name.escape_debug());
        return Err(Error::malformed(index, "weight_map", problem));
    }
    let dir = index.parent().unwrap_or(Path::new(""));
    let files: Vec<PathBuf> = names.iter().map(|n| dir.join(n)).filter(|p| !p.exists()).collect();
    match files.is_empty() {
        true => Ok(names.into_iter().collect()),
        false => Err(Error::MissingFiles { path: index.to_path_buf(), files }),
    }
}

/// Whether a name stays in its folder on every system: no separator, drive, or control character, no device.
fn is_plain_file_name(name: &str) -> bool {
    let Some(stem) = name.strip_suffix(".safetensors") else { return false };
    let base = stem.split('.').next().unwrap_or(stem).to_ascii_uppercase();
    let numbered = |port: &str| {
        base.strip_prefix(port).is_some_and(|n| n.len() == 1 && n.as_bytes()[0].is_ascii_digit())
    };
    let device = ["CON", "PRN", "AUX", "NUL"].contains(&base.as_str()) || numbered("COM") || numbered("LPT");
    let odd = |c: char| c.is_control() || "/\\:*?\"<>|".contains(c);
    !stem.is_empty() && !stem.starts_with('.') && !device && !name.contains(odd) && name.len() <= 255
}

/// Every tensor of the index must be in the shard it names.
pub(super) fn check_complete(index: &Path, map: &WeightMap, all: &Safetensors) -> Result<()> {
    let there = |name: &str| all.tensors.contains_key(name) || all.unreadable.contains_key(name);
    match map.iter().find(|(name, _)| !there(name)) {
        Some((name, shard)) => {
            let problem = format!("tensor `{name}` is not in `{shard}`; the files are of different versions");
            Err(Error::malformed(index, "weight_map", problem))
        }
        None => Ok(()),
    }
}

fn kind(value: &serde_json::Value) -> &'static str {
    match value {
        serde_json::Value::Null => "null",
        serde_json::Value::Bool(_) => "a bool",
        serde_json::Value::Number(_) => "a number",
        serde_json::Value::String(_) => "a string",
        serde_json::Value::Array(_) => "a list",
        serde_json::Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::is_plain_file_name;

    #[test]
    fn shard_names_stay_in_their_folder() {
        for good in
            ["model.safetensors", "model-00001-of-00002.safetensors", "a b.safetensors", "COM10.safetensors"]
        {
            assert!(is_plain_file_name(good), "{good}");
        }
        for bad in [
            "",
            ".safetensors",
            "../a.safetensors",
            "/dev/zero",
            "a/b.safetensors",
            "a\\b.safetensors",
            "C:a.safetensors",
            "NUL.safetensors",
            "com1.x.safetensors",
            "a\0.safetensors",
            "..",
            "model.bin",
            "..safetensors",
        ] {
            assert!(!is_plain_file_name(bad), "{bad}");
        }
    }
}
