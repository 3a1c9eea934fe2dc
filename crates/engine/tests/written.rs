//! A tokenizer that was written into a GGUF cuts texts as the folder's does: those made here, and real ones where they are.

use std::path::{Path, PathBuf};

use engine::load_text;
use models::{Checkpoint, Target};
use serde_json::{Value, json};
use weights::Safetensors;

const TEXTS: &[&str] = &[
    "",
    "a",
    "Hello, World!",
    "  two  spaces and\ttab\nline ",
    "caf\u{e9} na\u{ef}ve \u{fc}ber CAF\u{c9}",
    "unaffable unbelievable",
    "1234567890 3.14",
    "\u{4e2d}\u{6587} \u{1f600} \u{ff21}\u{ff22}",
    "[MASK] <s> </s> [unused1]",
];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/fixtures").join(name)
}

/// A copy of the fixture with this tokenizer and as many rows of the embeddings (of zeros).
fn folder(to: &Path, name: &str, embedding: &str, rows: usize, tokenizer: &[u8], settings: &Value) {
    let from = fixture(name);
    let mut config = weights::read_json(&from.join("config.json"), 1 << 20).unwrap();
    config["vocab_size"] = rows.into();
    config["tie_word_embeddings"] = true.into();
    std::fs::write(to.join("config.json"), config.to_string()).unwrap();
    std::fs::write(to.join("tokenizer.json"), tokenizer).unwrap();
    std::fs::write(to.join("tokenizer_config.json"), settings.to_string()).unwrap();
    let tensors = Safetensors::open_folder(&from).unwrap().tensors;
    let (mut header, mut data) = (json!({}), vec![]);
    for (name, tensor) in tensors.iter().filter(|(name, _)| *name != "lm_head.weight") {
        let start = data.len();
        let mut shape = tensor.shape.clone();
        if name == embedding {
            shape[0] = rows;
            data.resize(start + tensor.bytes().len() / tensor.shape[0] * rows, 0);
        } else {
            data.extend_from_slice(tensor.bytes());
        }
        let dtype = tensor.dtype.format().name;
        header[name] = json!({"dtype": dtype, "shape": shape, "data_offsets": [start, data.len()]});
    }
    let header = header.to_string();
    let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
    std::fs::write(to.join("model.safetensors"), file).unwrap();
}

/// The notes of the writing, and the texts that are cut otherwise afterwards.
fn otherwise(dir: &Path) -> (Vec<String>, Vec<String>) {
    let gguf = dir.join("written.gguf");
    let conversion = Checkpoint::open(dir).unwrap().convert(Target::from_name("f32").unwrap(), true).unwrap();
    conversion.write(&gguf, 2, |_| true).unwrap();
    let (ours, theirs) = (load_text(dir).unwrap().tokenizer, load_text(&gguf).unwrap().tokenizer);
    let mut odd = vec![];
    for text in TEXTS {
        for special in [false, true] {
            let ids = |t: &text::Tokenizer| t.encode(text, special, special).unwrap();
            let (folder, file) = (ids(&ours), ids(&theirs));
            if folder != file || ours.decode(&folder, true) != theirs.decode(&folder, true) {
                odd.push(format!("{text:?}: {folder:?}, in the GGUF {file:?}"));
            }
        }
    }
    (conversion.notes, odd)
}

fn special(id: usize, text: &str) -> Value {
    json!({"id": id, "content": text, "special": true, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false})
}

