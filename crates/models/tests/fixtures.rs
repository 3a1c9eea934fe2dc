//! Every fixture of `tests/fixtures`, against what Hugging Face transformers says in float32
//! (`tools/fixtures` makes them): one test body for all architectures.

mod drive;
#[path = "drive/greedy.rs"]
mod greedy;

use std::path::{Path, PathBuf};

use drive::{Sequence, allocate, logits};
use greedy::greedy;
use models::{
    Act, Batch, CandleBackend, Checkpoint, CpuBackend, Ffn, Mixer, Model, NormKind, Norms, Scaling, Spec,
};
use serde_json::Value;
use weights::Safetensors;

/// Of the spread of the reference's logits.
const TOLERANCE: f32 = 1e-3;

struct Fixture {
    dir: PathBuf,
    reference: Value,
    tensors: Safetensors,
}

fn fixtures() -> Vec<Fixture> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut dirs: Vec<PathBuf> = std::fs::read_dir(root).unwrap().map(|e| e.unwrap().path()).collect();
    dirs.retain(|d| d.join("reference.json").exists() && !encodes(d));
    dirs.sort();
    assert!(dirs.len() >= 34, "fixtures are missing: {dirs:?}");
    // While one family is worked on, INFLUENCE_FIXTURES names the beginnings of the rows to look at.
    if let Ok(names) = std::env::var("INFLUENCE_FIXTURES") {
        let chosen =
            |d: &Path| names.split(',').any(|n| d.file_name().unwrap().to_str().unwrap().starts_with(n));
        dirs.retain(|d| chosen(d));
    }
    dirs.into_iter().map(Fixture::open).collect()
}

/// Those are proved in `encoders.rs`.
fn encodes(dir: &Path) -> bool {
    weights::read_json(&dir.join("reference.json"), 1 << 20).unwrap()["kind"] == "encoder"
}

impl Fixture {
    fn open(dir: PathBuf) -> Fixture {
        let reference = weights::read_json(&dir.join("reference.json"), 1 << 20).unwrap();
        let tensors = Safetensors::open_file(&dir.join("reference.safetensors")).unwrap();
        Fixture { dir, reference, tensors }
    }

    fn name(&self) -> &str {
        self.dir.file_name().unwrap().to_str().unwrap()
    }

    fn tokens(&self, pointer: &str) -> Vec<u32> {
        let list = self.reference.pointer(pointer).unwrap_or_else(|| panic!("{}: {pointer}", self.name()));
        list.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect()
    }

    fn logits(&self, prompt: &str) -> Vec<f32> {
        let bytes = self.tensors.tensor(&format!("logits_{prompt}")).unwrap().bytes();
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    }

    fn checkpoint(&self) -> Checkpoint {
        Checkpoint::open(&self.dir).unwrap()
    }

    /// The folder's model and, where there is one, its GGUF twin, on both backends.
    fn models(&self) -> Vec<(String, Box<dyn Model>)> {
        let gguf = self.dir.join("model.gguf");
        let paths = [self.dir.clone()].into_iter().chain(gguf.exists().then_some(gguf));
        paths.flat_map(|path| on_both(&path)).collect()
    }
}

fn on_both(path: &Path) -> [(String, Box<dyn Model>); 2] {
    let checkpoint = Checkpoint::open(path).unwrap();
    // Activations are not to be rounded where weights are quantized.
    let cpu = if quantized(&checkpoint) {
        CpuBackend::suited(&checkpoint, Some(2))
    } else {
        CpuBackend::exact(Some(2))
    };
    [
        (format!("{} on candle", path.display()), Box::new(checkpoint.load(CandleBackend::exact()).unwrap())),
        (format!("{} on cpu", path.display()), Box::new(checkpoint.load(cpu).unwrap())),
    ]
}

fn quantized(checkpoint: &Checkpoint) -> bool {
    let said = checkpoint.config().is_some_and(|c| c.get("quantization_config").is_some());
    said || checkpoint.tensors().any(|t| t.dtype.format().block_len > 1)
}

