//! One GGUF: header, metadata, tensors, hyperparameters, weights, a step of the model, the vocabulary in it. The input is
//! what precedes the tensors' bytes; those are all alike and small as numbers of every plain type.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weights::{Gguf, Value};

fuzz_target!(|data: &[u8]| {
    let path = fuzz::file("model.gguf", &[data, &[0x3c; 384 << 10]].concat());
    let Ok(gguf) = Gguf::open(&path) else { return };
    for (_, value) in gguf.metadata.iter() {
        if let Value::Array(array) = value {
            assert_eq!(array.iter().count(), array.len());
        }
    }
    for tensor in gguf.tensors.values() {
        assert_eq!(tensor.dtype.bytes(tensor.elements()), Some(tensor.bytes().len()));
    }
    if let Ok(text) = engine::load_text(&path) {
        fuzz::encode(&text.tokenizer);
    }
    let Ok(checkpoint) = models::Checkpoint::open(&path) else { return };
    if checkpoint.spec().is_ok() {
        fuzz::run(&checkpoint);
    }
});
