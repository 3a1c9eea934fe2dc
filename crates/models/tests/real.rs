//! Real files: a small trained model against the reference C program, and configs of the Hub.
//!
//! They lie outside the repository (`../shared/material`); without them these tests say that they skip.

mod drive;
#[path = "drive/greedy.rs"]
mod greedy;

use std::path::{Path, PathBuf};

use drive::logits;
use greedy::greedy;
use models::{CandleBackend, Checkpoint, CpuBackend, Model};
use serde_json::Value;

fn material(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/material").join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: {} is not there", path.display());
    None
}

fn json(path: &Path) -> Value {
    weights::read_json(path, 64 << 20).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect()
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
}

/// Sequences of the golden file are longer than the drive's blocks allow at once, so only as many greedy
/// tokens are asked for as fit.
fn check(model: &mut dyn Model, name: &str, case: &Value, golden: &Value, tolerance: f32) {
    let tokens = ids(&case["ids"]);
    let all = logits(model, &tokens, tokens.len());
    let last = &all[all.len() - model.spec().vocab..];
    for (i, (found, expected)) in last.iter().zip(floats(&golden["last_logits"])).enumerate() {
        let far = (found - expected).abs();
        assert!(far <= tolerance, "{name}: {:?}: token {i}: {found} against {expected}", case["prompt"]);
    }
}

#[test]
fn stories_in_full_precision_are_those_of_the_reference_program() {
    let Some(root) = material("stories260K") else { return };
    let golden = json(&root.join("golden.json"));
    for name in ["hf", "gguf/stories260K-F32.gguf"] {
        let checkpoint = Checkpoint::open(&root.join(name)).unwrap();
        let models: [Box<dyn Model>; 2] = [
            Box::new(checkpoint.load(CandleBackend::exact()).unwrap()),
            Box::new(checkpoint.load(CpuBackend::exact(Some(2))).unwrap()),
        ];
        for mut model in models {
            for case in golden["cases"].as_array().unwrap() {
                check(&mut *model, name, case, case, 1e-3);
                let expected = ids(&case["greedy_64"]);
                assert_eq!(
                    greedy(&mut *model, &ids(&case["ids"]), 64),
                    expected,
                    "{name}: {:?}",
                    case["prompt"]
                );
            }
        }
    }
}

/// (file, what of golden_gguf.json it is).
const QUANTS: &[(&str, &str)] = &[
    ("gguf/stories260K-F32.gguf", "F32"),
    ("gguf/stories260K-F16.gguf", "F16"),
    ("gguf/stories260K-BF16.gguf", "BF16"),
    ("gguf/stories260K-Q8_0.gguf", "Q8_0"),
    ("gguf/stories260K-Q5_1.gguf", "Q5_1"),
    ("gguf/stories260K-Q5_0.gguf", "Q5_0"),
    ("gguf/stories260K-Q4_1.gguf", "Q4_1"),
    ("gguf/stories260K-Q4_0.gguf", "Q4_0"),
];

#[test]
fn stories_in_every_quantization_are_those_of_the_golden_file() {
    let Some(root) = material("stories260K") else { return };
    let (golden, exact) = (json(&root.join("golden_gguf.json")), json(&root.join("golden.json")));
    for (file, quant) in QUANTS {
        let checkpoint = Checkpoint::open(&root.join(file)).unwrap();
        let mut model = checkpoint.load(CandleBackend::exact()).unwrap();
        let cases = golden["quants"][quant]["cases"].as_array().unwrap();
        for (golden, case) in cases.iter().zip(exact["cases"].as_array().unwrap()) {
            assert_eq!(golden["prompt"], case["prompt"]);
            check(&mut model, file, case, golden, 1e-3);
        }
    }
    // The folder rounds its norms to bf16 as well, which the GGUF of the golden file does not: transformers
    // in float32 gives what we give, 0.017 away.
    let mut model = Checkpoint::open(&root.join("hf-bf16")).unwrap().load(CandleBackend::exact()).unwrap();
    let bos = logits(&mut model, &[1], 1);
    assert!(
        (bos[259] - 5.346108).abs() < 1e-4 && (bos[0] + 6.215955).abs() < 1e-4,
        "{} {}",
        bos[259],
        bos[0]
    );
    let cases = golden["quants"]["BF16"]["cases"].as_array().unwrap();
    for (golden, case) in cases.iter().zip(exact["cases"].as_array().unwrap()) {
        check(&mut model, "hf-bf16", case, golden, 1e-1);
    }
}

