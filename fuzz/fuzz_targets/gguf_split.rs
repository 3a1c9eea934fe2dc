//! A GGUF in two files: four bytes say where the input is cut.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((head, rest)) = data.split_first_chunk::<4>() else { return };
    let cut = u32::from_le_bytes(*head) as usize % (rest.len() + 1);
    let first = fuzz::file("m-00001-of-00002.gguf", &rest[..cut]);
    let second = fuzz::file("m-00002-of-00002.gguf", &rest[cut..]);
    for path in [first, second] {
        let Ok(gguf) = weights::Gguf::open(&path) else { continue };
        for tensor in gguf.tensors.values() {
            assert_eq!(tensor.dtype.bytes(tensor.elements()), Some(tensor.bytes().len()));
        }
    }
});
