//! Files made here, right and wrong in ways that the collected ones are not.

mod made;

use made::{GgufFile, safetensors};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use weights::{Checkpoint, DType, Error, Gguf, Safetensors, Value, read_json};

fn write(dir: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn gguf(bytes: &[u8]) -> Result<Gguf, Error> {
    let dir = tempfile::tempdir().unwrap();
    Gguf::open(&write(&dir, "m.gguf", bytes))
}

fn st(json: &str, data: &[u8]) -> Result<Safetensors, Error> {
    let dir = tempfile::tempdir().unwrap();
    Safetensors::open_file(&write(&dir, "m.safetensors", &safetensors(json, data)))
}

#[track_caller]
fn refused<T>(result: Result<T, Error>, words: &[&str]) {
    let message = result.err().expect("accepted").to_string();
    for word in words {
        assert!(message.contains(word), "`{word}` is not said: {message}");
    }
}

#[test]
fn every_metadata_type_is_read() {
    let strings = [made::string("a"), made::string(""), made::string("ü")].concat();
    let array =
        |kind: u32, len: u64, bytes: &[u8]| [&kind.to_le_bytes(), &len.to_le_bytes()[..], bytes].concat();
    let file = GgufFile::llama()
        .key("u8", 0, &[200])
        .key("i8", 1, &[200])
        .key("u16", 2, &[1, 2])
        .key("i16", 3, &[255, 255])
        .key("u32", 4, &[1, 0, 0, 0])
        .key("i32", 5, &(-5i32).to_le_bytes())
        .key("f32", 6, &1.5f32.to_le_bytes())
        .key("bool", 7, &[1])
        .key("u64", 10, &u64::MAX.to_le_bytes())
        .key("i64", 11, &i64::MIN.to_le_bytes())
        .key("f64", 12, &0.1f64.to_le_bytes())
        .key("strings", 9, &array(8, 3, &strings))
        .key("floats", 9, &array(6, 2, &[1.0f32.to_le_bytes(), 2.0f32.to_le_bytes()].concat()))
        .key("i32s", 9, &array(5, 2, &[(-1i32).to_le_bytes(), 7i32.to_le_bytes()].concat()))
        .key("bools", 9, &array(7, 2, &[0, 1]))
        .key("none", 9, &array(6, 0, &[]));
    let g = gguf(&file.bytes()).unwrap();
    let m = &g.metadata;
    for (key, value) in [
        ("u8", Value::Unsigned(200)),
        ("i8", Value::Signed(-56)),
        ("u16", Value::Unsigned(513)),
        ("i16", Value::Signed(-1)),
        ("u32", Value::Unsigned(1)),
        ("i32", Value::Signed(-5)),
        ("f32", Value::Float(1.5)),
        ("bool", Value::Bool(true)),
        ("u64", Value::Unsigned(u64::MAX)),
        ("i64", Value::Signed(i64::MIN)),
        ("f64", Value::Float(0.1)),
    ] {
        assert_eq!(m.get(key), Some(&value), "{key}");
    }
    assert_eq!(m.strings("strings").unwrap().unwrap(), ["a", "", "ü"]);
    assert_eq!(m.floats("floats").unwrap().unwrap(), [1.0, 2.0]);
    assert_eq!(m.floats("none").unwrap().unwrap(), [0.0f32; 0]);
    assert_eq!(m.integers("i32s").unwrap().unwrap(), [-1, 7]);
    let Some(Value::Array(bools)) = m.get("bools") else { panic!() };
    assert_eq!(bools.bools().unwrap(), [false, true]);
    assert_eq!(bools.get(1), Some(Value::Bool(true)));
    assert_eq!(bools.get(2), None);
    assert_eq!(m.iter().next().unwrap().0, "general.architecture");
    refused(m.floats("strings"), &["strings", "array of f32"]);
    refused(m.unsigned("i32"), &["signed integer"]);
    assert!(m.string("absent").unwrap().is_none());
}

#[test]
fn tensors_lie_where_the_file_has_them_with_dimensions_reversed() {
    let data: Vec<u8> = (0..24).collect();
    let file = GgufFile::llama().tensor("a", &[2, 3], 0, &data).tensor("q", &[32, 2], 2, &[7; 36]);
    let g = gguf(&file.bytes()).unwrap();
    let a = g.tensor("a").unwrap();
    assert_eq!(
        (a.dtype, a.shape.as_slice(), a.elements(), a.bytes()),
        (DType::F32, &[3, 2][..], 6, &data[..])
    );
    assert_eq!(g.tensor("q").unwrap().shape, [2, 32]);
    assert_eq!(g.tensor("q").unwrap().bytes(), [7; 36]);
    refused(g.tensor("b").cloned(), &["`b` is not in the file"]);
}

#[test]
fn a_tensor_of_unknown_type_is_refused_only_when_used() {
    let file = GgufFile::llama().tensor("good", &[1], 0, &[0; 4]).tensor("odd", &[7], 99, &[0; 9]);
    let g = gguf(&file.bytes()).unwrap();
    assert!(g.tensor("good").is_ok());
    refused(g.tensor("odd").cloned(), &["`odd`", "ggml type 99"]);
}

#[test]
fn gguf_tensors_must_fit_their_rows_and_the_file() {
    refused(gguf(&GgufFile::llama().tensor("q", &[16, 2], 2, &[0; 18]).bytes()), &["`q`", "blocks of 32"]);
    refused(gguf(&GgufFile::llama().tensor("a", &[9], 0, &[0; 32]).bytes()), &["truncated", "`a`"]);
    let twice = GgufFile::llama().tensor("a", &[1], 0, &[0; 4]).tensor("a", &[1], 0, &[0; 4]);
    refused(gguf(&twice.bytes()), &["`a`", "twice"]);
    refused(gguf(&GgufFile::llama().tensor("blk.x.y", &[1], 0, &[0; 4]).bytes()), &["`blk.x.y`", "layer"]);
    refused(gguf(&GgufFile::llama().tensor("\x1b[2Ja", &[9], 0, &[0; 4]).bytes()), &["\\u{1b}[2Ja"]);
}

#[test]
fn announced_lengths_cost_no_memory() {
    let long = [&8u32.to_le_bytes(), &u64::MAX.to_le_bytes()[..]].concat();
    refused(gguf(&GgufFile::llama().key("v", 9, &long).bytes()), &["truncated", "v,"]);
    let long = [&12u32.to_le_bytes(), &(1u64 << 61).to_le_bytes()[..]].concat();
    refused(gguf(&GgufFile::llama().key("v", 9, &long).bytes()), &["truncated", "v,"]);
}

#[test]
fn other_files_are_told_apart() {
    for (head, word) in [
        (&b"lmgg\x01\0\0\0"[..], "GGML"),
        (b"tjgg\x03\0\0\0", "GGJT"),
        (b"\x80\x02\x8a\x0a", "pickle"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git-LFS pointer"),
        (b"  <!doctype HTML><html>", "HTML"),
        (b"Entry not found", "plain text"),
        (b"\x02\0\0\0\0\0\0\0{}", "safetensors"),
        (b"\xde\xad\xbe\xef", "nothing known"),
    ] {
        refused(gguf(head), &["not a GGUF file", word]);
    }
    let dir = tempfile::tempdir().unwrap();
    let path = write(&dir, "m.safetensors", &GgufFile::llama().bytes());
    refused(Safetensors::open_file(&path), &["not a safetensors file", "GGUF"]);
}

#[cfg(unix)]
#[test]
fn folders_and_devices_are_not_opened() {
    refused(Gguf::open(Path::new("/dev/zero")), &["/dev/zero", "device"]);
    refused(Safetensors::open_file(Path::new("/")), &["folder"]);
    refused(read_json(Path::new("/dev/zero"), 10), &["device"]);
    refused(Gguf::open(Path::new("/nowhere/m.gguf")), &["/nowhere/m.gguf"]);
}

fn shard(no: u16, count: u16, tensor: &str) -> Vec<u8> {
    let file = if no == 0 { GgufFile::llama() } else { GgufFile::default() };
    file.u16("split.no", no).u16("split.count", count).tensor(tensor, &[1], 0, &[no as u8; 4]).bytes()
}

#[test]
fn a_split_model_opens_by_any_of_its_parts() {
    let dir = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = (0..3u16)
        .map(|i| write(&dir, &format!("m-0000{}-of-00003.gguf", i + 1), &shard(i, 3, &format!("t{i}"))))
        .collect();
    for path in &paths {
        let g = Gguf::open(path).unwrap();
        assert_eq!(g.files, paths);
        assert_eq!(g.path, paths[0]);
        assert_eq!(g.architecture().unwrap(), "llama");
        for (i, file) in paths.iter().enumerate() {
            let t = g.tensor(&format!("t{i}")).unwrap();
            assert_eq!((t.bytes(), t.file()), (&[i as u8; 4][..], file.as_path()));
        }
    }
}

#[test]
fn a_split_model_that_is_not_whole_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let second = write(&dir, "m-00002-of-00003.gguf", &shard(1, 3, "b"));
    refused(Gguf::open(&second), &["2 files", "m-00001-of-00003.gguf", "m-00003-of-00003.gguf"]);
    write(&dir, "m-00001-of-00003.gguf", &shard(0, 3, "a"));
    write(&dir, "m-00003-of-00003.gguf", &shard(2, 3, "b"));
    refused(Gguf::open(&second), &["tensor `b`", "earlier part"]);
    write(&dir, "m-00003-of-00003.gguf", &shard(1, 3, "c"));
    refused(Gguf::open(&second), &["m-00003-of-00003.gguf", "split.no"]);
    let renamed = write(&dir, "model.gguf", &shard(0, 3, "a"));
    refused(Gguf::open(&renamed), &["-00001-of-00003.gguf", "rename"]);
}

#[test]
fn safetensors_are_read_in_place() {
    let json = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"BF16","shape":[2,3],"data_offsets":[0,12]},
        "one":{"dtype":"F32","shape":[],"data_offsets":[12,16]},"none":{"dtype":"F16","shape":[0,5],"data_offsets":[16,16]}}  "#;
    let data: Vec<u8> = (0..16).collect();
    let s = st(json, &data).unwrap();
    assert_eq!(s.metadata["format"], "pt");
    assert_eq!(s.tensor("a").unwrap().bytes(), &data[..12]);
    assert_eq!((s.tensor("one").unwrap().elements(), s.tensor("one").unwrap().bytes()), (1, &data[12..]));
    assert_eq!(s.tensor("none").unwrap().elements(), 0);
    assert!(st("{}", &[]).unwrap().tensors.is_empty());
}

