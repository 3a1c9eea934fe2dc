//! Files that say what no model is: each is refused by name, in memory that the file's size bounds.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use models::Checkpoint;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A key of a GGUF: its name, the number of its type, its bytes.
type Key<'a> = (&'a str, u32, Vec<u8>);

fn text(s: &str) -> Vec<u8> {
    [&(s.len() as u64).to_le_bytes()[..], s.as_bytes()].concat()
}

/// A GGUF of these keys and tensors (name, dimensions in GGUF's order, f32), its data all zeros.
fn gguf(dir: &TempDir, keys: &[Key<'_>], tensors: &[(&str, &[u64])]) -> PathBuf {
    let mut out = b"GGUF\x03\0\0\0".to_vec();
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((keys.len() as u64).to_le_bytes());
    for (name, kind, value) in keys {
        out.extend([&text(name)[..], &kind.to_le_bytes(), value].concat());
    }
    let mut data = 0;
    for (name, dims) in tensors {
        out.extend(text(name));
        out.extend((dims.len() as u32).to_le_bytes());
        dims.iter().for_each(|d| out.extend(d.to_le_bytes()));
        out.extend([&0u32.to_le_bytes()[..], &(data as u64).to_le_bytes()].concat());
        data = (data + 4 * dims.iter().product::<u64>() as usize).next_multiple_of(32);
    }
    out.resize(out.len().next_multiple_of(32) + data, 0);
    let path = dir.path().join("model.gguf");
    std::fs::write(&path, out).unwrap();
    path
}

fn config(dir: &TempDir, config: &Value) -> PathBuf {
    let path = dir.path().join("config.json");
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

#[track_caller]
fn refused<T>(result: models::Result<T>, words: &[&str]) -> String {
    let message = result.err().expect("accepted").to_string();
    assert!(message.len() < 20_000, "{} bytes of message", message.len());
    for word in words {
        assert!(message.contains(word), "`{word}` is not said: {message}");
    }
    message
}

#[test]
fn an_embedding_without_dimensions_says_nothing_of_the_vocabulary() {
    let dir = tempfile::tempdir().unwrap();
    let path = gguf(&dir, &[("general.architecture", 8, text("llama"))], &[("token_embd.weight", &[])]);
    refused(Checkpoint::open(&path).unwrap().spec(), &["model.gguf", "llama"]);
}

#[test]
fn a_long_array_is_no_list_of_hyperparameters() {
    let dir = tempfile::tempdir().unwrap();
    let numbers = 8 << 20;
    let array = [&0u32.to_le_bytes()[..], &(numbers as u64).to_le_bytes(), &vec![1; numbers]].concat();
    let keys = [("general.architecture", 8, text("llama")), ("llama.embedding_length", 9, array)];
    let path = gguf(&dir, &keys, &[]);
    refused(Checkpoint::open(&path).unwrap().spec(), &["embedding_length", "array of u8"]);
}

#[test]
fn a_key_that_is_half_the_file_is_not_repeated_for_each_value_below_it() {
    let dir = tempfile::tempdir().unwrap();
    let below: serde_json::Map<String, Value> = (0..50_000).map(|i| (i.to_string(), json!(i))).collect();
    let mut fields = json!({ "architectures": ["LlamaForCausalLM"], "hidden_size": 64 });
    fields["k".repeat(1 << 20)] = Value::Object(below);
    let start = Instant::now();
    // Whatever it says first, it must not take 50 GB for it.
    refused(Checkpoint::open_config(&config(&dir, &fields)).unwrap().spec(), &["config.json"]);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn unread_keys_are_named_by_some() {
    let dir = tempfile::tempdir().unwrap();
    let mut fields: Value = serde_json::from_slice(
        &std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/llama/config.json")).unwrap(),
    )
    .unwrap();
    (0..5000).for_each(|i| fields[format!("odd_{i:04}")] = json!("x".repeat(1000)));
    fields["odd_".repeat(1000)] = json!({ "below": 1 });
    let message = refused(
        Checkpoint::open_config(&config(&dir, &fields)).unwrap().spec(),
        &["odd_0000 = \"xxx", "more", "does not read"],
    );
    assert!(!message.contains("odd_4999"), "{message}");
}