#[test]
fn wordpiece_becomes_bert() {
    let marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused1]"];
    let words =
        ["un", "##aff", "##able", "##believ", "hello", "Hello", "world", "cafe", ",", "!", "a", "caf\u{e9}"];
    let vocab: serde_json::Map<String, Value> =
        marks.iter().chain(&words).enumerate().map(|(i, w)| (w.to_string(), i.into())).collect();
    for lowercase in [true, false] {
        let tokenizer = json!({
            "version": "1.0", "truncation": null, "padding": null,
            "added_tokens": (0..5).map(|i| special(i, marks[i])).collect::<Vec<_>>(),
            "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                "strip_accents": null, "lowercase": lowercase},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100, "vocab": vocab},
        });
        let dir = tempfile::tempdir().unwrap();
        let settings = json!({"cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]",
            "mask_token": "[MASK]"});
        let embedding = "embeddings.word_embeddings.weight";
        folder(dir.path(), "bert", embedding, 20, tokenizer.to_string().as_bytes(), &settings);
        let (_, odd) = otherwise(dir.path());
        assert!(odd.is_empty(), "lowercase {lowercase}:\n{}", odd.join("\n"));
    }
}

#[test]
fn unigram_becomes_t5() {
    let pieces = [
        "\u{2581}",
        "\u{2581}a",
        "a",
        "\u{2581}un",
        "aff",
        "able",
        "H",
        "ello",
        "e",
        "l",
        "o",
        "\u{2581}w",
        "1",
        "2",
    ];
    let marks = ["<s>", "<pad>", "</s>", "<unk>"];
    let mut vocab: Vec<Value> = marks.iter().map(|m| json!([m, 0.0])).collect();
    vocab.extend(pieces.iter().enumerate().map(|(i, p)| json!([p, -1.0 - i as f64 / 3.0])));
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": (0..4).map(|i| special(i, marks[i])).collect::<Vec<_>>(),
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Strip", "strip_left": true, "strip_right": true},
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]},
        "pre_tokenizer": {"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "</s>", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]},
                "</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}}},
        "decoder": {"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true},
        "model": {"type": "Unigram", "unk_id": 3, "byte_fallback": false, "vocab": vocab},
    });
    let dir = tempfile::tempdir().unwrap();
    let settings =
        json!({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"});
    let embedding = "embeddings.word_embeddings.weight";
    folder(dir.path(), "xlm-roberta", embedding, 20, tokenizer.to_string().as_bytes(), &settings);
    let (_, odd) = otherwise(dir.path());
    assert!(odd.is_empty(), "{}", odd.join("\n"));
}

/// Where GGUF has a name for the pre-tokenizer; the others have a note.
#[test]
fn real_tokenizers_are_the_same_afterwards() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/material/tokenizers/hf");
    let Ok(entries) = std::fs::read_dir(&root) else {
        return println!("skipped: {} is not there", root.display());
    };
    let (mut wrong, mut seen) = (vec![], 0);
    for from in entries.map(|e| e.unwrap().path()).filter(|p| p.join("tokenizer.json").exists()) {
        let name = from.file_name().unwrap().to_str().unwrap().to_string();
        let tokenizer = std::fs::read(from.join("tokenizer.json")).unwrap();
        let settings = from.join("tokenizer_config.json");
        let settings =
            if settings.exists() { weights::read_json(&settings, 1 << 24).unwrap() } else { json!({}) };
        let rows = load_text_rows(&from);
        let (model, embedding) = match name.starts_with("bert") {
            true => ("bert", "embeddings.word_embeddings.weight"),
            false => ("llama", "model.embed_tokens.weight"),
        };
        let dir = tempfile::tempdir().unwrap();
        folder(dir.path(), model, embedding, rows, &tokenizer, &settings);
        let (notes, odd) = otherwise(dir.path());
        seen += 1;
        if !notes.iter().any(|n| n.contains("none that GGUF has a name for")) {
            wrong.extend(odd.into_iter().map(|what| format!("{name}: {what}")));
        }
    }
    assert!(seen >= 5 && wrong.is_empty(), "{seen}: {}", wrong.join("\n"));
}

fn load_text_rows(from: &Path) -> usize {
    text::Tokenizer::from_json("tokenizer.json", &std::fs::read(from.join("tokenizer.json")).unwrap())
        .unwrap()
        .vocab_size()
}
