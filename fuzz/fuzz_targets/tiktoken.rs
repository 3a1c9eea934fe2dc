//! A model.tiktoken by itself in a folder, and texts through it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    fuzz::file("model.tiktoken", data);
    if let Ok(tokenizer) = text::Tokenizer::from_folder(fuzz::folder()) {
        fuzz::encode(&tokenizer);
    }
});
