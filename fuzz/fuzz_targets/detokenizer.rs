//! Ids as they stream give the text of all at once; a stop string ends it and is in no text.
#![no_main]

use std::sync::{Arc, OnceLock};

use libfuzzer_sys::fuzz_target;
use text::{Detokenizer, GgufVocab, Tokenizer};

/// One of SentencePiece's kind: bytes, words with spaces, a control token.
fn spaces() -> Tokenizer {
    let mut tokens: Vec<(String, i32)> = vec![("<unk>".into(), 2), ("<s>".into(), 3), ("</s>".into(), 3)];
    tokens.extend((0..=255).map(|b| (format!("<0x{b:02X}>"), 6)));
    tokens
        .extend(["▁", "▁the", "▁a", "bird", "▁▁", "é", "日本", ".", "\u{1F600}"].map(|t| (t.to_string(), 1)));
    let (tokens, token_types): (Vec<_>, Vec<_>) = tokens.into_iter().unzip();
    let vocab = GgufVocab {
        model: "llama".into(),
        scores: vec![0.0; tokens.len()],
        tokens,
        token_types,
        ..GgufVocab::default()
    };
    Tokenizer::from_gguf(vocab).expect("ours")
}

/// What becomes of bytes that are no UTF-8 may differ in number.
fn settled(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c != '\u{FFFD}' || !out.ends_with(c) {
            out.push(c);
        }
    }
    out
}

fuzz_target!(|data: &[u8]| {
    static BOTH: OnceLock<[Arc<Tokenizer>; 2]> = OnceLock::new();
    let both = BOTH.get_or_init(|| [fuzz::bytes_tokenizer(), Arc::new(spaces())]);
    let (kind, rest) = fuzz::split_byte(data);
    let tokenizer = &both[usize::from(kind & 1)];
    let (ids, stop) = rest.split_at(rest.len() - rest.len().min(usize::from(kind >> 5)));
    let ids: Vec<u32> =
        ids.chunks(2).map(|c| c.iter().fold(0, |n, &b| n * 256 + u32::from(b)) % 300).collect();
    let all = tokenizer.decode(&ids, true);
    let mut plain = Detokenizer::new(tokenizer.clone(), vec![]);
    let mut text: String = ids.iter().map(|&id| plain.push(id).text).collect();
    text += &plain.finish();
    // The library gives up a run of byte tokens that is no UTF-8 as a whole; here only what is none is lost.
    if kind & 1 == 0 || !all.contains('\u{FFFD}') {
        assert_eq!(settled(&text), settled(&all));
    }
    let Ok(stop) = String::from_utf8(stop.to_vec()) else { return };
    if stop.is_empty() {
        return;
    }
    let mut ended = Detokenizer::new(tokenizer.clone(), vec![stop.clone()]);
    let (mut shown, mut stopped) = (String::new(), None);
    for &id in &ids {
        let step = ended.push(id);
        shown += &step.text;
        stopped = stopped.or(step.stopped);
    }
    shown += &ended.finish();
    match text.find(&stop) {
        Some(at) => assert_eq!(shown, text[..at]),
        None => assert_eq!(shown, text),
    }
    assert_eq!(stopped.is_some(), text.contains(&stop));
});