#[test]
fn safetensors_that_contradict_themselves_are_refused() {
    let one = |body: &str| format!("{{\"t\":{{{body}}}}}");
    let four = &[0u8; 4][..];
    for (json, data, words) in [
        (one(r#""dtype":"F32","shape":[1],"data_offsets":[4,0]"#), four, &["`t`", "end before"][..]),
        (one(r#""dtype":"F32","shape":[1],"data_offsets":[4,8]"#), &[0; 8], &["`t`", "gap"]),
        (one(r#""dtype":"F32","dtype":"F16","shape":[1],"data_offsets":[0,4]"#), four, &["`t`", "duplicate"]),
        (one(r#""dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1"#), four, &["`t`", "unknown field"]),
        (one(r#""dtype":"F32","shape":[1]"#), four, &["`t`", "missing field `data_offsets`"]),
        (one(r#""dtype":"F4","shape":[1],"data_offsets":[0,1]"#), &[0], &["`t`", "F4"]),
        (r#"{"__metadata__":{},"__metadata__":{}}"#.into(), &[], &["`__metadata__`", "twice"]),
        (r#"[]"#.into(), &[], &["an object of tensors"]),
        (r#"{} x"#.into(), &[], &["trailing characters"]),
        (format!("{{\"t\":{}", "[".repeat(100_000)), &[], &["`t`"]),
    ] {
        refused(st(&json, data), words);
    }
}

#[test]
fn known_types_that_are_not_read_are_named_when_used() {
    let s = st(r#"{"w":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}}"#, &[0; 4]).unwrap();
    refused(s.tensor("w").cloned(), &["`w`", "F8_E4M3"]);
}

fn entry(name: &str) -> Vec<u8> {
    let json = format!("{{\"{name}\":{{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}}}");
    safetensors(&json, &[1; 4])
}

#[test]
fn a_folder_of_shards_opens_by_its_index() {
    let dir = tempfile::tempdir().unwrap();
    let index = |map: &str| {
        let json = format!("{{\"metadata\":{{}},\"weight_map\":{map}}}");
        write(&dir, "model.safetensors.index.json", json.as_bytes());
    };
    write(&dir, "one.safetensors", &entry("a"));
    write(&dir, "two.safetensors", &entry("b"));
    index(r#"{"a":"one.safetensors","b":"two.safetensors"}"#);
    let Checkpoint::Safetensors(s) = Checkpoint::open(dir.path()).unwrap() else { panic!() };
    assert_eq!(s.tensors.keys().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(s.files.len(), 2);
    index(r#"{"a":"one.safetensors","c":"two.safetensors"}"#);
    refused(Checkpoint::open(dir.path()), &["tensor `c`", "two.safetensors"]);
    index(r#"{"a":"../one.safetensors"}"#);
    refused(Checkpoint::open(dir.path()), &["../one.safetensors", "plain name"]);
    index(r#"{"a":1}"#);
    refused(Checkpoint::open(dir.path()), &["`a`", "a number"]);
    index("{}");
    refused(Checkpoint::open(dir.path()), &["empty"]);
    write(&dir, "model.safetensors.index.json", b"{}");
    refused(Checkpoint::open(dir.path()), &["weight_map", "missing"]);
}

#[test]
fn a_folder_without_safetensors_says_what_it_has() {
    let dir = tempfile::tempdir().unwrap();
    refused(Checkpoint::open(dir.path()), &["no weight files"]);
    write(&dir, "pytorch_model.bin", b"PK");
    refused(Checkpoint::open(dir.path()), &["model.safetensors", "pytorch_model.bin"]);
}

#[test]
fn json_is_read_within_its_limits() {
    let dir = tempfile::tempdir().unwrap();
    let read = |text: &[u8], max| read_json(&write(&dir, "config.json", text), max);
    assert_eq!(read(b"\xef\xbb\xbf{\"a\": 1}", 100).unwrap()["a"], 1);
    refused(read(b"{\"a\":\n 1,}", 100), &["config.json", "line 2"]);
    refused(read(b"{\"a\": 1}", 5), &["config.json", "larger than the 5 bytes"]);
    refused(read("[".repeat(100_000).as_bytes(), 1 << 20), &["recursion limit"]);
    refused(read(b"<html>", 100), &["HTML"]);
    refused(read(b"\"\xff\"", 100), &["UTF-8"]);
}
