//! The collection of hostile files: each must be refused, by name and field, at once; and the good files open.
//!
//! The files lie outside the repository; where they are absent this says so and passes.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use weights::{Checkpoint, DType, Error, Gguf, Safetensors};

fn material(part: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/material").join(part);
    if !path.exists() {
        println!("skipped: {} is not there", path.display());
        return None;
    }
    Some(path)
}

/// Cases that concern later readers (hyperparameters, tokenizer, sampling): here they must open.
const FOR_OTHERS: &[&str] = &[
    "gguf-blockcount-0",
    "gguf-blockcount-4g",
    "gguf-heads-0",
    "gguf-kvheads-0",
    "gguf-ctx-4g",
    "gguf-embd-65",
    "gguf-scores-u8",
    "gguf-bytetoken-neg",
    "gguf-bytetoken-zz",
    "gguf-nan-weights",
];

/// What the message must say besides the file's name.
const SAYS: &[(&str, &[&str])] = &[
    ("gguf-magic-only", &["version", "truncated"]),
    ("gguf-empty", &["truncated"]),
    ("gguf-short-header", &["tensor count"]),
    ("gguf-version-future", &["version 4", "2 and 3"]),
    ("gguf-bigendian", &["big-endian"]),
    ("gguf-nkv-huge", &["metadata key count", "9223372036854775808"]),
    ("gguf-nt-huge", &["tensor count"]),
    ("gguf-nt-overflow", &["tensor count"]),
    ("gguf-keylen-max", &["metadata key 0"]),
    ("gguf-strlen-huge", &["end of a,", "truncated"]),
    ("gguf-key-nonutf8", &["metadata key 0", "UTF-8"]),
    ("gguf-key-nul", &["general.architecture", "missing"]),
    ("gguf-key-dup", &["general.architecture", "twice"]),
    ("gguf-kvtype-13", &["13"]),
    ("gguf-arr-nested", &["array of arrays"]),
    ("gguf-arr-type-arr-of-unknown", &["element type 99"]),
    ("gguf-bool-2", &["tokenizer.ggml.add_bos_token", "bool"]),
    ("gguf-align-13", &["general.alignment", "13"]),
    ("gguf-align-2p31", &["general.alignment", "2147483648"]),
    ("gguf-ndims-1e6", &["1000000", "dimensions"]),
    ("gguf-ndims-5", &["5 dimensions"]),
    ("gguf-dim-neg", &["dimension -4"]),
    ("gguf-dims-wrap4", &["tensor `t`", "overflow"]),
    ("gguf-dims-2p40x2p40", &["tensor `t`", "overflow"]),
    ("gguf-dims-embd-2p42", &["tensor"]),
    ("gguf-off-unaligned", &["tensor `t`", "offset 7"]),
    ("gguf-off-wrap", &["tensor `t`", "offset"]),
    ("gguf-off-overlap", &["`a`", "`b`", "overlap"]),
    ("gguf-no-arch", &["general.architecture", "missing"]),
    ("gguf-arch-int", &["general.architecture", "unsigned integer", "string"]),
    ("gguf-trunc-half", &["truncated", "1054368", "527184"]),
    ("gguf-zip", &["not a GGUF file (looks like ZIP"]),
    ("gguf-html", &["not a GGUF file (looks like HTML"]),
    ("gguf-blk-index-huge", &["blk.4294967295.attn_q.weight"]),
    ("gguf-split-count", &["split.no", "7", "3"]),
    ("st-empty", &["header length", "truncated"]),
    ("st-7bytes", &["header length", "truncated"]),
    ("st-len-wrap", &["header length"]),
    ("st-len-100g", &["header length"]),
    ("st-len-past-end", &["header", "truncated"]),
    ("st-not-json", &["header", "EOF"]),
    ("st-nonutf8", &["header", "UTF-8"]),
    ("st-dup-key", &["`t`", "twice"]),
    ("st-off-neg", &["`t`", "-16"]),
    ("st-off-past", &["`t`", "truncated"]),
    ("st-off-2p40", &["`t`", "1099511627776"]),
    ("st-shape-mismatch", &["`t`", "16 bytes", "24"]),
    ("st-shape-wrap0", &["`t`", "overflow"]),
    ("st-shape-float", &["`t`", "1.5"]),
    ("st-shape-1e400", &["`t`", "out of range"]),
    ("st-offsets-3", &["`t`"]),
    ("st-overlap", &["`b`", "overlap"]),
    ("st-trailing", &["12 bytes follow"]),
    ("st-dtype-unknown", &["`t`", "F99"]),
    ("st-lfs-pointer", &["git-LFS pointer"]),
    ("index-absolute", &["weight_map", "/dev/zero"]),
    ("index-missing-shard", &["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]),
    ("index-wrong-type", &["weight_map", "a list"]),
];

fn open(kind: &str, file: &Path) -> Result<Checkpoint, Error> {
    match kind {
        "gguf" => Gguf::open(file).map(Checkpoint::Gguf),
        "safetensors" => Safetensors::open_file(file).map(Checkpoint::Safetensors),
        _ => Safetensors::open_index(file).map(Checkpoint::Safetensors),
    }
}

#[test]
fn every_hostile_file_is_refused_with_its_reason() {
    let Some(folder) = material("bad-inputs") else { return };
    let cases = weights::read_json(&folder.join("cases.json"), 1 << 20).unwrap();
    let mut seen = 0;
    for case in cases.as_array().unwrap() {
        let (id, kind) = (case["id"].as_str().unwrap(), case["kind"].as_str().unwrap());
        let Some(file) = case["file"].as_str().filter(|_| ["gguf", "safetensors", "index"].contains(&kind))
        else {
            continue;
        };
        seen += 1;
        let start = Instant::now();
        let result = open(kind, &folder.join(file));
        assert!(start.elapsed() < Duration::from_secs(1), "{id} took {:?}", start.elapsed());
        if FOR_OTHERS.contains(&id) {
            assert!(result.is_ok(), "{id}: {}", result.unwrap_err());
            continue;
        }
        let message = result.err().unwrap_or_else(|| panic!("{id} was accepted")).to_string();
        println!("{message}");
        assert!(message.contains(file), "{id}: the file is not named: {message}");
        let (_, words) = SAYS.iter().find(|(i, _)| *i == id).unwrap_or_else(|| panic!("{id} has no row"));
        for word in *words {
            assert!(message.contains(word), "{id}: `{word}` is not said: {message}");
        }
    }
    assert_eq!(seen, SAYS.len() + FOR_OTHERS.len());
}

/// The most memory that this process has had resident, in bytes.
#[cfg(target_os = "linux")]
fn peak_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

#[cfg(target_os = "linux")]
// A sanitizer's own memory is beyond what is counted here.
#[cfg(not(sanitized))]
#[test]
fn hostile_files_cost_no_memory() {
    let Some(folder) = material("bad-inputs") else { return };
    let before = peak_memory();
    for entry in std::fs::read_dir(folder).unwrap() {
        // Whatever the file, every reader is tried on it.
        let path = entry.unwrap().path();
        for kind in ["gguf", "safetensors", "index"] {
            drop(open(kind, &path));
        }
    }
    // The largest file has a megabyte; the other tests of this binary run beside this one.
    let grown = peak_memory() - before;
    assert!(grown < 64 << 20, "{grown} bytes");
}

#[test]
fn scores_of_the_wrong_type_are_not_read_as_floats() {
    let Some(folder) = material("bad-inputs") else { return };
    let gguf = Gguf::open(&folder.join("gguf-scores-u8.gguf")).unwrap();
    let message = gguf.metadata.floats("tokenizer.ggml.scores").unwrap_err().to_string();
    assert!(message.contains("array of u8") && message.contains("array of f32"), "{message}");
}

#[test]
fn every_good_gguf_opens_and_agrees_with_the_safetensors() {
    let Some(folder) = material("stories260K") else { return };
    let hf = Safetensors::open_folder(&folder.join("hf")).unwrap();
    let mut seen = 0;
    for entry in std::fs::read_dir(folder.join("gguf")).unwrap() {
        let path = entry.unwrap().path();
        let gguf = Gguf::open(&path).unwrap();
        seen += 1;
        assert_eq!(gguf.architecture().unwrap(), "llama");
        assert_eq!(gguf.metadata.strings("tokenizer.ggml.tokens").unwrap().unwrap().len(), 512);
        assert_eq!(gguf.metadata.floats("tokenizer.ggml.scores").unwrap().unwrap().len(), 512);
        for (name, tensor) in &hf.tensors {
            let name = weights::gguf_name(name, &[]).unwrap();
            let ours = gguf.tensor(&name).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(ours.shape, tensor.shape, "{name}");
            assert_eq!(Some(ours.bytes().len()), ours.dtype.bytes(ours.elements()), "{name}");
            // llama.cpp's converter permutes the rows of q and k; everything else is the same numbers.
            let permuted = name.contains("attn_q") || name.contains("attn_k");
            if ours.dtype == DType::F32 && tensor.dtype == DType::F32 && !permuted {
                assert_eq!(ours.bytes(), tensor.bytes(), "{name}");
            }
        }
    }
    assert_eq!(seen, 8);
}

#[test]
fn every_vocabulary_opens() {
    let Some(folder) = material("tokenizers/ggml") else { return };
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "gguf") {
            let gguf = Gguf::open(&path).unwrap();
            assert!(gguf.metadata.strings("tokenizer.ggml.tokens").unwrap().unwrap().len() > 30_000);
            seen += 1;
        }
    }
    assert!(seen >= 10, "{seen}");
}