/// The largest difference as a share of the reference's spread.
fn distance(found: &[f32], reference: &[f32]) -> f32 {
    assert_eq!(found.len(), reference.len());
    let (low, high) = reference.iter().fold((f32::MAX, f32::MIN), |(l, h), &x| (l.min(x), h.max(x)));
    let worst = found
        .iter()
        .zip(reference)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |a: f32, b| if b.is_nan() { f32::INFINITY } else { a.max(b) });
    worst / (high - low)
}

#[test]
fn logits_are_those_of_transformers() {
    for fixture in fixtures() {
        for (name, mut model) in fixture.models() {
            for prompt in ["1", "7", "33"] {
                let tokens = fixture.tokens(&format!("/prompts/{prompt}"));
                let reference = fixture.logits(prompt);
                for chunk in [tokens.len(), 1, 5] {
                    let far = distance(&logits(&mut *model, &tokens, chunk), &reference);
                    assert!(far <= TOLERANCE, "{name}: prompt {prompt} by {chunk}: {far} of the spread");
                }
            }
        }
    }
}

/// The twin again in Q8_0, written as `influence quantize` does (rows that are no whole blocks of 32 become F16). Its
/// numbers, widened into an f32 file, have to give the same: what a quantized file is depends on its numbers alone. How
/// far rounding to 8 bits moved the model is bounded beside, loosely.
#[test]
fn q8_0_twins_say_what_their_numbers_say() {
    let dir = tempfile::tempdir().unwrap();
    let (q8, f32) = (dir.path().join("q8_0.gguf"), dir.path().join("f32.gguf"));
    let mut rounded = 0;
    for fixture in fixtures().into_iter().filter(|f| f.dir.join("model.gguf").exists()) {
        convert(&fixture.dir.join("model.gguf"), "q8_0", &q8);
        convert(&q8, "f32", &f32);
        let (tokens, reference) = (fixture.tokens("/prompts/33"), fixture.logits("33"));
        let plain = Checkpoint::open(&f32).unwrap();
        let expected = logits(&mut plain.load(CpuBackend::exact(Some(2))).unwrap(), &tokens, 33);
        rounded += usize::from(quantized(&Checkpoint::open(&q8).unwrap()));
        // Each backend against itself: how far the two are apart is the other tests' question.
        for ((name, mut model), (_, mut widened)) in on_both(&q8).into_iter().zip(on_both(&f32)) {
            let name = format!("{} in Q8_0: {name}", fixture.name());
            let plainly = logits(&mut *widened, &tokens, 33);
            let far = distance(&logits(&mut *model, &tokens, 33), &plainly);
            assert!(far <= EXACT, "{name}: {far} of the spread from its numbers in f32");
        }
        let moved = usual_distance(&expected, &reference);
        assert!(moved <= EIGHT_BITS, "{}: rounding moved it by {moved} of the spread", fixture.name());
    }
    if std::env::var_os("INFLUENCE_FIXTURES").is_none() {
        assert!(rounded >= 60, "only {rounded} twins have rows of whole blocks");
    }
}

/// Two orders of adding the same numbers.
const EXACT: f32 = 1e-5;
/// A step of 1/127 of each block's greatest number, in matrices of random numbers that nothing averages out.
const EIGHT_BITS: f32 = 0.01;

/// The median difference as a share of the reference's spread. (Where rounding makes a router choose another expert, that
/// position is another's; it is not the usual one.)
fn usual_distance(found: &[f32], reference: &[f32]) -> f32 {
    let (low, high) = reference.iter().fold((f32::MAX, f32::MIN), |(l, h), &x| (l.min(x), h.max(x)));
    let mut all: Vec<f32> = found.iter().zip(reference).map(|(a, b)| (a - b).abs()).collect();
    all.sort_by(f32::total_cmp);
    all[all.len() / 2] / (high - low)
}

fn convert(from: &Path, kind: &str, to: &Path) {
    let target = models::Target::from_name(kind).unwrap();
    let conversion = Checkpoint::open(from).unwrap().convert(target, true).unwrap();
    assert!(conversion.write(to, 2, |_| true).unwrap().is_some());
}

