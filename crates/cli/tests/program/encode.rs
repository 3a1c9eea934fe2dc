//! `influence embed` and `influence rerank`, against what transformers gave for the same tokens
//! (`crates/models/tests/fixtures`).

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::home::{Home, argument};

fn fixture(name: &str, file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tests/fixtures").join(name).join(file)
}

/// The tensors of a safetensors file of f32.
fn tensors(path: &Path) -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let bytes = std::fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Map<String, Value> = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let numbers = |value: &Value| -> Vec<usize> { serde_json::from_value(value.clone()).unwrap() };
    let read = |(name, entry): (&String, &Value)| {
        assert_eq!(entry["dtype"], "F32", "{name}");
        let at = numbers(&entry["data_offsets"]);
        let data = bytes[8 + length + at[0]..8 + length + at[1]].chunks(4);
        let data = data.map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
        (name.clone(), numbers(&entry["shape"]), data)
    };
    header.iter().filter(|(name, _)| *name != "__metadata__").map(read).collect()
}

fn safetensors(tensors: &[(String, Vec<usize>, Vec<f32>)]) -> Vec<u8> {
    let (mut header, mut data) = (Map::new(), Vec::new());
    for (name, shape, numbers) in tensors {
        let start = data.len();
        data.extend(numbers.iter().flat_map(|x| x.to_le_bytes()));
        header.insert(
            name.clone(),
            json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]}),
        );
    }
    let header = Value::Object(header).to_string().into_bytes();
    [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
}

/// A folder with a fixture's model, a tokenizer of the words w0 to w66, and config.json changed by `edit`.
fn encoder(home: &Home, name: &str, edit: impl FnOnce(&mut Value)) -> PathBuf {
    let mut config: Value =
        serde_json::from_slice(&std::fs::read(fixture(name, "config.json")).unwrap()).unwrap();
    edit(&mut config);
    home.write(&format!("{name}/config.json"), config.to_string());
    home.write(
        &format!("{name}/model.safetensors"),
        std::fs::read(fixture(name, "model.safetensors")).unwrap(),
    );
    let vocab: Map<String, Value> = (0..67).map(|id| (format!("w{id}"), json!(id))).collect();
    // A pair of texts is one after the other, the second of type 1.
    let part = |id: &str, kind: u32| json!({"Sequence": {"id": id, "type_id": kind}});
    let pairs = json!({
        "type": "TemplateProcessing", "single": [part("A", 0)], "pair": [part("A", 0), part("B", 1)],
        "special_tokens": {},
    });
    let tokenizer = json!({
        "version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": { "type": "Whitespace" },
        "post_processor": pairs, "decoder": null,
        "model": { "type": "WordLevel", "vocab": vocab, "unk_token": "w0" },
    });
    home.write(&format!("{name}/tokenizer.json"), tokenizer.to_string());
    home.path().join(name)
}

/// The words of the fixture's prompt of so many tokens, and what transformers gave for it: rows, columns, numbers.
fn reference(name: &str, length: usize) -> (String, Vec<usize>, Vec<f32>) {
    let reference: Value =
        serde_json::from_slice(&std::fs::read(fixture(name, "reference.json")).unwrap()).unwrap();
    let ids = reference["prompts"][length.to_string()].as_array().unwrap().iter();
    let words: Vec<String> = ids.map(|id| format!("w{id}")).collect();
    let all = tensors(&fixture(name, "reference.safetensors"));
    let (_, shape, numbers) = all.into_iter().find(|(key, _, _)| *key == format!("logits_{length}")).unwrap();
    (words.join(" "), shape, numbers)
}

fn sentence_model(home: &Home) -> PathBuf {
    home.write(
        "bert/modules.json",
        json!([{"path": "", "type": "sentence_transformers.models.Transformer"},
               {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}])
        .to_string(),
    );
    let pooling = json!({"word_embedding_dimension": 32, "pooling_mode_mean_tokens": true});
    home.write("bert/1_Pooling/config.json", pooling.to_string());
    encoder(home, "bert", |_| {})
}

