//! What several tests need: where the shared material is, and a reader of GGUF metadata.
#![allow(dead_code)] // each test uses a part

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use text::{GgufVocab, Tokenizer};

/// The folder of shared material, or `None` (and a line that says so) on a machine without it.
pub fn material(what: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/material").join(what);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: ../shared/material/{what} is not on this machine");
    None
}

/// A value of GGUF metadata.
#[derive(Debug)]
pub enum Meta {
    Number(f64),
    Text(String),
    Numbers(Vec<f64>),
    Texts(Vec<String>),
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn bytes(&mut self, n: usize) -> Vec<u8> {
        let (head, rest) = self.0.split_at(n);
        self.0 = rest;
        head.to_vec()
    }
    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.bytes(4).try_into().unwrap())
    }
    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.bytes(8).try_into().unwrap())
    }
    fn text(&mut self) -> String {
        let n = self.u64() as usize;
        String::from_utf8_lossy(&self.bytes(n)).into_owned()
    }
    fn number(&mut self, kind: u32) -> f64 {
        match kind {
            0 | 7 => f64::from(self.bytes(1)[0]),
            1 => f64::from(self.bytes(1)[0] as i8),
            2 => f64::from(u16::from_le_bytes(self.bytes(2).try_into().unwrap())),
            3 => f64::from(i16::from_le_bytes(self.bytes(2).try_into().unwrap())),
            4 => f64::from(self.u32()),
            5 => f64::from(self.u32() as i32),
            6 => f64::from(f32::from_bits(self.u32())),
            10 => self.u64() as f64,
            11 => self.u64() as i64 as f64,
            12 => f64::from_bits(self.u64()),
            other => panic!("metadata type {other}"),
        }
    }
    fn value(&mut self) -> Meta {
        match self.u32() {
            8 => Meta::Text(self.text()),
            9 => {
                let (kind, n) = (self.u32(), self.u64());
                match kind {
                    8 => Meta::Texts((0..n).map(|_| self.text()).collect()),
                    kind => Meta::Numbers((0..n).map(|_| self.number(kind)).collect()),
                }
            }
            kind => Meta::Number(self.number(kind)),
        }
    }
}

/// The vocabulary of a GGUF file.
pub fn vocab(path: &std::path::Path) -> GgufVocab {
    let data = std::fs::read(path).unwrap();
    let mut reader = Reader(&data);
    assert_eq!(reader.bytes(4), b"GGUF");
    reader.u32();
    reader.u64();
    let mut map: HashMap<String, Meta> = HashMap::new();
    for _ in 0..reader.u64() {
        let key = reader.text();
        map.insert(key.trim_start_matches("tokenizer.ggml.").to_owned(), reader.value());
    }
    let number = |key: &str| match map.get(key) {
        Some(Meta::Number(x)) => Some(*x),
        _ => None,
    };
    let texts = |key: &str| match map.get(key) {
        Some(Meta::Texts(x)) => x.clone(),
        _ => Vec::new(),
    };
    let numbers = |key: &str| match map.get(key) {
        Some(Meta::Numbers(x)) => x.clone(),
        _ => Vec::new(),
    };
    let text = |key: &str| match map.get(key) {
        Some(Meta::Text(x)) => Some(x.clone()),
        _ => None,
    };
    let id = |key: &str| number(key).map(|x| x as u32);
    let flag = |key: &str| number(key).map(|x| x != 0.0);
    GgufVocab {
        origin: path.display().to_string(),
        model: text("model").unwrap_or_default(),
        pre: text("pre"),
        tokens: texts("tokens"),
        scores: numbers("scores").into_iter().map(|x| x as f32).collect(),
        token_types: numbers("token_type").into_iter().map(|x| x as i32).collect(),
        merges: texts("merges"),
        bos: id("bos_token_id"),
        eos: id("eos_token_id"),
        unk: id("unknown_token_id"),
        pad: id("padding_token_id"),
        cls: id("cls_token_id"),
        sep: id("seperator_token_id"),
        eot: id("eot_token_id"),
        add_bos: flag("add_bos_token"),
        add_eos: flag("add_eos_token"),
        add_space_prefix: flag("add_space_prefix"),
        remove_extra_whitespaces: flag("remove_extra_whitespaces"),
        lowercase: flag("normalizer.lowercase"),
        strip_accents: flag("normalizer.strip_accents"),
        precompiled_charsmap: numbers("precompiled_charsmap").into_iter().map(|x| x as u8).collect(),
    }
}

/// GPT-2's character for a byte (Radford et al. 2019): printable ones stand for themselves.
pub fn gpt2(byte: u8) -> char {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    match byte {
        b if printable(b) => char::from(b),
        b => char::from_u32(256 + (0..b).filter(|&b| !printable(b)).count() as u32).unwrap(),
    }
}

/// A byte-level tokenizer: the 256 bytes, a few pairs as JSON has them, and an end.
pub fn bytes() -> Arc<Tokenizer> {
    static MADE: OnceLock<Arc<Tokenizer>> = OnceLock::new();
    let make = || {
        let mut vocab: serde_json::Map<String, serde_json::Value> =
            (0..=255u8).map(|b| (gpt2(b).to_string(), b.into())).collect();
        let mut merges = Vec::new();
        for pair in ["{ \"", "\" :", "\" ,", ", \"", ": \"", "a m", "t r", "0 0", "} ,", "[ {"] {
            let joined = pair.replace(' ', "");
            vocab.insert(joined, vocab.len().into());
            merges.push(pair);
        }
        let end = vocab.len();
        let level =
            r#"{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}"#;
        let level: serde_json::Value = serde_json::from_str(level).unwrap();
        let tokenizer = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
            "added_tokens": [{"id": end, "content": "<end>", "special": true, "single_word": false,
                              "lstrip": false, "rstrip": false, "normalized": false}],
            "pre_tokenizer": level, "decoder": level,
            "model": {"type": "BPE", "vocab": vocab, "merges": merges}
        });
        Arc::new(Tokenizer::from_json("tokenizer.json", tokenizer.to_string().as_bytes()).unwrap())
    };
    MADE.get_or_init(make).clone()
}

/// The tokens of a text in that tokenizer.
pub fn byte_tokens(text: &str) -> Vec<u32> {
    bytes().encode(text, false, false).unwrap()
}