/// As small a model as this is computed exactly; and where activations are rounded to 8 bits, the logits are
/// no further from the exact ones than those of candle's kernels, which round as ggml does.
#[test]
fn stories_quantized_on_the_cpu_are_right() {
    let Some(root) = material("stories260K") else { return };
    let (golden, exact) = (json(&root.join("golden_gguf.json")), json(&root.join("golden.json")));
    for (file, quant) in QUANTS {
        let checkpoint = Checkpoint::open(&root.join(file)).unwrap();
        let mut model = checkpoint.load(CpuBackend::suited(&checkpoint, Some(2))).unwrap();
        let cases = golden["quants"][quant]["cases"].as_array().unwrap();
        for (golden, case) in cases.iter().zip(exact["cases"].as_array().unwrap()) {
            check(&mut model, file, case, golden, 1e-3);
        }
        let (ours, peer) = rounding(&checkpoint, &exact);
        assert!(ours <= 1.1 * peer + 1e-4, "{file}: {ours} away in the mean, candle's kernels {peer}");
    }
}

/// Root mean squares of how far rounded activations move the logits: on our kernels, and on candle's.
fn rounding(checkpoint: &Checkpoint, golden: &Value) -> (f64, f64) {
    let mut truth = checkpoint.load(CandleBackend::exact()).unwrap();
    let mut ours = checkpoint.load(CpuBackend::exact(Some(2))).unwrap();
    let mut peer = checkpoint.load(CandleBackend::cpu()).unwrap();
    let (mut squares, mut n) = ([0.0f64; 2], 0);
    for case in golden["cases"].as_array().unwrap() {
        let tokens = [ids(&case["ids"]), ids(&case["greedy_64"])].concat();
        let exact = logits(&mut truth, &tokens, tokens.len());
        let models: [&mut dyn Model; 2] = [&mut ours, &mut peer];
        for (model, sum) in models.into_iter().zip(&mut squares) {
            let found = logits(model, &tokens, tokens.len());
            *sum += found.iter().zip(&exact).map(|(a, b)| ((a - b) as f64).powi(2)).sum::<f64>();
        }
        n += exact.len();
    }
    ((squares[0] / n as f64).sqrt(), (squares[1] / n as f64).sqrt())
}

#[test]
fn every_real_config_is_read_or_refused_by_name() {
    let Some(root) = material("configs") else { return };
    let (mut read, mut refused) = (0, 0);
    for entry in std::fs::read_dir(&root).unwrap() {
        let path = entry.unwrap().path();
        let config = json(&path);
        let named =
            config["architectures"][0].as_str().or(config["model_type"].as_str()).unwrap_or("architectures");
        match Checkpoint::open_config(&path).and_then(|c| c.spec()) {
            Ok(spec) => {
                assert!(!spec.layers.is_empty() && spec.parameters() > 1_000_000, "{}", path.display());
                read += 1;
            }
            Err(error) => {
                let message = error.to_string();
                let by_name = message.contains(named);
                assert!(by_name, "{}: {message}", path.display());
                refused += 1;
            }
        }
    }
    let starcoder = root.join("LLM-TPU__WizardCoder__compile__files__WizardCoder-15B-V1.0__config.json");
    let billions = Checkpoint::open_config(&starcoder).unwrap().spec().unwrap().parameters() as f64 / 1e9;
    assert!((billions - 15.5).abs() < 0.31, "WizardCoder 15B has {billions} billion parameters");
    eprintln!("{read} configs read, {refused} refused by name");
    assert!(read >= 20, "only {read} configs were read");
}

