//! A config.json that may not fit its weights: the first byte chooses a fixture whose tensors are beside it.
#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

/// The fixtures' weights, in the order of their names (seeds.py counts in the same).
fn weights() -> &'static [PathBuf] {
    static FILES: OnceLock<Vec<PathBuf>> = OnceLock::new();
    FILES.get_or_init(|| {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/models/tests/fixtures");
        let entries = std::fs::read_dir(root).expect("the fixtures of the repository");
        let mut files: Vec<PathBuf> =
            entries.flatten().map(|e| e.path().join("model.safetensors")).filter(|p| p.is_file()).collect();
        files.sort();
        files
    })
}

fuzz_target!(|data: &[u8]| {
    let (which, config) = fuzz::split_byte(data);
    let from = &weights()[usize::from(which) % weights().len()];
    fuzz::file("config.json", config);
    let to = fuzz::folder().join("model.safetensors");
    let _ = std::fs::remove_file(&to);
    std::os::unix::fs::symlink(from, &to).expect("a link in our own folder");
    let Ok(checkpoint) = models::Checkpoint::open(fuzz::folder()) else { return };
    if checkpoint.spec().is_ok() {
        fuzz::run(&checkpoint);
    }
});
