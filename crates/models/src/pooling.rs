//! How a model's own files say that its positions become one vector: those of sentence-transformers beside config.json,
//! or a key of a GGUF.

use std::path::Path;

use serde_json::Value;
use weights::read_json;

use crate::encoder::{Embedding, Pool};
use crate::hparams::Hparams;
use crate::{Error, Result};

/// No file of these is larger.
const MAX_FILE: u64 = 1 << 20;

/// What `modules.json` and the files that it names say. `None` without one.
pub(crate) fn of_folder(folder: &Path) -> Result<Option<Embedding>> {
    let file = folder.join("modules.json");
    if !file.exists() {
        return Ok(None);
    }
    let modules = read_json(&file, MAX_FILE)?;
    let mut embedding = None;
    for module in modules.as_array().into_iter().flatten() {
        let word = |key: &str| module.get(key).and_then(Value::as_str).unwrap_or_default();
        match word("type").rsplit('.').next().unwrap_or_default() {
            "Transformer" if word("path").is_empty() => {}
            "Pooling" => embedding = Some(Embedding { pool: pooling(folder, word("path"))?, unit: false }),
            "Normalize" => embedding = embedding.map(|e| Embedding { unit: true, ..e }),
            other => {
                let expected = "Transformer in the folder itself, Pooling and Normalize";
                return Err(bad(&file, "type", format!("{other} in {:?}", word("path")), expected));
            }
        }
    }
    Ok(embedding)
}

/// The longest text, where sentence_bert_config.json says it.
pub(crate) fn longest(folder: &Path) -> Result<Option<usize>> {
    let file = folder.join("sentence_bert_config.json");
    if !file.exists() {
        return Ok(None);
    }
    let config = read_json(&file, MAX_FILE)?;
    match config.get("max_seq_length").filter(|v| !v.is_null()) {
        None => Ok(None),
        Some(n) => match n.as_u64().filter(|&n| n > 0) {
            Some(n) => Ok(Some(n as usize)),
            None => Err(bad(&file, "max_seq_length", n.to_string(), "a whole number of at least 1")),
        },
    }
}

fn pooling(folder: &Path, inside: &str) -> Result<Pool> {
    let plain = !inside.is_empty() && !inside.contains(['/', '\\']) && inside != "..";
    if !plain {
        return Err(bad(&folder.join("modules.json"), "path", format!("{inside:?}"), "a folder beside it"));
    }
    let file = folder.join(inside).join("config.json");
    let config = read_json(&file, MAX_FILE)?;
    let modes: Vec<&str> = match config.get("pooling_mode") {
        Some(Value::String(mode)) => vec![mode],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        _ => {
            let on = |(key, value): (&'static str, &Value)| (value.as_bool() == Some(true)).then_some(key);
            let keys = config.as_object().into_iter().flatten();
            let known = |key: &str| MODES.iter().find(|(k, _)| *k == key).map_or("another", |(_, mode)| mode);
            keys.filter_map(|(key, value)| on((key.starts_with("pooling_mode_").then(|| known(key))?, value)))
                .collect()
        }
    };
    match modes.as_slice() {
        ["cls"] => Ok(Pool::First),
        ["mean"] => Ok(Pool::Mean),
        ["lasttoken"] => Ok(Pool::Last),
        other => Err(bad(&file, "pooling_mode", other.join(", "), "one of cls, mean and lasttoken")),
    }
}

/// The older spelling: a truth value for each way.
const MODES: &[(&str, &str)] = &[
    ("pooling_mode_cls_token", "cls"),
    ("pooling_mode_mean_tokens", "mean"),
    ("pooling_mode_lasttoken", "lasttoken"),
];

/// What a GGUF says. (That vectors are brought to length 1 it leaves to the program; all do so.)
pub(crate) fn of_gguf(h: &Hparams, classifies: bool) -> Result<Option<Embedding>> {
    let pool = match h.opt_count("pooling_type")? {
        None => return Ok(None),
        Some(0) => Pool::Each,
        Some(1) => Pool::Mean,
        Some(2) => Pool::First,
        Some(3) => Pool::Last,
        Some(4) if classifies => return Ok(None),
        Some(other) => return Err(h.bad("pooling_type", other, "0 (none), 1 (mean), 2 (cls) or 3 (last)")),
    };
    Ok(Some(Embedding { pool, unit: pool != Pool::Each }))
}

fn bad(file: &Path, key: &str, found: String, expected: &str) -> Error {
    Error::Hparam {
        file: file.display().to_string(),
        arch: "sentence-transformers".into(),
        key: key.into(),
        found,
        expected: expected.into(),
    }
}
