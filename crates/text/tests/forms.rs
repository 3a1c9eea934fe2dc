//! One vocabulary in other forms: what SentencePiece itself makes of small models of ours (tools/tokenizers), and the
//! real tokenizers of ../shared/material rewritten as GGUF and as tiktoken ranks, against their reference vectors.

mod support;

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use support::material;
use text::{GgufVocab, Tokenizer};

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// A folder for one file.
fn folder(name: &str, file: &str, bytes: &[u8]) -> Tokenizer {
    let dir = std::env::temp_dir().join(format!("text-forms-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join(file), bytes).unwrap();
    let tokenizer = Tokenizer::from_folder(&dir);
    std::fs::remove_dir_all(&dir).unwrap();
    tokenizer.unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let six = |c: u8| ALPHABET.iter().position(|a| *a == c).unwrap() as u32;
    let (mut out, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for c in text.bytes().filter(|c| *c != b'=') {
        (bits, count) = (bits << 6 | six(c), count + 6);
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    out
}

/// The same pieces as a GGUF file carries them.
fn as_gguf(row: &Value) -> GgufVocab {
    let bpe = row["name"] == "bpe";
    GgufVocab {
        origin: row["name"].as_str().unwrap().to_owned(),
        model: if bpe { "llama" } else { "t5" }.to_owned(),
        tokens: serde_json::from_value(row["pieces"].clone()).unwrap(),
        scores: serde_json::from_value(row["scores"].clone()).unwrap(),
        token_types: serde_json::from_value(row["kinds"].clone()).unwrap(),
        unk: row["kinds"].as_array().unwrap().iter().position(|kind| *kind == 2).map(|at| at as u32),
        add_bos: Some(false),
        add_eos: Some(false),
        add_space_prefix: Some(true),
        remove_extra_whitespaces: Some(row["name"] == "unigram"),
        ..GgufVocab::default()
    }
}

#[test]
fn sentencepiece_models_give_what_sentencepiece_gives() {
    let rows: Value = serde_json::from_str(include_str!("fixtures/sentencepiece.json")).unwrap();
    let mut failures = Vec::new();
    for row in rows.as_array().unwrap() {
        let name = row["name"].as_str().unwrap();
        let forms = [
            ("tokenizer.model", folder(name, "tokenizer.model", &base64(row["model"].as_str().unwrap()))),
            ("gguf", Tokenizer::from_gguf(as_gguf(row)).unwrap()),
        ];
        for (form, tokenizer) in &forms {
            for case in row["cases"].as_array().unwrap() {
                let (text, want) = (case["text"].as_str().unwrap(), ids(&case["ids"]));
                // A Unigram model may have a control token or a byte as a piece; text that spells one is cut, so that it
                // stays text, into other pieces than SentencePiece's.
                if name.starts_with("unigram") && text.contains("</s>") {
                    continue;
                }
                let got = tokenizer.encode(text, false, false).unwrap();
                if got != want {
                    failures.push(format!("{name} {form} {text:?}\n  got  {got:?}\n  want {want:?}"));
                }
                let decoded = tokenizer.decode(&want, true);
                // SentencePiece writes ⁇ for what it does not know.
                let known = !case["decoded"].as_str().unwrap().contains('⁇');
                if known && decoded.trim_start() != case["decoded"].as_str().unwrap().trim_start() {
                    failures.push(format!(
                        "{name} {form} {text:?}: decoded {decoded:?}, not {}",
                        case["decoded"]
                    ));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
}

/// The folder in hf/, its file of reference vectors, and the name that its GGUF files carry in `tokenizer.ggml.pre`.
const FORMS: [(&str, &str, &str); 6] = [
    ("gpt-oss", "rebuilt__gpt-oss", "gpt-4o"),
    ("qwen3", "rebuilt__qwen3", "qwen2"),
    ("smollm3", "rebuilt__smollm3", "llama-bpe"),
    ("granite-docling", "rebuilt__granite-docling", "granite-docling"),
    ("phi-2", "onnxruntime-extensions__phi-2", "phi-2"),
    ("olmo", "allenai-OLMo__test-olmo-model", "olmo"),
];

/// A byte-level tokenizer.json as a GGUF file carries it.
fn gguf_of(file: &Value, pre: &str) -> GgufVocab {
    let vocab = file["model"]["vocab"].as_object().unwrap();
    let mut tokens: BTreeMap<u64, (String, i32)> =
        vocab.iter().map(|(token, id)| (id.as_u64().unwrap(), (token.clone(), 1))).collect();
    for added in file["added_tokens"].as_array().unwrap() {
        let kind = if added["special"] == true { 3 } else { 4 };
        tokens.insert(added["id"].as_u64().unwrap(), (added["content"].as_str().unwrap().to_owned(), kind));
    }
    let last = tokens.keys().max().copied().unwrap_or(0);
    for id in 0..last {
        tokens.entry(id).or_insert_with(|| (format!("[PAD{id}]"), 5));
    }
    let merge = |merge: &Value| match merge {
        Value::String(text) => text.clone(),
        pair => format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()),
    };
    GgufVocab {
        origin: pre.to_owned(),
        model: "gpt2".to_owned(),
        pre: Some(pre.to_owned()),
        merges: file["model"]["merges"].as_array().unwrap().iter().map(merge).collect(),
        token_types: tokens.values().map(|(_, kind)| *kind).collect(),
        tokens: tokens.into_values().map(|(token, _)| token).collect(),
        add_bos: Some(false),
        ..GgufVocab::default()
    }
}

/// The ranks of a byte-level tokenizer.json as tiktoken has them.
fn ranks_of(file: &Value) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: HashMap<char, u8> = (0..=255).map(|byte| (support::gpt2(byte), byte)).collect();
    let mut lines = String::new();
    let mut vocab: Vec<(&String, u64)> =
        file["model"]["vocab"].as_object().unwrap().iter().map(|(t, id)| (t, id.as_u64().unwrap())).collect();
    vocab.sort_by_key(|(_, id)| *id);
    for (token, id) in vocab {
        let token: Vec<u8> = token.chars().map(|c| bytes[&c]).collect();
        for three in token.chunks(3) {
            let bits =
                three.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
            for i in 0..4 {
                let digit = char::from(ALPHABET[(bits >> (18 - 6 * i) & 63) as usize]);
                lines.push(if i <= three.len() { digit } else { '=' });
            }
        }
        lines += &format!(" {id}\n");
    }
    lines
}

#[test]
fn real_tokenizers_rewritten_give_the_same_ids() {
    let Some(dir) = material("tokenizers") else { return };
    let read = |path: std::path::PathBuf| -> Value {
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    };
    let (mut failures, mut passed) = (Vec::new(), 0);
    for (name, reference, pre) in FORMS {
        let file = read(dir.join("hf").join(name).join("tokenizer.json"));
        let reference = read(dir.join("reference_vectors").join(format!("{reference}.json")));
        let ranks = file["model"]["vocab"].as_object().unwrap().len();
        let known = [50_256, 100_256, 128_000, 151_643, 199_998, 200_000].contains(&ranks);
        let mut forms = vec![(format!("gguf, {pre}"), Tokenizer::from_gguf(gguf_of(&file, pre)).unwrap())];
        if known {
            forms.push(("tiktoken".to_owned(), folder(name, "tokenizer.model", ranks_of(&file).as_bytes())));
        }
        for (form, tokenizer) in &forms {
            let before = passed;
            for case in reference["cases"].as_array().unwrap() {
                let (text, want) = (case["text"].as_str().unwrap(), ids(&case["ids"]));
                // Ranks alone hold no control tokens.
                if form == "tiktoken" && want.iter().any(|id| *id as usize >= ranks) {
                    continue;
                }
                let got = tokenizer.encode(text, false, true).unwrap();
                match got == want {
                    true => passed += 1,
                    false => {
                        failures.push(format!("{name} {form} {text:?}\n  got  {got:?}\n  want {want:?}"))
                    }
                }
            }
            println!("{name} as {form}: {} equal", passed - before);
        }
    }
    println!("rewritten: {passed} equal, {} not", failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