/// What a config's file name contains, and the numbers that the published model has: all, and where experts rest those
/// that one token is multiplied by. They are the sums of the tensors in its safetensors (a tied matrix counted once).
const SIZES: &[(&str, f64, Option<f64>)] = &[
    ("Llama2__compile__files__llama-2-7b", 6.738e9, None),
    ("Llama2__compile__files__llama-2-13b", 13.016e9, None),
    ("inference-sim__llama-2-7b-hf", 6.738e9, None),
    ("codellama-34b-instruct", 33.744e9, None),
    ("llama-3-8b", 8.030e9, None),
    ("Meta-Llama-3.1-70B", 70.554e9, None),
    ("mistral-nemo-instruct-2407", 12.248e9, None),
    ("yi-34b", 34.389e9, None),
    ("Qwen1.5-7B-Chat", 7.721e9, None),
    ("Qwen2-7B-Instruct", 7.616e9, None),
    ("Qwen2-72B-Instruct", 72.706e9, None),
    ("aiconfigurator__Qwen--Qwen3-0.6B_", 0.596e9, None),
    ("aiconfigurator__Qwen--Qwen3-1.7B_", 1.721e9, None),
    ("aiconfigurator__Qwen--Qwen3-32B_", 32.762e9, None),
    ("inference-sim__qwen3-14b", 14.768e9, None),
    ("Qwen--Qwen3-235B-A22B_", 235.094e9, Some(22.19e9)),
    ("Qwen3-Coder-480B-A35B", 480.155e9, Some(35.46e9)),
    ("mistralai--Mixtral-8x7B", 46.703e9, Some(12.88e9)),
    ("mistralai--Mixtral-8x22B", 140.63e9, Some(39.15e9)),
    ("MiniCPM3-4B", 4.074e9, None),
    ("DeepSeek-V3.1", 671.03e9, Some(37.55e9)),
    ("Llama-4-Maverick", 400e9, Some(17e9)),
    // Its makers say 3.61 and 5.13: they leave the 0.58 of the embedding out, which others count.
    ("gpt-oss-20b", 20.91e9, Some(4.19e9)),
    ("gpt-oss-120b", 116.83e9, Some(5.71e9)),
    ("pythia-410m", 405.3e6, None),
    // Of text alone: its makers say 5.1 with what sees and hears.
    ("LLM-TPU__Gemma4", 4.6286e9, None),
    ("Gemma-4-26B-A4B", 25.233e9, None),
    ("Gemma-4-31B-IT", 30.697e9, None),
    ("Qwen3-30B-A3B-FP8", 30.532e9, Some(3.35e9)),
    ("Qwen3-32B-FP8", 32.762e9, None),
    ("MiniMaxAI--MiniMax-M2.7", 228.7e9, None),
    ("Kimi-K2-Instruct", 1026.4e9, Some(32.86e9)),
];

/// The spec of a config that is understood, however its weights are packed.
fn unpacked(path: &Path) -> Option<models::Spec> {
    let mut config = json(path);
    config.as_object_mut()?.remove("quantization_config");
    let copy = tempfile::tempdir().ok()?;
    let file = copy.path().join("config.json");
    std::fs::write(&file, config.to_string()).ok()?;
    Checkpoint::open_config(&file).and_then(|c| c.spec()).ok()
}

/// The size that a published model is known to have is the size of its spec, within 2 %.
#[test]
fn real_models_are_as_large_as_they_are_known_to_be() {
    let Some(root) = material("configs") else { return };
    let (mut checked, mut far) = (0, vec![]);
    for entry in std::fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let Some(spec) = unpacked(&path) else { continue };
        let Some((_, all, active)) = SIZES.iter().find(|(part, ..)| file.contains(part)) else {
            eprintln!("{file}: {} parameters, {} active", spec.parameters(), spec.active_parameters());
            continue;
        };
        let near = |found: u64, expected: f64| (found as f64 / expected - 1.0).abs() <= 0.02;
        let right = near(spec.parameters(), *all) && active.is_none_or(|a| near(spec.active_parameters(), a));
        if !right {
            far.push(format!(
                "{file}: {} parameters, {} active",
                spec.parameters(),
                spec.active_parameters()
            ));
        }
        checked += 1;
    }
    assert!(far.is_empty(), "{far:#?}");
    assert!(checked >= 15, "only {checked} sizes were compared");
}
