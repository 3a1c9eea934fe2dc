//! A tokenizer.json, and texts through it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(tokenizer) = text::Tokenizer::from_json("tokenizer.json", data) {
        fuzz::encode(&tokenizer);
    }
});
