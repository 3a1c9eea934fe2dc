//! Folders become GGUF files and say the same: every fixture, and a real model where it is there.

mod drive;

use std::path::{Path, PathBuf};

use drive::logits;
use models::{Checkpoint, CpuBackend, Scaling, Target};
use weights::Gguf;

/// Every fixture of a family that can be written.
fn fixtures() -> Vec<PathBuf> {
    let mut dirs = all();
    let target = || Target::from_name("f32").unwrap();
    dirs.retain(|d| Checkpoint::open(d).unwrap().convert(target(), false).is_ok());
    assert!(dirs.len() >= 25, "of the first families some cannot be written: {dirs:?}");
    dirs
}

fn all() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut dirs: Vec<PathBuf> = std::fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).collect();
    dirs.retain(|d| d.join("config.json").exists());
    dirs.sort();
    dirs
}

/// The other families are refused by name, with what to do instead.
#[test]
fn what_cannot_be_written_is_refused_by_name() {
    let mut refused = 0;
    for dir in all() {
        let conversion = Checkpoint::open(&dir).unwrap().convert(Target::from_name("f32").unwrap(), false);
        let Err(error) = conversion else { continue };
        let text = error.to_string();
        let told = text.contains("written as GGUF") || text.contains("take a GGUF of the model");
        assert!(told, "{}: {text}", dir.display());
        refused += 1;
    }
    assert!(refused > 0 && refused + fixtures().len() == all().len());
}

/// Converts `model` and gives the notes.
fn convert(model: &Path, kind: &str, pure: bool, to: &Path) -> Vec<String> {
    let conversion =
        Checkpoint::open(model).unwrap().convert(Target::from_name(kind).unwrap(), pure).unwrap();
    let warnings = conversion.write(to, 2, |_| true).unwrap();
    assert_eq!(warnings, Some(vec![]), "{}", model.display());
    conversion.notes
}

fn run(path: &Path, tokens: &[u32]) -> Vec<f32> {
    let mut model = Checkpoint::open(path).unwrap().load(CpuBackend::exact(Some(2))).unwrap();
    logits(&mut model, tokens, tokens.len())
}

/// The largest difference as a share of the first one's spread.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let (low, high) = a.iter().fold((f32::MAX, f32::MIN), |(l, h), &x| (l.min(x), h.max(x)));
    let differ = a.iter().zip(b).map(|(x, y)| (x - y).abs());
    differ.fold(0.0, |worst: f32, d| if d.is_nan() { f32::INFINITY } else { worst.max(d) }) / (high - low)
}

/// As many tokens as the GGUF is right for.
fn tokens(dir: &Path) -> Vec<u32> {
    let spec = Checkpoint::open(dir).unwrap().spec().unwrap();
    let most = match spec.ropes[0].scaling {
        Scaling::Dynamic { original, .. } => original.min(33),
        _ => 33,
    };
    (0..most as u32).map(|i| (i * 37 + 11) % spec.vocab as u32).collect()
}

#[test]
fn f32_files_say_what_the_folders_say() {
    let dir = tempfile::tempdir().unwrap();
    for fixture in fixtures() {
        let file = dir.path().join("model.gguf");
        let notes = convert(&fixture, "f32", false, &file);
        assert!(notes.iter().any(|n| n.contains("no tokenizer.json")), "{notes:?}");
        let tokens = tokens(&fixture);
        let far = distance(&run(&fixture, &tokens), &run(&file, &tokens));
        assert!(far <= 1e-5, "{}: {far} of the spread apart; {notes:?}", fixture.display());
        std::fs::remove_file(file).unwrap();
    }
}

