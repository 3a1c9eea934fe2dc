//! A model's folder: which of the tokenizer's forms is there, and what the files beside it add.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::{AddedToken, DecoderWrapper, Model, ModelWrapper};

use super::pipeline::{AnyModel, Parts};
use super::{gguf, json, sentencepiece, split, tiktoken};
use crate::error::read_file;
use crate::{Error, Result};

/// The largest tokenizer files in use have 35 MB.
const MAX_FILE: u64 = 128 << 20;
const MAX_CONFIG: u64 = 16 << 20;

/// Loads whichever form the folder has.
pub(crate) fn load(dir: &Path) -> Result<Parts> {
    let config = read_json(&dir.join("tokenizer_config.json"))?.unwrap_or(Value::Null);
    let map = read_json(&dir.join("special_tokens_map.json"))?.unwrap_or(Value::Null);
    let json_path = dir.join("tokenizer.json");
    let from_json = json_path.is_file();
    let mut parts = if from_json {
        json::load(&json_path.display().to_string(), &read_file(&json_path, MAX_FILE)?)?
    } else {
        let mut parts = other_forms(dir, &config)?;
        add_tokens(dir, &config, &mut parts)?;
        parts
    };
    name_specials(&config, &map, &mut parts);
    if from_json {
        add_bos_by_config(&config, &mut parts);
    }
    Ok(parts)
}

fn other_forms(dir: &Path, config: &Value) -> Result<Parts> {
    let model = dir.join("tokenizer.model");
    if model.is_file() {
        let bytes = read_file(&model, MAX_FILE)?;
        let origin = model.display().to_string();
        if tiktoken::looks_like(&bytes) {
            return tiktoken::load(&origin, &bytes);
        }
        return sentencepiece::load(&origin, &bytes, config);
    }
    if dir.join("vocab.json").is_file() && dir.join("merges.txt").is_file() {
        return vocab_and_merges(dir);
    }
    if let Some(path) = tiktoken_file(dir)? {
        return tiktoken::load(&path.display().to_string(), &read_file(&path, MAX_FILE)?);
    }
    Err(Error::tokenizer(
        dir.display().to_string(),
        "has no tokenizer: looked for tokenizer.json, tokenizer.model, vocab.json with merges.txt, and \
         *.tiktoken; download the model with its tokenizer files",
    ))
}

fn tiktoken_file(dir: &Path) -> Result<Option<PathBuf>> {
    let entries = std::fs::read_dir(dir).map_err(|source| Error::Io { path: dir.to_owned(), source })?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.ends_with(".tiktoken") || name == "tiktoken.model"
        })
        .collect();
    found.sort();
    Ok(found.into_iter().next())
}

/// A JSON file that may be missing.
pub(crate) fn read_json(path: &Path) -> Result<Option<Value>> {
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = read_file(path, MAX_CONFIG)?;
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes);
    let value = serde_json::from_slice(bytes)
        .map_err(|e| Error::tokenizer(path.display().to_string(), format!("is not JSON: {e}")))?;
    Ok(Some(value))
}

fn vocab_and_merges(dir: &Path) -> Result<Parts> {
    let path = dir.join("vocab.json");
    let origin = path.display().to_string();
    let ids: HashMap<String, u32> = serde_json::from_slice(&read_file(&path, MAX_FILE)?)
        .map_err(|e| Error::tokenizer(&origin, format!("is not a map of tokens to ids: {e}")))?;
    let merges_path = dir.join("merges.txt");
    let merges = read_file(&merges_path, MAX_FILE)?;
    let at_merges = |what: String| Error::tokenizer(merges_path.display().to_string(), what);
    let merges = String::from_utf8(merges).map_err(|e| at_merges(format!("is not UTF-8: {e}")))?;
    let lines = merges.lines().filter(|line| !line.starts_with("#version") && !line.is_empty());
    let lines: Vec<String> = lines.map(str::to_owned).collect();
    let model = gguf::merges_model(ids, &lines, false).map_err(at_merges)?;
    let mut parts = Parts::new(origin, AnyModel::Library(Box::new(ModelWrapper::BPE(model))));
    byte_level(&mut parts, split::gpt2())?;
    Ok(parts)
}

/// Makes the parts byte-level, cut by these patterns.
pub(crate) fn byte_level(parts: &mut Parts, patterns: &[&str]) -> Result<()> {
    let splitter = split::splitter(patterns).map_err(|what| Error::tokenizer(&parts.origin, what))?;
    parts.splitter = Some(splitter);
    parts.decoder = Some(DecoderWrapper::ByteLevel(ByteLevel::new(false, true, false)));
    Ok(())
}

