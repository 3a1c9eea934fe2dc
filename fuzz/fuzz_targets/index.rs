//! An index of shards, beside two shards that are there and a file that no index may name.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    static SHARDS: std::sync::Once = std::sync::Once::new();
    SHARDS.call_once(|| {
        for (shard, tensor) in [("a.safetensors", "x"), ("b.safetensors", "y")] {
            let header = format!(r#"{{"{tensor}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}"#);
            let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
            bytes.extend_from_slice(header.as_bytes());
            bytes.extend_from_slice(&[0; 4]);
            fuzz::file(shard, &bytes);
        }
    });
    let index = fuzz::file("model.safetensors.index.json", data);
    let Ok(opened) = weights::Safetensors::open_index(&index) else { return };
    assert!(opened.files.iter().all(|f| f.parent() == Some(fuzz::folder())), "{:?}", opened.files);
});
