//! Model folders that are right, and those that must be refused by name.

use std::path::Path;

use serde_json::{Value, json};

use crate::home::{Home, argument};

/// The error of a run of the model in `folder`.
fn refusal(home: &Home, folder: &Path) -> String {
    let (code, text) =
        home.fails(&["generate", "w1 w2 w3", "--model-path", argument(folder), "--max-tokens", "4"]);
    assert_eq!(code, 1, "{text}");
    text
}

/// Adds a tensor of one number to a safetensors file.
fn add_tensor(path: &Path, name: &str) {
    let bytes = std::fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let (header, data) = bytes[8..].split_at(length);
    let mut header: Value = serde_json::from_slice(header).unwrap();
    header[name] = json!({ "dtype": "F32", "shape": [1], "data_offsets": [data.len(), data.len() + 4] });
    let header = header.to_string();
    let length = (header.len() as u64).to_le_bytes();
    std::fs::write(path, [&length, header.as_bytes(), data, &1f32.to_le_bytes()].concat()).unwrap();
}

#[test]
fn a_folder_runs_and_continues_its_prompt() {
    let home = Home::new();
    let folder = home.llama("model", |_| {});
    let object = home.json(&[
        "generate",
        "w5 w6 w7",
        "--model-path",
        argument(&folder),
        "--max-tokens",
        "6",
        "--seed",
        "1",
        "--json",
    ]);
    assert_eq!(object["prompt_tokens"], 3);
    assert!(object["text"].as_str().unwrap().contains('w'), "{object}");
}

#[test]
fn what_is_not_built_is_refused_with_what_stands_in_the_way_and_what_is_supported() {
    let home = Home::new();
    let folder = home.llama("strange", |config| {
        config["architectures"] = json!(["DeepseekV32ForCausalLM"]);
        config["model_type"] = json!("deepseek_v32");
    });
    let text = refusal(&home, &folder);
    for word in [
        "config.json",
        "DeepseekV32ForCausalLM",
        "sparse attention",
        "Llama",
        "Granite 3",
        "influence models",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn a_hyperparameter_that_nobody_reads_is_refused_by_name() {
    let home = Home::new();
    let folder = home.llama("model", |config| config["secret_multiplier"] = json!(2.5));
    let text = refusal(&home, &folder);
    assert!(text.contains("secret_multiplier") && text.contains("config.json"), "{text}");
}

#[test]
fn a_tensor_that_nobody_reads_is_refused_by_name() {
    let home = Home::new();
    let folder = home.llama("model", |_| {});
    add_tensor(&folder.join("model.safetensors"), "model.layers.0.self_attn.sinks");
    let text = refusal(&home, &folder);
    assert!(text.contains("sinks"), "{text}");
}

#[test]
fn a_folder_that_lacks_something_is_told_what() {
    let home = Home::new();
    for (file, expected) in [
        ("config.json", "config.json"),
        ("model.safetensors", "safetensors"),
        ("tokenizer.json", "tokenizer.json"),
    ] {
        let folder = home.llama("model", |_| {});
        std::fs::remove_file(folder.join(file)).unwrap();
        let text = refusal(&home, &folder);
        assert!(text.contains(expected) && text.contains("model"), "{file}: {text}");
    }
}

#[test]
fn ids_beyond_the_model_are_a_warning_and_a_prompt_of_them_an_error() {
    let home = Home::new();
    let folder = home.llama("model", |config| config["eos_token_id"] = json!([2, 5000]));
    let mut tokenizer: Value =
        serde_json::from_slice(&std::fs::read(folder.join("tokenizer.json")).unwrap()).unwrap();
    tokenizer["model"]["vocab"]["beyond"] = json!(200);
    home.write("model/tokenizer.json", tokenizer.to_string());
    let flags = ["generate", "w1 w2", "--model-path", argument(&folder), "--max-tokens", "3"];
    let run = home.influence(&flags).output().unwrap();
    let text = crate::home::stderr(&run);
    assert!(run.status.success(), "{text}");
    assert!(text.contains("warning: ") && text.contains("5000") && text.contains("200"), "{text}");
    let (code, text) = home.fails(&["generate", "w1 beyond", "--model-path", argument(&folder)]);
    assert!(code == 2 && text.contains("200") && text.contains("101"), "{text}");
}

#[test]
fn a_template_that_fails_is_told_with_the_model_and_the_way_around() {
    let home = Home::new();
    let folder = home.llama("model", |_| {});
    home.write("model/chat_template.jinja", "{{ messages[0].content | evil }}");
    let text = refusal(&home, &folder);
    assert!(text.contains("evil") && text.contains("model") && text.contains("--raw"), "{text}");
    home.text(&["generate", "w1", "--raw", "--model-path", argument(&folder), "--max-tokens", "2"]);
    let (code, text) = home.fails(&["generate", "w1", "--raw", "--system", "w2"]);
    assert!(code == 2 && text.contains("--system"), "{text}");
}

#[test]
fn names_of_a_file_do_not_command_the_terminal() {
    let home = Home::new();
    for (name, key) in [("by-class", "architectures"), ("by-value", "hidden_act"), ("by-key", "\u{1b}[2J")] {
        let folder = home.llama(name, |config| match key {
            "architectures" => config[key] = json!(["Evil\u{1b}]0;title\u{7}\u{9b}31m\u{202e}"]),
            key => config[key] = json!("\u{1b}[31m\u{9b}31m"),
        });
        let text = refusal(&home, &folder);
        assert!(text.contains("\\u{1b}"), "{name}: {text:?}");
        assert!(!text.chars().any(|c| c.is_control() && c != '\n' || c == '\u{202e}'), "{name}: {text:?}");
    }
    let folder = home.llama("tensor", |_| {});
    add_tensor(&folder.join("model.safetensors"), &"model.\u{1b}[2J".repeat(10_000));
    let text = refusal(&home, &folder);
    assert!(text.contains("\\u{1b}") && !text.contains('\u{1b}') && text.len() < 20_000, "{}", text.len());
}

#[cfg(unix)]
#[test]
fn a_pipe_in_place_of_a_file_is_not_waited_for() {
    let home = Home::new();
    for file in [
        "generation_config.json",
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    ] {
        let folder = home.llama(&format!("pipe-{file}"), |_| {});
        let _ = std::fs::remove_file(folder.join(file));
        let made = std::process::Command::new("mkfifo").arg(folder.join(file)).status().unwrap();
        assert!(made.success());
        let arguments = ["generate", "w1", "--max-tokens", "1", "--model-path", argument(&folder)];
        let run = home.influence(&arguments).timeout(std::time::Duration::from_secs(20)).output().unwrap();
        assert!(run.status.code().is_some(), "{file}: waited for");
    }
}
