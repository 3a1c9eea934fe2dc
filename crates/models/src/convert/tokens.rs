//! tokenizer.json as GGUF's `tokenizer.*` keys, the way llama.cpp's converter has them.
//!
//! Byte-level BPE becomes `gpt2` with its merges and the name of its pre-tokenizer; BPE with byte fallback,
//! which was made of a SentencePiece model, becomes `llama` again, its scores being the ranks of the merges; Unigram
//! becomes `t5`, WordPiece `bert`.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;
use weights::{Field, read_json};

use crate::spec::Spec;
use crate::{Error, Result};

/// The largest tokenizer.json in use has 35 MB.
const MAX_TOKENIZER: u64 = 128 << 20;
const MAX_CONFIG: u64 = 16 << 20;

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// A folder's tokenizer and what its side files say of it.
struct Folder<'a> {
    path: &'a Path,
    tokenizer: Value,
    /// tokenizer_config.json.
    settings: Value,
    /// special_tokens_map.json.
    map: Value,
    /// generation_config.json.
    generation: Value,
    /// config.json.
    config: &'a Value,
}

/// The keys of the folder's tokenizer and template; none, and a note, if it has no tokenizer.json.
pub(super) fn fields(
    path: &Path,
    spec: &Spec,
    config: &Value,
    notes: &mut Vec<String>,
) -> Result<Vec<(String, Field)>> {
    if !path.join("tokenizer.json").is_file() {
        notes.push(format!(
            "{}: no tokenizer.json, so the file has no tokenizer: it takes and gives token ids only",
            path.display()
        ));
        // llama.cpp wants to be told.
        return Ok([vec![(key("model"), Field::String("none".into()))], type_count(spec, config)].concat());
    }
    let side = |name: &str| {
        let file = path.join(name);
        if file.is_file() { read_json(&file, MAX_CONFIG) } else { Ok(Value::Null) }
    };
    let folder = Folder {
        path,
        tokenizer: read_json(&path.join("tokenizer.json"), MAX_TOKENIZER)?,
        settings: side("tokenizer_config.json")?,
        map: side("special_tokens_map.json")?,
        generation: side("generation_config.json")?,
        config,
    };
    let mut fields = folder.vocabulary(spec.vocab, notes)?;
    fields.extend(folder.special(spec.vocab));
    fields.extend(folder.template()?);
    fields.extend(type_count(spec, config));
    Ok(fields)
}

/// Kinds of tokens that a model has vectors for.
fn type_count(spec: &Spec, config: &Value) -> Vec<(String, Field)> {
    let count = config["type_vocab_size"].as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(2);
    if spec.token_types { vec![(key("token_type_count"), Field::U32(count))] } else { vec![] }
}

fn key(name: &str) -> String {
    format!("tokenizer.ggml.{name}")
}

/// Tokens and types by id.
struct Tokens {
    texts: Vec<String>,
    kinds: Vec<i32>,
}

