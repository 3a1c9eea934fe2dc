//! The collection of hostile and broken files, each as a person would meet it: in a model that is run.
//!
//! The files lie outside the repository; where they are absent this says so and passes.
#![cfg(unix)]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use assert_cmd::Command;
use serde_json::Value;

use crate::home::{Home, stderr};

/// What any of them may take, on a busy machine and unoptimised.
const LONGEST: Duration = Duration::from_secs(20);
/// KiB of address space: room for the program and the stacks of its threads, not for what a hostile file asks for.
const ADDRESS_SPACE: &str = "4000000";
/// The kinds that a model is made of.
const KINDS: [&str; 8] =
    ["gguf", "safetensors", "index", "config", "tokenizer", "tiktoken", "spm", "template"];
/// Those that must run.
const ACCEPTED: [&str; 5] = ["gguf-ctx-4g", "cfg-ctx-1e18", "cfg-bom", "tok-vocab-gap", "tpl-generation"];
/// Those that may be refused or run: their `must` names both.
const EITHER: [&str; 2] = ["tok-added-empty", "tpl-mutate"];
/// What a message must say where `must` asks for more than the file.
const SAYS: [(&str, &[&str]); 14] = [
    ("gguf-version-future", &["version 4", "2 and 3"]),
    ("gguf-bigendian", &["big-endian"]),
    ("gguf-key-nul", &["general.architecture"]),
    ("gguf-no-arch", &["general.architecture"]),
    ("gguf-trunc-half", &["truncated", "1054368", "527184"]),
    ("gguf-nan-weights", &["NaN"]),
    ("gguf-zip", &["ZIP"]),
    ("gguf-html", &["HTML"]),
    ("st-lfs-pointer", &["git-LFS"]),
    ("index-missing-shard", &["model-00001-of-00002", "model-00002-of-00002"]),
    ("tok-type-unknown", &["Quantum"]),
    ("cfg-quant-unknown", &["mystery"]),
    ("cfg-tie-lmhead", &["lm_head.weight"]),
    ("tpl-unknown-filter", &["evil"]),
];

fn material(part: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/material").join(part);
    if !path.exists() {
        println!("skipped: {} is not there", path.display());
        return None;
    }
    Some(path)
}

/// The model that a case is met in: the file itself, or a good folder with the file in its place.
fn model(home: &Home, good: &Path, id: &str, kind: &str, bytes: &[u8]) -> PathBuf {
    let (place, instead_of) = match kind {
        "gguf" => return home.write(&format!("{id}.gguf"), bytes),
        "safetensors" => ("model.safetensors", None),
        "index" => ("model.safetensors.index.json", Some("model.safetensors")),
        "config" => ("config.json", None),
        "tokenizer" => ("tokenizer.json", None),
        "tiktoken" => ("qwen.tiktoken", Some("tokenizer.json")),
        "spm" => ("tokenizer.model", Some("tokenizer.json")),
        _ => ("chat_template.jinja", None),
    };
    for entry in std::fs::read_dir(good).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if Some(name.as_str()) != instead_of {
            home.write(&format!("{id}/{name}"), std::fs::read(entry.path()).unwrap());
        }
    }
    home.write(&format!("{id}/{place}"), bytes);
    home.path().join(id)
}

/// What is wrong with how the program takes the model, if anything.
fn fault(home: &Home, id: &str, must: &str, model: &Path) -> Option<String> {
    let start = Instant::now();
    let run = Command::new("sh")
        .args(["-c", "ulimit -v $0 && exec \"$@\"", ADDRESS_SPACE, env!("CARGO_BIN_EXE_influence")])
        .args(["generate", "Once upon a time", "--max-tokens", "4", "--seed", "1", "--model-path"])
        .arg(model)
        .env_clear()
        .envs(home.variables())
        .timeout(LONGEST)
        .output();
    let run = match run {
        Ok(run) => run,
        Err(error) => return Some(format!("cannot be run: {error}")),
    };
    let text = stderr(&run);
    let Some(code) = run.status.code() else {
        return Some(format!("ended by a signal after {:?} ({}): {text}", start.elapsed(), run.status));
    };
    if text.contains("panicked") || ![0, 1, 2, 3, 5].contains(&code) {
        return Some(format!("exit code {code}: {text}"));
    }
    let (accepted, either) = (ACCEPTED.contains(&id), EITHER.contains(&id));
    if code == 0 {
        let warned = must.contains("warn") && text.contains("warning: ");
        return (!accepted && !either && !warned).then(|| format!("was not refused: {text}"));
    }
    if accepted || !text.contains("error: ") {
        return Some(format!("was refused: {text}"));
    }
    let says = SAYS.iter().find(|(case, _)| *case == id).map_or(&[][..], |(_, words)| words);
    let missing = says.iter().copied().find(|word| !text.contains(word));
    let unnamed = (!text.contains(id) && id != "gguf-nan-weights").then_some("the file's name");
    missing.or(unnamed).map(|what| format!("does not say {what}: {text}"))
}

#[test]
fn every_case_is_taken_as_it_must_be() {
    let (Some(folder), Some(good)) = (material("bad-inputs"), material("stories260K/hf")) else { return };
    let cases: Vec<Value> =
        serde_json::from_slice(&std::fs::read(folder.join("cases.json")).unwrap()).unwrap();
    let home = Home::new();
    let mut seen = 0;
    let mut faults = Vec::new();
    for case in &cases {
        let text = |key: &str| case[key].as_str().unwrap_or_default();
        let (id, kind, file) = (text("id"), text("kind"), text("file"));
        if !KINDS.contains(&kind) || file.is_empty() {
            continue;
        }
        let bytes = std::fs::read(folder.join(file)).unwrap();
        let model = model(&home, &good, id, kind, &bytes);
        faults.extend(fault(&home, id, text("must"), &model).map(|fault| format!("{id} ({kind}): {fault}")));
        seen += 1;
    }
    println!("{seen} cases");
    assert!(seen > 90, "{seen}");
    assert!(faults.is_empty(), "{} of {seen} cases:\n{}", faults.len(), faults.join("\n"));
}

/// This one needs no collection: a config.json of one long string.
#[test]
fn a_side_file_of_80_megabytes_is_refused() {
    let home = Home::new();
    let folder = home.llama("huge-config", |_| {});
    home.write("huge-config/config.json", format!("{{\"architectures\": [\"{}\"]}}", "a".repeat(80 << 20)));
    assert_eq!(fault(&home, "huge-config", "", &folder), None);
}
