//! Real tokenizers against the ids that their makers' programs gave.

mod support;

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use support::{material, vocab};
use text::{Detokenizer, Tokenizer};

fn ids(value: &Value) -> Option<Vec<u32>> {
    value.as_array().map(|list| list.iter().map(|id| id.as_u64().unwrap() as u32).collect())
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Streams the ids and checks that the pieces make up the whole decoding.
fn streamed(tokenizer: &Arc<Tokenizer>, ids: &[u32]) -> String {
    let mut stream = Detokenizer::new(tokenizer.clone(), Vec::new());
    let mut text: String = ids.iter().map(|&id| stream.push(id).text).collect();
    text.push_str(&stream.finish());
    text
}

fn report(group: &str, passed: usize, failures: &[String]) {
    println!("{group}: {passed} of {} equal", passed + failures.len());
    assert!(
        failures.is_empty(),
        "{group}: {}\n{}",
        failures.len(),
        failures[..failures.len().min(30)].join("\n")
    );
    assert!(passed > 0, "{group}: nothing was compared");
}

#[test]
fn gguf_vocabularies_give_the_reference_ids() {
    let Some(dir) = material("tokenizers/ggml") else { return };
    let (mut passed, mut failures) = (0, Vec::new());
    let mut files: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for file in files.iter().filter(|file| file.extension().is_some_and(|e| e == "gguf")) {
        let tokenizer = Tokenizer::from_gguf(vocab(file)).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap().replace("rebuilt-vocab", "ggml-vocab");
        let inp = dir.join(format!("{name}.inp"));
        if !inp.exists() {
            println!("{name}: no vectors; loads");
            continue;
        }
        let inputs = std::fs::read_to_string(inp).unwrap();
        let outputs = std::fs::read_to_string(dir.join(format!("{name}.out"))).unwrap();
        let inputs: Vec<&str> = inputs.split("\n__ggml_vocab_test__\n").collect();
        let mut here = 0;
        for (at, (text, line)) in inputs.iter().zip(outputs.lines()).enumerate() {
            let want: Vec<u32> = line.split_whitespace().map(|id| id.parse().unwrap()).collect();
            let mut got = tokenizer.encode(text, false, false).unwrap();
            // The reference put [CLS] and [SEP] around.
            if name.contains("bert") && want.first() == Some(&101) {
                got = tokenizer.encode(text, true, false).unwrap();
            }
            if got == want {
                here += 1;
            } else {
                failures.push(format!("{name} {at} {text:?}\n  got  {got:?}\n  want {want:?}"));
            }
        }
        println!("{name}: {here} equal of {}", outputs.lines().count());
        passed += here;
    }
    report("gguf vectors", passed, &failures);
}

/// The folder in hf/ of each reference file.
const REFERENCE: [(&str, &str); 11] = [
    ("LLM-TPU__Mistral__token_config", "mistral"),
    ("allenai-OLMo__test-olmo-model", "olmo"),
    ("bert-base-uncased", "bert-base-uncased"),
    ("onnxruntime-extensions__falcon-tokenizer", "falcon"),
    ("onnxruntime-extensions__phi-2", "phi-2"),
    ("onnxruntime-extensions__phi-3", "phi-3"),
    ("pythia-410m", "pythia"),
    ("rebuilt__gpt-oss", "gpt-oss"),
    ("rebuilt__granite-docling", "granite-docling"),
    ("rebuilt__qwen3", "qwen3"),
    ("rebuilt__smollm3", "smollm3"),
];

#[test]
fn tokenizer_json_gives_the_reference_ids_and_texts() {
    let Some(dir) = material("tokenizers") else { return };
    let (mut passed, mut failures) = (0, Vec::new());
    for (file, folder) in REFERENCE {
        let tokenizer = Arc::new(Tokenizer::from_folder(&dir.join("hf").join(folder)).unwrap());
        let reference = read(&dir.join("reference_vectors").join(format!("{file}.json")));
        for case in reference["cases"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            let want = ids(&case["ids"]).unwrap();
            let got = tokenizer.encode(text, false, true).unwrap();
            let mut wrong = String::new();
            if got != want {
                wrong = format!("ids {got:?}, not {want:?}");
            }
            if let Some(special) = ids(&case["ids_special"]) {
                let got = tokenizer.encode(text, true, true).unwrap();
                if got != special {
                    wrong = format!("with specials {got:?}, not {special:?}");
                }
            }
            let (whole, skipped) =
                (case["decoded"].as_str().unwrap(), case["decoded_skip"].as_str().unwrap());
            if tokenizer.decode(&want, false) != whole || tokenizer.decode(&want, true) != skipped {
                wrong = format!("decoded {:?}, not {whole:?}", tokenizer.decode(&want, false));
            }
            let stream = streamed(&tokenizer, &want);
            if stream != skipped {
                wrong = format!("streamed {stream:?}, not {skipped:?}");
            }
            if wrong.is_empty() {
                passed += 1;
            } else {
                failures.push(format!("{folder} {text:?}: {wrong}"));
            }
        }
    }
    report("reference vectors", passed, &failures);
}

/// Models of the hub vectors whose vocabulary is here, as tokenizer.json or as GGUF.
const HUB: [(&str, &str); 7] = [
    ("Xenova/bert-base-uncased", "hf/bert-base-uncased"),
    ("tiiuae/falcon-7b", "hf/falcon"),
    ("Xenova/gpt2", "ggml/ggml-vocab-gpt-2.gguf"),
    ("openai-community/gpt2", "ggml/ggml-vocab-gpt-2.gguf"),
    ("Xenova/llama-tokenizer", "ggml/ggml-vocab-llama-spm.gguf"),
    ("Xenova/Qwen1.5-0.5B-Chat", "ggml/rebuilt-vocab-qwen2.gguf"),
    ("Xenova/deepseek-coder-1.3b-instruct", "ggml/ggml-vocab-deepseek-coder.gguf"),
];

#[test]
fn hub_vectors_are_equal() {
    let Some(dir) = material("tokenizers") else { return };
    let (mut passed, mut failures) = (0, Vec::new());
    let rows = read(&dir.join("hub_vectors.json"));
    for (model, place) in HUB {
        let place = dir.join(place);
        let tokenizer = match place.is_dir() {
            true => Tokenizer::from_folder(&place).unwrap(),
            false => Tokenizer::from_gguf(vocab(&place)).unwrap(),
        };
        // Pairs of texts are not something that a prompt is made of.
        let single = rows.as_array().unwrap().iter().filter(|row| row.get("text_pair").is_none());
        let mut here = (0, 0);
        for row in single.filter(|row| row["model"] == model) {
            let text = row["text"].as_str().unwrap_or_default();
            let want = ids(&row["ids"]).unwrap();
            let got = tokenizer.encode(text, true, true).unwrap();
            here.1 += 1;
            match got == want {
                true => here.0 += 1,
                false => failures.push(format!("{model} {text:?}\n  got  {got:?}\n  want {want:?}")),
            }
        }
        println!("{model}: {} of {} equal", here.0, here.1);
        passed += here.0;
    }
    report("hub vectors", passed, &failures);
}

#[test]
fn the_same_model_gives_the_same_ids_in_every_form() {
    let Some(dir) = material("tokenizers") else { return };
    let texts: Vec<String> = read(&dir.join("reference_vectors/onnxruntime-extensions__phi-3.json"))["cases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|case| case["text"].as_str().unwrap().to_owned())
        .collect();
    let gguf = |name: &str| Tokenizer::from_gguf(vocab(&dir.join("ggml").join(name))).unwrap();
    let folder = |name: &str| Tokenizer::from_folder(&dir.join("hf").join(name)).unwrap();
    let model = std::env::temp_dir().join(format!("text-spm-{}", std::process::id()));
    std::fs::create_dir_all(&model).unwrap();
    for file in ["tokenizer.model", "tokenizer_config.json"] {
        std::fs::copy(dir.join("hf/mistral").join(file), model.join(file)).unwrap();
    }
    let pairs = [
        ("phi-3", folder("phi-3"), gguf("ggml-vocab-phi-3.gguf")),
        ("falcon", folder("falcon"), gguf("ggml-vocab-falcon.gguf")),
        ("mistral", folder("mistral"), Tokenizer::from_folder(&model).unwrap()),
    ];
    std::fs::remove_dir_all(model).unwrap();
    let (mut passed, mut failures) = (0, Vec::new());
    for (name, one, other) in pairs {
        for (text, special, parse) in
            texts.iter().flat_map(|text| [(text, false, false), (text, true, false), (text, false, true)])
        {
            // The GGUF file says that `</s>` is a word of its own, tokenizer.json that it is a control token.
            if name == "phi-3" && !parse && text.contains("</s>") {
                continue;
            }
            let (a, b) =
                (one.encode(text, special, parse).unwrap(), other.encode(text, special, parse).unwrap());
            match a == b {
                true => passed += 1,
                false => failures.push(format!("{name} {text:?} {special} {parse}\n  {a:?}\n  {b:?}")),
            }
        }
    }
    report("forms of one model", passed, &failures);
}
