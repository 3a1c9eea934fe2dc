//! The vocabulary of a GGUF: two bytes choose kind and flags; then a token a line, its type and score before it; then,
//! behind an empty line, merges.
#![no_main]

use libfuzzer_sys::fuzz_target;
use text::{GgufVocab, Tokenizer};

const MODELS: [&str; 6] = ["llama", "gpt2", "bert", "t5", "rwkv", "?"];
const PRE: [&str; 8] = ["default", "llama-bpe", "qwen2", "gpt-2", "falcon", "deepseek-llm", "tekken", "?"];

fuzz_target!(|data: &[u8]| {
    let [kind, flags, id, rest @ ..] = data else { return };
    let text = String::from_utf8_lossy(rest);
    let (tokens, merges) = text.split_once("\n\n").unwrap_or((&text, ""));
    let mut vocab = GgufVocab {
        origin: "fuzz.gguf".into(),
        model: MODELS[usize::from(kind & 15) % MODELS.len()].into(),
        pre: Some(PRE[usize::from(kind >> 4) % PRE.len()].into()),
        merges: merges.lines().map(str::to_owned).collect(),
        add_bos: (flags & 1 > 0).then_some(flags & 2 > 0),
        add_space_prefix: (flags & 4 > 0).then_some(flags & 8 > 0),
        remove_extra_whitespaces: (flags & 16 > 0).then_some(true),
        precompiled_charsmap: if flags & 32 > 0 { rest[..rest.len().min(64)].to_vec() } else { vec![] },
        bos: Some(u32::from(id & 15)),
        unk: (flags & 64 > 0).then_some(u32::from(id >> 4)),
        ..GgufVocab::default()
    };
    for line in tokens.lines() {
        let mut chars = line.chars();
        let kind = chars.next().and_then(|c| c.to_digit(10)).unwrap_or(1);
        vocab.token_types.push(kind as i32);
        vocab.scores.push(if flags & 128 > 0 {
            f32::from_bits((line.len() as u32).wrapping_mul(0x0F0F_0F0F))
        } else {
            -(line.len() as f32)
        });
        vocab.tokens.push(chars.as_str().to_owned());
    }
    if let Ok(tokenizer) = Tokenizer::from_gguf(vocab) {
        fuzz::encode(&tokenizer);
    }
});