#[test]
fn vectors_are_those_of_the_reference() {
    let home = Home::new();
    let model = sentence_model(&home);
    // Longer prompts of the fixtures are pairs of texts, which nobody makes a vector of.
    let (short, shape, expected) = reference("bert", 1);
    assert_eq!(shape, [1, 32]);
    let long = "w5 w9 w44 w3 w21";
    let flags = ["embed", &short, long, "--model-path", argument(&model)];
    let object = home.json(&[&flags[..], &["--json"]].concat());
    let found: Vec<Vec<f32>> = serde_json::from_value(object["embeddings"].clone()).unwrap();
    let off = found[0].iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(found[0].len() == 32 && off < 1e-4, "off by {off}: {found:?} {expected:?}");
    assert_eq!((found.len(), &object["model"]), (2, &json!("bert")));
    // Lines instead of arguments, numbers instead of JSON.
    let lines = home.text(&flags);
    let first: Vec<f32> = lines.lines().next().unwrap().split(' ').map(|x| x.parse().unwrap()).collect();
    assert!(first.iter().zip(&found[0]).all(|(a, b)| (a - b).abs() < 1e-5), "{lines}");
    let run = home
        .influence(&["embed", "--model-path", argument(&model)])
        .write_stdin(format!("{short}\n{long}\n"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(run.stdout).unwrap(), lines);
    let alike = home.json(&[&flags[..], &["--similarity", "--json"]].concat());
    let alike: Vec<Vec<f32>> = serde_json::from_value(alike["similarity"].clone()).unwrap();
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    let (a, b) = (&found[0], &found[1]);
    let cosine = dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
    assert!((alike[0][0] - 1.0).abs() < 1e-5 && (alike[0][1] - cosine).abs() < 1e-4, "{alike:?} {cosine}");
}

#[test]
fn documents_come_in_the_order_of_their_scores() {
    let home = Home::new();
    let model = encoder(&home, "bert-classifier", |config| {
        config["id2label"] = json!({"0": "LABEL_0"});
        config["label2id"] = json!({"LABEL_0": 0});
    });
    let mut all = tensors(&fixture("bert-classifier", "model.safetensors"));
    for (name, shape, numbers) in &mut all {
        if name.starts_with("classifier.") {
            shape[0] = 1;
            numbers.truncate(shape.iter().product());
        }
    }
    home.write("bert-classifier/model.safetensors", safetensors(&all));
    let (words, _, logits) = reference("bert-classifier", 7);
    // The fixture's prompt is a pair: the first four tokens, and the others of the second type.
    let (at, _) = words.match_indices(' ').nth(3).unwrap();
    let (query, document) = words.split_at(at);
    let flags = ["rerank", query, document.trim(), "w5 w6 w7", "w8", "--model-path", argument(&model)];
    let object = home.json(&[&flags[..], &["--json"]].concat());
    let results = object["results"].as_array().unwrap();
    let scores: Vec<f64> = results.iter().map(|row| row["score"].as_f64().unwrap()).collect();
    assert!(scores.len() == 3 && scores.is_sorted_by(|a, b| a >= b), "{object}");
    let alone = results.iter().find(|row| row["index"] == 0).unwrap();
    let expected = 1.0 / (1.0 + (-f64::from(logits[0])).exp());
    assert!((alone["score"].as_f64().unwrap() - expected).abs() < 1e-4, "{alone} {expected}");
    let lines = home.text(&flags);
    let first = lines.lines().next().unwrap().split('\t').nth(1).unwrap();
    assert_eq!(first, results[0]["index"].to_string(), "{lines}");
}

#[test]
fn what_a_model_cannot_do_is_told() {
    let home = Home::new();
    let sentences = sentence_model(&home);
    let classifier = encoder(&home, "bert-classifier", |_| {});
    let llama = home.llama("words", |_| {});
    for (verb, model, word) in [
        ("rerank", &sentences, "reranker"),
        ("embed", &classifier, "influence rerank"),
        ("rerank", &classifier, "3 labels"),
        ("embed", &llama, "vector"),
    ] {
        let (code, text) = home.fails(&[verb, "w1", "w2", "--model-path", argument(model)]);
        assert!(code != 0 && text.contains(word), "{verb}: {text}");
    }
    let (_, text) = home.fails(&["embed", "--model-path", argument(&sentences)]);
    assert!(text.contains("no texts"), "{text}");
    let (_, text) = home.fails(&["generate", "w1", "--model-path", argument(&sentences)]);
    assert!(text.contains("embed"), "{text}");
}
