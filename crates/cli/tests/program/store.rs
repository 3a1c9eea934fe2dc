//! The verbs that bring models here and take them away, against the stand-in of the Hub: found,
//! downloaded, listed, shown, run, removed.

use std::path::Path;

use serde_json::json;

use crate::home::{Home, argument, shipped, stderr};
use crate::standin::{Model, Standin};

const LLAMA: &str = "acme/tiny-llama";
const GGUF: &str = "acme/tiny-gguf";

/// A Hub with a folder of safetensors and one GGUF.
fn hub(home: &Home) -> Standin {
    let hub = Standin::start();
    let folder = home.llama("origin", |_| {});
    let file = |name: &'static str| (name, std::fs::read(folder.join(name)).unwrap());
    hub.add(LLAMA, Model::new(&["config.json", "model.safetensors", "tokenizer.json"].map(file)));
    let mut gguf = Model::new(&[("tiny-Q8_0.gguf", std::fs::read(shipped()).unwrap())]);
    gguf.tags = vec!["gguf".into()];
    hub.add(GGUF, gguf);
    hub
}

/// Runs a verb against this Hub; its standard output.
#[track_caller]
fn run(home: &Home, hub: &Standin, arguments: &[&str]) -> String {
    let run = home.influence(arguments).env("HF_ENDPOINT", hub.endpoint()).output().unwrap();
    assert!(run.status.success(), "{arguments:?}: {}", stderr(&run));
    String::from_utf8(run.stdout).unwrap()
}

#[test]
fn a_model_is_found_downloaded_run_and_removed() {
    let home = Home::new();
    let hub = hub(&home);
    assert!(run(&home, &hub, &["search", "tiny", "--limit", "10"]).contains(LLAMA));
    let out = run(&home, &hub, &["download", "-m", LLAMA]);
    let path = out.lines().last().unwrap();
    assert!(path.ends_with("acme_tiny-llama"), "{out}");
    assert!(Path::new(path).is_dir() || home.path().join(path).is_dir(), "{out}");
    // From here on the Hub is not needed.
    drop(hub);
    let by_path = ["generate", "w1 w2", "--model-path", path, "--max-tokens", "3", "--temperature", "0"];
    let text = home.text(&by_path);
    for name in [LLAMA, "acme_tiny-llama", path] {
        let flags = ["generate", "w1 w2", "-m", name, "--max-tokens", "3", "--temperature", "0"];
        assert_eq!(home.text(&flags), text, "{name}");
    }
    assert!(home.text(&["list"]).contains("tiny-llama"));
    assert_eq!(home.json(&["show", LLAMA, "--json"])["architecture"], "llama");
    let (code, text) = home.fails(&["rm", LLAMA]);
    assert!(code == 2 && text.contains("--yes"), "{text}");
    home.text(&["rm", LLAMA, "--yes"]);
    assert_eq!(home.json(&["list", "--json"]), json!([]));
    let (code, text) = home.fails(&["generate", "w1", "-m", LLAMA]);
    assert!(code == 3 && text.contains("influence download"), "{text}");
}

#[test]
fn a_gguf_is_downloaded_by_its_quantization_and_run() {
    let home = Home::new();
    let hub = hub(&home);
    let name = format!("{GGUF}:Q8_0");
    run(&home, &hub, &["download", "-m", &name]);
    let flags = ["generate", "Once upon a time", "--seed", "1", "--max-tokens", "8"];
    let text = home.text(&[&flags[..], &["-m", &name]].concat());
    assert_eq!(text, home.text(&flags), "the same model as the one that ships");
    let rows = home.json(&["list", "--json"]);
    assert!(rows.to_string().contains("Q8_0"), "{rows}");
}

#[test]
fn what_is_not_there_is_three_and_says_what_to_do() {
    let home = Home::new();
    let hub = hub(&home);
    let run = home.influence(&["download", "-m", "acme/none"]).env("HF_ENDPOINT", hub.endpoint()).output();
    let run = run.unwrap();
    assert_eq!(run.status.code(), Some(3), "{}", stderr(&run));
    assert!(stderr(&run).contains("acme/none"));
    for verb in [&["download", "-m", LLAMA][..], &["search", "llama"]] {
        let run = home.influence(verb).env("HF_HUB_OFFLINE", "1").output().unwrap();
        assert_eq!(run.status.code(), Some(3), "{verb:?}: {}", stderr(&run));
        assert!(stderr(&run).contains("HF_HUB_OFFLINE"), "{verb:?}: {}", stderr(&run));
    }
    for (arguments, expected) in [
        (["generate", "x", "-m", "acme/none"], 3),
        (["generate", "x", "-m", "./none"], 3),
        (["generate", "x", "-m", "none"], 2),
        (["generate", "x", "--model-path", "./none"], 3),
    ] {
        let (code, text) = home.fails(&arguments);
        assert!(code == expected && text.contains("none"), "{arguments:?} {code}: {text}");
    }
    assert_eq!(home.fails(&["show", "acme/none"]).0, 3);
    assert_eq!(home.fails(&["rm", "acme/none", "--yes"]).0, 3);
}

#[test]
fn a_gated_model_is_four_without_a_token() {
    let home = Home::new();
    let hub = hub(&home);
    let mut gated = Model::usual();
    gated.gated = Some("secret".into());
    hub.add("acme/gated", gated);
    let download = |token: Option<&str>| {
        let mut command = home.influence(&["download", "-m", "acme/gated"]);
        command.env("HF_ENDPOINT", hub.endpoint());
        token.map(|token| command.env("HF_TOKEN", token));
        command.output().unwrap()
    };
    let refused = download(None);
    assert_eq!(refused.status.code(), Some(4), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("HF_TOKEN"), "{}", stderr(&refused));
    let given = download(Some("secret"));
    assert!(given.status.success(), "{}", stderr(&given));
    assert!(!stderr(&given).contains("secret"));
}

#[test]
fn the_shipped_model_is_shown_in_words_and_json() {
    let home = Home::new();
    let object = home.json(&["show", "--json"]);
    assert_eq!((&object["architecture"], &object["context"]), (&json!("llama"), &json!(512)));
    let text = home.text(&["show", argument(&shipped())]);
    for word in ["architecture", "parameters", "Q8_0", "512"] {
        assert!(text.contains(word), "{word}: {text}");
    }
}