impl Folder<'_> {
    fn bad(&self, found: impl ToString, expected: impl ToString) -> Error {
        Error::Hparam {
            file: self.path.join("tokenizer.json").display().to_string(),
            arch: "tokenizer".into(),
            key: "model".into(),
            found: found.to_string(),
            expected: expected.to_string(),
        }
    }

    fn model(&self) -> &Value {
        &self.tokenizer["model"]
    }

    fn vocabulary(&self, size: usize, notes: &mut Vec<String>) -> Result<Vec<(String, Field)>> {
        let model = self.model();
        let kind = model["type"].as_str().unwrap_or_else(|| match &model["vocab"] {
            Value::Array(_) => "Unigram",
            _ if model["merges"].is_array() => "BPE",
            _ => "WordPiece",
        });
        let known = match kind {
            "BPE" | "WordPiece" => model["vocab"].is_object(),
            "Unigram" => model["vocab"].is_array(),
            _ => false,
        };
        if !known {
            return Err(
                self.bad(format!("a {kind} vocabulary"), "BPE, Unigram or WordPiece: take the model's GGUF")
            );
        }
        let mut tokens = self.tokens(size, notes);
        let mut fields = match kind {
            "WordPiece" => self.wordpiece_keys(&mut tokens),
            "Unigram" => self.unigram_keys(&tokens)?,
            _ if self.byte_level() => self.byte_level_keys(notes),
            _ => self.sentencepiece_keys(&tokens),
        };
        let kinds = tokens.kinds.iter().map(|&k| Field::I32(k)).collect();
        fields.push((key("tokens"), Field::Strings(tokens.texts)));
        fields.push((key("token_type"), Field::List(kinds)));
        Ok(fields)
    }

    /// Whether the alphabet is GPT-2's rather than SentencePiece's.
    fn byte_level(&self) -> bool {
        ["pre_tokenizer", "decoder"].iter().any(|part| has_type(&self.tokenizer[*part], "ByteLevel"))
    }

    /// All ids below `size`; those without a token are reserved.
    fn tokens(&self, size: usize, notes: &mut Vec<String>) -> Tokens {
        let mut tokens =
            Tokens { texts: (0..size).map(|id| format!("[PAD{id}]")).collect(), kinds: vec![UNUSED; size] };
        let mut outside = 0;
        let mut set = |text: &str, id: Option<u64>, kind: i32| match id
            .and_then(|id| usize::try_from(id).ok())
            .filter(|&id| id < size)
        {
            Some(id) => (tokens.texts[id], tokens.kinds[id]) = (text.to_string(), kind),
            None => outside += 1,
        };
        for (text, id) in self.entries() {
            let byte =
                !self.byte_level() && text.len() == 6 && text.starts_with("<0x") && text.ends_with('>');
            set(text, id, if byte { BYTE } else { NORMAL });
        }
        let unknown = self.unknown();
        if let Some((text, id)) = unknown.and_then(|text| Some((text, self.find(text)?))) {
            set(text, Some(id.into()), if self.byte_level() { NORMAL } else { UNKNOWN });
        }
        for added in self.tokenizer["added_tokens"].as_array().into_iter().flatten() {
            let Some(text) = added["content"].as_str() else { continue };
            let kind = match added["special"].as_bool().unwrap_or(false) {
                true if Some(text) == unknown && !self.byte_level() => UNKNOWN,
                true => CONTROL,
                false => USER_DEFINED,
            };
            set(text, added["id"].as_u64(), kind);
        }
        if outside > 0 {
            notes
                .push(format!("{outside} tokens have ids that the model has no rows for; they are left out"));
        }
        tokens
    }

    /// Tokens and ids of the model: an object, or with Unigram a list of tokens and scores.
    fn entries(&self) -> impl Iterator<Item = (&str, Option<u64>)> {
        let vocab = &self.model()["vocab"];
        let named = vocab.as_object().into_iter().flatten().map(|(text, id)| (text.as_str(), id.as_u64()));
        let listed = vocab.as_array().into_iter().flatten().enumerate();
        named.chain(listed.filter_map(|(id, piece)| Some((piece[0].as_str()?, Some(id as u64)))))
    }

    /// The token for what no token covers.
    fn unknown(&self) -> Option<&str> {
        let id = self.model()["unk_id"].as_u64().and_then(|id| usize::try_from(id).ok());
        let listed = id.and_then(|id| self.model()["vocab"][id][0].as_str());
        self.model()["unk_token"].as_str().or(listed)
    }

    /// Words begin with a mark, and what continues one has none. (What stands in brackets is neither.)
    fn wordpiece_keys(&self, tokens: &mut Tokens) -> Vec<(String, Field)> {
        for (text, _) in tokens.texts.iter_mut().zip(&tokens.kinds).filter(|(_, kind)| **kind == NORMAL) {
            let bracketed = text.len() > 2 && text.starts_with('[') && text.ends_with(']');
            *text = match text.strip_prefix("##") {
                Some(rest) if !rest.is_empty() => rest.to_string(),
                _ if bracketed => continue,
                _ => format!("▁{text}"),
            };
        }
        let normalizer = find_type(&self.tokenizer["normalizer"], "BertNormalizer");
        let lowercase = normalizer.is_some_and(|n| n["lowercase"] != Value::Bool(false));
        let strips = normalizer.and_then(|n| n["strip_accents"].as_bool()).unwrap_or(lowercase);
        vec![
            (key("model"), Field::String("bert".into())),
            (key("pre"), Field::String("default".into())),
            (key("normalizer.lowercase"), Field::Bool(lowercase)),
            (key("normalizer.strip_accents"), Field::Bool(strips)),
        ]
    }

    fn unigram_keys(&self, tokens: &Tokens) -> Result<Vec<(String, Field)>> {
        let list = self.model()["vocab"].as_array();
        let score = |id: usize| list.and_then(|l| l.get(id)?[1].as_f64()).unwrap_or(0.0);
        let scores = (0..tokens.texts.len()).map(|id| Field::F32(score(id) as f32)).collect();
        let normalizer = &self.tokenizer["normalizer"];
        let squeezes = find_type(normalizer, "Replace").is_some_and(|r| r["pattern"]["Regex"] == " {2,}");
        let mut fields = vec![
            (key("model"), Field::String("t5".into())),
            (key("pre"), Field::String("default".into())),
            (key("scores"), Field::List(scores)),
            (key("add_space_prefix"), Field::Bool(self.space_prefix())),
            (key("remove_extra_whitespaces"), Field::Bool(squeezes)),
        ];
        if let Some(table) = find_type(normalizer, "Precompiled") {
            let text = table["precompiled_charsmap"].as_str().unwrap_or_default();
            let bytes = base64(text).ok_or_else(|| self.bad("a precompiled_charsmap", "one in base64"))?;
            fields.push((key("precompiled_charsmap"), Field::Bytes(bytes)));
        }
        Ok(fields)
    }

    fn merges(&self) -> impl Iterator<Item = (&str, &str)> {
        let list = self.model()["merges"].as_array().into_iter().flatten();
        list.filter_map(|merge| match merge {
            Value::String(pair) => pair.split_once(' '),
            pair => Some((pair.get(0)?.as_str()?, pair.get(1)?.as_str()?)),
        })
    }

    fn byte_level_keys(&self, notes: &mut Vec<String>) -> Vec<(String, Field)> {
        let pre = self.pre().unwrap_or_else(|| {
            notes.push(
                "the pre-tokenizer's expressions are none that GGUF has a name for: `default` is written, \
                 and some texts will be cut into other tokens than the model knows"
                    .into(),
            );
            "default"
        });
        let merges = self.merges().map(|(left, right)| format!("{left} {right}")).collect();
        vec![
            (key("model"), Field::String("gpt2".into())),
            (key("pre"), Field::String(pre.into())),
            (key("merges"), Field::Strings(merges)),
        ]
    }

    /// SentencePiece merges the pair whose whole has the best score: here the earliest merge.
    fn sentencepiece_keys(&self, tokens: &Tokens) -> Vec<(String, Field)> {
        let mut ranks: HashMap<String, usize> = HashMap::new();
        let mut count = 0;
        for (rank, (left, right)) in self.merges().enumerate() {
            ranks.entry(format!("{left}{right}")).or_insert(rank);
            count = rank + 1;
        }
        let score = |(text, &kind): (&String, &i32)| {
            let rank = ranks.get(text).copied().unwrap_or(count);
            Field::F32(if kind == NORMAL { -(rank as f32) } else { 0.0 })
        };
        let scores = tokens.texts.iter().zip(&tokens.kinds).map(score).collect();
        vec![
            (key("model"), Field::String("llama".into())),
            (key("pre"), Field::String("default".into())),
            (key("scores"), Field::List(scores)),
            (key("add_space_prefix"), Field::Bool(self.space_prefix())),
        ]
    }

    /// Whether a space is put before a text.
    fn space_prefix(&self) -> bool {
        let prepends = has_type(&self.tokenizer["normalizer"], "Prepend");
        let metaspace = find_type(&self.tokenizer["pre_tokenizer"], "Metaspace");
        let scheme = metaspace.and_then(|m| m["prepend_scheme"].as_str());
        let flag = metaspace.and_then(|m| m["add_prefix_space"].as_bool());
        prepends || scheme.map_or(flag.unwrap_or(false), |scheme| scheme != "never")
    }

    /// The name of the pre-tokenizer, by its expressions.
    fn pre(&self) -> Option<&'static str> {
        let part = &self.tokenizer["pre_tokenizer"];
        let mut found = vec![];
        expressions(part, &mut found);
        let digits = find_type(part, "Digits").is_some_and(|d| d["individual_digits"] == Value::Bool(true));
        let whole_first = self.model()["ignore_merges"].as_bool().unwrap_or(false);
        match found.as_slice() {
            [] if digits => Some("smollm"),
            [] => Some("gpt-2"),
            [LLAMA3] if whole_first => Some("llama-bpe"),
            [LLAMA3] => Some("dbrx"),
            _ if digits => None,
            list => PRE.iter().find(|(known, _)| *known == list).map(|(_, name)| *name),
        }
    }

    /// A special token by the name that the side files give it, else by config.json's id.
    fn id(&self, name: &str) -> Option<u32> {
        let token = format!("{name}_token");
        let named = [&self.settings, &self.map].into_iter().find_map(|file| content(&file[token.as_str()]));
        let by_name = named.and_then(|text| self.find(text));
        by_name.or_else(|| listed(&self.config[format!("{name}_token_id")]).first().copied())
    }

    fn find(&self, text: &str) -> Option<u32> {
        let added = self.tokenizer["added_tokens"].as_array().into_iter().flatten();
        let mut added = added.filter(|a| a["content"].as_str() == Some(text));
        let id = match added.next() {
            Some(added) => added["id"].as_u64(),
            None => self.entries().find(|(name, _)| *name == text)?.1,
        };
        id.and_then(|id| u32::try_from(id).ok())
    }

    fn special(&self, size: usize) -> Vec<(String, Field)> {
        let known = |id: Option<u32>| id.filter(|&id| (id as usize) < size);
        // An encoder's texts begin and end with tokens of other names.
        let (cls, sep) = (known(self.id("cls")), known(self.id("sep")));
        let [(before, first), (after, last)] = self.around();
        let (bos, eos) =
            (known(self.id("bos")).or(cls).or(known(first)), known(self.id("eos")).or(sep).or(known(last)));
        let mut fields = vec![];
        let mut put = |name: &str, id: Option<u32>| fields.extend(id.map(|id| (key(name), Field::U32(id))));
        put("bos_token_id", bos);
        put("eos_token_id", eos);
        put("unknown_token_id", known(self.id("unk")));
        put("padding_token_id", known(self.id("pad")));
        put("cls_token_id", cls);
        put("seperator_token_id", sep);
        put("mask_token_id", known(self.id("mask")));
        let ends = listed(&self.generation["eos_token_id"]);
        put("eot_token_id", known(ends.into_iter().find(|&id| eos.is_some() && Some(id) != eos)));
        fields.push((key("add_bos_token"), Field::Bool(before && bos.is_some())));
        fields.push((key("add_eos_token"), Field::Bool(after && eos.is_some())));
        fields
    }

    /// Whether a special token is put before a text, and after it, and which: by the post-processor, or by the flag
    /// that Llama's and Gemma's classes heed.
    fn around(&self) -> [(bool, Option<u32>); 2] {
        let processor = &self.tokenizer["post_processor"];
        let number = |v: &Value| v.as_u64().and_then(|id| u32::try_from(id).ok());
        let pair = ["RobertaProcessing", "BertProcessing"].iter().find_map(|kind| find_type(processor, kind));
        if let Some(pair) = pair {
            return ["cls", "sep"].map(|name| (true, number(&pair[name][1])));
        }
        let template = find_type(processor, "TemplateProcessing").unwrap_or(&Value::Null);
        let single = template["single"].as_array().map(Vec::as_slice).unwrap_or_default();
        let special = |piece: Option<&Value>| {
            let name = piece.and_then(|p| p["SpecialToken"]["id"].as_str());
            (name.is_some(), name.and_then(|name| number(&template["special_tokens"][name]["ids"][0])))
        };
        let class = self.settings["tokenizer_class"].as_str().unwrap_or_default();
        let heeds = ["Llama", "CodeLlama", "Gemma"].iter().any(|name| class.starts_with(name));
        let flag = heeds && self.settings["add_bos_token"] == Value::Bool(true);
        let (before, id) = special(single.first());
        [(before || flag, id), special(single.last().filter(|_| single.len() > 1))]
    }

    /// The chat template: in tokenizer_config.json, one or several by name, or in a file of its own.
    fn template(&self) -> Result<Vec<(String, Field)>> {
        const KEY: &str = "tokenizer.chat_template";
        let file = self.path.join("chat_template.jinja");
        if file.is_file() {
            let text = read_text(&file)?;
            return Ok(vec![(KEY.into(), Field::String(text))]);
        }
        let one = |text: &str| Field::String(text.to_string());
        let value = &self.settings["chat_template"];
        if let Some(text) = value.as_str() {
            return Ok(vec![(KEY.into(), one(text))]);
        }
        let (mut fields, mut names) = (vec![], vec![]);
        for entry in value.as_array().into_iter().flatten() {
            match (entry["name"].as_str(), entry["template"].as_str()) {
                (Some("default"), Some(text)) => fields.push((KEY.to_string(), one(text))),
                (Some(name), Some(text)) if names.iter().all(|n| n != name) => {
                    names.push(name.to_string());
                    fields.push((format!("{KEY}.{name}"), one(text)));
                }
                _ => {}
            }
        }
        if !names.is_empty() {
            fields.push(("tokenizer.chat_templates".into(), Field::Strings(names)));
        }
        Ok(fields)
    }
}