/// The text of a token that a configuration names, written as a string or as `{"content": ...}`.
fn content(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

fn flag(value: &Value, key: &str) -> bool {
    value.get(key).and_then(Value::as_bool).unwrap_or(false)
}

/// Tokens beside the vocabulary, by id: tokenizer_config.json's `added_tokens_decoder`, added_tokens.json.
/// The library numbers new tokens itself, so they must follow the vocabulary without a gap.
fn add_tokens(dir: &Path, config: &Value, parts: &mut Parts) -> Result<()> {
    let mut by_id: Vec<(u32, AddedToken)> = Vec::new();
    let extra = read_json(&dir.join("added_tokens.json"))?.unwrap_or(Value::Null);
    for (text, id) in extra.as_object().into_iter().flatten() {
        if let Some(id) = id.as_u64().and_then(|id| u32::try_from(id).ok()) {
            by_id.push((id, AddedToken::from(text.clone(), false).normalized(false)));
        }
    }
    let decoder = config.get("added_tokens_decoder").and_then(Value::as_object);
    for (id, token) in decoder.into_iter().flatten() {
        let (Ok(id), Some(text)) = (id.parse::<u32>(), content(token)) else { continue };
        let added = AddedToken::from(text.to_owned(), flag(token, "special"))
            .normalized(flag(token, "normalized"))
            .lstrip(flag(token, "lstrip"))
            .rstrip(flag(token, "rstrip"))
            .single_word(flag(token, "single_word"));
        by_id.retain(|(known, _)| *known != id);
        by_id.push((id, added));
    }
    by_id.sort_by_key(|(id, _)| *id);
    let mut next = match &parts.model {
        AnyModel::Library(model) => model.get_vocab_size(),
        AnyModel::Spm(model) => model.get_vocab_size(),
        AnyModel::Greedy(model) => model.get_vocab_size(),
    } as u32;
    next += parts.added.iter().filter(|token| id_in(&parts.model, &token.content).is_none()).count() as u32;
    for (id, token) in by_id {
        let known = id_in(&parts.model, &token.content);
        if known.is_none() && id != next {
            // A hole: reserved ids that the model has and no text means.
            while next < id && next as usize <= super::MAX_VOCAB {
                parts.added.push(AddedToken::from(format!("<|reserved:{next}|>"), true).normalized(false));
                next += 1;
            }
        }
        if known.is_some_and(|known| known != id) || (known.is_none() && id != next) {
            let what =
                format!("the added token {:?} has id {id}, which the vocabulary contradicts", token.content);
            return Err(Error::tokenizer(&parts.origin, what));
        }
        next += u32::from(known.is_none());
        parts.added.retain(|old| old.content != token.content);
        parts.added.push(token);
    }
    Ok(())
}

fn id_in(model: &AnyModel, token: &str) -> Option<u32> {
    match model {
        AnyModel::Library(model) => model.token_to_id(token),
        AnyModel::Spm(model) => model.token_to_id(token),
        AnyModel::Greedy(model) => model.token_to_id(token),
    }
}

/// The id of a token in the parts: in the vocabulary, or added after it.
fn find(parts: &Parts, token: &str) -> Option<u32> {
    if let Some(id) = id_in(&parts.model, token) {
        return Some(id);
    }
    let size = match &parts.model {
        AnyModel::Library(model) => model.get_vocab_size(),
        AnyModel::Spm(model) => model.get_vocab_size(),
        AnyModel::Greedy(model) => model.get_vocab_size(),
    };
    let mut new = parts.added.iter().filter(|added| id_in(&parts.model, &added.content).is_none());
    let at = new.position(|added| added.content == token)?;
    u32::try_from(size + at).ok()
}

/// BOS, EOS, UNK and PAD by the names that the configuration gives them.
fn name_specials(config: &Value, map: &Value, parts: &mut Parts) {
    let named = |key: &str| {
        let name = [config, map].into_iter().find_map(|file| content(file.get(key)?))?;
        find(parts, name)
    };
    let ids = [named("bos_token"), named("eos_token"), named("unk_token"), named("pad_token")];
    parts.bos = ids[0].or(parts.bos);
    parts.eos = ids[1].or(parts.eos);
    parts.unk = ids[2].or(parts.unk);
    parts.pad = ids[3].or(parts.pad);
}

/// Llama's and Gemma's classes put a BOS before a text when `add_bos_token` says so, even where
/// tokenizer.json's own post-processor does not.
fn add_bos_by_config(config: &Value, parts: &mut Parts) {
    let class = config.get("tokenizer_class").and_then(Value::as_str).unwrap_or_default();
    let family = ["Llama", "CodeLlama", "Gemma", "Cohere"].iter().any(|name| class.starts_with(name));
    let Some(bos) = parts.bos.filter(|_| family && flag(config, "add_bos_token")) else { return };
    let post = parts.post.as_ref().and_then(|post| serde_json::to_value(post).ok()).unwrap_or(Value::Null);
    if !adds_special(&post) {
        parts.prefix.push(bos);
    }
}

/// Whether a post-processor puts any special token before the text.
fn adds_special(post: &Value) -> bool {
    let inner = post.get("processors").and_then(Value::as_array).into_iter().flatten();
    let single = post.get("single").and_then(Value::as_array).into_iter().flatten();
    inner.into_iter().any(adds_special)
        || single.into_iter().any(|piece| piece.get("SpecialToken").is_some())
        || matches!(post.get("type").and_then(Value::as_str), Some("BertProcessing" | "RobertaProcessing"))
}