/// The twins are made by other code (tools/fixtures, on the `gguf` package).
#[test]
fn files_have_the_keys_and_tensors_of_their_twins() {
    let dir = tempfile::tempdir().unwrap();
    let mut compared = 0;
    for fixture in fixtures().into_iter().filter(|d| d.join("model.gguf").exists()) {
        let file = dir.path().join("model.gguf");
        convert(&fixture, "f32", false, &file);
        let (ours, twin) = (Gguf::open(&file).unwrap(), Gguf::open(&fixture.join("model.gguf")).unwrap());
        let name = fixture.display();
        let other = |key: &str| key.starts_with("tokenizer.") || key == "general.name";
        for (key, theirs) in twin.metadata.iter().filter(|(key, _)| !other(key)) {
            let value = ours.metadata.get(key);
            let near = match (value, theirs) {
                (Some(weights::Value::Float(a)), weights::Value::Float(b)) => (a - b).abs() <= b.abs() * 1e-6,
                (value, theirs) => value == Some(theirs),
            };
            assert!(near, "{name}: {key}: {value:?}, the twin has {theirs:?}");
        }
        assert_eq!(ours.tensors.len(), twin.tensors.len(), "{name}");
        for (tensor, theirs) in &twin.tensors {
            let ours = ours.tensor(tensor).unwrap();
            assert_eq!(ours.shape, theirs.shape, "{name}: {tensor}");
            let float = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            let pairs = ours.bytes().chunks_exact(4).zip(theirs.bytes().chunks_exact(4));
            let near = |(a, b): (&[u8], &[u8])| (float(a) - float(b)).abs() <= float(b).abs() * 1e-5;
            assert!(pairs.into_iter().all(near), "{name}: {tensor}");
        }
        compared += 1;
    }
    assert!(compared >= 10, "{compared}");
}

/// The model that ships: its rows are whole blocks of 32, which those of the fixtures are not.
fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/influence-tiny.gguf")
}

#[test]
fn quantized_files_load_and_are_near() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.gguf");
    let tokens = tokens(&shipped());
    let exact = run(&shipped(), &tokens);
    // Shares of the spread: what rounding weights to so many bits may do to a model of this size.
    for (kind, most) in [("bf16", 0.05), ("q8_0", 0.02), ("q5_1", 0.1), ("q4_0", 0.3), ("q4_k_m", 0.2)] {
        convert(&shipped(), kind, false, &file);
        let far = distance(&exact, &run(&file, &tokens));
        assert!(far <= most && (far > 0.0 || kind == "q8_0"), "{kind}: {far}");
    }
}

#[test]
fn a_stop_leaves_nothing_and_a_gguf_can_be_converted_again() {
    let dir = tempfile::tempdir().unwrap();
    let fixture = &fixtures()[0];
    let file = dir.path().join("model.gguf");
    let conversion = Checkpoint::open(fixture).unwrap().convert(Target::from_name("f16").unwrap(), false);
    let mut calls = 0;
    let stopped = conversion.unwrap().write(&file, 2, |_| {
        calls += 1;
        calls < 3
    });
    assert_eq!(stopped.unwrap(), None);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);

    convert(&shipped(), "q8_0", false, &file);
    let again = dir.path().join("again.gguf");
    let notes = convert(&file, "q8_0", false, &again);
    assert!(notes.iter().any(|n| n.contains("already quantized")), "{notes:?}");
    let (first, second) = (Gguf::open(&file).unwrap(), Gguf::open(&again).unwrap());
    for (name, tensor) in &first.tensors {
        assert_eq!(tensor.bytes(), second.tensor(name).unwrap().bytes(), "{name}");
    }
    let keys =
        |g: &Gguf| g.metadata.iter().map(|(k, v)| (k.to_string(), format!("{v:?}"))).collect::<Vec<_>>();
    let (mut first, mut second) = (keys(&first), keys(&second));
    first.sort();
    second.sort();
    assert_eq!(first, second);
}

/// The real model's files, made by llama.cpp's tools of the same folder: the same tensors to the byte.
#[test]
fn the_tensors_of_stories260k_are_those_of_its_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/material/stories260K");
    if !root.exists() {
        println!("skipped: {} is not there", root.display());
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.gguf");
    for kind in ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"] {
        convert(&root.join("hf"), kind, true, &file);
        let ours = Gguf::open(&file).unwrap();
        let theirs = Gguf::open(&root.join(format!("gguf/stories260K-{kind}.gguf"))).unwrap();
        assert_eq!(ours.tensors.len(), theirs.tensors.len());
        for (name, tensor) in &theirs.tensors {
            let ours = ours.tensor(name).unwrap();
            assert_eq!((ours.dtype, &ours.shape), (tensor.dtype, &tensor.shape), "{kind} {name}");
            assert!(ours.bytes() == tensor.bytes(), "{kind} {name}: other bytes");
        }
        for key in ["tokens", "token_type", "bos_token_id", "eos_token_id", "add_bos_token", "model"] {
            let key = format!("tokenizer.ggml.{key}");
            assert_eq!(ours.metadata.get(&key), theirs.metadata.get(&key), "{key}");
        }
    }
}