fn read_text(file: &Path) -> Result<String> {
    let failed = |found: String| Error::Folder {
        path: file.display().to_string(),
        found,
        expected: format!("a template in UTF-8 of at most {MAX_CONFIG} bytes"),
    };
    let size = std::fs::metadata(file).map_err(|e| failed(e.to_string()))?.len();
    if size > MAX_CONFIG {
        return Err(failed(format!("{size} bytes")));
    }
    std::fs::read_to_string(file).map_err(|e| failed(e.to_string()))
}

/// The parts of a tokenizer.json that are sequences hold others; nothing real is deeper.
const DEPTH: usize = 8;

fn find_type<'a>(part: &'a Value, kind: &str) -> Option<&'a Value> {
    fn find<'a>(part: &'a Value, kind: &str, depth: usize) -> Option<&'a Value> {
        if part["type"].as_str() == Some(kind) {
            return Some(part);
        }
        let lists = ["pretokenizers", "normalizers", "decoders", "processors"];
        let inner = lists.iter().filter_map(|list| part[*list].as_array()).flatten();
        if depth == 0 { None } else { inner.into_iter().find_map(|part| find(part, kind, depth - 1)) }
    }
    find(part, kind, DEPTH)
}

fn has_type(part: &Value, kind: &str) -> bool {
    find_type(part, kind).is_some()
}

