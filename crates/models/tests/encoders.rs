//! Every fixture of `tests/fixtures` that is an encoder, against what Hugging Face transformers says of each position, or of
//! each label, in float32: one test body for all.

use std::path::{Path, PathBuf};

use models::{
    Batch, CacheShape, CandleBackend, Checkpoint, CpuBackend, Embedding, Mixer, Model, Norms, Pool, Span,
    Spec,
};
use serde_json::Value;
use weights::Safetensors;

/// Of the spread of the reference.
const TOLERANCE: f32 = 1e-3;
const BLOCK: usize = 32;

fn fixtures() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut dirs: Vec<PathBuf> = std::fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).collect();
    dirs.retain(|d| d.join("reference.json").exists() && reference(d)["kind"] == "encoder");
    dirs.sort();
    assert!(dirs.len() >= 7, "fixtures are missing: {dirs:?}");
    dirs
}

fn reference(dir: &Path) -> Value {
    weights::read_json(&dir.join("reference.json"), 1 << 20).unwrap()
}

fn tokens(dir: &Path, prompt: &str) -> Vec<u32> {
    let list = &reference(dir)["prompts"][prompt];
    list.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect()
}

fn said(dir: &Path, prompt: &str) -> Vec<f32> {
    let file = Safetensors::open_file(&dir.join("reference.safetensors")).unwrap();
    let bytes = file.tensor(&format!("logits_{prompt}")).unwrap().bytes();
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// What each position says, whatever the files make of it.
fn each(path: &Path) -> (Checkpoint, Spec) {
    let checkpoint = Checkpoint::open(path).unwrap();
    let mut spec = checkpoint.spec().unwrap();
    spec.embedding = Some(Embedding { pool: Pool::Each, unit: false });
    (checkpoint, spec)
}

fn both(checkpoint: &Checkpoint, spec: &Spec) -> [Box<dyn Model>; 2] {
    [
        Box::new(checkpoint.load_spec(spec.clone(), CandleBackend::exact()).unwrap()),
        Box::new(checkpoint.load_spec(spec.clone(), CpuBackend::exact(Some(2))).unwrap()),
    ]
}

/// The texts as one batch, the second half of each of token type 1.
fn batch(texts: &[&[u32]]) -> Batch {
    let mut batch = Batch::default();
    for (lane, text) in texts.iter().enumerate() {
        let start = batch.tokens.len();
        let blocks = vec![2 * lane as u32 + 1, 2 * lane as u32];
        let span = Span { start, len: text.len(), blocks, length: text.len(), state: lane as u32 };
        for (i, &token) in text.iter().enumerate() {
            batch.tokens.push(token);
            batch.positions.push(i as u32);
            batch.slots.push(span.slot(i, BLOCK));
            batch.types.push(u32::from(text.len() > 1 && 2 * i >= text.len()));
        }
        batch.spans.push(span);
    }
    batch
}

fn encode(model: &mut dyn Model, texts: &[&[u32]]) -> Vec<Vec<f32>> {
    model.allocate(CacheShape { blocks: 2 * texts.len(), block_size: BLOCK, states: texts.len() }).unwrap();
    model.encode(&batch(texts)).unwrap()
}

fn distance(found: &[f32], reference: &[f32]) -> f32 {
    assert_eq!(found.len(), reference.len());
    let (low, high) = reference.iter().fold((f32::MAX, f32::MIN), |(l, h), &x| (l.min(x), h.max(x)));
    let worst = found.iter().zip(reference).map(|(a, b)| (a - b).abs());
    worst.fold(0.0, |a: f32, b| if b.is_nan() { f32::INFINITY } else { a.max(b) }) / (high - low)
}

#[test]
fn what_is_said_is_what_transformers_says() {
    for dir in fixtures() {
        let gguf = dir.join("model.gguf");
        for path in [dir.clone()].into_iter().chain(gguf.exists().then_some(gguf)) {
            let (checkpoint, spec) = each(&path);
            for mut model in both(&checkpoint, &spec) {
                for prompt in ["1", "7", "33"] {
                    let found = encode(&mut *model, &[&tokens(&dir, prompt)]).remove(0);
                    let far = distance(&found, &said(&dir, prompt));
                    assert!(far <= TOLERANCE, "{}: prompt {prompt}: {far} of the spread", path.display());
                }
                let (a, b) = (tokens(&dir, "33"), tokens(&dir, "7"));
                let found = encode(&mut *model, &[&a, &b]);
                assert!(distance(&found[0], &said(&dir, "33")) <= TOLERANCE, "{}: the first", path.display());
                assert!(distance(&found[1], &said(&dir, "7")) <= TOLERANCE, "{}: the second", path.display());
            }
        }
    }
}

#[test]
fn both_spellings_of_a_config_mean_the_same() {
    for dir in fixtures() {
        let spec = |name: &str| Checkpoint::open_config(&dir.join(name)).unwrap().spec().unwrap();
        assert_eq!(spec("config.json"), spec("config.v5.json"), "{}", dir.display());
    }
}

/// A way to forget something that a spec says.
type Forget = (&'static str, fn(&mut Spec));

const FORGET: &[Forget] = &[
    ("both ways", |s| each_attn(s, |a| a.both_ways = false)),
    ("window", |s| each_attn(s, |a| a.window = None)),
    ("rope", |s| each_attn(s, |a| a.rope = None)),
    ("second rope", |s| each_attn(s, |a| a.rope = a.rope.map(|_| 0))),
    ("positions", |s| s.positions = None),
    ("offset of positions", |s| s.positions.iter_mut().for_each(|p| p.offset = 0)),
    ("token types", |s| s.token_types = false),
    ("norm of embeddings", |s| s.embed_norm = false),
    ("last norm", |s| s.final_norm = false),
    ("norms", |s| s.layers.iter_mut().for_each(|l| l.norms = Norms::PRE)),
    ("pool of the classifier", |s| {
        s.classifier
            .iter_mut()
            .for_each(|c| c.pool = if c.pool == Pool::Mean { Pool::First } else { Pool::Mean })
    }),
];

fn each_attn(spec: &mut Spec, change: fn(&mut models::Attn)) {
    spec.layers.iter_mut().flat_map(|l| &mut l.mixers).filter_map(Mixer::attn_mut).for_each(change);
}

#[test]
fn whatever_is_forgotten_shows() {
    let mut shown = std::collections::BTreeSet::new();
    for dir in fixtures() {
        let (checkpoint, spec) = each(&dir);
        for (what, forget) in FORGET {
            let mut other = spec.clone();
            forget(&mut other);
            if other == spec {
                continue;
            }
            shown.insert(*what);
            let Ok(mut model) = checkpoint.load_spec(other, CandleBackend::exact()) else { continue };
            model.allocate(CacheShape { blocks: 2, block_size: BLOCK, states: 1 }).unwrap();
            // What is not an encoder any more has no vectors; that shows too.
            let Ok(found) = model.encode(&batch(&[&tokens(&dir, "33")])) else { continue };
            let far = distance(&found[0], &said(&dir, "33"));
            assert!(far > TOLERANCE, "{}: without its {what} only {far} of the spread away", dir.display());
        }
    }
    assert_eq!(shown.len(), FORGET.len(), "no fixture has the others: {shown:?}");
}

/// What a text becomes on the CPU depends on that text alone, to the bit.
#[test]
fn the_cpu_gives_the_same_bits_however_it_is_asked() {
    for dir in fixtures() {
        let (checkpoint, spec) = each(&dir);
        let (a, b) = (tokens(&dir, "33"), tokens(&dir, "7"));
        let on = |threads| checkpoint.load_spec(spec.clone(), CpuBackend::new(Some(threads))).unwrap();
        let alone = encode(&mut on(1), &[&a]).remove(0);
        let beside = encode(&mut on(3), &[&b, &a]).remove(1);
        assert!(alone.iter().zip(&beside).all(|(a, b)| a.to_bits() == b.to_bits()), "{}", dir.display());
    }
}

#[test]
fn an_encoder_that_should_go_on_says_that_it_cannot() {
    for dir in fixtures() {
        let (checkpoint, spec) = each(&dir);
        for mut model in both(&checkpoint, &spec) {
            model.allocate(CacheShape { blocks: 2, block_size: BLOCK, states: 1 }).unwrap();
            let error = model.forward(&batch(&[&tokens(&dir, "7")])).unwrap_err().to_string();
            assert!(error.contains("encoder"), "{error}");
        }
    }
}

/// The files of sentence-transformers beside a model say how its positions become one vector, and how long a text may be.
#[test]
fn the_pooling_is_that_of_the_files() {
    let dir = fixtures().into_iter().find(|d| d.ends_with("bert")).unwrap();
    let copy = std::env::temp_dir().join(format!("influence-pooling-{}", std::process::id()));
    std::fs::create_dir_all(copy.join("1_Pooling")).unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(dir.join(name), copy.join(name)).unwrap();
    }
    let module = |kind: &str, path: &str| {
        format!("{{\"path\":{path:?},\"type\":\"sentence_transformers.models.{kind}\"}}")
    };
    let all = [module("Transformer", ""), module("Pooling", "1_Pooling"), module("Normalize", "2_Normalize")];
    let write = |name: &str, text: &str| std::fs::write(copy.join(name), text).unwrap();
    let embedding = || Checkpoint::open(&copy).unwrap().spec().map(|s| (s.embedding, s.context));
    write("modules.json", &format!("[{}]", all.join(",")));
    write("1_Pooling/config.json", r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}"#);
    assert_eq!(embedding().unwrap(), (Some(Embedding { pool: Pool::First, unit: true }), 64));
    write("1_Pooling/config.json", r#"{"pooling_mode": "lasttoken"}"#);
    write("modules.json", &format!("[{}]", all[..2].join(",")));
    write("sentence_bert_config.json", r#"{"max_seq_length": 40}"#);
    assert_eq!(embedding().unwrap(), (Some(Embedding { pool: Pool::Last, unit: false }), 40));
    write("1_Pooling/config.json", r#"{"pooling_mode_max_tokens": true}"#);
    assert!(embedding().unwrap_err().to_string().contains("pooling_mode"));
    write("modules.json", &format!("[{}]", [all[0].clone(), module("Dense", "2_Dense")].join(",")));
    assert!(embedding().unwrap_err().to_string().contains("Dense"));
    write("modules.json", &format!("[{}]", [all[0].clone(), module("Pooling", "../1_Pooling")].join(",")));
    assert!(embedding().unwrap_err().to_string().contains("path"));
    std::fs::remove_dir_all(&copy).unwrap();
}
