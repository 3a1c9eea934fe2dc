//! What the fuzz targets share: places for files that must lie on a disk, a model run on a few tokens, a tokenizer.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use models::{Batch, CacheShape, Checkpoint, CpuBackend, Model, Span};
use text::Tokenizer;

/// A folder of this process, made once, in memory where the system has such a place.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let shm = Path::new("/dev/shm");
        let root = if shm.is_dir() { shm.to_path_buf() } else { std::env::temp_dir() };
        let dir = root.join(format!("influence-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder for files");
        dir
    })
}

/// Writes a file into [`folder`] and gives its path.
pub fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    // A mapping of the last file may still be read: a new one takes its place.
    let _ = std::fs::remove_file(&path);
    std::fs::write(&path, bytes).expect("a file in memory");
    path
}

/// A byte, and what follows it; 0 where there is none.
pub fn split_byte(data: &[u8]) -> (u8, &[u8]) {
    data.split_first().map_or((0, data), |(first, rest)| (*first, rest))
}

/// Loads the weights and runs a few tokens, by twos. Whatever the file says, this ends in an error or in logits.
pub fn run(checkpoint: &Checkpoint) {
    let backend = CpuBackend::suited(checkpoint, Some(1));
    let Ok(mut model) = checkpoint.load(backend) else { return };
    let spec = model.spec().clone();
    if spec.both_ways() || model.cache_bytes_per_token().saturating_mul(64) > 64 << 20 {
        return;
    }
    let state: usize = spec.mixers().map(models::Mixer::state).fold(0, usize::saturating_add);
    if state > 16 << 20 || model.allocate(CacheShape { blocks: 2, block_size: 32, states: 1 }).is_err() {
        return;
    }
    let known = spec.context.min(4) as u32;
    for first in (0..known).step_by(2) {
        let len = 2.min(known - first);
        let span = Span { start: 0, len: len as usize, blocks: vec![1, 0], length: 4, state: 0 };
        let positions: Vec<u32> = (first..first + len).collect();
        let batch = Batch {
            tokens: positions.iter().map(|p| (p * 7) % spec.vocab as u32).collect(),
            slots: positions.iter().map(|&p| span.slot(p as usize, 32)).collect(),
            positions,
            spans: vec![span],
            types: vec![],
            outputs: (0..len).collect(),
        };
        let logits = model.forward(&batch).expect("a model that was loaded runs");
        assert_eq!(logits.len(), len as usize * spec.vocab);
    }
}

/// A byte-level tokenizer of the 256 bytes, some merges and two control tokens.
pub fn bytes_tokenizer() -> Arc<Tokenizer> {
    static TOKENIZER: OnceLock<Arc<Tokenizer>> = OnceLock::new();
    TOKENIZER
        .get_or_init(|| Arc::new(Tokenizer::from_json("bytes", tokenizer_json().as_bytes()).expect("ours")))
        .clone()
}

/// The same as a tokenizer.json.
pub fn tokenizer_json() -> String {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut odd = 256;
    let byte = |b: u8| {
        if printable(b) {
            return char::from(b).to_string();
        }
        odd += 1;
        char::from_u32(odd - 1).map(String::from).unwrap_or_default()
    };
    let mut tokens: Vec<String> = (0..=255).map(byte).collect();
    let merges =
        [("t", "h"), ("th", "e"), ("{", "\""), ("\"", ":"), ("a", "b"), ("1", "2"), ("\u{120}", "a")];
    tokens.extend(merges.iter().map(|(a, b)| format!("{a}{b}")));
    let vocab: serde_json::Map<String, serde_json::Value> =
        tokens.iter().enumerate().map(|(id, t)| (t.clone(), id.into())).collect();
    let merges: Vec<String> = merges.iter().map(|(a, b)| format!("{a} {b}")).collect();
    let added = |id: usize, text: &str| serde_json::json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true});
    let n = tokens.len();
    serde_json::json!({
        "version": "1.0",
        "added_tokens": [added(n, "<s>"), added(n + 1, "</s>")],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "vocab": vocab, "merges": merges},
    })
    .to_string()
}

/// Encodes a text in every way and looks at every id that came, and some that do not exist.
pub fn encode(tokenizer: &Tokenizer) {
    for text in
        ["", "hello <s> [UNK]\n  world 12345", "naïve \u{1F600}\u{0}\u{FFFD}▁▁ x", "<|im_start|><0x41>"]
    {
        for (special, parse) in [(true, true), (false, false)] {
            let Ok(ids) = tokenizer.encode(text, special, parse) else { continue };
            for &id in &ids {
                let _ = (tokenizer.token(id), tokenizer.token_bytes(id), tokenizer.is_special(id));
            }
            let _ = tokenizer.decode(&ids, true);
        }
    }
    let _ = tokenizer.encode_pair("a b", "c");
    let _ = tokenizer.decode(&[0, 1, 77_777, u32::MAX], false);
    let _ = (tokenizer.vocab_size(), tokenizer.control_tokens(), tokenizer.token_bytes(u32::MAX));
}
