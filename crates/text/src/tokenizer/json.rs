//! Hugging Face's `tokenizer.json`, checked before the library sees it: size, depth, model type, ids of
//! the post-processor's template.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokenizers::models::bpe::BPE;
use tokenizers::models::unigram::Unigram;
use tokenizers::models::wordlevel::WordLevel;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::{AddedToken, ModelWrapper};

use super::pipeline::{AnyModel, Parts};
use crate::{Error, Result};

/// Nothing that a real file has beside its vocabulary is longer: a normalizer's map of characters has half a megabyte.
const MAX_PART: usize = 8 << 20;
/// Nothing that a real file nests goes deeper.
const MAX_DEPTH: usize = 64;

#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    normalizer: Option<&'a RawValue>,
    #[serde(borrow)]
    pre_tokenizer: Option<&'a RawValue>,
    #[serde(borrow)]
    post_processor: Option<&'a RawValue>,
    #[serde(borrow)]
    decoder: Option<&'a RawValue>,
    #[serde(default)]
    added_tokens: Option<Vec<AddedToken>>,
    version: Option<String>,
}

#[derive(Deserialize)]
struct Typed<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<std::borrow::Cow<'a, str>>,
}

/// Reads a tokenizer.json. `origin` names it in errors.
pub(crate) fn load(origin: &str, bytes: &[u8]) -> Result<Parts> {
    let fail = |what: String| Error::tokenizer(origin, what);
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    check_depth(bytes).map_err(fail)?;
    let text = std::str::from_utf8(bytes).map_err(|e| fail(format!("is not UTF-8: {e}")))?;
    let file: File<'_> = serde_json::from_str(text).map_err(|e| fail(format!("is not a tokenizer: {e}")))?;
    if let Some(version) = file.version.as_deref().filter(|&version| version != "1.0") {
        return Err(fail(format!("`version` is {version:?}, only \"1.0\" is known")));
    }
    let model = file.model.ok_or_else(|| {
        fail(
            "has no `model`; a tokenizer.json has one, with a vocabulary: download the file again".to_owned(),
        )
    })?;
    let mut parts = Parts::new(origin, AnyModel::Library(Box::new(self::model(model).map_err(fail)?)));
    let others = [file.normalizer, file.pre_tokenizer, file.post_processor, file.decoder];
    if let Some(long) = others.into_iter().flatten().find(|raw| raw.get().len() > MAX_PART) {
        let long = long.get().len();
        return Err(fail(format!(
            "has a part of {long} bytes beside the model, at most {MAX_PART} are read"
        )));
    }
    parts.normalizer = part("normalizer", file.normalizer).map_err(fail)?;
    parts.splitter = part("pre_tokenizer", file.pre_tokenizer).map_err(fail)?;
    check_template(file.post_processor).map_err(fail)?;
    parts.post = part("post_processor", file.post_processor).map_err(fail)?;
    parts.decoder = part("decoder", file.decoder).map_err(fail)?;
    parts.added = file.added_tokens.unwrap_or_default();
    Ok(parts)
}

/// Brackets nested too deep are refused before any recursive reader sees them.
fn check_depth(bytes: &[u8]) -> Result<(), String> {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for &byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(format!("is nested more than {MAX_DEPTH} deep; no real tokenizer is"));
        }
    }
    Ok(())
}

fn part<T: DeserializeOwned>(name: &str, raw: Option<&RawValue>) -> Result<Option<T>, String> {
    let Some(raw) = raw.filter(|raw| raw.get() != "null") else { return Ok(None) };
    let kind = serde_json::from_str::<Typed<'_>>(raw.get()).ok().and_then(|typed| typed.kind);
    let parsed = serde_json::from_str(raw.get()).map_err(|e| {
        let kind = kind.map_or(String::new(), |kind| format!(" (of type {kind:?})"));
        format!("`{name}`{kind} cannot be used: {e}")
    })?;
    Ok(Some(parsed))
}

fn model(raw: &RawValue) -> Result<ModelWrapper, String> {
    fn read<T: DeserializeOwned>(raw: &RawValue) -> Result<T, String> {
        serde_json::from_str(raw.get()).map_err(|e| format!("`model` cannot be used: {e}"))
    }
    let typed: Typed<'_> = serde_json::from_str(raw.get()).map_err(|e| format!("`model`: {e}"))?;
    Ok(match typed.kind.as_deref() {
        Some("BPE") => ModelWrapper::BPE(read::<BPE>(raw)?),
        Some("WordPiece") => ModelWrapper::WordPiece(read::<WordPiece>(raw)?),
        Some("WordLevel") => ModelWrapper::WordLevel(read::<WordLevel>(raw)?),
        Some("Unigram") => ModelWrapper::Unigram(read::<Unigram>(raw)?),
        Some(other) => {
            return Err(format!(
                "`model.type` is {other:?}; known are \"BPE\", \"WordPiece\", \"WordLevel\" and \"Unigram\""
            ));
        }
        None => read::<ModelWrapper>(raw)?,
    })
}

/// A template may only name special tokens that it defines (the library panics on others).
fn check_template(raw: Option<&RawValue>) -> Result<(), String> {
    let Some(raw) = raw.filter(|raw| raw.get() != "null") else { return Ok(()) };
    let value: serde_json::Value =
        serde_json::from_str(raw.get()).map_err(|e| format!("`post_processor`: {e}"))?;
    let mut todo = vec![&value];
    while let Some(post) = todo.pop() {
        if let Some(list) = post.get("processors").and_then(|list| list.as_array()) {
            todo.extend(list);
        }
        for key in ["single", "pair"] {
            let pieces = post.get(key).and_then(|list| list.as_array());
            for id in pieces.into_iter().flatten().filter_map(|piece| piece.pointer("/SpecialToken/id")) {
                let id = id.as_str().unwrap_or_default();
                let defined = post.get("special_tokens").and_then(|tokens| tokens.get(id));
                let same =
                    |name: &str| defined.and_then(|d| d.get(name)).and_then(|a| a.as_array()).map(Vec::len);
                if defined.is_none() || same("ids") != same("tokens") {
                    return Err(format!(
                        "`post_processor.{key}` uses the special token {id:?}, which `special_tokens` there \
                         does not define"
                    ));
                }
            }
        }
    }
    Ok(())
}
