//! `--quant TYPE`: the first start makes a file, the next ones use it, and the model stays who it was.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::home::{Home, argument, shipped, stderr};

/// A tiny llama in a folder whose tokenizer GGUF can express: one token a letter.
fn letters(home: &Home) -> PathBuf {
    let folder = home.llama("letters", |_| {});
    let vocab: serde_json::Map<String, Value> =
        (0..94u8).map(|id| (char::from(b'!' + id).to_string(), json!(id))).collect();
    let level =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": [],
        "normalizer": null,
        "pre_tokenizer": level,
        "post_processor": null,
        "decoder": level,
        "model": { "type": "BPE", "vocab": vocab, "merges": [] },
    });
    home.write("letters/tokenizer.json", tokenizer.to_string());
    home.write("letters/chat_template.jinja", "{{ messages[0].content }}!");
    home.write("letters/generation_config.json", json!({ "do_sample": false }).to_string());
    folder
}

/// What `generate` answers with these flags more, and what it says on standard error.
#[track_caller]
fn answer(home: &Home, model: &Path, more: &[&str]) -> (Value, String) {
    let flags = ["generate", "abc", "--json", "--max-tokens", "6", "--model-path", argument(model)];
    let run = home.influence(&[&flags[..], more].concat()).output().unwrap();
    assert!(run.status.success(), "{more:?}: {}", stderr(&run));
    (serde_json::from_slice(&run.stdout).unwrap(), stderr(&run))
}

fn kept(home: &Home) -> Vec<PathBuf> {
    let rows = home.json(&["cache", "list", "--json"]);
    rows.as_array().unwrap().iter().map(|row| row["path"].as_str().unwrap().into()).collect()
}

#[test]
fn the_first_start_makes_a_file_and_the_second_maps_it() {
    let home = Home::new();
    let folder = letters(&home);
    let (plain, _) = answer(&home, &folder, &[]);
    let (first, said) = answer(&home, &folder, &["--quant", "F32"]);
    assert!(said.contains("quantizing to f32"), "{said}");
    let files = kept(&home);
    assert!(files.len() == 1 && said.contains(argument(&files[0])), "{files:?} {said}");
    let made = std::fs::metadata(&files[0]).unwrap().modified().unwrap();
    let (second, said) = answer(&home, &folder, &["--quant", "f32", "-v"]);
    assert!(!said.contains("quantizing") && said.contains(argument(&files[0])), "{said}");
    assert_eq!(std::fs::metadata(&files[0]).unwrap().modified().unwrap(), made);
    // The template, the makers' greedy sampling and the letters are those of the folder.
    assert_eq!(plain["prompt_tokens"], 4);
    for object in [first, second] {
        for key in ["model", "text", "tokens", "prompt_tokens"] {
            assert_eq!(object[key], plain[key], "{key}");
        }
    }
}

#[test]
fn a_model_that_changed_is_quantized_anew() {
    let home = Home::new();
    let folder = letters(&home);
    answer(&home, &folder, &["--quant", "q8_0"]);
    answer(&home, &folder, &["--quant", "q4_0"]);
    assert_eq!(kept(&home).len(), 2);
    let weights = folder.join("model.safetensors");
    let hour_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    std::fs::File::options().append(true).open(weights).unwrap().set_modified(hour_ago).unwrap();
    let (_, said) = answer(&home, &folder, &["--quant", "q8_0"]);
    assert!(said.contains("quantizing") && kept(&home).len() == 3, "{said}");
}

#[test]
fn every_verb_that_runs_a_model_takes_it_and_the_files_can_be_cleared() {
    let home = Home::new();
    let gguf = home.path().join("half.gguf");
    home.text(&["quantize", argument(&shipped()), "-q", "f16", "-o", argument(&gguf)]);
    home.write("book.txt", "Once upon a time there was a small cat. ".repeat(40));
    let model = ["--model-path", argument(&gguf), "--quant", "q8_0"];
    let verbs: [&[&str]; 4] = [
        &["generate", "Once", "--max-tokens", "2"],
        &["score", "--text", "Once upon a time"],
        &["perplexity", "-f", "book.txt", "-c", "64"],
        &["bench", "-p", "8", "-n", "2", "-r", "1"],
    ];
    for verb in verbs {
        home.text(&[verb, &model].concat());
    }
    assert_eq!(kept(&home).len(), 1);
    home.write("cache/influence/quantized/other.txt", "not ours");
    home.text(&["cache", "clear"]);
    assert_eq!(kept(&home), [] as [PathBuf; 0]);
    assert!(home.path().join("cache/influence/quantized/other.txt").exists());
}

#[test]
fn what_cannot_be_made_or_kept_is_told() {
    let home = Home::new();
    let words = home.llama("words", |_| {});
    let flags = ["generate", "w1", "--quant", "q8_0", "--model-path", argument(&words)];
    let (code, text) = home.fails(&flags);
    assert!(code == 1 && text.contains("WordLevel") && text.contains("BPE"), "{text}");
    let folder = letters(&home);
    let file = home.write("file", "");
    let run = home
        .influence(&["generate", "abc", "--quant", "q8_0", "--model-path", argument(&folder)])
        .env("INFLUENCE_CACHE", &file)
        .output()
        .unwrap();
    let text = stderr(&run);
    assert!(run.status.code() == Some(1) && text.contains("INFLUENCE_CACHE"), "{text}");
    let (code, text) = home.fails(&["generate", "abc", "--quant", "q4_x"]);
    assert!(code == 2 && text.contains("q4_k_m"), "{text}");
}

#[test]
fn the_cache_lies_where_the_environment_says() {
    let home = Home::new();
    let folder = letters(&home);
    let place = home.path().join("elsewhere");
    let flags =
        ["generate", "abc", "--max-tokens", "1", "--quant", "q8_0", "--model-path", argument(&folder)];
    let run = home.influence(&flags).env("INFLUENCE_CACHE", &place).output().unwrap();
    assert!(run.status.success(), "{}", stderr(&run));
    let files: Vec<_> = std::fs::read_dir(place.join("quantized")).unwrap().collect();
    assert!(files.len() == 1 && kept(&home).is_empty(), "{files:?}");
}
