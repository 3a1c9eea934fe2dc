//! Folders become GGUF files and say the same: every fixture, and a real model where it is there.

mod drive;

use std::path::{Path, PathBuf};

use drive::{Sequence, allocate, logits};
use models::{Batch, Checkpoint, CpuBackend, Embedding, Model, Pool, Scaling, Target};
use weights::Gguf;

/// Every fixture of a family that can be written.
fn fixtures() -> Vec<PathBuf> {
    let mut dirs = all();
    let target = || Target::from_name("f32").unwrap();
    dirs.retain(|d| Checkpoint::open(d).unwrap().convert(target(), false).is_ok());
    assert!(dirs.len() >= 130, "some families cannot be written: {}", dirs.len());
    dirs
}

fn all() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut dirs: Vec<PathBuf> = std::fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).collect();
    dirs.retain(|d| d.join("config.json").exists());
    dirs.sort();
    dirs
}

/// What a GGUF has no keys for is refused, and the error says what it is.
#[test]
fn what_cannot_be_written_is_refused_by_name() {
    let mut refused = vec![];
    for dir in all() {
        let conversion = Checkpoint::open(&dir).unwrap().convert(Target::from_name("f32").unwrap(), false);
        let Err(error) = conversion else { continue };
        let text = error.to_string();
        println!("{text}");
        let reasons = ["where a GGUF of it would say", "can be written yet", "packed already"];
        assert!(reasons.iter().any(|reason| text.contains(reason)), "{}: {text}", dir.display());
        refused.push(dir.file_name().unwrap().to_str().unwrap().to_string());
    }
    assert_eq!(refused, REFUSED);
}

const REFUSED: &[&str] = &[
    "deepseek2-mscale",
    "falcon-h1-norm-before",
    "falcon-rw",
    "gemma3n",
    "gemma3n-images",
    "gemma3n-three-streams",
    "gemma4",
    "gemma4-experts",
    "gemma4-images",
    "gemma4-unified",
    "gemma4-values-of-keys",
    "qwen3-fp8",
];

/// Converts `model` and gives the notes.
fn convert(model: &Path, kind: &str, pure: bool, to: &Path) -> Vec<String> {
    let conversion =
        Checkpoint::open(model).unwrap().convert(Target::from_name(kind).unwrap(), pure).unwrap();
    let warnings = conversion.write(to, 2, |_| true).unwrap();
    assert_eq!(warnings, Some(vec![]), "{}", model.display());
    conversion.notes
}

fn run(path: &Path, tokens: &[u32]) -> Vec<f32> {
    let checkpoint = Checkpoint::open(path).unwrap();
    let mut spec = checkpoint.spec().unwrap();
    // Activations are not to be rounded where weights are quantized.
    let packed = checkpoint.config().is_some_and(|c| c.get("quantization_config").is_some());
    let backend = || match packed {
        true => CpuBackend::suited(&checkpoint, Some(2)),
        false => CpuBackend::exact(Some(2)),
    };
    if spec.embedding.is_none() {
        let mut model = checkpoint.load(backend()).unwrap();
        return logits(&mut model, tokens, tokens.len());
    }
    // Of an encoder what each position says, or each label.
    spec.embedding = Some(Embedding { pool: Pool::Each, unit: false });
    let mut model = checkpoint.load_spec(spec, backend()).unwrap();
    allocate(&mut model);
    let mut batch = Batch::default();
    Sequence::new(tokens, 0).enter(tokens.len(), &mut batch);
    model.encode(&batch).unwrap().remove(0)
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
    let most = match spec.ropes.first().map(|r| &r.scaling) {
        Some(Scaling::Dynamic { original, .. }) => *original.min(&33),
        _ => 33,
    };
    (0..most as u32).map(|i| (i * 37 + 11) % spec.vocab as u32).collect()
}

