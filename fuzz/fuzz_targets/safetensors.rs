//! One safetensors file.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let path = fuzz::file("model.safetensors", data);
    let Ok(file) = weights::Safetensors::open_file(&path) else { return };
    for tensor in file.tensors.values() {
        assert_eq!(tensor.dtype.bytes(tensor.elements()), Some(tensor.bytes().len()));
        let _ = (tensor.rows(0, 1).map(|t| t.bytes().len()), tensor.transposed(), tensor.reordered(&[0, 0]));
    }
    for name in file.unreadable.keys() {
        assert!(file.tensor(name).is_err());
    }
});
