//! Small valid files with bytes changed, cut or inserted: whatever comes, the readers answer.

mod made;

use made::{GgufFile, safetensors};
use proptest::prelude::*;
use weights::{Gguf, Safetensors};

fn small_gguf() -> Vec<u8> {
    let tokens =
        [&8u32.to_le_bytes(), &2u64.to_le_bytes()[..], &made::string("a"), &made::string("b")].concat();
    GgufFile::llama()
        .u16("llama.block_count", 1)
        .key("tokenizer.ggml.tokens", 9, &tokens)
        .tensor("blk.0.a", &[4, 2], 0, &[1; 32])
        .tensor("q", &[32], 8, &[2; 34])
        .bytes()
}

fn small_safetensors() -> Vec<u8> {
    let json = r#"{"__metadata__":{"a":"b"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
        "b":{"dtype":"BF16","shape":[2,1],"data_offsets":[8,12]}}"#;
    safetensors(json, &[3; 12])
}

/// A change: overwrite at a place, cut there, or insert there. Small and extreme values are likely.
fn changes() -> impl Strategy<Value = Vec<(u8, usize, Vec<u8>)>> {
    let byte = prop_oneof![any::<u8>(), Just(0u8), Just(255u8), Just(b'"'), Just(b'9')];
    prop::collection::vec((0u8..8, any::<usize>(), prop::collection::vec(byte, 1..9)), 1..5)
}

fn change(mut bytes: Vec<u8>, changes: &[(u8, usize, Vec<u8>)]) -> Vec<u8> {
    for (how, at, new) in changes {
        let at = at % (bytes.len() + 1);
        match how {
            0 => bytes.truncate(at),
            1 => drop(bytes.splice(at..at, new.iter().copied())),
            _ => bytes[at..].iter_mut().zip(new).for_each(|(b, n)| *b = *n),
        }
    }
    bytes
}

/// Touches all that an opened file offers.
fn use_gguf(g: &Gguf) {
    for (key, value) in g.metadata.iter() {
        assert!(!format!("{key} {value:?}").is_empty());
        if let weights::Value::Array(a) = value {
            assert_eq!(a.iter().count(), a.len());
        }
    }
    for t in g.tensors.values() {
        assert_eq!(Some(t.bytes().len()), t.dtype.bytes(t.elements()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_gguf_never_panics(changes in changes()) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), change(small_gguf(), &changes)).unwrap();
        match Gguf::open(file.path()) {
            Ok(g) => use_gguf(&g),
            Err(e) => prop_assert!(e.to_string().len() < 2000),
        }
    }

    #[test]
    fn a_changed_safetensors_never_panics(changes in changes()) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), change(small_safetensors(), &changes)).unwrap();
        match Safetensors::open_file(file.path()) {
            Ok(s) => for t in s.tensors.values() {
                prop_assert_eq!(Some(t.bytes().len()), t.dtype.bytes(t.elements()));
            },
            Err(e) => prop_assert!(e.to_string().len() < 2000),
        }
    }
}

#[test]
fn the_unchanged_files_open() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), small_gguf()).unwrap();
    use_gguf(&Gguf::open(file.path()).unwrap());
    std::fs::write(file.path(), small_safetensors()).unwrap();
    assert_eq!(Safetensors::open_file(file.path()).unwrap().tensors.len(), 2);
}