#[test]
fn greedy_answers_are_those_of_transformers() {
    for fixture in fixtures() {
        for (name, mut model) in fixture.models() {
            for prompt in ["1", "7", "33"] {
                let tokens = fixture.tokens(&format!("/prompts/{prompt}"));
                let expected = fixture.tokens(&format!("/greedy/{prompt}"));
                assert_eq!(expected.len(), 24);
                assert_eq!(greedy(&mut *model, &tokens, 24), expected, "{name}: prompt {prompt}");
            }
        }
    }
}

#[test]
fn mean_nll_is_that_of_transformers() {
    for fixture in fixtures() {
        let tokens = fixture.tokens("/nll/tokens");
        let expected = fixture.reference.pointer("/nll/mean").and_then(Value::as_f64).unwrap();
        for (name, mut model) in fixture.models() {
            let vocab = model.spec().vocab;
            let all = logits(&mut *model, &tokens, tokens.len());
            let rows = all.chunks_exact(vocab).zip(&tokens[1..]);
            let sum: f64 = rows.map(|(row, &next)| nll(row, next as usize)).sum();
            let mean = sum / (tokens.len() - 1) as f64;
            assert!(
                (mean - expected).abs() < 1e-4 * expected.abs().max(1.0),
                "{name}: {mean} against {expected}"
            );
        }
    }
}

fn nll(row: &[f32], token: usize) -> f64 {
    let max = row.iter().fold(f32::MIN, |a, &b| a.max(b)) as f64;
    let sum: f64 = row.iter().map(|&x| (x as f64 - max).exp()).sum();
    max + sum.ln() - row[token] as f64
}

#[test]
fn both_spellings_of_a_config_mean_the_same() {
    for fixture in fixtures() {
        let hub = Checkpoint::open_config(&fixture.dir.join("config.json")).unwrap().spec().unwrap();
        let v5 = Checkpoint::open_config(&fixture.dir.join("config.v5.json")).unwrap().spec().unwrap();
        assert_eq!(hub, v5, "{}", fixture.name());
    }
}

#[test]
fn two_sequences_in_a_batch_get_what_each_gets_alone() {
    for fixture in fixtures() {
        for (name, mut model) in on_both(&fixture.dir) {
            two_at_once(&fixture, &name, &mut *model);
        }
    }
}

fn two_at_once(fixture: &Fixture, name: &str, model: &mut dyn Model) {
    let (a, b) = (fixture.tokens("/prompts/33"), fixture.tokens("/prompts/7"));
    let (alone_a, alone_b) = (fixture.logits("33"), fixture.logits("7"));
    allocate(model);
    let (mut first, mut second) = (Sequence::new(&a, 0), Sequence::new(&b, 1));
    let (mut found_a, mut found_b) = (vec![], vec![]);
    // 20 + 4 rows, then 13 + 3.
    for (rows_a, rows_b) in [(20, 4), (13, 3)] {
        let mut batch = Batch::default();
        first.enter(rows_a, &mut batch);
        second.enter(rows_b, &mut batch);
        let mut logits = model.forward(&batch).unwrap();
        found_b.extend(logits.split_off(rows_a * model.spec().vocab));
        found_a.extend(logits);
    }
    assert!(distance(&found_a, &alone_a) <= TOLERANCE, "{name}: the first");
    assert!(distance(&found_b, &alone_b) <= TOLERANCE, "{name}: the second");
}

