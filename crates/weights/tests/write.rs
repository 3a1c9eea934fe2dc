//! What the GGUF writer writes, the reader reads; what is not whole is not there.

use std::path::Path;
use weights::{DType, Field, Gguf, GgufWriter, Planned, Value};

fn fields() -> Vec<(String, Field)> {
    let list = |fields: &[Field]| Field::List(fields.to_vec());
    [
        ("general.architecture", Field::String("llama".into())),
        ("a.u32", Field::U32(u32::MAX)),
        ("a.i32", Field::I32(-7)),
        ("a.f32", Field::F32(0.1)),
        ("a.bool", Field::Bool(true)),
        ("a.u64", Field::U64(u64::MAX)),
        ("a.i64", Field::I64(i64::MIN)),
        ("a.f64", Field::F64(0.1)),
        ("a.strings", Field::Strings(vec!["".into(), "▁ä".into()])),
        ("a.bytes", Field::Bytes(vec![0, 255])),
        ("a.floats", list(&[Field::F32(1.5), Field::F32(-2.0)])),
        ("a.integers", list(&[Field::I32(3), Field::I32(-3)])),
        ("a.wide", list(&[Field::U64(1 << 40)])),
        ("a.none", list(&[])),
    ]
    .map(|(key, field)| (key.to_string(), field))
    .to_vec()
}

fn planned(name: &str, dtype: DType, shape: &[usize]) -> Planned {
    Planned { name: name.into(), dtype, shape: shape.to_vec() }
}

fn tensors() -> [Planned; 3] {
    [
        planned("odd.weight", DType::F32, &[3]),
        planned("empty.weight", DType::F32, &[0]),
        planned("blk.0.x.weight", DType::Q8_0, &[2, 64]),
    ]
}

fn left(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

#[test]
fn a_file_is_read_as_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    let mut writer = GgufWriter::create(&path, &fields(), &tensors()).unwrap();
    let bytes: Vec<u8> = (0..12 + 136).map(|i| i as u8).collect();
    // In pieces that keep to no tensor's end.
    bytes.chunks(7).for_each(|piece| writer.write(piece).unwrap());
    assert!(!path.exists());
    writer.finish().unwrap();
    assert_eq!(left(dir.path()), 1);

    let gguf = Gguf::open(&path).unwrap();
    let again: Vec<(String, Field)> =
        gguf.metadata.iter().map(|(key, value)| (key.to_string(), Field::from(value))).collect();
    assert_eq!(again, fields());
    assert_eq!(gguf.metadata.get("a.f64"), Some(&Value::Float(0.1)));
    assert_eq!(gguf.tensor("odd.weight").unwrap().bytes(), &bytes[..12]);
    let x = gguf.tensor("blk.0.x.weight").unwrap();
    assert_eq!((x.dtype, &x.shape[..], x.bytes()), (DType::Q8_0, &[2, 64][..], &bytes[12..]));
    assert!(gguf.tensors.values().all(|t| t.offset().is_multiple_of(32)));
}

#[test]
fn what_is_not_whole_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.gguf");
    let create = || GgufWriter::create(&path, &fields(), &tensors()).unwrap();
    let mut writer = create();
    writer.write(&[0; 100]).unwrap();
    let error = writer.finish().unwrap_err().to_string();
    assert!(error.contains("blk.0.x.weight") && error.contains("88 of its 136"), "{error}");
    let mut writer = create();
    assert!(writer.write(&[0; 12 + 136 + 1]).unwrap_err().to_string().contains("more bytes"));
    drop(writer);
    drop(create());
    assert_eq!(left(dir.path()), 0);
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let odd = [planned("x.weight", DType::Q4_K, &[2, 100])];
    let error = GgufWriter::create(&dir.path().join("m.gguf"), &fields(), &odd).unwrap_err().to_string();
    assert!(error.contains("x.weight") && error.contains("Q4_K"), "{error}");
    assert!(GgufWriter::create(&dir.path().join("no/m.gguf"), &fields(), &tensors()).is_err());
    assert_eq!(left(dir.path()), 0);
}