/// The regular expressions of all splits, in order.
fn expressions<'a>(part: &'a Value, into: &mut Vec<&'a str>) {
    match part["type"].as_str() {
        Some("Sequence") => {
            // The crates that read such files nest no sequence in a sequence.
            let inner = part["pretokenizers"].as_array().into_iter().flatten();
            inner.for_each(|p| into.extend(p["pattern"]["Regex"].as_str()));
        }
        _ => into.extend(part["pattern"]["Regex"].as_str()),
    }
}

/// The text of a token written as a string or as `{"content": ...}`.
fn content(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value["content"].as_str())
}

/// An id or a list of them.
fn listed(value: &Value) -> Vec<u32> {
    let one = |v: &Value| v.as_u64().and_then(|n| u32::try_from(n).ok());
    match value {
        Value::Array(list) => list.iter().filter_map(one).collect(),
        other => one(other).into_iter().collect(),
    }
}

/// The bytes of a text in base64.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => Some(c - b'A'),
        b'a'..=b'z' => Some(c - b'a' + 26),
        b'0'..=b'9' => Some(c - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let digits: Vec<u8> = text.trim_end_matches('=').bytes().map(digit).collect::<Option<_>>()?;
    let group = |four: &[u8]| {
        let bits = four.iter().fold(0u32, |bits, &d| bits << 6 | u32::from(d)) << (6 * (4 - four.len()));
        bits.to_be_bytes()[1..].iter().copied().take(four.len() - 1).collect::<Vec<u8>>()
    };
    Some(digits.chunks(4).flat_map(group).collect())
}

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The expressions of tokenizer.json files, as their makers write them, and what GGUF calls them.
#[rustfmt::skip]
const PRE: &[(&[&str], &str)] = &[
    (&[r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
        "qwen2"),
    (&[r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
        "qwen35"),
    (&[r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"], "gpt-2"),
    (&[r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
        "gpt-4o"),
    (&[r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
        "tekken"),
];