#[test]
fn f32_files_say_what_the_folders_say() {
    let dir = tempfile::tempdir().unwrap();
    let mut wrong = vec![];
    for fixture in fixtures() {
        let name = fixture.file_name().unwrap().to_str().unwrap().to_string();
        let file = dir.path().join("model.gguf");
        let notes = convert(&fixture, "f32", false, &file);
        assert!(notes.iter().any(|n| n.contains("no tokenizer.json")), "{notes:?}");
        if let Err(error) = Checkpoint::open(&file).unwrap().load(CpuBackend::exact(Some(2))) {
            wrong.push(format!("{name}: {error}"));
            continue;
        }
        let tokens = tokens(&fixture);
        let far = distance(&run(&fixture, &tokens), &run(&file, &tokens));
        if far > 1e-5 {
            wrong.push(format!("{name}: {far} of the spread apart; {notes:?}"));
        }
        std::fs::remove_file(file).unwrap();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The twins are made by other code (tools/fixtures, on the `gguf` package).
#[test]
fn files_have_the_keys_and_tensors_of_their_twins() {
    let dir = tempfile::tempdir().unwrap();
    let (mut compared, mut wrong) = (0, vec![]);
    for fixture in fixtures().into_iter().filter(|d| d.join("model.gguf").exists()) {
        let file = dir.path().join("model.gguf");
        convert(&fixture, "f32", false, &file);
        let (ours, twin) = (Gguf::open(&file).unwrap(), Gguf::open(&fixture.join("model.gguf")).unwrap());
        let name = fixture.file_name().unwrap().to_str().unwrap();
        let mut found = unlike(&ours, &twin);
        found.retain(|what| !OTHERWISE.iter().any(|(twin, part)| *twin == name && what.contains(part)));
        wrong.extend(found.into_iter().map(|what| format!("{name}: {what}")));
        compared += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(compared >= 80, "{compared}");
}

/// What is written otherwise than in a twin, by a part of what is said of it.
const OTHERWISE: &[(&str, &str)] = &[
    // The twin has the layout of the first converters.
    ("deepseek2-lite", "attn_k"),
    ("deepseek2-lite", "attn_v"),
    ("deepseek2-lite", "attention."),
    // Layers that predict further tokens are left out.
    ("glm4moe", "block_count"),
    ("glm4moe", "nextn_predict_layers"),
    ("glm4moe", "no blk.2."),
    ("glm4moe-plain-heads", "nextn_predict_layers"),
    // The converter writes a constant.
    ("rwkv7", "context_length"),
];

/// What the twin has otherwise.
fn unlike(ours: &Gguf, twin: &Gguf) -> Vec<String> {
    let mut wrong = vec![];
    let other = |key: &str| key.starts_with("tokenizer.") || key == "general.name";
    for (key, theirs) in twin.metadata.iter().filter(|(key, _)| !other(key)) {
        let value = ours.metadata.get(key);
        let near = match (value, theirs) {
            (Some(weights::Value::Float(a)), weights::Value::Float(b)) => (a - b).abs() <= b.abs() * 1e-6,
            (value, theirs) => value == Some(theirs),
        };
        if !near {
            wrong.push(format!("{key}: {value:?}, the twin has {theirs:?}"));
        }
    }
    for (name, theirs) in &twin.tensors {
        let Ok(ours) = ours.tensor(name) else {
            wrong.push(format!("no {name}"));
            continue;
        };
        let inner = |shape: &[usize]| shape.iter().copied().skip_while(|&n| n == 1).collect::<Vec<_>>();
        if inner(&ours.shape) != inner(&theirs.shape) {
            wrong.push(format!("{name}: {:?}, the twin has {:?}", ours.shape, theirs.shape));
        } else if !numbers(ours).iter().zip(numbers(theirs)).all(|(a, b)| (a - b).abs() <= b.abs() * 1e-5) {
            wrong.push(format!("{name}: other numbers"));
        }
    }
    let more = ours.tensors.keys().filter(|name| !twin.tensors.contains_key(*name));
    wrong.extend(more.map(|name| format!("{name} is not in the twin")));
    wrong
}

fn numbers(tensor: &weights::Tensor) -> Vec<f32> {
    let mut out = vec![0.0; tensor.elements()];
    tensor.dtype.unpack_row(tensor.bytes(), &mut out);
    out
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