/// A way to forget something that a spec says.
type Forget = (&'static str, fn(&mut Spec));

const FORGET: &[Forget] = &[
    ("embed_scale", |s| s.embed_scale = 1.0),
    ("logit_scale", |s| s.logit_scale = 1.0),
    ("logit_softcap", |s| s.logit_softcap = None),
    ("residual_scale", |s| s.layers.iter_mut().for_each(|l| l.residual_scale = 1.0)),
    ("attention softcap", |s| attns(s, |a| a.softcap = None)),
    ("window", |s| attns(s, |a| a.window = None)),
    ("scale", |s| attns(s, |a| a.scale = (a.head_dim as f32).powf(-0.5))),
    ("rope", |s| attns(s, |a| a.rope = None)),
    ("qk_norm", |s| attns(s, |a| a.qk_norm = None)),
    ("rope scaling", |s| s.ropes.iter_mut().for_each(|r| r.scaling = Scaling::None)),
    ("partial rope", |s| {
        // (Of a latent attention's keys the rotated part is its own.)
        let width = s.mixers().find_map(|m| if let Mixer::Attn(a) = m { Some(a.head_dim) } else { None });
        let Some(width) = width else { return };
        let Some(rope) = s.ropes.first_mut().filter(|r| r.dim != width) else { return };
        (rope.dim, rope.scaling) = (width, Scaling::None);
    }),
    ("interleaved rope", |s| s.ropes.iter_mut().for_each(|r| r.interleaved = false)),
    ("ALiBi", |s| attns(s, |a| a.alibi = None)),
    ("clip", |s| attns(s, |a| a.clip = None)),
    ("positions", |s| s.positions = None),
    ("norm of the embedding", |s| s.embed_norm = false),
    ("kind of norm", |s| s.norm.kind = NormKind::Rms),
    ("parallel branches", |s| s.layers.iter_mut().for_each(|l| l.parallel = false)),
    ("norms after", |s| s.layers.iter_mut().for_each(|l| l.norms = Norms::PRE)),
    ("activation", |s| {
        s.layers.iter_mut().for_each(|l| {
            let silu = matches!(&l.ffn, Ffn::Glu { act: Act::Silu, .. } | Ffn::Mlp { act: Act::Silu, .. });
            l.ffn = l.ffn.with_act(if silu { Act::Gelu } else { Act::Silu });
        })
    }),
    ("norm of values", |s| attns(s, |a| a.v_norm = false)),
    ("shared keys and values", |s| attns(s, |a| a.shares = None)),
    ("values of keys", |s| attns(s, |a| a.values_of_keys = false)),
    ("streams", |s| s.altup = None),
    ("inputs of layers", |s| s.inputs = None),
    ("narrow branch", |s| s.layers.iter_mut().for_each(|l| l.laurel = None)),
    ("cutoff", |s| s.layers.iter_mut().for_each(|l| l.ffn_scales.cutoff = None)),
    ("norms of experts", |s| moes(s, |m| m.apart = false)),
    ("factors of experts", |s| moes(s, |m| m.routing.factors = false)),
    ("first norm", |s| s.layers[1].norms.before_mixer = false),
    ("second norm", |s| s.layers[1].norms.before_ffn = false),
];

fn attns(spec: &mut Spec, change: fn(&mut models::Attn)) {
    spec.layers.iter_mut().flat_map(|l| &mut l.mixers).filter_map(Mixer::attn_mut).for_each(change);
}

fn moes(spec: &mut Spec, change: fn(&mut models::Moe)) {
    for layer in &mut spec.layers {
        if let Ffn::Moe(moe) = &mut layer.ffn {
            change(moe);
        }
    }
}

/// One hyperparameter or one tensor more than is read is an error that names it.
#[test]
fn nothing_is_left_unread() {
    let copy = std::env::temp_dir().join(format!("influence-unread-{}", std::process::id()));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    for entry in std::fs::read_dir(root).unwrap() {
        let dir = entry.unwrap().path();
        if !dir.join("model.safetensors").exists() {
            continue;
        }
        std::fs::create_dir_all(&copy).unwrap();
        let mut config = weights::read_json(&dir.join("config.json"), 1 << 20).unwrap();
        let with = more_tensors(&std::fs::read(dir.join("model.safetensors")).unwrap());
        std::fs::write(copy.join("model.safetensors"), with).unwrap();
        std::fs::write(copy.join("config.json"), config.to_string()).unwrap();
        let loaded = Checkpoint::open(&copy).unwrap().load(CandleBackend::exact());
        let error = loaded.err().map_or("it was loaded".into(), |e| e.to_string());
        assert!(error.contains("model.layers.0.surprise.weight"), "{}: {error}", dir.display());
        config["surprising_multiplier"] = 3.into();
        std::fs::write(copy.join("config.json"), config.to_string()).unwrap();
        let spec = Checkpoint::open_config(&copy.join("config.json")).unwrap().spec();
        let error = spec.err().map_or("it was read".into(), |e| e.to_string());
        assert!(error.contains("surprising_multiplier = 3"), "{}: {error}", dir.display());
        std::fs::remove_dir_all(&copy).unwrap();
    }
}

/// A safetensors file with one tensor of one number more.
fn more_tensors(file: &[u8]) -> Vec<u8> {
    let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let (header, data) = (&file[8..8 + length], &file[8 + length..]);
    let mut header: Value = serde_json::from_slice(header).unwrap();
    header["model.layers.0.surprise.weight"] =
        serde_json::json!({"dtype": "F32", "shape": [1], "data_offsets": [data.len(), data.len() + 4]});
    let header = header.to_string();
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(data);
    out.extend_from_slice(&1f32.to_le_bytes());
    out
}

/// Latent attention gives the same whether it makes keys and values or folds their matrices away.
#[test]
fn latent_attention_is_the_same_both_ways() {
    let turned = |spec: &Spec| {
        let mut other = spec.clone();
        for mixer in other.layers.iter_mut().flat_map(|l| &mut l.mixers) {
            if let Mixer::Mla(mla) = mixer {
                *mla = if mla.folded { mla.clone().unfold() } else { mla.clone().fold() };
            }
        }
        other
    };
    for fixture in fixtures() {
        let (checkpoint, tokens) = (fixture.checkpoint(), fixture.tokens("/prompts/33"));
        let spec = checkpoint.spec().unwrap();
        let other = turned(&spec);
        if other == spec {
            continue;
        }
        assert!(other.cache_numbers() != spec.cache_numbers() && other.parameters() == spec.parameters());
        let mut candle = checkpoint.load_spec(other.clone(), CandleBackend::exact()).unwrap();
        let mut cpu = checkpoint.load_spec(other, CpuBackend::exact(Some(2))).unwrap();
        let models: [&mut dyn Model; 2] = [&mut candle, &mut cpu];
        for model in models {
            for chunk in [33, 5] {
                let far = distance(&logits(model, &tokens, chunk), &fixture.logits("33"));
                assert!(far <= TOLERANCE, "{}: by {chunk}: {far} of the spread", fixture.name());
            }
        }
    }
}

/// The fixtures would catch it: each thing forgotten either moves the logits over the tolerance or leaves
/// a tensor unread.
#[test]
fn whatever_is_forgotten_shows() {
    let mut shown = std::collections::BTreeMap::new();
    for fixture in fixtures() {
        let (checkpoint, tokens) = (fixture.checkpoint(), fixture.tokens("/prompts/33"));
        let spec = checkpoint.spec().unwrap();
        for (what, forget) in FORGET {
            let mut other = spec.clone();
            forget(&mut other);
            if other == spec {
                continue;
            }
            *shown.entry(*what).or_insert(0) += 1;
            let Ok(mut model) = checkpoint.load_spec(other, CandleBackend::exact()) else { continue };
            let far = distance(&logits(&mut model, &tokens, 33), &fixture.logits("33"));
            assert!(far > TOLERANCE, "{}: without its {what} only {far} of the spread away", fixture.name());
        }
    }
    if std::env::var_os("INFLUENCE_FIXTURES").is_none() {
        assert_eq!(shown.len(), FORGET.len(), "no fixture has the others: {shown:?}");
    }
}

/// What a row becomes on the CPU depends on that row alone, to the bit: not on chunks, threads or company.
/// The shipped model shows it for quantized weights.
#[test]
fn the_cpu_gives_the_same_bits_however_it_is_asked() {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/influence-tiny.gguf");
    let prompts = fixtures().into_iter().map(|f| (f.dir.clone(), f.tokens("/prompts/33")));
    let first = fixtures().remove(0).tokens("/prompts/33");
    for (path, tokens) in prompts.chain([(shipped, first)]) {
        let checkpoint = Checkpoint::open(&path).unwrap();
        let logits = |threads: usize, chunk: usize| {
            logits(&mut checkpoint.load(CpuBackend::new(Some(threads))).unwrap(), &tokens, chunk)
        };
        let whole = logits(1, 33);
        for (threads, chunk) in [(1, 1), (2, 1), (3, 1), (2, 33), (3, 33), (2, 5), (1, 17)] {
            let same = logits(threads, chunk).iter().zip(&whole).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(same, "{}: {threads} threads, chunks of {chunk}", path.display());
        }
    }
}
